"""Sealed decisions: commitments, openings and decoys (our log format, section 4). HMAC-SHA256 under public constants; randomness is given.

A slot of a `sealed` leaf commits to a body B, which names what was decided in its head and commits in turn to M, the whole private entry:

    private = HMAC(Kp, rp || M)        C = HMAC(Kc, r || u16be(len(origin)) || origin || u32be(len(B)) || B)

r and rp have fixed length, origin and B are length-prefixed and M runs to the end, so no two openings are encoded alike: two of one
commitment are a collision of SHA-256. (r, B) opens the head alone; M stays hidden behind rp even where it is later destroyed.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import Final

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.decision import Verdict
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import Moment, render_moment
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .entry import Entry, UnknownEntry, parse_entry
from .errors import MalformedEntry, OpeningFault, OpeningRefused
from .kinds_sealed import OpenEntry, SealedEntry
from .members import MAX_PRIVATE, MAX_SEALED_HEAD, SEALED_SLOTS, Reference, read_hash, read_id, read_nullable, read_origin, read_text

SECRET_BYTES: Final = 32
"""Of r, rp and a day's seed W."""
DECOY: Final = "decoy"
"""The head's kind in a slot that holds no decision."""
NO_ESCROW: Final = sha256().digest()
"""`esc` where no escrow auditor is configured."""

_SLOT_KEY: Final = b"deploylog.sealed/v1"
_PRIVATE_KEY: Final = b"deploylog.sealed-private/v1"


@dataclass(frozen=True)
class SealedHead:
    """What anybody learns of a decision that stays sealed. `at` is the leaf's: the exact time is in the private entry."""

    entry_id: str
    origin: str
    kind: str
    verdict: Verdict | None
    at: Moment


@dataclass(frozen=True)
class SealedBody:
    """B: the head, and the HMAC that binds the private entry to it."""

    head: SealedHead
    private: bytes


@dataclass(frozen=True)
class Opening:
    """What opens one slot: r and B; and rp and M, both None where the private entry stays sealed."""

    r: bytes
    body: bytes
    rp: bytes | None
    private: bytes | None


@dataclass(frozen=True)
class OpenedSlot:
    """What a verified opening says of the slot with that number. `entry` is None where only the head was opened."""

    number: int
    head: SealedHead
    entry: Entry | UnknownEntry | None


def commitment(r: bytes, origin: str, body: bytes) -> bytes:
    """C, of 32 bytes. Raises `MalformedEntry` where r, origin or body is out of its bounds."""
    name = origin.encode("utf-8")
    if not name or len(name) > 0xFFFF or not 1 <= len(body) <= MAX_SEALED_HEAD:
        raise MalformedEntry(f"a commitment is to an origin and a body of 1 to {MAX_SEALED_HEAD} bytes")
    message = _secret(r) + len(name).to_bytes(2, "big") + name + len(body).to_bytes(4, "big") + body
    return hmac.digest(_SLOT_KEY, message, "sha256")


def private_hmac(rp: bytes, private: bytes) -> bytes:
    """What stands in a body for its private entry M. Raises `MalformedEntry` where rp or M is out of its bounds."""
    if not 1 <= len(private) <= MAX_PRIVATE:
        raise MalformedEntry(f"a private entry has 1 to {MAX_PRIVATE} bytes")
    return hmac.digest(_PRIVATE_KEY, _secret(rp) + private, "sha256")


def encode_body(body: SealedBody) -> bytes:
    """B: RFC 8785 bytes, at most 512. Raises `MalformedEntry` where `parse_body` would refuse them."""
    head = body.head
    members = {"entry_id": head.entry_id, "origin": head.origin, "kind": head.kind, "verdict": head.verdict, "at": render_moment(head.at)}
    data = encode_canonical({"head": members, "private": b64encode(body.private).decode("ascii")})
    parse_body(data)
    return data


def parse_body(data: bytes) -> SealedBody:
    """Read B; raises `MalformedEntry` for bytes that `encode_body` would not write."""
    try:
        members = parse_object(data, max_bytes=MAX_SEALED_HEAD, max_depth=2)
        if encode_canonical(members) != data:
            raise MalformedEntry("the body is not in its one spelling (RFC 8785)")
        fields = Fields(members)
        inner = fields.nested("head")
        head = SealedHead(
            entry_id=read_id(inner, "entry_id"),
            origin=read_origin(inner, "origin"),
            kind=read_text(inner, "kind", max_bytes=64),
            verdict=read_nullable(inner, "verdict", lambda values, key: Verdict(values.choice(key, tuple(Verdict)))),
            at=inner.moment("at"),
        )
        inner.done()
        body = SealedBody(head, read_hash(fields, "private"))
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedEntry(str(error)) from error
    return body


def seal_entry(private: bytes, *, at: Moment, r: bytes, rp: bytes) -> Opening:
    """Make the opening of a slot for an encoded entry (`encode_entry` with `cap=MAX_PRIVATE`). `at` is the leaf's; r and rp are fresh."""
    bound = private_hmac(rp, private)
    entry = parse_entry(private)
    head = SealedHead(entry.entry_id, entry.origin, _kind(entry), _verdict(private), at)
    if head.kind == DECOY:
        raise MalformedEntry("no entry is of the kind of a decoy")
    return Opening(_secret(r), encode_body(SealedBody(head, bound)), rp, private)


def make_decoy(seed: bytes, *, origin: str, at: Moment, slot: int) -> Opening:
    """The decoy of one slot of the tick at that time. `seed` is the UTC day's; two leaves of one time would have the same decoys."""
    tick = int(at.timestamp()).to_bytes(8, "big") + slot.to_bytes(1, "big")
    r, entry_id, private = (hmac.digest(_secret(seed), use + tick, "sha256") for use in (b"r", b"i", b"p"))
    head = SealedHead(entry_id[:16].hex(), origin, DECOY, None, at)
    return Opening(r, encode_body(SealedBody(head, private)), None, None)


def seal_leaf(slots: Sequence[Opening], *, entry_id: str, origin: str, at: Moment, open_by: date, escrow: bytes = NO_ESCROW) -> SealedEntry:
    """The leaf over four slots. Raises `MalformedEntry` where a slot would not open in it; the seed of its decoys is the caller's to keep."""
    if len(slots) != SEALED_SLOTS:
        raise MalformedEntry(f"a sealed leaf has {SEALED_SLOTS} slots")
    for slot in slots:
        head = parse_body(slot.body).head
        if (head.origin, head.at) != (origin, at):
            raise MalformedEntry("a slot is of another origin or time than its leaf")
    commitments = tuple(commitment(slot.r, origin, slot.body) for slot in slots)
    return SealedEntry(entry_id=entry_id, origin=origin, at=at, config=None, commitments=commitments, open_by=open_by, escrow=escrow)


def decoy_slots(leaf: SealedEntry, seed: bytes) -> frozenset[int]:
    """The slots of a leaf that a day's seed opens. A slot with a decision is never among them: its r is not of the seed."""
    decoys = (make_decoy(seed, origin=leaf.origin, at=leaf.at, slot=slot) for slot in range(SEALED_SLOTS))
    return frozenset(
        slot for slot, made in enumerate(decoys) if commitment(made.r, leaf.origin, made.body) == leaf.commitments[slot]
    )


def verify_slot(leaf: SealedEntry, slot: int | None, opening: Opening) -> OpenedSlot:
    """Check what opens one slot, as before a lift in private. Raises `OpeningRefused` with an `OpeningFault`.

    The caller has proven that the leaf is in the log, and has never met the head's `entry_id`.
    """
    # 1. (r, B) is what the slot commits to.
    number = _number_of(slot)
    try:
        made = commitment(opening.r, leaf.origin, opening.body)
    except MalformedEntry as error:
        raise OpeningRefused(OpeningFault.BODY_MALFORMED, str(error)) from error
    if made != leaf.commitments[number]:
        raise OpeningRefused(OpeningFault.NOT_COMMITTED, "r and the body are not what the slot commits to")
    # 2. B is of this leaf.
    try:
        body = parse_body(opening.body)
    except MalformedEntry as error:
        raise OpeningRefused(OpeningFault.BODY_MALFORMED, str(error)) from error
    if body.head.origin != leaf.origin:
        raise OpeningRefused(OpeningFault.OTHER_ORIGIN, "the body is of another origin than its leaf")
    if body.head.at != leaf.at:
        raise OpeningRefused(OpeningFault.OTHER_TIME, "the body is of another time than its leaf")
    # A decision that calls itself a decoy would be opened without anybody learning of it.
    if body.head.kind == DECOY:
        raise OpeningRefused(OpeningFault.DECOY, "a decoy is opened by its day's seed and by nothing else")
    return OpenedSlot(number, body.head, _verify_private(body, opening))


def verify_opening(opened: OpenEntry, *, at: Reference, leaf: SealedEntry, leaf_at: Reference, origins: Sequence[str]) -> OpenedSlot:
    """Check an `open` entry against its leaf. Raises `OpeningRefused` with an `OpeningFault`.

    `at` and `leaf_at` say where the two stand (the caller has proven both inclusions); `origins` are the log's, oldest first. That the
    head's `entry_id` was never met before is the caller's to check.
    """
    if (opened.of.origin, opened.of.index) != (leaf_at.origin, leaf_at.index) or leaf.origin != leaf_at.origin or opened.origin != at.origin:
        raise OpeningRefused(OpeningFault.OTHER_LEAF, "the opening names another leaf")
    if leaf.commitments[_number_of(opened.of.slot)] != opened.commitment:
        raise OpeningRefused(OpeningFault.OTHER_COMMITMENT, "the opening names another commitment than its slot holds")
    if not stands_later(at, leaf_at, origins):
        raise OpeningRefused(OpeningFault.NOT_LATER, "an opening comes after its leaf, or stands in a later origin")
    return verify_slot(leaf, opened.of.slot, Opening(opened.r, opened.body, opened.rp, opened.private))


def stands_later(at: Reference, earlier: Reference, origins: Sequence[str]) -> bool:
    """Whether an entry comes after another of its origin, or stands in a later origin. `origins` are in order, oldest first."""
    if at.origin == earlier.origin:
        return at.index > earlier.index
    return earlier.origin in origins and at.origin in origins[origins.index(earlier.origin) + 1 :]


def _verify_private(body: SealedBody, opening: Opening) -> Entry | UnknownEntry | None:
    # 3. M, if there, is what B commits to, and agrees with the head.
    if opening.rp is None and opening.private is None:
        return None
    if opening.rp is None or opening.private is None:
        raise OpeningRefused(OpeningFault.HALF_OPEN, "rp and the private entry are given together or not at all")
    try:
        made = private_hmac(opening.rp, opening.private)
    except MalformedEntry as error:
        raise OpeningRefused(OpeningFault.PRIVATE_MALFORMED, str(error)) from error
    if made != body.private:
        raise OpeningRefused(OpeningFault.PRIVATE_DIFFERS, "rp and the private entry are not what the body commits to")
    try:
        entry = parse_entry(opening.private)
    except MalformedEntry as error:
        raise OpeningRefused(OpeningFault.PRIVATE_MALFORMED, str(error)) from error
    head = body.head
    if (entry.entry_id, entry.origin, _kind(entry), _verdict(opening.private)) != (head.entry_id, head.origin, head.kind, head.verdict):
        raise OpeningRefused(OpeningFault.HEAD_DIFFERS, "the private entry is not what its head says")
    return entry


def _number_of(slot: int | None) -> int:
    if slot is None or not 0 <= slot < SEALED_SLOTS:
        raise OpeningRefused(OpeningFault.NO_SLOT, f"a leaf has no slot {slot}")
    return slot


def _kind(entry: Entry | UnknownEntry) -> str:
    return entry.kind if isinstance(entry, UnknownEntry) else entry.KIND.value


def _verdict(private: bytes) -> Verdict | None:
    # From the bytes, so that a kind of a later release has its verdict too.
    value = parse_object(private, max_bytes=MAX_PRIVATE).get("verdict")
    return Verdict(value) if value in tuple(Verdict) else None


def _secret(value: bytes) -> bytes:
    if len(value) != SECRET_BYTES:
        raise MalformedEntry(f"r, rp and seeds have {SECRET_BYTES} bytes")
    return value
