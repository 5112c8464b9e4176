"""Who a keyless certificate says signed: one name, and the OIDC issuer that vouched for it.

The extensions are Fulcio's (`https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md`). Two names in one certificate, or two issuers
that disagree, are an answer that nobody can read, so they are no identity at all. Whether the certificate is genuine is not looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtendedKeyUsageOID

from .source import run_of

_ISSUER_V1: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_ISSUER_V2: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_UNREADABLE: Final = (
    *(ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
    TypeError,  # what the library raises for a name that holds a bit string
)
_OTHER_NAME: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
_SOURCE_REPOSITORY: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.12")
_SOURCE_DIGEST: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.13")
_INVOCATION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.21")


class UnreadableCertificate(ValueError):
    """Not X.509, or with extensions that cannot be read in one way; the message says which."""


@dataclass(frozen=True)
class KeylessCertificate:
    """What a certificate claims. `identity` and `issuer` are compared exactly, never by pattern, prefix or case."""

    certificate: x509.Certificate
    identity: str
    issuer: str
    signs_code: bool
    """digital signature, code signing, and no authority"""
    logged_at: tuple[datetime, ...]
    """times of its embedded SCTs"""


@dataclass(frozen=True)
class KeylessSource:
    """What a certificate's extensions say of the run that got it; None where it has no such extension."""

    repository: str | None
    commit: str | None
    run: str | None
    """the run as the platform's tokens name it (`gatekeeper.verify.platform`), or the invocation's whole URI of a platform that is not known"""


def read_keyless_certificate(der: bytes) -> KeylessCertificate:
    """Read a leaf; raises `UnreadableCertificate`."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
    except _UNREADABLE:
        raise UnreadableCertificate("the certificate or its extensions cannot be read") from None
    return KeylessCertificate(certificate, _identity(extensions), _issuer(extensions), _signs_code(extensions), _logged_at(extensions))


def read_source(certificate: x509.Certificate) -> KeylessSource:
    """Source repository URI, source repository digest and run invocation URI; raises `UnreadableCertificate`."""
    found = [_value(certificate.extensions, oid) for oid in (_SOURCE_REPOSITORY, _SOURCE_DIGEST, _INVOCATION)]
    repository, commit, invocation = (None if value is None else _der_text(value) for value in found)
    return KeylessSource(repository, commit, None if invocation is None else run_of(repository or "", invocation))


def is_self_issued(der: bytes) -> bool:
    """Whether a certificate names itself as its issuer, as a root does; raises `UnreadableCertificate`."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        return certificate.issuer == certificate.subject
    except _UNREADABLE:
        raise UnreadableCertificate("a certificate of the chain cannot be read") from None


def _identity(extensions: x509.Extensions) -> str:
    try:
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    if len(names) != 1:
        raise UnreadableCertificate(f"the certificate has {len(names)} names; it must have exactly one")
    name = names[0]
    if isinstance(name, x509.RFC822Name | x509.UniformResourceIdentifier):
        return name.value
    if isinstance(name, x509.OtherName) and name.type_id == _OTHER_NAME:
        return _der_text(name.value)
    raise UnreadableCertificate("the certificate's name is of no kind that names a signer")


def _issuer(extensions: x509.Extensions) -> str:
    old, new = _value(extensions, _ISSUER_V1), _value(extensions, _ISSUER_V2)
    texts = {_text(old)} if old is not None else set()
    if new is not None:
        texts.add(_der_text(new))
    if len(texts) != 1:
        raise UnreadableCertificate("the certificate's two issuer extensions disagree" if texts else "the certificate names no issuer")
    return texts.pop()


def _value(extensions: x509.Extensions, oid: x509.ObjectIdentifier) -> bytes | None:
    try:
        value = extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableCertificate("a name in the certificate is not UTF-8") from None


def _der_text(data: bytes) -> str:
    try:
        return asn1.decode_der(str, data)
    except ValueError:
        raise UnreadableCertificate("a name in the certificate is not a DER string") from None


def _signs_code(extensions: x509.Extensions) -> bool:
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    try:
        authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    return usage.digital_signature and not usage.key_cert_sign and ExtendedKeyUsageOID.CODE_SIGNING in extended and not authority


def _logged_at(extensions: x509.Extensions) -> tuple[datetime, ...]:
    try:
        timestamps = extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
    except x509.ExtensionNotFound:
        return ()
    try:
        return tuple(item.timestamp.replace(tzinfo=UTC) for item in timestamps)
    except ValueError:
        raise UnreadableCertificate("the certificate has an SCT of a year that there is not") from None
