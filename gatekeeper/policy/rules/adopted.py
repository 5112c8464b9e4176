"""Rules about how an artifact was built, where what comes back was never built by us: it was adopted.

Its `adopt` entry stands in the log, and the target hashes the bytes that it kept; nothing of CI's can speak for it. Every other rule holds.
"""

from __future__ import annotations

from gatekeeper.model.decision import Purpose, RuleResult
from gatekeeper.model.evidence import Present, Unreadable
from gatekeeper.policy.case import Case
from gatekeeper.policy.rule import Rule, skipped, unreadable


def unless_adopted(rule: Rule) -> Rule:
    """The rule, not asked of a rollback to what was adopted."""

    def judge(case: Case) -> RuleResult:
        if case.candidate.purpose is Purpose.ROLLBACK:
            match case.evidence.adopted:
                case Unreadable() as unread:
                    return unreadable(rule.name, unread, "adopted")
                case Present(value=True):
                    return skipped(rule.name, "adopted, not built by CI: see rollback.member")
                case _:
                    pass
        return rule.judge(case)

    return Rule(rule.name, judge)
