"""The transparency log, as its writers and its storage see it (log format, section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from gatekeeper.tlog.merkle import CompactRange

from .errors import PortError
from .sealed import SealedSlot


class LogFull(PortError):
    """The sequencer's queue is full; try again after `retry_after_s` seconds (503 for callers)."""

    def __init__(self, retry_after_s: int = 1) -> None:
        super().__init__("log-full", "the log's queue is full")
        self.retry_after_s = retry_after_s


class HeadMoved(PortError):
    """Another writer appended: the size is not the one the batch was made for. Drop memory, load the head again."""


class OutcomeUnknown(PortError):
    """The connection was lost while committing. Look the entries up by `entry_id` before anything else."""


class EntryConflict(PortError):
    """An `entry_id` exists with other bytes: an alarm, never a retry."""


class AheadOfLog(PortError):
    """A caller remembers a larger size than was ever published here: a fork or a rewind is to be looked into, never to be proven away."""


class LogRefused(PortError):
    """Database, vault and signed notes of the log contradict each other. Nothing is signed until a person has looked into it."""


@dataclass(frozen=True)
class Appended:
    """Where an entry stands, durable when this value exists."""

    index: int
    leaf_hash: bytes


@dataclass(frozen=True)
class Inclusion:
    """A fresh proof for one entry and the growth from what a target remembers, both against one published checkpoint."""

    proof: bytes
    """a `.tlog-proof`"""
    growth: bytes
    """`old N`, consistency hashes, blank line, checkpoint (log format, 1.6)"""
    size: int
    also: tuple[bytes, ...] = ()
    """a `.tlog-proof` for each further entry that was asked for, against the same checkpoint"""
    keys: bytes | None = None
    """the log's `key` entries (`tlog.keyhistory`) against the same checkpoint; None where there are none, or where they were not asked for"""


class Log(Protocol):
    """What use cases ask of the sequencer. Safe for concurrent use."""

    async def append(self, body: bytes, *, entry_id: str, kind: str) -> Appended:
        """Append canonical entry bytes; returns when they are durable.

        Idempotent by `entry_id`: the same bytes give the first index again; other bytes raise `EntryConflict`.
        Raises `LogFull`, and `Unavailable("log-unavailable")` when durability cannot be had.
        """
        ...

    async def prove(self, index: int, *, old_size: int = 0, also: Sequence[int] = (), with_keys: bool = False) -> Inclusion:
        """Wait until a published checkpoint covers `index` and prove inclusion in it, and consistency from `old_size` (0: none).

        `also` are further indices, proven against that same checkpoint; `with_keys` asks for the history of the log's keys too.

        Raises `Unavailable("log-unavailable")` when nothing is published within the sequencer's bound, and `AheadOfLog` where `old_size`
        is larger than what is published.
        """
        ...


@dataclass(frozen=True)
class NewEntry:
    """One row of `log_entry`."""

    index: int
    entry_id: str
    kind: str
    body: bytes
    leaf_hash: bytes
    slots: tuple[SealedSlot, ...] = ()
    """what opens a sealed leaf: durable with it, or neither is"""

    def __post_init__(self) -> None:
        """Refuse a sealed decision that everybody could read: a bug."""
        if not all(slot.label for slot in self.slots):
            raise ValueError("what is sealed has a label")


@dataclass(frozen=True)
class NewTile:
    """One full tile: 256 hashes."""

    level: int
    n: int
    data: bytes


@dataclass(frozen=True)
class KeyChangeRow:
    """A `key` entry with the replaced key's signature of it; nothing of it is believed before that signature has verified."""

    entry: bytes
    endorsement: bytes
    index: int | None = None
    """None: not in the log yet"""
    note: bytes | None = None
    """the stored checkpoint of the smallest size that covers it, as it was stored last"""


class LogStore(Protocol):
    """Durable rows of one origin. Every write is one transaction, durable on return; reads are read-after-write."""

    async def load_head(self) -> CompactRange:
        """The head as last committed (size 0 for a new log)."""
        ...

    async def lead(self) -> int | None:
        """Whether this replica alone may publish: a number that changes each time the lead is gained anew; None where another has it.

        The lead ends with the replica's database session. It is a courtesy between honest replicas; the vault's `cas` is the lock.
        """
        ...

    def turn(self) -> AbstractAsyncContextManager[None]:
        """While it is held no other replica appends: taken after `HeadMoved`, so that a busy replica cannot starve another."""
        ...

    async def append_batch(self, old: CompactRange, entries: Sequence[NewEntry], tiles: Sequence[NewTile], new: CompactRange) -> None:
        """All or nothing, only where the stored size still is `old.size`. Raises `HeadMoved`, `OutcomeUnknown`, `Unavailable`."""
        ...

    async def find(self, entry_ids: Sequence[str]) -> dict[str, tuple[Appended, bytes]]:
        """Where these entries stand, with their bytes; unknown ids are left out."""
        ...

    async def read_entries(self, start: int, count: int) -> list[bytes]:
        """Entry bytes from `start`, at most `count`, in order."""
        ...

    async def newest_of(self, kind: str) -> bytes | None:
        """The bytes of the newest entry of that kind; None where there is none. Looks through the whole log: for starts, not for calls."""
        ...

    async def read_leaf_hashes(self, start: int, count: int) -> list[bytes]:
        """Leaf hashes from `start`, at most `count`, in order."""
        ...

    async def read_tile(self, level: int, n: int) -> bytes | None:
        """A full tile, or None where it is not full yet."""
        ...

    async def save_checkpoint(self, size: int, note: bytes) -> None:
        """Keep a signed note for ever; the same size twice keeps the newest note."""
        ...

    async def newest_checkpoint(self) -> bytes | None:
        """The signed note of the largest size."""
        ...

    async def newest_checkpoints(self, count: int) -> list[bytes]:
        """At most `count` signed notes, the largest size first, and of one size the note that was saved last."""
        ...

    async def add_key_change(self, entry_id: str, entry: bytes, endorsement: bytes) -> None:
        """Keep a `key` entry that is about to be logged; the first that was kept under an id stands."""
        ...

    async def key_changes(self) -> list[KeyChangeRow]:
        """At most 64, in the order of the log, those that are not logged yet last."""
        ...
