"""The sequencer's writer: order, batches, idempotence, and never an acknowledgement that is a guess."""

import secrets

import pytest
import trio
from trio.testing import MockClock

from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.log import EntryConflict, LogFull, LogRefused, NewEntry
from gatekeeper.sequencer import Sequencer
from gatekeeper.sequencer.sequencer import BATCH_BYTES, BATCH_ENTRIES, QUEUE
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.tile import TileEdge
from tests.fakes.running_log import ORIGIN, check_served, opening, running_log
from tests.fakes.stores import FakeDatabase
from tests.fakes.vault import FakeLogVault

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
def database():
    return FakeDatabase()


@pytest.fixture
def store(database):
    return database.log(ORIGIN)


@pytest.fixture
def vault():
    return FakeLogVault()


def new_id():
    return secrets.token_hex(16)


async def append_many(log, bodies):
    got = {}

    async def append(body):
        got[body] = await log.append(body, entry_id=new_id(), kind="intake")

    async with trio.open_nursery() as nursery:
        for body in bodies:
            nursery.start_soon(append, body)
    return got


async def test_an_empty_log_is_opened_by_its_origin_entry_once(store, vault):
    first = opening()
    async with running_log(store, vault, first=first) as log:
        assert (await log.append(b"x", entry_id=new_id(), kind="intake")).index == 1
    async with running_log(store, vault, first=opening()) as log:
        assert (await log.append(b"y", entry_id=new_id(), kind="intake")).index == 2
    assert store.rows.entries[0].entry_id == first.entry_id
    assert [entry.kind for entry in store.rows.entries] == ["origin", "intake", "intake"]


async def test_entries_get_contiguous_places_and_their_leaf_hashes(store, vault):
    bodies = [f"{nr}".encode() for nr in range(600)]
    async with running_log(store, vault) as log:
        got = await append_many(log, bodies)
        await log.prove(600)
        await check_served(log, vault)
    assert sorted(where.index for where in got.values()) == list(range(1, 601))
    assert all(store.rows.entries[where.index].body == body and where.leaf_hash == leaf_hash(body) for body, where in got.items())


async def test_what_waits_is_committed_together_within_the_bounds(store, vault):
    sizes = []
    commit = store.append_batch

    async def watched(old, entries, tiles, new):
        sizes.append((len(entries), sum(len(entry.body) for entry in entries)))
        await commit(old, entries, tiles, new)

    async with running_log(store, vault) as log:
        store.append_batch = watched
        await append_many(log, [f"{nr}".encode() for nr in range(1200)])
        many = list(sizes)
        await append_many(log, [bytes([nr]) * 65_000 for nr in range(150)])
    assert max(count for count, _ in many) == BATCH_ENTRIES
    assert len(many) <= 5
    assert max(total for _, total in sizes) <= BATCH_BYTES
    assert sum(count for count, _ in sizes) == 1350


async def test_an_entry_id_is_idempotent_and_bound_to_its_bytes(store, vault):
    entry_id = new_id()
    async with running_log(store, vault) as log:
        first = await log.append(b"x", entry_id=entry_id, kind="intake")
        assert await log.append(b"x", entry_id=entry_id, kind="intake") == first
        with pytest.raises(EntryConflict):
            await log.append(b"y", entry_id=entry_id, kind="intake")
        assert (await log.append(b"z", entry_id=new_id(), kind="intake")).index == 2
    assert len(store.rows.entries) == 3


async def test_one_batch_may_hold_an_entry_id_twice(store, vault):
    entry_id, got = new_id(), []

    async def append(body):
        try:
            got.append(await log.append(body, entry_id=entry_id, kind="intake"))
        except EntryConflict:
            got.append("conflict")

    async with running_log(store, vault) as log, trio.open_nursery() as nursery:
        for body in (b"x", b"x", b"x"):
            nursery.start_soon(append, body)
    async with running_log(store, vault) as log, trio.open_nursery() as nursery:
        for body in (b"y", b"x"):
            nursery.start_soon(append, body)
    assert {item if item == "conflict" else item.index for item in got[:3]} == {1}
    assert got.count("conflict") == 1
    assert len(store.rows.entries) == 2


@pytest.mark.parametrize("persisted", [True, False])
async def test_a_commit_of_unknown_outcome_is_looked_up(store, vault, persisted):
    async with running_log(store, vault) as log:
        store.lose_commit(persisted=persisted)
        where = await log.append(b"x", entry_id=new_id(), kind="intake")
        assert where.index == 1
        assert (await log.append(b"y", entry_id=new_id(), kind="intake")).index == 2
        await log.prove(2)
        await check_served(log, vault)
    assert [entry.body for entry in store.rows.entries[1:]] == [b"x", b"y"]


@pytest.mark.parametrize("persisted", [True, False])
async def test_no_answer_is_a_guess_when_the_database_stays_away(database, store, vault, persisted):
    async with running_log(store, vault) as log:
        store.lose_commit(persisted=persisted)
        load = store.load_head

        async def gone():
            raise Unavailable("log-unavailable", "gone")

        store.load_head = gone
        entry_id = new_id()
        with pytest.raises(Unavailable, match="log-unavailable"):
            await log.append(b"x", entry_id=entry_id, kind="intake")
        store.load_head = load
        assert (await log.append(b"x", entry_id=entry_id, kind="intake")).index == 1
    assert len(store.rows.entries) == 2


async def test_two_replicas_write_one_log(database, store, vault):
    other = database.replica().log(ORIGIN)
    async with running_log(store, vault) as one, running_log(other, vault) as two:
        async with trio.open_nursery() as nursery:
            for log in (one, two):
                for nr in range(5):
                    nursery.start_soon(append_many, log, [f"{id(log)} {nr} {k}".encode() for k in range(20)])
        proofs = [await log.prove(200) for log in (one, two)]
        assert {proof.size for proof in proofs} == {201}
        await check_served(one, vault)
        await check_served(two, vault)
    assert len({entry.entry_id for entry in store.rows.entries}) == 201


async def test_a_full_queue_is_said_at_once(store, vault):
    hold = trio.Event()
    commit = store.append_batch

    async def slow(*args):
        await hold.wait()
        await commit(*args)

    full = []

    async def append(nr):
        try:
            await log.append(b"%d" % nr, entry_id=new_id(), kind="intake")
        except LogFull as error:
            full.append(error.retry_after_s)

    async with running_log(store, vault) as log:
        store.append_batch = slow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(append, 0)
            await trio.testing.wait_all_tasks_blocked()
            for nr in range(1, QUEUE + 4):
                nursery.start_soon(append, nr)
            await trio.testing.wait_all_tasks_blocked()
            assert full == [1, 1, 1]
            hold.set()
    assert len(store.rows.entries) == QUEUE + 2


@pytest.mark.parametrize(
    ("body", "entry_id", "kind"), [(b"", "0" * 32, "intake"), (b"x" * 65_536, "0" * 32, "intake"), (b"x", "0" * 31, "intake"), (b"x", "0" * 32, "")]
)
async def test_an_entry_of_a_wrong_form_is_a_bug(store, vault, body, entry_id, kind):
    async with running_log(store, vault) as log:
        with pytest.raises(ValueError, match="an entry has"):
            await log.append(body, entry_id=entry_id, kind=kind)


async def test_nobody_waits_for_a_sequencer_that_has_ended(store, vault):
    async def never(*args):
        await trio.sleep_forever()

    got = []

    async def append(log):
        try:
            await log.append(b"x", entry_id=new_id(), kind="intake")
        except Unavailable as error:
            got.append(error.cause_code)

    async with trio.open_nursery() as nursery, running_log(store, vault) as log:
        store.append_batch = never
        nursery.start_soon(append, log)
        await trio.testing.wait_all_tasks_blocked()
    nursery_free = Sequencer(store, vault, opening=opening(), clock=lambda: None)
    with pytest.raises(Unavailable):
        await nursery_free.append(b"x", entry_id=new_id(), kind="intake")
    assert got == ["log-unavailable"]


async def test_a_database_head_that_shrinks_while_running_stops_the_log(store, vault):
    async with running_log(store, vault) as log:
        await append_many(log, [b"1", b"2"])
        await log.prove(2)
        store.rows.head = TileEdge().extend([store.rows.entries[0].leaf_hash])[0].range()
        with pytest.raises(Unavailable, match="shrunk"):
            await log.append(b"3", entry_id=new_id(), kind="intake")
        assert "shrunk" in log.alarm()
        with pytest.raises(Unavailable, match="shrunk"):
            await log.append(b"4", entry_id=new_id(), kind="intake")


async def test_an_entry_inserted_behind_our_back_stops_the_log(store, vault):
    async with running_log(store, vault) as log:
        await append_many(log, [b"1"])
        store.rows.head = store.rows.head.append(leaf_hash(b"forged"))
        store.rows.entries.append(store.rows.entries[-1])
        with pytest.raises(Unavailable, match="root"):
            await log.append(b"3", entry_id=new_id(), kind="intake")


async def test_a_log_opened_by_something_else_is_refused(store, vault):
    edge, _ = TileEdge().extend([leaf_hash(b"{}")])
    await store.append_batch(TileEdge().range(), [NewEntry(0, new_id(), "intake", b"{}", leaf_hash(b"{}"))], [], edge.range())
    with pytest.raises((LogRefused, ValueError)):
        await Sequencer(store, vault, opening=opening(), clock=lambda: None).run()
