"""Gatekeeper, database, vault and target are killed in turn in the middle of a deploy: the ping ends deployed exactly once.

The middle is no guess: the target has written down that it accepted the receipt, the new version waits for something, the ping is `applying`;
and after the kill the target's record still holds no outcome. Only then is the version let go.

What "killed" means: SIGKILL of the gatekeeper's, the database's and the vault's process; at the target, of the SSH host, the doorkeeper in
its middle and the workloads, as when a machine loses its power. Such a target puts back what ran and says that it was interrupted; the receipt
is spent, so the same ping is decided anew and gets another. Every other part's death costs no second Allow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from .held import HeldVersion, bring_to_test, make_held_version
from .history import Log, accepted_by, allows_of, outcomes_of, published, record_of, record_state
from .steps import Stage
from .telling import StepFailed, Telling
from .world import InstanceWorld

PARTS: Final = ("gatekeeper-production", "database", "vault", "target-production")
CHANGE: Final = "I" + "6" * 40
GRACE_S: Final = 180
"""how long the version may be held, far longer than it is"""
MIDDLE_S: Final = 60.0
END_S: Final = 120.0
_POLL_S: Final = 0.02
_ASK_AGAIN_S: Final = 0.1
_OVER: Final = ("denied", "failed", "rolled-back", "unresponsive", "cancelled")


@dataclass(frozen=True)
class _Killed:
    part: str
    ping: str
    receipt: str
    """with which it was applying when the part was killed"""
    found: Any
    """the ping at its end"""


def restart_mid_deploy(stage: Stage, telling: Telling, test: InstanceWorld, production: InstanceWorld) -> None:
    """One version, deployed once for each part that is killed."""
    what = "gatekeeper, database, vault and target are killed (SIGKILL) in turn while production is applying: each ping ends deployed, once"
    with telling.step("restart-mid-deploy", what) as detail:
        version = make_held_version(stage, "Start when it is let", change=CHANGE, grace_s=GRACE_S)
        bring_to_test(stage, test, production, version.built)
        killed = []
        for part in PARTS:
            if part in stage.world.parts:
                killed.append(_kill_in_the_middle(stage, production, version, part))
            else:
                detail[part] = "not shown: its server was given, and is not the demo's to kill"
        log = published(stage, production, max(k.found["outcome_index"] for k in killed))
        for one in killed:
            detail[one.part] = _demand_once(stage, production, log, one)
        detail["record_of_the_target"] = record_state(stage, production)
        if not detail["record_of_the_target"].startswith("intact"):
            raise StepFailed(f"the target's record does not hold: {detail['record_of_the_target']}")


def _kill_in_the_middle(stage: Stage, production: InstanceWorld, version: HeldVersion, part: str) -> _Killed:
    with version.held():
        before = len(accepted_by(stage, production))
        ping = stage.ping(production, version.built)
        receipt = _wait_for_the_middle(stage, production, ping, before)
        stage.kill(part)
        after = record_of(stage, production, [receipt])
        if after != ["accepted"]:
            raise StepFailed(f"{part} was not killed in the middle: the target's record has {after} for {receipt}")
    return _Killed(part, ping, receipt, _wait_for_the_end(stage, production, ping))


def _wait_for_the_middle(stage: Stage, production: InstanceWorld, ping: str, before: int) -> str:
    deadline = time.monotonic() + MIDDLE_S
    while len(accepted := accepted_by(stage, production)) == before and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    found = stage.look(production, ping)
    if found["state"] != "applying" or accepted[before:] != [found["receipt_id"]]:
        raise StepFailed(f"ping {ping} is not in the middle of its deploy: {found['state']} {found['detail']}, accepted {accepted[before:]}")
    return str(found["receipt_id"])


def _wait_for_the_end(stage: Stage, production: InstanceWorld, ping: str) -> Any:
    deadline = time.monotonic() + END_S
    last = "no answer"
    while time.monotonic() < deadline:
        # Without gatekeeper or database there is no answer: that is what was killed.
        with suppress(OSError, StepFailed):
            found = stage.look(production, ping)
            if found["state"] == "deployed":
                return found
            last = f"{found['state']} ({', '.join(found['reasons'])}: {found['detail']})"
            if found["state"] in _OVER:
                break
        time.sleep(_ASK_AGAIN_S)
    raise StepFailed(f"ping {ping} did not end deployed: {last}")


def _demand_once(stage: Stage, production: InstanceWorld, log: Log, one: _Killed) -> str:
    """What the log and the target say of the ping, which must be one deployment. Raises `StepFailed`."""
    cut = one.part.startswith("target-")
    outcomes, allows = outcomes_of(log, one.ping), allows_of(log, one.ping)
    first = record_of(stage, production, [one.receipt])
    last = record_of(stage, production, [one.found["receipt_id"]])
    expected = (["interrupted", "deployed"], ["accepted", "interrupted"], ["accepted", "healthy"]) if cut else (["deployed"], *2 * (_ONCE,))
    if (outcomes, first, last) != expected or len(allows) != len(outcomes) or (one.receipt == one.found["receipt_id"]) is cut:
        raise StepFailed(f"{one.part}: log {allows} {outcomes}, target {first} and {last}, expected {expected}")
    return _told(one.ping, outcomes, allows, first + last if cut else first)


_ONCE: Final = ["accepted", "healthy"]


def _told(ping: str, outcomes: Sequence[str], allows: Sequence[int], record: Sequence[str]) -> str:
    said = ", ".join(f"Allow {index} {outcome}" for index, outcome in zip(allows, outcomes, strict=True))
    return f"ping {ping}; log: {said}; target: {', '.join(record)}"
