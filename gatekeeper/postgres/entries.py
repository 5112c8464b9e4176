"""The index over entries in PostgreSQL (`ports.entries.EntryIndex`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gatekeeper.model.label import Viewer
from gatekeeper.ports.entries import MAX_PAGE, EntryFilter, EntryHit, IndexRow

from .bridge import Bridge, Row, Unit
from .queries import load_queries
from .rows import clearances, read_label, stored_label

_Q: Final = load_queries("entries")


class PostgresEntries:
    """See `EntryIndex`. The origin's log has to be there before anything is added."""

    def __init__(self, bridge: Bridge, origin: str) -> None:
        self._bridge, self._origin = bridge, origin

    async def size(self) -> int:
        """See `EntryIndex.size`."""
        row = await self._bridge.read(lambda unit: unit.row(_Q["size"], origin=self._origin))
        return 0 if row is None else int(row["size"])

    async def add(self, start: int, stop: int, rows: Sequence[IndexRow]) -> bool:
        """See `EntryIndex.add`."""

        async def work(unit: Unit) -> bool:
            await unit.run(_Q["open_index"], origin=self._origin)
            # First: its row lock makes another replica wait here, which then finds that it is late.
            if await unit.run(_Q["advance"], origin=self._origin, start=start, stop=stop) != 1:
                return False
            if rows:
                await unit.run(_Q["add"], origin=self._origin, **_columns(rows))
            return True

        return await self._bridge.write(work)

    async def places(self, indices: Sequence[int]) -> Mapping[int, tuple[str | None, str | None]]:
        """See `EntryIndex.places`."""
        rows = await self._bridge.read(lambda unit: unit.rows(_Q["places"], origin=self._origin, indices=list(indices)))
        return {row["idx"]: (row["environment"], row["component"]) for row in rows}

    async def find(self, wanted: EntryFilter, viewer: Viewer) -> Sequence[EntryHit]:
        """See `EntryIndex.find`."""
        if not 1 <= wanted.limit <= MAX_PAGE:
            raise ValueError(f"a page has 1 to {MAX_PAGE} entries")
        rows = await self._bridge.read(
            lambda unit: unit.rows(
                _Q["find"],
                origin=self._origin,
                viewer_clearances=clearances(viewer),
                kind=wanted.kind,
                environment=wanted.environment,
                component=wanted.component,
                person=wanted.person,
                since=wanted.since,
                below=wanted.below,
                count=wanted.limit,
            )
        )
        return [_hit(row) for row in rows]


def _columns(rows: Sequence[IndexRow]) -> dict[str, object]:
    return {
        "idx": [row.index for row in rows],
        "labels": [" ".join(stored_label(row.label)) for row in rows],
        "kind": [row.kind for row in rows],
        "at": [row.at for row in rows],
        "environment": [row.environment for row in rows],
        "component": [row.component for row in rows],
        "people": [" ".join(row.people) for row in rows],
    }


def _hit(row: Row) -> EntryHit:
    kept = IndexRow(row["idx"], row["kind"], row["at"], row["environment"], row["component"], tuple(row["people"]), read_label(row))
    return EntryHit(kept, row["body"])
