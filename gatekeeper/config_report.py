"""What `pingee-gatekeeper check-config` tells: what is where, who holds which role, and what people should look at before they rely on it.

A fault contradicts the policy or the file, and nothing should be started with it. A warning is lawful, and seldom meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gatekeeper.model.issuer import IssuerKind
from gatekeeper.model.moment import render_moment
from gatekeeper.policy.document import Component, Environment, Policy, RoleGrant
from gatekeeper.ports.registry import RegistryAddress
from gatekeeper.settings import Settings
from gatekeeper.tlog.logpolicy import NONE
from gatekeeper.tlog.signature import VerifierKey

_ROLES: Final = {"P": "pipeline", "D": "developer", "R": "reviewer", "O": "operator", "S": "security team", "A": "admin or auditor"}
_IN_PAIRS: Final[Mapping[str, str]] = {"O": "breakglass", "S": "lifting an embargo", "A": "an exemption"}
"""Roles of which two people act together, and in what."""
_KEY_TYPES: Final = ("ssh-", "sk-", "ecdsa-")


@dataclass(frozen=True)
class Config:
    """A configuration file and the policy that it names, both read."""

    settings: Settings
    policy: Policy
    signers: bytes
    """the pinned allowed_signers"""
    key: VerifierKey


def faults(config: Config) -> list[str]:
    """Where the file and the policy contradict each other; each says what to do."""
    settings, found = config.settings, []
    if config.key.name != settings.origin:
        found.append(f"/vault/log_key is of the log {config.key.name}, and /origin is {settings.origin}: pin the key of this log, or name its origin")
    if settings.witnesses is not None and settings.witnesses.policy.log.name != settings.origin:
        found.append(f"/witnesses/policy is of the log {settings.witnesses.policy.log.name}, and /origin is {settings.origin}: name this log in it")
    found += _of_clusters(settings, config.policy)
    for component, environment, target in _places(config.policy):
        known = settings.targets.get(target)
        if known is None:
            found.append(
                f"/targets/{target} is missing: {component.name} is deployed to it in {environment}; add [targets.{target}], or mend the policy"
            )
        elif known.environment != environment:
            found.append(
                f"/targets/{target}/environment is {known.environment}, but {component.name} is deployed to it in {environment}: mend the wrong one"
            )
    return found


def warnings(config: Config) -> list[str]:
    """What is lawful and seldom meant."""
    of_settings = [*_of_witnesses(config.settings), *_of_artifacts(config.settings), *_of_issuers(config.policy)]
    return [*of_settings, *_of_roles(config.policy), *_of_votes(config.policy), *_of_targets(config), *_of_owners(config.signers)]


def _of_clusters(settings: Settings, policy: Policy) -> Iterator[str]:
    reviewed = {entry.name for entry in policy.issuers.values() if entry.platform is not None and entry.platform.token_review}
    for name in sorted(reviewed - set(settings.clusters)):
        yield f"/clusters/{name} is missing: the policy has its tokens reviewed by the cluster; add [clusters.{name}], or nobody of it comes in"
    for name in sorted(set(settings.clusters) - reviewed):
        yield f"/clusters/{name}: the policy has no issuer of that name whose tokens are reviewed: name it as issuers.toml does, or take it out"


def _of_issuers(policy: Policy) -> Iterator[str]:
    for entry in policy.issuers.values():
        if entry.kind is IssuerKind.KUBERNETES and entry.platform is not None and not entry.platform.token_review:
            yield f"issuer {entry.name}: with token_review = false a token is taken until it expires, also after its pod is gone"


def people_with(policy: Policy, groups: Iterable[str]) -> tuple[str, ...]:
    """Everybody of people.toml who is in one of the groups, by name."""
    wanted = frozenset(groups)
    return tuple(sorted(person.name for person in policy.people.values() if person.groups & wanted))


def document(config: Config) -> dict[str, object]:
    """What `-o json` prints."""
    settings, policy = config.settings, config.policy
    targets = {name: {"environment": t.environment, "address": _address(t.address.host, t.address.port)} for name, t in settings.targets.items()}
    return {
        "instance": settings.instance,
        "origin": settings.origin,
        "witnesses": _witnesses_document(settings),
        "artifacts": _artifacts_document(settings),
        "policy": {"commit": policy.commit, "digest": str(policy.digest), "owners": sorted(_owners(config.signers))},
        "environments": {name: e.environment_class.value for name, e in policy.environments.items()},
        "components": [
            {"component": c.name, "project": c.project, "environment": environment, "target": target, "mode": c.modes[environment].value}
            for c, environment, target in _places(policy)
        ],
        "targets": targets,
        "roles": [
            {"role": grant.role, "group": grant.group, "scope": grant.scope, "people": list(people_with(policy, [grant.group]))}
            for grant in policy.roles
        ],
        "votes": [
            {
                "environment": e.name,
                "label": v.label,
                "value": v.value,
                "count": v.count,
                "groups": sorted(v.groups),
                "people": list(people_with(policy, v.groups)),
            }
            for e in policy.environments.values()
            if (v := e.votes) is not None
        ],
        "revoked": [
            {"kind": row.kind.value, "id": row.id, "from": None if row.since is None else render_moment(row.since), "reason": row.reason}
            for row in policy.revocations.rows.values()
        ],
        "override": "at each target: two different people whose keys are pinned there; see targets' override-keys",
        "faults": faults(config),
        "warnings": warnings(config),
    }


def render(config: Config) -> str:
    """For people."""
    settings, policy = config.settings, config.policy
    lines = [f"instance  {settings.instance}", f"log       {settings.origin}", f"policy    {policy.commit}"]
    lines.append(
        f"owners    {_names(sorted(_owners(config.signers)))} sign the policy's first commit; later ones are signed by whom the one before names"
    )
    lines.append(f"witnesses {_witnesses(settings)}")
    lines.append(f"artifacts {_artifacts(settings)}")
    lines += [f"target    {n}: {t.environment}, {_address(t.address.host, t.address.port)}" for n, t in sorted(settings.targets.items())]
    lines += [f"component {c.name} in {environment}: {c.modes[environment].value}, to {target}" for c, environment, target in _places(policy)]
    lines += [
        f"role      {_role(grant)} in {grant.scope}: group {grant.group}: {_names(people_with(policy, [grant.group]))}" for grant in policy.roles
    ]
    lines += [f"votes     {_votes(policy, environment)}" for environment in policy.environments.values()]
    lines += [f"revoked   {row}" for row in policy.revocations.rows.values()]
    lines.append("override  at each target, by two different people whose keys are pinned there, and nobody else")
    lines += [f"warning   {warning}" for warning in warnings(config)]
    return "\n".join(lines)


def _witnesses(settings: Settings) -> str:
    if settings.witnesses is None:
        return "none are asked"
    policy = settings.witnesses.policy
    return f"{_names(witness.name for witness in policy.witnesses)}; quorum {policy.quorum}; policy file {settings.witnesses.digest}"


def _witnesses_document(settings: Settings) -> dict[str, object] | None:
    if settings.witnesses is None:
        return None
    policy = settings.witnesses.policy
    return {
        "policy": str(settings.witnesses.digest),
        "quorum": policy.quorum,
        "fail_open": settings.witnesses.fail_open,
        "witnesses": {witness.name: witness.url for witness in policy.witnesses},
    }


def _artifacts(settings: Settings) -> str:
    where = settings.artifacts
    if not isinstance(where, RegistryAddress):
        return f"in the directory {where}"
    others = [f"its tokens from {_names(where.token_hosts)}"] if where.token_hosts else []
    others += [f"downloads from {_names(where.blob_hosts)}"] if where.blob_hosts else []
    return "; ".join([f"in the registry {where.url}, repository {where.repository}", f"as {where.username or 'nobody'}", *others])


def _artifacts_document(settings: Settings) -> dict[str, object]:
    where = settings.artifacts
    if not isinstance(where, RegistryAddress):
        return {"directory": str(where)}
    hosts = {"token_hosts": list(where.token_hosts), "blob_hosts": list(where.blob_hosts)}
    return {"registry": where.url, "repository": where.repository, "username": where.username or None, **hosts}


def _votes(policy: Policy, environment: Environment) -> str:
    votes = environment.votes
    if votes is None:
        return f"{environment.name}: none are asked for"
    by = f"{_names(people_with(policy, votes.groups))} of {' or '.join(sorted(votes.groups))}"
    return f"{environment.name}: {votes.count} × {votes.label} +{votes.value}, not of who wrote or pushed it, by {by}"


def _role(grant: RoleGrant) -> str:
    return f"{grant.role} ({_ROLES.get(grant.role, '?')})"


def _places(policy: Policy) -> Iterator[tuple[Component, str, str]]:
    for component in policy.components.values():
        for environment, targets in component.targets.items():
            for target in targets:
                yield component, environment, target


def _of_witnesses(settings: Settings) -> Iterator[str]:
    witnesses = settings.witnesses
    if witnesses is not None and witnesses.policy.quorum == NONE:
        yield "[witnesses] policy has no quorum: what its witnesses say is collected, and nothing waits for it"
    if witnesses is not None and witnesses.fail_open:
        yield "[witnesses] fail_open: checkpoints are published that too few witnesses cosigned, and verifiers with this policy refuse them"


def _of_artifacts(settings: Settings) -> Iterator[str]:
    if isinstance(settings.artifacts, RegistryAddress) and not settings.artifacts.username:
        yield "[artifacts] registry is asked without credentials: where that works, anybody may fill it"


def _of_roles(policy: Policy) -> Iterator[str]:
    for grant in policy.roles:
        holders = people_with(policy, [grant.group])
        if not holders:
            yield f"nobody holds the role {_role(grant)} in {grant.scope}: no one of people.toml is in the group {grant.group}"
        elif len(holders) == 1 and grant.role in _IN_PAIRS:
            yield f"{holders[0]} alone holds the role {_role(grant)} in {grant.scope}: {_IN_PAIRS[grant.role]} needs two people"
    for component, environment, _ in _places(policy):
        if not any(grant.role == "O" and grant.covers(environment, component.name) for grant in policy.roles):
            yield f"no group has the role O (operator) in {environment}/{component.name}: nobody may roll it back"


def _of_votes(policy: Policy) -> Iterator[str]:
    for environment in policy.environments.values():
        votes = environment.votes
        if votes is None:
            continue
        voters = people_with(policy, votes.groups)
        if len(voters) < votes.count:
            yield f"{environment.name} asks for {votes.count} vote(s), and {len(voters)} may vote: nothing can be deployed there"
        elif len(voters) == votes.count:
            yield f"{environment.name} asks for {votes.count} vote(s) of {_names(voters)}: what one of them writes can never be approved"
        for name in voters:
            if not policy.people[name].emails:
                yield f"{name} may vote in {environment.name} and has no e-mail address in people.toml: own work is known only by who pushed it"


def _of_targets(config: Config) -> Iterator[str]:
    used = {target for _, _, target in _places(config.policy)}
    for name in sorted(set(config.settings.targets) - used):
        yield f"[targets.{name}] is used by no component of the policy"


def _of_owners(signers: bytes) -> Iterator[str]:
    owners = _owners(signers)
    if not owners:
        yield "the pinned allowed_signers names nobody: no policy can be loaded"
    elif len(owners) == 1:
        yield f"{next(iter(owners))} alone signs the policy, and so may give any role to anybody: pin a second owner, and review what is pushed"
    keys: dict[str, str] = {}
    for owner, owned in sorted(owners.items()):
        for key in sorted(owned):
            if keys.setdefault(key, owner) != owner:
                yield f"{keys[key]} and {owner} have one key in allowed_signers: one person counts as two"


def _owners(signers: bytes) -> dict[str, set[str]]:
    """Principals of an OpenSSH allowed_signers file and their keys (ssh-keygen(1), ALLOWED SIGNERS)."""
    owners: dict[str, set[str]] = {}
    for line in signers.decode("utf-8", "replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        at = next((number for number, word in enumerate(words[1:], 1) if word.startswith(_KEY_TYPES)), None)
        if at is not None and at + 1 < len(words):
            owners.setdefault(words[0], set()).add(words[at + 1])
    return owners


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "nobody"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
