"""Private keys in PEM (RFC 7468, and OpenSSH's own form), found in any bytes. Pure: the caller reads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_MARK: Final = b"PRIVATE KEY-----"

# Programs that read keys carry the first line in themselves; a key is one that goes on with base64. A line ends as in a file, or as in a string
# of JSON or TOML. Every repetition is bounded, so that what matches lies within `_REACH` bytes of its mark.
_END: Final = rb"[ \t]{0,4}(?:\r?\n|(?:\\r)?\\n)"
_KEY: Final = re.compile(
    rb"PRIVATE KEY-----" + _END + rb"(?:[A-Za-z0-9-]{1,32}: [\x20-\x7e]{0,128}" + _END + rb"){0,4}(?:" + _END + rb")?[A-Za-z0-9+/=]{40}"
)
_REACH: Final = 1024


def holds_private_key(chunks: Iterable[bytes]) -> bool:
    """Whether a PEM private key stands in the bytes that these pieces make up, in order; a key may lie across pieces."""
    kept = b""
    for chunk in chunks:
        window = kept + chunk
        if _MARK in window and _KEY.search(window):
            return True
        kept = window[-_REACH:]
    return False
