"""Content digests as they stand in entries, manifests and answers: ``sha256:`` and 64 lowercase hex digits."""

from __future__ import annotations

import hashlib
import re
from typing import NewType

Digest = NewType("Digest", str)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class MalformedDigest(ValueError):
    """The text is not ``sha256:`` followed by 64 lowercase hexadecimal digits."""


def digest_of(data: bytes) -> Digest:
    """The digest of exactly these bytes."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def parse_digest(text: object) -> Digest:
    """Accept one spelling only; raise `MalformedDigest` for every other."""
    if not isinstance(text, str) or _DIGEST.fullmatch(text) is None:
        raise MalformedDigest("a digest is 'sha256:' followed by 64 lowercase hexadecimal digits")
    return Digest(text)


def digest_hex(digest: Digest) -> str:
    """The 64 hexadecimal digits alone, as in-toto's ``digest.sha256`` has them."""
    return digest.removeprefix("sha256:")


def is_commit(text: object) -> bool:
    """Whether the text is a full git object id (SHA-1 or SHA-256), lowercase; no abbreviation is ever accepted."""
    return isinstance(text, str) and _COMMIT.fullmatch(text) is not None
