"""The vault's audit file held against the deploy log: was every credential decided on, in the log, before it was given?

An honest gatekeeper logs an Allow, then takes a one-deploy token and under it one certificate, then logs one outcome that names the
certificate. So the log alone says whose a certificate is: the outcome that names the sha256 of its serial number, and the Allow that this
outcome closes. Pure: what was read goes in, findings come out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from gatekeeper.model.decision import Mode, Verdict
from gatekeeper.model.digest import Digest
from gatekeeper.model.lease import STATUS_COMMAND, lease_digest, question_id
from gatekeeper.tlog.entry import AdoptEntry, DecisionEntry, Entry, OriginEntry, OutcomeEntry, UnknownEntry
from gatekeeper.tlog.kinds import Cause

from .vaultfile import AuditFile, Certificate, DeployToken, Place, SettingsRead

SKEW: Final = timedelta(seconds=5)
"""by which the vault's clock and the gatekeeper's may differ"""
_STATUS: Final = ".status"


@unique
class Alarm(StrEnum):
    """What is wrong with a credential."""

    NO_ALLOW = "no-allow"
    BEFORE_ALLOW = "before-allow"
    AFTER_NOT_AFTER = "after-not-after"
    USED_TWICE = "used-twice"
    OTHER_TARGET = "other-target"
    WRAPPED = "wrapped"
    NOT_READ_ONLY = "not-read-only"
    SETTINGS_READ = "settings-read"


@unique
class Doubt(StrEnum):
    """Why it cannot be told whether a credential was decided on."""

    OPEN_ALLOW = "open-allow"
    SEALED = "sealed"
    HASHED = "hashed"
    OTHER_ORIGIN = "other-origin"
    LOG_ENDS = "log-ends"
    FILE_BEGINS = "file-begins"
    UNREADABLE = "unreadable"
    GAP = "gap"


@dataclass(frozen=True)
class Finding:
    """One sentence about one credential, or about a place where one may be missing (`place` None: about the log alone)."""

    what: Alarm | Doubt
    sentence: str
    place: Place | None = None
    serial: int | None = None
    allow: int | None = None


@dataclass(frozen=True)
class Allowed:
    """An Allow of the log that leases."""

    index: int
    at: datetime
    not_after: datetime
    environment: str
    component: str
    targets: tuple[str, ...]


@dataclass
class LogFacts:
    """What the log says of credentials; `add` its entries, in any order."""

    origin: str = ""
    size: int = 0
    began: datetime | None = None
    last: datetime | None = None
    first_origin: bool = True
    allows: dict[int, Allowed] = field(default_factory=dict)
    outcomes: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """outcome entries of each decision"""
    closed: dict[int, datetime] = field(default_factory=dict)
    """when a decision's last outcome was logged"""
    named: dict[Digest, list[tuple[int, int | None]]] = field(default_factory=lambda: defaultdict(list))
    """lease -> outcome entries that name it, each with its decision (None: one of another origin)"""
    shortened: set[int] = field(default_factory=set)
    """decisions of outcomes whose leases are only counted"""
    adopts: set[str] = field(default_factory=set)
    sealed: int = 0

    def add(self, index: int, entry: Entry | UnknownEntry) -> None:
        """Keep what is needed of one entry."""
        self.size, self.last = max(self.size, index + 1), max(self.last or entry.at, entry.at)
        self.origin = entry.origin
        match entry:
            case OriginEntry():
                self.began, self.first_origin = entry.at, entry.cause is Cause.FIRST
            case DecisionEntry(verdict=Verdict.ALLOW) if entry.mode is not Mode.SHADOW and entry.not_after is not None:
                targets = entry.target if isinstance(entry.target, tuple) else ()
                self.allows[index] = Allowed(index, entry.at, entry.not_after, entry.environment, entry.component, targets)
            case OutcomeEntry():
                decision = entry.of.index if entry.of.origin == entry.origin else None
                if decision is not None:
                    self.outcomes[decision].append(index)
                    self.closed[decision] = max(entry.at, self.closed.get(decision, entry.at))
                if isinstance(entry.lease, tuple):
                    for lease in entry.lease:
                        self.named[lease].append((index, decision))
                elif decision is not None:
                    self.shortened.add(decision)
            case AdoptEntry():
                self.adopts.add(entry.entry_id)
            case _:
                # Also of releases that read them as a kind of their own.
                kind = entry.kind if isinstance(entry, UnknownEntry) else entry.KIND.value
                self.sealed += kind == "sealed"

    def open_at(self, target: str, at: datetime) -> Allowed | None:
        """An Allow for the target that stood open then, and still has no outcome that names its credentials."""
        found = (a for a in self.allows.values() if target in a.targets and a.at - SKEW <= at <= a.not_after + SKEW)
        return next((a for a in found if not self.outcomes.get(a.index) or a.index in self.shortened), None)

    def being_carried_out(self, target: str, at: datetime) -> bool:
        """Whether an Allow for the target had been logged by then, and had neither ended nor been closed."""
        allows = (a for a in self.allows.values() if target in a.targets)
        return any(a.at - SKEW <= at <= min(a.not_after, self.closed.get(a.index, a.not_after)) + SKEW for a in allows)


@dataclass
class Held:
    """What came of it."""

    alarms: list[Finding] = field(default_factory=list)
    doubts: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    """where the file says nothing because of where it begins; no credential in it is doubtful for that"""
    matched: int = 0
    status: Counter[str] = field(default_factory=Counter)
    """certificates that only read, by what they were for"""
    unused_tokens: int = 0
    reads: Counter[str] = field(default_factory=Counter)
    """settings read by what is no one-deploy token, by display name"""
    open: list[Allowed] = field(default_factory=list)
    """Allows without an outcome"""


def hold(file: AuditFile, log: LogFacts, *, log_ends: bool) -> Held:
    """Hold one against the other. `log_ends`: the log was exported earlier, so what came after its last entry cannot be told."""
    holding = _Holding(file, log, log.last if log_ends else None)
    for certificate in sorted(file.certificates, key=lambda c: c.place):
        holding.certificate(certificate)
    holding.tokens()
    holding.reads()
    holding.log_side()
    return holding.held


class _Holding:
    def __init__(self, file: AuditFile, log: LogFacts, ends: datetime | None) -> None:
        self.file, self.log, self.ends, self.held = file, log, ends, Held()
        self.serials: dict[int, Place] = {}
        self.signed: dict[str, list[Certificate]] = defaultdict(list)
        """by one-deploy token"""
        self.signers = {c.holder for c in file.certificates}
        self.questions: dict[str, str] = {}

    def certificate(self, c: Certificate) -> None:
        name = f"the certificate {_shown(c.serial)} for {c.role}, asked for by {c.asked_by or 'nobody'}"
        if c.wrapped and c.serial is None:
            self._alarm(Alarm.WRAPPED, f"{name}, went into a wrapping token that hides it from this file; no gatekeeper asks for that", c)
        elif c.role.endswith(_STATUS):
            self._status(c, name)
        elif c.serial is None:
            self._doubt(Doubt.HASHED, f"{name}: its serial number is hashed in this file; the vault's bootstrap has newer ones shown", c)
        elif c.serial in self.serials:
            self._alarm(Alarm.USED_TWICE, f"{name}: the same serial number was given before, on line {self.serials[c.serial].line}", c)
        else:
            self.serials[c.serial] = c.place
            earlier = self.signed[c.holder]
            earlier.append(c)
            self._leased(c, name, c.serial, second=len(earlier) > 1)

    def _status(self, c: Certificate, name: str) -> None:
        if c.command is None:
            self._doubt(Doubt.HASHED, f"{name}: whether it only reads stands in the certificate, which is hashed in this file", c)
        elif c.command != STATUS_COMMAND:
            said = f"its command is {c.command!r}" if c.command else "it has no forced command"
            self._alarm(Alarm.NOT_READ_ONLY, f"{name}, does more than read a status: {said}; somebody changed the role", c)
        else:
            self.held.status[self._question(c)] += 1

    def _question(self, c: Certificate) -> str:
        target = c.role.removesuffix(_STATUS)
        if target not in self.questions:
            self.questions[target] = question_id(self.log.origin, target)
        if c.key_id == self.questions[target]:
            return "observing"
        return "adopting" if c.key_id in self.log.adopts else "other"

    def _leased(self, c: Certificate, name: str, serial: int, *, second: bool) -> None:
        naming = self.log.named.get(lease_digest(serial), [])
        if not naming:
            self._unnamed(c, name)
            return
        outcome, decision = naming[0]
        allow = None if decision is None else self.log.allows.get(decision)
        at = c.place.at
        if decision is None:
            self._doubt(Doubt.OTHER_ORIGIN, f"{name}: outcome {outcome} names it, and its Allow stands in an earlier origin of the log", c)
        elif allow is None:
            self._alarm(Alarm.NO_ALLOW, f"{name}: outcome {outcome} names it, but entry {decision} is no Allow that leases anything", c)
        elif c.role not in allow.targets:
            targets = ", ".join(allow.targets)
            self._alarm(Alarm.OTHER_TARGET, f"{name}: it was taken under Allow {allow.index}, which is for {targets}", c, allow.index)
        elif at < allow.at - SKEW:
            self._alarm(Alarm.BEFORE_ALLOW, f"{name}, was given before its Allow {allow.index} of {_time(allow.at)}", c, allow.index)
        elif at > allow.not_after + SKEW:
            ended = f"after its Allow {allow.index} had ended at {_time(allow.not_after)}"
            self._alarm(Alarm.AFTER_NOT_AFTER, f"{name}, was given {ended}", c, allow.index)
        elif second or len(naming) > 1:
            why = f"outcomes {', '.join(str(o) for o, _ in naming)} both name it" if len(naming) > 1 else "one token signed more than one"
            self._alarm(Alarm.USED_TWICE, f"{name}: {why}", c, allow.index)
        else:
            self.held.matched += 1

    def _unnamed(self, c: Certificate, name: str) -> None:
        key_id = "" if c.key_id is None else f" (key id {c.key_id!r})"
        if (doubt := self._doubted(c.role, c.place.at)) is not None:
            self._doubt(doubt[0], f"{name}{key_id}: {doubt[1]}", c)
        else:
            reads = [read.place.line for read in self.file.reads if read.holder == c.holder]
            also = f"; its token also read settings, on line {', '.join(map(str, reads))}" if reads and c.holder else ""
            self._alarm(Alarm.NO_ALLOW, f"{name}{key_id}: no Allow in the log led to it, for no outcome names it{also}", c)

    def _doubted(self, target: str, at: datetime) -> tuple[Doubt, str] | None:
        """Why a credential that no outcome names may yet be an honest one."""
        if self.log.began is not None and not self.log.first_origin and at < self.log.began - SKEW:
            return Doubt.OTHER_ORIGIN, "it is older than this origin of the log; hold that part of the file against the origin before"
        if self.ends is not None and at > self.ends:
            return Doubt.LOG_ENDS, f"it is newer than the log that was given, which ends at {_time(self.ends)}"
        if (allow := self.log.open_at(target, at)) is not None:
            return Doubt.OPEN_ALLOW, f"Allow {allow.index} for this target stood open and has no outcome yet; look again when it has"
        if self.log.sealed:
            return Doubt.SEALED, "it may be a sealed decision's, and this audit has no clearance for those"
        return None

    def tokens(self) -> None:
        """One-deploy tokens under which nothing was signed; those that signed are judged by their certificate."""
        read = {read.holder for read in self.file.reads}
        for token in sorted(self.file.tokens, key=lambda t: t.place):
            name = f"a one-deploy token for {token.target}"
            if token.holder is None:
                self._alarm(Alarm.WRAPPED, f"{name}, went into a wrapping token; no gatekeeper asks for that", token)
            elif token.holder in self.signers:
                continue
            elif token.holder in read:
                self._alarm(Alarm.SETTINGS_READ, f"{name}, read settings without a certificate; a deploy takes its certificate first", token)
            elif self.log.being_carried_out(token.target, token.place.at):
                self.held.unused_tokens += 1  # a replica that was killed before it signed anything
            elif (doubt := self._doubted(token.target, token.place.at)) is not None:
                self._doubt(doubt[0], f"{name}, which signed nothing: {doubt[1]}", token)
            else:
                self._alarm(Alarm.NO_ALLOW, f"{name}, which signed nothing: no Allow for that target stood open", token)

    def reads(self) -> None:
        """Settings read by others than a deploy, and by one-deploy tokens that the file does not show being given."""
        given = {token.holder for token in self.file.tokens}
        for read in sorted(self.file.reads, key=lambda r: r.place):
            if not read.deploys:
                self.held.reads[read.asked_by or "nobody"] += 1
            elif read.holder not in given and read.holder not in self.signers:
                self._doubt(Doubt.FILE_BEGINS, f"{read.path} was read by a one-deploy token that was given before this file begins", read)

    def log_side(self) -> None:
        """What the log says of credentials that the file does not have, and Allows that nothing closed."""
        first, last = self.file.first, self.file.last
        for index, allow in self.log.allows.items():
            outcomes = self.log.outcomes.get(index, [])
            if not outcomes:
                self.held.open.append(allow)
            if len(outcomes) > 1:
                sentence = f"Allow {index} has more than one outcome: {', '.join(map(str, outcomes))}"
                self.held.alarms.append(Finding(Alarm.USED_TWICE, sentence, None, None, index))
        for file, line in self.file.unreadable:
            self.held.doubts.append(Finding(Doubt.UNREADABLE, f"{file}, line {line}, cannot be read; what it tells is not known"))
        if first is None or last is None:
            return
        before = [a for a in self.log.allows.values() if a.at < first.at]
        if before:
            sentence = f"the file begins at {_time(first.at)}: it cannot be told whether credentials were given without an Allow before then"
            self.held.notes.append(Finding(Doubt.FILE_BEGINS, f"{sentence} ({len(before)} Allows are older)"))
        self._missing(first.at, last.at)

    def _missing(self, first: datetime, last: datetime) -> None:
        """Certificates that outcomes name and the file lacks: it has a gap, or somebody took lines out of it."""
        found = {lease_digest(serial) for serial in self.serials}
        if any(c.serial is None for c in self.file.certificates):
            return
        for lease, naming in self.log.named.items():
            allow = None if naming[0][1] is None else self.log.allows.get(naming[0][1])
            if lease not in found and allow is not None and first <= allow.at and allow.not_after <= last:
                span = f"between {_time(allow.at)} and {_time(allow.not_after)}"
                sentence = f"outcome {naming[0][0]} names a certificate that the file lacks: lines are missing {span}, and others may be too"
                self.held.doubts.append(Finding(Doubt.GAP, sentence, None, None, allow.index))

    def _alarm(self, what: Alarm, sentence: str, of: Certificate | DeployToken, allow: int | None = None) -> None:
        self.held.alarms.append(Finding(what, sentence, of.place, of.serial if isinstance(of, Certificate) else None, allow))

    def _doubt(self, what: Doubt, sentence: str, of: Certificate | DeployToken | SettingsRead) -> None:
        self.held.doubts.append(Finding(what, sentence, of.place, of.serial if isinstance(of, Certificate) else None))


def in_order(findings: list[Finding]) -> Iterator[Finding]:
    """By their place in the file; what is about no line comes last."""
    yield from sorted((f for f in findings if f.place is not None), key=lambda f: f.place)  # type: ignore[arg-type,return-value]
    yield from (f for f in findings if f.place is None)


def _shown(serial: int | None) -> str:
    return "with a hidden serial number" if serial is None else f"{serial:x}"


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
