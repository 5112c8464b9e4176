"""Entries about what people ordered: one dataclass for each kind, with the members of our log format, section 2.2."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import ClassVar, TypeAlias

from gatekeeper.model.digest import Digest
from gatekeeper.model.moment import Moment

from .kinds import Kind, Preamble
from .members import Digests, Reference, Texts
from .person import HiddenText, Pseudonym


@unique
class Change(StrEnum):
    """Whether something starts to hold or ceases to."""

    BEGIN = "begin"
    END = "end"


@unique
class Revoked(StrEnum):
    """What is no longer trusted."""

    ARTIFACT = "artifact"
    BUILDER = "builder"
    RECEIPT = "receipt"
    KEY = "key"


@dataclass(frozen=True, kw_only=True)
class SpanEntry(Preamble):
    """What one person orders for a span of time in one place; `component` None means the whole environment."""

    who: Pseudonym
    change: Change
    environment: str
    component: str | None
    since: Moment
    until: Moment | None
    """None: until it is ended"""
    reason: HiddenText


@dataclass(frozen=True, kw_only=True)
class FreezeEntry(SpanEntry):
    """Nothing is deployed."""

    KIND: ClassVar[Kind] = Kind.FREEZE


@dataclass(frozen=True, kw_only=True)
class WindowEntry(SpanEntry):
    """Deploys are let through."""

    KIND: ClassVar[Kind] = Kind.WINDOW


@dataclass(frozen=True, kw_only=True)
class HoldEntry(SpanEntry):
    """A component waits. Where an embargo team is configured a hold is always sealed: in the open it would tell from an embargo's wait."""

    KIND: ClassVar[Kind] = Kind.HOLD


@dataclass(frozen=True, kw_only=True)
class ReservationEntry(SpanEntry):
    """One person has the place to themselves."""

    KIND: ClassVar[Kind] = Kind.RESERVATION


@dataclass(frozen=True, kw_only=True)
class StopEntry(SpanEntry):
    """Everything halts at once."""

    KIND: ClassVar[Kind] = Kind.STOP


@dataclass(frozen=True, kw_only=True)
class AcknowledgementEntry(Preamble):
    """A person answers one reason of a ping or of an earlier entry."""

    KIND: ClassVar[Kind] = Kind.ACKNOWLEDGEMENT
    who: Pseudonym
    ping_id: str | None
    of: Reference | None
    code: str
    """the reason code it answers"""
    reason: HiddenText


@dataclass(frozen=True, kw_only=True)
class ExemptionEntry(Preamble):
    """Two people let one rule rest for one component, until a day."""

    KIND: ClassVar[Kind] = Kind.EXEMPTION
    who: tuple[Pseudonym, ...]
    change: Change
    rule: str
    environment: str
    component: str
    until: Moment
    reason: HiddenText


@dataclass(frozen=True, kw_only=True)
class BreakglassOpenEntry(Preamble):
    """Two people let one artifact past named rules in an emergency."""

    KIND: ClassVar[Kind] = Kind.BREAKGLASS_OPEN
    who: tuple[Pseudonym, ...]
    environment: str
    component: str
    artifact: Digest
    skips: Texts
    """reason codes, at least one"""
    not_after: Moment
    incident: HiddenText
    reason: HiddenText


@dataclass(frozen=True, kw_only=True)
class BreakglassCloseEntry(Preamble):
    """What a breakglass owed was brought afterwards."""

    KIND: ClassVar[Kind] = Kind.BREAKGLASS_CLOSE
    of: Reference
    who: Pseudonym
    evidence: Digests
    reason: HiddenText


@dataclass(frozen=True, kw_only=True)
class RevocationEntry(Preamble):
    """Something is not trusted any more, ever or for a range of time."""

    KIND: ClassVar[Kind] = Kind.REVOCATION
    who: Pseudonym
    what: Revoked
    id: str
    since: Moment | None
    until: Moment | None
    reason: HiddenText


@dataclass(frozen=True, kw_only=True)
class WitnessChangeEntry(Preamble):
    """The quorum of witnesses that a checkpoint needs is another one from here."""

    KIND: ClassVar[Kind] = Kind.WITNESS_CHANGE
    who: tuple[Pseudonym, ...]
    policy: Digest
    """of the log policy file"""
    fail_open: bool
    """whether checkpoints are published that too few witnesses cosigned"""
    reason: HiddenText


Span: TypeAlias = FreezeEntry | WindowEntry | HoldEntry | ReservationEntry | StopEntry
PeopleEntry: TypeAlias = (
    Span | AcknowledgementEntry | ExemptionEntry | BreakglassOpenEntry | BreakglassCloseEntry | RevocationEntry | WitnessChangeEntry
)
