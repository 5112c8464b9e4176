"""Publication: signed checkpoints in an order that a crash at any line leaves consistent (log format, section 6).

1. Tiles are durable: full ones were committed with their entries, partial ones are functions of durable leaf hashes.
2. Sign and verify. A crash here: a signature that nobody saw, over a tree that is durable.
3. Store the note. A crash here: the next start finds it ahead of the vault's head and finishes step 4 with the same note.
4. Keep it in the vault under `cas`. A crash here: the note is in both places; the next start serves it.
5. Publish: from now on it is served and proofs are made against it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from gatekeeper.ports.log import LogStore
from gatekeeper.ports.vault import CasMismatch, HeadRecord, LogVault
from gatekeeper.tlog.checkpoint import Checkpoint, VerifiedCheckpoint, encode_checkpoint, open_checkpoint
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.note import Note, encode_note
from gatekeeper.tlog.signature import NoteSignature, VerifierKey
from gatekeeper.tlog.tile import TileEdge

from .tree import Published, TreeReader, refused

REPUBLISH: Final = timedelta(minutes=10)


class Publisher:
    """Signs and publishes as the leader, or follows what the leader published. Used by one task at a time."""

    def __init__(self, store: LogStore, vault: LogVault, reader: TreeReader, key: VerifierKey, clock: Callable[[], datetime]) -> None:
        self._store, self._vault, self._reader, self._key, self._clock = store, vault, reader, key, clock
        self.published: Published | None = None
        self._term: int | None = None
        self._head: HeadRecord | None = None
        # A stored note that is not known to be in the vault. Nothing newer is signed before that is settled.
        self._pending: Published | None = None
        self._unsure = False

    @property
    def leading(self) -> bool:
        """Whether this replica publishes; false while another one does."""
        return self._term is not None

    async def turn(self, edge: TileEdge) -> None:
        """Publish this durable tree if it is time and we lead, else look at what the leader published.

        Raises `Unavailable` (nothing is lost: the next turn goes on) and `LogRefused` (stop: something signed, stored or kept disagrees).
        """
        term = await self._store.lead()
        if term is None:
            self._term = None
            await self._follow()
            return
        if term != self._term:
            await self._take_over(term)
        await self._settle()
        if self._is_due(edge):
            note = await self._signed(edge)
            await self._store.save_checkpoint(edge.size, note)
            self._pending, self._unsure = Published(note, edge.size, self._clock(), edge), False
            await self._settle()

    async def verify_heads(self) -> tuple[HeadRecord | None, Published | None]:
        """The checks of "Start": vault's head <= stored note <= database's head, each a prefix of the next, and the edge is the tree's.

        The vault is read first and the database last: while another replica publishes, the later one can only be larger.
        """
        record = await self._vault.read_head()
        stored = await self._store.newest_checkpoint()
        head = await self._store.load_head()
        edge = await self._reader.rebuild(head.size)
        if edge.range() != head:
            raise refused("the database's head is not the root of its tiles")
        newest = None if stored is None else self._opened(stored)
        if record is not None:
            kept = self._opened(record.note)
            if newest is None or kept.size > newest.size:
                raise refused("the vault's head is ahead of the database: the database was rewound")
            await self._compare(edge, kept)
        if stored is None or newest is None:
            return record, None
        await self._compare(edge, newest)
        return record, Published(stored, newest.size, self._clock(), await self._reader.rebuild(newest.size))

    async def _take_over(self, term: int) -> None:
        record, stored = await self.verify_heads()
        self._head, self._pending, self._unsure = record, None, False
        if stored is not None and record is not None and record.note == stored.note:
            self.published = stored
        else:
            # A crash between steps 3 and 4: the same note goes on, nothing is signed anew.
            self._pending = stored
        self._term = term

    def _is_due(self, edge: TileEdge) -> bool:
        if self.published is None:
            return edge.size > 0
        return edge.size > self.published.size or self._clock() - self.published.at >= REPUBLISH

    async def _signed(self, edge: TileEdge) -> bytes:
        text = encode_checkpoint(Checkpoint(self._key.name, edge.size, edge.root()))
        signature = await self._vault.sign(text)
        note = encode_note(Note(text, (NoteSignature(self._key.name, self._key.key_id, signature),)))
        self._opened(note)
        return note

    async def _settle(self) -> None:
        """Step 4 and 5 for the pending note."""
        pending, before = self._pending, self._head
        if pending is None:
            return
        again = self._unsure
        if again:
            record = await self._vault.read_head()
            if record != before:
                self._kept(pending, record)
                return
        self._unsure = True
        try:
            version = await self._vault.write_head(pending.note, cas=0 if before is None else before.version)
        except CasMismatch:
            if not again:
                raise refused("another writer has moved the vault's head") from None
            self._kept(pending, await self._vault.read_head())
        else:
            self._kept(pending, HeadRecord(pending.note, version))

    def _kept(self, pending: Published, record: HeadRecord | None) -> None:
        if record is None or record.note != pending.note:
            raise refused("another writer has moved the vault's head")
        self._head, self._pending, self._unsure = record, None, False
        self.published = pending

    async def _follow(self) -> None:
        record = await self._vault.read_head()
        known = self.published
        if record is None or (known is not None and record.note == known.note):
            return
        kept = self._opened(record.note)
        if known is not None and kept.size < known.size:
            raise refused("the vault's head has shrunk")
        edge = await self._reader.advance(TileEdge() if known is None else known.edge, kept.size)
        if edge.root() != kept.root:
            raise refused("the vault's head is of another tree")
        self.published = Published(record.note, kept.size, self._clock(), edge)

    async def _compare(self, edge: TileEdge, note: VerifiedCheckpoint) -> None:
        if await self._reader.root_at(edge, note.size) != note.root:
            raise refused("a signed note is of another tree than the database's")

    def _opened(self, note: bytes) -> VerifiedCheckpoint:
        try:
            return open_checkpoint(note, self._key)
        except TlogError:
            raise refused("a checkpoint does not verify under the log's key") from None
