"""One open database: the stores of one replica over one pool, one session and one asyncio thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from gatekeeper.crossing import open_loop_thread
from gatekeeper.ports.errors import PortError, Unavailable

from .adoptions import PostgresAdoptions
from .bridge import DATABASE_GONE, Bridge, Unit, open_bridge
from .deployments import PostgresDeployments
from .entries import PostgresEntries
from .locks import PostgresLocks
from .log_store import PostgresLog
from .migrate import migrate, shipped_migrations
from .observations import PostgresObservations
from .origins import PostgresOrigins
from .people import PostgresPeople
from .pings import PostgresPings
from .queries import load_queries
from .session import Session, open_session
from .statements import PostgresStatements

POOL_SIZE: Final = 16
DURABLE_COMMITS: Final = frozenset({"on", "remote_apply"})

_Q = load_queries("schema")


class UnsafeDatabase(PortError):
    """The server would answer before a commit is on disk. Nothing durable can be promised on it, so nothing starts."""


class Database:
    """The stores. Made by `open_database`; every one of them is safe for concurrent use by trio tasks."""

    def __init__(self, bridge: Bridge, session: Session, clock: Callable[[], datetime]) -> None:
        self._bridge, self._session = bridge, session
        self.pings = PostgresPings(bridge, session, clock)
        self.locks = PostgresLocks(bridge, clock)
        self.statements = PostgresStatements(bridge, clock)
        self.deployments = PostgresDeployments(bridge, clock)
        self.adoptions = PostgresAdoptions(bridge)
        self.observations = PostgresObservations(bridge)
        self.people = PostgresPeople(bridge, clock)
        self.origins = PostgresOrigins(bridge)

    def log(self, origin: str) -> PostgresLog:
        """The rows of one origin; an origin that has none yet is created by its first `load_head`."""
        return PostgresLog(self._bridge, self._session, origin)

    def entries(self, origin: str) -> PostgresEntries:
        """The index over the entries of one origin."""
        return PostgresEntries(self._bridge, origin)

    async def ready(self) -> None:
        """Ask the server anything; raises `Unavailable` where it does not answer."""
        await self._bridge.read(_ask)

    async def now(self) -> datetime:
        """The server's own clock."""
        return await self._bridge.read(_clock)

    async def missing_migrations(self) -> tuple[str, ...]:
        """Names of our migrations that the schema does not know: none, unless the database was put back under a running replica."""
        return await self._bridge.read(_missing)


@asynccontextmanager
async def open_database(url: str, *, clock: Callable[[], datetime] | None = None, pool_size: int = POOL_SIZE) -> AsyncIterator[Database]:
    """Migrate, check the server's settings and open the stores; everything is closed, shielded and bounded in time, at the end.

    `clock` gives aware times (default: the system's, UTC). Raises `Unavailable` where the server cannot be reached, `UnsafeDatabase` where
    it runs without `fsync` or `synchronous_commit`, `SchemaMismatch` where its schema is not ours. No message holds the URL.
    """
    await migrate(url)
    async with (
        open_loop_thread("pingee-postgres") as loop,
        open_bridge(loop, url, pool_size) as bridge,
        open_session(loop, url) as session,
    ):
        await bridge.read(_check_settings)
        yield Database(bridge, session, clock or _system_clock)


async def _ask(unit: Unit) -> None:
    await unit.row(_Q["settings"])


async def _clock(unit: Unit) -> datetime:
    row = await unit.row(_Q["now"])
    if row is None:
        raise Unavailable(DATABASE_GONE, "the database did not tell the time")
    found: datetime = row["now"]
    return found


async def _missing(unit: Unit) -> tuple[str, ...]:
    applied = {row["name"] for row in await unit.rows(_Q["history"])}
    return tuple(name for name in shipped_migrations() if name not in applied)


async def _check_settings(unit: Unit) -> None:
    row = await unit.row(_Q["settings"])
    if row is None or row["fsync"] != "on":
        raise UnsafeDatabase("unsafe-database", "the server runs with fsync off")
    if row["synchronous_commit"] not in DURABLE_COMMITS:
        raise UnsafeDatabase("unsafe-database", "the server or our role runs with synchronous_commit weaker than on")


def _system_clock() -> datetime:
    return datetime.now(UTC)
