"""The members of each kind, written and read. Every member is always there, null where nothing applies; no others."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, TypeAlias, assert_never

from gatekeeper.model.decision import Mode, Purpose, Verdict
from gatekeeper.model.fields import Fields
from gatekeeper.model.moment import render_moment

from .errors import MalformedNote
from .kinds import (
    AdoptEntry,
    Cause,
    ConfigEntry,
    DecisionEntry,
    DeployEntry,
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
from .kinds_people import PeopleEntry
from .kinds_sealed import SealingEntry
from .members import (
    SEALED_SLOTS,
    Abridged,
    Members,
    read_digests,
    read_hidden,
    read_id,
    read_list,
    read_nullable,
    read_origin,
    read_pair,
    read_people,
    read_person,
    read_reference,
    read_root,
    read_text,
    read_texts,
    write,
    write_members,
)
from .note import parse_note
from .person import Pseudonym
from .schema_people import PEOPLE_READERS, people_members
from .schema_sealed import SEALING_READERS, sealing_members
from .signature import MAX_VKEY

MAX_COSIGNATURE: Final = 512
"""Bytes of a doorkeeper's signature line."""
Entry: TypeAlias = DeployEntry | PeopleEntry | SealingEntry
_PURPOSES: Final = tuple(Purpose)
_MODES: Final = tuple(Mode)
_VERDICTS: Final = tuple(Verdict)


def members_of(entry: Entry) -> Members:
    """The object to be encoded."""
    common: Members = {
        "v": 1,
        "kind": entry.KIND.value,
        "entry_id": entry.entry_id,
        "origin": entry.origin,
        "at": render_moment(entry.at),
        "config": entry.config,
    }
    if isinstance(entry, PeopleEntry):
        return common | people_members(entry)
    if isinstance(entry, SealingEntry):
        return common | sealing_members(entry)
    return common | _deploy_members(entry)


def read_entry(fields: Fields, body: bytes) -> Entry | UnknownEntry:
    """Read an object whose bytes are `body`; raises `FieldError`."""
    fields.integer("v", minimum=1, maximum=1)
    kind = read_text(fields, "kind", max_bytes=64)
    common = _read_common(fields)
    if kind not in _READERS:
        return UnknownEntry(**common, kind=kind, body=body)
    entry = _READERS[Kind(kind)](fields, common)
    fields.done()
    return entry


def _read_common(fields: Fields) -> dict[str, Any]:
    return {
        "entry_id": read_id(fields, "entry_id"),
        "origin": read_origin(fields, "origin"),
        "at": fields.moment("at"),
        "config": read_nullable(fields, "config", Fields.commit),
    }


def _deploy_members(entry: DeployEntry) -> Members:
    match entry:
        case OriginEntry():
            heads = entry.heads and {name: _write_head(head) for name, head in zip(("database", "vault"), entry.heads, strict=True)}
            return write_members(entry, "cause", "previous", "sealed_slots", "tick", "who", "reason") | {"heads": heads}
        case Intake():
            return write_members(entry, "artifact", "manifest", "builder", "certificate", "subjects")
        case DecisionEntry():
            return _decision_members(entry)
        case OutcomeEntry():
            marks = entry.doorkeeper
            written = write(marks) if isinstance(marks, Abridged) else [write_members(mark, "target", "size", "cosignature") for mark in marks]
            return write_members(entry, "of", "state", "lease", "applied") | {"doorkeeper": written}
        case ConfigEntry():
            return write_members(entry, "who", "previous", "commit", "digest")
        case OverrideEntry():
            own = write_members(entry, "who", "target", "digest", "order", "incident", "record")
            return own | {"applied_at": render_moment(entry.applied_at), "late": True}
        case AdoptEntry():
            return write_members(entry, "who", "environment", "component", "running", "candidate_config")
        case KeyEntry():
            own = write_members(entry, "who", "use", "old", "new")
            return own | {"from": render_moment(entry.since), "until": render_moment(entry.until)}
        case _:
            assert_never(entry)


def _decision_members(entry: DecisionEntry) -> Members:
    names = (
        *("ping_id", "landing", "purpose", "mode", "requester", "on_behalf_of", "environment", "component", "artifact", "candidate_config"),
        *("target", "subjects", "verdict", "reasons", "policy", "trusted_root", "evidence", "statement", "supersedes"),
    )
    return write_members(entry, *names) | {
        "people": write_members(entry.people, "owner", "uploader", "voter"),
        "not_after": None if entry.not_after is None else render_moment(entry.not_after),
    }


def _write_head(head: Head) -> Members:
    return write_members(head, "size", "root")


def _read_origin(fields: Fields, common: dict[str, Any]) -> OriginEntry:
    entry = OriginEntry(
        **common,
        cause=Cause(fields.choice("cause", tuple(Cause))),
        previous=read_nullable(fields, "previous", _read_note),
        heads=read_nullable(fields, "heads", _read_heads),
        sealed_slots=fields.integer("sealed_slots", minimum=SEALED_SLOTS, maximum=SEALED_SLOTS),
        tick=fields.integer("tick", maximum=3600),
        who=_read_pair_or_nobody(fields, "who"),
        reason=read_nullable(fields, "reason", read_hidden),
    )
    if (entry.cause is Cause.YEAR) and entry.previous is None:
        raise fields.error("previous", "a year's origin holds the last note of the one before")
    if (entry.cause is Cause.LOSS) != (entry.heads is not None):
        raise fields.error("heads", "a loss, and nothing else, states both heads")
    if entry.cause is Cause.FIRST and entry.previous is not None:
        raise fields.error("previous", "the first origin has none before it")
    if entry.cause is Cause.LOSS and (not entry.who or entry.reason is None):
        raise fields.error("who", "a loss is declared by two people, with a reason")
    return entry


def _read_intake(fields: Fields, common: dict[str, Any]) -> Intake:
    return Intake(
        **common,
        artifact=fields.digest("artifact"),
        manifest=read_nullable(fields, "manifest", Fields.digest),
        builder=read_text(fields, "builder"),
        certificate=read_nullable(fields, "certificate", Fields.digest),
        subjects=read_digests(fields, "subjects"),
    )


def _read_decision(fields: Fields, common: dict[str, Any]) -> DecisionEntry:
    entry = DecisionEntry(
        **common,
        ping_id=read_id(fields, "ping_id"),
        landing=read_nullable(fields, "landing", read_text),
        purpose=Purpose(fields.choice("purpose", _PURPOSES)),
        mode=Mode(fields.choice("mode", _MODES)),
        requester=read_person(fields, "requester"),
        on_behalf_of=read_nullable(fields, "on_behalf_of", read_person),
        people=_read_role_people(fields.nested("people")),
        environment=read_text(fields, "environment"),
        component=read_text(fields, "component"),
        artifact=read_nullable(fields, "artifact", Fields.digest),
        candidate_config=read_nullable(fields, "candidate_config", Fields.commit),
        target=read_texts(fields, "target"),
        subjects=read_digests(fields, "subjects"),
        verdict=Verdict(fields.choice("verdict", _VERDICTS)),
        reasons=read_texts(fields, "reasons"),
        policy=fields.digest("policy"),
        trusted_root=read_nullable(fields, "trusted_root", Fields.digest),
        evidence=read_digests(fields, "evidence"),
        statement=read_nullable(fields, "statement", Fields.digest),
        not_after=read_nullable(fields, "not_after", Fields.moment),
        supersedes=read_nullable(fields, "supersedes", read_reference),
    )
    if (entry.statement is None) != (entry.verdict is Verdict.INDETERMINATE):
        raise fields.error("statement", "an Allow or Deny has a signed statement, an Indeterminate has none")
    if (entry.not_after is None) == (entry.verdict is Verdict.ALLOW):
        raise fields.error("not_after", "an Allow, and nothing else, has an end")
    return entry


def _read_outcome(fields: Fields, common: dict[str, Any]) -> OutcomeEntry:
    return OutcomeEntry(
        **common,
        of=read_reference(fields, "of"),
        state=read_text(fields, "state"),
        lease=read_digests(fields, "lease"),
        applied=read_digests(fields, "applied"),
        doorkeeper=read_list(fields, "doorkeeper", _read_mark),
    )


def _read_config(fields: Fields, common: dict[str, Any]) -> ConfigEntry:
    return ConfigEntry(
        **common,
        who=read_people(fields, "who"),
        previous=read_nullable(fields, "previous", Fields.commit),
        commit=fields.commit("commit"),
        digest=fields.digest("digest"),
    )


def _read_override(fields: Fields, common: dict[str, Any]) -> OverrideEntry:
    if not fields.boolean("late"):
        raise fields.error("late", "must be true")
    return OverrideEntry(
        **common,
        who=read_pair(fields, "who"),
        target=read_text(fields, "target"),
        digest=fields.digest("digest"),
        order=fields.digest("order"),
        incident=read_hidden(fields, "incident"),
        applied_at=fields.moment("applied_at"),
        record=fields.digest("record"),
    )


def _read_adopt(fields: Fields, common: dict[str, Any]) -> AdoptEntry:
    return AdoptEntry(
        **common,
        who=read_person(fields, "who"),
        environment=read_text(fields, "environment"),
        component=read_text(fields, "component"),
        running=read_digests(fields, "running"),
        candidate_config=read_nullable(fields, "candidate_config", Fields.commit),
    )


def _read_key(fields: Fields, common: dict[str, Any]) -> KeyEntry:
    return KeyEntry(
        **common,
        who=read_pair(fields, "who"),
        use=KeyUse(fields.choice("use", tuple(KeyUse))),
        old=read_text(fields, "old", max_bytes=MAX_VKEY),
        new=read_text(fields, "new", max_bytes=MAX_VKEY),
        since=fields.moment("from"),
        until=fields.moment("until"),
    )


def _read_role_people(fields: Fields) -> RolePeople:
    people = RolePeople(read_people(fields, "owner"), read_people(fields, "uploader"), read_people(fields, "voter"))
    fields.done()
    return people


def _read_mark(fields: Fields, key: str) -> DoorkeeperMark:
    inner = fields.nested(key)
    cosignature = read_text(inner, "cosignature", max_bytes=MAX_COSIGNATURE)
    mark = DoorkeeperMark(read_text(inner, "target"), inner.integer("size"), cosignature)
    inner.done()
    return mark


def _read_heads(fields: Fields, key: str) -> tuple[Head, Head]:
    inner = fields.nested(key)
    heads = (_read_head(inner.nested("database")), _read_head(inner.nested("vault")))
    inner.done()
    return heads


def _read_head(fields: Fields) -> Head:
    head = Head(fields.integer("size"), read_root(fields, "root"))
    fields.done()
    return head


def _read_note(fields: Fields, key: str) -> str:
    value = fields.raw(key)
    try:
        parse_note(value.encode("utf-8") if isinstance(value, str) else b"")
    except MalformedNote as error:
        raise fields.error(key, str(error)) from error
    return str(value)


def _read_pair_or_nobody(fields: Fields, key: str) -> tuple[Pseudonym, ...]:
    return () if fields.raw(key) == [] else read_pair(fields, key)


_READERS: Final[MappingProxyType[Kind, Callable[[Fields, dict[str, Any]], Entry]]] = MappingProxyType(
    {
        Kind.ORIGIN: _read_origin,
        Kind.INTAKE: _read_intake,
        Kind.DECISION: _read_decision,
        Kind.OUTCOME: _read_outcome,
        Kind.CONFIG: _read_config,
        Kind.OVERRIDE: _read_override,
        Kind.ADOPT: _read_adopt,
        Kind.KEY: _read_key,
        **PEOPLE_READERS,
        **SEALING_READERS,
    }
)
