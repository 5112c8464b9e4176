"""Rows that a database administrator wrote: no receipt of this ping in this log, no lease."""

import base64
from dataclasses import replace

import pytest

from gatekeeper.deploy.decide import BrokenAllow, recall_allow
from gatekeeper.model.allow import LoggedAllow
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import digest_of
from gatekeeper.model.fields import Fields
from gatekeeper.model.ping import State
from gatekeeper.model.receipt import encode_receipt
from gatekeeper.model.strictjson import parse_object
from gatekeeper.model.verified import Verified
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.records import ReceiptRecord
from gatekeeper.tlog.entry import encode_entry, parse_entry
from tests.fakes import signing
from tests.fakes.house import COMPONENT, ENVIRONMENT, NEW_COMMIT, House, Killed, Tap, _verify_inline, anyio_backend  # noqa: F401

pytestmark = pytest.mark.anyio


@pytest.fixture
def house():
    return House()


async def allowed(house, version="1"):
    """A ping that stands at `allowed`, its process dead."""
    ping = await house.ping(await house.bring(version))
    with pytest.raises(Killed):
        await house.step(ping, house.tapped(Tap(at=("pings.move", 1), when="after")))
    found = await house.read(ping)
    assert found.state is State.ALLOWED
    return found


def forge(house, ping, **changes):
    row = house.database.state.rows[ping.id]
    row.ping = replace(row.ping, **changes)


def forge_receipt(house, ping, **changes):
    """The stored receipt with members replaced, named by the row."""
    members = parse_object(house.database.state.receipts[ping.receipt].receipt) | changes
    data = encode_canonical(members)
    record = replace(house.database.state.receipts[ping.receipt], id=digest_of(data), receipt=data, index=members["index"])
    house.database.state.receipts[record.id] = record
    forge(house, ping, receipt=record.id, log_index=members["index"])


async def no_lease(house, ping, why):
    with pytest.raises(BrokenAllow, match=why):
        await house.step(ping)
    assert house.act_vault.children == 0
    assert house.target.credentials == []


async def test_an_honest_row_is_recalled_with_its_terms(house):
    ping = await allowed(house)
    terms = (await recall_allow(house.parts, ping)).terms
    assert (terms.ping_id, terms.artifact, terms.config, terms.index) == (ping.id, ping.new.artifact, ping.new.config, ping.log_index)
    assert (terms.fence, terms.receipt_id, terms.not_after) == (ping.fence, ping.receipt, ping.not_after)


@pytest.mark.parametrize("state", [State.ALLOWED, State.LEASED, State.APPLYING])
async def test_a_row_without_a_receipt_is_nothing(house, state):
    ping = await house.ping(await house.bring(vote=False))
    forge(house, ping, state=state, fence=1)
    await no_lease(house, ping, "no stored receipt")
    forge(house, ping, receipt=digest_of(b"nowhere"))
    await no_lease(house, ping, "no stored receipt")


async def test_bytes_that_are_not_the_named_receipt_are_nothing(house):
    ping = await allowed(house)
    record = house.database.state.receipts[ping.receipt]
    house.database.state.receipts[ping.receipt] = replace(record, receipt=record.receipt + b" ")
    await no_lease(house, ping, "no stored receipt")


async def test_the_receipt_of_another_ping_for_the_same_bytes_is_nothing(house):
    first = await allowed(house)
    other = await house.ping(first.new.artifact)
    forge(house, other, state=State.ALLOWED, receipt=first.receipt, fence=first.fence, log_index=first.log_index)
    await no_lease(house, other, "another ping")


async def test_the_receipt_of_another_artifact_or_configuration_is_nothing(house):
    first = await allowed(house)
    for changes in ({"artifact": await house.bring("2", commit=NEW_COMMIT)}, {"artifact": first.new.artifact, "config": "8" * 40}):
        other = await house.ping(**changes)
        forge(house, other, state=State.ALLOWED, receipt=first.receipt, fence=first.fence, log_index=first.log_index)
        await no_lease(house, other, "something else")


async def test_a_receipt_by_another_key_is_nothing(house):
    ping = await allowed(house)
    payload = base64.b64decode(Fields(parse_object(house.database.state.receipts[ping.receipt].receipt)).nested("statement").text("payload", max_length=10**5))
    forge_receipt(house, ping, statement=signing.FakeReceiptSigner().sign(payload))
    await no_lease(house, ping, "exactly one signature")


async def test_a_receipt_with_another_entry_or_place_is_nothing(house):
    ping = await allowed(house)
    entry = parse_entry(house.log.tree.entries[ping.log_index])
    forged = encode_entry(replace(entry, requester="p:" + "0" * 32))
    forge_receipt(house, ping, entry=base64.b64encode(forged).decode())
    await no_lease(house, ping, "does not hold")
    ping = await allowed(House())
    house = House()
    ping = await allowed(house)
    forge_receipt(house, ping, index=ping.log_index - 1 if ping.log_index else 0, origin="another.log/2026")
    await no_lease(house, ping, "this log")


async def test_an_index_that_is_not_the_rows_is_nothing(house):
    ping = await allowed(house)
    forge(house, ping, log_index=ping.log_index + 1)
    await no_lease(house, ping, "this log")


async def test_a_signed_allow_that_was_never_logged_is_nothing(house):
    ping = await house.ping(await house.bring())
    with pytest.raises(Killed):
        await house.step(ping, house.tapped(Tap(at=("log.append", 0), when="before")))
    drafted = await house.read(ping)
    draft = parse_object(drafted.draft, max_bytes=10**6)
    entry = base64.b64decode(draft["entry"])
    await house.log.append(encode_entry(replace(parse_entry(entry), entry_id="f" * 32)), entry_id="f" * 32, kind="decision")
    receipt = encode_receipt(statement=draft["statement"], entry=entry, index=0, origin=house.parts.origin, evidence=())
    record = ReceiptRecord(digest_of(receipt), ping.id, ENVIRONMENT, COMPONENT, receipt, 0, digest_of(b""), house.clock())
    house.database.state.receipts[record.id] = record
    forge(house, ping, state=State.ALLOWED, draft=None, receipt=record.id, log_index=0)
    await no_lease(house, ping, "does not hold")


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b'{"v":1}', b"\xff"])
async def test_bytes_that_are_no_receipt_are_nothing(house, data):
    ping = await allowed(house)
    house.database.state.receipts[digest_of(data)] = replace(house.database.state.receipts[ping.receipt], id=digest_of(data), receipt=data)
    forge(house, ping, receipt=digest_of(data))
    await no_lease(house, ping, "does not hold")


async def test_an_envelope_that_is_none_is_nothing(house):
    ping = await allowed(house)
    forge_receipt(house, ping, statement={"payload": 1})
    await no_lease(house, ping, "does not hold")


async def test_a_log_that_cannot_prove_now_gives_no_lease_yet(house):
    ping = await allowed(house)
    prove = house.log.prove

    async def away(*_args, **_options):
        raise Unavailable("log-unavailable", "not published")

    house.log.prove = away
    with pytest.raises(Unavailable, match="log-unavailable"):
        await house.step(ping)
    assert house.act_vault.children == 0
    house.log.prove = prove
    assert (await house.step(ping)).state is State.DEPLOYED


def test_the_two_doors_have_no_constructor():
    with pytest.raises(TypeError, match=r"only deploy\.decide"):
        LoggedAllow()
    with pytest.raises(TypeError, match=r"only gatekeeper\.verify"):
        Verified()
    with pytest.raises(TypeError):
        LoggedAllow(terms=None)
    with pytest.raises(TypeError):
        Verified("value", digest_of(b""))


async def test_a_logged_allow_does_not_change(house):
    allow = await recall_allow(house.parts, await allowed(house))
    with pytest.raises(AttributeError, match="does not change"):
        allow.terms = None
