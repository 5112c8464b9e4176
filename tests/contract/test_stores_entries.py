"""What every EntryIndex promises."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gatekeeper.model.label import ANONYMOUS, Viewer
from gatekeeper.ports.entries import EntryFilter, IndexRow
from gatekeeper.ports.log import NewEntry
from gatekeeper.tlog.merkle import CompactRange, leaf_hash
from gatekeeper.tlog.tile import TileEdge
from tests.fakes.records import NOW, SECRET

pytestmark = pytest.mark.anyio
ORIGIN = "log.example/log/2026"
BOB, CAROL = "p:" + "b" * 32, "p:" + "c" * 32
ROWS = (
    IndexRow(0, "origin", NOW, None, None, ()),
    IndexRow(1, "decision", NOW + timedelta(seconds=1), "production", "shop", (BOB, CAROL)),
    IndexRow(2, "outcome", NOW + timedelta(seconds=2), "production", "shop", ()),
    IndexRow(3, "decision", NOW + timedelta(seconds=3), "test", "shop", (CAROL,)),
    IndexRow(4, "adopt", NOW + timedelta(seconds=4), "production", "api", (BOB,)),
)


@pytest.fixture
async def index(database):
    """Five entries in the log, and nothing read of them."""
    store = database.log(ORIGIN)
    await store.load_head()
    bodies = [b"entry %d" % number for number in range(5)]
    edge, _ = TileEdge().extend([leaf_hash(body) for body in bodies])
    entries = [NewEntry(nr, f"{nr:032x}", "intake", body, leaf_hash(body)) for nr, body in enumerate(bodies)]
    await store.append_batch(CompactRange.empty(), entries, [], edge.range())
    return database.entries(ORIGIN)


async def found(index, viewer=ANONYMOUS, **wanted):
    return [hit.row.index for hit in await index.find(EntryFilter(**wanted), viewer)]


async def test_a_new_index_is_empty(index):
    assert await index.size() == 0
    assert await found(index) == []
    assert await index.places([0, 1]) == {}


async def test_rows_are_found_whole_and_newest_first(index):
    assert await index.add(0, 5, ROWS)
    assert await index.size() == 5
    hits = await index.find(EntryFilter(), ANONYMOUS)
    assert [(hit.row, hit.body) for hit in hits] == [(row, b"entry %d" % row.index) for row in reversed(ROWS)]
    assert await index.places([1, 3, 4, 9]) == {1: ("production", "shop"), 3: ("test", "shop"), 4: ("production", "api")}


@pytest.mark.parametrize(
    ("wanted", "indices"),
    [
        ({"kind": "decision"}, [3, 1]),
        ({"environment": "production"}, [4, 2, 1]),
        ({"component": "shop"}, [3, 2, 1]),
        ({"environment": "production", "component": "shop", "kind": "outcome"}, [2]),
        ({"person": BOB}, [4, 1]),
        ({"person": CAROL, "environment": "test"}, [3]),
        ({"person": "p:" + "d" * 32}, []),
        ({"since": NOW + timedelta(seconds=3)}, [4, 3]),
        ({"below": 3}, [2, 1, 0]),
        ({"limit": 2}, [4, 3]),
        ({"limit": 2, "below": 3}, [2, 1]),
        ({"kind": "none"}, []),
    ],
)
async def test_filters(index, wanted, indices):
    await index.add(0, 5, ROWS)
    assert await found(index, **wanted) == indices


async def test_a_page_has_bounds(index):
    for limit in (0, 201):
        with pytest.raises(ValueError, match="1 to 200"):
            await index.find(EntryFilter(limit=limit), ANONYMOUS)


async def test_it_goes_on_where_it_stopped_and_of_two_replicas_one_adds(index, replicas):
    other = (await replicas.open()).entries(ORIGIN)
    assert await index.add(0, 2, ROWS[:2])
    assert not await other.add(0, 2, ROWS[:2])
    assert not await other.add(3, 5, ROWS[3:])
    assert (await found(other), await other.size()) == ([1, 0], 2)
    assert await other.add(2, 5, ROWS[3:]), "what could not be read is left out"
    assert (await found(index), await index.size()) == ([4, 3, 1, 0], 5)
    assert await index.add(5, 5, ())


async def test_origins_are_apart(index, database):
    await index.add(0, 5, ROWS)
    other = database.entries(ORIGIN + "b")
    assert (await other.size(), await found(other), await other.places([1])) == (0, [], {})
    assert not await other.add(0, 1, ROWS[:1]), "an origin without a log has no index"


async def test_a_labelled_row_does_not_exist_for_others(index):
    await index.add(0, 5, (*ROWS[:3], replace(ROWS[3], label=SECRET), ROWS[4]))
    assert await found(index, kind="decision") == [1]
    assert await found(index, Viewer("alice", SECRET), kind="decision") == [3, 1]
