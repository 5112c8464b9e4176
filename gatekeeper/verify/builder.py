"""Who signed as a builder: a run's ten-minute certificate, and the signature it speaks for.

Checks, in this order; none needs another's result to be believed:

1. the certificate is a run's: X.509, P-256, not a CA, key usage digitalSignature alone, extended key usage codeSigning alone, and exactly
   two subject alternative names, both URIs: the builder id and the run URN -> else ``unknown-builder``;
2. it was issued by a certificate of a builder root given by the caller -> else ``unknown-builder``;
3. `received_at` lies within its validity, both ends included (RFC 5280, 4.1.2.5) -> else ``certificate-expired``;
4. the path holds at that moment, the root's own validity and constraints included -> else ``unknown-builder``;
5. exactly one signature, ECDSA with SHA-256 over the envelope's PAE, by the certificate's key -> else ``bad-signature``;
6. the payload type is in-toto's, to the letter -> else ``provenance-predicate``.

2 to 4 are one question to `cryptography`'s X.509 verifier; which of them failed is looked at when it says no.

`received_at` is the time of the intake's log entry, never "now": the certificate is long expired when a vote arrives (recipes, trap B).
Not checked: revocation (a rule of the policy: ten minutes, and ``builder-revoked`` by identity), certificate transparency (a private CA),
foreign timestamps and log entries (refused by `bundle`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from gatekeeper.model.digest import digest_of
from gatekeeper.model.facts import RunIdentity, SignerIdentity
from gatekeeper.model.moment import Moment
from gatekeeper.model.seal import seal
from gatekeeper.model.uris import IN_TOTO_PAYLOAD
from gatekeeper.model.verified import Checked, Refusal

from .bundle import UntrustedBundle
from .errors import MalformedKey
from .signature import signed_by

MAX_CERTIFICATE_LIFE = timedelta(hours=1)
"""A run's certificate lives ten minutes; one that lives longer than this was not issued for a run."""

_MAX_ROOT_CERTIFICATES = 16
_KEPT_ROOTS: Final = 64
_BUILDER_ID = re.compile(r"https://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~@-]+)+")
_URN_PART = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}"
_RUN_URN = re.compile(rf"urn:pingee:run:({_URN_PART}):([0-9a-f]{{40}}|[0-9a-f]{{64}}):({_URN_PART})")


class UnfitCertificate(ValueError):
    """A certificate that is not a run's; the message says which demand it fails."""


@dataclass(frozen=True)
class BuilderRoot:
    """A builder CA that the policy trusts: its name there, and its certificates (DER). Several while one replaces the other."""

    name: str
    certificates: tuple[bytes, ...]


@dataclass(frozen=True)
class SignedStatement:
    """Payload bytes of an in-toto envelope, and who signed them. What the payload says is still to be checked."""

    payload_type: str
    payload: bytes
    signer: SignerIdentity


def parse_builder_root(name: str, pem: bytes) -> BuilderRoot:
    """Read PEM certificates of one builder CA; raises `MalformedKey` when there is none, or one that is not a CA's."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise MalformedKey(f"builder root {name}: not PEM certificates") from error
    if len(certificates) > _MAX_ROOT_CERTIFICATES:
        raise MalformedKey(f"builder root {name}: more than {_MAX_ROOT_CERTIFICATES} certificates")
    for certificate in certificates:
        if not _is_authority(certificate):
            raise MalformedKey(f"builder root {name}: a certificate is not a certificate authority's")
    return BuilderRoot(name, tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates))


def encode_run_urn(project: str, commit: str, run: str) -> str:
    """The name of one run as it stands in its certificate; raises `UnfitCertificate` where a part has no place in a URN of ours."""
    urn = f"urn:pingee:run:{project}:{commit}:{run}"
    parse_run_urn(urn)
    return urn


def parse_run_urn(urn: str) -> tuple[str, str, str]:
    """Project, commit and run; raises `UnfitCertificate`."""
    match = _RUN_URN.fullmatch(urn)
    if match is None:
        raise UnfitCertificate("the run's name must be urn:pingee:run:<project>:<full commit>:<run>")
    return match[1], match[2], match[3]


def read_run_certificate(der: bytes) -> RunIdentity:
    """The identity a certificate claims; raises `UnfitCertificate`. Who issued it, and when it holds, is not looked at."""
    return _identity(_load(der), der)


def verify_builder_statement(bundle: UntrustedBundle, roots: Sequence[BuilderRoot], *, received_at: Moment) -> Checked[SignedStatement]:
    """Believe the payload's bytes as a builder's, or say why not. No roots: nobody is a builder."""
    if bundle.certificate is None:
        return Refusal("unknown-builder", "a builder signs under a run's certificate; the bundle names a bare key")
    try:
        certificate = _load(bundle.certificate)
        signer = _identity(certificate, bundle.certificate)
    except UnfitCertificate as error:
        return Refusal("unknown-builder", str(error))
    root = next((root for root in roots if root.certificates and _path_holds(certificate, root.certificates, received_at)), None)
    if root is None:
        return _doubt_path(certificate, roots, received_at)
    if not signed_by(bundle.envelope, certificate.public_key()):
        return Refusal("bad-signature", "the envelope needs exactly one signature, by the certificate's key, over these bytes")
    if bundle.envelope.payload_type != IN_TOTO_PAYLOAD:
        return Refusal("provenance-predicate", f"the payload type must be {IN_TOTO_PAYLOAD}")
    return seal(SignedStatement(bundle.envelope.payload_type, bundle.envelope.payload, replace(signer, root=root.name)), bundle.digest)


def _load(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise UnfitCertificate("not an X.509 certificate") from error


def _identity(certificate: x509.Certificate, der: bytes) -> RunIdentity:
    try:
        key = certificate.public_key()
        listed = certificate.extensions
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise UnfitCertificate("the certificate's key or extensions cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UnfitCertificate("the key must be ECDSA on P-256")
    if certificate.not_valid_after_utc - certificate.not_valid_before_utc > MAX_CERTIFICATE_LIFE:
        raise UnfitCertificate("the certificate lives longer than a run's may")
    if any(item.critical and isinstance(item.value, x509.UnrecognizedExtension) for item in listed):
        raise UnfitCertificate("a critical extension is not understood")  # RFC 5280, 4.2: must reject
    extensions = {type(item.value): item.value for item in listed}
    _demand_run_usage(extensions)
    builder_id, (project, commit, run) = _names(extensions)
    return RunIdentity(builder_id, project, commit, run, certificate=digest_of(der))


def _demand_run_usage(extensions: _Extensions) -> None:
    constraints = _extension(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise UnfitCertificate("a certificate authority signs no statements")
    if _extension(extensions, x509.KeyUsage) != _DIGITAL_SIGNATURE_ALONE:
        raise UnfitCertificate("the key usage must be digitalSignature alone")
    usage = _extension(extensions, x509.ExtendedKeyUsage)
    if usage is None or list(usage) != [ExtendedKeyUsageOID.CODE_SIGNING]:
        raise UnfitCertificate("the extended key usage must be codeSigning alone")


def _names(extensions: _Extensions) -> tuple[str, tuple[str, str, str]]:
    names = list(_extension(extensions, x509.SubjectAlternativeName) or ())
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    runs = [uri for uri in uris if uri.startswith("urn:")]
    builders = [uri for uri in uris if not uri.startswith("urn:")]
    if len(names) != 2 or len(runs) != 1 or len(builders) != 1:
        raise UnfitCertificate("the certificate must have exactly two names, both URIs: a builder id and a run")
    # A dot segment is compared as it stands by us and resolved by others: refused, so that nobody is misled.
    if _BUILDER_ID.fullmatch(builders[0]) is None or {".", ".."} & set(builders[0].split("/")):
        raise UnfitCertificate("the builder id must be a plain https URL with a path")
    return builders[0], parse_run_urn(runs[0])


_DIGITAL_SIGNATURE_ALONE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)

_Extensions: TypeAlias = Mapping[type[x509.ExtensionType], x509.ExtensionType]
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def _extension(extensions: _Extensions, kind: type[_Extension]) -> _Extension | None:
    found = extensions.get(kind)
    return found if isinstance(found, kind) else None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.ExtensionNotFound):
        return False


def _is_valid(certificate: x509.Certificate, at: Moment) -> bool:
    return certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc


def _doubt_path(certificate: x509.Certificate, roots: Sequence[BuilderRoot], at: Moment) -> Refusal:
    """Why the path does not hold, from the nearest to a pass. Asked of refused certificates alone: it costs a second look at their signature."""
    if not any(_issued(certificate, root) for root in roots):
        return Refusal("unknown-builder", "no trusted builder root issued the certificate")
    if not _is_valid(certificate, at):
        return Refusal("certificate-expired", "received outside the certificate's validity")
    return Refusal("unknown-builder", "the certificate's path to its root does not hold")


def _issued(certificate: x509.Certificate, root: BuilderRoot) -> bool:
    for der in root.certificates:
        try:
            certificate.verify_directly_issued_by(x509.load_der_x509_certificate(der))
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return True
    return False


@lru_cache(maxsize=_KEPT_ROOTS)
def _store(authorities: tuple[bytes, ...]) -> verification.Store:
    return verification.Store([x509.load_der_x509_certificate(der) for der in authorities])


# The library's client policy demands clientAuth; what a run's certificate must say was read in _identity, so the end entity's policy only has
# to let it pass. The authority's is the library's own.
_OF_AUTHORITIES: Final = verification.ExtensionPolicy.webpki_defaults_ca()
_OF_RUNS: Final = verification.ExtensionPolicy.permit_all()


def _path_holds(certificate: x509.Certificate, authorities: tuple[bytes, ...], at: Moment) -> bool:
    verifier = (
        verification.PolicyBuilder()
        .store(_store(authorities))
        .time(at)
        .max_chain_depth(0)
        .extension_policies(ca_policy=_OF_AUTHORITIES, ee_policy=_OF_RUNS)
        .build_client_verifier()
    )
    try:
        verifier.verify(certificate, [])
    except verification.VerificationError:
        return False
    return True
