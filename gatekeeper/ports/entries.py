"""An index over the entries of one origin. It may lag, and it may omit; the log cannot: whoever asks checks each hit by its proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from gatekeeper.model.label import PUBLIC, Label, Viewer

MAX_PAGE: Final = 200


@dataclass(frozen=True)
class IndexRow:
    """What is kept of one entry."""

    index: int
    kind: str
    at: datetime
    environment: str | None
    component: str | None
    people: tuple[str, ...]
    """pseudonyms, ascending"""
    label: Label = field(default=PUBLIC)


@dataclass(frozen=True)
class EntryHit:
    """An entry that was found, with its exact bytes."""

    row: IndexRow
    body: bytes


@dataclass(frozen=True)
class EntryFilter:
    """Which entries to list; None means any. `below` is an index: what is listed is older."""

    kind: str | None = None
    environment: str | None = None
    component: str | None = None
    person: str | None = None
    """a pseudonym, in any role"""
    since: datetime | None = None
    below: int | None = None
    limit: int = 50


class EntryIndex(Protocol):
    """Durable rows of one origin; safe for concurrent use, by several replicas too."""

    async def size(self) -> int:
        """Entries below it have been read; 0 for an index that was never written."""
        ...

    async def add(self, start: int, stop: int, rows: Sequence[IndexRow]) -> bool:
        """Store what was read of the entries [start, stop), where the size is `start` and then is `stop`; False, and nothing, where it is not."""
        ...

    async def places(self, indices: Sequence[int]) -> Mapping[int, tuple[str | None, str | None]]:
        """Environment and component of rows that are there."""
        ...

    async def find(self, wanted: EntryFilter, viewer: Viewer) -> Sequence[EntryHit]:
        """Newest first, at most `wanted.limit` (1..200)."""
        ...
