"""The vault as the gatekeeper sees it: one Protocol per login role, and the certificate relay, which has none.

Contract of every method here:

* It may be called from many trio tasks at once; cancelling it returns at once, but the request may still take effect (unknown outcome).
* It is bounded in time by the adapter (`Unavailable("timeout", ...)`), never retried inside.
* Errors are those of `ports.errors`, all `PortError`: `Unavailable` (down, sealed, too slow: reason `vault-unavailable`; outcome unknown),
  `Denied` (403), `Rejected` (400, 404 where something had to be there), `Untrustworthy` (the answer failed our check of it).
* No message, `repr` or traceback of ours holds a token, a key or a workload secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gatekeeper.model.digest import Digest
from gatekeeper.model.moment import Moment

from .errors import PortError


@dataclass(frozen=True)
class HeadRecord:
    """The last signed note kept under check-and-set (`log-format.md` section 6), and the version it was written as (from 1).

    `edge`: the partial tiles of the note's tree (`tlog.origins.encode_edge`), empty where none were kept. They are what is left of the tail when the
    database loses it; which note stands here is decided without them.
    """

    note: bytes
    version: int
    edge: bytes = field(default=b"", compare=False, repr=False)


class CasMismatch(PortError):
    """Another writer has written the head: stop, never retry."""


class Unauthenticated(PortError):
    """The vault's own JWT method refuses the run's token (reason `unauthenticated`)."""


class LogVault(Protocol):
    """Role `log`: the log key and the second lock. Nothing else."""

    async def public_key(self) -> bytes:
        """The 32 raw bytes of the Ed25519 log key at the pinned version, asked from the vault; `Untrustworthy` if it is not the pinned key."""
        ...

    async def sign(self, note_text: bytes) -> bytes:
        """The 64 bytes of pure Ed25519 (RFC 8032) over the whole note text, verified locally against the pinned key before it is returned.

        `note_text` ends in a newline (C2SP signed-note) and has at most 64 KiB, else `ValueError`.
        """
        ...

    async def read_head(self) -> HeadRecord | None:
        """The newest head record; None if none was ever written. Linearisable: reads the leader's own state."""
        ...

    async def write_head(self, note: bytes, *, cas: int, edge: bytes = b"") -> int:
        """Store the note, and its tree's edge of at most 128 KiB, if the newest version is exactly `cas` (0: none yet); the new version.

        Durable when it returns.

        Raises `CasMismatch` if it is another. After `Unavailable` or a cancellation the outcome is unknown: read it back.
        """
        ...


class DecideVault(Protocol):
    """Role `decide`: the receipt key and the wrapping of pseudonym keys."""

    async def public_key_pem(self) -> bytes:
        """SubjectPublicKeyInfo PEM of the ECDSA P-256 receipt key at the pinned version; `Untrustworthy` if it is not the pinned key."""
        ...

    async def sign(self, message: bytes) -> bytes:
        """ECDSA P-256 with SHA-256 over the message, DER; verified locally against the pinned key. At most 1 MiB, else `ValueError`."""
        ...

    async def wrap(self, key: bytes) -> str:
        """AES-256-GCM ciphertext (`vault:vN:...`) of 1 to 256 bytes; another text at every call."""
        ...

    async def unwrap(self, wrapped: str) -> bytes:
        """What `wrap` was given; `Rejected` for anything `wrap` of this instance did not make."""
        ...


@dataclass(frozen=True)
class DeployToken:
    """A child token good for one deploy of one receipt at one target. `accessor` ends it and reads nothing; `token` is the secret."""

    accessor: str
    receipt: Digest
    target: str
    expires: Moment
    token: str = field(repr=False)


@dataclass(frozen=True)
class SshCertificate:
    """An OpenSSH user certificate: one line of text without newline, its serial, and when it stops being valid."""

    text: str
    serial: int
    expires: Moment


class ActVault(Protocol):
    """Role `act`: makes and ends one-deploy child tokens. The child, not the role, reaches certificates and settings of one target.

    Order of a deploy: `child`, then the caller stores `accessor` durably, then the child is used, then `end`. A replica killed in between
    leaves a token that nobody can use and that dies after ten minutes, and one whose accessor is stored is ended by whoever resumes.
    """

    async def child(self, *, receipt: Digest, target: str) -> DeployToken:
        """A token of ten minutes and few uses, marked in the vault's audit file with receipt and target. `Rejected` for an unknown target."""
        ...

    async def ssh_certificate(self, child: DeployToken, *, public_key: str) -> SshCertificate:
        """Certify an OpenSSH public key (`ssh-ed25519 AAAA...`) for the child's target and receipt, for at most five minutes.

        Critical options: `force-command` = `pingee-doorkeeper serve <64 hex of the receipt>` and the target's `source-address`; one
        principal, no extensions; key id = the receipt. All of it is checked in the certificate that comes back, else `Untrustworthy`.
        """
        ...

    async def status_certificate(self, *, target: str, name: str, public_key: str) -> SshCertificate:
        """Certify an OpenSSH public key for reading a target's status, for at most five minutes; no child, no Allow: nothing can be changed.

        The vault's own role fixes the command, `pingee-doorkeeper status`; this login cannot choose another there. `name` is the key id by
        which the vault's audit file tells what it was for. Checked in the certificate that comes back as in `ssh_certificate`.
        """
        ...

    async def settings(self, child: DeployToken, *, environment: str, component: str) -> Mapping[str, str]:
        """Configuration and secrets of the component, empty if there are none. Values are secrets: never logged, never stored."""
        ...

    async def end(self, accessor: str) -> None:
        """Revoke the token of this accessor; returns quietly if it is gone already. Call it shielded from cancellation."""
        ...


class CertificateRelay(Protocol):
    """No role of ours: the vault authenticates the run's own token, and its PKI engine names the certificate by that token's claims."""

    async def issue(self, *, token: str, csr_pem: bytes, builder_id: str, run_urn: str, platform: str = "") -> tuple[bytes, ...]:
        """The leaf certificate, then its issuers, each as PEM. The leaf's validity is ten minutes.

        The CSR's own signature is verified first (`Rejected`); the leaf must carry the CSR's public key and exactly the two URIs (else
        `Untrustworthy`). A token that the vault does not accept raises `Unauthenticated`; one whose claims give other names, `Denied`.
        `platform` is the issuer's name where its tokens have claims of their own, and so a login of their own; else it is empty.
        """
        ...
