"""What a vault has to hold for a set of instances (`formats.md` section 8), as a list of steps. Nothing is written here.

A step names a path, what must stand there, and how to see that it does. Policies and token settings come from `vault-policies/`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Any, Final

from gatekeeper.model.lease import STATUS_COMMAND, status_role

from .vault_act import DeployTarget
from .vault_platforms import ForeignPlatform, mount_step, platform_steps
from .vault_relay import login_role
from .vault_step import Known, Step

LOGINS: Final = ("log", "decide", "act")
SECRET_ID_S: Final = 300
CERTIFICATE_S: Final = 600
KEY_LIFE_S: Final = 30 * 24 * 3600
PERSON_TOKEN_S: Final = 3600
AUDITED_PLAINLY: Final = ("serial_number", "signed_key")
"""What the audit file shows as it is of an SSH signature: the certificate, which is no secret. Without it no auditor could tell whose it is."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


_CERTIFICATE: Final[Mapping[str, object]] = MappingProxyType(
    {
        "key_type": "ec",
        "key_bits": 256,
        "allowed_uri_sans_template": True,
        "allow_any_name": False,
        "allow_ip_sans": False,
        "allow_localhost": False,
        "require_cn": False,
        "cn_validations": ["disabled"],
        "use_csr_common_name": False,
        "use_csr_sans": False,
        "server_flag": False,
        "client_flag": False,
        "code_signing_flag": True,
        "key_usage": ["DigitalSignature"],
        "basic_constraints_valid_for_non_ca": True,
        "ttl": CERTIFICATE_S,
        "max_ttl": CERTIFICATE_S,
        "not_before_duration": 30,
        "no_store": True,
    }
)
"""What a run's certificate is, whoever's run: all but its names."""


@dataclass(frozen=True)
class ComponentSettings:
    """Configuration and secrets of one component in one environment."""

    environment: str
    component: str
    values: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Instance:
    """One gatekeeper instance: its log's origin, environments, targets, and first settings."""

    name: str
    origin: str
    environments: tuple[str, ...]
    targets: tuple[DeployTarget, ...]
    settings: tuple[ComponentSettings, ...] = ()

    def __post_init__(self) -> None:
        names = [self.name, *self.environments, *(t.name for t in self.targets), *(t.principal for t in self.targets)]
        names += [name for s in self.settings for name in (s.environment, s.component)]
        if bad := [name for name in names if _NAME.fullmatch(name) is None]:
            raise ValueError(f"not a name (lowercase letters, digits and dashes, at most 32): {bad[0]!r}")
        if any(t.environment not in self.environments for t in self.targets):
            raise ValueError(f"a target of {self.name} names an environment that {self.name} does not have")


@dataclass(frozen=True)
class Platform:
    """The CI platform whose tokens name builders' runs. Audiences are those of certificate requests alone (`pingee:certificates:<instance>`)."""

    issuer: str
    public_keys_pem: tuple[str, ...]
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ("ES256",)


@dataclass(frozen=True)
class Builder:
    """A builder id and the projects whose runs may bear it."""

    builder_id: str
    projects: tuple[str, ...]


@dataclass(frozen=True)
class Person:
    """Somebody who logs in with a password; `subject` of the tokens is the entity id that the vault gives."""

    name: str
    email: str
    groups: tuple[str, ...]
    password: str = field(repr=False)


@dataclass(frozen=True)
class Layout:
    """Everything that one vault is to hold. `people_issuer` is the https origin in people's tokens."""

    instances: tuple[Instance, ...]
    platform: Platform
    builders: tuple[Builder, ...]
    people: tuple[Person, ...]
    people_issuer: str
    foreign: tuple[ForeignPlatform, ...] = ()
    """platforms whose tokens have claims of their own"""

    def __post_init__(self) -> None:
        names = [p.name for p in self.people] + [g for p in self.people for g in p.groups]
        if bad := [name for name in names if _NAME.fullmatch(name) is None]:
            raise ValueError(f"not a name: {bad[0]!r}")
        if not self.platform.public_keys_pem or not self.platform.audiences or not all(b.projects for b in self.builders):
            raise ValueError("empty means no: keys, audiences and projects have to be named")
        if len({i.name for i in self.instances}) != len(self.instances):
            raise ValueError("two instances have the same name")
        if len({p.name for p in self.foreign}) != len(self.foreign):
            raise ValueError("two platforms have the same name")


def layout_steps(layout: Layout) -> Iterator[Step]:
    """Every step, in an order in which each can be applied."""
    yield from _mounts(layout)
    yield from _policies(layout)
    for instance in layout.instances:
        yield from _keys(instance)
        yield from _logins(instance)
        yield from _targets(instance)
    yield from _builders(layout)
    table = roles_table()["platform-run"]
    for platform in layout.foreign:
        yield from platform_steps(
            platform, certificate=_CERTIFICATE, policy=lambda role: policy_text(tuple(table["policy"]), {"role": role}), limits=table
        )
    yield from _people(layout)


def policy_text(files_of_role: tuple[str, ...], names: Mapping[str, str], repeated: tuple[Mapping[str, str], ...] = ()) -> str:
    """One policy: the first file once, every further file once for each of `repeated`."""
    head, *tails = ((policies_directory() / name).read_text() for name in files_of_role)
    return Template(head).substitute(names) + "".join(Template(tail).substitute({**names, **more}) for tail in tails for more in repeated)


def roles_table() -> dict[str, Any]:
    """The parsed `vault-policies/roles.toml`."""
    return tomllib.loads((policies_directory() / "roles.toml").read_text())


def policies_directory() -> Path:
    """Where `vault-policies/` lies: inside the installed package, or at the top of the source tree."""
    installed = Path(str(files("gatekeeper"))) / "vault-policies"
    return installed if installed.is_dir() else Path(str(files("gatekeeper"))).parent / "vault-policies"


def _fixed(path: str, purpose: str, body: Mapping[str, object], **how: Any) -> Step:
    return Step(path, purpose, lambda _: body, how.pop("shown_at", path), **how)


def _mounts(layout: Layout) -> Iterator[Step]:
    for name, kind in (("approle", "approle"), ("platform", "jwt"), ("userpass", "userpass")):
        yield _fixed(f"sys/auth/{name}", f"login method {name}", {"type": kind}, compared=("type",))
    for platform in layout.foreign:
        yield mount_step(platform)
    engines: list[tuple[str, dict[str, object]]] = [
        ("kv", {"type": "kv", "options": {"version": "2"}}),
        ("transit", {"type": "transit"}),
        ("builder-ca", {"type": "pki", "config": {"max_lease_ttl": "8760h"}}),
    ]
    engines += [(f"ssh-{instance.name}", {"type": "ssh"}) for instance in layout.instances]
    for name, body in engines:
        yield _fixed(f"sys/mounts/{name}", f"secrets engine {name}", body, compared=("type",))
    for instance in layout.instances:
        plainly: dict[str, object] = {"audit_non_hmac_response_keys": list(AUDITED_PLAINLY)}
        path = f"sys/mounts/ssh-{instance.name}/tune"
        yield _fixed(path, f"certificates of {instance.name} stand in the audit file as they are", plainly)


def _policies(layout: Layout) -> Iterator[Step]:
    table = roles_table()

    def policy(name: str, role: str, names: Mapping[str, str], repeated: tuple[Mapping[str, str], ...] = ()) -> Step:
        text = policy_text(tuple(table[role]["policy"]), names, repeated)
        return _fixed(f"sys/policies/acl/{name}", f"policy {name}: {table[role]['why']}", {"policy": text})

    for instance in layout.instances:
        own = {"instance": instance.name}
        yield policy(f"{instance.name}-log", "log", own)
        yield policy(f"{instance.name}-decide", "decide", own)
        yield policy(f"{instance.name}-act", "act", own, tuple({"target": target.name, "principal": target.principal} for target in instance.targets))
        for target in instance.targets:
            of_target = {**own, "target": target.name, "environment": target.environment, "principal": target.principal}
            yield policy(f"{instance.name}-deploy-{target.name}", "deploy", of_target)
    yield policy("builder-run", "builder-run", {})
    yield policy("person", "person", {}, tuple({"instance": instance.name} for instance in layout.instances))
    yield policy("supervisor", "supervisor", {}, tuple({"role": f"{i.name}-{login}"} for i in layout.instances for login in LOGINS))


def _keys(instance: Instance) -> Iterator[Step]:
    for name, kind in (("deploylog", "ed25519"), ("receipt", "ecdsa-p256"), ("people", "aes256-gcm96")):
        body: dict[str, object] = {"type": kind, "derived": False, "exportable": False, "allow_plaintext_backup": False}
        yield _fixed(f"transit/keys/{instance.name}-{name}", f"{kind} key {instance.name}-{name}", body)
    head = f"kv/metadata/{instance.name}/deploylog/head"
    yield _fixed(head, "the log's head, written under check-and-set only", {"cas_required": True, "max_versions": 10})
    for settings in instance.settings:
        path = f"kv/data/{instance.name}/config/{settings.environment}/{settings.component}"
        body = {"data": dict(settings.values)}
        yield _fixed(path, f"settings of {settings.environment}/{settings.component}", body, compared=("data",))


def _logins(instance: Instance) -> Iterator[Step]:
    table = roles_table()
    for login in LOGINS:
        body: dict[str, object] = {
            "token_policies": [f"{instance.name}-{login}"],
            "token_no_default_policy": True,
            "token_type": "service",
            "token_period": table[login]["token_period"],
            "bind_secret_id": True,
            "secret_id_num_uses": 1,
            "secret_id_ttl": SECRET_ID_S,
        }
        yield _fixed(f"auth/approle/role/{instance.name}-{login}", f"login role {instance.name}-{login}", body)


def _targets(instance: Instance) -> Iterator[Step]:
    deploy = roles_table()["deploy"]
    yield _fixed(
        f"ssh-{instance.name}/config/ca", f"SSH CA of {instance.name}", {"generate_signing_key": True, "key_type": "ed25519"}, compared=()
    )
    for target in instance.targets:
        ssh: dict[str, object] = {
            "key_type": "ca",
            "allow_user_certificates": True,
            "allow_host_certificates": False,
            "allowed_users": target.principal,
            "default_user": target.principal,
            "allowed_critical_options": "force-command,source-address",
            "allowed_extensions": "none",
            "default_extensions": {},
            "allow_user_key_ids": True,
            "allowed_user_key_lengths": {"ed25519": [0]},
            "ttl": 300,
            "max_ttl": 300,
            "not_before_duration": 30,
        }
        compared = tuple(key for key in ssh if key not in ("allowed_user_key_lengths", "default_extensions"))
        yield _fixed(f"ssh-{instance.name}/roles/{target.name}", f"SSH certificates for {target.principal} at {target.name}", ssh, compared=compared)
        reading = ssh | {
            "allowed_critical_options": "none",
            "default_critical_options": {"force-command": STATUS_COMMAND, "source-address": target.source_address},
        }
        path = f"ssh-{instance.name}/roles/{status_role(target.name)}"
        yield _fixed(path, f"SSH certificates that only read the status of {target.name}", reading, compared=(*compared, "default_critical_options"))
        token: dict[str, object] = {
            "allowed_policies": [f"{instance.name}-deploy-{target.name}"],
            "orphan": False,
            "renewable": False,
            "token_no_default_policy": True,
            "token_type": "service",
            "token_explicit_max_ttl": deploy["token_ttl"],
            "token_num_uses": deploy["token_num_uses"],
        }
        yield _fixed(f"auth/token/roles/{instance.name}-deploy-{target.name}", f"one-deploy child tokens for {target.name}", token)


def _builders(layout: Layout) -> Iterator[Step]:
    ca = {
        "common_name": "Pingee builder CA",
        "key_type": "ec",
        "key_bits": 256,
        "ttl": "8760h",
        "max_path_length": 0,
        "exclude_cn_from_sans": True,
    }
    yield _fixed("builder-ca/root/generate/internal", "builder CA", ca, shown_at="builder-ca/cert/ca", compared=())

    def role(known: Known) -> Mapping[str, object]:
        claim = "{{identity.entity.aliases." + known.accessor("platform") + ".metadata.%s}}"
        run = ":".join(("urn:pingee:run", claim % "project", claim % "commit", claim % "run"))
        return {**_CERTIFICATE, "allowed_uri_sans": [claim % "builder_id", run]}

    yield Step("builder-ca/roles/builder", "ten-minute builder certificates, named by the token's claims", role, "builder-ca/roles/builder")
    # ACME asks for no login, and its directory would sign whatever it is sent: builders' names come from a run's token alone.
    yield _fixed("builder-ca/config/acme", "no certificates by ACME", {"enabled": False})
    platform = layout.platform
    keys = [pem.strip() for pem in platform.public_keys_pem]
    config: dict[str, object] = {"bound_issuer": platform.issuer, "jwt_validation_pubkeys": keys, "jwt_supported_algs": list(platform.algorithms)}
    yield _fixed("auth/platform/config", f"the keys of {platform.issuer}, pinned", config)
    limits = roles_table()["builder-run"]
    for builder in layout.builders:
        login: dict[str, object] = {
            "role_type": "jwt",
            "user_claim": "jti",  # unique per run: alias metadata is shared by all logins with one user_claim
            "bound_audiences": list(platform.audiences),
            "bound_claims": {"builder_id": builder.builder_id, "project": list(builder.projects)},
            "claim_mappings": {name: name for name in ("builder_id", "project", "commit", "run")},
            "token_policies": ["builder-run"],
            "token_no_default_policy": True,
            "token_type": "service",
            "token_num_uses": limits["token_num_uses"],
            "token_ttl": limits["token_ttl"],
            "token_max_ttl": limits["token_ttl"],
        }
        yield _fixed(f"auth/platform/role/{login_role(builder.builder_id)}", f"runs of {builder.builder_id}", login)


def _people(layout: Layout) -> Iterator[Step]:
    yield _fixed("identity/oidc/config", "issuer of people's tokens", {"issuer": layout.people_issuer})
    for instance in layout.instances:
        name, audience = f"people-{instance.name}", f"pingee:{instance.name}"
        # A pinned JWKS has to outlive a demo, so keys live for a month; an installation that fetches the JWKS takes a day.
        key: dict[str, object] = {
            "algorithm": "ES256",
            "rotation_period": KEY_LIFE_S,
            "verification_ttl": KEY_LIFE_S,
            "allowed_client_ids": [audience],
        }
        yield _fixed(f"identity/oidc/key/{name}", f"key of people's tokens for {instance.name}", key)
        role: dict[str, object] = {"key": name, "client_id": audience, "ttl": PERSON_TOKEN_S, "template": _CLAIMS}
        yield _fixed(f"identity/oidc/role/{name}", f"people's tokens for {instance.name}", role)
    for person in layout.people:
        yield from _person(person)
    for group in sorted({group for person in layout.people for group in person.groups}):
        members = tuple(person.name for person in layout.people if group in person.groups)
        path = f"identity/group/name/{group}"
        yield Step(path, f"group {group}", lambda known, who=members: {"member_entity_ids": sorted(map(known.entity, who))}, path)  # type: ignore[misc]


def _person(person: Person) -> Iterator[Step]:
    user: dict[str, object] = {
        "password": person.password,
        "token_policies": ["person"],
        "token_no_default_policy": True,
        "token_ttl": roles_table()["person"]["token_ttl"],
        "token_max_ttl": roles_table()["person"]["token_ttl"],
    }
    readable = tuple(key for key in user if key != "password")
    yield _fixed(f"auth/userpass/users/{person.name}", f"login of {person.name}", user, compared=readable)
    yield _fixed(f"identity/entity/name/{person.name}", f"entity of {person.name}", {"metadata": {"email": person.email}})

    def alias(known: Known) -> Mapping[str, object]:
        return {"name": person.name, "canonical_id": known.entity(person.name), "mount_accessor": known.accessor("userpass")}

    path = f"identity/entity/name/{person.name}"
    yield Step("identity/entity-alias", f"{person.name}'s login belongs to the entity", alias, path, within=("data", "aliases", "0"))


_CLAIMS: Final = (
    '{"kind":"person","name":{{identity.entity.name}},"email":{{identity.entity.metadata.email}},'
    '"groups":{{identity.entity.groups.names}},"nbf":{{time.now}}}'
)


def shown(answer: Mapping[str, Any] | None, within: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The members that a vault shows at this place of its answer; None if there is no such place. A number steps into a list."""
    value: Any = answer
    for key in within:
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else None


def same(wanted: object, found: object) -> bool:
    """Whether the vault shows what was written; lists without order, nothing else forgiven."""
    if isinstance(wanted, list) and isinstance(found, list):
        return sorted(map(_spelled, wanted)) == sorted(map(_spelled, found))
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return wanted.keys() == found.keys() and all(same(wanted[key], found[key]) for key in wanted)
    return _spelled(wanted) == _spelled(found)


def _spelled(value: object) -> str:
    return json.dumps(value, sort_keys=True)
