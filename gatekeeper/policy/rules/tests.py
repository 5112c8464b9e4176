"""Signed stage results: P6 (decision rules, section 2)."""

from __future__ import annotations

from datetime import timedelta

from gatekeeper.model.decision import Purpose, RuleResult
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.model.facts import TestResult, TestVerdict
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.case import Case
from gatekeeper.policy.rule import Rule, failed, item_of, passed, skipped, unreadable

from .origin import doubt_signer


def stage_rule(stage: str) -> Rule:
    """The rule that one required stage passed for exactly this artifact."""
    return Rule(f"tests.{stage}", lambda case: _stage(case, stage))


def _stage(case: Case, stage: str) -> RuleResult:
    rule = f"tests.{stage}"
    if case.candidate.purpose is Purpose.CONFIGURATION:
        # Switching something off must not wait for what is broken: a stage that failed since is often the reason for it.
        return skipped(rule, "the artifact stays, and was tested before it came (origin.age sees to it)")
    evidence = case.evidence.results.get(stage, Absent())
    item = item_of(rule, evidence)
    match evidence:
        case Unreadable() as unread:
            return unreadable(rule, unread, rule)
        case Absent() | Present(value=()):
            return _missing(case, stage)
        case Present(value=results):
            commit = _commit(case)
            failures: list[TestResult] = []
            for checked in results:
                if isinstance(checked, Refusal):
                    expected = f"a signed result of stage {stage}"
                    return failed(rule, checked.reason, item, expected=expected, actual=checked.detail, need="run the stage again")
                if stranger := doubt_signer(rule, case, checked.value.signer, item):
                    return stranger
                if commit is not None and checked.value.signer.commit not in (None, commit):
                    return failed(
                        rule,
                        "provenance-commit",
                        item,
                        expected=f"a result of a run for commit {commit}, from which the artifact was built",
                        actual=f"the run was for {checked.value.signer.commit}",
                        need="run the stage for the commit that the artifact was built from",
                    )
                if checked.value.verdict is TestVerdict.FAILED:
                    failures.append(checked.value)
            # A later failure nullifies an earlier pass (P7); a later pass does not wash an earlier failure of the same bytes.
            if failures:
                return failed(
                    rule,
                    "stage-failed",
                    item,
                    expected=f"stage {stage} passed",
                    actual="failed: " + (", ".join(failures[0].failed[:5]) or "no test named"),
                    need="mend it and push; a new commit gets a new artifact",
                )
            return passed(rule, f"{len(results)} signed result(s), all passed", item)


def _commit(case: Case) -> str | None:
    # A test result names no commit of its own. Without a verified manifest there is none to compare with, and origin.signature refuses.
    match case.evidence.manifest:
        case Present(value=manifest) if not isinstance(manifest, Refusal):
            return manifest.value.source.commit
        case _:
            return None


def _missing(case: Case, stage: str) -> RuleResult:
    # Nobody announces a run to the gatekeeper. An artifact that arrived a short while ago counts as still being tested.
    rule = f"tests.{stage}"
    expected = f"a signed result of stage {stage} for {case.candidate.artifact}"
    match case.evidence.received:
        case Unreadable() as unread:
            return unreadable(rule, unread, "received")
        case Present(value=received) if case.at < received.at + timedelta(seconds=case.environment.stage_wait_s):
            return failed(
                rule,
                "stage-pending",
                expected=expected,
                actual="none yet",
                need=f"the pipeline runs stage {stage} and submits its result; the ping then goes on by itself",
            )
        case _:
            return failed(rule, "stage-missing", expected=expected, actual="none", need=f"run stage {stage} for this artifact, then ping again")
