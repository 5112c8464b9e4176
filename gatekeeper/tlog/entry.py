"""Log entries: RFC 8785 bytes of one object each, at most 16 KiB, with exactly the members of their kind.

The bytes are what is stored, hashed and served; nobody re-encodes an entry to verify it. `parse_entry` accepts only what `encode_entry`
writes, so a value and its bytes stand for each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gatekeeper.model.canonical import Json, NotCanonical, encode_canonical
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_canonical_object

from .errors import MalformedEntry
from .kinds import (
    AdoptEntry,
    Cause,
    ConfigEntry,
    DecisionEntry,
    DoorkeeperMark,
    Head,
    Intake,
    KeyEntry,
    KeyUse,
    Kind,
    OriginEntry,
    OutcomeEntry,
    OverrideEntry,
    RolePeople,
    UnknownEntry,
)
from .kinds_people import (
    AcknowledgementEntry,
    BreakglassCloseEntry,
    BreakglassOpenEntry,
    Change,
    ExemptionEntry,
    FreezeEntry,
    HoldEntry,
    ReservationEntry,
    RevocationEntry,
    Revoked,
    StopEntry,
    WindowEntry,
    WitnessChangeEntry,
)
from .kinds_sealed import LiftEntry, OpenDecoysEntry, OpenEntry, SealedEntry
from .members import MAX_PRIVATE, Abridged, Members, Reference, abridge
from .person import hidden_text, pseudonym
from .schema import Entry, members_of, read_entry

MAX_ENTRY: Final = 16 * 1024
_MAX_DEPTH: Final = 6


def encode_entry(entry: Entry, *, cap: int = MAX_ENTRY) -> bytes:
    """The entry's bytes.

    Over the cap, the longest list becomes its count and digest, and again, until the entry fits. Raises `MalformedEntry` where it still
    does not, or where a member is none of its kind (lists of people and digests stand ascending).
    """
    members = members_of(entry)
    try:
        data = encode_canonical(members)
        while len(data) > cap:
            _abridge_longest(members)
            data = encode_canonical(members)
    except NotCanonical as error:
        raise MalformedEntry(str(error)) from error
    parse_entry(data)
    return data


def parse_entry(data: bytes) -> Entry | UnknownEntry:
    """Read an entry; raises `MalformedEntry` for bytes that `encode_entry` would not write. A kind not known keeps its bytes."""
    try:
        return read_entry(Fields(parse_canonical_object(data, max_bytes=MAX_ENTRY, max_depth=_MAX_DEPTH)), data)
    except NotCanonical as error:
        raise MalformedEntry(f"the entry is {error}") from error
    except (MalformedJson, FieldError) as error:
        raise MalformedEntry(str(error)) from error


def _abridge_longest(members: Members) -> None:
    # Ties go to the member that stands first in the entry, so that the bytes do not depend on anything else.
    best, gain = None, 0
    for holder, key, items in _lists(members):
        shorter = len(encode_canonical(items)) - len(encode_canonical(abridge(items)))
        if shorter > gain:
            best, gain = (holder, key, items), shorter
    if best is None:
        raise MalformedEntry("the entry is over its cap and has no list to shorten")
    holder, key, items = best
    holder[key] = abridge(items)


def _lists(members: Members) -> Iterator[tuple[Members, str, list[Json]]]:
    for key in sorted(members):
        value = members[key]
        if isinstance(value, list):
            yield members, key, value
        elif isinstance(value, dict):
            yield from _lists(value)


__all__ = [
    "MAX_ENTRY",
    "MAX_PRIVATE",
    "Abridged",
    "AcknowledgementEntry",
    "AdoptEntry",
    "BreakglassCloseEntry",
    "BreakglassOpenEntry",
    "Cause",
    "Change",
    "ConfigEntry",
    "DecisionEntry",
    "DoorkeeperMark",
    "Entry",
    "ExemptionEntry",
    "FreezeEntry",
    "Head",
    "HoldEntry",
    "Intake",
    "KeyEntry",
    "KeyUse",
    "Kind",
    "LiftEntry",
    "OpenDecoysEntry",
    "OpenEntry",
    "OriginEntry",
    "OutcomeEntry",
    "OverrideEntry",
    "Reference",
    "ReservationEntry",
    "RevocationEntry",
    "Revoked",
    "RolePeople",
    "SealedEntry",
    "StopEntry",
    "UnknownEntry",
    "WindowEntry",
    "WitnessChangeEntry",
    "encode_entry",
    "hidden_text",
    "parse_entry",
    "pseudonym",
]
