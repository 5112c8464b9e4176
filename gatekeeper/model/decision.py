"""Decisions as values: a verdict, every reason, and one row for every rule (interfaces, 1.5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, unique

from .digest import Digest
from .moment import Moment


@unique
class Verdict(StrEnum):
    """What a decision says."""

    ALLOW = "Allow"
    DENY = "Deny"
    INDETERMINATE = "Indeterminate"


@unique
class Result(StrEnum):
    """What one rule says."""

    PASS = "pass"  # noqa: S105 -- a verdict, no password
    FAIL = "fail"
    WARN = "warn"
    EXEMPT = "exempt"
    SKIP = "skip"
    UNREADABLE = "unreadable"


@unique
class Mode(StrEnum):
    """How an environment and component are guarded."""

    SHADOW = "shadow"
    WARN = "warn"
    ENFORCE = "enforce"


@unique
class Purpose(StrEnum):
    """Why a ping wants to deploy. It follows from endpoint and environment class, never from the caller's word."""

    DEPLOY = "deploy"
    CONFIGURATION = "configuration"
    """the artifact that runs stays, its configuration changes"""
    ROLLBACK = "rollback"
    BREAKGLASS = "breakglass"
    TEST = "test"


@dataclass(frozen=True)
class EvidenceItem:
    """One item that a rule looked at, as it stands in the decision statement."""

    kind: str
    state: str
    """present, absent or unreadable"""
    digest: Digest | None = None


@dataclass(frozen=True)
class RuleResult:
    """One row of `explain`. `reason` is set unless the result is pass or skip."""

    rule: str
    result: Result
    reason: str | None = None
    expected: str = ""
    actual: str = ""
    need: str = ""
    who: str = ""
    evidence: tuple[EvidenceItem, ...] = ()


@dataclass(frozen=True)
class Decision:
    """All rules were evaluated; every reason is kept, in rule order, once each."""

    verdict: Verdict
    reasons: tuple[str, ...]
    rules: tuple[RuleResult, ...]
    at: Moment


@dataclass(frozen=True)
class Candidate:
    """What a ping asks to deploy, and where. All names come from the policy or the authenticated call, none from an artifact."""

    instance: str
    environment: str
    component: str
    project: str
    purpose: Purpose
    mode: Mode
    artifact: Digest
    config: str
    """commit of the reviewed configuration"""
    targets: tuple[str, ...]
    requester: str
    """subject of the caller as `issuer|subject`; pseudonymised before it is logged"""
    bound_commit: str | None = field(default=None)
    """the commit that a run's token speaks for; None for a person"""
