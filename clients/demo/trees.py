"""A log as somebody holds it who has all its entries: served by a gatekeeper, or forked from it in private."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint, parse_checkpoint
from gatekeeper.tlog.consistency import Growth, encode_growth
from gatekeeper.tlog.merkle import CompactRange, leaf_hash, node_hash, prove_consistency, prove_inclusion
from gatekeeper.tlog.note import parse_note
from gatekeeper.tlog.proof import TlogProof, encode_proof
from gatekeeper.tlog.tile import TILE_WIDTH, entries_path, parse_bundle

from .calls import call
from .telling import StepFailed
from .world import InstanceWorld


@dataclass(frozen=True)
class Tree:
    """All entries of a log, and a signed note over exactly these."""

    entries: tuple[bytes, ...]
    note: bytes

    def proof(self, index: int) -> bytes:
        """The `.tlog-proof` of one entry."""
        return encode_proof(TlogProof(index, prove_inclusion(index, len(self.entries), self._node()), self.note))

    def growth(self, old: int) -> bytes:
        """That the first `old` entries are those of this tree. Of another tree's `old` this is what a liar would send."""
        path = prove_consistency(old, len(self.entries), self._node()) if old < len(self.entries) else ()
        return encode_growth(Growth(old, path, self.note))

    def _node(self) -> Callable[[int, int], bytes]:
        return partial(_node, self.entries)


def signed_tree(origin: str, entries: tuple[bytes, ...], sign: Callable[[bytes], bytes]) -> Tree:
    """A tree of any entries; `sign` makes a signed note of a checkpoint's text."""
    root = CompactRange.empty().extend(leaf_hash(entry) for entry in entries).root()
    return Tree(entries, sign(encode_checkpoint(Checkpoint(origin, len(entries), root))))


def served_tree(instance: InstanceWorld) -> Tree:
    """What the gatekeeper publishes now. The log is public: whoever asks gets all of it."""
    note = _get(instance, "checkpoint")
    size = parse_checkpoint(parse_note(note).text).size
    entries: list[bytes] = []
    while len(entries) < size:
        width = min(TILE_WIDTH, size - len(entries))
        entries += parse_bundle(_get(instance, entries_path(len(entries) // TILE_WIDTH, width)))
    return Tree(tuple(entries), note)


def _node(entries: tuple[bytes, ...], level: int, n: int) -> bytes:
    if level == 0:
        return leaf_hash(entries[n])
    return node_hash(_node(entries, level - 1, 2 * n), _node(entries, level - 1, 2 * n + 1))


def _get(instance: InstanceWorld, path: str) -> bytes:
    found = call(instance, f"/log/{path}")
    if found.status != 200:
        raise StepFailed(f"the log of {instance.name} serves no {path}: {found.status}")
    return found.body
