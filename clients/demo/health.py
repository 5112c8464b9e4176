"""A version that was healthy in the test environment and never becomes so in production: it is put back by itself."""

from __future__ import annotations

from typing import Any, Final

from .held import bring_to_test, make_held_version
from .history import outcomes_of, published
from .steps import Stage
from .telling import StepFailed, Telling
from .world import InstanceWorld

GRACE_S: Final = 6
"""so long production waits in vain; in the test environment it is healthy within that on a busy machine too"""
CHANGE: Final = "I" + "5" * 40
UNHEALTHY: Final = 6
"""exit code of `pingee ping --wait`"""


def health_rollback(stage: Stage, telling: Telling, test: InstanceWorld, production: InstanceWorld) -> None:
    """Nobody rolls it back; the outcome is logged and explained, and what ran before serves again."""
    what = "a version that never becomes healthy in production: the target puts back what ran, the log has the outcome, the ping says why"
    with telling.step("health-rollback", what) as detail:
        before, body = _running(stage, production), stage.fetch(production).strip()
        version = make_held_version(stage, "Wait for what only the test environment has", change=CHANGE, grace_s=GRACE_S)
        bring_to_test(stage, test, production, version.built)
        with version.held():
            arguments = ("ping", "production", stage.world.component, "--artifact", version.built.artifact, "--wait", "-o", "json")
            found = stage.as_run(version.built.run, production, *arguments, code=UNHEALTHY).document()
        explained = stage.pingee(production, "explain", found["id"], "-o", "json").document()
        outcomes = outcomes_of(published(stage, production, found["outcome_index"]), found["id"])
        if (found["state"], found["reasons"], outcomes) != ("rolled-back", ["health-failed"], ["rolled-back"]):
            raise StepFailed(f"expected rolled-back, health-failed and one such outcome, got {found['state']} {found['reasons']} {outcomes}")
        if before["artifact"] not in found["detail"] or explained["headline"] != "ROLLED BACK" or not explained["next_step"]:
            raise StepFailed(f"the ping does not explain itself: {found['detail']!r}, {explained['headline']}, {explained['next_step']}")
        if _running(stage, production) != before or stage.fetch(production).strip() != body:
            raise StepFailed(f"what ran before does not run again: {_running(stage, production)}, expected {before}")
        detail |= {"ping": found["id"], "artifact": found["artifact"], "state": found["state"], "reason": "health-failed"}
        detail |= {"why": found["detail"], "restored": before["artifact"], "outcome_index": found["outcome_index"], "exit_code": UNHEALTHY}
        detail |= {"next_step": explained["next_step"]["text"], "http_body": body, "page": found["permalink"]}


def _running(stage: Stage, production: InstanceWorld) -> Any:
    (row,) = stage.pingee(production, "running", "-o", "json").document()
    return row
