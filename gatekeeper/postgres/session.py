"""One dedicated connection for what must die with a replica: its claims on pings, its lead of a log, its subscription to changes.

The session holds an advisory lock on a random id. Claims carry the id; when the connection ends, for whatever reason, the server lets go of
the lock and every claim with that id is stale at once. After a loss the session comes back with another id and owns nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import trio

from gatekeeper.crossing import LoopThread
from gatekeeper.ports.errors import Unavailable

from .bridge import CONNECT_S, DATABASE_GONE, LOG_GONE, connect, translated
from .queries import load_queries

CHANNEL: Final = "pingee_ping"
PROBE_S: Final = 5.0
"""How often a silent connection is asked whether it still lives."""
RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

_Q = load_queries("session")
_logger = logging.getLogger(__name__)


class Session:
    """The dedicated connection, reopened for ever. `id`, `lead` and everything private live in the asyncio thread only."""

    def __init__(self, loop: LoopThread, url: str) -> None:
        self._loop, self._url = loop, url
        self._connection: Any = None
        self._id: int | None = None
        self._leads: set[int] = set()
        self._mutex = asyncio.Lock()
        self._ready = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._listeners: set[Callable[[], None]] = set()
        self._listeners_lock = threading.Lock()

    @property
    def id(self) -> int:
        """Under which claims are ours now; raises `Unavailable` while the connection is lost."""
        if self._id is None:
            raise Unavailable(DATABASE_GONE, "the replica's own database session is lost and comes back")
        return self._id

    async def lead(self, log: int) -> int | None:
        """The session's id if it is the one that publishes this log (held already, or free and taken now), else None."""
        with translated(LOG_GONE):
            return await self._loop.run(self._lead, log)

    async def _lead(self, log: int) -> int | None:
        async with self._mutex:
            connection, query = self._connection, _Q["lead"]
            if connection is None:
                raise Unavailable(LOG_GONE, "the replica's own database session is lost and comes back")
            if log not in self._leads and not await connection.fetchval(query.sql, *query.bind({"log": log})):
                return None
            if connection is self._connection:
                self._leads.add(log)
                return self._id
        return None

    @asynccontextmanager
    async def turn(self, log: int) -> AsyncIterator[None]:
        """Hold the advisory lock that every append to this log waits for. The loss of the session ends it."""
        with translated(LOG_GONE):
            await self._loop.run(self._with_lock, "hold_turn", log)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True), translated(LOG_GONE):
                await self._loop.run(self._with_lock, "end_turn", log)

    async def _with_lock(self, name: str, log: int) -> None:
        async with self._mutex:
            connection, query = self._connection, _Q[name]
            if connection is None:
                raise Unavailable(LOG_GONE, "the replica's own database session is lost and comes back")
            try:
                await connection.fetchval(query.sql, *query.bind({"log": log}))
            except BaseException:
                # Whether the lock is held is unknown now; with the connection it is certainly let go.
                connection.terminate()
                raise

    def listen(self, notify: Callable[[], None]) -> None:
        """Call `notify`, from the asyncio thread, after every change and after every time that changes may have been missed."""
        with self._listeners_lock:
            self._listeners.add(notify)

    def unlisten(self, notify: Callable[[], None]) -> None:
        """Stop calling it."""
        with self._listeners_lock:
            self._listeners.discard(notify)

    async def start(self) -> None:
        """Open the connection; raises `Unavailable` where that does not succeed in time."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        try:
            await asyncio.wait_for(self._ready.wait(), CONNECT_S)
        except TimeoutError:
            raise Unavailable(DATABASE_GONE, "the replica's own database session could not be opened") from None

    async def stop(self) -> None:
        """Close it; the server drops every claim and lead."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper

    async def _keep(self) -> None:
        failures = 0
        while True:
            try:
                with translated():
                    await self._live()
                failures = 0
            except Exception as error:  # noqa: BLE001 -- whatever it was, a replica without its session could never claim again
                if not isinstance(error, Unavailable):
                    _logger.error("the replica's database session failed with %s", type(error).__name__)  # noqa: TRY400 -- a traceback could quote the URL
                failures = 0 if self._ready.is_set() else failures + 1
            self._ready.clear()
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])

    async def _live(self) -> None:
        connection = await connect(self._url)
        lost = asyncio.Event()
        try:
            own = secrets.randbelow(2**31 - 1) + 1
            await connection.fetchval(_Q["live"].sql, *_Q["live"].bind({"id": own}))
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, lambda *_: self._tell())
            self._connection, self._id = connection, own
            self._ready.set()
            # What changed while nobody listened is unknown: everybody looks again.
            self._tell()
            await self._watch(connection, lost)
        finally:
            self._id = self._connection = None
            self._leads.clear()
            connection.terminate()

    async def _watch(self, connection: Any, lost: asyncio.Event) -> None:
        while not lost.is_set():
            try:
                await asyncio.wait_for(lost.wait(), PROBE_S)
            except TimeoutError:
                async with self._mutex:
                    await connection.fetchval(_Q["probe"].sql, timeout=PROBE_S)

    def _tell(self) -> None:
        with self._listeners_lock:
            listeners = tuple(self._listeners)
        for notify in listeners:
            with suppress(trio.RunFinishedError):
                notify()


@asynccontextmanager
async def open_session(loop: LoopThread, url: str) -> AsyncIterator[Session]:
    """Open the replica's session; closed, shielded, at the end."""
    session = Session(loop, url)
    try:
        await loop.run(session.start)
        yield session
    finally:
        with trio.CancelScope(shield=True):
            await loop.run(session.stop)
