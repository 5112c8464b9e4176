"""Bundles of a managed key, made to order: what a foreign signer could put into one."""

import base64
import json

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper.verify.dsse import pae

SHA256 = "ab" * 32
IN_TOTO = "application/vnd.in-toto+json"


def pem(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def statement(**changes) -> dict:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "greeter", "digest": {"sha256": SHA256}}],
        "predicateType": "https://example.org/any/v1",
        "predicate": {},
        **changes,
    }


def envelope(key, payload: bytes, payload_type: str = IN_TOTO, *, signed: bytes | None = None) -> dict:
    signature = key.sign(pae(payload_type, payload) if signed is None else signed, ec.ECDSA(hashes.SHA256()))
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }


def bundle(content: dict, **changes) -> dict:
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "ours"}, "tlogEntries": []},
        **content,
        **changes,
    }


def signed_statement(key, document: dict | bytes | None = None, **changes) -> bytes:
    """Bytes of a bundle with one envelope around a statement, or around any bytes."""
    document = statement(**changes) if document is None else document
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return json.dumps(bundle({"dsseEnvelope": envelope(key, payload)})).encode()
