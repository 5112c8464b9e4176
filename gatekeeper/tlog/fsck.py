"""The check of a whole log below a signed checkpoint: every entry rehashed, every tile compared, the root recomputed.

Invariants, in the order they are looked at for each entry:
1. bundles have the lengths that the signed size gives, and their framing adds up;
2. the entry hashes to its place in the tile of level 0;
3. it parses (a kind not known is kept), names this origin, and only index 0 is of kind `origin`;
4. its `entry_id` stands nowhere before it;
5. every higher tile is what the entries hash to;
6. at the size of an older checkpoint the root is that checkpoint's: it is a prefix;
7. the root over all is the signed one.

`check_log` does no I/O: it is a generator that asks for one bundle or tile after the other and is sent its bytes, so the same check runs
over HTTP, a directory and database rows, in blocking and in async code. What grows with the log is the set of `entry_id`s alone: the one
of this module is a set in memory, about 100 bytes an entry; `gatekeeper.logcheck.ids` has one whose memory stays flat.

What it cannot tell: what was never logged; and without an older checkpoint whether a tail was cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol, TypeAlias

from .checkpoint import VerifiedCheckpoint
from .entry import Kind, UnknownEntry, parse_entry
from .errors import MalformedEntry, MalformedTile
from .merkle import HASH_SIZE, leaf_hash
from .tile import TILE_BYTES, TILE_WIDTH, Tile, TileAddress, TileEdge, parse_bundle, tile_width, tiles_of

Fetch: TypeAlias = Callable[[TileAddress], bytes | None]
"""Bytes of a tile or bundle, or None where the source has none. A source that keeps full tiles only answers None for partial ones; one
that keeps rows makes a bundle of the rows that exist, in order of their index."""
LogCheck: TypeAlias = Generator[TileAddress, "bytes | None", "FsckReport"]


class IdSet(Protocol):
    """The `entry_id`s met so far."""

    def add(self, index: int, entry_id: bytes) -> None:
        """Take the 16 bytes of an entry; indices come ascending."""
        ...

    def repeated(self) -> int | None:
        """The smallest index of an id that was taken before. Asked once, at the end."""
        ...


class MemoryIds:
    """An `IdSet` for logs that fit into memory."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._repeated: int | None = None

    def add(self, index: int, entry_id: bytes) -> None:
        """See `IdSet`."""
        if entry_id in self._seen and self._repeated is None:
            self._repeated = index
        self._seen.add(entry_id)

    def repeated(self) -> int | None:
        """See `IdSet`."""
        return self._repeated


@unique
class Fault(StrEnum):
    """What is wrong."""

    OTHER_ORIGIN = "other-origin"
    OLDER_IS_LARGER = "older-is-larger"
    NOT_PREFIX = "not-prefix"
    BUNDLE_MISSING = "bundle-missing"
    BUNDLE_MALFORMED = "bundle-malformed"
    ENTRY_MISSING = "entry-missing"
    ENTRY_CHANGED = "entry-changed"
    ENTRY_MALFORMED = "entry-malformed"
    ENTRY_ORIGIN = "entry-origin"
    ENTRY_REPEATED = "entry-repeated"
    TILE_MISSING = "tile-missing"
    TILE_CHANGED = "tile-changed"
    ROOT_CHANGED = "root-changed"


@unique
class Tail(StrEnum):
    """Whether entries may have been cut from the end."""

    PREFIX_HOLDS = "the older checkpoint is a prefix"
    CANNOT_TELL = "cannot tell: no older checkpoint"
    NOT_SHOWN = "not shown: the check ended before the older checkpoint was compared"


@dataclass(frozen=True)
class LogFault:
    """The first thing found wrong. It lies in the entries [first, end): one entry where the tiles tell, else all that they cover."""

    fault: Fault
    first: int
    end: int
    detail: str


@dataclass(frozen=True)
class FsckReport:
    """`fault` is None where everything below `size` is as signed. `kinds` counts the entries checked."""

    origin: str
    size: int
    tail: Tail
    fault: LogFault | None
    kinds: Mapping[str, int]

    @property
    def sound(self) -> bool:
        """Whether nothing was found wrong."""
        return self.fault is None


def fsck(
    checkpoint: VerifiedCheckpoint,
    fetch: Fetch,
    *,
    older: VerifiedCheckpoint | None = None,
    marks: Iterable[VerifiedCheckpoint] = (),
    partials_kept: bool = True,
    schema: bool = True,
    ids: IdSet | None = None,
) -> FsckReport:
    """`check_log` driven by a blocking source, whose own errors pass through."""
    return drive(check_log(checkpoint, older=older, marks=marks, partials_kept=partials_kept, schema=schema, ids=ids), fetch)


def drive(check: LogCheck, fetch: Fetch) -> FsckReport:
    """Answer what a check asks for from a blocking source."""
    try:
        wanted = next(check)
        while True:
            wanted = check.send(fetch(wanted))
    except StopIteration as stop:
        report: FsckReport = stop.value
        return report


def check_log(
    checkpoint: VerifiedCheckpoint,
    *,
    older: VerifiedCheckpoint | None = None,
    marks: Iterable[VerifiedCheckpoint] = (),
    partials_kept: bool = True,
    schema: bool = True,
    ids: IdSet | None = None,
) -> LogCheck:
    """Ask for bundles and tiles, be sent their bytes (None: the source has none), return the report.

    `older` is a checkpoint kept outside the log; `marks` are any others, from the log's own store: they prove nothing more, but narrow
    the place of a fault. With `partials_kept` false the source may lack partial tiles (the database keeps full ones only). `schema` false
    leaves out steps 3 and 4, for logs whose entries are not ours. `ids` is where step 4 keeps what it has met (default: in memory).
    """
    state = _State(checkpoint, older, tuple(marks), schema, MemoryIds() if ids is None else ids)
    return (yield from _check_from(state, partials_kept))


def check_growth(checkpoint: VerifiedCheckpoint, older: VerifiedCheckpoint, *, schema: bool = True) -> LogCheck:
    """As `check_log`, but only of what came after `older`, below which all was checked before.

    The older tree is taken from the tiles and must have the root that was signed for it. An `entry_id` that stands below it is not known
    here, so an entry that repeats one is for the whole check to find.
    """
    state = _State(checkpoint, older, (), schema, MemoryIds())
    try:
        state.compare_heads()
        state.edge = yield from _edge_at(older.size, checkpoint.size)
    except _Found as found:
        return FsckReport(checkpoint.origin, checkpoint.size, state.tail(found.fault), found.fault, {})
    return (yield from _check_from(state, partials_kept=True))


def _check_from(state: _State, partials_kept: bool) -> LogCheck:
    checkpoint, fault = state.checkpoint, None
    try:
        state.compare_heads()
        for n in range(state.edge.size // TILE_WIDTH, -(-checkpoint.size // TILE_WIDTH)):
            yield from _check_bundle(state, n, partials_kept)
        for tile in state.edge.partial_tiles():
            if tile.address.level:
                yield from _check_tile(tile, partials_kept)
        state.compare_roots()
    except _Found as found:
        fault = found.fault
    tail = state.tail(fault)
    # An id that stands twice lies before any other fault, or within it and names its place more closely.
    if (index := state.ids.repeated()) is not None:
        fault = LogFault(Fault.ENTRY_REPEATED, index, index + 1, "its entry_id stands at an earlier index too")
    return FsckReport(checkpoint.origin, checkpoint.size, tail, fault, dict(state.kinds))


def order_of_check(size: int) -> Iterator[TileAddress]:
    """What `check_log` asks for on a sound log of this size, in this order: for sources that fetch ahead."""
    for n in range(-(-size // TILE_WIDTH)):
        width = tile_width(0, n, size)
        yield TileAddress(None, n, width)
        yield TileAddress(0, n, width)
        # The bundle that fills a tile of level 1 is the last of 256, and so on upwards.
        level, below = 1, n + 1
        while width == TILE_WIDTH and below % TILE_WIDTH == 0:
            below //= TILE_WIDTH
            yield TileAddress(level, below - 1)
            level += 1
    yield from (address for address in tiles_of(size) if address.level)


class _Found(Exception):
    def __init__(self, fault: Fault, first: int, end: int, detail: str) -> None:
        super().__init__(detail)
        self.fault = LogFault(fault, first, end, detail)


class _State:
    """What is kept while the entries pass."""

    def __init__(
        self, checkpoint: VerifiedCheckpoint, older: VerifiedCheckpoint | None, marks: tuple[VerifiedCheckpoint, ...], schema: bool, ids: IdSet
    ) -> None:
        self.checkpoint = checkpoint
        self.older = older
        self.schema = schema
        self.edge = TileEdge()
        self.kinds: Counter[str] = Counter()
        self.agreed = 0
        """the largest size at which a signed root was met"""
        self.ids = ids
        known = (checkpoint, *marks) if older is None else (checkpoint, older, *marks)
        # The older checkpoint goes first among equals, so that a fault names it.
        self._ahead = sorted(known, key=lambda item: (item.size, item is not older), reverse=True)

    def compare_heads(self) -> None:
        """All checkpoints are of one log, and none is beyond the one checked."""
        for item in self._ahead:
            if item.origin != self.checkpoint.origin:
                raise _Found(Fault.OTHER_ORIGIN, 0, 0, "the checkpoints are of two origins")
            if item.size > self.checkpoint.size:
                raise _Found(Fault.OLDER_IS_LARGER, self.checkpoint.size, item.size, "a checkpoint with more entries was signed before")
        self.compare_roots()

    def take(self, leaves: Sequence[bytes]) -> tuple[Tile, ...]:
        """Append leaf hashes, comparing each signed root on the way but the last; returns the tiles that became full."""
        full: list[Tile] = []
        while leaves:
            count = min(len(leaves), self._ahead[-1].size - self.edge.size)
            self.edge, tiles = self.edge.extend(leaves[:count])
            full += tiles
            leaves = leaves[count:]
            # At the signed size itself the partial tiles are looked at first: they name the place of a fault more closely.
            if self.edge.size < self.checkpoint.size:
                self.compare_roots()
        return tuple(full)

    def tail(self, fault: LogFault | None) -> Tail:
        """What was learnt about the tail when the check ended."""
        if self.older is None:
            return Tail.CANNOT_TELL
        return Tail.PREFIX_HOLDS if fault is None or 0 < self.older.size <= self.agreed else Tail.NOT_SHOWN

    def compare_roots(self) -> None:
        """Compare the root with every checkpoint of the size reached."""
        size = self.edge.size
        while self._ahead and self._ahead[-1].size == size:
            mark = self._ahead.pop()
            if mark.root != self.edge.root():
                fault = Fault.NOT_PREFIX if mark is self.older else Fault.ROOT_CHANGED
                raise _Found(fault, self.agreed, size, f"the tree does not have the root signed at size {size}")
            self.agreed = size

    def check_entry(self, index: int, entry: bytes) -> None:
        """Steps 3 and 4."""
        if not self.schema:
            return
        try:
            parsed = parse_entry(entry)
        except MalformedEntry as error:
            raise _Found(Fault.ENTRY_MALFORMED, index, index + 1, str(error)) from error
        kind = "unknown" if isinstance(parsed, UnknownEntry) else parsed.KIND.value
        if parsed.origin != self.checkpoint.origin or (kind == Kind.ORIGIN.value) != (index == 0):
            raise _Found(Fault.ENTRY_ORIGIN, index, index + 1, "an entry of another origin, or an origin entry not at index 0")
        self.ids.add(index, bytes.fromhex(parsed.entry_id))
        self.kinds[kind] += 1


def _check_bundle(state: _State, n: int, partials_kept: bool) -> Generator[TileAddress, bytes | None, None]:
    width = tile_width(0, n, state.checkpoint.size)
    first = n * TILE_WIDTH
    data = yield from _fetch(TileAddress(None, n, width))
    if data is None:
        raise _Found(Fault.BUNDLE_MISSING, first, first + width, f"{TileAddress(None, n, width).path} is missing")
    try:
        entries = parse_bundle(data)
    except MalformedTile as error:
        raise _Found(Fault.BUNDLE_MALFORMED, first, first + width, str(error)) from error
    # A full bundle may stand in for a partial one that is gone: only its first entries are below the signed size.
    if len(entries) > width and len(entries) != TILE_WIDTH:
        raise _Found(Fault.BUNDLE_MALFORMED, first, first + width, "the bundle has more entries than its path says")
    entries = entries[:width]
    leaves = [leaf_hash(entry) for entry in entries]
    tile = yield from _fetch_tile(TileAddress(0, n, width), partials_kept)
    for at, (entry, leaf) in enumerate(zip(entries, leaves, strict=True)):
        if tile is not None and tile[at * HASH_SIZE : (at + 1) * HASH_SIZE] != leaf:
            raise _Found(Fault.ENTRY_CHANGED, first + at, first + at + 1, "the entry does not hash to its place in the tile")
        if first + at >= state.edge.size:
            state.check_entry(first + at, entry)
    if len(entries) < width:
        raise _Found(Fault.ENTRY_MISSING, first + len(entries), first + width, "the bundle ends before the signed size")
    known = state.edge.size - first
    if known and b"".join(leaves[:known]) != state.edge.partial[0]:
        raise _Found(Fault.ENTRY_CHANGED, first, first + known, "an entry is not what was checked before")
    for full in state.take(leaves[known:]):
        if full.address.level:
            yield from _check_tile(full, partials_kept)


def _check_tile(expected: Tile, partials_kept: bool) -> Generator[TileAddress, bytes | None, None]:
    served = yield from _fetch_tile(expected.address, partials_kept)
    if served is None or served == expected.data:
        return
    at = next(at for at in range(0, len(served), HASH_SIZE) if served[at : at + HASH_SIZE] != expected.data[at : at + HASH_SIZE])
    leaves = expected.address.leaves
    first = expected.address.first + at // HASH_SIZE * leaves
    raise _Found(Fault.TILE_CHANGED, first, first + leaves, f"{expected.address.path} is not what the entries hash to")


def _edge_at(size: int, grown: int) -> Generator[TileAddress, bytes | None, TileEdge]:
    """The right edge of a tree of that size, from the tiles of the one that it grew to."""
    levels: list[bytes] = []
    while size >> (8 * len(levels)):
        level = len(levels)
        n = (size >> (8 * level)) // TILE_WIDTH
        tile = b""
        if width := tile_width(level, n, size):
            address = TileAddress(level, n, tile_width(level, n, grown))
            tile = _fitting(address, (yield from _fetch(address)))
        levels.append(tile[: width * HASH_SIZE])
    return TileEdge(size, tuple(levels))


def _fetch_tile(address: TileAddress, partials_kept: bool) -> Generator[TileAddress, bytes | None, bytes | None]:
    data = yield from _fetch(address)
    if data is None and address.width < TILE_WIDTH and not partials_kept:
        return None
    return _fitting(address, data)


def _fitting(address: TileAddress, data: bytes | None) -> bytes:
    first, end = address.first, address.first + address.width * address.leaves
    if data is None:
        raise _Found(Fault.TILE_MISSING, first, end, f"{address.path} is missing")
    if len(data) not in {address.width * HASH_SIZE, TILE_BYTES}:
        raise _Found(Fault.TILE_CHANGED, first, end, f"{address.path} has another length")
    return data[: address.width * HASH_SIZE]


def _fetch(address: TileAddress) -> Generator[TileAddress, bytes | None, bytes | None]:
    # Partial tiles may go once the full one exists (tlog-tiles): clients fall back.
    data = yield address
    if data is None and address.width < TILE_WIDTH:
        data = yield TileAddress(address.level, address.n)
    return data
