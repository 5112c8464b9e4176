"""The members of what people ordered, written and read."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from gatekeeper.model.fields import Fields

from .kinds import Kind
from .kinds_people import PeopleEntry, WitnessChangeEntry
from .members import Members, read_hidden, read_pair, write_members


def people_members(entry: PeopleEntry) -> Members:
    """The members that the entry's kind has beyond the common ones."""
    return write_members(entry, "who", "policy", "fail_open", "reason")


def _read_witness_change(fields: Fields, common: dict[str, Any]) -> WitnessChangeEntry:
    return WitnessChangeEntry(
        **common,
        who=read_pair(fields, "who"),
        policy=fields.digest("policy"),
        fail_open=fields.boolean("fail_open"),
        reason=read_hidden(fields, "reason"),
    )


PEOPLE_READERS: Final[MappingProxyType[Kind, Callable[[Fields, dict[str, Any]], PeopleEntry]]] = MappingProxyType(
    {
        Kind.WITNESS_CHANGE: _read_witness_change,
    }
)
