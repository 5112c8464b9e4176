"""One queue of entries, one writer task, one publishing task for one origin.

Replicas may run side by side: appends meet at the database head's compare-and-set, and only the leader publishes. What is in memory is
either committed or thrown away: after any doubt the head is loaded again and entries are looked up by their id.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Final

import trio

from gatekeeper.ports.errors import PortError, Rejected, Unavailable
from gatekeeper.ports.log import (
    AheadOfLog,
    Appended,
    EntryConflict,
    HeadMoved,
    Inclusion,
    KeyChangeRow,
    LogFull,
    LogRefused,
    LogStore,
    NewEntry,
    NewTile,
    OutcomeUnknown,
)
from gatekeeper.ports.vault import LogVault
from gatekeeper.tlog.consistency import Growth, encode_growth
from gatekeeper.tlog.entry import encode_entry, parse_entry
from gatekeeper.tlog.keyhistory import KeyHistory, encode_history
from gatekeeper.tlog.kinds import OriginEntry
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.merkle import (
    Node,
    leaf_hash,
    nodes_for_consistency,
    nodes_for_inclusion,
    prove_consistency,
    prove_inclusion,
)
from gatekeeper.tlog.proof import TlogProof, encode_proof
from gatekeeper.tlog.signature import VerifierKey
from gatekeeper.tlog.tile import MAX_ENTRY, TILE_WIDTH, TileEdge

from .keychanges import KeyChanges, KeyWanted, LogRotation
from .publisher import Publisher
from .signer import Succession
from .tree import Published, TreeReader, refused
from .witnessing import Witnessed, Witnessing, WitnessPlan

LOG_GONE: Final = "log-unavailable"
QUEUE: Final = 4096
BATCH_ENTRIES: Final = 512
BATCH_BYTES: Final = 4 * 1024 * 1024
ATTEMPTS: Final = 5
"""How often a batch is tried before its callers are told that durability cannot be had."""
PAUSE_S: Final = 0.1
CLOCK_S: Final = 0.5
"""The publication clock; also how often a leader looks for what other replicas appended."""
FOLLOW_S: Final = 0.1
"""How often a follower, of whom a proof is wanted, looks for what the leader published."""
COALESCE_S: Final = 0.02
PROVE_S: Final = 10.0
LATE: Final = timedelta(seconds=60)
"""An unpublished entry this long after the newest checkpoint is an alarm."""

_ENTRY_ID = re.compile(r"[0-9a-f]{32}")
_KIND = re.compile(r"[a-z][a-z-]{0,31}")
_logger = logging.getLogger(__name__)


class _Waiting:
    """An entry on its way and the caller who waits for it."""

    def __init__(self, body: bytes, entry_id: str, kind: str) -> None:
        self.body, self.entry_id, self.kind = body, entry_id, kind
        self._done = trio.Event()
        self._outcome: Appended | PortError | None = None

    def answer(self, outcome: Appended | PortError) -> None:
        self._outcome = self._outcome or outcome
        self._done.set()

    async def outcome(self) -> Appended:
        await self._done.wait()
        match self._outcome:
            case Appended():
                return self._outcome
            case PortError():
                raise self._outcome
            case None:
                raise AssertionError("an entry was answered with nothing")


class Sequencer:
    """`ports.log.Log` over a `LogStore` and a `LogVault`. Nothing works before `run` has started."""

    def __init__(
        self,
        store: LogStore,
        vault: LogVault,
        *,
        opening: OriginEntry,
        clock: Callable[[], datetime],
        witnesses: WitnessPlan | None = None,
        rotation: LogRotation | None = None,
    ) -> None:
        """`opening` becomes entry 0 of an empty log; its origin is ours. `clock` gives aware times. Without witnesses none are asked for.

        `rotation`: keys beside the vault's.
        """
        self._store, self._vault, self._opening, self._clock = store, vault, opening, clock
        self._reader, self._rotation = TreeReader(store), rotation or LogRotation()
        self._send, self._receive = trio.open_memory_channel[_Waiting](QUEUE)
        self._waiting: set[_Waiting] = set()
        # Durable as far as this replica knows; only ever grows. `_sure` is false after any doubt about the last commit.
        self._edge = TileEdge()
        self._sure = False
        # When this replica knew an entry again that was not published; what was published since is told by its own time.
        self._behind_since: datetime | None = None
        self._refreshing = trio.Lock()
        self._plan = witnesses
        self._witnessing: Witnessing | None = None
        self._publisher: Publisher | None = None
        self._keys: KeyChanges | None = None
        self._wanted = trio.Event()
        self._turned = trio.Event()
        self._proving = 0
        self._refusal: str | None = "the sequencer is not running"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check the log, open it where it is empty, then write and publish until cancelled.

        Raises `LogRefused` where the checks of "Start" fail and `Unavailable` where they cannot be made: then nothing was signed or
        written. A contradiction that shows later stops all writing and publishing, logs it and shows in `alarm`; reading goes on.
        """
        await self._start()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._publish)
                task_status.started()
        finally:
            self._refuse("the sequencer is not running")

    async def append(self, body: bytes, *, entry_id: str, kind: str) -> Appended:
        """See `Log.append`. Bytes, id or kind of a wrong form are bugs and raise ValueError."""
        if not 1 <= len(body) <= MAX_ENTRY or not _ENTRY_ID.fullmatch(entry_id) or not _KIND.fullmatch(kind):
            raise ValueError("an entry has 1 to 65535 bytes, an id of 32 hex digits and a kind")
        self._raise_refusal()
        waiting = _Waiting(body, entry_id, kind)
        try:
            self._send.send_nowait(waiting)
        except trio.WouldBlock:
            raise LogFull from None
        self._waiting.add(waiting)
        try:
            return await waiting.outcome()
        finally:
            self._waiting.discard(waiting)

    async def prove(self, index: int, *, old_size: int = 0, also: Sequence[int] = (), with_keys: bool = False) -> Inclusion:
        """See `Log.prove`. Negative numbers are bugs and raise ValueError."""
        if min(index, old_size, *also) < 0:
            raise ValueError("an index and a size are not negative")
        view = await self._covering(max(index + 1, min(old_size, self._edge.size), *(other + 1 for other in also)))
        if old_size > view.size:
            raise AheadOfLog("ahead-of-log", f"size {old_size} was never published here")
        wanted: frozenset[Node] = nodes_for_inclusion(index, view.size)
        for other in also:
            wanted |= nodes_for_inclusion(other, view.size)
        if old_size:
            wanted |= nodes_for_consistency(old_size, view.size)
        nodes = await self._reader.nodes(view.edge, wanted)

        def node(level: int, n: int) -> bytes:
            return nodes[level, n]

        growth = prove_consistency(old_size, view.size, node) if old_size else ()
        return Inclusion(
            proof=encode_proof(TlogProof(index, prove_inclusion(index, view.size, node), view.note)),
            growth=encode_growth(Growth(old_size, growth, view.note)),
            size=view.size,
            also=tuple(encode_proof(TlogProof(other, prove_inclusion(other, view.size, node), view.note)) for other in also),
            keys=await self._keys.history(view) if with_keys and self._keys is not None else None,
        )

    async def key_history(self) -> bytes | None:
        """The log's `key` entries against the newest published checkpoint (`tlog.keyhistory`); None while nothing is published."""
        view = self.published()
        if view is None or self._keys is None:
            return None
        return await self._keys.history(view) or encode_history(KeyHistory(view.note, ()))

    def newest_key(self) -> VerifierKey | None:
        """The log key to install verifiers with today; None before `run` has started."""
        return None if self._keys is None else self._keys.signer.newest

    async def log_key_change(self, made: Callable[[], Awaitable[KeyChangeRow]], wanted: KeyWanted) -> Succession:
        """See `KeyChanges.log`; entries go through this sequencer."""
        if self._keys is None:
            raise self._unavailable()
        return await self._keys.log(made, wanted, self.append)

    def published(self) -> Published | None:
        """The newest published checkpoint; None before the first."""
        return None if self._publisher is None else self._publisher.published

    async def tile(self, level: int, n: int, width: int = TILE_WIDTH) -> bytes | None:
        """A tile's first `width` hashes, or None (404) where the published tree has not so many."""
        view = self.published()
        return None if view is None else await self._reader.tile(view.edge, level, n, width)

    async def entries(self, n: int, width: int = TILE_WIDTH) -> bytes | None:
        """An entry bundle's first `width` entries, or None (404) where the published tree has not so many."""
        view = self.published()
        return None if view is None else await self._reader.bundle(view.edge, n, width)

    def alarm(self) -> str | None:
        """What an operator must look at, if anything: a refusal, or entries that stay unpublished for more than a minute."""
        return "the newest checkpoint is older than 60 seconds" if self.late() else self._refusal

    def late(self) -> bool:
        """Whether entries stay unpublished for more than a minute, though nothing was refused."""
        view = self.published()
        if self._refusal is not None or self._behind_since is None or (view is not None and self._edge.size <= view.size):
            return False
        # A quiet log's checkpoint may be ten minutes old when an entry comes: it is late a minute after the entry.
        since = self._behind_since if view is None else max(view.at, self._behind_since)
        return self._clock() - since > LATE

    def witnessed(self) -> Witnessed:
        """How the newest checkpoint stands with its witnesses."""
        if self._publisher is None or self._witnessing is None:
            return Witnessed()
        return Witnessed(
            quorum_missing=self._publisher.quorum_missing,
            published_open=self._publisher.open,
            fail_open=self._witnessing.fail_open,
            troubles=self._witnessing.troubles(),
        )

    def publish_without_quorum(self) -> None:
        """From now on, as the log's own `witness-change` entry says: a checkpoint that too few witnesses cosigned is published all the same."""
        if self._witnessing is None:
            raise ValueError("the sequencer has not started")
        self._witnessing.fail_open = True

    async def _start(self) -> None:
        signer = await self._rotation.signer(self._opening.origin, self._vault, self._clock)
        self._keys = KeyChanges(self._store, self._reader, signer)
        self._witnessing = Witnessing(self._plan or WitnessPlan(LogPolicy(log=signer.newest)), self._reader)
        publisher = Publisher(self._store, self._vault, self._reader, signer, self._clock, self._witnessing)
        await self._store.load_head()  # opens the origin's rows
        await self._keys.start(self._clock())
        _, stored = await publisher.verify_heads()
        if stored is not None:
            self._edge = stored.edge
        await self._refresh()
        if not self._edge.size:
            await self._open()
        first = await self._store.read_entries(0, 1)
        entry = parse_entry(first[0]) if first else None
        if not isinstance(entry, OriginEntry) or entry.origin != self._opening.origin:
            raise refused("entry 0 does not open this origin")
        self._publisher, self._refusal = publisher, None

    async def _open(self) -> None:
        opening = _Waiting(encode_entry(self._opening), self._opening.entry_id, OriginEntry.KIND.value)
        try:
            await self._append(((opening,),))
        except (HeadMoved, OutcomeUnknown):
            # Ours or another replica's stands there now, or none does: the database knows.
            await self._refresh()
            if not self._edge.size:
                raise self._unavailable() from None

    async def _write(self) -> None:
        held: _Waiting | None = None
        while True:
            batch = [held or await self._receive.receive()]
            size, held = len(batch[0].body), None
            # What waits goes along; nobody is waited for: the next batch gathers while this one commits.
            while len(batch) < BATCH_ENTRIES:
                try:
                    item = self._receive.receive_nowait()
                except trio.WouldBlock:
                    break
                size += len(item.body)
                if size > BATCH_BYTES:
                    held = item
                    break
                batch.append(item)
            try:
                for part in _without_doubles(batch):
                    await self._commit(part)
            except LogRefused as error:
                self._stop(error)
                return

    async def _commit(self, left: dict[str, list[_Waiting]]) -> None:
        """Make the entries durable and answer each, or answer `Unavailable`. Never answers with an index that was not read or committed."""
        turn: AbstractAsyncContextManager[None] = nullcontext()
        for attempt in range(ATTEMPTS):
            try:
                async with turn:
                    if not self._sure:
                        await self._refresh()
                        left = await self._without_known(left)
                    if left:
                        await self._append(tuple(left.values()))
                    self._sure = True
                    return
            except HeadMoved:
                self._sure, turn = False, self._store.turn()
            except (OutcomeUnknown, Rejected):
                # Rejected: an id that is in the log already, which the look-up answers.
                self._sure, turn = False, nullcontext()
            except Unavailable:
                self._sure, turn = False, nullcontext()
                await trio.sleep(PAUSE_S * 2**attempt)
        for items in left.values():
            _answer(items, self._unavailable())

    async def _append(self, groups: Sequence[Sequence[_Waiting]]) -> None:
        old = self._edge
        leaves = [leaf_hash(items[0].body) for items in groups]
        new, full = old.extend(leaves)
        entries = [
            NewEntry(old.size + nr, items[0].entry_id, items[0].kind, items[0].body, leaf)
            for nr, (items, leaf) in enumerate(zip(groups, leaves, strict=True))
        ]
        tiles = [NewTile(tile.address.level or 0, tile.address.n, tile.data) for tile in full]
        # A crash before COMMIT leaves nothing; after it, everything, and the callers find it by their entry_id.
        await self._store.append_batch(old.range(), entries, tiles, new.range())
        self._grown(new)
        for items, entry in zip(groups, entries, strict=True):
            _answer(items, Appended(entry.index, entry.leaf_hash))

    async def _without_known(self, left: Mapping[str, list[_Waiting]]) -> dict[str, list[_Waiting]]:
        known = await self._store.find(list(left))
        for entry_id, (where, body) in known.items():
            if body == left[entry_id][0].body:
                _answer(left[entry_id], where)
            else:
                _logger.critical("entry %s was appended again with other bytes", entry_id)
                _answer(left[entry_id], EntryConflict("entry-conflict", "this entry id stands in the log with other bytes"))
        return {entry_id: items for entry_id, items in left.items() if entry_id not in known}

    async def _refresh(self) -> None:
        """Catch up with the database's head, which must extend what this replica knows to be durable."""
        async with self._refreshing:
            known = self._edge
            head = await self._store.load_head()
            if head.size < known.size:
                raise refused("the database's head has shrunk")
            # From the rows and not from the head's own word: whoever changed one must have changed all.
            edge = await self._reader.advance(known, head.size)
            if edge.range() != head:
                raise refused("the database's head is not the root of its rows")
            self._grown(edge)

    def _grown(self, edge: TileEdge) -> None:
        if edge.size > self._edge.size:
            view = self.published()
            if self._behind_since is None or (view is not None and self._edge.size <= view.size):
                self._behind_since = self._clock()
            self._edge = edge

    async def _publish(self) -> None:
        hurried, told = False, ""
        while self._refusal is None and self._publisher is not None:
            try:
                if not hurried:
                    await self._refresh()
                await self._publisher.turn(self._edge)
                told = ""
            except LogRefused as error:
                self._stop(error)
                return
            except PortError as error:
                if error.cause_code != told:
                    _logger.warning("nothing is published: %s", error.cause_code)
                told = error.cause_code
                await trio.sleep(PAUSE_S)
            self._turned.set()
            self._turned = trio.Event()
            with trio.move_on_after(FOLLOW_S if self._proving and not self._publisher.leading else CLOCK_S):
                await self._wanted.wait()
                await trio.sleep(COALESCE_S)
            hurried, self._wanted = self._wanted.is_set(), trio.Event()

    async def _covering(self, size: int) -> Published:
        deadline = trio.current_time() + PROVE_S
        self._proving += 1
        try:
            while (view := self.published()) is None or view.size < size:
                self._raise_refusal()
                if trio.current_time() >= deadline:
                    raise self._unavailable()
                if self._edge.size >= size and self._publisher is not None and self._publisher.leading:
                    # It is here and ours to publish, so it need not wait for the clock.
                    self._wanted.set()
                turned = self._turned
                with trio.move_on_at(deadline):
                    await turned.wait()
        finally:
            self._proving -= 1
        return view

    def _stop(self, error: LogRefused) -> None:
        _logger.critical("the log is stopped: %s", error.detail)
        self._refuse(error.detail)

    def _refuse(self, reason: str) -> None:
        self._refusal = reason
        # Nobody may wait for a writer that has ended. What was being committed may stand in the log: its id tells.
        for waiting in self._waiting:
            waiting.answer(self._unavailable())
        self._turned.set()

    def _raise_refusal(self) -> None:
        if self._refusal is not None:
            raise self._unavailable()

    def _unavailable(self) -> Unavailable:
        return Unavailable(LOG_GONE, self._refusal or "the log is not durable or not published in time")


def _without_doubles(batch: Sequence[_Waiting]) -> list[dict[str, list[_Waiting]]]:
    """The batch by entry id. Other bytes under an id of this batch come in a batch after it, where the look-up tells the conflict."""
    parts: list[dict[str, list[_Waiting]]] = []
    for item in batch:
        for part in parts:
            items = part.setdefault(item.entry_id, [])
            if not items or items[0].body == item.body:
                items.append(item)
                break
        else:
            parts.append({item.entry_id: [item]})
    return parts


def _answer(items: Sequence[_Waiting], outcome: Appended | PortError) -> None:
    for item in items:
        item.answer(outcome)


