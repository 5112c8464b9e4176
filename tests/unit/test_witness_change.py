"""What the log says of its witnesses: two operators order it, the log records it, and the configuration alone opens nothing."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from gatekeeper.deploy.witness_change import WantedWitnesses, log_witness_change
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.moment import later
from gatekeeper.model.uris import LOG_ORDER
from gatekeeper.policy.revocations import key_line
from gatekeeper.tlog.entry import WitnessChangeEntry, encode_entry
from gatekeeper.tlog.person import hidden_text
from gatekeeper.verify.order import LogOrder, OrderAction, encode_log_order
from tests.fakes.frames import ORIGIN
from tests.fakes.house import INSTANCE, House, anyio_backend  # noqa: F401
from tests.fakes.orders import People, signed

pytestmark = pytest.mark.anyio
POLICY = digest_of(b"witnesses.policy")


class World:
    """bob and carol are the operators whose keys are pinned; they stand in people.toml."""

    def __init__(self):
        self.house, people = House(), People()
        self.hands = {"bob": people.olga, "carol": people.omar, "stranger": people.stranger}
        self.keys = {"bob": people.keys["olga"], "carol": people.keys["omar"]}
        self.store = SimpleNamespace(newest_of=self.newest_of)

    async def newest_of(self, kind):
        assert kind == "witness-change"
        found = self.changes
        return encode_entry(found[-1]) if found else None

    @property
    def changes(self):
        return [entry for _, entry in self.house.log.entries(WitnessChangeEntry)]

    def order(self, *names, fail_open=True, policy=POLICY, seconds=3600, **changes):
        parameters = {"policy": str(policy), "fail_open": str(fail_open).lower()}
        order = LogOrder(OrderAction.WITNESSES, INSTANCE, ORIGIN, parameters, "both racks are down", later(self.house.parts.now(), seconds=seconds))
        return signed(encode_log_order(replace(order, **changes)), *(self.hands[name] for name in names), payload_type=LOG_ORDER)

    async def started(self, order=None, *, fail_open=True, policy=POLICY, keys=None):
        wanted = WantedWitnesses(policy, fail_open, order, self.keys if keys is None else keys)
        return await log_witness_change(self.house.parts, self.store, wanted)


@pytest.fixture
def world():
    return World()


async def test_the_order_of_two_operators_is_recorded_once_with_both_and_its_reason_hidden(world):
    order = world.order("carol", "bob")
    assert await world.started(order) is True
    assert await world.started(order) is True, "a further start, or a further replica"
    (entry,) = world.changes
    assert (entry.policy, entry.fail_open, entry.origin) == (POLICY, True, ORIGIN)
    people = [await world.house.database.people.person("people", f"s-{name}") for name in ("bob", "carol")]
    assert entry.who == tuple(sorted(person.pseudonym for person in people))
    assert entry.reason == hidden_text(bytes.fromhex(digest_hex(digest_of(order))), "both racks are down"), "who holds the order can show it"


async def test_what_stands_in_the_log_holds_after_the_order_has_expired(world):
    order = world.order("bob", "carol", seconds=60)
    assert await world.started(order) is True
    world.house.clock.ahead(3600)
    assert await world.started(order) is True
    assert await world.started(order, fail_open=False) is False, "and nothing else does"


async def test_the_configuration_alone_opens_nothing(world):
    assert await world.started(fail_open=True) is False
    assert await world.started(fail_open=False) is None, "witnesses without a word in the log: nothing is opened by it"
    assert world.changes == []


@pytest.mark.parametrize(
    ("names", "changes", "word"),
    [
        (("bob",), {}, "order-signers"),
        (("bob", "bob"), {}, "order-signers"),
        (("bob", "stranger"), {}, "order-signers"),
        (("bob", "carol"), {"instance": "test"}, "order-scope"),
        (("bob", "carol"), {"origin": "other.example/log"}, "order-scope"),
        (("bob", "carol"), {"seconds": 5 * 3600}, "order-expired"),
        (("bob", "carol"), {"seconds": -1}, "order-expired"),
        (("bob", "carol"), {"policy": digest_of(b"other")}, "order-scope"),
        (("bob", "carol"), {"fail_open": False}, "order-scope"),
        (("bob", "carol"), {"action": OrderAction.REOPEN, "parameters": {"next": "x.example/log"}}, "order-scope"),
    ],
)
async def test_an_order_that_is_not_good_for_this_changes_nothing(world, caplog, names, changes, word):
    assert await world.started(world.order(*names, **changes)) is False
    assert world.changes == []
    assert word in caplog.text


async def test_whose_key_the_policy_revokes_orders_nothing(world, caplog):
    world.hands["bob"], world.keys["bob"] = world.house.reviewers["bob"].key, (world.house.reviewers["bob"].public,)
    row = f'[[revoked]]\nkey = "{key_line(world.keys["bob"][0])}"\nreason = "lost"\n'
    for content, done in ((row.encode(), False), (b"", True)):
        world.house.policy.files["revocations.toml"] = content
        world.house.policy.load()
        assert await world.started(world.order("bob", "carol")) is done
    assert "order-signers" in caplog.text
    assert len(world.changes) == 1


async def test_bytes_that_are_no_order_and_operators_who_are_nobody_change_nothing(world, caplog):
    assert await world.started(b"{}") is False
    nobody = {"olga": world.keys["bob"], "omar": world.keys["carol"]}
    assert await world.started(world.order("bob", "carol"), keys=nobody) is False
    assert "not in people.toml" in caplog.text
    assert await world.started(world.order("bob", "carol"), keys={}) is False
    assert world.changes == []


async def test_what_was_opened_is_closed_by_another_order_and_an_old_order_does_not_open_it_again(world):
    opened = world.order("bob", "carol")
    assert await world.started(opened) is True
    assert await world.started(world.order("bob", "carol", fail_open=False), fail_open=False) is True
    assert [entry.fail_open for entry in world.changes] == [True, False]
    world.house.clock.ahead(1)
    assert await world.started(opened) is False, "it was carried out, and overtaken"
    assert [entry.fail_open for entry in world.changes] == [True, False]


async def test_another_policy_file_is_another_choice(world):
    assert await world.started(world.order("bob", "carol")) is True
    assert await world.started(policy=digest_of(b"edited")) is False
