"""The certificate relay: a run's own token, through the vault's own JWT method, to the vault's own PKI engine.

No gatekeeper login takes part: the requests carry no token but the one that the vault gives for the run's (recipes, trap C; `interfaces.md`
section 3). That token is good for one request. Whether the run's token was used before (`jti`) is the caller's to check: the vault accepts
one twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import trio
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper.ports.errors import Denied, Rejected, Untrustworthy
from gatekeeper.ports.vault import Unauthenticated

from .vault import THREADS, Connection, VaultAddress, crossed, text_of

MAX_CSR: Final = 8 * 1024
MAX_TOKEN: Final = 16 * 1024

# No comma (the vault splits its list there), no `*` (it would match as a pattern), and no second reading of the colons.
_BUILDER_ID = re.compile(r"https://[a-z0-9.:-]{1,128}(?:/[A-Za-z0-9._~-]{1,64}){0,8}")
_RUN_URN = re.compile(r"urn:pingee:run:[a-z0-9._/-]{1,128}:(?:[0-9a-f]{40}|[0-9a-f]{64}|-):[A-Za-z0-9._-]{1,64}")


class VaultRelay:
    """`ports.vault.CertificateRelay` of one vault."""

    def __init__(self, address: VaultAddress) -> None:
        self._address = address
        self._limiter = trio.CapacityLimiter(THREADS)

    async def issue(self, *, token: str, csr_pem: bytes, builder_id: str, run_urn: str, platform: str = "") -> tuple[bytes, ...]:
        """See `CertificateRelay`. `ValueError` for a builder id or run URN that is not one."""
        if _BUILDER_ID.fullmatch(builder_id) is None or _RUN_URN.fullmatch(run_urn) is None:
            raise ValueError("not a builder id or not a run URN")
        if not token or len(token) > MAX_TOKEN:
            raise Unauthenticated("token-refused", "no token, or one over the bound")
        key = _proven_key(csr_pem)
        path = _path(platform, builder_id, run_urn.split(":")[3])
        chain = await crossed(self._limiter, _relay, self._address, path, token, csr_pem, f"{builder_id},{run_urn}")
        _check_leaf(chain[0], key, {builder_id, run_urn})
        return chain


def login_role(builder_id: str) -> str:
    """The name of the JWT login role that binds this builder id to its projects; the bootstrap makes it under the same name."""
    return "builder-" + sha256(builder_id.encode()).hexdigest()[:16]


def platform_mount(name: str) -> str:
    """The login method of a platform with claims of its own."""
    return f"platform-{name}"


def platform_role(name: str, builder_id: str, project: str) -> str:
    """The role, of the login and of the builder CA alike, for runs of one project by one builder on such a platform."""
    whole = "\0".join((name, builder_id, project))
    return "run-" + sha256(whole.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Path:
    mount: str
    login: str
    certificate: str


def _path(platform: str, builder_id: str, project: str) -> _Path:
    if not platform:
        return _Path("platform", login_role(builder_id), "builder")
    role = platform_role(platform, builder_id, project)
    return _Path(platform_mount(platform), role, role)


def _relay(address: VaultAddress, path: _Path, token: str, csr_pem: bytes, names: str) -> tuple[bytes, ...]:
    anonymous = Connection(address)
    try:
        answer = anonymous.write(f"auth/{path.mount}/login", {"role": path.login, "jwt": token})
    except (Denied, Rejected):
        answer = None
    finally:
        anonymous.close()
    if answer is None:
        raise Unauthenticated("token-refused", "the vault does not accept the run's token for this builder")
    run = Connection(address, text_of(answer, "auth", "client_token"))
    try:
        signed = run.write(f"builder-ca/sign/{path.certificate}", {"csr": csr_pem.decode(), "uri_sans": names})
    except Rejected:
        signed = None
    finally:
        run.close()
    if signed is None:
        raise Denied("names-refused", "the run's token does not give these names")
    return (text_of(signed, "data", "certificate").encode() + b"\n", text_of(signed, "data", "issuing_ca").encode() + b"\n")


def _proven_key(csr_pem: bytes) -> bytes:
    try:
        csr = x509.load_pem_x509_csr(csr_pem) if len(csr_pem) <= MAX_CSR else None
        key = csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) if csr is not None and csr.is_signature_valid else None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if key is None:
        raise Rejected("csr-malformed", "the certificate request is malformed or not signed with its own key")
    return key


def _check_leaf(pem: bytes, key: bytes, uris: set[str]) -> None:
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        names = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        same_key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == key
    except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm):
        agrees = False
    else:
        given = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
        agrees = same_key and len(names) == len(given) == len(uris) and set(given) == uris and not list(leaf.subject)
    if not agrees:
        raise Untrustworthy("certificate-wrong", "the vault's certificate is not for this key and exactly these two names")
