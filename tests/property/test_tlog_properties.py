"""Trees against a naive recursive MTH; round trips and byte mutations of every format."""

import base64
import hashlib
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatekeeper.model.decision import Mode, Purpose, Verdict
from gatekeeper.model.moment import parse_moment
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint, open_checkpoint, parse_checkpoint
from gatekeeper.tlog.consistency import Growth, encode_growth, parse_growth
from gatekeeper.tlog.entry import MAX_ENTRY, DecisionEntry, Intake, RolePeople, encode_entry, parse_entry
from gatekeeper.tlog.errors import MalformedEntry, MalformedProof, ProofMismatch, TlogError
from gatekeeper.tlog.merkle import (
    EMPTY_ROOT,
    CompactRange,
    leaf_hash,
    nodes_for_consistency,
    nodes_for_inclusion,
    nodes_for_root,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note, parse_note
from gatekeeper.tlog.proof import TlogProof, encode_proof, parse_proof
from gatekeeper.tlog.tile import (
    TileAddress,
    TileEdge,
    encode_bundle,
    node_from_tile,
    parse_bundle,
    parse_tile_path,
    tile_of_node,
    tile_width,
)

LEAVES = [leaf_hash(b"%d" % n) for n in range(1200)]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
VKEY = ed25519_vkey("log.example/2026", KEY.public_key().public_bytes_raw())


def mth(leaves):
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def naive(level, n):
    assert (n + 1) << level <= len(LEAVES)
    return mth(LEAVES[n << level : (n + 1) << level])


sizes = st.integers(1, 300) | st.sampled_from([255, 256, 257, 511, 512, 513, 1024, 1200])
hashes = st.binary(min_size=32, max_size=32)


@given(sizes, st.data())
def test_inclusion_proofs_verify_and_no_change_of_them_does(size, data):
    index = data.draw(st.integers(0, size - 1))
    fetched = {node: naive(*node) for node in nodes_for_inclusion(index, size)}
    path = prove_inclusion(index, size, lambda level, n: fetched[level, n])
    root = mth(LEAVES[:size])
    verify_inclusion(LEAVES[index], index, size, path, root)
    other = data.draw(st.integers(0, size - 1))
    assume(other != index)
    at = data.draw(st.integers(0, len(path) - 1))
    broken = (*path[:at], hashlib.sha256(path[at]).digest(), *path[at + 1 :])
    for wrong in [
        (LEAVES[other], index, size, path, root),
        (LEAVES[index], other, size, path, root),
        (LEAVES[index], index, size, broken, root),
        (LEAVES[index], index, size, path[:-1], root),
        (LEAVES[index], index, size, (*path, root), root),
        (LEAVES[index], index, size, path, LEAVES[0]),
        (LEAVES[index], size, size, path, root),
    ]:
        with pytest.raises(ProofMismatch):
            verify_inclusion(*wrong)


@given(sizes, st.data())
def test_consistency_proofs_verify_and_no_change_of_them_does(new, data):
    old = data.draw(st.integers(1, new))
    fetched = {node: naive(*node) for node in nodes_for_consistency(old, new)}
    path = prove_consistency(old, new, lambda level, n: fetched[level, n])
    before, after = mth(LEAVES[:old]), mth(LEAVES[:new])
    verify_consistency(old, before, new, after, path)
    wrongs = [(old, hashlib.sha256(before).digest(), new, after, path), (old, before, new, hashlib.sha256(after).digest(), path)]
    wrongs += [(old, before, new, after, (*path, before)), (0, EMPTY_ROOT, new, after, path), (new + 1, before, new, after, path)]
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        wrongs += [(old, before, new, after, (*path[:at], hashlib.sha256(path[at]).digest(), *path[at + 1 :])), (old, before, new, after, path[:-1])]
    for wrong in wrongs:
        with pytest.raises(ProofMismatch):
            verify_consistency(*wrong)


@given(st.integers(0, 1200), st.lists(st.integers(0, 1200), max_size=4))
@settings(max_examples=40)
def test_compact_range_and_tile_edge_have_the_naive_root(size, cuts):
    tree, edge, tiles = CompactRange.empty(), TileEdge(), {}
    steps = sorted({0, size, *(cut for cut in cuts if cut < size)})
    for low, high in pairwise(steps):
        tree = tree.extend(LEAVES[low:high])
        edge, full = edge.extend(LEAVES[low:high])
        tiles |= {tile.address: tile.data for tile in full}
    assert tree.root() == edge.root() == mth(LEAVES[:size])
    assert edge.range() == tree == CompactRange.parse(tree.encode())
    assert tree.edge == tuple(naive(*node) for node in nodes_for_root(size))
    tiles |= {tile.address: tile.data for tile in edge.partial_tiles()}
    assert len(tiles) == sum(tile_width(level, n, size) > 0 for level in range(3) for n in range(6))
    for address, data in tiles.items():
        assert address.width == tile_width(address.level, address.n, size)
        first = address.n * 256
        assert data == b"".join(naive(8 * address.level, first + at) for at in range(address.width))


@given(sizes, st.data())
def test_every_node_is_read_from_its_tile(size, data):
    level = data.draw(st.integers(0, size.bit_length() - 1))
    n = data.draw(st.integers(0, (size >> level) - 1))
    edge, full = TileEdge().extend(LEAVES[:size])
    tiles = {tile.address: tile.data for tile in (*full, *edge.partial_tiles())}
    assert node_from_tile(tiles[tile_of_node(level, n, size)], level, n) == naive(level, n)


@given(st.none() | st.integers(0, 63), st.integers(0, 2**63 - 1), st.integers(1, 256))
def test_tile_paths_round_trip(level, n, width):
    address = TileAddress(level, n, width)
    assert parse_tile_path(address.path) == address


@given(st.binary(max_size=120))
def test_compact_ranges_parse_only_what_they_encode(data):
    try:
        tree = CompactRange.parse(data)
    except MalformedProof:
        return
    assert tree.encode() == data


def named(name: str) -> NoteSignature:
    return NoteSignature(name, b"keyi", bytes(64))


origins = st.from_regex(r"[a-z]{1,20}\.example/log/20[0-9]{2}", fullmatch=True)
checkpoints = st.builds(Checkpoint, origins, st.integers(1, 2**63 - 1), hashes)
notes = st.builds(
    lambda checkpoint, names: encode_note(Note(encode_checkpoint(checkpoint), tuple(map(named, names)))),
    checkpoints,
    st.lists(origins, min_size=1, max_size=4),
)
paths = st.lists(hashes, max_size=63).map(tuple)
indexes = st.integers(0, 2**63 - 1)
proofs = st.builds(TlogProof, indexes, paths, notes, st.none() | st.binary(min_size=1, max_size=40))
growths = st.builds(Growth, indexes, paths, notes)
bundles = st.lists(st.binary(max_size=40), min_size=1, max_size=256)
people = st.lists(st.from_regex(r"p:[0-9a-f]{32}", fullmatch=True), max_size=3, unique=True).map(lambda items: tuple(sorted(items)))
digest = hashes.map(lambda item: "sha256:" + item.hex())
digests = st.lists(digest, max_size=300, unique=True).map(lambda items: tuple(sorted(items)))
texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)
COMMON = {"entry_id": st.from_regex(r"[0-9a-f]{32}", fullmatch=True), "origin": origins, "at": st.just(parse_moment("2026-11-21T10:04:05Z"))}
entries = st.builds(
    Intake, **COMMON, config=st.none(), artifact=digest, manifest=digest, builder=texts, certificate=st.none() | digest, subjects=digests
) | st.builds(
    DecisionEntry,
    **COMMON,
    config=st.just("0" * 40),
    ping_id=COMMON["entry_id"],
    landing=st.none() | texts,
    purpose=st.sampled_from(Purpose),
    mode=st.sampled_from(Mode),
    requester=st.just("p:" + "0" * 32),
    on_behalf_of=st.none(),
    people=st.builds(RolePeople, people, people, people),
    environment=texts,
    component=texts,
    artifact=st.none() | digest,
    candidate_config=st.none(),
    target=st.lists(texts, max_size=3).map(tuple),
    subjects=digests,
    verdict=st.just(Verdict.DENY),
    reasons=st.lists(texts, max_size=3).map(tuple),
    policy=digest,
    trusted_root=st.none() | digest,
    evidence=digests,
    statement=digest,
    not_after=st.none(),
    supersedes=st.none(),
)


@given(checkpoints)
def test_checkpoints_round_trip(checkpoint):
    assert parse_checkpoint(encode_checkpoint(checkpoint)) == checkpoint


@given(notes)
def test_notes_round_trip(data):
    assert encode_note(parse_note(data)) == data


@given(proofs, growths)
def test_proofs_and_growths_round_trip(proof, growth):
    assert parse_proof(encode_proof(proof)) == proof
    assert parse_growth(encode_growth(growth)) == growth


@given(bundles)
def test_bundles_round_trip(items):
    assert parse_bundle(encode_bundle(items)) == tuple(items)


@given(entries)
def test_entries_round_trip_within_their_cap(entry):
    data = encode_entry(entry)
    assert len(data) <= MAX_ENTRY
    parsed = parse_entry(data)
    assert encode_entry(parsed) == data
    # Nothing but a list that was too long may differ.
    assert parsed == entry or b'{"n":' in data


mutations = st.tuples(st.sampled_from(["flip", "cut", "insert"]), st.integers(0, 2**32), st.integers(1, 255))


def mutate(data: bytes, mutation) -> bytes:
    how, where, byte = mutation
    at = where % len(data)
    match how:
        case "flip":
            return data[:at] + bytes((data[at] ^ byte,)) + data[at + 1 :]
        case "cut":
            return data[:at] + data[at + 1 :]
        case _:
            return data[:at] + bytes((byte,)) + data[at:]


FORMATS = [
    (notes, parse_note, encode_note),
    (checkpoints.map(encode_checkpoint), parse_checkpoint, encode_checkpoint),
    (proofs.map(encode_proof), parse_proof, encode_proof),
    (growths.map(encode_growth), parse_growth, encode_growth),
    (bundles.map(encode_bundle), parse_bundle, encode_bundle),
    (entries.map(encode_entry), parse_entry, lambda entry: entry.body if hasattr(entry, "body") else encode_entry(entry)),
]


@pytest.mark.parametrize(("values", "parse", "encode"), FORMATS, ids=["note", "checkpoint", "proof", "growth", "bundle", "entry"])
@given(data=st.data(), mutation=mutations)
def test_a_mutated_byte_is_refused_or_is_another_value_with_that_one_spelling(values, parse, encode, data, mutation):
    mutated = mutate(data.draw(values), mutation)
    try:
        parsed = parse(mutated)
    except TlogError:
        return
    assert encode(parsed) == mutated


@given(checkpoints.map(lambda c: encode_checkpoint(Checkpoint(VKEY.name, c.size, c.root))), mutations)
def test_no_mutation_of_a_signed_checkpoint_opens(text, mutation):
    note = encode_note(Note(text, (NoteSignature(VKEY.name, VKEY.key_id, KEY.sign(text)),)))
    assert open_checkpoint(note, VKEY).note == note
    with pytest.raises(TlogError):
        open_checkpoint(mutate(note, mutation), VKEY)


@given(st.binary(max_size=200))
def test_noise_raises_only_errors_of_this_package(noise):
    for _, parse, _ in FORMATS:
        for data in (noise, base64.b64encode(noise) + b"\n"):
            try:
                parse(data)
            except TlogError:
                continue


@given(st.binary(max_size=64))
def test_noise_is_no_entry(noise):
    with pytest.raises(MalformedEntry):
        parse_entry(noise)
