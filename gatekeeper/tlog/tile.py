"""Tiles and entry bundles of C2SP tlog-tiles: paths, widths, bytes, and the tiles of a growing tree.

A tile holds up to 256 hashes of one level; a level here is eight levels of the tree. A bundle holds the entries of one tile of level 0.
A partial tile (1 to 255 hashes) is only ever read from the left; it is never hashed upward.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .errors import MalformedTile
from .merkle import HASH_SIZE, CompactRange, node_hash
from .spelling import MAX_SIZE

TILE_WIDTH: Final = 256
TILE_BYTES: Final = TILE_WIDTH * HASH_SIZE
MAX_ENTRY: Final = 65_535
MAX_BUNDLE: Final = TILE_WIDTH * (2 + MAX_ENTRY)
MAX_LEVEL: Final = 63

_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)


@dataclass(frozen=True)
class TileAddress:
    """Which tile, or which bundle where `level` is None, and how many of its hashes or entries."""

    level: int | None
    n: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if self.level is not None and not 0 <= self.level <= MAX_LEVEL:
            raise MalformedTile("a tile's level lies between 0 and 63")
        if not 0 <= self.n <= MAX_SIZE or not 1 <= self.width <= TILE_WIDTH:
            raise MalformedTile("a tile's number is not negative and its width lies between 1 and 256")

    @property
    def path(self) -> str:
        """The path below the log's URL or directory."""
        first, *groups = _groups(self.n)
        number = "/".join(f"x{group}" for group in groups[::-1]) + ("/" if groups else "") + first
        level = "entries" if self.level is None else str(self.level)
        return f"tile/{level}/{number}" + ("" if self.width == TILE_WIDTH else f".p/{self.width}")

    @property
    def leaves(self) -> int:
        """How many leaves stand below each of its hashes or entries."""
        return 1 if self.level is None else 1 << (8 * self.level)

    @property
    def first(self) -> int:
        """Index of the first leaf below the tile."""
        return self.n * TILE_WIDTH * self.leaves


def tile_path(level: int, n: int, width: int = TILE_WIDTH) -> str:
    """`tile/0/x001/x234/067.p/8`; full tiles have no `.p`."""
    return TileAddress(level, n, width).path


def entries_path(n: int, width: int = TILE_WIDTH) -> str:
    """`tile/entries/x001/x234/067.p/8`; full bundles have no `.p`."""
    return TileAddress(None, n, width).path


def parse_tile_path(path: str) -> TileAddress:
    """Read a path without leading slash; every spelling but the one of `TileAddress.path` raises `MalformedTile`."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise MalformedTile("not the path of a tile or entry bundle")
    level, number, width = match.groups()
    n = int(re.sub(r"[x/]", "", number))
    address = TileAddress(None if level == "entries" else int(level), n, int(width) if width else TILE_WIDTH)
    if address.path != path:
        raise MalformedTile("not the one spelling of a tile's path")
    return address


def tile_width(level: int, n: int, size: int) -> int:
    """How many hashes the tile has in a tree of that size: 0 (no such tile) to 256."""
    return max(0, min(TILE_WIDTH, (size >> (8 * level)) - n * TILE_WIDTH))


def tiles_of(size: int) -> tuple[TileAddress, ...]:
    """The rightmost partial tiles of a tree, bottom first: what a checkpoint of this size needs besides full tiles."""
    partial = []
    for level in range(8):
        count = size >> (8 * level)
        if width := count % TILE_WIDTH:
            partial.append(TileAddress(level, count // TILE_WIDTH, width))
    return tuple(partial)


def tile_root(hashes: bytes) -> bytes:
    """The hash of a full tile, which stands in the tile above."""
    if len(hashes) != TILE_BYTES:
        raise MalformedTile("only a full tile of 8192 bytes is hashed upward")
    return _subtree(hashes)


def tile_of_node(level: int, n: int, size: int) -> TileAddress:
    """The tile of a tree of that size from which `node_from_tile` reads the node (level, n)."""
    tile_level, below = divmod(level, 8)
    number = (n << below) // TILE_WIDTH
    width = tile_width(tile_level, number, size)
    if width == 0:
        raise MalformedTile("the tree has no such node")
    return TileAddress(tile_level, number, width)


def node_from_tile(tile: bytes, level: int, n: int) -> bytes:
    """The hash of the complete subtree (level, n), from the bytes of the tile that `tile_of_node` names."""
    below = level % 8
    start = ((n << below) % TILE_WIDTH) * HASH_SIZE
    hashes = tile[start : start + (HASH_SIZE << below)]
    if len(hashes) != HASH_SIZE << below:
        raise MalformedTile("the tile is too short for this node")
    return _subtree(hashes)


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """1 to 256 entries, each behind its length as u16be."""
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise MalformedTile("a bundle has 1 to 256 entries")
    if any(len(entry) > MAX_ENTRY for entry in entries):
        raise MalformedTile("an entry has at most 65535 bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_bundle(data: bytes) -> tuple[bytes, ...]:
    """Read 1 to 256 entries; raises `MalformedTile` where the lengths do not add up."""
    if len(data) > MAX_BUNDLE:
        raise MalformedTile("the bundle is too long")
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data):
            raise MalformedTile("the bundle ends within an entry")
        entries.append(data[at + 2 : end])
        at = end
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise MalformedTile("a bundle has 1 to 256 entries")
    return tuple(entries)


@dataclass(frozen=True)
class Tile:
    """A tile with its bytes."""

    address: TileAddress
    data: bytes


@dataclass(frozen=True)
class TileEdge:
    """The right edge of a growing tree as its partial tiles: what is needed to append, to make every tile, and to know the root."""

    size: int = 0
    partial: tuple[bytes, ...] = ()
    """hashes of the rightmost tile of each level, bottom first, 0 to 255 of them"""

    def __post_init__(self) -> None:
        counts = [(self.size >> (8 * level)) % TILE_WIDTH * HASH_SIZE for level in range(len(self.partial))]
        if self.size >> (8 * len(self.partial)) != 0 or [len(item) for item in self.partial] != counts:
            raise MalformedTile("the partial tiles do not fit the size")

    def extend(self, leaves: Iterable[bytes]) -> tuple[TileEdge, tuple[Tile, ...]]:
        """The edge with more leaf hashes, and the full tiles that they completed, lower levels first."""
        size, levels = self.size, [bytearray(item) for item in self.partial]
        full: list[Tile] = []
        for leaf in leaves:
            size += 1
            node, level = leaf, 0
            while True:
                if level == len(levels):
                    levels.append(bytearray())
                levels[level] += node
                if len(levels[level]) < TILE_BYTES:
                    break
                data = bytes(levels[level])
                full.append(Tile(TileAddress(level, (size >> (8 * (level + 1))) - 1), data))
                levels[level].clear()
                node, level = tile_root(data), level + 1
        return TileEdge(size, tuple(bytes(item) for item in levels)), tuple(full)

    def partial_tiles(self) -> tuple[Tile, ...]:
        """The tiles of `tiles_of(size)`."""
        return tuple(Tile(address, hashes) for address, hashes in zip(tiles_of(self.size), filter(None, self.partial), strict=True))

    def range(self) -> CompactRange:
        """The same tree as a compact range, for its root."""
        edge: list[bytes] = []
        for hashes in reversed(self.partial):
            at = 0
            while at < len(hashes):
                width = 1 << ((len(hashes) - at) // HASH_SIZE).bit_length() - 1
                edge.append(_subtree(hashes[at : at + width * HASH_SIZE]))
                at += width * HASH_SIZE
        return CompactRange(self.size, tuple(edge))

    def root(self) -> bytes:
        """The root of the tree."""
        return self.range().root()


def _subtree(hashes: bytes) -> bytes:
    row = [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def _groups(n: int) -> list[str]:
    # Three digits each, least significant first.
    groups = [f"{n % 1000:03}"]
    while n := n // 1000:
        groups.append(f"{n % 1000:03}")
    return groups
