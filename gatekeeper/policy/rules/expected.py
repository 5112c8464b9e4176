"""A provenance against what the policy expects of the component's provenance (P4): every field that is compared, and the code it fails by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gatekeeper.model.facts import ArtifactManifest, Dependency, Provenance, Revision
from gatekeeper.policy.case import Case
from gatekeeper.policy.document import repository_of


@dataclass(frozen=True)
class Unmet:
    """One field that does not say what it must."""

    reason: str
    expected: str
    actual: str


def expected_repository(case: Case) -> str:
    """The repository as the builder names it."""
    return repository_of(case.project, case.component)


def unmet_by_manifest(case: Case, fact: ArtifactManifest, revision: Revision) -> Iterator[Unmet]:
    """What an artifact manifest says of its build otherwise than the policy and the repository."""
    source = fact.source
    yield from _differs("unknown-builder", "builder", case.component.builder, fact.builder_id)
    yield from _differs("provenance-project", "repository", expected_repository(case), source.repository)
    yield from _differs("provenance-commit", "commit", revision.commit, source.commit)
    yield from _differs("provenance-tree", "tree", revision.tree, source.tree)


def unmet_by_provenance(case: Case, fact: Provenance, revision: Revision) -> Iterator[Unmet]:
    """What a provenance says otherwise than the policy and the repository."""
    expected = case.component.expectations
    if strange := sorted(fact.legacy - expected.legacy):
        yield Unmet("provenance-predicate", "a statement of a form that the component's policy names", strange[0])
    yield from _differs("provenance-predicate", "build type", case.component.build_type, fact.build_type)
    yield from _differs("unknown-builder", "builder", case.component.builder, fact.builder_id)
    yield from _differs("provenance-project", "repository", expected_repository(case), fact.repository)
    if fact.foreign:  # our own builders' was the token's, at the intake
        yield from _differs("provenance-project", "repository id", expected.repository_id or "none", fact.repository_id or "none")
    yield from _strange("provenance-project", "ref", expected.refs or {f"refs/heads/{case.project.default_branch}"}, fact.ref)
    yield from _differs("provenance-commit", "commit", revision.commit, fact.commit)
    if not fact.foreign:  # a foreign commit names its tree
        yield from _differs("provenance-tree", "tree", revision.tree, fact.tree)
    yield from _strange("provenance-inputs", "trigger", expected.triggers or {""}, fact.trigger)
    yield from _strange("provenance-inputs", "runner", expected.runners or {""}, fact.runner)
    yield from _inputs(case, fact)


def _inputs(case: Case, fact: Provenance) -> Iterator[Unmet]:
    allowed, found = dict(case.component.expectations.parameters), dict(fact.parameters)
    for name in sorted(allowed.keys() | found.keys()):
        if allowed.get(name) != found.get(name):
            actual = f"parameter {name} = {found.get(name, 'nothing')}"
            yield Unmet("provenance-inputs", f"parameter {name} = {allowed.get(name, 'nothing')}", actual)
    for dependency in fact.dependencies:
        if dependency not in case.component.expectations.dependencies:
            yield Unmet("provenance-inputs", "dependencies that the component's policy names, by digest", _named(dependency))


def _differs(reason: str, name: str, expected: str, actual: str) -> Iterator[Unmet]:
    if actual != expected:
        yield Unmet(reason, f"{name} {expected}", f"{name} {actual}")


def _strange(reason: str, name: str, allowed: frozenset[str] | set[str], actual: str) -> Iterator[Unmet]:
    if actual not in allowed:
        words = " or ".join(sorted(text or "that is not named" for text in allowed))
        yield Unmet(reason, f"{name} {words}", f"{name} {actual or 'not named'}")


def _named(dependency: Dependency) -> str:
    return f"{dependency.uri} at " + ", ".join(f"{name}:{value}" for name, value in dependency.digests)
