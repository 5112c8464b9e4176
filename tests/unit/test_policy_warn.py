"""Which codes mode warn lets pass: findings about a change, and nothing else."""

import pytest

from gatekeeper.model.decision import Result, RuleResult
from gatekeeper.model.reason import REASONS, Effect
from gatekeeper.policy.warn import LET_PASS, let_pass


def test_what_passes_is_in_the_table_and_is_never_a_cause_of_not_knowing():
    assert set(REASONS) >= LET_PASS
    assert not [code for code in LET_PASS if Effect.IND in REASONS[code].effects]
    assert not LET_PASS & {"rule-error", "policy-empty", "never-deployed", "artifact-expired", "environment-busy", "environment-reserved", "stopped", "hold-active"}


@pytest.mark.parametrize("code", sorted(REASONS))
def test_a_failure_with_a_code_that_may_pass_becomes_a_warning_with_its_reason(code):
    row = RuleResult("r", Result.FAIL, code, expected="a", actual="b", need="c", who="d")
    found = let_pass(row)
    assert found.result is (Result.WARN if code in LET_PASS else Result.FAIL)
    assert (found.reason, found.need, found.who) == (code, "c", "d")


@pytest.mark.parametrize("result", [Result.UNREADABLE, Result.PASS, Result.SKIP, Result.EXEMPT])
def test_what_is_no_failure_is_not_touched_whatever_its_reason_says(result):
    row = RuleResult("r", result, "votes-missing")
    assert let_pass(row) is row
