"""Artifacts, statements and votes in PostgreSQL (`ports.records.StatementStore`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Final

from gatekeeper.model.digest import Digest
from gatekeeper.model.label import Viewer
from gatekeeper.ports.records import ArtifactRecord, StatementRecord, VoteRecord

from .bridge import Bridge, Row, Unit
from .pings import wake_artifact, wake_project
from .queries import load_queries
from .rows import clearances, read_label, stored_label

_Q: Final = load_queries("records")


class PostgresStatements:
    """See `StatementStore`."""

    def __init__(self, bridge: Bridge, clock: Callable[[], datetime]) -> None:
        self._bridge, self._clock = bridge, clock

    async def add_artifact(self, record: ArtifactRecord) -> None:
        """See `StatementStore.add_artifact`; pings that wait for this artifact are due when it changed anything."""
        values = asdict(record) | {"label": stored_label(record.label)}
        values["source_commit"] = values.pop("commit")

        async def work(unit: Unit) -> None:
            if await unit.run(_Q["add_artifact"], **values):
                await wake_artifact(unit, self._clock(), record.artifact)

        await self._bridge.write(work)

    async def artifact(self, digest: Digest, viewer: Viewer) -> ArtifactRecord | None:
        """See `StatementStore.artifact`."""
        row = await self._bridge.read(lambda unit: unit.row(_Q["artifact"], artifact=digest, viewer_clearances=clearances(viewer)))
        return None if row is None else _artifact(row)

    async def artifacts(self, *, commit: str | None, project: str | None, viewer: Viewer, limit: int = 50) -> Sequence[ArtifactRecord]:
        """See `StatementStore.artifacts`."""
        rows = await self._bridge.read(
            lambda unit: unit.rows(
                _Q["artifacts"], source_commit=commit, project=project, viewer_clearances=clearances(viewer), count=limit
            )
        )
        return [_artifact(row) for row in rows]

    async def add_statement(self, record: StatementRecord) -> None:
        """See `StatementStore.add_statement`."""

        async def work(unit: Unit) -> None:
            if await unit.run(_Q["add_statement"], **asdict(record) | {"label": stored_label(record.label)}):
                await wake_artifact(unit, self._clock(), record.artifact)

        await self._bridge.write(work)

    async def statements(self, artifact: Digest, viewer: Viewer) -> Sequence[StatementRecord]:
        """See `StatementStore.statements`."""
        rows = await self._bridge.read(lambda unit: unit.rows(_Q["statements"], artifact=artifact, viewer_clearances=clearances(viewer)))
        return [StatementRecord(**dict(row) | {"label": read_label(row)}) for row in rows]

    async def add_vote(self, record: VoteRecord) -> None:
        """See `StatementStore.add_vote`."""

        async def work(unit: Unit) -> None:
            if await unit.run(_Q["add_vote"], **asdict(record) | {"label": stored_label(record.label)}):
                await wake_project(unit, self._clock(), record.project)

        await self._bridge.write(work)

    async def votes(self, project: str, change: str, viewer: Viewer) -> Sequence[VoteRecord]:
        """See `StatementStore.votes`."""
        rows = await self._bridge.read(
            lambda unit: unit.rows(_Q["votes"], project=project, change=change, viewer_clearances=clearances(viewer))
        )
        return [VoteRecord(**dict(row) | {"label": read_label(row)}) for row in rows]


def _artifact(row: Row) -> ArtifactRecord:
    values = dict(row) | {"label": read_label(row)}
    values["commit"] = values.pop("source_commit")
    return ArtifactRecord(**values)
