"""Trees of the log: rebuilding the right edge from stored rows, and reading tiles and nodes of a published tree.

Everything read here is checked against a root that was signed or committed; a contradiction is `LogRefused`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gatekeeper.ports.log import LogRefused, LogStore
from gatekeeper.tlog.merkle import HASH_SIZE, CompactRange, Node, nodes_for_root
from gatekeeper.tlog.tile import TILE_BYTES, TILE_WIDTH, TileEdge, encode_bundle, node_from_tile, tile_of_node, tile_root, tile_width

CHUNK: Final = 4096
"""Leaf hashes read at once."""
CACHED_TILES: Final = 1024
"""Full tiles of 8 KiB kept in memory; they never change."""


def refused(detail: str) -> LogRefused:
    """The log contradicts itself."""
    return LogRefused("log-refused", detail)


@dataclass(frozen=True)
class Published:
    """A signed note, its size, when this replica knew it as published, and the right edge of its tree."""

    note: bytes
    size: int
    at: datetime
    edge: TileEdge = field(repr=False)


class TreeReader:
    """Reads tiles of one origin. Full tiles are cached; partial ones come from an edge, so they are exactly of its size."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._cache: OrderedDict[Node, bytes] = OrderedDict()

    async def rebuild(self, size: int) -> TileEdge:
        """The edge of the tree of that size, from stored leaf hashes and full tiles."""
        width = size % TILE_WIDTH
        hashes = await self._store.read_leaf_hashes(size - width, width) if width else []
        levels = [b"".join(hashes)]
        while size >> (8 * len(levels)):
            below = len(levels) - 1
            count = size >> (8 * len(levels))
            first = count - count % TILE_WIDTH
            levels.append(b"".join([tile_root(await self._full(below, n)) for n in range(first, count)]))
        try:
            return TileEdge(size, tuple(levels) if size else ())
        except ValueError:
            raise refused("leaf hashes are missing below the head") from None

    async def advance(self, edge: TileEdge, size: int) -> TileEdge:
        """The edge after the stored entries up to `size`."""
        while edge.size < size:
            hashes = await self._store.read_leaf_hashes(edge.size, min(CHUNK, size - edge.size))
            if not hashes or any(len(item) != HASH_SIZE for item in hashes):
                raise refused("leaf hashes are missing below the head")
            edge, _ = edge.extend(hashes)
        return edge

    async def tile(self, edge: TileEdge, level: int, n: int, width: int = TILE_WIDTH) -> bytes | None:
        """The first `width` hashes of a tile of the edge's tree, or None where that tree has not so many."""
        present = tile_width(level, n, edge.size)
        if not 1 <= width <= present:
            return None
        data = await self._full(level, n) if present == TILE_WIDTH else edge.partial[level]
        return data[: width * HASH_SIZE]

    async def bundle(self, edge: TileEdge, n: int, width: int = TILE_WIDTH) -> bytes | None:
        """The first `width` entries of a bundle, or None where the edge's tree has not so many."""
        if not 1 <= width <= tile_width(0, n, edge.size):
            return None
        entries = await self._store.read_entries(n * TILE_WIDTH, width)
        if len(entries) != width:
            raise refused("entries are missing below the head")
        return encode_bundle(entries)

    async def nodes(self, edge: TileEdge, wanted: Iterable[Node]) -> Mapping[Node, bytes]:
        """Hashes of complete subtrees of the edge's tree."""
        found: dict[Node, bytes] = {}
        for level, n in wanted:
            address = tile_of_node(level, n, edge.size)
            data = await self.tile(edge, address.level or 0, address.n, address.width)
            if data is None:
                raise refused("a tile is missing below the head")
            found[level, n] = node_from_tile(data, level, n)
        return found

    async def root_at(self, edge: TileEdge, size: int) -> bytes:
        """The root that the edge's tree had when it was `size` entries long."""
        return (await self.range_at(edge, size)).root()

    async def range_at(self, edge: TileEdge, size: int) -> CompactRange:
        """The compact range of the first `size` entries."""
        if size > edge.size:
            raise refused("a note is ahead of the database")
        wanted = nodes_for_root(size)
        found = await self.nodes(edge, wanted)
        return CompactRange(size, tuple(found[node] for node in wanted))

    async def _full(self, level: int, n: int) -> bytes:
        data = self._cache.get((level, n))
        if data is None:
            data = await self._store.read_tile(level, n)
            if data is None or len(data) != TILE_BYTES:
                raise refused("a full tile is missing below the head")
            self._cache[level, n] = data
            while len(self._cache) > CACHED_TILES:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end((level, n))
        return data
