"""Ten minutes without the vault, the database or the witnesses, a witness that lies, and what an operator reads meanwhile."""

import secrets
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.witness import Cosignatures, OtherRoot, OtherSize
from gatekeeper.sequencer import Sequencer
from gatekeeper.tlog.consistency import parse_growth
from gatekeeper.tlog.note import parse_note
from gatekeeper.tlog.proof import parse_proof
from tests.fakes.honest_log import assert_honest, of_fakes, some_entry
from tests.fakes.running_log import ORIGIN, TrioTime, log_key, opening, running_log
from tests.fakes.stores import FakeDatabase
from tests.fakes.vault import FakeLogVault
from tests.fakes.witnesses import FakeWitness, away, plan_of

pytestmark = pytest.mark.anyio
OUTAGE_S = 600
LATE = "the newest checkpoint is older than 60 seconds"


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class World:
    """One replica, what it was asked to keep, and what it showed."""

    def __init__(self):
        self.database, self.vault, self.clock = FakeDatabase(), FakeLogVault(), TrioTime()
        self.store = self.database.log(ORIGIN)
        self.witnesses = [FakeWitness(f"w{number}") for number in range(3)]
        self.acknowledged, self.shown, self.refused = {}, [], []

    async def plan(self, quorum=None):
        key = await log_key(self.vault)
        for witness in self.witnesses:
            witness.log_keys = [key]
        return plan_of(key, *self.witnesses, quorum=quorum)

    def running(self, plan):
        return running_log(self.store, self.vault, clock=self.clock, witnesses=plan)

    async def append(self, log):
        entry_id = secrets.token_hex(16)
        body = some_entry(entry_id)
        try:
            self.acknowledged[entry_id] = (body, await log.append(body, entry_id=entry_id, kind="config"))
        except Unavailable:
            self.refused.append((entry_id, body))

    async def prove(self, log, index=None):
        proof = await log.prove(len(self.store.rows.entries) - 1 if index is None else index)
        self.shown.append(parse_proof(proof.proof).checkpoint)

    def assert_honest(self, plan):
        log = of_fakes(self.store.rows, self.vault)
        assert_honest(log, plan.policy, signed=self.vault.signed, acknowledged=self.acknowledged, shown=self.shown)
        assert len(log.entries) == 1 + len(self.acknowledged)


@pytest.fixture
def world():
    return World()


async def test_ten_minutes_without_the_vault_keep_every_entry_and_publish_nothing(world):
    plan = await world.plan()
    async with world.running(plan) as log:
        await world.prove(log)
        world.vault.down = True
        told, signed = [], list(world.vault.signed)
        for second in range(0, OUTAGE_S, 10):
            await world.append(log)
            told.append((second, log.alarm()))
            await trio.sleep(10)
        assert not world.refused, "entries are durable without the vault"
        assert [alarm for second, alarm in told if second <= 60] == [None] * 7
        assert {alarm for second, alarm in told if second > 60} == {LATE}
        with pytest.raises(Unavailable, match="log-unavailable"):
            await log.prove(1)
        assert (world.vault.signed, log.published().size, len(world.store.rows.entries)) == (signed, 1, 61)
        world.vault.down = False
        await world.prove(log)
        assert log.alarm() is None
        assert (log.published().size, len(world.vault.signed)) == (61, len(signed) + 1)
        world.assert_honest(plan)


async def test_a_replica_that_starts_without_the_vault_writes_nothing_and_starts_when_it_is_back(world):
    plan = await world.plan()
    async with world.running(plan) as log:
        await world.append(log)
        await world.prove(log)
    world.vault.down = True
    rows = world.store.rows
    before = (list(rows.entries), list(rows.notes))
    with pytest.raises(Unavailable, match="vault-down"):
        await Sequencer(world.store, world.vault, opening=opening(), clock=world.clock, witnesses=plan).run()
    assert (rows.entries, rows.notes) == before
    world.vault.down = False
    async with world.running(plan) as log:
        await world.append(log)
        await world.prove(log)
        world.assert_honest(plan)


async def test_ten_minutes_without_the_database_acknowledge_nothing_and_lose_nothing(world):
    plan = await world.plan()
    async with world.running(plan) as log:
        await world.append(log)
        await world.prove(log)
        world.database.faults.down = True
        for _ in range(OUTAGE_S // 10):
            await world.append(log)
            await trio.sleep(10)
        assert (len(world.refused), len(world.acknowledged), log.published().size) == (60, 1, 2)
        world.database.faults.down = False
        for entry_id, body in world.refused:
            world.acknowledged[entry_id] = (body, await log.append(body, entry_id=entry_id, kind="config"))
        await world.prove(log)
        assert log.alarm() is None
        world.assert_honest(plan)


async def test_ten_minutes_without_a_quorum_keep_every_entry_and_show_none_of_them(world):
    plan = await world.plan(quorum=2)
    async with world.running(plan) as log:
        await world.prove(log)
        for witness in world.witnesses[:2]:
            witness.answer = away
        for _ in range(OUTAGE_S // 10):
            await world.append(log)
            await trio.sleep(10)
        assert (log.alarm(), log.published().size) == (LATE, 1)
        assert not world.refused
        world.witnesses[0].answer = world.witnesses[0].honest
        await world.prove(log)
        assert log.alarm() is None
        world.assert_honest(plan)


async def test_an_entry_that_comes_after_a_quiet_time_is_no_alarm(world):
    plan = await world.plan()
    async with world.running(plan) as log:
        await world.prove(log)
        await trio.sleep(OUTAGE_S - 60)
        await world.append(log)
        assert log.published().size == 1
        assert log.alarm() is None


async def test_entries_of_which_none_was_ever_published_are_an_alarm_too(world):
    plan = await world.plan()
    world.vault.fail_before = True
    async with world.running(plan) as log:
        await world.append(log)
        assert log.alarm() is None
        await trio.sleep(70)
        assert (log.published(), log.alarm()) == (None, LATE)


async def lie_about_size(body):
    return OtherSize(parse_growth(body).old + 1000)


async def lie_about_root(_body):
    return OtherRoot()


def lies(world):
    liar, other = world.witnesses[0], FakeWitness("other")

    async def another_key(body):
        return Cosignatures((other.sign(parse_note(parse_growth(body).checkpoint).text),))

    async def another_tree(body):
        return Cosignatures((liar.sign(b"x" + parse_note(parse_growth(body).checkpoint).text),))

    async def size_that_never_ends(body):
        return OtherSize(0 if parse_growth(body).old else 1)

    return {"another key": another_key, "another tree": another_tree, "sizes": size_that_never_ends, "size": lie_about_size, "root": lie_about_root}


@pytest.mark.parametrize("lie", ["another key", "another tree", "sizes", "size", "root"])
async def test_a_witness_that_lies_may_stop_the_log_but_never_makes_it_dishonest(world, lie):
    plan = await world.plan(quorum=2)
    async with world.running(plan) as log:
        for _ in range(3):
            await world.append(log)
        await world.prove(log)
        world.witnesses[0].answer = lies(world)[lie]
        for _ in range(5):
            await world.append(log)
            await trio.sleep(1)
        stopped = lie in ("size", "root")
        assert (log.alarm() is not None) == stopped
        assert (log.published().size == 4) == stopped
        if stopped:
            assert "the witness lies" in log.alarm()
        world.assert_honest(plan)
    # People looked into it and put another policy in force, without the liar.
    world.witnesses[0].answer = world.witnesses[0].honest
    sane = replace(plan, policy=(await world.plan(quorum=2)).policy)
    async with world.running(sane) as log:
        for entry_id, body in world.refused:
            world.acknowledged[entry_id] = (body, await log.append(body, entry_id=entry_id, kind="config"))
        await world.prove(log)
        world.assert_honest(sane)
