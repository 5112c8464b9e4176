"""Public vectors: the 518 proofs of transparency-dev/merkle and the small log of transparency-dev/tessera, read from beside the checkout."""

import base64
import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.errors import BadNoteSignature, ProofMismatch, TlogError
from gatekeeper.tlog.fsck import Fault, Tail, fsck
from gatekeeper.tlog.merkle import leaf_hash, node_hash, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion
from gatekeeper.tlog.note import parse_vkey
from gatekeeper.tlog.tile import TileAddress, TileEdge, node_from_tile, parse_bundle

CORPORA = Path(os.environ.get("PINGEE_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
TESSERA_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"


def corpus(*parts: str) -> Path:
    folder = CORPORA.joinpath(*parts)
    if not folder.is_dir():
        message = f"PUBLIC VECTORS MISSING: {'/'.join(parts)} is not in the corpora (set PINGEE_CORPORA or run make corpora)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


def b64(text: str | None) -> bytes:
    return base64.b64decode(text or "")


MERKLE_FILES = {"inclusion": 98, "consistency": 98, "subtreeinclusion": 204, "subtreeconsistency": 118}


def cases(kind: str) -> list[tuple[str, dict]]:
    folder = corpus("merkle", "testdata", kind)
    return [(str(path.relative_to(folder)), json.loads(path.read_bytes())) for path in sorted(folder.rglob("*.json"))]


def check_inclusion(case: dict, path: list[bytes]) -> None:
    # A proof in a subtree is a proof in a tree that has the subtree's leaves and no others.
    start, end = (case["start"], case["end"]) if "end" in case else (0, case["treeSize"])
    verify_inclusion(b64(case["leafHash"]), case["leafIdx"] - start, end - start, path, b64(case["root"]))


def check_consistency(case: dict, path: list[bytes]) -> None:
    if case.get("start"):
        # Nothing but a prefix is ever proven to a reader of ours: no format of the log has a place for another start.
        raise ProofMismatch("not a prefix")
    old, new = (case["end"], case["size"]) if "end" in case else (case["size1"], case["size2"])
    verify_consistency(old, b64(case["root1"]), new, b64(case["root2"]), path)


MERKLE_CHECKS = {
    "inclusion": check_inclusion,
    "consistency": check_consistency,
    "subtreeinclusion": check_inclusion,
    "subtreeconsistency": check_consistency,
}
LEAF, BELOW, SHORT, LONG, ROOT = "a leaf hash has", "index is not below", "path is too short", "path is too long", "leads to"
GARBAGE, OLD, TWO_ROOTS, NO_PATH, START = "hashes of 32 bytes", "old size is 0 or above", "two roots of one size", "equal sizes need no", "not a prefix"
# What each wrong proof may be refused for. Where the wrong thing is a number there are several: which one depends on the tree.
INCLUSION_REASONS = {
    "empty leaf": {LEAF},
    "empty root": {ROOT, BELOW, LEAF},
    "empty root and leaf": {LEAF},
    "empty root and random leaf": {BELOW, ROOT},
    "everything zero": {BELOW},
    "inserted component": {LONG},
    "invalid large subtree": {BELOW},
    "invalid subtree": {SHORT},
    "leafIdx XOR @2": {BELOW, ROOT, SHORT},
    "leafIdx plus @1": {BELOW, ROOT},
    "leafIdx sub @1": {BELOW, ROOT, SHORT},
    "modified proof[0] bit @3": {ROOT},
    "modified proof[1] bit @3": {ROOT},
    "modified proof[2] bit @3": {ROOT},
    "oob left": {BELOW},
    "oob right": {BELOW},
    "oob right 2": {BELOW},
    "preceding garbage": {GARBAGE},
    "preceding root": {LONG},
    "random leaf": {BELOW, ROOT},
    "random root": {ROOT},
    "removed component": {SHORT},
    "start equals end": {BELOW},
    "start larger than end": {BELOW},
    "trailing garbage": {GARBAGE},
    "trailing root": {LONG},
    "treeSize div @2": {BELOW, LONG},
    "treeSize mul @2": {SHORT},
    "wrong leaf": {LEAF},
}
CONSISTENCY_REASONS = {
    "consistency check on empty tree (size1 is zero) is useless": {OLD},
    "empty proof": {SHORT},
    "invalid subtree": {START},
    "invalid subtree start 1 end 15 size 15": {START},
    "invalid subtree start 1 end 3 size 8": {START},
    "invalid subtree start 2 end 5 size 8": {START},
    "invalid subtree start 2 end 6 size 8": {START},
    "modified proof@0 bit @4": {ROOT},
    "modified proof@1 bit @4": {ROOT},
    "modified proof@2 bit @4": {ROOT},
    "preceding garbage": {GARBAGE},
    "preceding proof @0": {LONG},
    "preceding root1": {LONG},
    "preceding root2": {LONG},
    "roots do not match and sizes are one": {TWO_ROOTS},
    "roots do not match and sizes are zero": {OLD},
    "roots do not not match and sizes are one": {TWO_ROOTS},
    "size1 XOR @2": {OLD, SHORT, LONG},
    "size1 is greater than size2": {OLD},
    "size1 is greater than size2 again": {OLD},
    "size1 is zero and does not equal size2": {OLD},
    "size1 is zero and size2 is not zero": {OLD},
    "size1 plus @1": {SHORT, LONG, NO_PATH},
    "size1 sub @1": {OLD, SHORT},
    "size2 div @2": {OLD, LONG, NO_PATH},
    "size2 mul @2": {SHORT},
    "sizes are equal (one) but roots are not": {TWO_ROOTS},
    "sizes are equal (zero) and proof is empty": {OLD},
    "sizes are equal (zero) but roots are not": {OLD},
    "sizes do not match and proof is empty": {SHORT},
    "sizes do not watch and proof is empty": {SHORT},
    "sizes match but proof is not empty and sizes are one": {NO_PATH},
    "sizes match but proof is not empty and sizes are zero": {OLD},
    "subtree is empty roots match but not valid": {START},
    "subtree is empty roots valid but proof is not empty": {START},
    "subtree is empty sizes are equal (one) roots match but not valid": {START},
    "subtree is empty sizes are equal (one) roots valid but proof is not empty": {START},
    "subtree is empty sizes are equal (zero) roots match but not valid": {OLD},
    "subtree is empty sizes are equal (zero) roots valid but proof is not empty": {OLD},
    "swapped roots": {ROOT},
    "trailing garbage": {GARBAGE},
    "trailing root1": {LONG},
    "trailing root2": {LONG},
    "truncated proof": {SHORT},
    "wrong root1": {ROOT},
    "wrong root2": {ROOT},
}
# Upstream lets an empty subtree be part of every tree. An old size of 0 proves nothing to a reader who has seen something: always refused.
STRICTER = {
    f"additional/subtree-is-empty-{case}-proof-is-empty.json"
    for case in (
        "sizes-are-equal-one-subtree-root-valid",
        "sizes-are-equal-one-subtree-root-valid-tree-root-random",
        "sizes-are-equal-zero-subtree-root-valid",
        "sizes-are-equal-zero-subtree-root-valid-tree-root-random",
        "subtree-root-valid",
        "subtree-root-valid-tree-root-random",
    )
}


def refusal(kind: str, case: dict) -> str | None:
    try:
        MERKLE_CHECKS[kind](case, [b64(item) for item in case["proof"] or ()])
    except ProofMismatch as error:
        return str(error)
    return None


def test_all_518_merkle_files_are_there():
    assert {kind: len(cases(kind)) for kind in MERKLE_FILES} == MERKLE_FILES
    assert len(list(corpus("merkle", "testdata").rglob("*.json"))) == 518


@pytest.mark.parametrize("kind", MERKLE_FILES)
def test_every_merkle_proof_has_upstream_s_verdict(kind):
    refused = {name for name, case in cases(kind) if refusal(kind, case)}
    upstream = {name for name, case in cases(kind) if case["wantErr"]}
    assert refused - upstream == (STRICTER if kind == "subtreeconsistency" else set())
    assert upstream - refused == set()


@pytest.mark.parametrize("kind", MERKLE_FILES)
def test_every_wrong_merkle_proof_is_refused_for_its_reason(kind):
    reasons = INCLUSION_REASONS if kind.endswith("inclusion") else CONSISTENCY_REASONS
    met = Counter()
    for name, case in cases(kind):
        if case["wantErr"]:
            what, said = case["desc"].removesuffix(" - subtree"), refusal(kind, case) or "accepted"
            assert any(reason in said for reason in reasons[what]), (name, said)
            met[what] += 1
    assert met.total() == sum(case["wantErr"] for _, case in cases(kind)) > 90


def test_a_consistency_proof_from_size_0_is_refused_though_it_is_true():
    zero = [case for _, case in cases("consistency") if case["size1"] == 0]
    assert len(zero) >= 5
    assert {OLD in (refusal("consistency", case) or "") for case in zero} == {True}


def test_a_proof_with_one_hash_more_or_less_is_refused_for_its_length():
    for kind in ("inclusion", "consistency"):
        for _, case in cases(kind):
            if case["wantErr"] or len(case["proof"] or ()) < 2:
                continue
            for path in (case["proof"] + case["proof"][-1:], case["proof"][:1] + case["proof"]):
                assert LONG in refusal(kind, case | {"proof": path})
            assert SHORT in refusal(kind, case | {"proof": case["proof"][:-1]})


@pytest.fixture(scope="module")
def tessera():
    folder = corpus("tessera-log")

    def fetch(address):
        path = folder / address.path
        return path.read_bytes() if path.is_file() else None

    notes = [(folder / f"checkpoint.{size}").read_bytes() for size in range(16)]
    return fetch, [open_checkpoint(note, parse_vkey(TESSERA_KEY)) for note in notes]


def test_every_checkpoint_of_the_tessera_log_is_its_entries_root(tessera):
    fetch, checkpoints = tessera
    for checkpoint in checkpoints:
        report = fsck(checkpoint, fetch, older=checkpoints[0], marks=checkpoints[: checkpoint.size], schema=False)
        assert (report.fault, report.tail) == (None, Tail.PREFIX_HOLDS)


def test_one_changed_byte_of_an_entry_is_named(tessera):
    fetch, checkpoints = tessera

    def altered(address):
        data = fetch(address)
        return data.replace(b"seven", b"Seven") if address.level is None else data

    fault = fsck(checkpoints[15], altered, schema=False).fault
    assert (fault.fault, fault.first, fault.end) == (Fault.ENTRY_CHANGED, 6, 7)


def test_the_tessera_log_has_the_files_of_every_size(tessera):
    fetch, checkpoints = tessera
    folder = corpus("tessera-log")
    assert [checkpoint.size for checkpoint in checkpoints] == list(range(16))
    assert (folder / "checkpoint").read_bytes() == checkpoints[15].note
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("tile/**/*") if path.is_file()) == sorted(
        TileAddress(level, 0, width).path for level in (0, None) for width in range(1, 16)
    )
    entries = parse_bundle(fetch(TileAddress(None, 0, 15)))
    for width in range(1, 16):
        assert parse_bundle(fetch(TileAddress(None, 0, width))) == entries[:width]
        edge, full = TileEdge().extend(map(leaf_hash, entries[:width]))
        assert (full, [(tile.address, tile.data) for tile in edge.partial_tiles()]) == (
            (),
            [(TileAddress(0, 0, width), fetch(TileAddress(0, 0, width)))],
        )
        assert edge.root() == checkpoints[width].root


def test_entries_hashed_as_nodes_and_nodes_hashed_as_entries_have_other_roots(tessera):
    """Attack row 119: the prefixes 0x00 and 0x01 keep an entry of 64 bytes from standing for two subtrees."""
    fetch, checkpoints = tessera
    entries = parse_bundle(fetch(TileAddress(None, 0, 2)))
    left, right = map(leaf_hash, entries)
    two = checkpoints[2]
    verify_inclusion(left, 0, 2, [right], two.root)
    assert node_hash(left, right) == two.root
    # The pair shown as one entry of a tree of one, and the entry's hash without its prefix.
    for claimed in (leaf_hash(left + right), hashlib.sha256(left + right).digest()):
        assert claimed != two.root
        with pytest.raises(ProofMismatch, match="leads to another root"):
            verify_inclusion(claimed, 0, 1, [], two.root)
    for wrong in (hashlib.sha256(entries[0]).digest(), hashlib.sha256(b"\x01" + entries[0]).digest()):
        with pytest.raises(ProofMismatch, match="leads to another root"):
            verify_inclusion(wrong, 0, 2, [right], two.root)
    # An inner node of the tree of four, given as a leaf, with the path that is right for it.
    four = parse_bundle(fetch(TileAddress(None, 0, 4)))
    inner = node_hash(*map(leaf_hash, four[2:4]))
    assert node_hash(two.root, inner) == checkpoints[4].root
    with pytest.raises(ProofMismatch, match="path is too short"):
        verify_inclusion(two.root, 0, 4, [inner], checkpoints[4].root)
    with pytest.raises(ProofMismatch, match="leads to another root"):
        verify_inclusion(leaf_hash(left + right), 0, 2, [inner], checkpoints[4].root)


def test_proofs_between_all_sizes_of_the_tessera_log(tessera):
    fetch, checkpoints = tessera
    entries = parse_bundle(fetch(TileAddress(None, 0, 15)))
    assert entries[:2] == (b"one", b"two")
    edge, _ = TileEdge().extend(map(leaf_hash, entries))
    assert edge.partial[0] == fetch(TileAddress(0, 0, 15))

    def node(level, n):
        return node_from_tile(edge.partial[0], level, n)

    for size, new in enumerate(checkpoints[1:], 1):
        for index in range(size):
            verify_inclusion(leaf_hash(entries[index]), index, size, prove_inclusion(index, size, node), new.root)
        for old in checkpoints[1 : size + 1]:
            path = prove_consistency(old.size, size, node)
            verify_consistency(old.size, old.root, size, new.root, path)
            with pytest.raises(ProofMismatch, match=r"path is too long|need no consistency path"):
                verify_consistency(old.size, old.root, size, new.root, (*path, old.root))
        with pytest.raises(ProofMismatch, match="old size is 0"):
            verify_consistency(0, checkpoints[0].root, size, new.root, ())


def test_a_tessera_checkpoint_with_one_byte_changed_is_refused(tessera):
    _, checkpoints = tessera
    note = checkpoints[15].note.replace(b"\n15\n", b"\n14\n")
    with pytest.raises(BadNoteSignature):
        open_checkpoint(note, parse_vkey(TESSERA_KEY))


def test_a_missing_corpus_is_loud(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="PUBLIC VECTORS MISSING"):
        corpus("no-such-corpus")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="PUBLIC VECTORS MISSING"):
        corpus("no-such-corpus")


def test_log_errors_are_value_errors():
    assert issubclass(TlogError, ValueError)
