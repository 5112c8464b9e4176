"""A whole sigstore instance in memory: certificate authority, CT log, transparency log with promises, timestamp authority, trusted root.

It signs whatever it is told to, good or bad, so that each part of a bundle can be made wrong by itself. Everything is made at fixed times.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.moment import later, parse_moment
from gatekeeper.tlog.merkle import CompactRange, leaf_hash, node_hash, prove_inclusion
from gatekeeper.verify.dsse import pae

SIGNED = parse_moment("2026-11-21T10:00:00Z")
"""when every good bundle was signed, logged and stamped"""
NOW = parse_moment("2026-11-21T12:00:00Z")
IDENTITY = "https://ci.example/acme/hello/.workflow@refs/heads/main"
ISSUER = "https://issuer.example"
IN_TOTO = "application/vnd.in-toto+json"
ARTIFACT = "ab" * 32
SHA256 = ec.ECDSA(hashes.SHA256())
LOG_NAME = "log.example"
SOURCE = {"repository": 12, "commit": 13, "invocation": 21}
"""what of the source Fulcio certifies, by the last number of its extension"""
_SCT = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def spki(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def statement(**changes: Any) -> bytes:
    """Statement bytes about `ARTIFACT`."""
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "hello", "digest": {"sha256": ARTIFACT}}],
            "predicateType": "https://example.org/any/v1",
            "predicate": {},
            **changes,
        }
    ).encode()


@dataclass
class Instance:
    """One instance. `root()` is what somebody would pin; `bundle()` is a good bundle, or one with a part made otherwise."""

    ca: Any = field(default_factory=new_key)
    ct: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    log: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    tsa: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    stamper: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    bodies: list[bytes] = field(default_factory=lambda: [b"somebody else's entry"])

    @property
    def pinned(self) -> bytes:
        """The trusted root as a policy pins it."""
        return json.dumps(self.root()).encode()

    def root(self, **changes: Any) -> dict[str, Any]:
        """The trusted root as JSON; a change replaces one of its four lists."""
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log_of(self.log)],
            "certificateAuthorities": [authority_of(self.authority)],
            "ctlogs": [log_of(self.ct)],
            "timestampAuthorities": [authority_of(self.stamping, self.stamping_root)],
        } | changes

    @cached_property
    def authority(self) -> bytes:
        return _certificate(self.ca, self.ca, "ca", "ca", ca=True)

    @cached_property
    def stamping_root(self) -> bytes:
        return _certificate(self.tsa, self.tsa, "tsa root", "tsa root", ca=True)

    @cached_property
    def stamping(self) -> bytes:
        return _certificate(self.stamper, self.tsa, "tsa", "tsa root", ca=False, extended=ExtendedKeyUsageOID.TIME_STAMPING)

    def certificate(
        self,
        key: Any,
        *,
        identity: str = IDENTITY,
        issuer: str = ISSUER,
        source: dict[str, str | bytes] | None = None,
        start: datetime = SIGNED - timedelta(seconds=60),
        scts: int = 1,
        ct: ec.EllipticCurvePrivateKey | None = None,
        sct_of: bytes | None = None,
        ca: ec.EllipticCurvePrivateKey | None = None,
    ) -> bytes:
        """A leaf (DER) for ten minutes. `ct` signs for it instead of the CT log; `sct_of` is a certificate whose SCT it is given.

        `source` goes into Fulcio's extensions by the names of `SOURCE`; bytes as they are.
        """
        signer = ca or self.ca
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(_name("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(minutes=10))
            .add_extension(x509.SubjectAlternativeName([_san(identity)]), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(_fulcio(1, issuer.encode()), critical=False)
            .add_extension(_fulcio(8, issuer), critical=False)
        )
        for name, said in (source or {}).items():
            builder = builder.add_extension(_fulcio(SOURCE[name], said), critical=False)
        if sct_of is not None:
            found = x509.load_der_x509_certificate(sct_of).extensions.get_extension_for_oid(_SCT).value
            listed = found.public_bytes()
        else:
            bare = builder.sign(signer, hashes.SHA256()).tbs_certificate_bytes
            listed = _sct_list([self._sct(ct or self.ct, bare, int(start.timestamp() * 1000) + n) for n in range(scts)])
        if scts or sct_of is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(_SCT, listed), critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)

    def _sct(self, ct: ec.EllipticCurvePrivateKey, tbs: bytes, milliseconds: int) -> bytes:
        """RFC 6962, 3.2 and 3.3, for a precertificate."""
        entry = hashlib.sha256(spki(self.ca)).digest() + len(tbs).to_bytes(3) + tbs
        signature = ct.sign(b"\x00\x00" + milliseconds.to_bytes(8) + b"\x00\x01" + entry + b"\x00\x00", SHA256)
        return b"\x00" + hashlib.sha256(spki(ct)).digest() + milliseconds.to_bytes(8) + b"\x00\x00\x04\x03" + len(signature).to_bytes(2) + signature

    def entry(self, body: bytes, kind: str, *, seconds: int = 0, promised: bool = True) -> dict[str, Any]:
        """Log a body and give the entry with its proof and promise."""
        self.bodies.append(body)
        index, size = len(self.bodies) - 1, len(self.bodies)
        tree = CompactRange.empty()
        for one in self.bodies:
            tree = tree.append(leaf_hash(one))
        identity, at = hashlib.sha256(spki(self.log)).digest(), int(later(SIGNED, seconds=seconds).timestamp())
        text = f"{LOG_NAME}\n{size}\n{b64(tree.root())}\n".encode()
        promise = encode_canonical({"body": b64(body), "integratedTime": at, "logID": identity.hex(), "logIndex": index})
        return {
            "logIndex": str(index),
            "logId": {"keyId": b64(identity)},
            "kindVersion": {"kind": kind, "version": "0.0.1"},
            "integratedTime": str(at),
            **({"inclusionPromise": {"signedEntryTimestamp": b64(self.log.sign(promise, SHA256))}} if promised else {}),
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": b64(tree.root()),
                "treeSize": str(size),
                "hashes": [b64(item) for item in prove_inclusion(index, size, self._node)],
                "checkpoint": {"envelope": f"{text.decode()}\n— {LOG_NAME} {b64(identity[:4] + self.log.sign(text, SHA256))}\n"},
            },
            "canonicalizedBody": b64(body),
        }

    def _node(self, level: int, n: int) -> bytes:
        if level == 0:
            return leaf_hash(self.bodies[n])
        return node_hash(self._node(level - 1, 2 * n), self._node(level - 1, 2 * n + 1))

    def timestamp(self, signature: bytes, *, seconds: int = 0, serial: int = 1) -> str:
        """An RFC 3161 response over a signature."""
        stamped = _stamp(self.stamper, self.stamping, signature, later(SIGNED, seconds=seconds), serial)
        return b64(stamped)

    def sign(self, payload: bytes, *, at: datetime = SIGNED, **how: Any) -> bytes:
        """Bundle bytes whose one time is the log's, `at`; `how` is given to `bundle`."""
        bundle = self.bundle(payload, seconds=int((at - SIGNED).total_seconds()), **how)
        del bundle["verificationMaterial"]["timestampVerificationData"]
        return encode_canonical(bundle)

    def bundle(
        self, payload: bytes | None = None, *, payload_type: str = IN_TOTO, key: Any = None, seconds: int = 0, **certificate: Any
    ) -> dict[str, Any]:
        """A good bundle around a statement, with every part that a bundle can have; `certificate` is given to `certificate`."""
        key, payload = key or new_key(), statement() if payload is None else payload
        der_certificate = self.certificate(key, **certificate)
        signature = key.sign(pae(payload_type, payload), SHA256)
        body = dsse_body(payload, signature, der_certificate)
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": b64(der_certificate)},
                "tlogEntries": [self.entry(body, "dsse", seconds=seconds)],
                "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": self.timestamp(signature, seconds=seconds)}]},
            },
            "dsseEnvelope": {"payloadType": payload_type, "payload": b64(payload), "signatures": [{"sig": b64(signature)}]},
        }


def sha_1(certificate: bytes, by: Any) -> bytes:
    """The certificate signed anew with SHA-1 by an RSA key, which no library does any more."""
    tbs = x509.load_der_x509_certificate(certificate).tbs_certificate_bytes.replace(_oid("1.2.840.113549.1.1.11"), _oid("1.2.840.113549.1.1.5"))
    signature = by.sign(tbs, padding.PKCS1v15(), hashes.SHA1())
    return der(0x30, tbs, der(0x30, _oid("1.2.840.113549.1.1.5"), der(5)), der(3, b"\x00", signature))


def dsse_body(payload: bytes, signature: bytes, certificate: bytes) -> bytes:
    """What rekor's type `dsse` 0.0.1 logs of an envelope."""
    pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
    return encode_canonical(
        {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(payload + signature).hexdigest()},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": b64(signature), "verifier": b64(pem)}],
            },
        }
    )


def log_of(key: Any, **changes: Any) -> dict[str, Any]:
    """A log as a trusted root names it."""
    public = {"rawBytes": b64(spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": {"start": "2026-01-01T00:00:00Z"}} | changes
    identity = {"keyId": b64(hashlib.sha256(spki(key)).digest())}
    return {"baseUrl": "https://log.example", "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": identity}


def authority_of(*chain: bytes) -> dict[str, Any]:
    """An authority as a trusted root names it, the signing certificate first."""
    certificates = {"certificates": [{"rawBytes": b64(der_bytes)} for der_bytes in chain]}
    return {"subject": {"organization": "example", "commonName": "ca"}, "uri": "https://ca.example", "certChain": certificates, "validFor": {"start": "2026-01-01T00:00:00Z"}}


def der(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    body = b"".join(parts)
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([0x80 | (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag]) + length + body


def _oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    data = bytes([first * 40 + second])
    for arc in rest:
        groups = [arc & 127]
        while arc := arc >> 7:
            groups.append(arc & 127 | 128)
        data += bytes(reversed(groups))
    return der(6, data)


def _integer(number: int) -> bytes:
    return der(2, number.to_bytes(number.bit_length() // 8 + 1))


_TST_INFO, _SHA256_OID = _oid("1.2.840.113549.1.9.16.1.4"), _oid("2.16.840.1.101.3.4.2.1")


def _stamp(key: ec.EllipticCurvePrivateKey, certificate: bytes, message: bytes, at: datetime, serial: int) -> bytes:
    """RFC 3161, 2.4.2; RFC 5652, 5; RFC 5035 for the signing certificate."""
    algorithm, parsed = der(0x30, _SHA256_OID), x509.load_der_x509_certificate(certificate)
    info = der(
        0x30,
        *(_integer(1), _oid("1.2.3.4"), der(0x30, algorithm, der(4, hashlib.sha256(message).digest())), _integer(serial)),
        der(0x18, at.strftime("%Y%m%d%H%M%SZ").encode()),
    )
    attributes = sorted(
        [
            der(0x30, _oid("1.2.840.113549.1.9.3"), der(0x31, _TST_INFO)),
            der(0x30, _oid("1.2.840.113549.1.9.4"), der(0x31, der(4, hashlib.sha256(info).digest()))),
            der(0x30, _oid("1.2.840.113549.1.9.16.2.47"), der(0x31, der(0x30, der(0x30, der(0x30, der(4, hashlib.sha256(certificate).digest())))))),
        ]
    )
    signer = der(
        0x30,
        *(_integer(1), der(0x30, parsed.issuer.public_bytes(), _integer(parsed.serial_number)), algorithm, der(0xA0, *attributes)),
        *(der(0x30, _oid("1.2.840.10045.4.3.2")), der(4, key.sign(der(0x31, *attributes), SHA256))),
    )
    signed = der(
        0x30,
        *(_integer(3), der(0x31, algorithm), der(0x30, _TST_INFO, der(0xA0, der(4, info))), der(0xA0, certificate), der(0x31, signer)),
    )
    return der(0x30, der(0x30, _integer(0)), der(0x30, _oid("1.2.840.113549.1.7.2"), der(0xA0, signed)))


def _fulcio(number: int, said: str | bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}"), said if isinstance(said, bytes) else der(0x0C, said.encode()))


def _san(identity: str) -> x509.GeneralName:
    # A URI is ASCII (RFC 5280, 4.2.1.6); sigstore's other name is UTF-8.
    if identity.isascii():
        return x509.UniformResourceIdentifier(identity)
    return x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), der(0x0C, identity.encode()))


def _sct_list(scts: list[bytes]) -> bytes:
    listed = b"".join(len(one).to_bytes(2) + one for one in scts)
    return der(4, len(listed).to_bytes(2) + listed)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(key: Any, by: Any, subject: str, issuer: str, *, ca: bool, extended: Any = None) -> bytes:
    usage = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(int.from_bytes(hashlib.sha256(spki(key)).digest()[:8]) >> 1)
        .not_valid_before(SIGNED - timedelta(days=30))
        .not_valid_after(SIGNED + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([extended]), critical=True)
    return builder.sign(by, hashes.SHA256()).public_bytes(Encoding.DER)
