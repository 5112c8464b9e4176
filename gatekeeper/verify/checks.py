"""What was checked about a bundle, in order: each check by a stable name, passed, failed, or skipped with the reason why.

The list is part of the answer. A verifier that says only "ok" cannot be told from one that forgot to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import NoReturn

from gatekeeper.model.verified import Refusal


@unique
class Outcome(Enum):
    """How one check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@unique
class Name(Enum):
    """Every check there is, in the order in which a report lists them; frozen, since scripts read them."""

    SIGNER = "signer"
    """the bundle is signed by the kind of signer that is expected"""
    CONTENT = "content"
    """the bundle signs a statement where one is needed"""
    ARTIFACT = "artifact"
    """a message digest written into the bundle is the artifact's"""
    IDENTITY = "identity"
    ISSUER = "issuer"
    USAGE = "usage"
    """the certificate may sign code and is no authority"""
    TIME = "time"
    """there is a trusted time, and none lies after the moment of checking"""
    VALIDITY = "validity"
    """the certificate is valid at every time"""
    AUTHORITIES = "authorities"
    """every authority of the trusted root that is used was valid at every time"""
    TIMESTAMPS = "timestamps"
    """every RFC 3161 timestamp is over this signature and by an authority of the trusted root"""
    PATH = "path"
    """the certificate leads to an authority of the trusted root"""
    TRANSPARENCY = "transparency"
    """the certificate was logged (SCT)"""
    INCLUSION = "inclusion"
    """the log entry is in the log whose checkpoint is signed"""
    PROMISE = "promise"
    """the log's signed promise (SET), which carries the integrated time"""
    SIGNATURE = "signature"
    ENTRY = "entry"
    """the log entry is about this signature, key and content"""
    PAYLOAD_TYPE = "payload-type"
    STATEMENT = "statement"
    SUBJECT = "subject"
    PREDICATE = "predicate"
    BUILDER = "builder"
    """the builder id stands in the predicate and in the signer's identity"""
    SOURCE = "source"
    REF = "ref"
    VERIFIER = "verifier"
    """the verifier of a verification summary is one that is named"""
    RESOURCE = "resource"
    RESULT = "result"
    LEVELS = "levels"


@dataclass(frozen=True)
class Check:
    """One line of a report."""

    name: Name
    outcome: Outcome
    detail: str


class Refused(Exception):
    """Ends a verification: the check that failed is the last of the list. Caught where the report is made."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class Checks:
    """The growing list of one verification: those of a bundle and those `beyond`, whether they are reached or not."""

    def __init__(self, *, beyond: tuple[Name, ...]) -> None:
        self._made: list[Check] = []
        self._all = (*_BUNDLE_CHECKS, *beyond)

    def passed(self, name: Name, detail: str) -> None:
        """Note a check that holds."""
        self._made.append(Check(name, Outcome.PASSED, detail))

    def skipped(self, name: Name, why: str) -> None:
        """Note a check that was not made."""
        self._made.append(Check(name, Outcome.SKIPPED, why))

    def demand(self, holds: bool, name: Name, said: str, otherwise: str, *, reason: str) -> None:
        """Note that it holds, or raise `Refused` with the sentence `otherwise`."""
        if not holds:
            self.refuse(name, otherwise, reason=reason)
        self.passed(name, said)

    def refuse(self, name: Name, detail: str, *, reason: str) -> NoReturn:
        """Note that it does not hold; always raises `Refused`."""
        self._made.append(Check(name, Outcome.FAILED, detail))
        raise Refused(Refusal(reason, detail))

    def listed(self) -> tuple[Check, ...]:
        """All checks in the order of `Name`; those that a failure kept from being made are skipped, and say so."""
        made = {check.name for check in self._made}
        missing = [
            Check(name, Outcome.SKIPPED, f"not reached: {failed.name.value} failed")
            for failed in self._made
            if failed.outcome is Outcome.FAILED
            for name in self._all
            if name not in made
        ]
        return tuple(sorted([*self._made, *missing], key=lambda check: _ORDER[check.name]))


_ORDER = {name: place for place, name in enumerate(Name)}
_BUNDLE_CHECKS = tuple(name for name in Name if _ORDER[name] <= _ORDER[Name.SUBJECT])
PROVENANCE_CHECKS = (Name.PREDICATE, Name.BUILDER, Name.SOURCE, Name.REF)
