"""SPIFFE IDs (SPIFFE-ID 2: `https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md`), read and never normalised."""

from __future__ import annotations

import re
from typing import Final

_MAX_ID: Final = 2048
_ID: Final = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)*)", re.ASCII)


class MalformedSpiffeId(ValueError):
    """Not a SPIFFE ID."""


def parse_spiffe_id(text: str) -> tuple[str, str]:
    """Trust domain and path, which is empty for the trust domain itself; raises `MalformedSpiffeId`."""
    match = _ID.fullmatch(text)
    if match is None or len(text) > _MAX_ID or {".", ".."} & set(match[2].split("/")):
        raise MalformedSpiffeId("must be spiffe://TRUST-DOMAIN/PATH, lower case before the path, and without dot segments or a slash at the end")
    return match[1], match[2]
