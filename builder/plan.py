"""Document -> plan, purely: what will run, in which order, under which bounds. The plan is readable and has a digest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from pathlib import PurePosixPath
from typing import Final

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest, digest_of

from .languages import HEALTH, OUTPUTS, Language, UnknownLanguage, fill, parse_type
from .pipeline import ConfigInvalid, Document, RunDeclared, StageDeclared, is_name
from .statement import StageName

DEFAULT_TIMEOUT_S: Final = 600


@unique
class StepKind(Enum):
    """What a step's failure means: no artifact, or an artifact with a FAILED result."""

    BUILD = "build"
    TEST = "test"


@dataclass(frozen=True)
class Step:
    """One command, run as `/bin/sh -euc COMMAND` in the workspace."""

    kind: StepKind
    command: str


@dataclass(frozen=True)
class StagePlan:
    """Steps in their order and the time for all of them together, in seconds."""

    name: StageName
    steps: tuple[Step, ...]
    timeout_s: int


@dataclass(frozen=True)
class Plan:
    """Everything that will be done for one commit; `digest` names it in every statement."""

    component: str
    type: str | None
    commit: StagePlan
    acceptance: StagePlan | None
    paths: tuple[str, ...]
    run: RunDeclared
    enforced: tuple[str, ...]

    @property
    def digest(self) -> Digest:
        """sha256 of the RFC 8785 bytes of `render_plan`: the document with its defaults filled in, and the enforced steps."""
        return digest_of(encode_canonical(render_plan(self)))

    def stage(self, name: StageName) -> StagePlan:
        """The stage asked for; `ConfigInvalid` if the document declares none."""
        chosen = self.commit if name is StageName.COMMIT else self.acceptance
        if chosen is None:
            raise ConfigInvalid(1, "acceptance", "the document declares no acceptance stage; add one with a 'test' list")
        return chosen


def make_plan(document: Document, *, repository: str, enforced: tuple[str, ...], most_s: int) -> Plan:
    """Plan a document. `enforced` are tests that release engineering adds to the commit stage; `most_s` bounds every stage, in seconds.

    What the document leaves out is its type's; `ConfigInvalid` where there is none.
    """
    language = _language(document)
    component = document.component or component_of(repository)
    return Plan(
        component=component,
        type=document.type,
        commit=_commit(document, language, component, enforced, most_s),
        acceptance=_acceptance(document, document.acceptance, most_s) if document.acceptance else None,
        paths=tuple(sorted(set(document.paths or OUTPUTS))),
        run=_run(document, language, component),
        enforced=enforced,
    )


def _language(document: Document) -> Language | None:
    if document.type is None:
        return None
    try:
        return parse_type(document.type).language
    except UnknownLanguage as error:
        raise document.wrong("type", f"{error}; or leave it out and write build, test, artifact and run") from None


def _run(document: Document, language: Language | None, component: str) -> RunDeclared:
    argv = document.run.argv or (fill(language.argv, component) if language else None)
    if argv is None:
        raise document.wrong("run.argv", "is missing; write it, or a 'type' that has one")
    return RunDeclared(argv=argv, health=document.run.health or HEALTH, grace_s=document.run.grace_s)


def component_of(repository: str) -> str:
    """The default component: the last part of the repository's name."""
    name = PurePosixPath(repository.rstrip("/")).name.removesuffix(".git")
    if not is_name(name):
        raise ConfigInvalid(1, "component", "is missing, and the repository's name gives none")
    return name


def render_plan(plan: Plan) -> dict[str, Json]:
    """The plan as a JSON document for people and for its digest."""
    return {
        "component": plan.component,
        "type": plan.type,
        "commit": _render_stage(plan.commit),
        "acceptance": _render_stage(plan.acceptance) if plan.acceptance else None,
        "artifact": {"paths": list(plan.paths)},
        "run": {"argv": list(plan.run.argv), "health": plan.run.health, "grace_s": plan.run.grace_s},
        "enforced": list(plan.enforced),
    }


def _render_stage(stage: StagePlan) -> dict[str, Json]:
    return {"steps": [{"kind": step.kind.value, "command": step.command} for step in stage.steps], "timeout_s": stage.timeout_s}


def _commit(document: Document, language: Language | None, component: str, enforced: tuple[str, ...], most_s: int) -> StagePlan:
    declared = document.commit
    build = declared.build if declared else None
    test = declared.test if declared else None
    if build is None:
        build = fill(language.build, component) if language else ()
    if test is None:
        if language is None:
            raise document.wrong("commit.test", "is missing; write a 'test' list, or a 'type' that has one")
        test = fill(language.test, component)
    steps = [Step(StepKind.BUILD, command) for command in build] + [Step(StepKind.TEST, command) for command in (*test, *enforced)]
    return StagePlan(StageName.COMMIT, tuple(steps), _timeout(document, declared, "commit", most_s))


def _acceptance(document: Document, declared: StageDeclared, most_s: int) -> StagePlan:
    if declared.test is None:
        raise document.wrong("acceptance.test", "is missing; an acceptance stage is a 'test' list")
    steps = tuple(Step(StepKind.TEST, command) for command in declared.test)
    return StagePlan(StageName.ACCEPTANCE, steps, _timeout(document, declared, "acceptance", most_s))


def _timeout(document: Document, declared: StageDeclared | None, stage: str, most_s: int) -> int:
    if declared is None or declared.timeout_s is None:
        return min(DEFAULT_TIMEOUT_S, most_s)
    if declared.timeout_s > most_s:
        raise document.wrong(f"{stage}.timeout", f"must be at most {most_s}s on this builder")
    return declared.timeout_s
