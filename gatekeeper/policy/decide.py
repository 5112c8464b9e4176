"""The decision: pure and total.

1. All rules are evaluated and every reason is kept; a Deny outweighs Indeterminate, which outweighs Allow.
2. Empty means no: no rule for an environment is Deny `policy-empty`.
3. A rule that raises is Deny `rule-error`, a bug of ours that lets nobody through.
"""

from __future__ import annotations

from gatekeeper.model.decision import Decision, EvidenceItem, Mode, Result, RuleResult, Verdict
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.model.moment import Moment
from gatekeeper.model.reason import REASONS, Effect, effect_on_ping

from .case import Case, Gathered
from .document import Policy
from .rule import Rule, failed, item_of
from .rules import origin, place, tests, votes
from .rules.adopted import unless_adopted
from .warn import let_pass

_ORIGIN = (
    Rule("origin.requester", origin.requester),
    Rule("origin.project", origin.project),
    unless_adopted(Rule("origin.signature", origin.signature)),
    unless_adopted(Rule("origin.provenance", origin.provenance)),
    Rule("origin.age", origin.age),
    Rule("rollback.member", origin.deployed_before),
    unless_adopted(Rule("artifact.bytes", origin.stored_bytes)),
)
_PLACE = (
    Rule("votes.review", votes.review),
    Rule("embargo.label", place.label),
    Rule("config.reviewed", place.configuration),
    Rule("config.secrets", place.secrets),
)


def rules_for(policy: Policy, environment: str) -> tuple[Rule, ...]:
    """The rules of an environment, in policy order; empty for one that the policy does not know."""
    known = policy.environments.get(environment)
    if known is None:
        return ()
    return (*_ORIGIN, *(unless_adopted(tests.stage_rule(stage)) for stage in known.stages), *_PLACE)


def decide(case: Case) -> Decision:
    """Judge a case; never raises."""
    rules = rules_for(case.policy, case.candidate.environment)
    if not rules:
        row = failed("policy", "policy-empty", expected="rules for this environment", actual="none", need="reviewed configuration")
        return conclude((row,), case.at)
    rows = tuple(_judge(rule, case) for rule in rules)
    if case.candidate.mode is Mode.WARN:
        rows = tuple(let_pass(row) for row in rows)
    return conclude(rows, case.at)


def conclude(rows: tuple[RuleResult, ...], at: Moment) -> Decision:
    """The verdict over rows that were judged; also used where a use case adds a row of its own (the lock).

    The reasons are those that stand against it; an Allow's are those that mode warn let pass.
    """
    reasons = _reasons(rows, Result.FAIL, Result.UNREADABLE)
    if all(row.result is Result.SKIP for row in rows):
        # Nothing was asked, whether there was no rule or none applied.
        return Decision(Verdict.DENY, ("policy-empty",), rows, at)
    if any(row.result is Result.FAIL for row in rows):
        verdict = Verdict.DENY
    elif any(row.result is Result.UNREADABLE for row in rows):
        verdict = Verdict.INDETERMINATE
    else:
        verdict, reasons = Verdict.ALLOW, _reasons(rows, Result.WARN)
    return Decision(verdict, reasons, rows, at)


def _reasons(rows: tuple[RuleResult, ...], *results: Result) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.reason or "rule-error" for row in rows if row.result in results))


def ends_ping(decision: Decision) -> bool:
    """Whether any reason is one that ends the ping rather than letting it wait."""
    return any(effect_on_ping(code) is Effect.DENY for code in decision.reasons)


def evidence_items(evidence: Gathered) -> tuple[EvidenceItem, ...]:
    """The evidence as it stands in the decision statement, one item for each digest.

    What is present but derived from other items (ages, labels, who pushed) has no bytes of its own and is left out.
    """
    items: list[EvidenceItem] = []
    for kind, item in evidence.items():
        match item:
            case Present(digests=digests):
                items.extend(EvidenceItem(kind=kind, state="present", digest=digest) for digest in digests)
            case Absent() | Unreadable():
                items.append(item_of(kind, item))
    return tuple(items)


def _judge(rule: Rule, case: Case) -> RuleResult:
    try:
        row = rule.judge(case)
        if row.result in (Result.FAIL, Result.UNREADABLE) and row.reason not in REASONS:
            return _broken(rule, "the rule gave no reason code")
        return row
    except Exception as error:  # noqa: BLE001 -- a rule's bug must deny, whatever it is
        return _broken(rule, f"the rule raised {type(error).__name__}")


def _broken(rule: Rule, actual: str) -> RuleResult:
    return failed(rule.name, "rule-error", expected="a judgement", actual=actual, need="a bug of ours: report it")
