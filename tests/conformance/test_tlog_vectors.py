"""Public vectors: the proofs of transparency-dev/merkle and the small log of transparency-dev/tessera, read from beside the checkout."""

import base64
import json
import os
from pathlib import Path

import pytest

from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.errors import BadNoteSignature, ProofMismatch, TlogError
from gatekeeper.tlog.fsck import Fault, Tail, fsck
from gatekeeper.tlog.merkle import leaf_hash, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion
from gatekeeper.tlog.note import parse_vkey
from gatekeeper.tlog.tile import TileEdge, node_from_tile, parse_bundle

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


def cases(kind: str) -> list[tuple[str, dict]]:
    folder = corpus("merkle", "testdata", kind)
    return [(str(path.relative_to(folder)), json.loads(path.read_bytes())) for path in sorted(folder.rglob("*.json"))]


def verdicts(kind: str, check) -> dict[str, bool]:
    wrong = {}
    for name, case in cases(kind):
        try:
            check(case)
            refused = False
        except ProofMismatch:
            refused = True
        if refused != case["wantErr"]:
            wrong[name] = refused
    return wrong


def b64(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def test_all_98_inclusion_vectors():
    def check(case):
        path = [b64(item) for item in case["proof"] or ()]
        verify_inclusion(b64(case["leafHash"]), case["leafIdx"], case["treeSize"], path, b64(case["root"]))

    assert verdicts("inclusion", check) == {}
    assert len(cases("inclusion")) == 98


def test_all_98_consistency_vectors():
    def check(case):
        path = [b64(item) for item in case["proof"] or ()]
        verify_consistency(case["size1"], b64(case["root1"]), case["size2"], b64(case["root2"]), path)

    assert verdicts("consistency", check) == {}
    assert len(cases("consistency")) == 98


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


def test_proofs_between_all_sizes_of_the_tessera_log(tessera):
    fetch, checkpoints = tessera
    from gatekeeper.tlog.tile import TileAddress

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
            verify_consistency(old.size, old.root, size, new.root, prove_consistency(old.size, size, node))


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
