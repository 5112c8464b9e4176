"""Mode warn: which findings are reported and let pass (decision rules, section 1, 10).

The codes that pass are named; every other one holds, also one that is added to the table later. So P1, P3 to P5, P11, P12 and P15 hold, and
with them what is no finding about a change: a rule's bug, an empty policy, a lock, an emergency stop, a rollback to what never ran.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gatekeeper.model.decision import Result, RuleResult

LET_PASS: Final = frozenset(
    {
        # P2
        "project-not-approved",
        # P6, P7
        *("stage-missing", "stage-pending", "stage-failed", "platform-missing", "enforced-step-missing", "tests-not-in-tree"),
        "candidacy-nullified",
        # P8
        *("votes-missing", "votes-insufficient", "votes-stale", "votes-self", "votes-ineligible", "votes-veto", "acknowledgement-missing"),
        # P9, P10
        *("stale-target", "dependant-tests"),
        *("merge-pending", "merge-failed", "post-merge-pending", "post-merge-failed", "direct-push"),
        # P13, but for locks, reservations and the emergency stop
        *("environment-frozen", "promotion-missing", "soak-incomplete", "go-missing"),
        # P14, P16
        *("unsigned-commit", "rolled-back-change"),
    }
)


def let_pass(row: RuleResult) -> RuleResult:
    """The row as mode warn has it: a failure that may pass becomes a warning, with its reason. What cannot be read is never a pass."""
    if row.result is Result.FAIL and row.reason in LET_PASS:
        return replace(row, result=Result.WARN)
    return row
