"""Platforms whose tokens have claims of their own, in the vault: a login method for each, and one role for each builder and project.

A foreign token says a project's number and not our name for it, and no builder id at all. So both stand in the vault's role, from the reviewed
layout; the role binds the number and the definition that the run follows, and takes commit and run alone from the token. Nothing here can be
reached with a login of the gatekeeper: the run's own token logs in.

| kind | bound by the role | commit | run | user_claim |
|---|---|---|---|---|
| gitlab | project_id, ci_config_ref_uri | sha | job_id | jti |
| github | repository_id, job_workflow_ref | sha | run_id-run_attempt | jti |

Kinds whose tokens name no commit have no place here: the vault cannot bind what a token does not say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gatekeeper.model.issuer import IssuerKind

from .vault_relay import platform_mount, platform_role
from .vault_step import Known, Step

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
# What goes into the vault's own template: nothing there may be read as a pattern, a list or another template.
_PROJECT: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_BUILDER_ID: Final = re.compile(r"https://[a-z0-9.:-]{1,128}(?:/[A-Za-z0-9._~-]{1,64}){0,8}")


@dataclass(frozen=True)
class _Claims:
    project: str
    recipe: str
    commit: str
    run: tuple[str, ...]


_CLAIMS: Final[Mapping[IssuerKind, _Claims]] = MappingProxyType(
    {
        IssuerKind.GITLAB: _Claims("project_id", "ci_config_ref_uri", "sha", ("job_id",)),
        IssuerKind.GITHUB: _Claims("repository_id", "job_workflow_ref", "sha", ("run_id", "run_attempt")),
    }
)
KINDS: Final = tuple(_CLAIMS)


@dataclass(frozen=True)
class PlatformBuilder:
    """One definition of a build, under the builder id that its certificates bear, and the projects whose runs may follow it."""

    builder_id: str
    recipe: str
    """what the platform names as the definition, to the letter"""
    projects: Mapping[str, str]
    """our name of a project -> the platform's number"""

    def __post_init__(self) -> None:
        if _BUILDER_ID.fullmatch(self.builder_id) is None or not all(map(_PROJECT.fullmatch, self.projects)):
            raise ValueError(f"{self.builder_id}: not a builder id, or a project that is not a name")
        if not self.recipe or not self.projects or not all(self.projects.values()):
            raise ValueError(f"{self.builder_id}: empty means no: a recipe, projects and their numbers have to be named")


@dataclass(frozen=True)
class ForeignPlatform:
    """A platform beside the plain one. `name` is the issuer's in the policy; keys are pinned, or fetched by the vault from one https URL."""

    name: str
    kind: IssuerKind
    issuer: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...]
    builders: tuple[PlatformBuilder, ...]
    public_keys_pem: tuple[str, ...] = ()
    jwks_url: str = ""
    jwks_ca_pem: str = ""

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"not a name (lowercase letters, digits and dashes, at most 32): {self.name!r}")
        if self.kind not in _CLAIMS:
            raise ValueError(f"{self.name}: tokens of {self.kind.value} name no commit that the vault could bind; they ping and make no certificates")
        if bool(self.public_keys_pem) == bool(self.jwks_url):
            raise ValueError(f"{self.name}: keys are pinned or fetched, one of them")
        if not self.audiences or not self.algorithms or not self.builders:
            raise ValueError(f"{self.name}: empty means no: audiences, algorithms and builders have to be named")
        places = [(builder.builder_id, project) for builder in self.builders for project in builder.projects]
        if twice := [place for place in places if places.count(place) > 1]:
            raise ValueError(f"{self.name}: {twice[0][0]} has two definitions for {twice[0][1]}, and one role: give the second an id of its own")


def platform_steps(
    platform: ForeignPlatform, *, certificate: Mapping[str, object], policy: Callable[[str], str], limits: Mapping[str, int]
) -> Iterator[Step]:
    """The steps of one platform. `certificate`: what every builder role says; `policy`: of a role's name; `limits`: of the login's token."""
    mount = platform_mount(platform.name)
    config: dict[str, object] = {"bound_issuer": platform.issuer, "jwt_supported_algs": list(platform.algorithms)}
    if platform.jwks_url:
        config |= {"jwks_url": platform.jwks_url} | ({"jwks_ca_pem": platform.jwks_ca_pem.strip()} if platform.jwks_ca_pem else {})
    else:
        config["jwt_validation_pubkeys"] = [pem.strip() for pem in platform.public_keys_pem]
    yield _fixed(f"auth/{mount}/config", f"the keys of {platform.issuer}", config)
    for builder in platform.builders:
        for project, number in builder.projects.items():
            role = platform_role(platform.name, builder.builder_id, project)
            yield _fixed(f"sys/policies/acl/{role}", f"policy {role}: one certificate for a run of {project}", {"policy": policy(role)})
            yield _certificate_role(platform, builder.builder_id, project, role, certificate)
            yield _fixed(f"auth/{mount}/role/{role}", f"runs of {project} by {builder.builder_id}", _login(platform, builder, number, role, limits))


def mount_step(platform: ForeignPlatform) -> Step:
    """The platform's login method."""
    mount = platform_mount(platform.name)
    return _fixed(f"sys/auth/{mount}", f"login method {mount}", {"type": "jwt"}, compared=("type",))


def _certificate_role(platform: ForeignPlatform, builder_id: str, project: str, role: str, certificate: Mapping[str, object]) -> Step:
    def body(known: Known) -> Mapping[str, object]:
        claim = "{{identity.entity.aliases." + known.accessor(platform_mount(platform.name)) + ".metadata.%s}}"
        run = "-".join(claim % name for name in _CLAIMS[platform.kind].run)
        return {**certificate, "allowed_uri_sans": [builder_id, f"urn:pingee:run:{project}:{claim % 'commit'}:{run}"]}

    path = f"builder-ca/roles/{role}"
    return Step(path, f"ten-minute certificates of {project} by {builder_id}", body, path)


def _login(platform: ForeignPlatform, builder: PlatformBuilder, number: str, role: str, limits: Mapping[str, int]) -> Mapping[str, object]:
    claims = _CLAIMS[platform.kind]
    return {
        "role_type": "jwt",
        "user_claim": "jti",  # unique per token: alias metadata is shared by all logins with one user_claim
        "bound_audiences": list(platform.audiences),
        "bound_claims": {claims.project: number, claims.recipe: builder.recipe},
        "claim_mappings": {claims.commit: "commit", **{name: name for name in claims.run}},
        "token_policies": [role],
        "token_no_default_policy": True,
        "token_type": "service",
        "token_num_uses": limits["token_num_uses"],
        "token_ttl": limits["token_ttl"],
        "token_max_ttl": limits["token_ttl"],
    }


def _fixed(path: str, purpose: str, body: Mapping[str, object], compared: tuple[str, ...] | None = None) -> Step:
    return Step(path, purpose, lambda _: body, path, compared)
