"""Whoever stole the three logins of a gatekeeper replica: everything the vault then gives, and nothing more.

No honest code of the gatekeeper takes part, for a thief would not run it: the vault's policies and the target's doorkeeper are all that
stands in the way. The logins come as a starting replica gets them, from the supervisor's token; what the thief knows besides is the replica's
own configuration and what its log shows everybody.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import asyncssh
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from gatekeeper import bootstrap
from gatekeeper.adapters.vault import Connection, VaultAddress, WrappedSecret, text_of
from gatekeeper.adapters.vault_log import transit_signature
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.frame import PartName, PartSpec, encode_header
from gatekeeper.model.lease import forced_command
from gatekeeper.model.receipt import encode_receipt, parse_receipt
from gatekeeper.model.statement import encode_decision_statement, parse_decision_statement
from gatekeeper.model.uris import IN_TOTO_PAYLOAD
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.target import SshCredential, TargetAddress
from gatekeeper.settings import LOGINS, Settings, read_settings
from gatekeeper.tlog.entry import encode_entry, parse_entry
from gatekeeper.tlog.kinds import DecisionEntry
from gatekeeper.tlog.note import Note, NoteSignature, encode_note, parse_vkey
from gatekeeper.verify.dsse import envelope_json, pae, parse_envelope

from .world import World

KNOCK_S: Final = 60.0
MAX_LINES: Final = 1024 * 1024


@dataclass(frozen=True)
class Answered:
    """A target's last line, and the exit status that came with it."""

    code: int
    line: Mapping[str, Any]


@dataclass(frozen=True)
class Forged:
    """An Allow that nobody decided, signed by the true receipt key; `entry` is what a log would have to hold for it."""

    receipt: bytes
    entry: bytes


class Thief:
    """Holds the logins `log`, `decide` and `act` of one instance, and what the supervisor's token may do."""

    def __init__(self, settings: Settings, target: str, logins: Mapping[str, Connection], supervisor: Connection, loot: Path) -> None:
        self.settings = settings
        self.target = target
        self.logins = logins
        self.supervisor = supervisor
        self._loot = loot

    @property
    def address(self) -> TargetAddress:
        """Where the instance's own target is."""
        return self.settings.targets[self.target].address

    def child(self) -> Connection:
        """A one-deploy child of `act` for its own target: what leases the certificate."""
        instance = self.settings.instance
        made = self.logins["act"].write(f"auth/token/create/{instance}-deploy-{self.target}", {"display_name": "deploy"})
        return Connection(self.supervisor.address, text_of(made, "auth", "client_token"))

    def credential(self, receipt: Digest, *, command: str | None = None) -> SshCredential:
        """A key pair with the vault's own certificate, for a receipt that need not exist; `command` in the place of the doorkeeper's."""
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
        command = forced_command(receipt) if command is None else command
        options = {"source-address": self.settings.targets[self.target].source_address, **({"force-command": command} if command else {})}
        body = {"public_key": public, "valid_principals": self.address.user, "key_id": "thief", "critical_options": options}
        child = self.child()
        try:
            signed = text_of(child.write(f"ssh-{self.settings.instance}/sign/{self.target}", body), "data", "signed_key").strip()
        finally:
            child.close()
        with self._loot.open("a") as file:
            file.write(f"{_certificate(signed).serial:x}\n")
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        return SshCredential(pem, signed)

    def sign_note(self, text: bytes) -> bytes:
        """A note signed by the true log key: the vault does not know what append-only is."""
        key = parse_vkey(self.settings.vault.log_vkey)
        return encode_note(Note(text, (NoteSignature(key.name, key.key_id, self._sign("log", "deploylog", text, {})),)))

    def forge(self, like: bytes, index: int, **changes: Any) -> Forged:
        """An Allow that says what a true receipt's does but for `changes`, members of its statement; its entry agrees, to stand at `index`."""
        true = parse_receipt(like)
        statement = replace(parse_decision_statement(parse_envelope(true.statement).payload), **changes)
        payload = encode_decision_statement(statement)
        envelope = envelope_json(IN_TOTO_PAYLOAD, payload, [("", self._sign("decide", "receipt", pae(IN_TOTO_PAYLOAD, payload), _ECDSA))])
        logged = parse_entry(true.entry)
        assert isinstance(logged, DecisionEntry)  # noqa: S101 -- a receipt is of a decision
        entry = encode_entry(
            replace(
                logged,
                entry_id=secrets.token_hex(16),
                at=statement.evaluated_at,
                environment=statement.environment,
                component=statement.component,
                artifact=statement.subject,
                subjects=(statement.subject,),
                target=statement.targets,
                statement=digest_of(payload),
                not_after=statement.not_after,
            )
        )
        receipt = encode_receipt(statement={**envelope}, entry=entry, index=index, origin=self.settings.origin, evidence=true.evidence)
        return Forged(receipt, entry)

    def _sign(self, role: str, key: str, message: bytes, extra: Mapping[str, object]) -> bytes:
        body = {"input": base64.b64encode(message).decode(), "key_version": self.settings.vault.key_version or 1, **extra}
        answer = self.logins[role].write(f"transit/sign/{self.settings.instance}-{key}", body)
        return transit_signature(text_of(answer, "data", "signature"), self.settings.vault.key_version or 1)


_ECDSA: Final = {"hash_algorithm": "sha2-256", "marshaling_algorithm": "asn1"}


@contextmanager
def stolen_replica(world: World, instance: str) -> Iterator[Thief]:
    """The logins of one replica of an instance, for the length of the block; they are revoked at its end, and children with them."""
    directory = Path(world.directory)
    settings = read_settings(directory / "instances" / instance / "gatekeeper.toml")
    address = VaultAddress(settings.vault.url, settings.vault.ca_file)
    token = (directory / "operator" / "supervisor.token").read_text().strip()
    supervisor = Connection(address, token)
    logins: dict[str, Connection] = {}
    try:
        for role in LOGINS:
            logins[role] = _log_in(address, bootstrap.mint_wrapped(address, token, f"{instance}-{role}"))
        yield Thief(settings, world.instance(instance).target, logins, supervisor, _loot(world, instance))
    finally:
        for connection in logins.values():
            with suppress(PortError):
                connection.write("auth/token/revoke-self")
            connection.close()
        supervisor.close()


def stolen_serials(world: World, instance: str) -> frozenset[str]:
    """Serial numbers, hexadecimal, of every certificate that a thief had signed at an instance so far."""
    loot = _loot(world, instance)
    return frozenset(loot.read_text().split()) if loot.exists() else frozenset()


def _loot(world: World, instance: str) -> Path:
    return Path(world.directory) / "work" / f"{instance}.loot"


def _certificate(text: str) -> SSHCertificate:
    """The certificate that a vault gave."""
    found = load_ssh_public_identity(text.encode())
    assert isinstance(found, SSHCertificate)  # noqa: S101 -- the vault signs nothing else
    return found


def _log_in(address: VaultAddress, secret: WrappedSecret) -> Connection:
    holder, anonymous = Connection(address, secret.wrapping_token), Connection(address)
    try:
        secret_id = text_of(holder.write("sys/wrapping/unwrap"), "data", "secret_id")
        answer = anonymous.write("auth/approle/login", {"role_id": secret.role_id, "secret_id": secret_id})
        return Connection(address, text_of(answer, "auth", "client_token"))
    finally:
        holder.close()
        anonymous.close()


def frame(items: Mapping[PartName, bytes]) -> bytes:
    """The parts as one frame, in the order in which parts may stand."""
    parts = [(name, items[name]) for name in PartName if name in items]
    return encode_header([PartSpec(name, len(data), digest_of(data)) for name, data in parts]) + b"".join(data for _, data in parts)


def knock(address: TargetAddress, credential: SshCredential, word: str | None, data: bytes = b"") -> Answered:
    """One SSH session at a target with a command of our own (None: a shell). The gatekeeper's own client knows two words only."""
    return asyncio.run(asyncio.wait_for(_knock(address, credential, word, data), KNOCK_S))


async def _knock(address: TargetAddress, credential: SshCredential, word: str | None, data: bytes) -> Answered:
    key = asyncssh.import_private_key(credential.private_key_pem)
    known = [asyncssh.import_public_key(line) for line in address.host_keys]
    async with asyncssh.connect(
        address.host,
        address.port,
        username=address.user,
        client_keys=[(key, asyncssh.import_certificate(credential.certificate))],
        known_hosts=(known, [], []),
        config=None,
        agent_path=None,
        preferred_auth="publickey",
    ) as connection:
        process = await connection.create_process(word, encoding=None, request_pty=False, stderr=asyncssh.DEVNULL)
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent: the answer says why
            process.stdin.write(data)
            process.stdin.write_eof()
        lines = (await process.stdout.read(MAX_LINES)).splitlines()
        await process.wait_closed()
        return Answered(-1 if process.exit_status is None else process.exit_status, json.loads(lines[-1]) if lines else {})
