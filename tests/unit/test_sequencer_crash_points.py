"""The log cut short before and after every call by which sequencer and publisher reach database and vault, and then brought to its end.

Three ways of being cut: this one call fails; its authority fails and stays away for a while; the process is killed and another starts on
the same durable state. A second replica works beside it, and what was not acknowledged is asked for again under the same id.
"""

import random
from dataclasses import replace
from functools import cache

import pytest
import trio
from trio.testing import MockClock

from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.log import LogStore, NewEntry
from gatekeeper.ports.vault import LogVault
from gatekeeper.ports.witness import WitnessLink
from gatekeeper.sequencer import Sequencer
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.proof import parse_proof
from gatekeeper.tlog.tile import TileEdge
from tests.fakes.honest_log import assert_honest, of_fakes, some_entry
from tests.fakes.log_cuts import Kind, LogTap, calls_of
from tests.fakes.running_log import ORIGIN, TrioTime, check_served, log_key, opening, running_log
from tests.fakes.stores import FakeDatabase
from tests.fakes.vault import FakeLogVault
from tests.fakes.witnesses import FakeWitness, plan_of

pytestmark = pytest.mark.anyio
BEFORE = 252
"""entries that stand when the story begins: four more fill a tile"""

READS = {f"store.{name}" for name in ("load_head", "find", "read_entries", "read_leaf_hashes", "read_tile", "newest_checkpoint", "newest_checkpoints")}
READS |= {"vault.public_key", "vault.read_head"}


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture(autouse=True)
def one_order(monkeypatch):
    """Which of two tasks goes first is trio's coin; a call can be named by its number only where the coin falls alike each time."""

    def toss():
        monkeypatch.setattr(trio._core._run, "_r", random.Random(0))

    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    toss()
    return toss


@cache
def entries(first, count):
    return [(entry_id, some_entry(entry_id)) for entry_id in (f"{number:032x}" for number in range(first, first + count))]


class Scene:
    """Two replicas over one database, one vault and two witnesses who both must cosign. `mine` is the one that is cut; after a kill it is a new process."""

    def __init__(self):
        self.database, self.vault = FakeDatabase(), FakeLogVault()
        self.clock = TrioTime()
        self.acknowledged, self.shown = {}, []
        self.mine = self.theirs = None

    async def replica(self, name, tap=None):
        """A process and whoever starts it again when it ends."""
        while True:
            database, tap = self.database.replica(), tap or LogTap()
            witnesses = replace(self.plan, link=tap.around("witness", self.plan.link))
            store, vault = tap.around("store", database.log(ORIGIN)), tap.around("vault", self.vault)
            sequencer = Sequencer(store, vault, opening=opening(), clock=self.clock, witnesses=witnesses)
            setattr(self, name, sequencer)
            try:
                with tap.scope:
                    await sequencer.run()
            except Unavailable:
                await trio.sleep(1)
                tap.scope = trio.CancelScope()
                continue
            finally:
                database.die()
            tap = None

    async def append(self, name, entry_id, body, *, proven=True):
        """As a use case does: again, under the same id, until it is durable and proven."""
        while True:
            log = getattr(self, name)
            try:
                where = await log.append(body, entry_id=entry_id, kind="config")
                assert self.acknowledged.setdefault(entry_id, (body, where)) == (body, where), "one entry has one place"
                if not proven:
                    return
                proof = await log.prove(where.index)
            except Unavailable:
                await trio.sleep(0.3)
            else:
                self.shown.append(parse_proof(proof.proof).checkpoint)
                return

    async def together(self, name, some):
        async with trio.open_nursery() as nursery:
            for entry_id, body in some:
                nursery.start_soon(self.append, name, entry_id, body)

    async def run(self, tap):
        with trio.fail_after(600):
            await self.tell(tap)

    async def tell(self, tap):
        key = await log_key(self.vault)
        self.plan = plan_of(key, FakeWitness("w1", [key]), FakeWitness("w2", [key]))
        await self.fill(BEFORE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.replica, "mine", tap)
            await trio.sleep(0.1)
            nursery.start_soon(self.replica, "theirs")
            await trio.sleep(1)
            await self.together("mine", entries(900, 1))
            # The other one moves the head, so that ours loses the race, waits for its turn and finds what was known.
            with trio.move_on_after(5):
                await self.append("theirs", *entries(1000, 1)[0], proven=False)
            await self.together("mine", entries(2000, 3) + entries(5, 1))
            await self.together("mine", entries(3000, 2))
            self.told = len(tap.order)
            await trio.sleep_until(max(tap.back_at.values(), default=trio.current_time()) + 5)
            await self.check()
            nursery.cancel_scope.cancel()

    async def fill(self, count):
        before = self.database.replica()
        store = before.log(ORIGIN)
        async with running_log(store, self.vault, clock=self.clock, witnesses=self.plan) as log:
            await log.prove(0)
        before.die()
        old = TileEdge().extend([store.rows.entries[0].leaf_hash])[0]
        some = [(entry_id, body, leaf_hash(body)) for entry_id, body in entries(1, count)]
        rows = [NewEntry(index, entry_id, "config", body, leaf) for index, (entry_id, body, leaf) in enumerate(some, 1)]
        await store.append_batch(old.range(), rows, [], old.extend(leaf for *_, leaf in some)[0].range())

    async def check(self):
        await self.together("mine", entries(1000, 1) + entries(4000, 1))
        await self.together("theirs", entries(5000, 1))
        last = len(self.database.log(ORIGIN).rows.entries) - 1
        for log in (self.mine, self.theirs):
            await log.prove(last)
            assert log.alarm() is None
            await check_served(log, self.vault, older=self.shown[0])
        await self.assert_honest()
        assert last == BEFORE + 9

    async def assert_honest(self):
        log = of_fakes(self.database.log(ORIGIN).rows, self.vault)
        assert_honest(log, self.plan.policy, signed=self.vault.signed, acknowledged=self.acknowledged, shown=self.shown)


def play(tap):
    scene = Scene()
    trio.run(scene.run, tap, clock=MockClock(autojump_threshold=0))
    return scene


def test_the_story_makes_every_call_that_the_ports_have():
    tap = LogTap()
    play(tap)
    # Whoever starts the sequencer reads the newest entry of a kind, before it; a key is replaced in a story of its own (test_sequencer_rotates).
    assert set(tap.seen) | {"store.newest_of", "store.add_key_change"} == calls_of("store", LogStore) | calls_of("vault", LogVault) | calls_of("witness", WitnessLink)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_log_cut_at_any_call_is_honest_in_the_end(kind, when, one_order):
    whole = LogTap()
    calls = whole.order[: play(whole).told]
    assert len(calls) > 40
    for at in calls:
        if when == "after" and at[0] in READS:
            continue  # it left nothing behind: as if the next call were cut before
        one_order()
        tap = LogTap(at, when, kind)
        play(tap)
        assert tap.struck, at
