"""Receipts and deployments in PostgreSQL (`ports.records.DeploymentStore`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Final

from gatekeeper.model.digest import Digest
from gatekeeper.model.label import Viewer
from gatekeeper.ports.records import DeploymentRecord, ReceiptRecord

from .bridge import Bridge, Row, Unit
from .pings import wake_place
from .queries import load_queries
from .rows import clearances, read_label, stored_label

_Q: Final = load_queries("records")


class PostgresDeployments:
    """See `DeploymentStore`."""

    def __init__(self, bridge: Bridge, clock: Callable[[], datetime]) -> None:
        self._bridge, self._clock = bridge, clock

    async def add_receipt(self, record: ReceiptRecord) -> None:
        """See `DeploymentStore.add_receipt`."""
        values = asdict(record) | {"label": stored_label(record.label)}
        values["log_index"] = values.pop("index")
        await self._bridge.write(lambda unit: unit.run(_Q["add_receipt"], **values))

    async def receipt(self, digest: Digest, viewer: Viewer) -> ReceiptRecord | None:
        """See `DeploymentStore.receipt`."""
        row = await self._bridge.read(lambda unit: unit.row(_Q["receipt"], id=digest, viewer_clearances=clearances(viewer)))
        if row is None:
            return None
        values = dict(row) | {"label": read_label(row)}
        values["index"] = values.pop("log_index")
        return ReceiptRecord(**values)

    async def allows(self, ping_id: str) -> int:
        """See `DeploymentStore.allows`."""
        row = await self._bridge.read(lambda unit: unit.row(_Q["allows"], ping_id=ping_id))
        return 0 if row is None else int(row["allows"])

    async def add_deployment(self, record: DeploymentRecord) -> None:
        """See `DeploymentStore.add_deployment`; pings that wait for the same place are due."""
        values = asdict(record) | {"label": stored_label(record.label)}
        values["source_commit"] = values.pop("commit")

        async def work(unit: Unit) -> None:
            if await unit.run(_Q["add_deployment"], **values):
                await wake_place(unit, self._clock(), environment=record.environment, component=record.component)

        await self._bridge.write(work)

    async def running(self, viewer: Viewer, *, environment: str | None = None, component: str | None = None) -> Sequence[DeploymentRecord]:
        """See `DeploymentStore.running`."""
        rows = await self._bridge.read(
            lambda unit: unit.rows(_Q["running"], viewer_clearances=clearances(viewer), environment=environment, component=component)
        )
        return [read_deployment(row) for row in rows]

    async def history(self, environment: str, component: str, viewer: Viewer, limit: int = 50) -> Sequence[DeploymentRecord]:
        """See `DeploymentStore.history`."""
        rows = await self._bridge.read(
            lambda unit: unit.rows(
                _Q["history"], environment=environment, component=component, viewer_clearances=clearances(viewer), count=limit
            )
        )
        return [read_deployment(row) for row in rows]


def read_deployment(row: Row) -> DeploymentRecord:
    """A row of `deployment` as a record."""
    values = dict(row) | {"label": read_label(row)}
    values["commit"] = values.pop("source_commit")
    return DeploymentRecord(**values)
