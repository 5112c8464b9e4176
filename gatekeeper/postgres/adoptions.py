"""Adoptions in PostgreSQL (`ports.records.AdoptionStore`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from gatekeeper.model.digest import Digest
from gatekeeper.model.label import Viewer
from gatekeeper.ports.pings import IdempotencyConflict
from gatekeeper.ports.records import AdoptionRecord

from .bridge import Bridge, Row, Unit
from .queries import load_queries
from .rows import clearances, read_label, stored_label

_Q: Final = load_queries("adoptions")


class PostgresAdoptions:
    """See `AdoptionStore`."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def add_adoption(self, record: AdoptionRecord) -> AdoptionRecord:
        """See `AdoptionStore.add_adoption`."""
        values = asdict(record) | {"label": stored_label(record.label)}
        del values["log_index"]

        async def work(unit: Unit) -> Row:
            await unit.run(_Q["add_adoption"], **values)
            earlier = await unit.row(_Q["by_key"], caller=record.caller, idempotency_key=record.idempotency_key)
            if earlier is not None:
                if earlier["body"] != record.body:
                    raise IdempotencyConflict("idempotency-conflict", "the key was used with another body")
                return earlier
            standing = await unit.row(_Q["by_place"], environment=record.environment, component=record.component)
            if standing is None:
                raise AssertionError("neither inserted nor in the way")
            return standing

        return _adoption(await self._bridge.write(work))

    async def mark_logged(self, adoption_id: str, log_index: int, entry: bytes) -> None:
        """See `AdoptionStore.mark_logged`."""
        await self._bridge.write(lambda unit: unit.run(_Q["mark_logged"], id=adoption_id, log_index=log_index, entry=entry))

    async def adoption(self, environment: str, component: str, viewer: Viewer) -> AdoptionRecord | None:
        """See `AdoptionStore.adoption`."""
        row = await self._bridge.read(
            lambda unit: unit.row(_Q["adoption"], environment=environment, component=component, viewer_clearances=clearances(viewer))
        )
        return None if row is None else _adoption(row)

    async def adoptions_of(self, artifact: Digest, viewer: Viewer) -> Sequence[AdoptionRecord]:
        """See `AdoptionStore.adoptions_of`."""
        rows = await self._bridge.read(
            lambda unit: unit.rows(_Q["adoptions_of"], artifact=artifact, viewer_clearances=clearances(viewer))
        )
        return [_adoption(row) for row in rows]


def _adoption(row: Row) -> AdoptionRecord:
    return AdoptionRecord(**dict(row) | {"label": read_label(row)})
