"""Whether what was sealed in a log was opened, and opened rightly (our log format, 4.2). For whoever reads all entries of all origins.

1. `see` every entry in order, hashed into its tree already;
2. drive `check`, a generator that asks for single entries once more, as `fsck.check_log` asks for tiles: it does no I/O.

Looked at: each `open` against its leaf (`sealed.verify_opening`) and that its entry_id was never met; each day's seed against that day's
leaves, and that it came after the horizon; each `lift`: its slots were opened whole before it; one horizon an origin; and 31 days after the
horizon every slot that nothing opened. It keeps 17 bytes of a sealed leaf and some hundred of an opening: of the leaf a keyed
fingerprint, so that a source cannot give other bytes when it is asked again.

It cannot tell what an origin that was not read opens, nor what a slot held that was opened without its private entry.
"""

from __future__ import annotations

import hmac
from array import array
from bisect import bisect_left
from collections.abc import Container, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum, unique
from typing import Final, TypeAlias, TypeVar

from .entry import Entry, LiftEntry, OpenDecoysEntry, OpenEntry, Reference, SealedEntry, UnknownEntry, parse_entry
from .errors import OpeningFault, OpeningRefused
from .members import SEALED_SLOTS, Abridged
from .sealed import decoy_slots, stands_later, verify_opening

GRACE: Final = timedelta(days=31)
"""After the horizon, until which every slot must have been opened."""
MOST_NAMED: Final = 100
"""Faults, and unopened slots, that a report names; more are counted."""
T = TypeVar("T", OpenEntry, SealedEntry)


@unique
class LogOpeningFault(StrEnum):
    """What is wrong with an opening beside its own bytes (`OpeningFault`)."""

    NO_LEAF = "no-leaf"
    ENTRY_ID_TAKEN = "entry-id-taken"
    SEED_EARLY = "seed-early"
    SEED_SECOND = "seed-second"
    SEED_OPENS_NOTHING = "seed-opens-nothing"
    LIFT_NOT_OPENED = "lift-not-opened"
    HORIZON_MOVED = "horizon-moved"
    READ_DIFFERS = "read-differs"


@dataclass(frozen=True)
class OpeningsFault:
    """One thing wrong: the entry where it shows."""

    fault: OpeningFault | LogOpeningFault
    at: Reference
    detail: str


@dataclass(frozen=True)
class OpeningsReport:
    """`overdue` counts the slots that nothing opened though their horizon is past; the first are in `unopened`."""

    faults: tuple[OpeningsFault, ...]
    unopened: tuple[Reference, ...]
    overdue: int
    elsewhere: int
    """openings and lifted slots of origins that were not read: cannot tell"""

    @property
    def sound(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.faults and not self.overdue


Openings: TypeAlias = Generator[Reference, "bytes | None", OpeningsReport]
"""Asks for an entry, is sent its bytes (None: the source has it no more), returns the report."""


@dataclass
class _Leaves:
    """The sealed leaves of one origin, in order: where each stands, its fingerprint, and a bit for each slot that was opened."""

    open_by: date
    indexes: array[int] = field(default_factory=lambda: array("Q"))
    prints: array[int] = field(default_factory=lambda: array("Q"))
    opened: bytearray = field(default_factory=bytearray)
    days: dict[date, tuple[int, int]] = field(default_factory=dict)

    def position(self, index: int) -> int | None:
        """Which of the leaves stands at this index."""
        position = bisect_left(self.indexes, index)
        return position if position < len(self.indexes) and self.indexes[position] == index else None


class OpeningsCheck:
    """`origins` are those that will be read, oldest first. `salt` is 32 random bytes that the log's source does not know."""

    def __init__(self, origins: Sequence[str], *, salt: bytes) -> None:
        self._origins = tuple(origins)
        self._salt = salt
        self._leaves: dict[str, _Leaves] = {}
        self._opens: list[tuple[Reference, int]] = []
        self._seeds: list[tuple[Reference, OpenDecoysEntry]] = []
        self._lifts: list[tuple[Reference, LiftEntry]] = []
        self._whole: dict[Reference, Reference] = {}
        self._ids: dict[str, Reference] = {}
        self._faults: list[OpeningsFault] = []
        self._elsewhere = 0

    def see(self, index: int, entry: Entry | UnknownEntry, body: bytes) -> None:
        """Take note of the next entry of its origin; `body` are its bytes."""
        at = Reference(entry.origin, index)
        match entry:
            case SealedEntry():
                self._see_leaf(at, entry, body)
            case OpenEntry():
                self._opens.append((at, self._print(body)))
            case OpenDecoysEntry():
                self._seeds.append((at, entry))
            case LiftEntry():
                self._lifts.append((at, entry))
            case _:
                pass

    def check(self, *, today: date, taken: Container[str] = ()) -> Openings:
        """Check all openings seen. `taken` are the entry ids of the log's own entries, which no sealed decision may have."""
        for at, fingerprint in self._opens:
            yield from self._check_open(at, fingerprint, taken)
        seeds: dict[tuple[str, date], bytes] = {}
        for at, entry in self._seeds:
            if seeds.setdefault((entry.of_origin, entry.day), entry.seed) != entry.seed:
                self._add(LogOpeningFault.SEED_SECOND, at, f"another seed than the first of {entry.day}")
            else:
                yield from self._check_seed(at, entry)
        for at, lift in self._lifts:
            self._check_lift(at, lift)
        overdue, unopened = 0, list[Reference]()
        for slot in self._overdue(today):
            overdue += 1
            if overdue <= MOST_NAMED:
                unopened.append(slot)
        return OpeningsReport(tuple(self._faults), tuple(unopened), overdue, self._elsewhere)

    def _see_leaf(self, at: Reference, entry: SealedEntry, body: bytes) -> None:
        leaves = self._leaves.setdefault(at.origin, _Leaves(entry.open_by))
        if entry.open_by != leaves.open_by:
            self._add(LogOpeningFault.HORIZON_MOVED, at, f"the origin's horizon is {leaves.open_by}")
        position = len(leaves.indexes)
        leaves.indexes.append(at.index)
        leaves.prints.append(self._print(body))
        leaves.opened.append(0)
        first, _ = leaves.days.get(entry.at.date(), (position, position))
        leaves.days[entry.at.date()] = (first, position)

    def _check_open(self, at: Reference, fingerprint: int, taken: Container[str]) -> Generator[Reference, bytes | None, None]:
        opened = yield from self._read(at, fingerprint, OpenEntry)
        if opened is None:
            return
        leaf_at = Reference(opened.of.origin, opened.of.index)
        if leaf_at.origin not in self._origins:
            self._elsewhere += 1
            return
        leaves = self._leaves.get(leaf_at.origin)
        if leaves is None or (position := leaves.position(leaf_at.index)) is None:
            self._add(LogOpeningFault.NO_LEAF, at, f"entry {leaf_at.index} of {leaf_at.origin} is no sealed leaf")
            return
        leaf = yield from self._read(leaf_at, leaves.prints[position], SealedEntry)
        if leaf is None:
            return
        try:
            slot = verify_opening(opened, at=at, leaf=leaf, leaf_at=leaf_at, origins=self._origins)
        except OpeningRefused as error:
            self._add(error.fault, at, str(error))
            return
        # A slot may be opened twice, its head first and whole later; the same decision may not stand in two slots.
        if slot.head.entry_id in taken or self._ids.setdefault(slot.head.entry_id, opened.of) != opened.of:
            self._add(LogOpeningFault.ENTRY_ID_TAKEN, at, f"entry_id {slot.head.entry_id} stands elsewhere")
            return
        leaves.opened[position] |= 1 << slot.number
        if slot.entry is not None:
            self._whole.setdefault(opened.of, at)

    def _check_seed(self, at: Reference, entry: OpenDecoysEntry) -> Generator[Reference, bytes | None, None]:
        if entry.of_origin not in self._origins:
            self._elsewhere += 1
            return
        leaves = self._leaves.get(entry.of_origin)
        if leaves is None or entry.day not in leaves.days:
            self._add(LogOpeningFault.SEED_OPENS_NOTHING, at, f"no leaf of {entry.of_origin} is of {entry.day}")
            return
        # Before the horizon a seed would tell which slots hold decisions.
        if entry.at.date() <= leaves.open_by:
            self._add(LogOpeningFault.SEED_EARLY, at, f"a seed is published after {leaves.open_by}")
        first, last = leaves.days[entry.day]
        found = False
        for position in range(first, last + 1):
            leaf = yield from self._read(Reference(entry.of_origin, leaves.indexes[position]), leaves.prints[position], SealedEntry)
            if leaf is None or leaf.at.date() != entry.day:
                continue
            slots = decoy_slots(leaf, entry.seed)
            found = found or bool(slots)
            leaves.opened[position] |= sum(1 << slot for slot in slots)
        if not found:
            self._add(LogOpeningFault.SEED_OPENS_NOTHING, at, f"the seed opens no slot of {entry.day}")

    def _check_lift(self, at: Reference, lift: LiftEntry) -> None:
        slots = () if isinstance(lift.opens, Abridged) else lift.opens
        self._elsewhere += sum(slot.origin not in self._origins for slot in slots)
        for slot in slots:
            opened = self._whole.get(slot)
            if slot.origin in self._origins and (opened is None or not stands_later(at, opened, self._origins)):
                self._add(LogOpeningFault.LIFT_NOT_OPENED, at, f"slot {slot.slot} of entry {slot.index} was not opened whole before it")

    def _overdue(self, today: date) -> Iterator[Reference]:
        for origin, leaves in self._leaves.items():
            for position, opened in enumerate(leaves.opened if today > leaves.open_by + GRACE else ()):
                for slot in range(SEALED_SLOTS):
                    if not opened >> slot & 1:
                        yield Reference(origin, leaves.indexes[position], slot)

    def _read(self, at: Reference, fingerprint: int, kind: type[T]) -> Generator[Reference, bytes | None, T | None]:
        body = yield at
        if body is None or self._print(body) != fingerprint:
            self._add(LogOpeningFault.READ_DIFFERS, at, "the source gave other bytes when it was asked again")
            return None
        entry = parse_entry(body)
        return entry if isinstance(entry, kind) else None

    def _print(self, body: bytes) -> int:
        return int.from_bytes(hmac.digest(self._salt, body, "sha256")[:8], "big")

    def _add(self, fault: OpeningFault | LogOpeningFault, at: Reference, detail: str) -> None:
        if len(self._faults) < MOST_NAMED:
            self._faults.append(OpeningsFault(fault, at, detail))
