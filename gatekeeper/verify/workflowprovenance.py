"""SLSA provenance that foreign platforms write about their own builds, read as far as it is compared.

Version 1, of the build types of GitHub's workflows (`https://actions.github.io/buildtypes/workflow/v1`, and the one of slsa-framework):

| member | becomes | demanded |
|---|---|---|
| buildDefinition.externalParameters.workflow.repository, .ref | repository, ref | one leading ``git+`` is taken off |
| ....everything else, leaf by leaf | parameters | compared by the policy with a closed set |
| buildDefinition.internalParameters.github.event_name | trigger | text; empty where missing |
| ....repository_id, ....runner_environment | repository_id, runner | the same |
| buildDefinition.resolvedDependencies | commit | exactly one is ``[git+]REPOSITORY[@REF]``, by gitCommit, else ``provenance-inputs`` |
| ....every other | dependencies | uri and digest, else ``provenance-inputs`` |
| runDetails.builder.id | builder_id | equal to the signer's, else ``unknown-builder`` |
| runDetails.metadata.invocationId | run | read by `source.run_of`; equal to the signer's, else ``provenance-commit`` |

Version 0.2 (`https://slsa.dev/provenance/v0.2`), any build type but ours:

| member | becomes | demanded |
|---|---|---|
| buildType | build_type | compared by the policy |
| invocation.configSource.uri, .digest | repository, ref, commit | gitCommit or sha1; a material says the same, else ``provenance-inputs`` |
| invocation.configSource.entryPoint, invocation.parameters | parameters | as above, as ``entryPoint`` and below ``parameters/`` |
| invocation.environment.github_event_name, github_repository_id, github_runner_environment | trigger, repository_id, runner | as above |
| materials | dependencies | as resolvedDependencies |
| builder.id, metadata.buildInvocationID | builder_id, run | as above |

Read by name and not compared, because nothing is decided by it: times, reproducibility, byproducts, the builder's version, its own
dependencies, buildConfig, and the rest of internalParameters and environment. Any other member of these objects is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gatekeeper.model.canonical import NotCanonical
from gatekeeper.model.facts import Dependency, Provenance
from gatekeeper.model.fields import Fields
from gatekeeper.model.parameters import Parameters, TooManyParameters, flatten_parameters
from gatekeeper.model.uris import GITHUB_WORKFLOW, PIPELINE, SLSA_GITHUB_WORKFLOW

from .claims import Claim, Unbelievable, demand_signer, with_source
from .source import run_of, split_source
from .statement import read_digest_set

WORKFLOWS = frozenset({GITHUB_WORKFLOW, SLSA_GITHUB_WORKFLOW})
_MAX_URI = 2048
_SOURCE = frozenset({"workflow/repository", "workflow/ref"})


@dataclass(frozen=True)
class _Platform:
    """What the platform says of the run: empty where it says nothing."""

    trigger: str = ""
    repository_id: str = ""
    runner: str = ""


def read_workflow_provenance(claim: Claim, build_type: str, definition: Fields, details: Fields) -> Provenance:
    """Read a predicate of version 1 whose build type is one of `WORKFLOWS`; raises `FieldError` or `Unbelievable`."""
    external = definition.nested("externalParameters")
    workflow = external.nested("workflow")
    repository, ref = workflow.text("repository", max_length=_MAX_URI).removeprefix("git+"), workflow.text("ref")
    parameters = _flatten(external, {name: external.raw(name) for name in external.names()}, without=_SOURCE)
    platform = definition.optional("internalParameters", lambda key: _read_platform(definition.nested(key))) or _Platform()
    commit, dependencies = _read_dependencies(definition, "resolvedDependencies", repository, ref, algorithms=("gitCommit",))
    definition.done()
    builder, metadata = details.nested("builder"), details.nested("metadata")
    builder_id, run = builder.text("id", max_length=_MAX_URI), metadata.text("invocationId", max_length=_MAX_URI)
    _leave(builder, "version", "builderDependencies")
    _leave(metadata, "startedOn", "finishedOn")
    _leave(details, "byproducts")
    return _provenance(claim, build_type, (builder_id, run), (repository, ref, commit), parameters, dependencies, platform)


def read_older_provenance(claim: Claim) -> Provenance:
    """Read a predicate of version 0.2; raises `FieldError` or `Unbelievable`."""
    fields = claim.statement.predicate
    build_type = fields.text("buildType", max_length=_MAX_URI)
    if build_type == PIPELINE:
        raise Unbelievable("provenance-predicate", "our build type is told in provenance of version 1")
    invocation, builder, metadata = fields.nested("invocation"), fields.nested("builder"), fields.nested("metadata")
    source = invocation.nested("configSource")
    repository, at = split_source(source.text("uri", max_length=_MAX_URI))
    ref = at or ""
    named = _commit_of(read_digest_set(source.nested("digest")), ("gitCommit", "sha1"))
    given: dict[str, object] = {"entryPoint": source.optional("entryPoint", lambda key: source.text(key, max_length=_MAX_URI))}
    source.done()
    given["parameters"] = invocation.optional("parameters", lambda key: _members(invocation, key))
    platform = invocation.optional("environment", lambda key: _read_environment(invocation.nested(key))) or _Platform()
    invocation.done()
    commit, dependencies = _read_dependencies(fields, "materials", repository, ref, algorithms=("gitCommit", "sha1"))
    builder_id, run = builder.text("id", max_length=_MAX_URI), metadata.text("buildInvocationID", max_length=_MAX_URI)
    builder.done()
    _leave(metadata, "buildStartedOn", "buildFinishedOn", "completeness", "reproducible")
    _leave(fields, "buildConfig")
    if named != commit:
        raise Unbelievable("provenance-inputs", "configSource and materials name the source by different commits")
    parameters = _flatten(invocation, given)
    return _provenance(claim, build_type, (builder_id, run), (repository, ref, commit), parameters, dependencies, platform)


def _provenance(
    claim: Claim,
    build_type: str,
    built: tuple[str, str],
    source: tuple[str, str, str],
    parameters: Parameters,
    dependencies: Sequence[Dependency],
    platform: _Platform,
) -> Provenance:
    (builder_id, invocation), (repository, ref, commit) = built, source
    run = run_of(repository, invocation)
    demand_signer(claim.signer, builder_id=builder_id, run=run)
    signer = with_source(claim.signer, repository=repository, commit=commit, run=run)
    return Provenance(
        artifact=claim.artifact,
        builder_id=builder_id,
        build_type=build_type,
        repository=repository,
        ref=ref,
        commit=commit,
        tree="",
        run=run,
        started=None,
        finished=None,
        log=None,
        signer=signer,
        repository_id=platform.repository_id,
        parameters=parameters,
        dependencies=tuple(dependencies),
        trigger=platform.trigger,
        runner=platform.runner,
        legacy=claim.statement.legacy,
    )


def _read_dependencies(
    fields: Fields, key: str, repository: str, ref: str, *, algorithms: tuple[str, ...]
) -> tuple[str, tuple[Dependency, ...]]:
    """The commit of the one dependency that is the source, and all others, as they stand."""
    commits, others = [], []
    for item in fields.objects(key):
        uri, digests = item.text("uri", max_length=_MAX_URI), _read_digests(item)
        _leave(item, "name", "mediaType", "downloadLocation", "annotations")
        place, named = split_source(uri)
        if place != repository:
            others.append(Dependency(uri, tuple(sorted(digests.items()))))
        elif named not in (ref, None):
            raise Unbelievable("provenance-inputs", "the source was resolved at another ref than the parameters name")
        else:
            commits.append(_commit_of(digests, algorithms))
    if len(commits) != 1:
        raise Unbelievable("provenance-inputs", "exactly one dependency must be the source that the parameters name")
    return commits[0], tuple(others)


def _read_digests(item: Fields) -> Mapping[str, str]:
    digests = item.optional("digest", lambda key: read_digest_set(item.nested(key)))
    if not digests:
        raise Unbelievable("provenance-inputs", "a dependency is not resolved to a digest")
    return digests


def _commit_of(digests: Mapping[str, str], algorithms: tuple[str, ...]) -> str:
    if len(digests) != 1 or next(iter(digests)) not in algorithms:
        raise Unbelievable("provenance-inputs", "the source must be named by its " + " or ".join(algorithms) + " and nothing else")
    return next(iter(digests.values()))


def _read_platform(internal: Fields) -> _Platform:
    said = internal.optional("github", internal.nested)
    return _Platform() if said is None else _said(said, "event_name", "repository_id", "runner_environment")


def _read_environment(environment: Fields) -> _Platform:
    return _said(environment, "github_event_name", "github_repository_id", "github_runner_environment")


def _said(fields: Fields, *keys: str) -> _Platform:
    trigger, repository_id, runner = (fields.optional(key, fields.text) or "" for key in keys)
    return _Platform(trigger, repository_id, runner)


def _members(fields: Fields, key: str) -> dict[str, object]:
    inner = fields.nested(key)
    return {name: inner.raw(name) for name in inner.names()}


def _flatten(fields: Fields, members: Mapping[str, object], *, without: frozenset[str] = frozenset()) -> Parameters:
    try:
        return flatten_parameters(members, without=without)
    except (TooManyParameters, NotCanonical) as error:
        raise fields.error("externalParameters", str(error)) from error


def _leave(fields: Fields, *names: str) -> None:
    """Accept these members unread, where they are, and no others beyond those that were asked for."""
    for name in names:
        fields.optional(name, fields.raw)
    fields.done()
