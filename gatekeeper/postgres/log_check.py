"""The check of a log over the database's own rows: what an operator runs where no served copy is to be believed. Reads only.

`tlog.fsck` does the checking; here its questions are answered from the tables. Two things it cannot see are checked beside it: that the
column `leaf_hash`, from which partial tiles and proofs are made, is the hash of the row's body, and that the column `entry_id`, by which
entries are looked up, is the body's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gatekeeper.tlog.checkpoint import VerifiedCheckpoint
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import MalformedEntry
from gatekeeper.tlog.fsck import Fault, FsckReport, LogFault, check_log
from gatekeeper.tlog.merkle import HASH_SIZE, leaf_hash
from gatekeeper.tlog.signature import VerifierKey
from gatekeeper.tlog.tile import TILE_WIDTH, TileAddress, encode_bundle

from .bridge import Row
from .log_rows import LogRows, open_log_rows

MARKS: Final = 4096
"""Most stored checkpoints that are compared on the way; the newest ones. They narrow the place of a fault, and prove nothing more."""


@dataclass(frozen=True)
class RowsReport:
    """What the check found. `beyond` rows stand above the newest stored checkpoint: durable, and not signed yet."""

    report: FsckReport
    beyond: int


async def check_rows(url: str, key: VerifierKey, *, older: VerifiedCheckpoint | None = None) -> RowsReport:
    """Check every row of the log whose key this is, below its newest stored checkpoint. `older` is one kept outside.

    Raises `Unavailable` where the database does not answer, `NoLog`, and `LogRefused` where a stored checkpoint is not signed by the key.
    """
    async with open_log_rows(url, key) as rows:
        return await _Rows(rows).check(older)


class _Rows:
    """The rows of one log as the source of bundles and tiles."""

    def __init__(self, stored: LogRows) -> None:
        self._stored = stored
        self._at: tuple[int, Sequence[Row]] = (-1, ())
        self._odd: LogFault | None = None

    async def check(self, older: VerifiedCheckpoint | None) -> RowsReport:
        newest, *marks = await self._stored.checkpoints(MARKS)
        checking = check_log(newest, older=older, marks=marks, partials_kept=False)
        try:
            wanted = next(checking)
            while True:
                wanted = checking.send(await self._fetch(wanted, newest.size))
        except StopIteration as stop:
            report: FsckReport = stop.value
        if self._odd is not None and (report.fault is None or self._odd.first <= report.fault.first):
            report = replace(report, fault=self._odd)
        return RowsReport(report, await self._count_beyond(newest.size))

    async def _fetch(self, address: TileAddress, size: int) -> bytes | None:
        if address.level is None:
            rows = await self._rows(address.n, size)
            return encode_bundle([row["body"] for row in rows]) if rows else None
        if address.width == TILE_WIDTH:
            return await self._stored.tile(address.level, address.n)
        return await self._partial_leaves(address, size) if address.level == 0 else None

    async def _partial_leaves(self, address: TileAddress, size: int) -> bytes:
        # A missing row leaves zeros at its place, so that the fault is found there and not at the row after it.
        first = address.n * TILE_WIDTH
        hashes = {row["idx"] - first: row["leaf_hash"] for row in await self._rows(address.n, size)}
        return b"".join(hashes.get(at, bytes(HASH_SIZE)) for at in range(address.width))

    async def _rows(self, n: int, size: int) -> Sequence[Row]:
        """The rows of one bundle below the signed size; the last ones asked for are kept, because bundle and tile ask for the same."""
        if self._at[0] != n:
            start = n * TILE_WIDTH
            stop = min(start + TILE_WIDTH, size)
            rows = await self._stored.read(start, stop)
            self._at = (n, rows)
            self._compare_columns(rows, start)
        return self._at[1]

    def _compare_columns(self, rows: Sequence[Row], start: int) -> None:
        for index, row in enumerate(rows, start):
            if self._odd is not None:
                return
            if row["idx"] != index:
                self._odd = LogFault(Fault.ENTRY_MISSING, index, row["idx"], "the row is missing")
            elif (detail := _odd_column(row)) is not None:
                self._odd = LogFault(Fault.ENTRY_CHANGED, index, index + 1, detail)

    async def _count_beyond(self, size: int) -> int:
        # More than a bundle of unsigned rows is the alarm of a running gatekeeper, not a number to be exact about.
        return len(await self._stored.read(size, size + TILE_WIDTH))


def _odd_column(row: Row) -> str | None:
    if leaf_hash(row["body"]) != row["leaf_hash"]:
        return "the row's body does not hash to its leaf_hash"
    try:
        return None if parse_entry(row["body"]).entry_id == row["entry_id"] else "the row's entry_id is not its body's"
    except MalformedEntry:
        return None  # the check itself says so, with the reason
