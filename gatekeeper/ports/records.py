"""Statements, votes, receipts, deployments and people: what was submitted and what was done. Every record carries a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from gatekeeper.model.digest import Digest
from gatekeeper.model.label import PUBLIC, Label, Viewer


@dataclass(frozen=True)
class ArtifactRecord:
    """An artifact whose manifest statement was accepted."""

    artifact: Digest
    project: str
    component: str
    repository: str
    commit: str
    tree: str
    builder: str
    run: str
    uploader: str
    """`issuer|actor` of the run's token: whoever pushed what was built"""
    manifest: Digest
    """digest of the accepted artifact manifest bundle"""
    received_at: datetime
    complete: bool
    """all blobs are in the store"""
    label: Label = field(default=PUBLIC)


@dataclass(frozen=True)
class StatementRecord:
    """One accepted statement about an artifact: its exact bundle bytes and when the intake received it."""

    digest: Digest
    """of the bundle bytes"""
    artifact: Digest
    kind: str
    """manifest, provenance, test-result"""
    stage: str | None
    """of a test-result"""
    bundle: bytes
    received_at: datetime
    """`at` of its intake entry, whole seconds"""
    log_index: int
    label: Label = field(default=PUBLIC)


@dataclass(frozen=True)
class VoteRecord:
    """One accepted vote: exact bundle bytes, person by name in the policy."""

    digest: Digest
    project: str
    change: str
    revision: str
    voter: str
    value: int
    review_label: str
    bundle: bytes
    received_at: datetime
    label: Label = field(default=PUBLIC)


@dataclass(frozen=True)
class ReceiptRecord:
    """The receipt of a logged Allow (or the statement of a logged Deny, without receipt bytes)."""

    id: Digest
    ping_id: str
    environment: str
    component: str
    receipt: bytes
    index: int
    statement: Digest
    created_at: datetime
    label: Label = field(default=PUBLIC)


ADOPTED: Final = "adopt"


@dataclass(frozen=True)
class DeploymentRecord:
    """What a ping did at its target. `state` is deployed, rolled-back, failed or unresponsive.

    Of purpose `ADOPTED` it is what ran before any ping: `ping_id` is the adoption's id, both indexes are its entry's, and no receipt put it there.
    """

    ping_id: str
    environment: str
    component: str
    project: str
    artifact: Digest
    config: str
    commit: str | None
    """None: the bytes were adopted"""
    purpose: str
    state: str
    receipt: Digest | None
    decision_index: int
    outcome_index: int
    at: datetime
    label: Label = field(default=PUBLIC)


@dataclass(frozen=True)
class AdoptionRecord:
    """What runs somewhere was recorded as the first member of the rollback set there. `log_index` is None until its entry is durable."""

    id: str
    caller: str
    idempotency_key: str
    body: Digest
    project: str
    environment: str
    component: str
    artifact: Digest
    config: str
    reason: str
    at: datetime
    entry: bytes
    """the exact bytes of the `adopt` entry; its `entry_id` is `id`"""
    log_index: int | None = None
    label: Label = field(default=PUBLIC)


@dataclass(frozen=True)
class PersonRecord:
    """The pseudonym of a person; the key under which it was made is wrapped by the vault."""

    issuer: str
    subject: str
    pseudonym: str
    wrapped_key: str


class StatementStore(Protocol):
    """Artifacts, statements and votes. Accepting the same digest twice is no error and changes nothing."""

    async def add_artifact(self, record: ArtifactRecord) -> None:
        """Store an accepted artifact manifest's facts; `complete` may turn true later, never false."""
        ...

    async def artifact(self, digest: Digest, viewer: Viewer) -> ArtifactRecord | None:
        """One artifact that the Viewer may read."""
        ...

    async def artifacts(self, *, commit: str | None, project: str | None, viewer: Viewer, limit: int = 50) -> Sequence[ArtifactRecord]:
        """Newest first."""
        ...

    async def add_statement(self, record: StatementRecord) -> None:
        """Store one accepted statement; wakes pings of that artifact."""
        ...

    async def statements(self, artifact: Digest, viewer: Viewer) -> Sequence[StatementRecord]:
        """All statements about an artifact, oldest first."""
        ...

    async def add_vote(self, record: VoteRecord) -> None:
        """Store one accepted vote; wakes waiting pings of that project."""
        ...

    async def votes(self, project: str, change: str, viewer: Viewer) -> Sequence[VoteRecord]:
        """All votes on a change, any revision, oldest first."""
        ...


class DeploymentStore(Protocol):
    """Receipts and deployments."""

    async def add_receipt(self, record: ReceiptRecord) -> None:
        """Store a receipt once."""
        ...

    async def receipt(self, digest: Digest, viewer: Viewer) -> ReceiptRecord | None:
        """One receipt that the Viewer may read."""
        ...

    async def allows(self, ping_id: str) -> int:
        """How many receipts the ping has had: one for each time it was allowed."""
        ...

    async def add_deployment(self, record: DeploymentRecord) -> None:
        """Store what a ping did; once per ping."""
        ...

    async def running(self, viewer: Viewer, *, environment: str | None = None, component: str | None = None) -> Sequence[DeploymentRecord]:
        """The newest `deployed` record that the Viewer may read, per environment and component."""
        ...

    async def history(self, environment: str, component: str, viewer: Viewer, limit: int = 50) -> Sequence[DeploymentRecord]:
        """All deployments there, newest first."""
        ...


class AdoptionStore(Protocol):
    """Adoptions: at most one for each environment and component, for ever."""

    async def add_adoption(self, record: AdoptionRecord) -> AdoptionRecord:
        """Store it before its entry is appended; where one stands for this place, or for this caller, key and body, that one is returned.

        Raises `IdempotencyConflict` where the caller used the key with another body.
        """
        ...

    async def mark_logged(self, adoption_id: str, log_index: int, entry: bytes) -> None:
        """Its entry is durable at this index. Repeating it changes nothing."""
        ...

    async def adoption(self, environment: str, component: str, viewer: Viewer) -> AdoptionRecord | None:
        """What was adopted there."""
        ...

    async def adoptions_of(self, artifact: Digest, viewer: Viewer) -> Sequence[AdoptionRecord]:
        """Where these bytes were adopted, oldest first; those alone whose entry is durable."""
        ...


class PeopleStore(Protocol):
    """Pseudonyms and one-use tokens."""

    async def person(self, issuer: str, subject: str) -> PersonRecord | None:
        """The pseudonym of a person, if one was made."""
        ...

    async def person_by_pseudonym(self, pseudonym: str) -> PersonRecord | None:
        """Whose pseudonym it is; for Viewers who may know."""
        ...

    async def add_person(self, record: PersonRecord) -> PersonRecord:
        """Store a new pseudonym; where another replica was first, that one is returned."""
        ...

    async def use_once(self, issuer: str, jti: str, purpose: str, expires_at: datetime) -> bool:
        """Whether this token is used for this purpose for the first time; remembered until `expires_at`."""
        ...
