"""The lock of environment + component in PostgreSQL (`ports.pings.LockStore`)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from gatekeeper.model.label import Viewer
from gatekeeper.ports.pings import Held

from .bridge import Bridge, Row, Unit
from .pings import wake_place
from .queries import load_queries
from .rows import clearances, read_label

_Q: Final = load_queries("locks")


class PostgresLocks:
    """See `LockStore`."""

    def __init__(self, bridge: Bridge, clock: Callable[[], datetime]) -> None:
        self._bridge, self._clock = bridge, clock

    async def acquire(self, environment: str, component: str, ping_id: str, now: datetime) -> int | Held:
        """See `LockStore.acquire`. An unknown ping is a bug and raises ValueError."""

        async def work(unit: Unit) -> int | Held:
            await unit.run(_Q["ensure_place"], environment=environment, component=component)
            row = await unit.row(_Q["hold_place"], environment=environment, component=component)
            if row is not None and row["ping_id"] is not None:
                return int(row["fence"]) if row["ping_id"] == ping_id else _held(row)
            taken = await unit.row(_Q["take"], environment=environment, component=component, ping_id=ping_id, now=now)
            if taken is None:
                raise ValueError("a lock is taken for a stored ping only")
            return int(taken["fence"])

        return await self._bridge.write(work)

    async def release(self, environment: str, component: str, fence: int) -> None:
        """See `LockStore.release`."""

        async def work(unit: Unit) -> None:
            if await unit.run(_Q["release"], environment=environment, component=component, fence=fence):
                await wake_place(unit, self._clock(), environment=environment, component=component)

        await self._bridge.write(work)

    async def holder(self, environment: str, component: str, viewer: Viewer) -> Held | None:
        """See `LockStore.holder`."""
        row = await self._bridge.read(
            lambda unit: unit.row(_Q["holder"], environment=environment, component=component, viewer_clearances=clearances(viewer))
        )
        return None if row is None else _held(row)


def _held(row: Row) -> Held:
    return Held(row["ping_id"], row["fence"], row["since"], read_label(row))
