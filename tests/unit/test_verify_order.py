"""Orders about a log as bytes that are believed or not: two different people, for this action, instance and origin, now."""

import base64
import json
from dataclasses import replace

import pytest

from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import later, parse_moment
from gatekeeper.model.uris import LOG_ORDER, OVERRIDE
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.errors import MalformedEnvelope, MalformedStatement
from gatekeeper.verify.order import Asked, LogOrder, OrderAction, encode_log_order, verify_log_order
from gatekeeper.verify.twopeople import MAX_LIFE_S, MAX_ORDER
from tests.fakes.orders import People, signed

NOW = parse_moment("2026-11-21T10:00:00Z")
ORDER = LogOrder(
    action=OrderAction.REOPEN,
    instance="production",
    origin="production.example/log/2026",
    parameters={"next": "production.example/log/2026b"},
    reason="the database was restored",
    not_after=later(NOW, seconds=3600),
)
ASKED = Asked(OrderAction.REOPEN, "production", "production.example/log/2026", NOW)


@pytest.fixture
def people():
    return People()


def by(people, order, *names, payload_type=LOG_ORDER):
    return signed(encode_log_order(order), *(getattr(people, name) for name in names), payload_type=payload_type)


def test_two_people_are_believed_whatever_the_order_of_their_signatures(people):
    for names in (("olga", "omar"), ("omar", "olga2")):
        checked = verify_log_order(by(people, ORDER, *names), people.keys, ASKED)
        assert isinstance(checked, Verified)
        assert checked.value.signers == ("olga", "omar")
        assert checked.value.order == ORDER
        assert checked.digest == digest_of(encode_log_order(ORDER))


@pytest.mark.parametrize(
    ("names", "detail"),
    [
        ((), "0 signatures"),
        (("olga",), "1 signatures"),
        (("olga", "olga2"), "both signatures are by olga"),
        (("olga", "stranger"), "not by a key that is pinned"),
        (("olga", "omar", "olga2"), "3 signatures"),
    ],
)
def test_anything_but_two_different_pinned_people_is_order_signers(people, names, detail):
    refusal = verify_log_order(by(people, ORDER, *names), people.keys, ASKED)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "order-signers"
    assert detail in refusal.detail
    nobody = verify_log_order(by(people, ORDER, "olga", "omar"), {}, ASKED)
    assert isinstance(nobody, Refusal)
    assert nobody.reason == "order-signers"


def test_a_signature_is_for_these_bytes(people):
    document = json.loads(by(people, ORDER, "olga", "omar"))
    document["payload"] = base64.b64encode(encode_log_order(replace(ORDER, reason="another"))).decode()
    refusal = verify_log_order(json.dumps(document).encode(), people.keys, ASKED)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "order-signers"


@pytest.mark.parametrize(
    ("asked", "reason", "detail"),
    [
        (replace(ASKED, at=ORDER.not_after), "order-expired", "held until"),
        (replace(ASKED, at=later(ORDER.not_after, seconds=-MAX_LIFE_S - 1)), "order-expired", "more than 4 hours"),
        (replace(ASKED, action=OrderAction.WITNESSES), "order-scope", "to reopen, not to witnesses"),
        (replace(ASKED, instance="test"), "order-scope", "instance test"),
        (replace(ASKED, origin="production.example/log/2026b"), "order-scope", "log/2026b"),
    ],
)
def test_an_order_is_for_one_thing_in_one_place_for_a_while(people, asked, reason, detail):
    refusal = verify_log_order(by(people, ORDER, "olga", "omar"), people.keys, asked)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert detail in refusal.detail


def test_an_order_holds_for_four_hours_at_most_and_for_no_less(people):
    asked = replace(ASKED, at=later(ORDER.not_after, seconds=-MAX_LIFE_S))
    assert isinstance(verify_log_order(by(people, ORDER, "olga", "omar"), people.keys, asked), Verified)


def changed(**members):
    return json.dumps({**json.loads(encode_log_order(ORDER)), **members}, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("payload", "payload_type", "detail"),
    [
        (encode_log_order(ORDER), OVERRIDE, "payload type"),
        (changed(more=1), LOG_ORDER, "/more"),
        (changed(action="delete"), LOG_ORDER, "/action"),
        (changed(parameters={}), LOG_ORDER, "/parameters/next"),
        (changed(parameters={"next": "a", "more": "b"}), LOG_ORDER, "/parameters/more"),
        (changed(action="witnesses"), LOG_ORDER, "/parameters/fail_open"),
        (changed(reason=""), LOG_ORDER, "/reason"),
        (changed(origin="x" * 201), LOG_ORDER, "/origin"),
        (changed(not_after="2026-11-21T14:00:00+00:00"), LOG_ORDER, "/not_after"),
        (b" " + encode_log_order(ORDER), LOG_ORDER, "canonical"),
        (b"[]", LOG_ORDER, "not an object"),
    ],
)
def test_what_is_no_order_is_malformed_whoever_signed_it(people, payload, payload_type, detail):
    with pytest.raises(MalformedStatement, match=detail):
        verify_log_order(signed(payload, people.olga, people.omar, payload_type=payload_type), people.keys, ASKED)


def test_an_order_is_bounded(people):
    with pytest.raises(MalformedEnvelope, match="4096"):
        verify_log_order(by(people, ORDER, "olga", "omar") + b" " * MAX_ORDER, people.keys, ASKED)
    order = by(people, ORDER, "olga", "omar")
    assert isinstance(verify_log_order(order.ljust(MAX_ORDER), people.keys, ASKED), Verified)
    with pytest.raises(MalformedStatement, match="/parameters/next"):
        encode_log_order(replace(ORDER, parameters={}))
