"""The kinds of log entries, one dataclass each, with the members of our log format, section 2.2: those the gatekeeper writes of itself.

Wire contract: a kind or member is never reused, renamed or removed; a new kind is added at the end of `Kind`. Each has a golden file in
tests/assets/log whose bytes never change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import ClassVar, TypeAlias

from gatekeeper.model.decision import Mode, Purpose, Verdict
from gatekeeper.model.digest import Digest
from gatekeeper.model.moment import Moment

from .members import Abridged, Digests, People, Reference, Texts
from .person import HiddenText, Pseudonym


@unique
class Kind(StrEnum):
    """What an entry is about."""

    ORIGIN = "origin"
    INTAKE = "intake"
    DECISION = "decision"
    OUTCOME = "outcome"
    CONFIG = "config"
    OVERRIDE = "override"
    ADOPT = "adopt"
    KEY = "key"
    WITNESS_CHANGE = "witness-change"
    FREEZE = "freeze"
    WINDOW = "window"
    HOLD = "hold"
    RESERVATION = "reservation"
    STOP = "stop"
    ACKNOWLEDGEMENT = "acknowledgement"
    EXEMPTION = "exemption"
    BREAKGLASS_OPEN = "breakglass-open"
    BREAKGLASS_CLOSE = "breakglass-close"
    REVOCATION = "revocation"
    SEALED = "sealed"
    OPEN = "open"
    OPEN_DECOYS = "open-decoys"
    LIFT = "lift"


@unique
class Cause(StrEnum):
    """Why an origin was opened."""

    FIRST = "first"
    YEAR = "year"
    LOSS = "loss"


@unique
class KeyUse(StrEnum):
    """What a rotated key signs."""

    LOG = "log"
    RECEIPT = "receipt"


@dataclass(frozen=True, kw_only=True)
class Preamble:
    """Members of every kind. `config` is the commit of the reviewed configuration in force."""

    entry_id: str
    """32 hex digits, chosen by the use case before the append"""
    origin: str
    at: Moment
    config: str | None


@dataclass(frozen=True)
class Head:
    """A tree as the database or the vault knew it; `root` is base64."""

    size: int
    root: str


@dataclass(frozen=True, kw_only=True)
class OriginEntry(Preamble):
    """Index 0 of each origin, and nowhere else."""

    KIND: ClassVar[Kind] = Kind.ORIGIN
    cause: Cause
    previous: str | None
    """last signed note known of the origin before; null for the first"""
    heads: tuple[Head, Head] | None
    """database's and vault's, at a loss"""
    sealed_slots: int
    tick: int
    """seconds between sealed leaves; 0 where there are none"""
    who: tuple[Pseudonym, ...]
    """two people, or nobody"""
    reason: HiddenText | None


@dataclass(frozen=True, kw_only=True)
class Intake(Preamble):
    """A submission was accepted. Its `at` is the time of receipt, by which certificates are judged for ever."""

    KIND: ClassVar[Kind] = Kind.INTAKE
    artifact: Digest
    manifest: Digest | None
    builder: str
    certificate: Digest | None
    subjects: Digests


@dataclass(frozen=True)
class RolePeople:
    """Who stood in which role towards the candidate."""

    owner: People
    uploader: People
    voter: People


@dataclass(frozen=True, kw_only=True)
class DecisionEntry(Preamble):
    """A decision. An Allow and a Deny name their signed statement; an Indeterminate has none."""

    KIND: ClassVar[Kind] = Kind.DECISION
    ping_id: str
    landing: str | None
    purpose: Purpose
    mode: Mode
    requester: Pseudonym
    on_behalf_of: Pseudonym | None
    people: RolePeople
    environment: str
    component: str
    artifact: Digest | None
    """null for a configuration-only candidate"""
    candidate_config: str | None
    target: Texts
    subjects: Digests
    verdict: Verdict
    reasons: Texts
    policy: Digest
    trusted_root: Digest | None
    evidence: Digests
    statement: Digest | None
    """sha256 of the payload of the decision statement"""
    not_after: Moment | None
    supersedes: Reference | None


@dataclass(frozen=True)
class DoorkeeperMark:
    """What a doorkeeper answered: the size it accepted, and its cosignature as a note's signature line without the newline."""

    target: str
    size: int
    cosignature: str


@dataclass(frozen=True, kw_only=True)
class OutcomeEntry(Preamble):
    """What became of an Allow. `lease` holds the sha256 of each lease id or certificate serial."""

    KIND: ClassVar[Kind] = Kind.OUTCOME
    of: Reference
    state: str
    lease: Digests
    applied: Digests
    doorkeeper: tuple[DoorkeeperMark, ...] | Abridged


@dataclass(frozen=True, kw_only=True)
class ConfigEntry(Preamble):
    """A new commit of the reviewed configuration is in force."""

    KIND: ClassVar[Kind] = Kind.CONFIG
    who: People
    previous: str | None
    commit: str
    digest: Digest


@dataclass(frozen=True, kw_only=True)
class OverrideEntry(Preamble):
    """Two people deployed at the target while gatekeeper, vault or log were gone; reported late, always."""

    KIND: ClassVar[Kind] = Kind.OVERRIDE
    who: tuple[Pseudonym, ...]
    target: str
    digest: Digest
    order: Digest
    incident: HiddenText
    applied_at: Moment
    record: Digest
    """head of the target's hash-chained record"""


@dataclass(frozen=True, kw_only=True)
class AdoptEntry(Preamble):
    """What ran before the gatekeeper came: the first member of a rollback set."""

    KIND: ClassVar[Kind] = Kind.ADOPT
    who: Pseudonym
    environment: str
    component: str
    running: Digests
    candidate_config: str | None


@dataclass(frozen=True, kw_only=True)
class KeyEntry(Preamble):
    """A log or receipt key follows another. Keys are verifier keys, or base64 SPKI."""

    KIND: ClassVar[Kind] = Kind.KEY
    who: tuple[Pseudonym, ...]
    use: KeyUse
    old: str
    new: str
    since: Moment
    until: Moment
    """end of the overlap"""


@dataclass(frozen=True, kw_only=True)
class UnknownEntry(Preamble):
    """An entry of a kind this release does not know: its bytes, as they are."""

    kind: str
    body: bytes


DeployEntry: TypeAlias = OriginEntry | Intake | DecisionEntry | OutcomeEntry | ConfigEntry | OverrideEntry | AdoptEntry | KeyEntry
