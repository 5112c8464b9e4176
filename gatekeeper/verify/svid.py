"""X.509-SVIDs: who signed under a SPIFFE ID, and the CAs of its trust domain.

`https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md` (sections in brackets) and `SPIFFE_Trust_Domain_and_Bundle.md`. A
workload's certificate is accepted where

- it has exactly one URI among its names, and that is the expected SPIFFE ID, to the letter [2]; DNS names beside it are allowed and not read;
- it is no authority; its key usage is there, critical, with digitalSignature and without keyCertSign and cRLSign [4.1, 4.3];
- its extended key usage is absent, or holds both serverAuth and clientAuth [4.4];
- it is valid at `received_at`, both ends included, and so is every certificate above it;
- its chain, which may hold intermediates, ends at a CA of the pinned bundle by `cryptography`'s X.509 verifier [5], and no CA of it names
  another trust domain [3.1].

An SVID names no project, commit or run: see `gatekeeper.verify.signers` for what is bound by what.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import Moment
from gatekeeper.model.spiffeid import MalformedSpiffeId, parse_spiffe_id
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.model.verified import Refusal

from .errors import MalformedKey
from .managedkey import ManagedKey, managed_key

MAX_CHAIN: Final = 4
"""intermediates between a workload's certificate and a CA of the bundle"""
_MAX_AUTHORITIES: Final = 32
_MAX_BUNDLE: Final = 256 * 1024
_MAX_CERTIFICATE_TEXT: Final = 16 * 1024
_UNTRUSTED: Final = "unknown-builder"
_UNREADABLE: Final = (
    *(ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
    TypeError,  # what the library raises for a name that holds a bit string
)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True)
class SvidAuthority:
    """Expect an X.509-SVID of exactly this SPIFFE ID under one of these CAs (DER)."""

    identity: str
    authorities: tuple[bytes, ...]

    def __post_init__(self) -> None:
        _, path = parse_spiffe_id(self.identity)
        if not path or not self.authorities:
            raise ValueError("a trust domain alone, or one without a CA, would expect nobody")


def parse_svid_authority(identity: str, data: bytes) -> SvidAuthority:
    """Read a trust domain's CAs: PEM certificates, or a SPIFFE trust bundle (a JWK Set). Raises `MalformedKey`."""
    ders = _read_bundle(data) if data.lstrip()[:1] == b"{" else _read_pem(data)
    if not 0 < len(ders) <= _MAX_AUTHORITIES:
        raise MalformedKey(f"a trust domain needs 1 to {_MAX_AUTHORITIES} CA certificates")
    domain, _ = parse_spiffe_id(identity)
    for der in ders:
        _demand_authority(der, domain)
    return SvidAuthority(identity, tuple(ders))


def verify_svid(chain: Sequence[bytes], expected: SvidAuthority, *, received_at: Moment) -> ManagedKey | Refusal:
    """The key of the one expected workload, or why the chain (DER, the workload's first) is not its. Never raises for what the chain holds."""
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        leaf = certificates[0]
        _demand_workload(leaf, expected.identity)
        key = managed_key(leaf.public_key())
        if not leaf.not_valid_before_utc <= received_at <= leaf.not_valid_after_utc:
            return Refusal("certificate-expired", "received outside the certificate's validity")
        _demand_path(leaf, certificates[1:], expected, received_at)
    except _Unfit as error:
        return Refusal(_UNTRUSTED, str(error))
    except MalformedKey as error:
        return Refusal(_UNTRUSTED, f"the certificate's key: {error}")
    except (*_UNREADABLE, IndexError):
        return Refusal(_UNTRUSTED, "the certificates or their extensions cannot be read")
    return key


class _Unfit(Exception):
    """A certificate that fails a demand; the message says which."""


def _demand_workload(leaf: x509.Certificate, identity: str) -> None:
    extensions = leaf.extensions
    if (constraints := _extension(extensions, x509.BasicConstraints)) is not None and constraints.value.ca:
        raise _Unfit("a certificate authority signs no statements")
    usage = _extension(extensions, x509.KeyUsage)
    if usage is None or not usage.critical or not usage.value.digital_signature or usage.value.key_cert_sign or usage.value.crl_sign:
        raise _Unfit("the key usage must be critical, with digitalSignature and without keyCertSign and cRLSign")
    extended = _extension(extensions, x509.ExtendedKeyUsage)
    if extended is not None and not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= set(extended.value):
        raise _Unfit("the extended key usage of an SVID, where there is one, holds serverAuth and clientAuth")
    if any(item.critical and isinstance(item.value, x509.UnrecognizedExtension) for item in extensions):
        raise _Unfit("a critical extension is not understood")
    names = list(getattr(_extension(extensions, x509.SubjectAlternativeName), "value", ()))
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    if len(uris) != 1 or not all(isinstance(name, x509.UniformResourceIdentifier | x509.DNSName) for name in names):
        raise _Unfit("an SVID has exactly one URI among its names, and beside it DNS names at most")
    if uris[0] != identity:
        raise _Unfit(f"signed by another SPIFFE ID than {identity}")


def _demand_path(leaf: x509.Certificate, intermediates: list[x509.Certificate], expected: SvidAuthority, at: Moment) -> None:
    if len(intermediates) > MAX_CHAIN:
        raise _Unfit(f"the chain holds more than {MAX_CHAIN} intermediates")
    if any(certificate.issuer == certificate.subject for certificate in intermediates):
        raise _Unfit("the bundle brings a root certificate of its own")
    # The library's client policy demands clientAuth alone, which an SVID may leave out; what a workload's certificate must say was read in
    # _demand_workload. The authorities' policy is the library's own: basic constraints, key usage, path length, and validity at `at`.
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([x509.load_der_x509_certificate(der) for der in expected.authorities]))
        .time(at)
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(), ee_policy=verification.ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        path = verifier.verify(leaf, intermediates).chain
    except verification.VerificationError:
        raise _Unfit("the certificate leads to no CA of the trust domain that was valid then") from None
    domain, _ = parse_spiffe_id(expected.identity)
    for authority in path[1:]:
        _demand_domain(authority, domain)


def _demand_domain(authority: x509.Certificate, domain: str) -> None:
    names = getattr(_extension(authority.extensions, x509.SubjectAlternativeName), "value", ())
    for name in names:
        if isinstance(name, x509.UniformResourceIdentifier):
            try:
                its_domain, _ = parse_spiffe_id(name.value)
            except MalformedSpiffeId:
                its_domain = ""
            if its_domain != domain:
                raise _Unfit(f"an authority above the certificate is not of the trust domain {domain}")


def _demand_authority(der: bytes, domain: str) -> None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        constraints = _extension(certificate.extensions, x509.BasicConstraints)
        _demand_domain(certificate, domain)
    except _Unfit as error:
        raise MalformedKey(str(error)) from None
    except _UNREADABLE:
        raise MalformedKey("a certificate of the trust domain cannot be read") from None
    if constraints is None or not constraints.value.ca:
        raise MalformedKey("a certificate of the trust domain is not a certificate authority's")


def _read_pem(data: bytes) -> list[bytes]:
    try:
        return [certificate.public_bytes(Encoding.DER) for certificate in x509.load_pem_x509_certificates(data)]
    except ValueError:
        raise MalformedKey("neither PEM certificates nor a SPIFFE trust bundle") from None


def _read_bundle(data: bytes) -> list[bytes]:
    # Trust domain and bundle, 4: keys of another `use` are for others; unknown members are to be ignored. Of a key only `x5c` is read.
    try:
        keys = Fields(parse_object(data, max_bytes=_MAX_BUNDLE)).objects("keys", max_items=2 * _MAX_AUTHORITIES)
        return [_read_x5c(key) for key in keys if key.optional("use", key.text) == "x509-svid"]
    except (MalformedJson, FieldError) as error:
        raise MalformedKey(f"SPIFFE trust bundle: {error}") from None


def _read_x5c(key: Fields) -> bytes:
    texts = key.texts("x5c", max_items=1, max_length=_MAX_CERTIFICATE_TEXT)
    if len(texts) != 1:
        raise key.error("x5c", "must hold exactly one certificate")
    try:
        return base64.b64decode(texts[0], validate=True)
    except binascii.Error:
        raise key.error("x5c", "is not base64") from None


def _extension(extensions: x509.Extensions, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
