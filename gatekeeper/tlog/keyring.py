"""Which log and receipt keys a verifier trusts, and how a `key` entry changes that (log format, section 5).

The first keys come from files that people installed. Each later one is named by an entry that the log holds while a key trusted so far signs
it: trust is handed on and never fetched. A key that was followed by another stays in the ring with the end of its overlap: what it signed by
then stays valid, what is new is not taken from it any more.

The replaced key also signs the entry itself, its endorsement: whoever can write rows of the database but sign nothing could otherwise put a
`key` entry into the tree, have it covered by the next checkpoint, and become the log or the receipts.

Pure: whether an entry stands in the log is for `keyhistory` to check before it is followed.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from gatekeeper.model.moment import Moment

from .errors import MalformedVerifierKey, TlogError
from .kinds import KeyEntry, KeyUse
from .logpolicy import LogPolicy
from .merkle import leaf_hash
from .signature import ED25519, encode_vkey, parse_vkey
from .spelling import parse_base64

MAX_KEYS: Final = 64
"""Keys of one use in a ring."""


@unique
class Unfollowed(StrEnum):
    """Why an entry changes nothing. The words are for people."""

    ALREADY = "it was followed before"
    BEFORE = "it leads to a key that is trusted already"
    UNKNOWN = "the key it replaces is not trusted here"
    SUPERSEDED = "the key it replaces has another successor: the first one stands"
    RETIRED = "its new key was replaced before, and a retired key never returns"
    OVERLAPS = "it begins before the overlap of the change before it has ended"
    NOT_YET = "its time has not come"
    MALFORMED = "it names no two keys of its use, or no time between them"
    UNENDORSED = "the key it replaces has not signed it"
    TOO_MANY = "too many keys were followed; install the verifiers' files anew"


@dataclass(frozen=True)
class TrustedKey:
    """A verifier key, or a receipt key as base64 of its SubjectPublicKeyInfo. `successor` and `until` where it was followed by another."""

    text: str
    successor: str | None = None
    until: Moment | None = None
    """end of the overlap: nothing newer is taken from this key"""

    def in_force(self, at: Moment | None) -> bool:
        """Whether what is dated so may be taken from it; None asks for ever."""
        return self.until is None or at is None or at < self.until


@dataclass(frozen=True)
class Keyring:
    """Keys in the order in which they came to be trusted. An empty `receipt` follows no receipt keys."""

    log: tuple[TrustedKey, ...]
    receipt: tuple[TrustedKey, ...] = ()

    def of(self, use: KeyUse) -> tuple[TrustedKey, ...]:
        """The keys of one use."""
        return self.log if use is KeyUse.LOG else self.receipt

    def in_force(self, use: KeyUse, at: Moment | None) -> tuple[str, ...]:
        """The keys from which something dated `at` may be taken, the newest first; None: all that ever were."""
        return tuple(key.text for key in reversed(self.of(use)) if key.in_force(at))

    def policy(self, installed: LogPolicy, at: Moment | None) -> LogPolicy:
        """The installed policy with the log keys in force; None: all that ever were, for what was accepted long ago."""
        first, *more = (parse_vkey(text) for text in self.in_force(KeyUse.LOG, at))
        return replace(installed, log=first, also=tuple(more))


def installed_keys(policy: LogPolicy, receipt_keys: Iterable[str] = ()) -> Keyring:
    """The ring of the installed files alone. Receipt keys are base64 SPKI."""
    return Keyring((TrustedKey(encode_vkey(policy.log)),), tuple(TrustedKey(text) for text in receipt_keys))


def endorsement_text(origin: str, entry: bytes) -> bytes:
    """What the replaced key signs, Ed25519 or ECDSA P-256 with SHA-256: no checkpoint (its second line is no size) and no DSSE message."""
    return b"pingee.internal/key-change/v1\n%s\n%s\n" % (origin.encode("utf-8"), base64.b64encode(leaf_hash(entry)))


def is_endorsed(entry: KeyEntry, body: bytes, endorsement: bytes) -> bool:
    """Whether the key that the entry replaces signed exactly these bytes of it."""
    text = endorsement_text(entry.origin, body)
    try:
        if entry.use is KeyUse.LOG:
            parse_vkey(entry.old).verify(text, endorsement)
        else:
            _receipt_key(entry.old).verify(endorsement, text, ECDSA(SHA256()))
    except (TlogError, InvalidSignature):
        return False
    return True


def advance(keys: Keyring, entry: KeyEntry, *, at: Moment) -> Keyring | Unfollowed:
    """The ring after an entry that is endorsed and stands in the log, or why it changes nothing. `at` is the verifier's clock."""
    trusted = {key.text: key for key in keys.of(entry.use)}
    old, new = trusted.get(entry.old), trusted.get(entry.new)
    if old is None:
        return Unfollowed.UNKNOWN if new is None else Unfollowed.BEFORE
    if old.successor is not None:
        return Unfollowed.ALREADY if (old.successor, old.until) == (entry.new, entry.until) else Unfollowed.SUPERSEDED
    if entry.old == entry.new or entry.since >= entry.until or not _is_key(entry.use, entry.new, keys):
        return Unfollowed.MALFORMED
    if new is not None and new.successor is not None:
        return Unfollowed.RETIRED
    if any(key.successor == entry.old and key.in_force(entry.since) for key in trusted.values()):
        return Unfollowed.OVERLAPS
    if at < entry.since:
        return Unfollowed.NOT_YET
    if len(trusted) >= MAX_KEYS:
        return Unfollowed.TOO_MANY
    trusted[entry.old] = replace(old, successor=entry.new, until=entry.until)
    trusted.setdefault(entry.new, TrustedKey(entry.new))
    after = tuple(trusted.values())
    return replace(keys, log=after) if entry.use is KeyUse.LOG else replace(keys, receipt=after)


def _is_key(use: KeyUse, text: str, keys: Keyring) -> bool:
    try:
        if use is KeyUse.RECEIPT:
            _receipt_key(text)
            return True
        key = parse_vkey(text)
    except MalformedVerifierKey:
        return False
    return key.type == ED25519 and key.name == parse_vkey(keys.log[0].text).name


def _receipt_key(text: str) -> EllipticCurvePublicKey:
    data = parse_base64(text.encode("utf-8"))
    try:
        key = None if data is None else load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise MalformedVerifierKey("a receipt key is the base64 of an ECDSA P-256 SubjectPublicKeyInfo")
    return key
