"""Claims of foreign platforms as the caller they name: one reader for each kind, no pattern anywhere.

| kind | project | commit | ref | run | actor | recipe | trigger |
|---|---|---|---|---|---|---|---|
| gitlab | project_id | sha | ref_path (agrees with ref, ref_type) | job_id | user_id | ci_config_ref_uri | pipeline_source |
| github | repository_id | sha | ref | run_id-run_attempt | actor_id | job_workflow_ref | event_name |
| kubernetes | namespace/account/account's uid | none | none | pod's uid | sub | namespace/account/account's uid | none |
| zuul | tenant/canonical project, of sub | none (`zuulbuild`) | none | build-uuid | sub | tenant/pipeline/job-name | pipeline |
| spiffe | sub | none | none | sub | sub | sub | none |

Numbers are taken where the platform has them: a path, a login or a repository's name may be given to somebody else tomorrow. What stands in
a token twice must agree. Each value is looked up in the policy's tables, or compared with its lists, as it stands.
Documentation: GitLab "ID token authentication", GitHub "OpenID Connect reference", Kubernetes "Managing service accounts", Zuul "Token
secrets", SPIFFE "JWT-SVID" 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gatekeeper.model.fields import Fields
from gatekeeper.model.issuer import HOSTED, TRIGGERED, UNTRUSTED_TRIGGERS, IssuerKind, Platform
from gatekeeper.model.spiffeid import MalformedSpiffeId, parse_spiffe_id

_TYPES: Final[Mapping[str, str]] = MappingProxyType({"branch": "refs/heads/", "tag": "refs/tags/"})
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,19}")
_UUID: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class NotAdmitted(Exception):
    """The token is genuine, and the policy takes no such run (reason ``not-authorised``). `detail` holds nothing of the token."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True)
class ClaimedRun:
    """What a platform's token says of its run, in our words. `commit` and `ref` are empty where such a token names none."""

    project: str
    project_id: str
    commit: str
    ref: str
    run: str
    actor: str
    builder_id: str
    recipe: str


@dataclass(frozen=True)
class _Read:
    project_id: str
    commit: str
    ref: str
    run: str
    actor: str
    recipe: str
    trigger: str = ""
    runner: str = ""


def read_platform_claims(claims: Fields, platform: Platform) -> ClaimedRun:
    """Read by the table above; raises `FieldError` for claims of another form, `NotAdmitted` for a run that the policy does not take."""
    read = _READERS[platform.kind](claims)
    project = platform.projects.get(read.project_id)
    if project is None:
        raise NotAdmitted("the policy names no project with the token's project id")
    builder_id = platform.recipes.get(read.recipe)
    if builder_id is None:
        raise NotAdmitted("the policy names no builder for the definition that the token's run follows")
    if platform.kind in TRIGGERED and (read.trigger in UNTRUSTED_TRIGGERS or read.trigger not in platform.triggers):
        raise NotAdmitted("the policy takes no run that was set off like the token's")
    if platform.kind in HOSTED and read.runner not in platform.runners:
        raise NotAdmitted("the policy takes no run on a machine like the token's")
    # Where Zuul says which commit its build is for, it is asked before anything is decided.
    if not platform.builds_url:
        demand_commit_or_leave(read.commit, platform)
    return ClaimedRun(project, read.project_id, read.commit, read.ref, read.run, read.actor, builder_id, read.recipe)


def demand_commit_or_leave(commit: str, platform: Platform) -> None:
    """Raises `NotAdmitted` for a run without a commit, unless the policy takes such runs of this issuer."""
    if not commit and not platform.unbound:
        raise NotAdmitted("the token names no commit, and the policy does not say that this issuer's tokens may be without one")


def trust_domain_of(subject: str) -> str:
    """The trust domain of a workload's SPIFFE id; empty for anything that is none."""
    try:
        domain, path = parse_spiffe_id(subject)
    except MalformedSpiffeId:
        return ""
    return domain if path else ""


def _gitlab(claims: Fields) -> _Read:
    ref, kind = claims.text("ref", max_length=255), claims.choice("ref_type", tuple(_TYPES))
    path = claims.text("ref_path", max_length=300)
    if path != _TYPES[kind] + ref:
        # A tag named like a branch has the branch's `ref`.
        raise claims.error("ref_path", "is another ref than ref and ref_type name")
    return _Read(
        project_id=_matching(claims, "project_id", _NUMBER),
        commit=claims.commit("sha"),
        ref=path,
        run=_matching(claims, "job_id", _NUMBER),
        actor=_matching(claims, "user_id", _NUMBER),
        recipe=claims.text("ci_config_ref_uri", max_length=1024),
        trigger=claims.text("pipeline_source"),
        runner=claims.text("runner_environment"),
    )


def _github(claims: Fields) -> _Read:
    ref, kind = claims.text("ref", max_length=300), claims.choice("ref_type", tuple(_TYPES))
    if not ref.startswith(_TYPES[kind]):
        raise claims.error("ref", "is of another type than ref_type names")
    return _Read(
        project_id=_matching(claims, "repository_id", _NUMBER),
        commit=claims.commit("sha"),
        ref=ref,
        run=f"{_matching(claims, 'run_id', _NUMBER)}-{_matching(claims, 'run_attempt', _NUMBER)}",
        actor=_matching(claims, "actor_id", _NUMBER),
        recipe=claims.text("job_workflow_ref", max_length=1024),
        trigger=claims.text("event_name"),
        runner=claims.text("runner_environment"),
    )


def _kubernetes(claims: Fields) -> _Read:
    inner = claims.nested("kubernetes.io")
    namespace, account, pod = inner.text("namespace"), inner.nested("serviceaccount"), inner.nested("pod")
    name = account.text("name")
    if claims.text("sub") != f"system:serviceaccount:{namespace}:{name}":
        raise claims.error("sub", "is another service account than kubernetes.io names")
    whole = f"{namespace}/{name}/{_matching(account, 'uid', _UUID)}"
    return _Read(whole, "", "", _matching(pod, "uid", _UUID), claims.text("sub"), whole)


def _zuul(claims: Fields) -> _Read:
    tenant, subject = claims.text("tenant"), claims.text("sub", max_length=1024)
    prefix, _, rest = subject.partition(":")
    # The secret's own name comes last and has no slash; a canonical project has a host and a path.
    project, _, secret = rest.rpartition("/")
    if prefix != "secret" or not secret or not project.startswith(f"{tenant}/") or project.count("/") < 2:
        raise claims.error("sub", "is not secret:TENANT/CANONICAL-PROJECT/SECRET of the token's tenant")
    recipe = f"{tenant}/{claims.text('pipeline')}/{claims.text('job-name')}"
    return _Read(project, "", "", _matching(claims, "build-uuid", _UUID), subject, recipe, trigger=claims.text("pipeline"))


def _spiffe(claims: Fields) -> _Read:
    subject = claims.text("sub", max_length=2048)
    return _Read(subject, "", "", subject, subject, subject)


def _matching(fields: Fields, key: str, form: re.Pattern[str]) -> str:
    value = fields.text(key)
    if form.fullmatch(value) is None:
        raise fields.error(key, "is not of the form that the platform gives it")
    return value


_READERS: Final[Mapping[IssuerKind, Callable[[Fields], _Read]]] = MappingProxyType(
    {
        IssuerKind.GITLAB: _gitlab,
        IssuerKind.GITHUB: _github,
        IssuerKind.KUBERNETES: _kubernetes,
        IssuerKind.ZUUL: _zuul,
        IssuerKind.SPIFFE: _spiffe,
    }
)
