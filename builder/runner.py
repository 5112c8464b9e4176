"""Runs a planned stage in the sandbox, step by step, into the log, and says how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .fault import BuildFailed
from .log import BuildLog
from .plan import StagePlan, StepKind
from .sandbox import Bind, Exited, Sandbox, TimedOut
from .statement import StageResult, Verdict


@dataclass(frozen=True)
class Surroundings:
    """What a stage is given beside its workspace: a command to start through, variables, read-only binds. A commit stage gets its type's programs."""

    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    binds: Sequence[Bind] = ()

    def with_these(self, other: Surroundings) -> Surroundings:
        """Both; of two starting commands this one's stands first."""
        return Surroundings((*self.prefix, *other.prefix), {**self.environment, **other.environment}, (*self.binds, *other.binds))


@dataclass(frozen=True)
class Outcome:
    """The stage's result, and, where it failed, why in one sentence."""

    result: StageResult
    reason: str | None


def run_stage(
    sandbox: Sandbox,
    stage: StagePlan,
    log: BuildLog,
    surroundings: Surroundings | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Run the steps in order under the stage's one deadline; the first failing step ends the stage.

    Raises `BuildFailed` where a build step fails (there is no artifact to speak about); a failing test is a result.
    """
    around = surroundings or Surroundings()
    deadline = clock() + stage.timeout_s
    passed: list[str] = []
    for step in stage.steps:
        log.write(f"$ {step.command}\n".encode())
        ending = sandbox.run(
            [*around.prefix, "/bin/sh", "-euc", step.command],
            deadline=deadline,
            sink=log.write,
            environment=around.environment,
            binds=around.binds,
        )
        if ending == Exited(0):
            if step.kind is StepKind.TEST:
                passed.append(step.command)
            continue
        code, reason = _explain(ending, step.command, stage, sandbox)
        log.note(reason)
        if step.kind is StepKind.BUILD:
            raise BuildFailed(code or "build-failed", reason)
        return Outcome(StageResult(stage.name, Verdict.FAILED, tuple(passed), (step.command,)), reason)
    return Outcome(StageResult(stage.name, Verdict.PASSED, tuple(passed), ()), None)


def _explain(ending: Exited | TimedOut, command: str, stage: StagePlan, sandbox: Sandbox) -> tuple[str | None, str]:
    shown = command.strip().splitlines()[0][:80]
    if isinstance(ending, TimedOut):
        return "stage-timeout", f"stage {stage.name.value} took longer than its {stage.timeout_s} s; it was in {shown!r}"
    full = sandbox.workspace.full()
    if full is not None:
        return "workspace-full", f"{shown!r} failed with status {ending.status}: the workspace is full ({full})"
    return None, f"{shown!r} failed with status {ending.status}"


def prepare_tree(sandbox: Sandbox, give: Callable[[Path, int], None]) -> None:
    """Hand the build's directories to the sandbox user, where that is another than ours."""
    if sandbox.uid is not None:
        for directory in sandbox.workspace.own:
            give(directory, sandbox.uid)
