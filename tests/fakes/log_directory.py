"""A small deploy log as files: what a gatekeeper serves under `/log/`, signed by a key that its policy file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import parse_moment
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint
from gatekeeper.tlog.entry import Cause, ConfigEntry, OriginEntry, encode_entry
from gatekeeper.tlog.logpolicy import LogPolicy, encode_log_policy
from gatekeeper.tlog.merkle import CompactRange, leaf_hash, prove_inclusion
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note
from gatekeeper.tlog.proof import TlogProof, encode_proof
from gatekeeper.tlog.tile import TileAddress, TileEdge, encode_bundle, node_from_tile

ORIGIN = "production.example/log/2026"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x07")
VKEY = ed25519_vkey(ORIGIN, KEY.public_key().public_bytes_raw())
POLICY = encode_log_policy(LogPolicy(VKEY))


def entries(count: int, *, cut: str = "a") -> tuple[bytes, ...]:
    """An origin entry and `count - 1` others; another `cut` gives other entries."""
    first = OriginEntry(
        entry_id="0" * 32,
        origin=ORIGIN,
        at=parse_moment("2026-11-21T10:00:00Z"),
        config=None,
        cause=Cause.FIRST,
        previous=None,
        heads=None,
        sealed_slots=4,
        tick=0,
        who=(),
        reason=None,
    )
    return (encode_entry(first), *(_config(number, cut) for number in range(1, count)))


def _config(number: int, cut: str) -> bytes:
    at, digest = parse_moment("2026-11-21T10:04:05Z"), digest_of(f"{cut}{number}".encode())
    entry = ConfigEntry(entry_id=f"{number:032x}", origin=ORIGIN, at=at, config=None, who=(), previous=None, commit="0" * 40, digest=digest)
    return encode_entry(entry)


def note(log: Sequence[bytes]) -> bytes:
    """The signed checkpoint of these entries."""
    text = encode_checkpoint(Checkpoint(ORIGIN, len(log), CompactRange.empty().extend([leaf_hash(entry) for entry in log]).root()))
    return encode_note(Note(text, (NoteSignature(ORIGIN, VKEY.key_id, KEY.sign(text)),)))


def served(log: Sequence[bytes]) -> dict[str, bytes]:
    """Every file below `/log/`: checkpoint, tiles, bundles. At most 256 entries have proofs."""
    edge, full = TileEdge().extend([leaf_hash(entry) for entry in log])
    files = {"checkpoint": note(log), **{tile.address.path: tile.data for tile in (*full, *edge.partial_tiles())}}
    for n in range(-(-len(log) // 256)):
        some = log[n * 256 : (n + 1) * 256]
        files[TileAddress(None, n, len(some)).path] = encode_bundle(some)
    if len(log) < 256:
        files |= {f"proof/{index}": proof(log, index) for index in range(len(log))}
    return files


def proof(log: Sequence[bytes], index: int) -> bytes:
    """A `.tlog-proof` of one of fewer than 256 entries."""
    tile = TileEdge().extend([leaf_hash(entry) for entry in log])[0].partial[0]
    return encode_proof(TlogProof(index, prove_inclusion(index, len(log), lambda level, n: node_from_tile(tile, level, n)), note(log)))


def write(files: dict[str, bytes], directory: Path) -> Path:
    """The files on disk, with the layout they are served with."""
    for path, data in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    return directory
