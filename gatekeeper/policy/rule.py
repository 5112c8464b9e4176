"""How rules are written: a name, and a pure function from a case to one row of the explanation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gatekeeper.model.decision import EvidenceItem, Result, RuleResult
from gatekeeper.model.evidence import Absent, Evidence, Present, Unreadable
from gatekeeper.model.reason import REASONS

from .case import Case


@dataclass(frozen=True)
class Rule:
    """One rule of an environment."""

    name: str
    judge: Callable[[Case], RuleResult]


def passed(rule: str, actual: str, *evidence: EvidenceItem) -> RuleResult:
    """The rule holds; `actual` says what was found."""
    return RuleResult(rule=rule, result=Result.PASS, actual=actual, evidence=evidence)


def failed(rule: str, reason: str, *evidence: EvidenceItem, expected: str, actual: str, need: str) -> RuleResult:
    """The rule does not hold, for this reason code; `need` says what would make it pass."""
    return RuleResult(
        rule=rule, result=Result.FAIL, reason=reason, expected=expected, actual=actual, need=need, who=REASONS[reason].who, evidence=evidence
    )


def skipped(rule: str, why: str) -> RuleResult:
    """The rule does not apply here, and why."""
    return RuleResult(rule=rule, result=Result.SKIP, actual=why)


def unreadable(rule: str, item: Unreadable, kind: str) -> RuleResult:
    """The authority that the rule needs could not be asked: never a pass."""
    return RuleResult(
        rule=rule,
        result=Result.UNREADABLE,
        reason=item.cause,
        actual=item.detail or REASONS[item.cause].meaning,
        need="the gatekeeper tries again by itself",
        who=REASONS[item.cause].who,
        evidence=(EvidenceItem(kind=kind, state="unreadable"),),
    )


def item_of(kind: str, evidence: Evidence[object]) -> EvidenceItem:
    """How an evidence item stands in the decision statement; of several digests the first names it."""
    match evidence:
        case Present(digests=digests):
            return EvidenceItem(kind=kind, state="present", digest=digests[0] if digests else None)
        case Absent():
            return EvidenceItem(kind=kind, state="absent")
        case Unreadable():
            return EvidenceItem(kind=kind, state="unreadable")
