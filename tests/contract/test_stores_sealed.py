"""What every store of sealed openings promises: they are there with their leaf, or neither is, and only for who may read them."""

import secrets

import pytest

from gatekeeper.model.label import ANONYMOUS, PUBLIC, Viewer, parse_label
from gatekeeper.ports.errors import Rejected
from gatekeeper.ports.log import HeadMoved, NewEntry
from gatekeeper.ports.sealed import SealedSlot, StoredSlot
from gatekeeper.tlog.merkle import CompactRange, leaf_hash
from gatekeeper.tlog.tile import TileEdge

pytestmark = pytest.mark.anyio
ORIGIN = "log.example/log/2026"
ONE = parse_label(["embargo:one"])
BOTH = parse_label(["embargo:one", "embargo:two"])


def sealed(slot, *, entry_id=None, label=ONE):
    return SealedSlot(slot, entry_id or secrets.token_hex(16), *(secrets.token_bytes(60) for _ in range(3)), label)


def leaf(index, *slots):
    body = secrets.token_bytes(30)
    return NewEntry(index, secrets.token_hex(16), "sealed", body, leaf_hash(body), slots)


async def append(store, edge, *entries):
    new, _ = edge.extend([entry.leaf_hash for entry in entries])
    await store.append_batch(edge.range(), entries, [], new.range())
    return new


@pytest.fixture
async def store(database):
    store = database.log(ORIGIN)
    await store.load_head()
    return store


async def test_openings_are_durable_with_their_leaf_for_every_replica(store, replicas):
    one, two = sealed(0), sealed(3, label=BOTH)
    await append(store, TileEdge(), leaf(0), leaf(1, one, two))
    other = (await replicas.open()).log(ORIGIN)
    await other.load_head()
    found = await other.find_sealed([one.entry_id, two.entry_id, "0" * 32], Viewer("team", BOTH))
    assert found == {one.entry_id: StoredSlot(1, one), two.entry_id: StoredSlot(1, two)}
    other_origin = (await replicas.open()).log(ORIGIN + "b")
    await other_origin.load_head()
    assert await other_origin.find_sealed([one.entry_id], Viewer("team", BOTH)) == {}


async def test_an_opening_exists_only_for_a_viewer_whose_clearances_hold_its_label(store):
    one, two = sealed(0), sealed(1, label=BOTH)
    await append(store, TileEdge(), leaf(0, one, two))
    ids = [one.entry_id, two.entry_id]
    assert await store.find_sealed(ids, ANONYMOUS) == {}
    assert await store.find_sealed(ids, Viewer("x", parse_label(["embargo:two", "project:hello"]))) == {}
    assert set(await store.find_sealed(ids, Viewer("x", ONE))) == {one.entry_id}
    assert set(await store.find_sealed(ids, Viewer("x", BOTH))) == set(ids)


async def test_of_a_batch_that_is_undone_no_opening_stays(store):
    edge = await append(store, TileEdge(), leaf(0))
    lost = sealed(0)
    with pytest.raises(HeadMoved):
        await store.append_batch(CompactRange.empty(), [leaf(0, lost)], [], TileEdge().extend([bytes(32)])[0].range())
    assert await store.find_sealed([lost.entry_id], Viewer("x", BOTH)) == {}
    first, again = sealed(0), sealed(1)
    edge = await append(store, edge, leaf(1, first))
    twice = sealed(2, entry_id=first.entry_id)
    with pytest.raises(Rejected):
        await append(store, edge, leaf(2, again), leaf(3, twice))
    assert await store.load_head() == edge.range()
    assert set(await store.find_sealed([first.entry_id, again.entry_id], Viewer("x", BOTH))) == {first.entry_id}


def test_a_decision_that_everybody_could_read_is_not_sealed():
    with pytest.raises(ValueError, match="has a label"):
        leaf(0, sealed(0), sealed(1, label=PUBLIC))
