"""The receipt of an Allow: `formats.md` section 5. Its sha256 is its id; its bytes never change."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from .canonical import encode_canonical
from .digest import Digest, digest_of
from .fields import FieldError, Fields
from .strictjson import parse_object

MAX_RECEIPT = 256 * 1024


@dataclass(frozen=True)
class UntrustedReceipt:
    """A parsed receipt. Nothing in it is checked but its form: whoever relies on it verifies statement, entry and inclusion."""

    statement: dict[str, object]
    """the DSSE envelope of the decision statement, as it stood in the receipt"""
    entry: bytes
    index: int
    origin: str
    evidence: tuple[Digest, ...]


def encode_receipt(*, statement: dict[str, object], entry: bytes, index: int, origin: str, evidence: tuple[Digest, ...]) -> bytes:
    """The RFC 8785 bytes of a receipt."""
    return encode_canonical(
        {
            "v": 1,
            "statement": statement,  # type: ignore[dict-item]  # a parsed JSON object; encode_canonical refuses what is not
            "entry": base64.b64encode(entry).decode(),
            "index": index,
            "origin": origin,
            "evidence": list(evidence),
        }
    )


def parse_receipt(data: bytes) -> UntrustedReceipt:
    """Parse strictly; raises `MalformedJson` or `FieldError`."""
    fields = Fields(parse_object(data, max_bytes=MAX_RECEIPT))
    fields.integer("v", minimum=1, maximum=1)
    statement = fields.raw("statement")
    if not isinstance(statement, dict):
        raise fields.error("statement", "must be a DSSE envelope")
    try:
        entry = base64.b64decode(fields.text("entry", max_length=MAX_RECEIPT).encode(), validate=True)
    except binascii.Error as error:
        raise fields.error("entry", "is not base64") from error
    items = fields.array("evidence")
    inner = Fields({str(n): item for n, item in enumerate(items)}, fields.at("evidence"))
    receipt = UntrustedReceipt(
        statement=statement,
        entry=entry,
        index=fields.integer("index"),
        origin=fields.text("origin"),
        evidence=tuple(inner.digest(str(n)) for n in range(len(items))),
    )
    fields.done()
    return receipt


def receipt_id(data: bytes) -> Digest:
    """The id of a receipt: sha256 of its bytes."""
    return digest_of(data)


__all__ = ["MAX_RECEIPT", "FieldError", "UntrustedReceipt", "encode_receipt", "parse_receipt", "receipt_id"]
