"""Override orders and rollback bundles as bytes that are believed or not: attack matrix row 142, as far as signatures decide it."""

import base64
import json

import pytest

from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import parse_moment
from gatekeeper.model.uris import IN_TOTO_PAYLOAD, OVERRIDE, ROLLBACK_BUNDLE
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.dsse import envelope_json
from gatekeeper.verify.errors import Malformed, MalformedEnvelope, MalformedStatement
from gatekeeper.verify.override import OverrideOrder, encode_override_order, verify_override_order
from gatekeeper.verify.receipt import parse_receipt_key
from gatekeeper.verify.rollback import MAX_MEMBERS, BundleMember, RollbackBundle, encode_rollback_bundle, verify_rollback_bundle
from gatekeeper.verify.twopeople import MAX_ORDER
from tests.fakes.orders import NOBODY, People, payload_of, signed
from tests.fakes.signing import FakeReceiptSigner

UNTIL = parse_moment("2026-11-21T14:00:00Z")
PAYLOAD = payload_of(not_after=UNTIL)


@pytest.fixture
def people():
    return People()


def test_two_people_are_believed_whatever_the_order_of_their_signatures(people):
    for keys in ((people.olga, people.omar), (people.omar, people.olga2)):
        checked = verify_override_order(signed(PAYLOAD, *keys), people.keys)
        assert isinstance(checked, Verified)
        assert checked.value.signers == ("olga", "omar")
        assert checked.value.order == OverrideOrder("host-1", NOBODY, "it burns", "INC-1", UNTIL)
        assert checked.digest == digest_of(PAYLOAD)  # whoever signs it again makes no new order


@pytest.mark.parametrize(
    ("signers", "detail"),
    [
        ((), "0 signatures"),
        (("olga",), "1 signatures"),
        (("olga", "olga"), "both signatures are by olga"),
        (("olga", "olga2"), "both signatures are by olga"),
        (("olga", "stranger"), "not by a key that is pinned"),
        (("stranger", "omar"), "not by a key that is pinned"),
        (("olga", "omar", "olga2"), "3 signatures"),
    ],
)
def test_anything_but_two_different_pinned_people_is_override_signers(people, signers, detail):
    refusal = verify_override_order(signed(PAYLOAD, *(getattr(people, name) for name in signers)), people.keys)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "override-signers"
    assert detail in refusal.detail


def test_a_signature_is_for_these_bytes_and_nobody_pinned_means_nobody(people):
    good = json.loads(signed(PAYLOAD, people.olga, people.omar))
    good["payload"] = base64.b64encode(payload_of(not_after=UNTIL, incident="INC-2")).decode()
    for data, keys in ((json.dumps(good).encode(), people.keys), (signed(PAYLOAD, people.olga, people.omar), {})):
        refusal = verify_override_order(data, keys)
        assert isinstance(refusal, Refusal)
        assert refusal.reason == "override-signers"


def changed(**members):
    return json.dumps({**json.loads(PAYLOAD), **members}, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("payload", "payload_type", "detail"),
    [
        (PAYLOAD, IN_TOTO_PAYLOAD, "payload type"),
        (changed(more=1), OVERRIDE, "/more"),
        (changed(digest="sha256:x"), OVERRIDE, "/digest"),
        (changed(target="../x"), OVERRIDE, "/target"),
        (changed(reason=""), OVERRIDE, "/reason"),
        (changed(reason="x" * 201), OVERRIDE, "/reason"),
        (changed(incident="a\nb"), OVERRIDE, "/incident"),
        (changed(not_after="2026-11-21T14:00:00+00:00"), OVERRIDE, "/not_after"),
        (b" " + PAYLOAD, OVERRIDE, "canonical"),
        (b"[]", OVERRIDE, "not an object"),
    ],
)
def test_what_is_no_order_is_malformed_whoever_signed_it(people, payload, payload_type, detail):
    with pytest.raises(MalformedStatement, match=detail):
        verify_override_order(signed(payload, people.olga, people.omar, payload_type=payload_type), people.keys)


def test_an_order_is_bounded(people):
    with pytest.raises(MalformedEnvelope, match="4096"):
        verify_override_order(signed(PAYLOAD, people.olga, people.omar) + b" " * MAX_ORDER, people.keys)
    order = signed(PAYLOAD, people.olga, people.omar)
    assert isinstance(verify_override_order(order.ljust(MAX_ORDER), people.keys), Verified)
    with pytest.raises(MalformedStatement, match="/reason"):
        encode_override_order(OverrideOrder("host-1", NOBODY, "", "INC-1", UNTIL))


# --- rollback bundles

BUNDLE = RollbackBundle("production", "production", "hello", "host-1", (BundleMember(b"receipt", b"proof"),), (NOBODY,))


def bundle(signer, payload, payload_type=ROLLBACK_BUNDLE):
    return json.dumps(signer.sign(payload, payload_type=payload_type)).encode()


def test_a_bundle_is_believed_under_a_pinned_receipt_key_alone():
    signer, payload = FakeReceiptSigner(), encode_rollback_bundle(BUNDLE)
    keys = [parse_receipt_key(signer.pem)]
    checked = verify_rollback_bundle(bundle(signer, payload), keys)
    assert isinstance(checked, Verified)
    assert checked.value == BUNDLE
    unsigned = json.dumps(envelope_json(ROLLBACK_BUNDLE, payload, [])).encode()
    other_type = bundle(signer, payload, IN_TOTO_PAYLOAD)
    for data, pinned in ((bundle(FakeReceiptSigner(), payload), keys), (bundle(signer, payload), []), (unsigned, keys), (other_type, keys)):
        refusal = verify_rollback_bundle(data, pinned)
        assert isinstance(refusal, Refusal)
        assert refusal.reason == "bad-signature"


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        (b'"v":1', b'"v":2', "/v"),
        (b'"v":1', b'"v":1,"x":1', "/x"),
        (b'"reported":[', b'"reported":[1,', "/reported"),
        (b'"target":"host-1"', b'"target":""', "/target"),
    ],
)
def test_a_signed_bundle_of_another_form_is_malformed(old, new, detail):
    signer, payload = FakeReceiptSigner(), encode_rollback_bundle(BUNDLE)
    assert old in payload
    with pytest.raises(MalformedStatement, match=detail):
        verify_rollback_bundle(bundle(signer, payload.replace(old, new)), [parse_receipt_key(signer.pem)])


def test_a_bundle_is_bounded():
    signer = FakeReceiptSigner()
    many = encode_rollback_bundle(RollbackBundle("p", "p", "c", "t", BUNDLE.members * (MAX_MEMBERS + 1), ()))
    with pytest.raises(Malformed, match="more than 8 items"):
        verify_rollback_bundle(bundle(signer, many), [parse_receipt_key(signer.pem)])
