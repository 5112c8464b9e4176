"""The `key` entries of one origin: which are standing, how one gets into the log, and the history by which verifiers follow them.

A change is kept with the replaced key's signature before it is appended, so replicas that start together append the same bytes, and a crash in
between is finished by whoever starts next. A row that the replaced key did not sign is passed over, whoever wrote it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from gatekeeper.model.moment import Moment, render_moment
from gatekeeper.ports.log import Appended, KeyChangeRow, LogStore
from gatekeeper.ports.vault import LogVault
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint, open_checkpoint
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.keyhistory import KeyHistory, ShownChange, encode_history
from gatekeeper.tlog.keyring import is_endorsed
from gatekeeper.tlog.kinds import KeyEntry, KeyUse
from gatekeeper.tlog.merkle import nodes_for_consistency, nodes_for_inclusion, prove_consistency, prove_inclusion
from gatekeeper.tlog.proof import TlogProof
from gatekeeper.tlog.signature import VerifierKey, ed25519_vkey, encode_vkey

from .signer import NoteSigner, SigningKey, Succession
from .tree import Published, TreeReader, refused

_logger: Final = logging.getLogger(__name__)


class Append(Protocol):
    """`Log.append`."""

    async def __call__(self, body: bytes, *, entry_id: str, kind: str) -> Appended:
        """See `Log.append`."""
        ...


@dataclass(frozen=True)
class LogRotation:
    """Log keys beside the one that the vault signs with: the next one, and those that signed before it."""

    following: LogVault | None = None
    past: tuple[VerifierKey, ...] = ()

    async def signer(self, origin: str, vault: LogVault, clock: Callable[[], datetime]) -> NoteSigner:
        """Who signs. Asks the vault for each public key, which must be the pinned one; raises `PortError`."""

        async def of(one: LogVault) -> SigningKey:
            return SigningKey(ed25519_vkey(origin, await one.public_key()), one)

        new = None if self.following is None else await of(self.following)
        return NoteSigner(await of(vault), new, past=self.past, clock=clock)


@dataclass(frozen=True)
class KeyWanted:
    """A change that people ordered: of what use, which key follows which, until when both are good."""

    use: KeyUse
    old: str
    new: str
    until: Moment

    def is_of(self, entry: KeyEntry) -> bool:
        """Whether the entry says just that."""
        return (entry.use, entry.old, entry.new, entry.until) == (self.use, self.old, self.new, self.until)


@dataclass(frozen=True)
class _Standing:
    """A change whose endorsement verified."""

    row: KeyChangeRow
    entry: KeyEntry


class KeyChanges:
    """Reads and appends the key changes of one origin."""

    def __init__(self, store: LogStore, reader: TreeReader, signer: NoteSigner) -> None:
        self._store, self._reader, self.signer = store, reader, signer
        self._shown: tuple[bytes, bytes | None] | None = None

    async def start(self, at: datetime) -> None:
        """Let the signer know of a rotation that is under way. Raises `LogRefused` where this replica would sign with the wrong key."""
        mine, new = encode_vkey(self.signer.keys[0]), encode_vkey(self.signer.keys[1]) if len(self.signer.keys) > 1 else None
        for standing in await self._standing():
            entry, index = standing.entry, standing.row.index
            if entry.use is not KeyUse.LOG or index is None:
                continue
            if entry.old == mine and entry.new != new:
                raise refused(f"entry {index} replaces this log key by another one, and the configuration does not name it as the next")
            if entry.new == mine and at < entry.until:
                raise refused(f"the key before this one signs until {render_moment(entry.until)}: keep it as log_key until then, with its order")
            if entry.old == mine:
                self.signer.follow(Succession(index, entry.until))

    async def log(self, made: Callable[[], Awaitable[KeyChangeRow]], wanted: KeyWanted, append: Append) -> Succession:
        """Bring the change into the log, if it is not there: `made` gives entry and endorsement, and is asked only where none is kept yet.

        Raises `PortError`, and what `made` raises; `LogRefused` where another change of the same key stands already.
        """
        standing = await self._same_key(wanted)
        if standing is None:
            row = await made()
            entry = parse_entry(row.entry)
            await self._store.add_key_change(entry.entry_id, row.entry, row.endorsement)
            standing = await self._same_key(wanted)
        if standing is None or not wanted.is_of(standing.entry):
            raise refused("another change of this key stands already: the first one counts; order a change of the key that it names as the new one")
        index = standing.row.index
        if index is None:
            index = (await append(standing.row.entry, entry_id=standing.entry.entry_id, kind=KeyEntry.KIND.value)).index
        succession = Succession(index, standing.entry.until)
        if wanted.use is KeyUse.LOG:
            self.signer.follow(succession)
        return succession

    async def history(self, view: Published) -> bytes | None:
        """The document of `tlog.keyhistory` against a published checkpoint; None where no change is below it."""
        if self._shown is None or self._shown[0] != view.note:
            shown = [await self._change(view, standing) for standing in await self._standing()]
            changes = tuple(change for change in shown if change is not None)
            self._shown = view.note, encode_history(KeyHistory(view.note, changes)) if changes else None
        return self._shown[1]

    async def _same_key(self, wanted: KeyWanted) -> _Standing | None:
        found = [one for one in await self._standing() if (one.entry.use, one.entry.old) == (wanted.use, wanted.old)]
        return found[0] if found else None

    async def _standing(self) -> list[_Standing]:
        standing = []
        for row in await self._store.key_changes():
            try:
                entry = parse_entry(row.entry)
                endorsed = isinstance(entry, KeyEntry) and entry.origin == self.signer.name and is_endorsed(entry, row.entry, row.endorsement)
            except TlogError:
                endorsed = False
            if endorsed and isinstance(entry, KeyEntry):
                standing.append(_Standing(row, entry))
            else:
                _logger.critical("ALARM: a row that tells of a key change is not signed by the key that it replaces")
        return standing

    async def _change(self, view: Published, standing: _Standing) -> ShownChange | None:
        row, index = standing.row, standing.row.index
        if index is None or row.note is None:
            return None
        under = self._opened(row.note)
        if not index < under.size <= view.size:
            return None
        wanted = nodes_for_inclusion(index, under.size) | nodes_for_consistency(under.size, view.size)
        nodes = await self._reader.nodes(view.edge, wanted)

        def node(level: int, n: int) -> bytes:
            return nodes[level, n]

        proof = TlogProof(index, tuple(prove_inclusion(index, under.size, node)), row.note)
        return ShownChange(row.entry, row.endorsement, proof, tuple(prove_consistency(under.size, view.size, node)))

    def _opened(self, note: bytes) -> VerifiedCheckpoint:
        try:
            return open_checkpoint(note, *self.signer.keys)
        except TlogError:
            raise refused("a stored checkpoint does not verify under the log's keys") from None
