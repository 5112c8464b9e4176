"""RFC 6962 trees over SHA-256: hashes, the compact range of a growing tree, and proofs.

Verification follows RFC 9162, 2.1.3.2 and 2.1.4.2, which are the algorithms for the same tree; proofs are those of RFC 6962, 2.1.1 and
2.1.2. A *node* is the complete subtree (level, n) over the leaves [n * 2^level, (n + 1) * 2^level).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from .errors import MalformedProof, ProofMismatch
from .spelling import MAX_SIZE

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
MAX_PATH: Final = 63
"""No tree of ours is higher: sizes stay below 2^63."""

Node: TypeAlias = tuple[int, int]
NodeSource: TypeAlias = Callable[[int, int], bytes]
"""The hash of the complete subtree (level, n)."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry as a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees standing next to each other."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class CompactRange:
    """A tree as the hashes of its complete subtrees, largest (leftmost) first: all that is needed to append and to know the root."""

    size: int = 0
    edge: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE or len(self.edge) != self.size.bit_count():
            raise MalformedProof("a compact range has one hash for every bit of its size")
        if any(len(item) != HASH_SIZE for item in self.edge):
            raise MalformedProof("a hash has 32 bytes")

    @classmethod
    def empty(cls) -> CompactRange:
        """The tree of size 0."""
        return cls()

    def append(self, leaf: bytes) -> CompactRange:
        """The tree with one more leaf hash."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> CompactRange:
        """The tree with more leaf hashes, in order."""
        size, edge = self.size, list(self.edge)
        for leaf in leaves:
            node, carry = leaf, size
            # Adding one to the size carries through its low ones; each carry joins two subtrees of equal height.
            while carry & 1:
                node = node_hash(edge.pop(), node)
                carry >>= 1
            edge.append(node)
            size += 1
        return CompactRange(size, tuple(edge))

    def root(self) -> bytes:
        """MTH of RFC 6962, 2.1."""
        return _fold(self.edge) if self.edge else EMPTY_ROOT

    def encode(self) -> bytes:
        """u64be size, then the hashes, largest subtree first."""
        return self.size.to_bytes(8, "big") + b"".join(self.edge)

    @classmethod
    def parse(cls, data: bytes) -> CompactRange:
        """Read what `encode` wrote; anything else raises `MalformedProof`."""
        size = int.from_bytes(data[:8], "big")
        if len(data) != 8 + HASH_SIZE * size.bit_count():
            raise MalformedProof("a compact range has one hash for every bit of its size")
        return cls(size, tuple(data[at : at + HASH_SIZE] for at in range(8, len(data), HASH_SIZE)))


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf hash stands at `index` in the tree (RFC 9162, 2.1.3.2); raises `ProofMismatch`."""
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofMismatch("the index is not below the tree size")
    if len(leaf) != HASH_SIZE:
        raise ProofMismatch("a leaf hash has 32 bytes")
    _bound_path(path)
    fn, sn, node = index, size - 1, leaf
    for sibling in path:
        if sn == 0:
            raise ProofMismatch("the inclusion path is too long")
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1:  # ends: fn is odd, or sn, which is not 0
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise ProofMismatch("the inclusion path is too short")
    if node != root:
        raise ProofMismatch("the inclusion path leads to another root")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check that the old tree is a prefix of the new one (RFC 9162, 2.1.4.2); raises `ProofMismatch`.

    An old size of 0 is refused: nothing can be proven about an empty tree, and a caller that has no memory must say so itself.
    """
    if not 0 < old_size <= new_size <= MAX_SIZE:
        raise ProofMismatch("the old size is 0 or above the new one")
    _bound_path(path)
    if old_size == new_size:
        if path:
            raise ProofMismatch("equal sizes need no consistency path")
        if old_root != new_root:
            raise ProofMismatch("two roots of one size differ")
        return
    if not path:
        raise ProofMismatch("the consistency path is too short")
    fn, sn = old_size - 1, new_size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    rest = list(path)
    # An old size that is a power of two is itself the first node of the path.
    fr = sr = old_root if old_size & (old_size - 1) == 0 else rest.pop(0)
    for sibling in rest:
        if sn == 0:
            raise ProofMismatch("the consistency path is too long")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(sibling, fr), node_hash(sibling, sr)
            while not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise ProofMismatch("the consistency path is too short")
    if fr != old_root or sr != new_root:
        raise ProofMismatch("the consistency path leads to other roots")


def nodes_for_inclusion(index: int, size: int) -> frozenset[Node]:
    """The nodes that `prove_inclusion` will ask for."""
    return _nodes(_inclusion_ranges(index, size))


def nodes_for_consistency(old: int, new: int) -> frozenset[Node]:
    """The nodes that `prove_consistency` will ask for."""
    return _nodes(_consistency_ranges(old, new))


def nodes_for_root(size: int) -> tuple[Node, ...]:
    """The complete subtrees that make up a tree, largest first: the hashes of its `CompactRange`."""
    return _complete(0, size)


def prove_inclusion(index: int, size: int, node: NodeSource) -> tuple[bytes, ...]:
    """PATH of RFC 6962, 2.1.1: leaf's sibling first. Raises `ProofMismatch` where the index is not below the size."""
    return tuple(_range_hash(low, high, node) for low, high in _inclusion_ranges(index, size))


def prove_consistency(old: int, new: int, node: NodeSource) -> tuple[bytes, ...]:
    """PROOF of RFC 6962, 2.1.2. Empty where the sizes are equal, or the old one is 0; raises `ProofMismatch` where it is larger."""
    return tuple(_range_hash(low, high, node) for low, high in _consistency_ranges(old, new))


def _bound_path(path: Sequence[bytes]) -> None:
    if len(path) > MAX_PATH:
        raise ProofMismatch(f"a path has at most {MAX_PATH} hashes")
    if any(len(item) != HASH_SIZE for item in path):
        raise ProofMismatch("a path consists of hashes of 32 bytes")


def _fold(hashes: Sequence[bytes]) -> bytes:
    node = hashes[-1]
    for left in reversed(hashes[:-1]):
        node = node_hash(left, node)
    return node


def _split(count: int) -> int:
    # The largest power of two smaller than count (RFC 6962, 2.1).
    return 1 << ((count - 1).bit_length() - 1)


def _inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    if not 0 <= index < size:
        raise ProofMismatch("the index is not below the tree size")
    ranges: list[tuple[int, int]] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return ranges[::-1]


def _consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    if not 0 <= old <= new:
        raise ProofMismatch("the old size is above the new one")
    if old == 0:
        return []
    ranges: list[tuple[int, int]] = []
    low, high = 0, new
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    if low:
        ranges.append((low, high))
    return ranges[::-1]


def _complete(low: int, high: int) -> tuple[Node, ...]:
    # low is a multiple of a power of two that is at least high - low, as in every range of a proof.
    nodes: list[Node] = []
    while low < high:
        level = (high - low).bit_length() - 1
        nodes.append((level, low >> level))
        low += 1 << level
    return tuple(nodes)


def _nodes(ranges: list[tuple[int, int]]) -> frozenset[Node]:
    return frozenset(node for low, high in ranges for node in _complete(low, high))


def _range_hash(low: int, high: int, node: NodeSource) -> bytes:
    return _fold([node(level, n) for level, n in _complete(low, high)])
