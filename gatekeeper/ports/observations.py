"""What our targets said when they were asked: drift, and overrides that people made there while we were away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Protocol

from gatekeeper.model.digest import Digest
from gatekeeper.model.label import PUBLIC, Label, Viewer

from .records import DeploymentRecord


@unique
class DriftKind(StrEnum):
    """How what runs differs from what was deployed last."""

    OVERRIDE = "override"
    """two people brought it back at the target"""
    STOPPED = "stopped"
    """nothing runs"""
    UNMANAGED = "unmanaged"
    """the target runs something else, or knows nothing of the component any more"""


@dataclass(frozen=True)
class Observation:
    """What a target said of one component. `kind` None: what runs is what was deployed."""

    environment: str
    component: str
    target: str
    kind: DriftKind | None
    running: Digest | None
    config: str | None
    order: Digest | None
    deployment: str
    """`ping_id` of the newest deployment when the target was asked; another deployment since then voids the observation"""
    observed_at: datetime
    label: Label = field(default=PUBLIC)


@dataclass(frozen=True)
class OverrideRecord:
    """An override order that was carried out at a target, and its log entry, drafted once for all replicas."""

    order: Digest
    target: str
    environment: str
    component: str
    digest: Digest
    signers: tuple[str, ...]
    """names in the policy, ascending"""
    reason: str
    incident: str
    salt: bytes
    """of the entry's hidden incident"""
    envelope: bytes
    outcome: str
    applied_at: datetime
    entry_id: str
    entry: bytes
    log_index: int | None
    label: Label = field(default=PUBLIC)


@dataclass(frozen=True)
class ObservedPlace:
    """A place that was deployed to or adopted: its newest deployment of any state, its newest `deployed` one, and when its target was last heard."""

    newest: DeploymentRecord
    running: DeploymentRecord | None
    observed_at: datetime | None


class ObservationStore(Protocol):
    """Observations and override orders. Reads for people take a Viewer; what the observer asks for its own work takes none."""

    async def places(self) -> Sequence[ObservedPlace]:
        """Every place that was ever deployed to or adopted, of any label: for the observer alone."""
        ...

    async def observe(self, observation: Observation) -> None:
        """Keep the newest observation of a place; one of an older `observed_at` changes nothing."""
        ...

    async def drift(self, viewer: Viewer, *, environment: str | None = None, component: str | None = None) -> Sequence[Observation]:
        """Places that drifted, as far as the Viewer may know; void observations are left out."""
        ...

    async def add_order(self, record: OverrideRecord) -> OverrideRecord:
        """Store an order once per target; where another replica was first, that record is returned."""
        ...

    async def order(self, target: str, order: Digest) -> OverrideRecord | None:
        """An order that was stored before: for the observer alone."""
        ...

    async def order_logged(self, target: str, order: Digest, log_index: int) -> None:
        """Its entry stands in the log at this index."""
        ...

    async def reported(self, target: str, component: str) -> Sequence[Digest]:
        """The newest 64 orders of that component there that stand in the log: for the executor alone."""
        ...
