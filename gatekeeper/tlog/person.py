"""People and sentences as they stand in entries: pseudonyms and hidden text.

Both are HMACs under a key that can be destroyed: a bare hash of a name or of a short sentence can be guessed.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import Final, NewType

from .errors import MalformedEntry
from .spelling import parse_hash

Pseudonym = NewType("Pseudonym", str)
"""`p:` and 32 hex digits."""
HiddenText = NewType("HiddenText", str)
"""Base64 of 32 bytes."""

KEY_BYTES: Final = 32
_PSEUDONYM = re.compile(r"p:[0-9a-f]{32}", re.ASCII)


def pseudonym(key: bytes, issuer: str, subject: str) -> Pseudonym:
    """One person's name in the log, in every role. `key` is that person's 32 random bytes; destroying it erases the person."""
    if len(key) != KEY_BYTES:
        raise MalformedEntry("a pseudonym key has 32 bytes")
    # The separator must not occur in a part, or two people could share a pseudonym.
    if not issuer or not subject or "\0" in issuer or "\0" in subject:
        raise MalformedEntry("issuer and subject are not empty and hold no NUL")
    message = b"\0".join((b"pingee.person/v1", issuer.encode("utf-8"), subject.encode("utf-8")))
    return Pseudonym("p:" + hmac.digest(key, message, "sha256").hex()[:32])


def parse_pseudonym(text: object) -> Pseudonym:
    """Accept `p:` and 32 lowercase hex digits; anything else raises `MalformedEntry`."""
    if not isinstance(text, str) or _PSEUDONYM.fullmatch(text) is None:
        raise MalformedEntry("a pseudonym is 'p:' and 32 lowercase hexadecimal digits")
    return Pseudonym(text)


def hidden_text(salt: bytes, text: str) -> HiddenText:
    """What stands in an entry for a reason or title; salt (32 random bytes) and text stay in the database."""
    if len(salt) != KEY_BYTES:
        raise MalformedEntry("the salt of a hidden text has 32 bytes")
    digest = hmac.digest(b"deploylog.text/v1", salt + text.encode("utf-8"), "sha256")
    return HiddenText(base64.b64encode(digest).decode("ascii"))


def parse_hidden_text(text: object) -> HiddenText:
    """Accept the base64 of 32 bytes; anything else raises `MalformedEntry`."""
    if not isinstance(text, str) or not text.isascii() or parse_hash(text.encode("ascii")) is None:
        raise MalformedEntry("a hidden text is the base64 of 32 bytes")
    return HiddenText(text)
