"""The members of the entries that seal and open, written and read. Bytes stand as base64, days as `2026-11-21`."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, assert_never

from gatekeeper.model.fields import Fields

from .kinds import Kind
from .kinds_sealed import LiftEntry, OpenDecoysEntry, OpenEntry, SealedEntry, SealingEntry
from .members import (
    MAX_PRIVATE,
    MAX_SEALED_HEAD,
    SEALED_SLOTS,
    Abridged,
    Members,
    Reference,
    read_hash,
    read_hidden,
    read_id,
    read_list,
    read_nullable,
    read_origin,
    read_pair,
    read_reference,
    write_members,
)
from .spelling import parse_base64

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def sealing_members(entry: SealingEntry) -> Members:
    """The members that the entry's kind has beyond the common ones."""
    match entry:
        case SealedEntry():
            commitments = [_written(item) for item in entry.commitments]
            return {"c": commitments, "open_by": entry.open_by.isoformat(), "esc": _written(entry.escrow)}
        case OpenEntry():
            own = {"c": entry.commitment, "r": entry.r, "body": entry.body, "rp": entry.rp, "private": entry.private}
            return write_members(entry, "of") | {name: _written(item) for name, item in own.items()}
        case OpenDecoysEntry():
            return write_members(entry, "of_origin") | {"day": entry.day.isoformat(), "seed": _written(entry.seed)}
        case LiftEntry():
            return write_members(entry, "who", "embargo", "opens", "reason")
        case _:
            assert_never(entry)


def _written(item: bytes | None) -> str | None:
    return None if item is None else b64encode(item).decode("ascii")


def _read_sealed(fields: Fields, common: dict[str, Any]) -> SealedEntry:
    slots = fields.array("c", max_items=SEALED_SLOTS)
    if len(slots) != SEALED_SLOTS:
        raise fields.error("c", f"must have {SEALED_SLOTS} slots")
    inner = Fields({str(slot): item for slot, item in enumerate(slots)}, fields.at("c"))
    entry = SealedEntry(
        **common,
        commitments=tuple(read_hash(inner, str(slot)) for slot in range(SEALED_SLOTS)),
        open_by=_read_day(fields, "open_by"),
        escrow=read_hash(fields, "esc"),
    )
    # Every sealed leaf is alike but for its hashes and its time: nothing tells a tick with decisions from one without.
    if entry.config is not None:
        raise fields.error("config", "must be null in a sealed leaf")
    if entry.at.year < 1970:
        raise fields.error("at", "must not come before 1970: decoys are made from POSIX seconds")
    if (entry.open_by.month, entry.open_by.day) != (12, 31) or entry.open_by < entry.at.date():
        raise fields.error("open_by", "must be the end of a year that has not passed")
    return entry


def _read_open(fields: Fields, common: dict[str, Any]) -> OpenEntry:
    entry = OpenEntry(
        **common,
        of=_read_slot(fields, "of"),
        commitment=read_hash(fields, "c"),
        r=read_hash(fields, "r"),
        body=_read_bytes(fields, "body", MAX_SEALED_HEAD),
        rp=read_nullable(fields, "rp", read_hash),
        private=read_nullable(fields, "private", lambda inner, key: _read_bytes(inner, key, MAX_PRIVATE)),
    )
    if (entry.rp is None) != (entry.private is None):
        raise fields.error("rp", "rp and private are there together or both null")
    return entry


def _read_open_decoys(fields: Fields, common: dict[str, Any]) -> OpenDecoysEntry:
    return OpenDecoysEntry(**common, of_origin=read_origin(fields, "of_origin"), day=_read_day(fields, "day"), seed=read_hash(fields, "seed"))


def _read_lift(fields: Fields, common: dict[str, Any]) -> LiftEntry:
    opens = read_list(fields, "opens", _read_slot)
    if not isinstance(opens, Abridged) and any(_order(left) >= _order(right) for left, right in pairwise(opens)):
        raise fields.error("opens", "must be ascending, without repetition")
    return LiftEntry(
        **common, who=read_pair(fields, "who"), embargo=read_id(fields, "embargo"), opens=opens, reason=read_hidden(fields, "reason")
    )


def _order(reference: Reference) -> tuple[str, int, int | None]:
    return (reference.origin, reference.index, reference.slot)


def _read_slot(fields: Fields, key: str) -> Reference:
    reference = read_reference(fields, key)
    if reference.slot is None:
        raise fields.error(key, "must name a slot")
    return reference


def _read_bytes(fields: Fields, key: str, most: int) -> bytes:
    value = fields.raw(key)
    data = parse_base64(value.encode("ascii")) if isinstance(value, str) and value.isascii() else None
    if data is None or not 1 <= len(data) <= most:
        raise fields.error(key, f"must be the base64 of 1 to {most} bytes")
    return data


def _read_day(fields: Fields, key: str) -> date:
    value = fields.raw(key)
    if not isinstance(value, str) or _DAY.fullmatch(value) is None:
        raise fields.error(key, "must be a day such as 2026-11-21")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise fields.error(key, "is no day of the calendar") from error


SEALING_READERS: Final[MappingProxyType[Kind, Callable[[Fields, dict[str, Any]], SealingEntry]]] = MappingProxyType(
    {
        Kind.SEALED: _read_sealed,
        Kind.OPEN: _read_open,
        Kind.OPEN_DECOYS: _read_open_decoys,
        Kind.LIFT: _read_lift,
    }
)
