"""Ask a target what it runs, under a certificate that the vault lets read and no more: it needs no Allow, and leaves nothing to end."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.ports.target import SshCredential, TargetAddress, TargetStatus

from .parts import Parts


async def ask_status(parts: Parts, address: TargetAddress, *, name: str) -> TargetStatus:
    """What the target there says, asked once under a `reading_credential`. Raises what that raises, and `TargetUnavailable`."""
    return await parts.target.status(address, await reading_credential(parts, address, name=name), None)


async def reading_credential(parts: Parts, address: TargetAddress, *, name: str) -> SshCredential:
    """Five minutes of asking. `name`, 32 hex digits, is the certificate's key id: the vault's audit file tells by it what was asked, and why.

    Raises `PortError` where there is no certificate.
    """
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    certificate = await parts.act_vault.status_certificate(target=address.name, name=name, public_key=public)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    return SshCredential(pem, certificate.text)
