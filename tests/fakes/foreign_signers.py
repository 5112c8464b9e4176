"""Signers whose certificates name no run of ours: a sigstore instance of three keys, a SPIFFE trust domain, a plain key.

Everything is made at `signing.ISSUED`; whoever signs, signs a minute before `signing.RECEIVED`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.moment import Moment
from gatekeeper.model.uris import BUNDLE_V03, IN_TOTO_PAYLOAD
from gatekeeper.verify.bundle import encode_bundle
from gatekeeper.verify.dsse import envelope_json, pae
from tests.fakes.signing import CA_USAGE, DIGITAL_SIGNATURE, ISSUED

IDENTITY = "https://git.demo/hello/.ci.yml@refs/heads/main"
ISSUER = "https://ci.demo"
SPIFFE_ID = "spiffe://house.demo/ci/builder"
SOURCE = {"repository": "1.3.6.1.4.1.57264.1.12", "commit": "1.3.6.1.4.1.57264.1.13", "invocation": "1.3.6.1.4.1.57264.1.21"}
_ISSUER_OID, _SCT_OID = "1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.11129.2.4.2"
_CHAIN_TYPE = "application/vnd.dev.sigstore.bundle+json;version=0.2"
_LOG_NAME = "log.demo"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


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
        return public_pem(self.key)

    def sign(self, payload: bytes, *, payload_type: str = IN_TOTO_PAYLOAD) -> bytes:
        return encode_bundle(payload, sign(self.key, pae(payload_type, payload)), key_hint="ours", payload_type=payload_type)


@dataclass(frozen=True)
class FakeSigstore:
    """A private sigstore instance: certificate authority, CT log and transparency log, each with one key."""

    authority: FakeAuthority = field(default_factory=lambda: FakeAuthority("fulcio.demo"))
    ct_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    log_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def root(self) -> bytes:
        """The trusted root, as a policy pins it."""
        window = {"start": (ISSUED - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")}
        authority = {
            "subject": {"organization": "demo", "commonName": "fulcio.demo"},
            "uri": "https://fulcio.demo",
            "certChain": {"certificates": [{"rawBytes": base64.b64encode(self.authority.der).decode()}]},
            "validFor": window,
        }
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [_log_json(self.log_key, window)],
                "ctlogs": [_log_json(self.ct_key, window)],
                "certificateAuthorities": [authority],
                "timestampAuthorities": [],
            }
        ).encode()

    def certificate(self, key: Any, *, identity: str = IDENTITY, issuer: str = ISSUER, source: dict[str, str | bytes] | None = None) -> bytes:
        """A ten-minute certificate with its SCT; `source` goes into Fulcio's extensions by the names of `SOURCE`; bytes as they are."""
        builder = (
            _named("", self.authority.subject)
            .public_key(key.public_key())
            .serial_number(11)
            .not_valid_before(ISSUED)
            .not_valid_after(ISSUED + timedelta(minutes=10))
            .add_extension(DIGITAL_SIGNATURE, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
        )
        for oid, text in [(_ISSUER_OID, issuer), *((SOURCE[name], text) for name, text in (source or {}).items())]:
            builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), text if isinstance(text, bytes) else _der_string(text)), critical=False)
        bare = builder.sign(self.authority.key, hashes.SHA256())
        timestamps = x509.UnrecognizedExtension(x509.ObjectIdentifier(_SCT_OID), self._timestamps(bare.tbs_certificate_bytes))
        return builder.add_extension(timestamps, critical=False).sign(self.authority.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def sign(self, payload: bytes, *, at: Moment = ISSUED, payload_type: str = IN_TOTO_PAYLOAD, **names: Any) -> bytes:
        """Bundle bytes with a certificate of `names` and a log entry of the time `at`."""
        key = new_key()
        der = self.certificate(key, **names)
        signature = sign(key, pae(payload_type, payload))
        envelope = envelope_json(payload_type, payload, [("", signature)])
        material = {"certificate": {"rawBytes": base64.b64encode(der).decode()}, "tlogEntries": [self._entry(payload, signature, der, envelope, at)]}
        return encode_canonical({"mediaType": BUNDLE_V03, "verificationMaterial": material, "dsseEnvelope": envelope})

    def _entry(self, payload: bytes, signature: bytes, der: bytes, envelope: Any, at: Moment) -> dict[str, Any]:
        verifier = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        body = encode_canonical(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(encode_canonical(envelope)).hexdigest()},
                    "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                    "signatures": [{"signature": base64.b64encode(signature).decode(), "verifier": base64.b64encode(verifier).decode()}],
                },
            }
        )
        log_id = hashlib.sha256(public_der(self.log_key)).digest()
        seconds, text = int(at.timestamp()), base64.b64encode(body).decode()
        promised = encode_canonical({"body": text, "integratedTime": seconds, "logID": log_id.hex(), "logIndex": 0})
        leaf = hashlib.sha256(b"\0" + body).digest()
        return {
            "logIndex": "0",
            "logId": {"keyId": base64.b64encode(log_id).decode()},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(seconds),
            "inclusionPromise": {"signedEntryTimestamp": base64.b64encode(sign(self.log_key, promised)).decode()},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": base64.b64encode(leaf).decode(),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": self._checkpoint(leaf, log_id)},
            },
            "canonicalizedBody": text,
        }

    def _checkpoint(self, root: bytes, log_id: bytes) -> str:
        note = f"{_LOG_NAME}\n1\n{base64.b64encode(root).decode()}\n"
        signed = base64.b64encode(log_id[:4] + sign(self.log_key, note.encode())).decode()
        return f"{note}\n\u2014 {_LOG_NAME} {signed}\n"

    def _timestamps(self, precertificate: bytes) -> bytes:
        # RFC 6962, 3.2 and 3.3: version 1, the precertificate by its issuer's key, no extensions.
        stamp = int(ISSUED.timestamp() * 1000).to_bytes(8)
        issuer = hashlib.sha256(public_der(self.authority.key)).digest()
        signed = b"\0\0" + stamp + b"\0\1" + issuer + len(precertificate).to_bytes(3) + precertificate + b"\0\0"
        signature = sign(self.ct_key, signed)
        timestamp = b"\0" + hashlib.sha256(public_der(self.ct_key)).digest() + stamp + b"\0\0" + b"\4\3" + len(signature).to_bytes(2) + signature
        entry = len(timestamp).to_bytes(2) + timestamp
        return _der(0x04, len(entry).to_bytes(2) + entry)


def _named(subject: str, issuer: str) -> x509.CertificateBuilder:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])

    return x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))


def _log_json(key: ec.EllipticCurvePrivateKey, window: dict[str, str]) -> dict[str, Any]:
    raw = public_der(key)
    return {
        "baseUrl": "https://log.demo",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {"rawBytes": base64.b64encode(raw).decode(), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": window},
        "logId": {"keyId": base64.b64encode(hashlib.sha256(raw).digest()).decode()},
    }


def _der(tag: int, data: bytes) -> bytes:
    length = bytes([len(data)]) if len(data) < 128 else bytes([0x80 | len(size := len(data).to_bytes((len(data).bit_length() + 7) // 8)), *size])
    return bytes([tag]) + length + data


def _der_string(text: str) -> bytes:
    return _der(0x0C, text.encode())
