"""The check of a log over the database's own rows: what an operator runs where no served copy is to be believed. Reads only.

`tlog.fsck` does the checking; here its questions are answered from the tables. Two things it cannot see are checked beside it: that the
column `leaf_hash`, from which partial tiles and proofs are made, is the hash of the row's body, and that the column `entry_id`, by which
entries are looked up, is the body's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from gatekeeper.logcheck.ids import SpillingIds
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint
from gatekeeper.tlog.fsck import Fault, FsckReport, IdSet, LogCheck, LogFault, check_log
from gatekeeper.tlog.merkle import HASH_SIZE, leaf_hash
from gatekeeper.tlog.signature import VerifierKey
from gatekeeper.tlog.tile import TILE_WIDTH, TileAddress, encode_bundle

from .bridge import Row
from .log_rows import LogRows, open_log_rows

CHUNK: Final = 16 * TILE_WIDTH
"""Rows read at once."""
MARKS: Final = 4096
"""Most stored checkpoints that are compared on the way; the newest ones. They narrow the place of a fault, and prove nothing more."""


@dataclass(frozen=True)
class RowsReport:
    """What the check found. `beyond` rows stand above the newest stored checkpoint: durable, and not signed yet."""

    report: FsckReport
    beyond: int


async def check_rows(
    url: str,
    key: VerifierKey,
    *,
    also: tuple[VerifierKey, ...] = (),
    older: VerifiedCheckpoint | None = None,
    progress: Callable[[int], Callable[[int], None] | None] = lambda _: None,
) -> RowsReport:
    """Check every row of the log whose key this is, below its newest stored checkpoint. `older` is one kept outside.

    `also` are the keys before and after it that signed stored checkpoints.
    `progress` is told the size at the beginning; what it returns is told how many entries are done, now and then. Memory stays flat.

    Raises `Unavailable` where the database does not answer, `NoLog`, and `LogRefused` where a stored checkpoint is not signed by the key.
    """
    async with open_log_rows(url, key, *also, connections=2) as stored:
        newest, *marks = await stored.checkpoints(MARKS)
        tell = progress(newest.size)
        with SpillingIds() as ids:
            async with trio.open_nursery() as nursery:
                # One chunk is read while the one before is checked.
                send, receive = trio.open_memory_channel[_Chunk](0)
                nursery.start_soon(_read_ahead, stored, newest.size, send)
                rows = _Rows(stored, receive, ids)
                checking = check_log(newest, older=older, marks=marks, partials_kept=False, ids=rows)
                report = await _driven(checking, rows, tell)
                nursery.cancel_scope.cancel()
        if rows.odd is not None and (report.fault is None or rows.odd.first <= report.fault.first):
            report = replace(report, fault=rows.odd)
        # More than a bundle of unsigned rows is the alarm of a running gatekeeper, not a number to be exact about.
        return RowsReport(report, len(await stored.read(newest.size, newest.size + TILE_WIDTH)))


async def _driven(checking: LogCheck, rows: _Rows, tell: Callable[[int], None] | None) -> FsckReport:
    try:
        wanted = next(checking)
        while True:
            if tell is not None and wanted.level is None:
                tell(wanted.n * TILE_WIDTH)
            # Otherwise the reader would not come to ask for the next chunk before this one is done.
            await trio.lowlevel.checkpoint()
            wanted = checking.send(await rows.fetch(wanted))
    except StopIteration as stop:
        report: FsckReport = stop.value
        return report


@dataclass(frozen=True)
class _Chunk:
    """The rows of a few bundles, and the stored tiles of level 0 over them."""

    start: int
    rows: Sequence[Row]
    tiles: Mapping[int, bytes]


async def _read_ahead(stored: LogRows, size: int, send: trio.MemorySendChannel[_Chunk]) -> None:
    for start in range(0, size, CHUNK):
        stop = min(start + CHUNK, size)
        await send.send(_Chunk(start, await stored.read(start, stop), await stored.tiles(0, start // TILE_WIDTH, -(-stop // TILE_WIDTH))))


class _Rows:
    """The rows of one log as the source of bundles and tiles; also the set of their ids, which looks at the column of each on the way."""

    def __init__(self, stored: LogRows, chunks: trio.MemoryReceiveChannel[_Chunk], ids: IdSet) -> None:
        self._stored, self._chunks, self._ids = stored, chunks, ids
        self._chunk = _Chunk(-CHUNK, (), {})
        self._bundle: tuple[int, Sequence[Row]] = (-1, ())
        self.odd: LogFault | None = None
        """the first thing wrong that the check itself cannot see"""

    async def fetch(self, address: TileAddress) -> bytes | None:
        """What `check_log` asks for. It asks for the bundles in order, each tile of level 0 after its bundle."""
        if address.level is None:
            while address.n * TILE_WIDTH >= self._chunk.start + CHUNK:
                self._chunk = await self._chunks.receive()
            self._take(address.n)
            return encode_bundle([row["body"] for row in self._bundle[1]]) if self._bundle[1] else None
        if address.width < TILE_WIDTH:
            return self._partial_leaves(address) if address.level == 0 else None
        return self._chunk.tiles.get(address.n) if address.level == 0 else await self._stored.tile(address.level, address.n)

    def add(self, index: int, entry_id: bytes) -> None:
        """See `IdSet`; also compares the id with the row's own column."""
        n, rows = self._bundle
        if self.odd is None and rows[index - n * TILE_WIDTH]["entry_id"] != entry_id.hex():
            self.odd = LogFault(Fault.ENTRY_CHANGED, index, index + 1, "the row's entry_id is not its body's")
        self._ids.add(index, entry_id)

    def repeated(self) -> int | None:
        """See `IdSet`."""
        return self._ids.repeated()

    def _take(self, n: int) -> None:
        first = n * TILE_WIDTH
        rows = [row for row in self._chunk.rows if first <= row["idx"] < first + TILE_WIDTH]
        self._bundle = (n, rows)
        for index, row in enumerate(rows, first):
            if self.odd is not None:
                return
            if row["idx"] != index:
                self.odd = LogFault(Fault.ENTRY_MISSING, index, row["idx"], "the row is missing")
            elif leaf_hash(row["body"]) != row["leaf_hash"]:
                self.odd = LogFault(Fault.ENTRY_CHANGED, index, index + 1, "the row's body does not hash to its leaf_hash")

    def _partial_leaves(self, address: TileAddress) -> bytes:
        # A missing row leaves zeros at its place, so that the fault is found there and not at the row after it.
        first = address.n * TILE_WIDTH
        hashes = {row["idx"] - first: row["leaf_hash"] for row in self._bundle[1]}
        return b"".join(hashes.get(at, bytes(HASH_SIZE)) for at in range(address.width))
