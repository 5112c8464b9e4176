"""Closed origins: what can still be shown of a tail that the database lost, from the partial tiles that the vault kept."""

import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.ports.log import NewEntry, NewTile
from gatekeeper.sequencer.origins import ClosedLog, NodeLost
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint, open_checkpoint
from gatekeeper.tlog.consistency import parse_growth, verify_growth
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note
from gatekeeper.tlog.tile import TileEdge
from tests.fakes.running_log import ORIGIN, TrioTime
from tests.fakes.stores import FakeDatabase

pytestmark = pytest.mark.anyio

KEY = Ed25519PrivateKey.generate()
VKEY = ed25519_vkey(ORIGIN, KEY.public_key().public_bytes_raw())
LOST_AT, SIGNED = 300, 1100
LEAVES = [leaf_hash(number.to_bytes(2)) for number in range(SIGNED)]


def edge_of(size):
    return TileEdge().extend(LEAVES[:size])[0]


def note_of(size):
    text = encode_checkpoint(Checkpoint(ORIGIN, size, edge_of(size).root()))
    return encode_note(Note(text, (NoteSignature(ORIGIN, VKEY.key_id, KEY.sign(text)),)))


@pytest.fixture
async def closed():
    """The rows of the first 300 entries; 280 of them stand under the newest stored note."""
    store = FakeDatabase().log(ORIGIN)
    edge, full = TileEdge().extend(LEAVES[:LOST_AT])
    rows = [NewEntry(at, secrets.token_hex(16), "intake", at.to_bytes(2), LEAVES[at]) for at in range(LOST_AT)]
    await store.append_batch(TileEdge().range(), rows, [NewTile(tile.address.level, tile.address.n, tile.data) for tile in full], edge.range())
    await store.save_checkpoint(280, note_of(280))
    return ClosedLog(store, TrioTime())


# What a consistency path needs lies in the rows (up to 300), in whole tiles (256 to 1024, by their roots) or in the last tile (1024 to 1100).
@pytest.mark.parametrize("old", [256, 512, 768, 1024, 1030, 1099, SIGNED])
async def test_what_rows_and_kept_tiles_have_together_is_shown(closed, old):
    growth = parse_growth(await closed.growth(old, note_of(SIGNED), edge_of(SIGNED)))
    verify_growth(Checkpoint(ORIGIN, old, edge_of(old).root()), growth, open_checkpoint(growth.checkpoint, VKEY))


@pytest.mark.parametrize("old", [0, 290, 400, 1000, SIGNED + 1])
async def test_what_is_lost_is_not_made_up(closed, old):
    with pytest.raises(NodeLost):
        await closed.growth(old, note_of(SIGNED), edge_of(SIGNED))


async def test_tiles_of_another_tree_are_not_used(closed):
    other, _ = TileEdge().extend([leaf_hash(bytes([1, 2, 3]))] * SIGNED)
    for kept in (other, TileEdge(), edge_of(SIGNED - 1)):
        with pytest.raises(NodeLost):
            await closed.growth(512, note_of(SIGNED), kept)


async def test_it_is_served_as_far_as_its_newest_note(closed):
    view = await closed.view()
    assert (view.note, view.size) == (note_of(280), 280)
    assert await closed.tile(0, 1, 24) == b"".join(LEAVES[256:280])
    assert await closed.tile(0, 1, 25) is None
    assert await closed.entries(1, 25) is None
    assert await closed.proof(280) is None
    assert await closed.proof(279) is not None
