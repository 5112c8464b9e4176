"""Dead Simple Signing Envelope v1: the form, and the bytes that are signed.

`https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md`. Narrower than the specification: one base64 alphabet, one spelling, no
unknown members, at most `MAX_SIGNATURES`. How many signatures must be there, and by whom, is for the caller: for a statement of ours it is
exactly one, because "one of two is good" is an answer that nobody can read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gatekeeper.model.canonical import Json
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .base64text import read_base64
from .errors import MalformedEnvelope

MAX_ENVELOPE = 1024 * 1024
MAX_SIGNATURES = 16
_MAX_SIGNATURE_TEXT = 1024


@dataclass(frozen=True)
class UntrustedEnvelope:
    """A parsed envelope; nothing about it is believed. `signatures` are pairs (keyid or empty, signature bytes)."""

    payload_type: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what is signed. Lengths are in bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse_envelope(value: bytes | Mapping[str, object]) -> UntrustedEnvelope:
    """Parse JSON bytes, or an object that `strictjson` parsed already; raises `MalformedEnvelope`."""
    try:
        members = parse_object(value, max_bytes=MAX_ENVELOPE) if isinstance(value, bytes) else value
        return read_envelope(Fields(members))
    except (MalformedJson, FieldError) as error:
        raise MalformedEnvelope(str(error)) from error


def read_envelope(fields: Fields) -> UntrustedEnvelope:
    """Read the members of an envelope that stands inside another document; raises `FieldError`."""
    envelope = UntrustedEnvelope(
        payload_type=fields.text("payloadType"),
        payload=read_base64(fields, "payload", max_length=MAX_ENVELOPE),
        signatures=tuple(_signature(item) for item in fields.objects("signatures", max_items=MAX_SIGNATURES)),
    )
    fields.done()
    return envelope


def envelope_json(payload_type: str, payload: bytes, signatures: Sequence[tuple[str, bytes]]) -> dict[str, Json]:
    """The envelope as a plain JSON object; an empty keyid is left out."""
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {"sig": base64.b64encode(signature).decode(), **({"keyid": keyid} if keyid else {})} for keyid, signature in signatures
        ],
    }


def _signature(fields: Fields) -> tuple[str, bytes]:
    # keyid is a hint and unauthenticated (protocol.md, "Signing"): it is kept, and no check reads it.
    keyid = fields.optional("keyid", lambda key: fields.text(key, min_length=0)) or ""
    signature = read_base64(fields, "sig", max_length=_MAX_SIGNATURE_TEXT)
    fields.done()
    return keyid, signature
