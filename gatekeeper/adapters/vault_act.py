"""Role `act` on a vault: one-deploy child tokens, and through them SSH certificates and settings of one target.

The role itself can only make children and end them; what a child reaches is fixed by its token role in `vault-policies/` (one target, ten
minutes, few uses). The vault lets the caller choose `force-command` (there is no other way to bind a receipt), so the certificate that comes
back is checked here, and the target checks it again and runs nothing but its doorkeeper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import trio
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import SSHCertificate as ParsedCertificate
from cryptography.hazmat.primitives.serialization import SSHCertificateType, load_ssh_public_identity

from gatekeeper.model.digest import Digest, digest_hex
from gatekeeper.model.lease import STATUS_COMMAND, forced_command, status_role
from gatekeeper.model.moment import Moment, later, moment
from gatekeeper.ports.errors import Rejected, Untrustworthy
from gatekeeper.ports.vault import DeployToken, SshCertificate

from .vault import THREADS, Answer, Connection, VaultSession, crossed, integer_of, text_of

CERTIFICATE_S: Final = 300
MAX_PUBLIC_KEY: Final = 1024
MAX_SETTINGS: Final = 200
_SKEW: Final = timedelta(seconds=60)


@dataclass(frozen=True)
class DeployTarget:
    """One target of the instance: SSH principal (the account on the host), environment, and the address the gatekeeper comes from."""

    name: str
    environment: str
    principal: str
    source_address: str


class VaultAct:
    """`ports.vault.ActVault` of one instance. `clock` says what time it is (UTC); it bounds the certificates that are believed."""

    def __init__(self, session: VaultSession, instance: str, targets: tuple[DeployTarget, ...], *, clock: Callable[[], datetime]) -> None:
        self._session = session
        self._instance = instance
        self._targets = {target.name: target for target in targets}
        self._clock = clock
        self._limiter = trio.CapacityLimiter(THREADS)

    async def child(self, *, receipt: Digest, target: str) -> DeployToken:
        """See `ActVault`."""
        self._target(target)
        body = {"meta": {"receipt": digest_hex(receipt), "target": target}, "display_name": "deploy"}
        answer = await self._session.write(f"auth/token/create/{self._instance}-deploy-{target}", body)
        return DeployToken(
            accessor=text_of(answer, "auth", "accessor"),
            receipt=receipt,
            target=target,
            expires=later(moment(self._clock()), seconds=integer_of(answer, "auth", "lease_duration")),
            token=text_of(answer, "auth", "client_token"),
        )

    async def ssh_certificate(self, child: DeployToken, *, public_key: str) -> SshCertificate:
        """See `ActVault`."""
        target = self._target(child.target)
        if len(public_key) > MAX_PUBLIC_KEY or not public_key.startswith("ssh-ed25519 "):
            raise ValueError("an OpenSSH Ed25519 public key is expected")
        options = {"force-command": forced_command(child.receipt), "source-address": target.source_address}
        body = {
            "public_key": public_key,
            "valid_principals": target.principal,
            "cert_type": "user",
            "key_id": digest_hex(child.receipt),
            "ttl": f"{CERTIFICATE_S}s",
            "critical_options": options,
        }
        answer = await self._as_child(child, lambda connection: connection.write(f"ssh-{self._instance}/sign/{child.target}", body))
        text = text_of(answer, "data", "signed_key").strip()
        return _checked(text, public_key, target.principal, digest_hex(child.receipt), options, now=self._clock())

    async def status_certificate(self, *, target: str, name: str, public_key: str) -> SshCertificate:
        """See `ActVault`."""
        known = self._target(target)
        if len(public_key) > MAX_PUBLIC_KEY or not public_key.startswith("ssh-ed25519 "):
            raise ValueError("an OpenSSH Ed25519 public key is expected")
        body = {"public_key": public_key, "valid_principals": known.principal, "cert_type": "user", "key_id": name, "ttl": f"{CERTIFICATE_S}s"}
        answer = await self._session.write(f"ssh-{self._instance}/sign/{status_role(target)}", body)
        text = text_of(answer, "data", "signed_key").strip()
        options = {"force-command": STATUS_COMMAND, "source-address": known.source_address}
        return _checked(text, public_key, known.principal, name, options, now=self._clock())

    async def settings(self, child: DeployToken, *, environment: str, component: str) -> Mapping[str, str]:
        """See `ActVault`."""
        path = f"kv/data/{self._instance}/config/{environment}/{component}"
        answer = await self._as_child(child, lambda connection: connection.read(path))
        data = answer.get("data") if answer is not None else None
        found = data.get("data") if isinstance(data, Mapping) else {}
        if not isinstance(found, Mapping) or len(found) > MAX_SETTINGS or not all(isinstance(value, str) for value in found.values()):
            raise Untrustworthy("settings-malformed", f"the settings of {environment}/{component} are not at most {MAX_SETTINGS} names with texts")
        return dict(found)

    async def end(self, accessor: str) -> None:
        """See `ActVault`."""
        try:
            await self._session.write("auth/token/revoke-accessor", {"accessor": accessor})
        except Rejected:
            # 400 or 404: no token has this accessor, which is what we wanted.
            return

    def _target(self, name: str) -> DeployTarget:
        if (target := self._targets.get(name)) is None:
            raise Rejected("target-unknown", f"this instance has no target {name!r}")
        return target

    async def _as_child(self, child: DeployToken, call: Callable[[Connection], Answer | None]) -> Answer | None:
        return await crossed(self._limiter, partial(_with_own_connection, self._session, child.token, call))


def _with_own_connection(session: VaultSession, token: str, call: Callable[[Connection], Answer | None]) -> Answer | None:
    connection = Connection(session.address, token)
    try:
        return call(connection)
    finally:
        connection.close()


def _identity(text: str) -> object | None:
    try:
        return load_ssh_public_identity(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None


def _checked(text: str, public_key: str, principal: str, key_id: str, options: Mapping[str, str], *, now: datetime) -> SshCertificate:
    certificate, asked = _identity(text), _identity(public_key)
    if not isinstance(certificate, ParsedCertificate) or asked is None:
        raise Untrustworthy("certificate-wrong", "the vault's answer is not an OpenSSH certificate")
    expires = datetime.fromtimestamp(certificate.valid_before, UTC) if certificate.valid_before < 2**40 else datetime.max.replace(tzinfo=UTC)
    agrees = (
        certificate.type == SSHCertificateType.USER
        and certificate.public_key() == asked
        and certificate.valid_principals == [principal.encode()]
        and certificate.critical_options == {name.encode(): value.encode() for name, value in options.items()}
        and certificate.extensions == {}
        and certificate.key_id == key_id.encode()
        and now < expires <= now + timedelta(seconds=CERTIFICATE_S) + _SKEW
    )
    if not agrees:
        raise Untrustworthy("certificate-wrong", "the vault's SSH certificate is not the one that was asked for")
    return SshCertificate(text=text, serial=certificate.serial, expires=Moment(expires))
