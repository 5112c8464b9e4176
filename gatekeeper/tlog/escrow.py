"""What an escrow auditor decrypts for each sealed leaf: always 16,384 bytes, so that its length tells nothing (our log format, 4.3).

Four slots of 4,096 bytes: `r || rp || u16be(len B) || B || u16be(len M) || M || zeros`; in a decoy rp is zeros and M is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .errors import MalformedEntry
from .members import MAX_PRIVATE, MAX_SEALED_HEAD, SEALED_SLOTS
from .sealed import SECRET_BYTES, Opening

SLOT_BYTES: Final = 4_096
ESCROW_BYTES: Final = SEALED_SLOTS * SLOT_BYTES
_NO_RP: Final = bytes(SECRET_BYTES)


def encode_escrow(slots: Sequence[Opening]) -> bytes:
    """Lay out the openings of a leaf's four slots; raises `MalformedEntry` where one is out of bounds or a decision has no private entry."""
    data = b"".join(_encode_slot(slot) for slot in slots)
    if parse_escrow(data) != tuple(slots):
        raise MalformedEntry("an opening has no place in an escrow")
    return data


def parse_escrow(data: bytes) -> tuple[Opening, ...]:
    """Read the four openings; raises `MalformedEntry` for bytes that `encode_escrow` would not write."""
    if len(data) != ESCROW_BYTES:
        raise MalformedEntry(f"an escrow has {ESCROW_BYTES} bytes")
    return tuple(_parse_slot(data[start : start + SLOT_BYTES]) for start in range(0, ESCROW_BYTES, SLOT_BYTES))


def _encode_slot(slot: Opening) -> bytes:
    private = slot.private or b""
    if not len(slot.body) <= MAX_SEALED_HEAD or not len(private) <= MAX_PRIVATE:
        raise MalformedEntry("a body or a private entry is too long for an escrow")
    return (slot.r + (slot.rp or _NO_RP) + _prefixed(slot.body) + _prefixed(private)).ljust(SLOT_BYTES, b"\0")


def _prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _parse_slot(data: bytes) -> Opening:
    r, rp, rest = data[:SECRET_BYTES], data[SECRET_BYTES : 2 * SECRET_BYTES], data[2 * SECRET_BYTES :]
    body, rest = _read_prefixed(rest, MAX_SEALED_HEAD)
    private, rest = _read_prefixed(rest, MAX_PRIVATE)
    if not body or any(rest):
        raise MalformedEntry("a slot of an escrow has a body, and zeros to its end")
    if (rp == _NO_RP) != (not private):
        raise MalformedEntry("a slot of an escrow has rp and a private entry, or neither")
    return Opening(r, body, rp if private else None, private or None)


def _read_prefixed(data: bytes, most: int) -> tuple[bytes, bytes]:
    length = int.from_bytes(data[:2], "big")
    if length > most:
        raise MalformedEntry(f"a part of an escrow has more than {most} bytes")
    return data[2 : 2 + length], data[2 + length :]
