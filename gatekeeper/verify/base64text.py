"""Base64 in the one spelling of each alphabet (RFC 4648, sections 3.5, 4 and 5).

Two texts for the same bytes would let a signed thing be presented under a second digest, so whitespace, missing or spare padding, letters
of the other alphabet and non-zero trailing bits are refused: what decodes is encoded again and compared.
"""

from __future__ import annotations

import base64
import binascii

from gatekeeper.model.fields import Fields


def decode_standard(text: str) -> bytes:
    """Decode the standard alphabet with padding; raises ValueError."""
    try:
        written = text.encode("ascii")
        data = binascii.a2b_base64(written, strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("is not base64 of the standard alphabet with padding") from None
    if binascii.b2a_base64(data, newline=False) != written:
        raise ValueError("is not canonical base64")
    return data


def decode_url(text: str) -> bytes:
    """Decode the URL-safe alphabet without padding, as RFC 7515 uses it; raises ValueError."""
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("is not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise ValueError("is not canonical base64url without padding")
    return data


def read_base64(fields: Fields, key: str, *, max_length: int) -> bytes:
    """A member of a parsed object as bytes; raises `FieldError`. `max_length` is in characters of base64."""
    text = fields.raw(key)
    if not isinstance(text, str) or len(text) > max_length:
        raise fields.error(key, f"must be a base64 string of at most {max_length} characters")
    try:
        return decode_standard(text)
    except ValueError as error:
        raise fields.error(key, str(error)) from error
