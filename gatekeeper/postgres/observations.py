"""Observations and override orders in PostgreSQL (`ports.observations.ObservationStore`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from gatekeeper.model.digest import Digest
from gatekeeper.model.label import Viewer
from gatekeeper.ports.observations import DriftKind, Observation, ObservedPlace, OverrideRecord

from .bridge import Bridge, Row, Unit
from .deployments import read_deployment
from .queries import load_queries
from .rows import clearances, read_label, stored_label

_Q: Final = load_queries("observations")


class PostgresObservations:
    """See `ObservationStore`."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def places(self) -> Sequence[ObservedPlace]:
        """See `ObservationStore.places`."""

        async def work(unit: Unit) -> list[ObservedPlace]:
            deployed = {_place(row): row for row in await unit.rows(_Q["deployed"])}
            heard = {_place(row): row["observed_at"] for row in await unit.rows(_Q["heard"])}
            return [
                ObservedPlace(
                    newest=read_deployment(row),
                    running=read_deployment(deployed[_place(row)]) if _place(row) in deployed else None,
                    observed_at=heard.get(_place(row)),
                )
                for row in await unit.rows(_Q["newest"])
            ]

        return await self._bridge.read(work)

    async def observe(self, observation: Observation) -> None:
        """See `ObservationStore.observe`."""
        values = asdict(observation) | {"label": stored_label(observation.label), "kind": observation.kind and observation.kind.value}
        values["override_order"] = values.pop("order")
        await self._bridge.write(lambda unit: unit.run(_Q["observe"], **values))

    async def drift(self, viewer: Viewer, *, environment: str | None = None, component: str | None = None) -> Sequence[Observation]:
        """See `ObservationStore.drift`."""
        rows = await self._bridge.read(
            lambda unit: unit.rows(_Q["drift"], viewer_clearances=clearances(viewer), environment=environment, component=component)
        )
        return [_observation(row) for row in rows]

    async def add_order(self, record: OverrideRecord) -> OverrideRecord:
        """See `ObservationStore.add_order`."""
        values = asdict(record) | {"label": stored_label(record.label), "signers": list(record.signers)}
        values["order_digest"] = values.pop("order")

        async def work(unit: Unit) -> Row | None:
            await unit.run(_Q["add_order"], **values)
            return await unit.row(_Q["order"], target=record.target, order_digest=record.order)

        row = await self._bridge.write(work)
        return record if row is None else _order(row)

    async def order(self, target: str, order: Digest) -> OverrideRecord | None:
        """See `ObservationStore.order`."""
        row = await self._bridge.read(lambda unit: unit.row(_Q["order"], target=target, order_digest=order))
        return None if row is None else _order(row)

    async def order_logged(self, target: str, order: Digest, log_index: int) -> None:
        """See `ObservationStore.order_logged`."""
        await self._bridge.write(lambda unit: unit.run(_Q["order_logged"], target=target, order_digest=order, log_index=log_index))

    async def reported(self, target: str, component: str) -> Sequence[Digest]:
        """See `ObservationStore.reported`."""
        rows = await self._bridge.read(lambda unit: unit.rows(_Q["reported"], target=target, component=component))
        return [Digest(row["order_digest"]) for row in rows]


def _place(row: Row) -> tuple[str, str]:
    return row["environment"], row["component"]


def _observation(row: Row) -> Observation:
    values = dict(row) | {"label": read_label(row), "kind": DriftKind(row["kind"])}
    values["order"] = values.pop("override_order")
    return Observation(**values)


def _order(row: Row) -> OverrideRecord:
    values = dict(row) | {"label": read_label(row), "signers": tuple(row["signers"])}
    values["order"] = values.pop("order_digest")
    return OverrideRecord(**values)
