"""Document -> plan, purely: what will run, in which order, under which bounds. The plan is readable and has a digest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from pathlib import PurePosixPath
from typing import Final

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest, digest_of

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
class TypeDefaults:
    """What a type fills in, and the program it needs in the sandbox's /usr/bin."""

    program: str
    build: tuple[str, ...]
    test: tuple[str, ...]


TYPES: Final[dict[str, TypeDefaults]] = {
    "make": TypeDefaults("make", ("make",), ("make test",)),
    "c": TypeDefaults("make", ("make",), ("make check",)),
    "shell": TypeDefaults("sh", (), ('for script in tests/*.sh; do sh -eu "$script"; done',)),
    "python": TypeDefaults("python3", (), ("python3 -m unittest discover",)),
    "go": TypeDefaults("go", ("mkdir -p out && go build -mod=vendor -trimpath -o out/ ./...",), ("go test -mod=vendor ./...",)),
    "ruby": TypeDefaults("ruby", (), ("ruby -Ilib -Itest -e 'Dir[\"test/**/*_test.rb\"].sort.each { |file| require File.expand_path(file) }'",)),
    "java": TypeDefaults("mvn", ("mvn -o -q -DskipTests package",), ("mvn -o -q test",)),
    "php": TypeDefaults("php", (), ("php vendor/bin/phpunit",)),
}
"""No network reaches a build: Go and PHP take their dependencies from `vendor/`, Maven from an offline repository in the tree."""


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
    """Plan a document. `enforced` are tests that release engineering adds to the commit stage; `most_s` bounds every stage, in seconds."""
    if document.type is not None and document.type not in TYPES:
        raise ConfigInvalid(1, "type", "must be one of " + ", ".join(sorted(TYPES)) + "; or leave it out and write build and test")
    defaults = TYPES[document.type] if document.type is not None else None
    return Plan(
        component=document.component or component_of(repository),
        type=document.type,
        commit=_commit(document.commit, defaults, enforced, most_s),
        acceptance=_acceptance(document.acceptance, most_s) if document.acceptance else None,
        paths=tuple(sorted(set(document.paths))),
        run=document.run,
        enforced=enforced,
    )


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


def _commit(declared: StageDeclared | None, defaults: TypeDefaults | None, enforced: tuple[str, ...], most_s: int) -> StagePlan:
    build = declared.build if declared else None
    test = declared.test if declared else None
    if build is None:
        build = defaults.build if defaults else ()
    if test is None:
        if defaults is None:
            raise ConfigInvalid(1, "commit.test", "is missing; write a 'test' list, or a 'type' that has one")
        test = defaults.test
    steps = [Step(StepKind.BUILD, command) for command in build] + [Step(StepKind.TEST, command) for command in (*test, *enforced)]
    return StagePlan(StageName.COMMIT, tuple(steps), _timeout(declared, "commit", most_s))


def _acceptance(declared: StageDeclared, most_s: int) -> StagePlan:
    if declared.test is None:
        raise ConfigInvalid(1, "acceptance.test", "is missing; an acceptance stage is a 'test' list")
    return StagePlan(
        StageName.ACCEPTANCE, tuple(Step(StepKind.TEST, command) for command in declared.test), _timeout(declared, "acceptance", most_s)
    )


def _timeout(declared: StageDeclared | None, stage: str, most_s: int) -> int:
    if declared is None or declared.timeout_s is None:
        return min(DEFAULT_TIMEOUT_S, most_s)
    if declared.timeout_s > most_s:
        raise ConfigInvalid(1, f"{stage}.timeout", f"must be at most {most_s}s on this builder")
    return declared.timeout_s
