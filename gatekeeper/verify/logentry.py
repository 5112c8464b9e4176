"""Whether a log entry's body is about this signature, this key and this content: the bodies that the library does not compare.

Rekor's ``intoto`` 0.0.2, and ``hashedrekord`` 0.0.1 and ``dsse`` 0.0.1 of a managed key. A log entry that is not compared proves that
somebody logged something (CVE-2022-36056, CVE-2026-22703). The hash of an envelope as it was uploaded cannot be recomputed, since its JSON
was never canonical: what is compared is everything that the envelope consists of.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .bundle import MAX_BUNDLE
from .dsse import UntrustedEnvelope
from .sigstorebundle import LogEntry, MessageSignature

Content = UntrustedEnvelope | MessageSignature


def is_about(entry: LogEntry, content: Content, verifier: bytes, *, artifact: bytes) -> bool:
    """Whether the body names this content and this verifier: DER of a certificate or of a public key. `artifact` is a sha256.

    False for what is malformed, and for every kind of entry that is not named above.
    """
    try:
        body = Fields(parse_object(entry.body, max_bytes=2 * MAX_BUNDLE))
        if (body.text("kind"), body.text("apiVersion")) != entry.kind:
            return False
        spec = body.nested("spec")
        if isinstance(content, MessageSignature):
            return entry.kind == ("hashedrekord", "0.0.1") and _is_hashedrekord(spec, content, verifier, artifact)
        if len(content.signatures) != 1:
            return False
        if entry.kind == ("intoto", "0.0.2"):
            return _is_intoto(spec.nested("content"), content, verifier)
        return entry.kind == ("dsse", "0.0.1") and _is_dsse(spec, content, verifier)
    except (MalformedJson, FieldError, ValueError):
        return False


def _is_hashedrekord(spec: Fields, content: MessageSignature, verifier: bytes, artifact: bytes) -> bool:
    signature = spec.nested("signature")
    key = _decoded(signature.nested("publicKey"), "content")
    return _is_hash(spec.nested("data").nested("hash"), artifact) and _decoded(signature, "content") == content.signature and _is_pem(key, verifier)


def _is_intoto(content: Fields, envelope: UntrustedEnvelope, verifier: bytes) -> bool:
    logged = content.nested("envelope")
    signatures = list(logged.objects("signatures"))
    if logged.text("payloadType") != envelope.payload_type or len(signatures) != 1:
        return False
    # The entry's type encodes the payload and the signature twice.
    payload = base64.b64decode(_decoded(logged, "payload"), validate=True) if logged.has("payload") else envelope.payload
    signature = base64.b64decode(_decoded(signatures[0], "sig"), validate=True)
    return (
        payload == envelope.payload
        and signature == envelope.signatures[0][1]
        and _is_pem(_decoded(signatures[0], "publicKey"), verifier)
        and _is_hash(content.nested("payloadHash"), hashlib.sha256(envelope.payload).digest())
    )


def _is_dsse(spec: Fields, envelope: UntrustedEnvelope, verifier: bytes) -> bool:
    signatures = list(spec.objects("signatures"))
    return (
        len(signatures) == 1
        and _decoded(signatures[0], "signature") == envelope.signatures[0][1]
        and _is_pem(_decoded(signatures[0], "verifier"), verifier)
        and _is_hash(spec.nested("payloadHash"), hashlib.sha256(envelope.payload).digest())
    )


def _is_hash(fields: Fields, digest: bytes) -> bool:
    return fields.text("algorithm") == "sha256" and fields.text("value") == digest.hex()


def _decoded(fields: Fields, key: str) -> bytes:
    text = fields.raw(key)
    if not isinstance(text, str):
        raise fields.error(key, "must be a string")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise fields.error(key, "is not base64") from None


def _is_pem(pem: bytes, verifier: bytes) -> bool:
    if b"CERTIFICATE" in pem:
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) == verifier
    return load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == verifier
