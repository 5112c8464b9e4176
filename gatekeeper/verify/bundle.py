"""sigstore bundle v0.3, as much of it as carries our statements.

`https://github.com/sigstore/protobuf-specs` (`sigstore_bundle.proto`, JSON mapping). Of its choices two are read: a DSSE envelope, and a
single certificate or a public key's hint. ``tlogEntries`` must be there and empty: the trusted time of a builder's certificate is our own
log's intake entry, and a bundle that carries foreign log entries or timestamps claims checks that are not made here, so it is refused
rather than half believed. ``messageSignature`` says nothing about a statement and is refused, beside an envelope or alone.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.model.uris import BUNDLE_V03, IN_TOTO_PAYLOAD

from .base64text import read_base64
from .dsse import UntrustedEnvelope, envelope_json, read_envelope
from .errors import MalformedBundle

MAX_BUNDLE = 1024 * 1024
_MAX_CERTIFICATE_TEXT = 16 * 1024


@dataclass(frozen=True)
class UntrustedBundle:
    """A parsed bundle; nothing about it is believed. Exactly one of `certificate` (DER) and `key_hint` is set."""

    certificate: bytes | None
    key_hint: str | None
    envelope: UntrustedEnvelope
    digest: Digest
    """sha256 of exactly the bytes that were parsed"""


def parse_bundle(data: bytes) -> UntrustedBundle:
    """Parse; raises `MalformedBundle`."""
    try:
        return _read_bundle(Fields(parse_object(data, max_bytes=MAX_BUNDLE)), digest_of(data))
    except (MalformedJson, FieldError) as error:
        raise MalformedBundle(str(error)) from error


def encode_bundle(
    payload: bytes,
    signature: bytes,
    *,
    certificate: bytes | None = None,
    key_hint: str | None = None,
    payload_type: str = IN_TOTO_PAYLOAD,
) -> bytes:
    """The RFC 8785 bytes of a bundle around one signature; give the DER certificate or the key's hint, not both."""
    material: dict[str, Json] = {"tlogEntries": []}
    if certificate is not None and key_hint is None:
        material["certificate"] = {"rawBytes": base64.b64encode(certificate).decode()}
    elif key_hint is not None and certificate is None:
        material["publicKey"] = {"hint": key_hint}
    else:
        raise ValueError("a bundle names a certificate or a key, one of them")
    return encode_canonical(
        {
            "mediaType": BUNDLE_V03,
            "verificationMaterial": material,
            "dsseEnvelope": envelope_json(payload_type, payload, [("", signature)]),
        }
    )


def _read_bundle(fields: Fields, digest: Digest) -> UntrustedBundle:
    fields.choice("mediaType", (BUNDLE_V03,))
    if fields.has("messageSignature"):
        raise fields.error("messageSignature", "signs no statement; a DSSE envelope is needed, alone")
    certificate, key_hint = _read_material(fields.nested("verificationMaterial"))
    bundle = UntrustedBundle(certificate, key_hint, read_envelope(fields.nested("dsseEnvelope")), digest)
    fields.done()
    return bundle


def _read_material(fields: Fields) -> tuple[bytes | None, str | None]:
    if fields.array("tlogEntries"):
        raise fields.error("tlogEntries", "must be empty: nobody answers here for an entry of a foreign log")
    certificate = fields.optional("certificate", lambda key: _read_certificate(fields.nested(key)))
    key_hint = fields.optional("publicKey", lambda key: _read_hint(fields.nested(key)))
    fields.done()
    if (certificate is None) == (key_hint is None):
        raise FieldError(fields.pointer, "must hold a certificate or a publicKey, one of them")
    return certificate, key_hint


def _read_certificate(fields: Fields) -> bytes:
    certificate = read_base64(fields, "rawBytes", max_length=_MAX_CERTIFICATE_TEXT)
    fields.done()
    return certificate


def _read_hint(fields: Fields) -> str:
    hint = fields.text("hint")
    fields.done()
    return hint
