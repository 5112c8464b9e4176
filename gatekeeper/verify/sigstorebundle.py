"""sigstore bundles of every version, read strictly before any library sees them.

`sigstore_bundle.proto` of protobuf-specs in its JSON mapping: media types 0.1 to 0.3, a certificate, a chain or a key's hint, a DSSE envelope
or a message signature, log entries and RFC 3161 timestamps. Narrower than the library's reading: no duplicate or unknown member, canonical
base64, one spelling of each name, exactly one content, exactly one kind of key material, at most one log entry, no root in a chain.
What a builder of ours makes is narrower still: `gatekeeper.verify.bundle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .base64text import decode_standard, read_base64
from .bundle import MAX_BUNDLE
from .dsse import UntrustedEnvelope, read_envelope
from .errors import MalformedBundle

MAX_TIMESTAMPS: Final = 32
_MAX_CHAIN: Final = 8
_MAX_TEXT: Final = 64 * 1024
_MAX_PROOF: Final = 64
_OLD_TYPES: Final = ("application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle+json;version=0.2")
_NEW_TYPES: Final = ("application/vnd.dev.sigstore.bundle+json;version=0.3", "application/vnd.dev.sigstore.bundle.v0.3+json")
_LATEST_TIME: Final = 253_402_300_799
"""the last second of the year 9999"""


@dataclass(frozen=True)
class MessageSignature:
    """A signature over an artifact's own bytes; `digest` is the sha256 that the bundle claims for them, if it does."""

    signature: bytes
    digest: bytes | None


@dataclass(frozen=True)
class LogEntry:
    """What of a log entry is compared by us. `kind` is (kind, version), a hint that nobody signed; the body says it again."""

    kind: tuple[str, str]
    body: bytes
    integrated_at: datetime | None
    promised: bool
    """an inclusion promise is there, which alone binds `integrated_at`"""
    proven: bool
    """an inclusion proof, for a place in its tree, with a checkpoint is there"""


@dataclass(frozen=True)
class UntrustedSigstoreBundle:
    """A parsed bundle; nothing about it is believed. There are either certificates or a `key_hint`."""

    certificates: tuple[bytes, ...]
    """DER, the signer's first; more than one only in the old chains"""
    key_hint: str | None
    content: UntrustedEnvelope | MessageSignature
    entry: LogEntry | None
    timestamps: tuple[bytes, ...]
    """RFC 3161 responses, DER"""
    raw: bytes
    members: Mapping[str, object]
    """the parsed document: for the library, which reads it by itself"""
    digest: Digest


def parse_sigstore_bundle(data: bytes) -> UntrustedSigstoreBundle:
    """Parse; raises `MalformedBundle`."""
    try:
        members = parse_object(data, max_bytes=MAX_BUNDLE)
        return _read(Fields(members), data, members)
    except (MalformedJson, FieldError) as error:
        raise MalformedBundle(str(error)) from error


def _read(fields: Fields, data: bytes, members: Mapping[str, object]) -> UntrustedSigstoreBundle:
    old = fields.choice("mediaType", _OLD_TYPES + _NEW_TYPES) in _OLD_TYPES
    material = fields.nested("verificationMaterial")
    certificates, key_hint = _read_signer(material, old=old)
    entries = material.optional("tlogEntries", lambda key: [_read_entry(item) for item in material.objects(key, max_items=1)])
    timestamps = material.optional("timestampVerificationData", lambda key: _read_timestamps(material.nested(key))) or ()
    material.done()
    envelope = fields.optional("dsseEnvelope", lambda key: read_envelope(fields.nested(key)))
    message = fields.optional("messageSignature", lambda key: _read_message(fields.nested(key)))
    fields.done()
    content = envelope or message
    if content is None or (envelope is not None and message is not None):
        raise FieldError("", "must hold a dsseEnvelope or a messageSignature, one of them")
    return UntrustedSigstoreBundle(certificates, key_hint, content, entries[0] if entries else None, timestamps, data, members, digest_of(data))


def _read_signer(material: Fields, *, old: bool) -> tuple[tuple[bytes, ...], str | None]:
    chain = material.optional("x509CertificateChain", lambda key: _read_chain(material.nested(key)))
    single = material.optional("certificate", lambda key: _read_certificate(material.nested(key)))
    hint = material.optional("publicKey", lambda key: _read_hint(material.nested(key)))
    if sum(value is not None for value in (chain, single, hint)) != 1:
        raise FieldError(material.pointer, "must hold a certificate, a chain or a publicKey, one of them")
    if (chain is not None and not old) or (single is not None and old):
        raise FieldError(material.pointer, "holds its certificate in the form of another version of the bundle")
    return chain or (() if single is None else (single,)), hint


def _read_chain(fields: Fields) -> tuple[bytes, ...]:
    certificates = tuple(_read_certificate(item) for item in fields.objects("certificates", max_items=_MAX_CHAIN))
    fields.done()
    if not certificates:
        raise fields.error("certificates", "is empty")
    return certificates


def _read_certificate(fields: Fields) -> bytes:
    certificate = read_base64(fields, "rawBytes", max_length=_MAX_TEXT)
    fields.done()
    return certificate


def _read_hint(fields: Fields) -> str:
    hint = fields.text("hint")
    fields.done()
    return hint


def _read_message(fields: Fields) -> MessageSignature:
    digest = fields.optional("messageDigest", lambda key: _read_message_digest(fields.nested(key)))
    message = MessageSignature(read_base64(fields, "signature", max_length=_MAX_TEXT), digest)
    fields.done()
    return message


def _read_message_digest(fields: Fields) -> bytes:
    fields.choice("algorithm", ("SHA2_256",))
    digest = read_base64(fields, "digest", max_length=64)
    fields.done()
    if len(digest) != 32:
        raise fields.error("digest", "must be 32 bytes")
    return digest


def _read_entry(fields: Fields) -> LogEntry:
    kind = fields.nested("kindVersion")
    kind_version = kind.text("kind"), kind.text("version")
    kind.done()
    _read_proto_integer(fields, "logIndex")
    _read_only_bytes(fields.nested("logId"), "keyId")
    promised = fields.optional("inclusionPromise", lambda key: _read_only_bytes(fields.nested(key), "signedEntryTimestamp"))
    proven = fields.optional("inclusionProof", lambda key: _read_proof(fields.nested(key))) is True
    integrated_at = fields.optional("integratedTime", lambda key: _read_time(fields, key))
    body = read_base64(fields, "canonicalizedBody", max_length=2 * MAX_BUNDLE)
    fields.done()
    return LogEntry(kind_version, body, integrated_at, promised is not None, proven)


def _read_time(fields: Fields, key: str) -> datetime | None:
    seconds = _read_proto_integer(fields, key)
    if seconds > _LATEST_TIME:
        raise fields.error(key, "is after the year 9999")
    return datetime.fromtimestamp(seconds, tz=UTC) if seconds else None  # 0 is protobuf's word for a number that is not there


def _read_proof(fields: Fields) -> bool:
    within = _read_proto_integer(fields, "logIndex") < _read_proto_integer(fields, "treeSize")
    read_base64(fields, "rootHash", max_length=64)
    hashes = fields.optional("hashes", lambda key: fields.texts(key, max_items=_MAX_PROOF, max_length=64)) or ()
    for place, text in enumerate(hashes):
        try:
            decode_standard(text)
        except ValueError as error:
            raise FieldError(f"{fields.at('hashes')}/{place}", str(error)) from error
    signed = fields.optional("checkpoint", lambda key: _read_checkpoint(fields.nested(key))) is True
    fields.done()
    return signed and within


def _read_checkpoint(fields: Fields) -> bool:
    text = fields.raw("envelope")
    fields.done()
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        raise fields.error("envelope", f"must be a string of at most {_MAX_TEXT} characters")
    return True


def _read_timestamps(fields: Fields) -> tuple[bytes, ...]:
    timestamps = fields.optional("rfc3161Timestamps", lambda key: _read_each_timestamp(fields, key)) or ()
    fields.done()
    if len(set(timestamps)) != len(timestamps):
        raise fields.error("rfc3161Timestamps", "holds one timestamp twice")
    return timestamps


def _read_each_timestamp(fields: Fields, key: str) -> tuple[bytes, ...]:
    return tuple(_read_timestamp(item) for item in fields.objects(key, max_items=MAX_TIMESTAMPS))


def _read_timestamp(fields: Fields) -> bytes:
    timestamp = read_base64(fields, "signedTimestamp", max_length=_MAX_TEXT)
    fields.done()
    return timestamp


def _read_only_bytes(fields: Fields, key: str) -> bytes:
    data = read_base64(fields, key, max_length=1024)
    fields.done()
    return data


def _read_proto_integer(fields: Fields, key: str) -> int:
    text = fields.text(key, max_length=20)
    if not (text.isascii() and text.isdecimal()) or (text[0] == "0" and text != "0"):
        raise fields.error(key, "must be a decimal number of protobuf's JSON, 0 or above")
    return int(text)
