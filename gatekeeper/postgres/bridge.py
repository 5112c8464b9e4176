"""The crossing to asyncpg: one async function per unit of work, on one connection, in one asyncio thread.

A connection never outlives its unit of work and is never held across a trio await: a cancelled unit is cancelled on the server and rolled
back there. Vendor errors end here. Their text can quote the URL or a row, so none of it is passed on, only the SQLSTATE.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg
import trio

from gatekeeper.crossing import LoopStopped, LoopThread
from gatekeeper.ports.errors import PortError, Rejected, Unavailable

from .queries import Query

T = TypeVar("T")
Row: TypeAlias = Mapping[str, Any]

CONNECT_S: Final = 5.0
ACQUIRE_S: Final = 5.0
STATEMENT_S: Final = 15.0
CLOSE_S: Final = 5.0
SERVER_SETTINGS: Final = {
    "application_name": "pingee",
    # A unit of work whose client is gone must not hold its locks for ever.
    "idle_in_transaction_session_timeout": "15000",
    "lock_timeout": "10000",
    "timezone": "UTC",
}
DATABASE_GONE: Final = "environment-unavailable"
LOG_GONE: Final = "log-unavailable"

# asyncpg logs tracebacks whose frames hold connection parameters ("Failed to restore the pool connection floor"): errors reach callers here.
logging.getLogger("asyncpg").addHandler(logging.NullHandler())
logging.getLogger("asyncpg").propagate = False

_LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.InvalidAuthorizationSpecificationError,
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.exceptions.DeadlockDetectedError,
    OSError,
    TimeoutError,
    LoopStopped,
)


@contextmanager
def translated(cause_code: str = DATABASE_GONE) -> Iterator[None]:
    """Turn what asyncpg raises into `Unavailable(cause_code)` or, where the server refused the statement itself, `Rejected`."""
    try:
        yield
    except PortError:
        raise
    except _LOST:
        raise Unavailable(cause_code, "the database does not answer, or the connection was lost") from None
    except asyncpg.PostgresError as error:
        raise Rejected("database-rejected", f"the database refused a statement with SQLSTATE {error.sqlstate}") from None


class Unit:
    """A unit of work under way: runs named queries on one connection. Lives in the asyncio thread only."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def rows(self, query: Query, /, **values: object) -> list[Row]:
        """All rows."""
        return list(await self._connection.fetch(query.sql, *query.bind(values)))

    async def row(self, query: Query, /, **values: object) -> Row | None:
        """The first row."""
        row: Row | None = await self._connection.fetchrow(query.sql, *query.bind(values))
        return row

    async def run(self, query: Query, /, **values: object) -> int:
        """How many rows were inserted, changed or deleted."""
        status: str = await self._connection.execute(query.sql, *query.bind(values))
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0


class Bridge:
    """A pool of connections in an asyncio thread. Made by `open_bridge`."""

    def __init__(self, loop: LoopThread, pool: Any) -> None:
        self._loop, self._pool = loop, pool

    async def read(self, work: Callable[[Unit], Awaitable[T]], *, cause_code: str = DATABASE_GONE) -> T:
        """Do the work on one connection without a transaction of its own: for a single statement."""
        with translated(cause_code):
            return await self._loop.run(self._plain, work)

    async def write(self, work: Callable[[Unit], Awaitable[T]], *, cause_code: str = DATABASE_GONE) -> T:
        """Do the work in one transaction, durable on return. After `Unavailable` it may or may not have been committed."""
        with translated(cause_code):
            return await self._loop.run(self._transaction, work)

    async def _plain(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
            return await work(Unit(connection))

    async def _transaction(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        async with self._pool.acquire(timeout=ACQUIRE_S) as connection, connection.transaction():
            return await work(Unit(connection))


@asynccontextmanager
async def open_bridge(loop: LoopThread, url: str, pool_size: int) -> AsyncIterator[Bridge]:
    """Open the pool; at the end it is closed, or cut off where a connection does not come back in time."""
    with translated():
        pool = await loop.run(_open_pool, url, pool_size)
    try:
        yield Bridge(loop, pool)
    finally:
        with trio.CancelScope(shield=True):
            await loop.run(_close_pool, pool)


async def connect(url: str) -> Any:
    """A connection outside the pool, with the same settings and deadlines."""
    return await asyncpg.connect(dsn=url, timeout=CONNECT_S, command_timeout=STATEMENT_S, server_settings=SERVER_SETTINGS)


async def _open_pool(url: str, size: int) -> Any:
    return await asyncpg.create_pool(
        dsn=url, min_size=1, max_size=size, timeout=CONNECT_S, command_timeout=STATEMENT_S, server_settings=SERVER_SETTINGS, reset=_reset
    )


async def _reset(_connection: Any) -> None:
    """Nothing: no unit of work leaves settings, listeners or session locks behind, and an open transaction is rolled back without this.

    asyncpg's own would ask the server to forget all of them, one more round trip before each answer.
    """


async def _close_pool(pool: Any) -> None:
    try:
        await asyncio.wait_for(pool.close(), CLOSE_S)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pool.terminate()
