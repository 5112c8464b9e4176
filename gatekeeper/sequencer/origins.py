"""The origins of a log that were closed: served for ever up to their last signed checkpoint, and shown to targets that still remember them.

A closed origin is read from its rows and never written. After a loss its rows end before its last signed note does; then what the database has is
served under the newest note that its rows bear out, and the hashes of the lost tail come from the partial tiles that the vault kept beside the note.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import trio

from gatekeeper.model.moment import Moment
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.log import LogStore
from gatekeeper.ports.origins import OriginStore
from gatekeeper.ports.vault import LogVault
from gatekeeper.tlog.checkpoint import Checkpoint, VerifiedCheckpoint, parse_checkpoint
from gatekeeper.tlog.consistency import Growth, encode_growth
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.kinds import OriginEntry
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.merkle import node_hash, nodes_for_consistency, nodes_for_inclusion, prove_consistency, prove_inclusion
from gatekeeper.tlog.note import parse_note
from gatekeeper.tlog.origins import MAX_CROSSINGS, Crossing, encode_crossings, origin_of_note, origin_tail, parse_edge
from gatekeeper.tlog.proof import TlogProof, encode_proof
from gatekeeper.tlog.signature import VerifierKey
from gatekeeper.tlog.tile import TILE_WIDTH, TileEdge, node_from_tile

from .publisher import Publisher
from .sequencer import LOG_GONE
from .signer import NoteSigner, SigningKey
from .tree import Published, TreeReader, refused
from .witnessing import Witnessing, WitnessPlan

_logger = logging.getLogger(__name__)


class NodeLost(Exception):
    """A hash of a closed tree that neither the rows nor the kept partial tiles have."""


class ClosedLog:
    """One closed origin. `published` is None until the first look."""

    def __init__(self, store: LogStore, clock: Callable[[], datetime]) -> None:
        self._store, self._clock, self._reader = store, clock, TreeReader(store)
        self._view: Published | None = None
        self._whole = TileEdge()
        self._looking = trio.Lock()

    async def view(self) -> Published:
        """The newest stored checkpoint that the rows bear out. Raises `Unavailable` and `LogRefused`."""
        async with self._looking:
            if self._view is None:
                head = await self._store.load_head()
                self._whole = await self._reader.rebuild(head.size)
                self._view = await self._newest()
            return self._view

    async def _newest(self) -> Published:
        note = await self._store.newest_checkpoint()
        if note is None:
            raise refused("nothing of this closed origin was ever signed")
        told = _read_note(note)
        edge = await self._reader.rebuild(told.size)
        if edge.root() != told.root:
            raise refused("the last checkpoint of this closed origin is of another tree than the database's")
        return Published(note, told.size, self._clock(), edge)

    async def first(self) -> OriginEntry:
        """Entry 0."""
        return (await self._first())[1]

    async def _first(self) -> tuple[bytes, OriginEntry]:
        return await read_first(self._store)

    async def tile(self, level: int, n: int, width: int = TILE_WIDTH) -> bytes | None:
        """See `Sequencer.tile`."""
        return await self._reader.tile((await self.view()).edge, level, n, width)

    async def entries(self, n: int, width: int = TILE_WIDTH) -> bytes | None:
        """See `Sequencer.entries`."""
        return await self._reader.bundle((await self.view()).edge, n, width)

    async def proof(self, index: int) -> bytes | None:
        """A `.tlog-proof`, or None where the served tree has no such entry."""
        view = await self.view()
        if not 0 <= index < view.size:
            return None
        nodes = await self._reader.nodes(view.edge, nodes_for_inclusion(index, view.size))
        return encode_proof(TlogProof(index, prove_inclusion(index, view.size, lambda level, n: nodes[level, n]), view.note))

    async def growth(self, old: int, note: bytes, kept: TileEdge) -> bytes:
        """From `old` entries to the signed `note`, which may be ahead of the rows. Raises `NodeLost` where a hash is known to nobody any more."""
        told = _read_note(note)
        if not 0 < old <= told.size:
            raise NodeLost
        await self.view()
        nodes = {}
        for level, n in nodes_for_consistency(old, told.size):
            nodes[level, n] = await self._node(level, n, kept if kept.size == told.size and kept.root() == told.root else TileEdge())
        path = prove_consistency(old, told.size, lambda level, n: nodes[level, n]) if old < told.size else ()
        return encode_growth(Growth(old, path, note))

    async def _node(self, level: int, n: int, kept: TileEdge) -> bytes:
        if (n + 1) << level <= self._whole.size:
            return (await self._reader.nodes(self._whole, ((level, n),)))[level, n]
        at, below = divmod(level, 8)
        if at < len(kept.partial):
            count = kept.size >> (8 * at)
            first, end = n << below, (n + 1) << below
            if count - count % TILE_WIDTH <= first and end <= count:
                return node_from_tile(kept.partial[at], level, n)
        if level == 0:
            raise NodeLost
        # The right half first: where anything of it is lost, the kept tiles say so at once.
        right = await self._node(level - 1, 2 * n + 1, kept)
        return node_hash(await self._node(level - 1, 2 * n, kept), right)


@dataclass(frozen=True)
class _Step:
    """One origin and what it was closed by."""

    origin: str
    log: ClosedLog
    following: str
    entry: bytes
    """entry 0 of the following one"""
    previous: bytes
    kept: TileEdge
    until: Moment


class ClosedOrigins:
    """`ports.origins.Origins` over the rows of every origin but the open one. Made by `open_origins`."""

    def __init__(self, steps: Mapping[str, _Step]) -> None:
        self._steps = steps
        self._tails = {origin_tail(origin): step.log for origin, step in steps.items()}

    def by_tail(self, tail: str) -> ClosedLog | None:
        """The closed origin whose last part this is."""
        return self._tails.get(tail)

    def is_closed(self, origin: str) -> bool:
        """See `Origins.is_closed`."""
        return origin in self._steps

    def closed_at(self, when: datetime) -> str | None:
        """See `Origins.closed_at`."""
        open_then = [step for step in self._steps.values() if when < step.until]
        return min(open_then, key=lambda step: step.until).origin if open_then else None

    async def prove(self, origin: str, index: int) -> bytes:
        """See `Origins.prove`."""
        step = self._steps.get(origin)
        proof = None if step is None else await step.log.proof(index)
        if proof is None:
            raise Unavailable(LOG_GONE, f"there is no origin {origin} here with an entry {index}")
        return proof

    async def crossings(self, origin: str, size: int, proof: bytes) -> bytes | None:
        """See `Origins.crossings`."""
        found: list[Crossing] = []
        while (step := self._steps.get(origin)) is not None and len(found) < MAX_CROSSINGS:
            try:
                growth = await step.log.growth(size, step.previous, step.kept)
            except NodeLost:
                return None
            following = self._steps.get(step.following)
            if following is None:
                found.append(Crossing(step.entry, growth, proof))
                return encode_crossings(found)
            between = await following.log.proof(0)
            if between is None:
                return None
            found.append(Crossing(step.entry, growth, between))
            origin, size = step.following, (await following.log.view()).size
        return None


async def open_origins(stores: Mapping[str, LogStore], kept: OriginStore, open_origin: str, clock: Callable[[], datetime]) -> ClosedOrigins:
    """Find out which origin follows which, from their entries 0. `stores` has every origin, the open one too.

    An origin whose rows contradict themselves is left out with an alarm: what the others serve does not depend on it. Raises `Unavailable`.
    """
    firsts: dict[str, tuple[bytes, OriginEntry]] = {}
    for origin, store in stores.items():
        try:
            await store.load_head()
            firsts[origin] = await read_first(store)
        except PortError as error:
            if isinstance(error, Unavailable):
                raise
            _logger.critical("the origin %s cannot be served: %s", origin, error.detail)
    steps: dict[str, _Step] = {}
    for origin, (data, entry) in firsts.items():
        if entry.previous is None:
            continue
        previous = entry.previous.encode()
        before = origin_of_note(previous)
        if before not in firsts or before == open_origin:
            continue
        record = await kept.opening(origin)
        edge = _edge(None if record is None else record.closing_edge)
        steps[before] = _Step(before, ClosedLog(stores[before], clock), origin, data, previous, edge, entry.at)
    return ClosedOrigins(steps)


async def demand_startable(
    store: LogStore, vault: LogVault, key: VerifierKey, clock: Callable[[], datetime], *, past: tuple[VerifierKey, ...] = ()
) -> None:
    """The checks of "Start" (log format, 6), nothing signed or written; `past` are keys that signed stored notes before.

    Raises `LogRefused` where a gatekeeper would refuse, and `Unavailable`.
    """
    reader, signer = TreeReader(store), NoteSigner(SigningKey(key, vault), past=past, clock=clock)
    await Publisher(store, vault, reader, signer, clock, Witnessing(WitnessPlan(LogPolicy(log=key)), reader)).verify_heads()


async def demand_tree_of(store: LogStore, known: VerifiedCheckpoint) -> None:
    """That a signed note is of the tree that the rows are. Raises `LogRefused` and `Unavailable`."""
    reader, head = TreeReader(store), await store.load_head()
    if await reader.root_at(await reader.rebuild(head.size), known.size) != known.root:
        raise refused("a signed note is of another tree than the database's")


async def read_first(store: LogStore) -> tuple[bytes, OriginEntry]:
    """Entry 0 of an origin, as bytes and read. Raises `LogRefused` where it is none."""
    rows: Sequence[bytes] = await store.read_entries(0, 1)
    try:
        entry = parse_entry(rows[0]) if rows else None
    except TlogError:
        entry = None
    if not isinstance(entry, OriginEntry):
        raise refused("entry 0 does not open an origin")
    return rows[0], entry


def _edge(data: bytes | None) -> TileEdge:
    try:
        return TileEdge() if data is None else parse_edge(data)
    except TlogError:
        return TileEdge()


def _read_note(note: bytes) -> Checkpoint:
    try:
        return parse_checkpoint(parse_note(note).text)
    except TlogError:
        raise refused("a stored checkpoint does not parse") from None
