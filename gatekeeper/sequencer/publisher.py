"""Publication: signed checkpoints in an order that a crash at any line leaves consistent (log format, section 6).

1. Tiles are durable: full ones were committed with their entries, partial ones are functions of durable leaf hashes.
2. Sign and verify. A crash here: a signature that nobody saw, over a tree that is durable.
3. Store the note. A crash here: the next start finds it ahead of the vault's head and finishes step 4 with the same note.
4. Keep it in the vault under `cas`. A crash here: the note is in both places; the next start has it cosigned.
5. Have it cosigned, and store it with its cosignatures. A crash here: the next start asks again, or finds them.
6. Publish, where the quorum of the log policy is met: from now on it is served and proofs are made against it.

The vault keeps the note as it was signed: it locks what was signed, before any witness sees it, and one write a checkpoint is enough. The
stored note of a size that has cosignatures is the one that replicas which do not lead publish. Nothing newer is signed while a note waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.log import LogStore
from gatekeeper.ports.vault import CasMismatch, HeadRecord, LogVault
from gatekeeper.tlog.checkpoint import Checkpoint, VerifiedCheckpoint, encode_checkpoint, open_checkpoint
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.note import Note, encode_note, parse_note
from gatekeeper.tlog.origins import encode_edge, origin_of_note
from gatekeeper.tlog.tile import TileEdge

from .signer import NoteSigner
from .tree import Published, TreeReader, refused
from .witnessing import WitnessAhead, Witnessing

REPUBLISH: Final = timedelta(minutes=10)
NOTES: Final = 16
"""How many of the newest stored notes are looked through for one that the quorum cosigned."""
FOLLOW_OPEN: Final = timedelta(seconds=2)
"""While publication is open without a quorum, a replica that follows gives a note this long to be cosigned."""


@dataclass(frozen=True)
class _Pending:
    """A stored note that is not through all steps yet."""

    tree: Published
    kept: bool = False
    """whether the vault has it"""
    unsure: bool = False
    """whether an attempt to write it there had an unknown outcome"""
    shown: bool = False
    """whether it is published although too few witnesses cosigned it"""


class Publisher:
    """Signs and publishes as the leader, or follows what the leader published. Used by one task at a time."""

    def __init__(
        self,
        store: LogStore,
        vault: LogVault,
        reader: TreeReader,
        signer: NoteSigner,
        clock: Callable[[], datetime],
        witnessing: Witnessing,
    ) -> None:
        self._store, self._vault, self._reader, self._signer, self._clock = store, vault, reader, signer, clock
        self._witnessing = witnessing
        self.published: Published | None = None
        self.open = False
        """whether a note is published although too few witnesses cosigned it"""
        self._term: int | None = None
        self._head: HeadRecord | None = None
        # Nothing newer is signed before this is settled.
        self._pending: _Pending | None = None
        # As a follower: the vault's head as it was seen last.
        self._seen: Published | None = None

    @property
    def leading(self) -> bool:
        """Whether this replica publishes; false while another one does."""
        return self._term is not None

    @property
    def quorum_missing(self) -> bool:
        """Whether the newest note that this replica knows has too few cosignatures."""
        newest = self.published if self._pending is None else self._pending.tree
        return newest is not None and not self._witnessing.met(newest.note)

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
            self._pending = _Pending(Published(note, edge.size, self._clock(), edge))
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
        self._head, self._pending, self._seen = record, None, None
        if record is not None:
            self._advance(await self._newest_cosigned(self._opened(record.note).size))
        if stored is not None and (self.published is None or self.open or not _same(stored.note, self.published.note)):
            # A crash after step 3 or 4: the same note goes on, nothing is signed anew.
            self._pending = _Pending(stored, kept=record is not None and _same(record.note, stored.note))
        self._term = term

    def _is_due(self, edge: TileEdge) -> bool:
        if self.published is None:
            return edge.size > 0
        return edge.size > self.published.size or self._clock() - self.published.at >= REPUBLISH

    async def _signed(self, edge: TileEdge) -> bytes:
        text = encode_checkpoint(Checkpoint(self._signer.name, edge.size, edge.root()))
        published = 0 if self.published is None else self.published.size
        note = encode_note(Note(text, await self._signer.sign(text, size=edge.size, published=published)))
        self._opened(note)
        return note

    async def _settle(self) -> None:
        """Steps 4 to 6 for the pending note."""
        if self._pending is not None and not self._pending.kept:
            await self._keep(self._pending)
        if self._pending is not None:
            await self._have_cosigned(self._pending)

    async def _keep(self, pending: _Pending) -> None:
        before, note = self._head, pending.tree.note
        if pending.unsure:
            record = await self._vault.read_head()
            if record != before:
                self._is_kept(pending, record)
                return
        self._pending = replace(pending, unsure=True)
        try:
            edge = encode_edge(pending.tree.edge)
            version = await self._vault.write_head(note, cas=0 if before is None else before.version, edge=edge)
        except CasMismatch:
            if not pending.unsure:
                raise refused("another writer has moved the vault's head") from None
            self._is_kept(pending, await self._vault.read_head())
        else:
            self._is_kept(pending, HeadRecord(note, version))

    def _is_kept(self, pending: _Pending, record: HeadRecord | None) -> None:
        if record is None or record.note != pending.tree.note:
            raise refused("another writer has moved the vault's head")
        self._head, self._pending = record, replace(pending, kept=True, unsure=False)

    async def _have_cosigned(self, pending: _Pending) -> None:
        tree = pending.tree
        try:
            note = await self._witnessing.cosign(tree.edge, tree.note)
        except WitnessAhead as ahead:
            # What the vault was given first, another replica of ours may have shown to the witness; then it leads, and this one does not.
            record = await self._vault.read_head()
            if record is None or self._opened(record.note).size < ahead.size:
                raise
            raise Unavailable("witness-ahead", "another replica has gone on") from None
        if note != tree.note:
            await self._store.save_checkpoint(tree.size, note)
        met = self._witnessing.met(note)
        if not met and pending.shown and note == tree.note:
            return
        tree = replace(tree, note=note, at=self._clock())
        self._pending = None if met else replace(pending, tree=tree, shown=self._witnessing.fail_open)
        if not met and not self._witnessing.fail_open:
            raise Unavailable("witness-quorum", "too few witnesses cosign")
        self.published, self.open = tree, not met

    def _advance(self, cosigned: Published | None) -> None:
        if cosigned is not None and (self.published is None or cosigned.size >= self.published.size):
            self.published, self.open = cosigned, False

    async def _newest_cosigned(self, size: int) -> Published | None:
        """The newest stored note that the quorum cosigned, not beyond `size`, which the vault was given."""
        for note in await self._store.newest_checkpoints(NOTES):
            opened = self._opened(note)
            if self.published is not None and note == self.published.note and not self.open:
                return self.published
            if opened.size <= size and self._witnessing.met(note):
                edge = await self._reader.rebuild(opened.size)
                if edge.root() != opened.root:
                    raise refused("a signed note is of another tree than the database's")
                return Published(note, opened.size, self._clock(), edge)
        return None

    async def _follow(self) -> None:
        record = await self._vault.read_head()
        if record is None:
            return
        seen = await self._looked_at(record)
        newest = await self._newest_cosigned(seen.size)
        self._advance(newest)
        if self._witnessing.fail_open and self._clock() - seen.at >= FOLLOW_OPEN and (newest is None or newest.size < seen.size):
            self.published, self.open = seen, True

    async def _looked_at(self, record: HeadRecord) -> Published:
        """The vault's head, checked against the rows each time that it has changed."""
        seen = self._seen or self.published
        if self._seen is not None and record.note == self._seen.note:
            return self._seen
        kept = self._opened(record.note)
        if seen is not None and kept.size < seen.size:
            raise refused("the vault's head has shrunk")
        edge = await (self._reader.rebuild(kept.size) if seen is None else self._reader.advance(seen.edge, kept.size))
        if edge.root() != kept.root:
            raise refused("the vault's head is of another tree")
        self._seen = Published(record.note, kept.size, self._clock(), edge)
        return self._seen

    async def _compare(self, edge: TileEdge, note: VerifiedCheckpoint) -> None:
        if await self._reader.root_at(edge, note.size) != note.root:
            raise refused("a signed note is of another tree than the database's")

    def _opened(self, note: bytes) -> VerifiedCheckpoint:
        try:
            return open_checkpoint(note, *self._signer.keys)
        except TlogError:
            raise refused(_doubt(note, self._signer.name)) from None


def _doubt(note: bytes, ours: str) -> str:
    try:
        origin = origin_of_note(note)
    except TlogError:
        origin = ours
    if origin != ours:
        return f"the vault's head is of the origin {origin} and not of {ours}: one of them was closed"
    return "a checkpoint does not verify under the log's key"


def _same(one: bytes, other: bytes) -> bool:
    """Whether two signed notes say the same, whoever signed and cosigned them."""
    return parse_note(one).text == parse_note(other).text
