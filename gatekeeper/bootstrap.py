"""Sets up a vault from `vault-policies/`: a plan first, then that plan, then nothing left to do.

Blocking throughout (call it in a thread). `plan` reads and says what differs; `apply` writes exactly that; a second run plans nothing.
`bootstrap` does the whole: plan, apply, operator's files, and the end of the root token. What remains is the `supervisor` token, which can only
mint wrapped single-use secret ids of the login roles.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

from gatekeeper.adapters.vault import ABSENT, Connection, VaultAddress, WrappedSecret, integer_of, text_of
from gatekeeper.adapters.vault_act import DeployTarget
from gatekeeper.adapters.vault_layout import (
    SECRET_ID_S,
    Builder,
    ComponentSettings,
    Instance,
    Layout,
    Person,
    Platform,
    layout_steps,
    roles_table,
    same,
    shown,
)
from gatekeeper.adapters.vault_log import decoded
from gatekeeper.adapters.vault_step import Step
from gatekeeper.ports.errors import Denied, PortError, Rejected, Unavailable
from gatekeeper.tlog.signature import ed25519_vkey, encode_vkey

SETTLE_S: Final = 10.0
"""How long a fresh engine (kv version 2 upgrades in the background) may refuse its first write."""


class VaultState(Enum):
    """What a server says of itself."""

    SILENT = "silent"
    UNINITIALISED = "uninitialised"
    SEALED = "sealed"
    READY = "ready"


class BootstrapRefused(RuntimeError):
    """The vault is not fit to be set up, or the result is not what was asked for. Nothing secret is in the message."""


@dataclass(frozen=True)
class RootSecrets:
    """What initialising gives, once."""

    root_token: str = field(repr=False)
    recovery_key: str | None = field(repr=False, default=None)
    """None: the operator keeps it elsewhere"""


@dataclass(frozen=True)
class Change:
    """One step that is not yet so. `found` says whether something else stands there."""

    step: Step
    found: bool

    def __str__(self) -> str:
        return f"{'change' if self.found else 'create'} {self.step.path}: {self.step.purpose}"


@dataclass(frozen=True)
class Plan:
    """The changes, in order; `str` of it is for people, and names no secret."""

    changes: tuple[Change, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes)) if self.changes else "nothing to change"


@dataclass(frozen=True)
class InstancePublic:
    """What everybody may know of an instance: pinned by the gatekeeper, targets and auditors."""

    log_public_key: bytes
    log_vkey: str
    receipt_key_pem: str
    ssh_ca: str


@dataclass(frozen=True)
class PublicMaterial:
    """What everybody may know of the vault. `people` maps names to entity ids (the `sub` of their tokens); `jwks` is the issuer's, as read."""

    builder_ca_pem: str
    instances: Mapping[str, InstancePublic]
    people: Mapping[str, str]
    people_issuer: str
    jwks: Mapping[str, Any]


def vault_state(address: VaultAddress) -> VaultState:
    """Ask a server for its state; never raises for one that is away."""
    connection = Connection(address)
    try:
        answer = connection.read("sys/seal-status")
        if answer is None or answer.get("initialized") is not True:
            return VaultState.SILENT if answer is None else VaultState.UNINITIALISED
        # 200 is given by the unsealed, active node alone.
        return VaultState.READY if answer.get("sealed") is False and connection.read("sys/health") is not None else VaultState.SEALED
    except Unavailable as error:
        return VaultState.SEALED if error.cause_code == "vault-down" else VaultState.SILENT
    except PortError:
        return VaultState.SEALED
    finally:
        connection.close()


def initialise(address: VaultAddress) -> RootSecrets:
    """Initialise a new vault with an automatic seal: one recovery key, one root token. Raises `PortError`, also if it was done before."""
    connection = Connection(address)
    try:
        answer = connection.write("sys/init", {"recovery_shares": 1, "recovery_threshold": 1})
        return RootSecrets(text_of(answer, "root_token"), text_of({"key": answer.get("recovery_keys_base64", [None])[0]}, "key"))
    finally:
        connection.close()


def plan(address: VaultAddress, root_token: str, layout: Layout) -> Plan:
    """What differs between the vault and the layout. Reads only. Raises `BootstrapRefused` without an audit device, `PortError` otherwise."""
    connection = Connection(address, root_token)
    try:
        audit = connection.read("sys/audit")
        if audit is None or not audit.get("data"):
            raise BootstrapRefused("the vault has no audit device; declare one in its configuration before it holds anything")
        known = _Known(connection)
        return Plan(tuple(change for step in layout_steps(layout) if (change := _difference(connection, known, step)) is not None))
    finally:
        connection.close()


def apply(address: VaultAddress, root_token: str, changes: Plan) -> None:
    """Write the changes of a plan in order. Stops at the first error, a `PortError`; plan and apply again to go on."""
    connection = Connection(address, root_token)
    known = _Known(connection)
    try:
        for change in changes.changes:
            _write_settled(connection, change.step.path, change.step.body(known))
    finally:
        connection.close()


def bootstrap(
    address: VaultAddress, secrets: RootSecrets, layout: Layout, directory: Path, *, told: Callable[[str], None] = lambda _: None
) -> PublicMaterial:
    """All of it; `directory` (made 0700) receives the supervisor token and recovery key (0600) and the public material.

    Ends with the root token revoked and seen to be refused. Raises `BootstrapRefused` or `PortError`; it can be run again until then.
    `told` hears a line for each thing that was done; none of them is secret. Where all of it is so already, it is left as it is: also a
    supervisor token that still works.
    """
    # Before anything else: a vault that was just initialised and whose key is lost would be lost itself.
    keep_recovery_key(directory, secrets)
    changes = plan(address, secrets.root_token, layout)
    apply(address, secrets.root_token, changes)
    told(str(changes))
    if (rest := plan(address, secrets.root_token, layout)).changes:
        raise BootstrapRefused(f"the vault does not show what was written to it:\n{rest}")
    material = read_public(address, secrets.root_token, layout)
    supervisor = directory / "supervisor.token"
    if not _still_supervises(address, secrets.root_token, supervisor):
        _write(supervisor, make_supervisor(address, secrets.root_token))
        told(f"wrote {supervisor}: it can only mint wrapped single-use secrets")
    write_public(directory, material)
    told(f"wrote the public keys and ids to {directory}")
    revoke_root(address, secrets.root_token)
    told("revoked the root token, and saw it refused")
    return material


def keep_recovery_key(directory: Path, secrets: RootSecrets) -> None:
    """Make the operator's directory (0700) and write the recovery key into it (0600), where there is one to write."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    if secrets.recovery_key is not None:
        _write(directory / "recovery.key", secrets.recovery_key)


def plan_of_nothing(layout: Layout) -> Plan:
    """The plan for a vault that was never initialised: nothing can be read of it, and nothing can be there."""
    return Plan(tuple(Change(step, found=False) for step in layout_steps(layout)))


def _still_supervises(address: VaultAddress, root_token: str, file: Path) -> bool:
    """Whether this file holds a supervisor token that the vault accepts."""
    if not file.is_file():
        return False
    connection = Connection(address, root_token)
    try:
        found = connection.write("auth/token/lookup", {"token": file.read_text("ascii").strip()})
        return (shown(found, ("data",)) or {}).get("policies") == ["supervisor"]
    except (Denied, Rejected):
        return False
    finally:
        connection.close()


def make_supervisor(address: VaultAddress, root_token: str) -> str:
    """A new periodic token of the role `supervisor`, without parent, so that it outlives the root token."""
    connection = Connection(address, root_token)
    try:
        period = roles_table()["supervisor"]["token_period"]
        body = {"policies": ["supervisor"], "no_default_policy": True, "period": f"{period}s", "display_name": "supervisor"}
        return text_of(connection.write("auth/token/create-orphan", body), "auth", "client_token")
    finally:
        connection.close()


def revoke_root(address: VaultAddress, root_token: str) -> None:
    """Revoke the root token and see that it is refused; `BootstrapRefused` if it still works."""
    connection = Connection(address, root_token)
    try:
        connection.write("auth/token/revoke-self")
        with suppress(Denied):
            connection.read("auth/token/lookup-self")
            raise BootstrapRefused("the root token still works after its revocation")
    finally:
        connection.close()


def mint_wrapped(address: VaultAddress, supervisor_token: str, role: str) -> WrappedSecret:
    """A secret id of the role `<instance>-<log|decide|act>`, wrapped: the caller never sees it, and it opens once within five minutes."""
    connection = Connection(address, supervisor_token)
    try:
        role_id = text_of(connection.read(f"auth/approle/role/{role}/role-id"), "data", "role_id")
        wrapped = connection.write(f"auth/approle/role/{role}/secret-id", wrap_ttl=f"{SECRET_ID_S}s")
        return WrappedSecret(role, role_id, text_of(wrapped, "wrap_info", "token"))
    finally:
        connection.close()


def renew_supervisor(address: VaultAddress, supervisor_token: str) -> float:
    """Prolong the supervisor token; returns its life in seconds."""
    connection = Connection(address, supervisor_token)
    try:
        return float(integer_of(connection.write("auth/token/renew-self"), "auth", "lease_duration"))
    finally:
        connection.close()


def person_token(address: VaultAddress, *, name: str, password: str, instance: str) -> str:
    """An identity token of a person for one instance, an hour long. `Denied` for a wrong password or name. The login ends at once."""
    anonymous = Connection(address)
    refused = False
    try:
        login = anonymous.write(f"auth/userpass/login/{name}", {"password": password})
    except (Denied, Rejected):
        refused = True
    finally:
        anonymous.close()
    if refused:
        raise Denied("login-refused", "the vault does not know this name with this password")
    own = Connection(address, text_of(login, "auth", "client_token"))
    try:
        token = text_of(own.read(f"identity/oidc/token/people-{instance}"), "data", "token")
        own.write("auth/token/revoke-self")
        return token
    finally:
        own.close()


def read_public(address: VaultAddress, root_token: str, layout: Layout) -> PublicMaterial:
    """Read keys, CAs and ids that others pin."""
    connection = Connection(address, root_token)
    known = _Known(connection)

    def of(instance: Instance) -> InstancePublic:
        name = instance.name
        log = decoded(text_of(connection.read(f"transit/keys/{name}-deploylog"), "data", "keys", "1", "public_key"))
        receipt = text_of(connection.read(f"transit/keys/{name}-receipt"), "data", "keys", "1", "public_key")
        ssh_ca = text_of(connection.read(f"ssh-{name}/config/ca"), "data", "public_key").strip()
        return InstancePublic(log, encode_vkey(ed25519_vkey(instance.origin, log)), receipt, ssh_ca)

    try:
        return PublicMaterial(
            builder_ca_pem=text_of(connection.read("builder-ca/cert/ca"), "data", "certificate").strip() + "\n",
            instances={instance.name: of(instance) for instance in layout.instances},
            people={person.name: known.entity(person.name) for person in layout.people},
            people_issuer=layout.people_issuer + "/v1/identity/oidc",
            jwks=_ordered(connection.read("identity/oidc/.well-known/keys") or {}),
        )
    finally:
        connection.close()


def _ordered(jwks: Mapping[str, Any]) -> Mapping[str, Any]:
    # The vault lists its keys in any order; the file that is written of them is compared by people.
    keys = jwks.get("keys")
    return {**jwks, "keys": sorted(keys, key=lambda key: str(key.get("kid")))} if isinstance(keys, list) else jwks


def write_public(directory: Path, material: PublicMaterial) -> None:
    """As files: `builder-ca.pem`, `people.jwks.json`, `people.json`, and for each instance `NAME.vkey`, `NAME-receipt.pem`, `NAME-ssh-ca.pub`."""
    _write(directory / "builder-ca.pem", material.builder_ca_pem)
    _write(directory / "people.jwks.json", json.dumps(material.jwks, indent=1, sort_keys=True) + "\n")
    people = {"issuer": material.people_issuer, "subjects": dict(material.people)}
    _write(directory / "people.json", json.dumps(people, indent=1, sort_keys=True) + "\n")
    for name, instance in material.instances.items():
        _write(directory / f"{name}.vkey", instance.log_vkey + "\n")
        _write(directory / f"{name}-receipt.pem", instance.receipt_key_pem)
        _write(directory / f"{name}-ssh-ca.pub", instance.ssh_ca + "\n")


class _NotYet(Exception):
    """Something that an earlier step makes is not there; the step that needs it cannot be there either."""


class _Known:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def accessor(self, mount: str) -> str:
        return self._text(f"sys/auth/{mount}", "data", "accessor")

    def entity(self, name: str) -> str:
        return self._text(f"identity/entity/name/{name}", "data", "id")

    def _text(self, path: str, *keys: str) -> str:
        answer = _read_if_there(self._connection, path)
        if answer is None:
            raise _NotYet
        return text_of(answer, *keys)


def _difference(connection: Connection, known: _Known, step: Step) -> Change | None:
    found = shown(_read_if_there(connection, step.shown_at), step.within)
    if found is None or found.get("certificate") == "":  # the PKI engine shows an empty certificate before it has one
        return Change(step, found=False)
    try:
        body = step.body(known)
    except _NotYet:
        return Change(step, found=False)
    compared = body.keys() if step.compared is None else step.compared
    return None if all(same(body[key], found.get(key)) for key in compared) else Change(step, found=True)


def _read_if_there(connection: Connection, path: str) -> Mapping[str, Any] | None:
    try:
        return connection.read(path)
    except Rejected:
        # An engine that is not mounted, or has nothing configured, answers 400 with a sentence; only root reads here, so it is no refusal.
        return None


def _write_settled(connection: Connection, path: str, body: Mapping[str, object]) -> None:
    deadline = time.monotonic() + SETTLE_S
    while True:
        try:
            connection.write(path, body)
        except Rejected as error:
            if error.cause_code == ABSENT or not path.startswith("kv/") or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.05)


def _write(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


__all__ = [
    "BootstrapRefused", "Builder", "Change", "ComponentSettings", "DeployTarget", "Instance", "InstancePublic", "Layout", "Person", "Plan",
    "Platform", "PublicMaterial", "RootSecrets", "VaultState", "apply", "bootstrap", "initialise", "keep_recovery_key", "make_supervisor",
    "mint_wrapped", "person_token", "plan", "plan_of_nothing", "read_public", "renew_supervisor", "revoke_root", "vault_state", "write_public",
]  # fmt: skip
