"""The rows of one log origin in PostgreSQL (`ports.log.LogStore`), and what opens its sealed leaves (`ports.sealed.SealedStore`).

Entries, tiles and checkpoints are inserted and never changed; the head is moved by compare-and-set on its size and root.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from gatekeeper.model.label import Viewer
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.log import Appended, HeadMoved, KeyChangeRow, LogRefused, NewEntry, NewTile, OutcomeUnknown
from gatekeeper.ports.sealed import SealedSlot, StoredSlot
from gatekeeper.tlog.errors import MalformedProof
from gatekeeper.tlog.merkle import EMPTY_ROOT, CompactRange

from .bridge import LOG_GONE, Bridge, Row, Unit
from .queries import load_queries
from .rows import clearances, read_label, stored_label
from .session import Session

T = TypeVar("T")

_Q: Final = load_queries("log")


class PostgresLog:
    """See `LogStore`. `load_head` comes before anything else."""

    def __init__(self, bridge: Bridge, session: Session, origin: str) -> None:
        self._bridge, self._session, self._origin = bridge, session, origin
        self._log: int | None = None
        self._has_turn = False

    async def load_head(self) -> CompactRange:
        """See `LogStore.load_head`; creates the origin's rows where there are none. The stored root must be that of the stored edge."""

        async def work(unit: Unit) -> Row | None:
            await unit.run(_Q["open_log"], origin=self._origin)
            await unit.run(_Q["open_head"], origin=self._origin, edge=CompactRange.empty().encode(), root=EMPTY_ROOT)
            return await unit.row(_Q["head"], origin=self._origin)

        row = await self._read(lambda unit: unit.row(_Q["head"], origin=self._origin))
        if row is None:
            row = await self._bridge.write(work, cause_code=LOG_GONE)
        if row is None:
            raise Unavailable(LOG_GONE, "the log's head cannot be read")
        self._log = row["log"]
        try:
            head = CompactRange.parse(row["edge"])
        except MalformedProof:
            raise LogRefused("log-refused", "the stored head is no compact range") from None
        if head.size != row["size"] or head.root() != row["root"]:
            raise LogRefused("log-refused", "the stored head does not agree with itself")
        return head

    async def lead(self) -> int | None:
        """See `LogStore.lead`."""
        return await self._session.lead(self._id)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """See `LogStore.turn`."""
        async with self._session.turn(self._id):
            self._has_turn = True
            try:
                yield
            finally:
                self._has_turn = False

    async def append_batch(self, old: CompactRange, entries: Sequence[NewEntry], tiles: Sequence[NewTile], new: CompactRange) -> None:
        """See `LogStore.append_batch`."""
        sent = False

        async def work(unit: Unit) -> None:
            nonlocal sent
            # The head first: its row lock makes a second writer wait here, before it has written anything.
            move = _Q["move_head"] if self._has_turn else _Q["await_turn_and_move_head"]
            moved = await unit.run(move, log=self._id, size=new.size, edge=new.encode(), root=new.root(), old_size=old.size, old_root=old.root())
            if moved != 1:
                raise HeadMoved("head-moved", "another writer appended")
            await unit.run(_Q["add_entries"], log=self._id, **_columns(entries))
            for entry in entries:
                for slot in entry.slots:
                    await unit.run(_Q["add_sealed"], log=self._id, idx=entry.index, **_slot_columns(slot))
            if tiles:
                await unit.run(
                    _Q["add_tiles"],
                    log=self._id,
                    level=[tile.level for tile in tiles],
                    n=[tile.n for tile in tiles],
                    data=[tile.data for tile in tiles],
                )
            sent = True

        try:
            await self._bridge.write(work, cause_code=LOG_GONE)
        except Unavailable:
            if sent:
                raise OutcomeUnknown("log-unavailable", "the connection was lost while committing") from None
            raise

    async def find(self, entry_ids: Sequence[str]) -> dict[str, tuple[Appended, bytes]]:
        """See `LogStore.find`."""
        rows = await self._read(lambda unit: unit.rows(_Q["find"], log=self._id, entry_ids=list(entry_ids)))
        return {row["entry_id"]: (Appended(row["idx"], row["leaf_hash"]), row["body"]) for row in rows}

    async def find_sealed(self, entry_ids: Sequence[str], viewer: Viewer) -> dict[str, StoredSlot]:
        """See `SealedStore.find_sealed`."""
        rows = await self._read(
            lambda unit: unit.rows(_Q["find_sealed"], log=self._id, entry_ids=list(entry_ids), viewer_clearances=clearances(viewer))
        )
        return {row["entry_id"]: _stored_slot(row) for row in rows}

    async def read_entries(self, start: int, count: int) -> list[bytes]:
        """See `LogStore.read_entries`."""
        rows = await self._read(lambda unit: unit.rows(_Q["bodies"], log=self._id, start=start, stop=start + count))
        return [row["body"] for row in rows]

    async def newest_of(self, kind: str) -> bytes | None:
        """See `LogStore.newest_of`."""
        row = await self._read(lambda unit: unit.row(_Q["newest_of"], log=self._id, kind=kind))
        return None if row is None else row["body"]

    async def read_leaf_hashes(self, start: int, count: int) -> list[bytes]:
        """See `LogStore.read_leaf_hashes`."""
        rows = await self._read(lambda unit: unit.rows(_Q["leaf_hashes"], log=self._id, start=start, stop=start + count))
        return [row["leaf_hash"] for row in rows]

    async def read_tile(self, level: int, n: int) -> bytes | None:
        """See `LogStore.read_tile`."""
        row = await self._read(lambda unit: unit.row(_Q["tile"], log=self._id, level=level, n=n))
        return None if row is None else row["data"]

    async def save_checkpoint(self, size: int, note: bytes) -> None:
        """See `LogStore.save_checkpoint`: the newest note is a further row, none is changed."""
        await self._bridge.write(lambda unit: unit.run(_Q["add_checkpoint"], log=self._id, size=size, note=note), cause_code=LOG_GONE)

    async def newest_checkpoint(self) -> bytes | None:
        """See `LogStore.newest_checkpoint`."""
        notes = await self.newest_checkpoints(1)
        return notes[0] if notes else None

    async def newest_checkpoints(self, count: int) -> list[bytes]:
        """See `LogStore.newest_checkpoints`."""
        rows = await self._read(lambda unit: unit.rows(_Q["newest_checkpoints"], log=self._id, count=count))
        return [row["note"] for row in rows]

    async def add_key_change(self, entry_id: str, entry: bytes, endorsement: bytes) -> None:
        """See `LogStore.add_key_change`."""
        kept = {"entry_id": entry_id, "entry": entry, "endorsement": endorsement}
        await self._bridge.write(lambda unit: unit.run(_Q["add_key_change"], log=self._id, **kept), cause_code=LOG_GONE)

    async def key_changes(self) -> list[KeyChangeRow]:
        """See `LogStore.key_changes`."""
        rows = await self._read(lambda unit: unit.rows(_Q["key_changes"], log=self._id))
        return [KeyChangeRow(row["entry"], row["endorsement"], row["idx"], row["note"]) for row in rows]

    @property
    def _id(self) -> int:
        if self._log is None:
            raise ValueError("load_head comes first")
        return self._log

    async def _read(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        return await self._bridge.read(work, cause_code=LOG_GONE)


def _slot_columns(slot: SealedSlot) -> dict[str, object]:
    return {
        "slot": slot.slot,
        "label": stored_label(slot.label),
        "entry_id": slot.entry_id,
        "r_enc": slot.r,
        "body_enc": slot.body,
        "private_enc": slot.private,
    }


def _stored_slot(row: Row) -> StoredSlot:
    slot = SealedSlot(row["slot"], row["entry_id"], row["r_enc"], row["body_enc"], row["private_enc"], read_label(row))
    return StoredSlot(row["idx"], slot)


def _columns(entries: Sequence[NewEntry]) -> dict[str, object]:
    return {
        "idx": [entry.index for entry in entries],
        "kind": [entry.kind for entry in entries],
        "entry_id": [entry.entry_id for entry in entries],
        "body": [entry.body for entry in entries],
        "leaf_hash": [entry.leaf_hash for entry in entries],
    }
