"""Whose order rotates a key: two people's, whom the pinned file and the policy both name, while it holds, for this log; attack row 120."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gatekeeper.deploy.rotate import OrderedRotation, RotationRefused, make_key_change, read_rotation
from gatekeeper.model.moment import later, moment, render_moment
from gatekeeper.model.uris import LOG_ORDER
from gatekeeper.policy.revocations import key_line
from gatekeeper.ports.errors import Unavailable
from gatekeeper.rotation import FollowedReceiptKey
from gatekeeper.tlog.entry import KeyEntry, parse_entry
from gatekeeper.tlog.keyring import is_endorsed
from gatekeeper.tlog.kinds import KeyUse
from gatekeeper.tlog.note import encode_vkey
from gatekeeper.verify.errors import MalformedStatement
from gatekeeper.verify.order import LogOrder, OrderAction, encode_log_order
from tests.fakes.frames import ORIGIN
from tests.fakes.house import INSTANCE, anyio_backend  # noqa: F401
from tests.fakes.house import House as WholeHouse
from tests.fakes.orders import signed
from tests.fakes.rotated import RotatedLog, vkey_of
from tests.fakes.signing import FakeReviewer
from tests.fakes.vault import FakeDecideVault

pytestmark = pytest.mark.anyio


class House:
    """A gatekeeper with a log key, a new one, and two people who may order its rotation."""

    def __init__(self):
        self.whole, self.log, self.new = WholeHouse(), RotatedLog(), RotatedLog()
        self.people = dict(self.whole.reviewers)
        self.operators = {name: (person.public,) for name, person in self.people.items()}
        self.now = moment(self.whole.clock())
        self.endorsed = []

    async def endorse(self, text):
        self.endorsed.append(text)
        return self.log.key.sign(text)

    def rotation(self, *signers, seconds=3600, **changes):
        until = later(self.now, seconds=changes.pop("overlap", 7 * 24 * 3600))
        parameters = {"new": encode_vkey(vkey_of(self.new.key)), "until": render_moment(until)}
        order = LogOrder(OrderAction.ROTATE_LOG_KEY, INSTANCE, ORIGIN, parameters, "yearly", later(self.now, seconds=seconds))
        data = signed(encode_log_order(replace(order, **changes)), *(self.people[name].key for name in signers), payload_type=LOG_ORDER)
        return read_rotation(KeyUse.LOG, encode_vkey(self.log.vkey), data)

    async def change(self, rotation):
        return await make_key_change(self.whole.parts, rotation, self.operators, self.endorse)

    async def refused(self, rotation, code, why):
        with pytest.raises(RotationRefused, match=why) as caught:
            await self.change(rotation)
        assert (caught.value.cause_code, self.endorsed) == (code, [])


@pytest.fixture
async def house():
    return House()


async def test_whose_key_the_policy_revokes_orders_no_rotation(house):
    rotation, policy = house.rotation("alice", "bob"), house.whole.policy
    for since, refused in ((house.now, True), (later(house.now, seconds=1), False)):
        row = f'key = "{key_line(house.people["bob"].public)}"\nfrom = {render_moment(since)}\n'
        policy.files["revocations.toml"] = f'[[revoked]]\n{row}reason = "lost"\n'.encode()
        policy.load()
        await (house.refused(rotation, "order-signers", "not by a key that is pinned") if refused else house.change(rotation))


async def test_two_peoples_order_becomes_an_entry_that_the_replaced_key_signed(house):
    rotation = house.rotation("alice", "bob")
    row = await house.change(rotation)
    entry = parse_entry(row.entry)
    assert isinstance(entry, KeyEntry)
    assert is_endorsed(entry, row.entry, row.endorsement)
    assert (entry.use, entry.old, entry.new, entry.since, entry.until) == (KeyUse.LOG, rotation.old, rotation.new, house.now, rotation.until)
    assert len(set(entry.who)) == 2
    assert parse_entry((await house.change(rotation)).entry).entry_id == entry.entry_id, "one order is one entry"


@pytest.mark.parametrize(
    ("signers", "changes", "code", "why"),
    [
        (("alice",), {}, "order-signers", "order-signers"),
        (("alice", "alice"), {}, "order-signers", "two different people"),
        (("alice", "bob", "carol"), {}, "order-signers", "order-signers"),
        (("alice", "bob"), {"seconds": -1}, "order-expired", "the order held until"),
        (("alice", "bob"), {"seconds": 5 * 3600}, "order-expired", "more than 4 hours"),
        (("alice", "bob"), {"overlap": -1}, "order-expired", "overlap would have ended"),
        (("alice", "bob"), {"instance": "staging"}, "order-scope", "instance staging"),
        (("alice", "bob"), {"origin": "x.test/log/2026"}, "order-scope", "x.test/log/2026"),
    ],
)
async def test_an_order_that_does_not_hold_is_refused_and_nothing_is_signed(house, signers, changes, code, why):
    await house.refused(house.rotation(*signers, **changes), code, why)


async def test_a_key_counts_only_while_pinned_file_and_policy_both_name_it(house):
    stranger = FakeReviewer()
    house.people["eve"] = stranger
    house.operators["eve"] = (stranger.public,)
    await house.refused(house.rotation("alice", "eve"), "order-signers", "not by a key that is pinned here")
    # Pinned under a name that the policy knows with another key.
    house.operators |= {"carol": (stranger.public,)}
    await house.refused(house.rotation("alice", "eve"), "order-signers", "not by a key that is pinned here")
    house.operators = {"alice": house.operators["alice"]}
    await house.refused(house.rotation("alice", "bob"), "order-signers", "not by a key that is pinned here")
    house.operators = {}
    await house.refused(house.rotation("alice", "bob"), "order-signers", "not by a key that is pinned here")


async def test_an_order_is_read_for_its_own_use_alone(house):
    order = house.rotation("alice", "bob").order
    with pytest.raises(MalformedStatement, match="rotate-log-key, not to rotate-receipt-key"):
        read_rotation(KeyUse.RECEIPT, "key", order)
    with pytest.raises(MalformedStatement, match="pinned already"):
        read_rotation(KeyUse.LOG, encode_vkey(vkey_of(house.new.key)), order)
    assert read_rotation(KeyUse.LOG, "another", order) == OrderedRotation(
        KeyUse.LOG, "another", encode_vkey(vkey_of(house.new.key)), later(house.now, seconds=7 * 24 * 3600), order
    )


async def test_a_new_receipt_key_signs_when_its_entry_is_published_and_not_before():
    old, new = FakeDecideVault(), FakeDecideVault()
    published = []
    both = FollowedReceiptKey(old, new)
    assert await both.public_key_pem() == await old.public_key_pem()
    both.follow(lambda: bool(published))
    assert await both.public_key_pem() == await old.public_key_pem()
    published.append(1)
    assert await both.public_key_pem() == await new.public_key_pem()
    old.key, signature = None, await both.sign(b"message")
    assert signature
    assert await both.unwrap(await both.wrap(b"key")) == b"key"
    new.down = True
    with pytest.raises(Unavailable):
        await both.sign(b"message")


async def test_the_overlap_is_a_matter_of_the_order_alone(house):
    assert house.rotation("alice", "bob", overlap=60).until == house.now + timedelta(seconds=60)
