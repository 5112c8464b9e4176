"""Signers whose certificates name no run of ours: a SPIFFE trust domain, a plain key. Keyless ones: `tests.fakes.sigstore_instance`.

Everything is made at `signing.ISSUED`; whoever signs, signs a minute before `signing.RECEIVED`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.moment import Moment
from gatekeeper.model.uris import IN_TOTO_PAYLOAD
from gatekeeper.verify.bundle import encode_bundle
from gatekeeper.verify.dsse import envelope_json, pae
from tests.fakes import foreign_bundles
from tests.fakes.signing import CA_USAGE, DIGITAL_SIGNATURE, ISSUED
from tests.fakes.sigstore_instance import SHA256, new_key

SPIFFE_ID = "spiffe://house.demo/ci/builder"
_CHAIN_TYPE = "application/vnd.dev.sigstore.bundle+json;version=0.2"


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, SHA256)


@dataclass(frozen=True)
class FakeAuthority:
    """A CA of anything: a root where `issuer` is None."""

    subject: str
    issuer: FakeAuthority | None = None
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    names: tuple[x509.GeneralName, ...] = ()
    start: Moment = ISSUED - timedelta(days=1)
    life: timedelta = timedelta(days=366)
    ca: bool = True

    def certificate(self) -> x509.Certificate:
        """Its own, by its issuer."""
        above = self.issuer or self
        builder = (
            _named(self.subject, above.subject)
            .public_key(self.key.public_key())
            .serial_number(7)
            .not_valid_before(self.start)
            .not_valid_after(self.start + self.life)
            .add_extension(x509.BasicConstraints(ca=self.ca, path_length=None), critical=True)
            .add_extension(CA_USAGE, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key()), critical=False)
        )
        if self.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(self.names), critical=False)
        return builder.sign(above.key, hashes.SHA256())

    @property
    def der(self) -> bytes:
        return self.certificate().public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate().public_bytes(Encoding.PEM)

    def spiffe_bundle(self, **changes: Any) -> bytes:
        """Its trust domain's bundle, with a key for JWT-SVIDs beside."""
        key = {"kty": "EC", "use": "x509-svid", "x5c": [base64.b64encode(self.der).decode()], **changes}
        return json.dumps({"keys": [{"kty": "EC", "use": "jwt-svid", "kid": "k"}, key], "spiffe_sequence": 1, "spiffe_refresh_hint": 300}).encode()


@dataclass(frozen=True)
class FakeWorkload:
    """A workload with its X.509-SVID; `signs` gives bundle bytes."""

    authority: FakeAuthority
    key: Any = field(default_factory=new_key)
    names: tuple[x509.GeneralName, ...] = (x509.UniformResourceIdentifier(SPIFFE_ID),)
    usage: x509.KeyUsage | None = DIGITAL_SIGNATURE
    usage_critical: bool = True
    extended: tuple[x509.ObjectIdentifier, ...] | None = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    ca: bool = False
    life: timedelta = timedelta(hours=1)
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    intermediates: tuple[FakeAuthority, ...] = ()

    @property
    def der(self) -> bytes:
        builder = (
            _named("", self.authority.subject)
            .public_key(self.key.public_key())
            .serial_number(9)
            .not_valid_before(ISSUED)
            .not_valid_after(ISSUED + self.life)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.key.public_key()), critical=False)
            .add_extension(x509.BasicConstraints(ca=self.ca, path_length=None), critical=True)
        )
        if self.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(self.names), critical=True)
        if self.usage is not None:
            builder = builder.add_extension(self.usage, critical=self.usage_critical)
        if self.extended is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.extended), critical=False)
        for extension, critical in self.extra:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.authority.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def sign(self, payload: bytes, *, payload_type: str = IN_TOTO_PAYLOAD) -> bytes:
        signature = sign(self.key, pae(payload_type, payload))
        if not self.intermediates:
            return encode_bundle(payload, signature, certificate=self.der, payload_type=payload_type)
        chain = [self.der, *(authority.der for authority in self.intermediates)]
        material = {"x509CertificateChain": {"certificates": [{"rawBytes": base64.b64encode(der).decode()} for der in chain]}, "tlogEntries": []}
        envelope = envelope_json(payload_type, payload, [("", signature)])
        return encode_canonical({"mediaType": _CHAIN_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


@dataclass(frozen=True)
class FakeKey:
    """A managed key."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    @property
    def pem(self) -> bytes:
        return foreign_bundles.pem(self.key)

    def sign(self, payload: bytes, *, payload_type: str = IN_TOTO_PAYLOAD) -> bytes:
        return encode_bundle(payload, sign(self.key, pae(payload_type, payload)), key_hint="ours", payload_type=payload_type)


def _named(subject: str, issuer: str) -> x509.CertificateBuilder:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])

    return x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
