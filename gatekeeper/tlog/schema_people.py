"""The members of what people ordered, written and read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Any, Final, assert_never

from gatekeeper.model.fields import Fields
from gatekeeper.model.moment import Moment, render_moment

from .kinds import Kind
from .kinds_people import (
    AcknowledgementEntry,
    BreakglassCloseEntry,
    BreakglassOpenEntry,
    Change,
    ExemptionEntry,
    FreezeEntry,
    HoldEntry,
    PeopleEntry,
    ReservationEntry,
    RevocationEntry,
    Revoked,
    Span,
    StopEntry,
    WindowEntry,
    WitnessChangeEntry,
)
from .members import (
    Members,
    read_digests,
    read_hidden,
    read_id,
    read_nullable,
    read_pair,
    read_person,
    read_reference,
    read_text,
    read_texts,
    write_members,
)


def people_members(entry: PeopleEntry) -> Members:
    """The members that the entry's kind has beyond the common ones."""
    match entry:
        case FreezeEntry() | WindowEntry() | HoldEntry() | ReservationEntry() | StopEntry():
            return write_members(entry, "who", "change", "environment", "component", "reason") | _write_span(entry.since, entry.until)
        case AcknowledgementEntry():
            return write_members(entry, "who", "ping_id", "of", "code", "reason")
        case ExemptionEntry():
            own = write_members(entry, "who", "change", "rule", "environment", "component", "reason")
            return own | {"until": render_moment(entry.until)}
        case BreakglassOpenEntry():
            own = write_members(entry, "who", "environment", "component", "artifact", "skips", "incident", "reason")
            return own | {"not_after": render_moment(entry.not_after)}
        case BreakglassCloseEntry():
            return write_members(entry, "of", "who", "evidence", "reason")
        case RevocationEntry():
            return write_members(entry, "who", "what", "id", "reason") | _write_span(entry.since, entry.until)
        case WitnessChangeEntry():
            return write_members(entry, "who", "policy", "fail_open", "reason")
        case _:
            assert_never(entry)


def _write_span(since: Moment | None, until: Moment | None) -> Members:
    return {name: None if at is None else render_moment(at) for name, at in (("from", since), ("until", until))}


def _read_span(kind: type[Span], fields: Fields, common: dict[str, Any]) -> Span:
    entry = kind(
        **common,
        who=read_person(fields, "who"),
        change=_read_change(fields),
        environment=read_text(fields, "environment"),
        component=read_nullable(fields, "component", read_text),
        since=fields.moment("from"),
        until=read_nullable(fields, "until", Fields.moment),
        reason=read_hidden(fields, "reason"),
    )
    _refuse_backwards(fields, entry.since, entry.until)
    return entry


def _read_acknowledgement(fields: Fields, common: dict[str, Any]) -> AcknowledgementEntry:
    entry = AcknowledgementEntry(
        **common,
        who=read_person(fields, "who"),
        ping_id=read_nullable(fields, "ping_id", read_id),
        of=read_nullable(fields, "of", read_reference),
        code=read_text(fields, "code"),
        reason=read_hidden(fields, "reason"),
    )
    if entry.ping_id is None and entry.of is None:
        raise fields.error("ping_id", "an acknowledgement is of a ping, of an entry or of both")
    return entry


def _read_exemption(fields: Fields, common: dict[str, Any]) -> ExemptionEntry:
    return ExemptionEntry(
        **common,
        who=read_pair(fields, "who"),
        change=_read_change(fields),
        rule=read_text(fields, "rule"),
        environment=read_text(fields, "environment"),
        component=read_text(fields, "component"),
        until=fields.moment("until"),
        reason=read_hidden(fields, "reason"),
    )


def _read_breakglass_open(fields: Fields, common: dict[str, Any]) -> BreakglassOpenEntry:
    entry = BreakglassOpenEntry(
        **common,
        who=read_pair(fields, "who"),
        environment=read_text(fields, "environment"),
        component=read_text(fields, "component"),
        artifact=fields.digest("artifact"),
        skips=read_texts(fields, "skips"),
        not_after=fields.moment("not_after"),
        incident=read_hidden(fields, "incident"),
        reason=read_hidden(fields, "reason"),
    )
    if not entry.skips:
        raise fields.error("skips", "a breakglass names what it skips")
    return entry


def _read_breakglass_close(fields: Fields, common: dict[str, Any]) -> BreakglassCloseEntry:
    return BreakglassCloseEntry(
        **common,
        of=read_reference(fields, "of"),
        who=read_person(fields, "who"),
        evidence=read_digests(fields, "evidence"),
        reason=read_hidden(fields, "reason"),
    )


def _read_revocation(fields: Fields, common: dict[str, Any]) -> RevocationEntry:
    entry = RevocationEntry(
        **common,
        who=read_person(fields, "who"),
        what=Revoked(fields.choice("what", tuple(Revoked))),
        id=read_text(fields, "id"),
        since=read_nullable(fields, "from", Fields.moment),
        until=read_nullable(fields, "until", Fields.moment),
        reason=read_hidden(fields, "reason"),
    )
    _refuse_backwards(fields, entry.since, entry.until)
    return entry


def _read_witness_change(fields: Fields, common: dict[str, Any]) -> WitnessChangeEntry:
    return WitnessChangeEntry(
        **common,
        who=read_pair(fields, "who"),
        policy=fields.digest("policy"),
        fail_open=fields.boolean("fail_open"),
        reason=read_hidden(fields, "reason"),
    )


def _read_change(fields: Fields) -> Change:
    return Change(fields.choice("change", tuple(Change)))


def _refuse_backwards(fields: Fields, since: Moment | None, until: Moment | None) -> None:
    if since is not None and until is not None and until < since:
        raise fields.error("until", "must not come before from")


PEOPLE_READERS: Final[MappingProxyType[Kind, Callable[[Fields, dict[str, Any]], PeopleEntry]]] = MappingProxyType(
    {
        Kind.FREEZE: partial(_read_span, FreezeEntry),
        Kind.WINDOW: partial(_read_span, WindowEntry),
        Kind.HOLD: partial(_read_span, HoldEntry),
        Kind.RESERVATION: partial(_read_span, ReservationEntry),
        Kind.STOP: partial(_read_span, StopEntry),
        Kind.ACKNOWLEDGEMENT: _read_acknowledgement,
        Kind.EXEMPTION: _read_exemption,
        Kind.BREAKGLASS_OPEN: _read_breakglass_open,
        Kind.BREAKGLASS_CLOSE: _read_breakglass_close,
        Kind.REVOCATION: _read_revocation,
        Kind.WITNESS_CHANGE: _read_witness_change,
    }
)
