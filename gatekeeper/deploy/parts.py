"""What the use cases are made of: one value that `serve` fills with real adapters and tests with fakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gatekeeper.model.moment import Moment, moment
from gatekeeper.ports.artifacts import ArtifactStore
from gatekeeper.ports.entries import EntryIndex
from gatekeeper.ports.log import Log
from gatekeeper.ports.observations import ObservationStore
from gatekeeper.ports.origins import FirstOrigin, Origins
from gatekeeper.ports.pings import LockStore, PingStore
from gatekeeper.ports.policy import PolicySource
from gatekeeper.ports.records import AdoptionStore, DeploymentStore, PeopleStore, StatementStore
from gatekeeper.ports.review import Review
from gatekeeper.ports.target import Target, TargetAddress
from gatekeeper.ports.vault import ActVault, CertificateRelay, DecideVault

from .facts import Facts
from .keysets import KeySets
from .liveruns import LiveRuns


@dataclass(frozen=True)
class Parts:
    """Everything a use case may touch. Time and randomness are parts too."""

    instance: str
    origin: str
    """of the open log"""
    public_url: str
    allow_s: int
    """seconds that an Allow lives: no lease and no apply after it"""
    receipt_keys: tuple[bytes, ...]
    """SubjectPublicKeyInfo PEM of the receipt keys in force"""
    policy: PolicySource
    keys: KeySets
    """of issuers whose keys are fetched"""
    runs: LiveRuns
    """of platforms that are asked about each token"""
    pings: PingStore
    locks: LockStore
    statements: StatementStore
    deployments: DeploymentStore
    adoptions: AdoptionStore
    observations: ObservationStore
    people: PeopleStore
    log: Log
    entries: EntryIndex
    """of the open log"""
    decide_vault: DecideVault
    act_vault: ActVault
    relay: CertificateRelay
    artifacts: ArtifactStore
    review: Review
    target: Target
    addresses: Mapping[str, TargetAddress]
    clock: Callable[[], datetime]
    random: Callable[[int], bytes]
    origins: Origins = field(default_factory=FirstOrigin)
    """of this log that were closed"""
    facts: Facts = field(default_factory=Facts)
    """statements and votes that this process verified already"""

    def now(self) -> Moment:
        """The clock, cut to whole seconds of UTC."""
        return moment(self.clock())

    def new_id(self) -> str:
        """32 hex digits of 16 random bytes."""
        return self.random(16).hex()
