"""Decimals and base64 in their one spelling. Both return None for every other, so that each format raises its own error."""

from __future__ import annotations

import base64
import binascii
import re

MAX_SIZE = 2**63 - 1
"""The largest tree size, index and POSIX time in any of our formats."""

_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,18}")


def parse_decimal(text: bytes) -> int | None:
    """ASCII decimal without sign or leading zeros, at most 2^63-1."""
    if _DECIMAL.fullmatch(text) is None or (number := int(text)) > MAX_SIZE:
        return None
    return number


def parse_base64(text: bytes) -> bytes | None:
    """Standard base64 with padding (RFC 4648, section 4); bits that carry nothing must be zero."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    # The decoder ignores stray low bits of the last character; two spellings of one signature are one too many.
    return data if base64.b64encode(data) == text else None


def parse_hash(text: bytes) -> bytes | None:
    """The base64 of exactly 32 bytes."""
    data = parse_base64(text) if len(text) == 44 else None
    return data if data is not None and len(data) == 32 else None
