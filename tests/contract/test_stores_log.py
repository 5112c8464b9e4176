"""What every LogStore promises."""

import secrets
from dataclasses import replace

import pytest
import trio

from gatekeeper.ports.errors import Rejected
from gatekeeper.ports.log import Appended, HeadMoved, KeyChangeRow, NewEntry, NewTile
from gatekeeper.tlog.merkle import CompactRange, leaf_hash
from gatekeeper.tlog.tile import TileEdge

pytestmark = pytest.mark.anyio
ORIGIN = "log.example/log/2026"


def grow(edge, count, size=3):
    bodies = [secrets.token_bytes(size) for _ in range(count)]
    leaves = [leaf_hash(body) for body in bodies]
    new, full = edge.extend(leaves)
    entries = [NewEntry(edge.size + nr, secrets.token_hex(16), "intake", bodies[nr], leaves[nr]) for nr in range(count)]
    return new, entries, [NewTile(tile.address.level, tile.address.n, tile.data) for tile in full]


async def test_a_new_log_is_empty(database):
    store = database.log(ORIGIN)
    assert await store.load_head() == CompactRange.empty()
    assert await store.newest_checkpoint() is None
    assert await store.find(["0" * 32]) == {}
    assert await store.read_tile(0, 0) is None
    assert await store.read_entries(0, 5) == []


async def test_a_batch_is_there_whole_for_every_replica(database, replicas):
    store, edge = database.log(ORIGIN), TileEdge()
    await store.load_head()
    first, entries, tiles = grow(edge, 300)
    await store.append_batch(edge.range(), entries, tiles, first.range())
    other = (await replicas.open()).log(ORIGIN)
    assert await other.load_head() == first.range()
    assert await other.read_tile(0, 0) == tiles[0].data
    assert await other.read_tile(0, 1) is None
    assert await other.read_entries(298, 9) == [entry.body for entry in entries[298:]]
    assert await other.read_leaf_hashes(1, 3) == [entry.leaf_hash for entry in entries[1:4]]
    found = await other.find([entries[7].entry_id, "0" * 32])
    assert found == {entries[7].entry_id: (Appended(7, entries[7].leaf_hash), entries[7].body)}


async def test_origins_are_apart(database):
    one, two = database.log(ORIGIN), database.log(ORIGIN + "b")
    for store in (one, two):
        await store.load_head()
    new, entries, tiles = grow(TileEdge(), 1)
    await one.append_batch(CompactRange.empty(), entries, tiles, new.range())
    assert await two.load_head() == CompactRange.empty()
    await two.append_batch(CompactRange.empty(), entries, tiles, new.range())
    assert await two.load_head() == new.range()


async def test_of_two_writers_on_one_head_one_wins_and_nothing_of_the_other_stays(database, replicas):
    stores = [database.log(ORIGIN), (await replicas.open()).log(ORIGIN)]
    batches = [grow(TileEdge(), 2) for _ in stores]
    for store in stores:
        await store.load_head()
    lost = []

    async def write(store, batch):
        new, entries, tiles = batch
        try:
            await store.append_batch(CompactRange.empty(), entries, tiles, new.range())
        except HeadMoved:
            lost.append(entries)

    async with trio.open_nursery() as nursery:
        for store, batch in zip(stores, batches, strict=True):
            nursery.start_soon(write, store, batch)
    assert len(lost) == 1
    assert await stores[0].find([entry.entry_id for entry in lost[0]]) == {}
    assert (await stores[0].load_head()).size == 2


async def test_an_entry_id_stands_once_and_the_batch_is_undone(database):
    store = database.log(ORIGIN)
    await store.load_head()
    edge, entries, _ = grow(TileEdge(), 1)
    await store.append_batch(CompactRange.empty(), entries, [], edge.range())
    new, more, _ = grow(edge, 2)
    twice = [more[0], NewEntry(2, entries[0].entry_id, "intake", more[1].body, more[1].leaf_hash)]
    with pytest.raises(Rejected):
        await store.append_batch(edge.range(), twice, [], new.range())
    assert await store.load_head() == edge.range()
    assert await store.find([more[0].entry_id]) == {}


async def test_the_note_of_the_largest_size_is_the_newest_and_a_size_keeps_its_newest_note(database):
    store = database.log(ORIGIN)
    await store.load_head()
    for size, note in ((5, b"five"), (5, b"five again"), (4, b"four")):
        await store.save_checkpoint(size, note)
    assert await store.newest_checkpoint() == b"five again"
    assert await store.newest_checkpoints(2) == [b"five again", b"five"]
    assert await store.newest_checkpoints(9) == [b"five again", b"five", b"four"]


async def test_the_newest_entry_of_a_kind_is_found(database):
    store = database.log(ORIGIN)
    await store.load_head()
    assert await store.newest_of("config") is None
    new, entries, tiles = grow(TileEdge(), 5)
    kinds = ("origin", "config", "intake", "config", "intake")
    await store.append_batch(CompactRange.empty(), [replace(e, kind=kind) for e, kind in zip(entries, kinds, strict=True)], tiles, new.range())
    assert await store.newest_of("config") == entries[3].body
    assert await store.newest_of("key") is None


async def test_one_replica_leads_until_it_dies(database, replicas):
    other = await replicas.open()
    mine, theirs = database.log(ORIGIN), other.log(ORIGIN)
    for store in (mine, theirs):
        await store.load_head()
    term = await mine.lead()
    assert term is not None
    assert await mine.lead() == term
    assert await theirs.lead() is None
    await replicas.kill(database)
    with trio.fail_after(60):
        while (gained := await theirs.lead()) is None:  # noqa: ASYNC110 -- the server says when
            await trio.sleep(0.01)
    assert gained != term


async def test_nobody_else_appends_during_a_turn_and_everybody_after_it(database, replicas):
    mine, theirs = database.log(ORIGIN), (await replicas.open()).log(ORIGIN)
    for store in (mine, theirs):
        await store.load_head()
    one, entries, _ = grow(TileEdge(), 1)
    outcomes = []

    async def write():
        new, others, _ = grow(TileEdge(), 1)
        try:
            await theirs.append_batch(CompactRange.empty(), others, [], new.range())
        except HeadMoved:
            outcomes.append("moved")

    async with trio.open_nursery() as nursery, mine.turn():
        nursery.start_soon(write)
        await trio.sleep(0.2)
        await mine.append_batch(CompactRange.empty(), entries, [], one.range())
    assert outcomes == ["moved"]
    assert await theirs.load_head() == one.range()
    async with theirs.turn():
        pass


async def test_key_changes_are_kept_once_and_show_the_checkpoint_that_first_covers_them(database, replicas):
    store, edge = database.log(ORIGIN), TileEdge()
    await store.load_head()
    assert await store.key_changes() == []
    new, entries, tiles = grow(edge, 4)
    first, second = entries[1], entries[3]
    await store.add_key_change(second.entry_id, second.body, b"signature 2")
    await store.add_key_change(first.entry_id, first.body, b"signature 1")
    await store.add_key_change(first.entry_id, b"other", b"other")
    assert {row.index for row in await store.key_changes()} == {None}
    await store.append_batch(edge.range(), entries, tiles, new.range())
    assert [(row.index, row.note) for row in await store.key_changes()] == [(1, None), (3, None)]
    for size, note in ((5, b"five"), (1, b"one"), (3, b"three"), (4, b"four"), (3, b"three again")):
        await store.save_checkpoint(size, note)
    other = (await replicas.open()).log(ORIGIN)
    await other.load_head()
    expected = [KeyChangeRow(first.body, b"signature 1", 1, b"three again"), KeyChangeRow(second.body, b"signature 2", 3, b"four")]
    assert await other.key_changes() == expected


async def test_a_key_change_whose_entry_is_not_the_logs_own_is_not_logged(database, replicas):
    store = database.log(ORIGIN)
    await store.load_head()
    new, entries, tiles = grow(TileEdge(), 1)
    await store.add_key_change(entries[0].entry_id, b"other bytes", b"signature")
    await store.append_batch(CompactRange.empty(), entries, tiles, new.range())
    assert [row.index for row in await store.key_changes()] == [None]
