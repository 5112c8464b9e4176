"""The policy repository as values (`formats.md` 4). Made by `policy.load` from the files of one signed commit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique

from gatekeeper.model.decision import Mode
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.issuer import IssuerKind, Platform
from gatekeeper.model.signer import ExpectedSigner

from .expectations import Expectations
from .revocations import Revocations


@unique
class EnvironmentClass(StrEnum):
    """What an environment is for; the kind of a ping follows from it."""

    TEST = "test"
    STAGING = "staging"
    PRODUCTION = "production"


@dataclass(frozen=True)
class Person:
    """Somebody with a name in the policy: the only people whose votes can count."""

    name: str
    issuer: str
    subject: str
    emails: frozenset[str]
    keys: tuple[bytes, ...]
    """raw Ed25519 public keys, 32 bytes each"""
    groups: frozenset[str]
    accounts: Mapping[str, str]
    """issuer name -> the person's account there, as the `actor` claim of a run's token spells it"""


@dataclass(frozen=True)
class RoleGrant:
    """A group of an issuer's people has a role within a scope: `ENVIRONMENT/COMPONENT`, either side may be `*`."""

    role: str
    group: str
    scope: str

    def covers(self, environment: str, component: str) -> bool:
        """Whether the scope holds this environment and component."""
        wanted_environment, _, wanted_component = self.scope.partition("/")
        return wanted_environment in ("*", environment) and wanted_component in ("*", component)


@dataclass(frozen=True)
class IssuerEntry:
    """A trusted issuer of tokens. Its keys are pinned in the policy, or the policy names the one place that they are fetched from."""

    name: str
    url: str
    """its `iss`; of SPIFFE `spiffe://TRUST-DOMAIN` where its tokens name no issuer"""
    jwks: bytes
    """the pinned key set; empty where it is fetched"""
    jwks_url: str
    """where the key set is fetched; empty where it is pinned"""
    kind: IssuerKind
    audiences: frozenset[str]
    """the audiences of this instance for which its tokens are taken"""
    algorithms: tuple[str, ...]
    claims: Mapping[str, str]
    platform: Platform | None
    """of a kind with claims of its own: what they must say"""


@dataclass(frozen=True)
class Builder:
    """A builder identity and the projects it may build."""

    id: str
    issuer: str
    signer: ExpectedSigner
    projects: frozenset[str]


@dataclass(frozen=True)
class Project:
    """A repository."""

    name: str
    repository: str
    default_branch: str
    approved: frozenset[str]


@dataclass(frozen=True)
class Component:
    """What runs, where, and what is expected of its artifacts."""

    name: str
    project: str
    targets: Mapping[str, tuple[str, ...]]
    modes: Mapping[str, Mode]
    """how the component is guarded, for each environment it has targets in"""
    builder: str
    build_type: str
    expectations: Expectations


def repository_of(project: Project, component: Component | None) -> str:
    """The repository as the component's builder spells it, else the project's."""
    return project.repository if component is None else component.expectations.repository or project.repository


@dataclass(frozen=True)
class VoteThreshold:
    """How many distinct people must have voted how."""

    label: str
    value: int
    count: int
    groups: frozenset[str]
    veto: int


@dataclass(frozen=True)
class Environment:
    """A place with its rules."""

    name: str
    environment_class: EnvironmentClass
    stages: tuple[str, ...]
    votes: VoteThreshold | None
    stage_wait_s: int
    """how long after its artifact arrived a missing stage counts as still running"""


@dataclass(frozen=True)
class Configuration:
    """What an environment installs with a component at deploy: plain values, and secrets by name."""

    commit: str
    data: bytes = field(repr=False)
    """the file's exact bytes, which a doorkeeper hashes and reads again"""
    values: Mapping[str, str]
    secrets: frozenset[str]

    @property
    def digest(self) -> Digest:
        """sha256 of the file: what a decision names it by."""
        return digest_of(self.data)


@dataclass(frozen=True)
class Policy:
    """Everything one commit of the policy repository says for one instance."""

    instance: str
    anonymous_reads: bool
    commit: str
    digest: Digest
    people: Mapping[str, Person]
    roles: tuple[RoleGrant, ...]
    issuers: Mapping[str, IssuerEntry]
    builders: Mapping[str, Builder]
    projects: Mapping[str, Project]
    components: Mapping[str, Component]
    environments: Mapping[str, Environment]
    revocations: Revocations

    @property
    def trusted_root(self) -> Digest:
        """One digest over everything that evidence is verified with: builders' signers, issuers' keys, reviewers' keys."""
        whole = hashlib.sha256()
        parts = ["\0".join(("builder", b.id, *b.signer.names, "")).encode() + b.signer.trust for b in self.builders.values()]
        parts += [f"issuer\0{i.name}".encode() + b"\0" + (i.jwks or b"url\0" + i.jwks_url.encode()) for i in self.issuers.values()]
        parts += [f"person\0{p.name}".encode() + b"\0" + b"".join(sorted(p.keys)) for p in self.people.values()]
        for part in sorted(parts):
            whole.update(len(part).to_bytes(8, "big") + part)
        return Digest("sha256:" + whole.hexdigest())

    def person_of(self, issuer: str, subject: str) -> Person | None:
        """The person with this identity at this issuer (URL and subject, compared exactly)."""
        for person in self.people.values():
            if (person.issuer, person.subject) == (issuer, subject):
                return person
        return None

    def person_of_account(self, issuer_name: str, account: str) -> Person | None:
        """The person who has this account at a CI platform."""
        for person in self.people.values():
            if person.accounts.get(issuer_name) == account:
                return person
        return None

    def roles_of(self, groups: frozenset[str], environment: str, component: str) -> frozenset[str]:
        """The roles that membership in these groups gives for one place."""
        return frozenset(g.role for g in self.roles if g.group in groups and g.covers(environment, component))


