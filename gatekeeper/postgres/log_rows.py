"""The rows of one log, read only, for whoever checks or copies all of it: nothing is written, not even an advisory lock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from gatekeeper.crossing import open_loop_thread
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.log import LogRefused
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint, open_checkpoint
from gatekeeper.tlog.errors import QuorumNotMet, TlogError
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.note import parse_note
from gatekeeper.tlog.signature import VerifierKey

from .bridge import LOG_GONE, Bridge, Row, open_bridge
from .queries import load_queries

_Q: Final = load_queries("log_check")
NOTES: Final = 16
"""Stored notes that are looked through for one that the quorum cosigned; nothing newer is signed while one waits."""


class NoLog(PortError):
    """The database holds no log of this origin, or nothing of it was signed yet."""


class LogRows:
    """The rows of the log whose key this is. Made by `open_log_rows`."""

    def __init__(self, bridge: Bridge, log: int, keys: tuple[VerifierKey, ...]) -> None:
        self._bridge, self._log, self._keys = bridge, log, keys

    async def checkpoints(self, most: int) -> list[VerifiedCheckpoint]:
        """The stored checkpoints, newest first, at least one.

        Raises `NoLog` where there is none, and `LogRefused` where one is not signed by the key, or not of the size it is stored for.
        """
        rows = await self._bridge.read(lambda unit: unit.rows(_Q["checkpoints"], log=self._log, most=most), cause_code=LOG_GONE)
        if not rows:
            raise NoLog("no-checkpoint", f"no checkpoint of {self._keys[0].name} was stored yet")
        return [self._opened(row) for row in rows]

    async def newest_cosigned(self, policy: LogPolicy) -> VerifiedCheckpoint:
        """The newest checkpoint that the policy's quorum cosigned: one that waits for it was published nowhere. Raises as `checkpoints`."""
        for opened in await self.checkpoints(NOTES):
            try:
                policy.quorum_met(parse_note(opened.note))
            except QuorumNotMet:
                continue
            return opened
        raise NoLog("no-checkpoint", f"the quorum {policy.quorum} cosigned none of the newest {NOTES} checkpoints of {self._keys[0].name}")

    async def bodies(self, start: int, stop: int) -> list[bytes]:
        """The bodies of the rows that exist in [start, stop)."""
        return [row["body"] for row in await self.read(start, stop)]

    async def read(self, start: int, stop: int) -> Sequence[Row]:
        """The rows that exist in [start, stop), in the order of their index: `idx`, `entry_id`, `body`, `leaf_hash`."""
        return await self._bridge.read(lambda unit: unit.rows(_Q["rows"], log=self._log, start=start, stop=stop), cause_code=LOG_GONE)

    async def tile(self, level: int, n: int) -> bytes | None:
        """A full tile as it is stored."""
        row = await self._bridge.read(lambda unit: unit.row(_Q["tile"], log=self._log, level=level, n=n), cause_code=LOG_GONE)
        return None if row is None else row["data"]

    async def tiles(self, level: int, first: int, end: int) -> dict[int, bytes]:
        """The full tiles [first, end) that are stored, by number."""
        rows = await self._bridge.read(lambda unit: unit.rows(_Q["tiles"], log=self._log, level=level, first=first, stop=end), cause_code=LOG_GONE)
        return {row["n"]: row["data"] for row in rows}

    def _opened(self, row: Row) -> VerifiedCheckpoint:
        try:
            opened = open_checkpoint(row["note"], *self._keys)
        except TlogError as error:
            raise LogRefused("log-refused", f"the stored checkpoint of size {row['size']} is not signed by the log's key: {error}") from None
        if opened.size != row["size"]:
            raise LogRefused("log-refused", f"the checkpoint stored for size {row['size']} is one of size {opened.size}")
        return opened


@asynccontextmanager
async def open_log_rows(url: str, key: VerifierKey, *also: VerifierKey, connections: int = 1) -> AsyncIterator[LogRows]:
    """Connect. `also` are further keys of the log. Raises `Unavailable` where the database does not answer, and `NoLog`."""
    async with open_loop_thread("pingee-log-rows") as loop, open_bridge(loop, url, connections) as bridge:
        row = await bridge.read(lambda unit: unit.row(_Q["log"], origin=key.name), cause_code=LOG_GONE)
        if row is None:
            raise NoLog("no-log", f"the database holds no log with the origin {key.name}")
        yield LogRows(bridge, int(row["id"]), (key, *also))
