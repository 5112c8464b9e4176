"""Pings: their rows, their moves, and the lock of an environment and component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from gatekeeper.model.decision import Mode, Purpose, Verdict
from gatekeeper.model.digest import Digest
from gatekeeper.model.label import PUBLIC, Label, Viewer
from gatekeeper.model.moment import Moment
from gatekeeper.model.ping import State
from gatekeeper.model.strictjson import JsonValue

from .errors import PortError


class IdempotencyConflict(PortError):
    """The caller used this key before with another body (or more than 24 hours ago)."""


class StalePing(PortError):
    """The row changed since it was read: another replica works on this ping. Read it again or let it go."""


@dataclass(frozen=True)
class NewPing:
    """What a ping is made of; none of it ever changes."""

    id: str
    """32 hex digits"""
    caller: str
    """`issuer|subject` of the authenticated caller"""
    idempotency_key: str
    body: Digest
    """sha256 of the request body"""
    purpose: Purpose
    project: str
    environment: str
    component: str
    artifact: Digest
    config: str
    commit: str | None
    """source commit of the artifact; None: it was adopted, and nobody knows"""
    bound_commit: str | None
    """commit the caller's token speaks for; None for people"""
    reason: str
    deadline: datetime
    created_at: datetime
    label: Label = field(default=PUBLIC)
    rollback_of: str | None = None
    on_behalf_of: str | None = None
    """`issuer|account` whom the platform names as having caused the run; None for people"""


@dataclass(frozen=True)
class Ping:
    """A ping as stored. `version` grows with each move and guards it."""

    new: NewPing
    state: State
    version: int
    verdict: Verdict | None = None
    mode: Mode | None = None
    """of the last decision"""
    reasons: tuple[str, ...] = ()
    rules: tuple[Mapping[str, JsonValue], ...] = ()
    """rows of the last explanation, as JSON objects"""
    policy: Digest | None = None
    policy_commit: str | None = None
    evaluated_at: datetime | None = None
    fence: int | None = None
    """fencing token of the lock it holds"""
    entry_id: str | None = None
    """of the newest decision entry; chosen before the append"""
    logged_at: datetime | None = None
    """when the newest decision entry was written (one non-terminal entry a minute)"""
    logged_reasons: tuple[str, ...] | None = None
    log_index: int | None = None
    receipt: Digest | None = None
    not_after: Moment | None = None
    accessor: str | None = None
    """of the one-deploy token, stored before the token is used"""
    leases: tuple[Digest, ...] = ()
    """by `lease_digest`, every certificate taken under the Allow that is being carried out, whichever replica took it"""
    draft: bytes | None = None
    """a signed decision or outcome on its way into the log, kept so that a crash after the append finds it again"""
    outcome_index: int | None = None
    detail: str = ""
    """one sentence about the outcome, for people"""
    next_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def id(self) -> str:
        """The ping's id."""
        return self.new.id


@dataclass(frozen=True)
class PingEvent:
    """One line of a ping's history; `seq` counts from 1 without gaps."""

    seq: int
    event: str
    """state, rule, line, outcome or end"""
    at: datetime
    data: Mapping[str, JsonValue]


@dataclass(frozen=True)
class PingFilter:
    """Which pings to list; None means any."""

    environment: str | None = None
    component: str | None = None
    state: State | None = None
    reason: str | None = None
    caller: str | None = None
    limit: int = 50
    before: str | None = None
    """opaque cursor: list what is older than this ping"""


@dataclass(frozen=True)
class Held:
    """The lock is taken: by this ping, with this fencing token."""

    ping_id: str
    fence: int
    since: datetime
    label: Label


class PingStore(Protocol):
    """Durable pings. Every write is one transaction; writes wake whoever waits in `changes`."""

    async def create(self, new: NewPing) -> tuple[Ping, bool]:
        """Store a received ping; (ping, True), or the earlier one of the same caller, key and body as (ping, False).

        Raises `IdempotencyConflict` where the key was used with another body.
        """
        ...

    async def get(self, ping_id: str, viewer: Viewer) -> Ping | None:
        """One ping that this Viewer may read."""
        ...

    async def list_pings(self, wanted: PingFilter, viewer: Viewer) -> Sequence[Ping]:
        """Newest first, at most `wanted.limit` (1..200)."""
        ...

    async def claim_due(self, now: datetime, limit: int) -> Sequence[Ping]:
        """Pings that have not ended, are due (`next_at` <= now or null) and that no living replica works on; they are ours until `unclaim`.

        A claim dies with the replica's database session, so a killed replica's pings are due at once.
        """
        ...

    async def unclaim(self, ping_id: str) -> None:
        """Let go of a claim of ours."""
        ...

    async def move(self, old: Ping, new: Ping, events: Sequence[tuple[str, Mapping[str, JsonValue]]] = ()) -> Ping:
        """Replace the mutable members of a row where its version still is `old.version`; adds events; returns it with the new version.

        Raises `StalePing`. A move that `model.ping.may_move` forbids is a bug and raises ValueError.
        """
        ...

    async def events(self, ping_id: str, after: int, viewer: Viewer) -> Sequence[PingEvent]:
        """Events with `seq` > after, in order; empty for what the Viewer may not read."""
        ...

    async def wake(self, *, environment: str | None = None, component: str | None = None) -> None:
        """Make waiting pings (of that place) due now: something they wait for may have changed."""
        ...

    def changes(self) -> AbstractAsyncContextManager[Changes]:
        """Subscribe to changes of any ping (LISTEN/NOTIFY); see `Changes`."""
        ...


class Changes(Protocol):
    """A subscription. It may wake without cause and never misses a change made after it was opened."""

    async def wait(self, timeout_s: float) -> None:
        """Return after the next change, or after the timeout."""
        ...


class LockStore(Protocol):
    """The lock of environment + component, with a fencing token that only grows."""

    async def acquire(self, environment: str, component: str, ping_id: str, now: datetime) -> int | Held:
        """Take the lock for a ping; the fencing token, also when that ping holds it already; or who holds it."""
        ...

    async def release(self, environment: str, component: str, fence: int) -> None:
        """Let go, if this fence still holds it; wakes who waits."""
        ...

    async def holder(self, environment: str, component: str, viewer: Viewer) -> Held | None:
        """Who holds it, as far as the Viewer may know."""
        ...
