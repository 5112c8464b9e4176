"""What an index over entries keeps of one: read from its bytes, the same way for every kind, also one that this release does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import Moment
from gatekeeper.model.strictjson import JsonValue, MalformedJson, parse_object

MAX_INDEXED: Final = 65_535
_PSEUDONYM: Final = re.compile(r"p:[0-9a-f]{32}")
_MAX_NAME: Final = 256


@dataclass(frozen=True)
class EntryFields:
    """`people` are pseudonyms in any role, ascending. `of` is the index of the decision that the entry is about, where it names one of its origin."""

    kind: str
    at: Moment
    environment: str | None
    component: str | None
    people: tuple[str, ...]
    of: int | None


def entry_fields(body: bytes) -> EntryFields | None:
    """None for bytes that no entry of ours has: they are left out of the index, never out of the log."""
    try:
        members = parse_object(body, max_bytes=MAX_INDEXED)
        fields = Fields(members)
        kind, at, origin = fields.text("kind", max_length=32), fields.moment("at"), fields.text("origin", max_length=_MAX_NAME)
    except (MalformedJson, FieldError):
        return None
    return EntryFields(
        kind=kind,
        at=at,
        environment=_name(members.get("environment")),
        component=_name(members.get("component")),
        people=tuple(sorted(set(_people(members)))),
        of=_decision(members.get("of"), origin),
    )


def _name(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and len(value) <= _MAX_NAME else None


def _people(value: JsonValue) -> Iterator[str]:
    match value:
        case str() if _PSEUDONYM.fullmatch(value):
            yield value
        case list():
            for item in value:
                yield from _people(item)
        case dict():
            for item in value.values():
                yield from _people(item)


def _decision(value: JsonValue, origin: str) -> int | None:
    match value:
        case {"origin": str(named), "index": int(index), "slot": None} if named == origin and not isinstance(index, bool) and index >= 0:
            return index
        case _:
            return None
