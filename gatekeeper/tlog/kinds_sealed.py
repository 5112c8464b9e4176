"""The entries that seal decisions and open them (our log format, section 4). What the bytes in them mean is in `sealed`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import ClassVar, TypeAlias

from .kinds import Kind, Preamble
from .members import Abridged, Reference
from .person import HiddenText, Pseudonym


@dataclass(frozen=True, kw_only=True)
class SealedEntry(Preamble):
    """One tick: four commitments, each to a sealed decision or to a decoy. `config` is always None."""

    KIND: ClassVar[Kind] = Kind.SEALED
    commitments: tuple[bytes, ...]
    """exactly four, of 32 bytes each"""
    open_by: date
    """the horizon: the last day of a year, the same for every leaf of an origin"""
    escrow: bytes
    """SHA-256 over what the escrow auditors were sent"""


@dataclass(frozen=True, kw_only=True)
class OpenEntry(Preamble):
    """One slot opened: whole, or its head alone where `rp` and `private` are None."""

    KIND: ClassVar[Kind] = Kind.OPEN
    of: Reference
    """always with a slot"""
    commitment: bytes
    r: bytes
    body: bytes
    rp: bytes | None
    private: bytes | None


@dataclass(frozen=True, kw_only=True)
class OpenDecoysEntry(Preamble):
    """The seed that opens every decoy of one UTC day of one origin."""

    KIND: ClassVar[Kind] = Kind.OPEN_DECOYS
    of_origin: str
    day: date
    seed: bytes


@dataclass(frozen=True, kw_only=True)
class LiftEntry(Preamble):
    """Two people ended an embargo. The slots it names were opened whole just before it."""

    KIND: ClassVar[Kind] = Kind.LIFT
    who: tuple[Pseudonym, ...]
    embargo: str
    opens: tuple[Reference, ...] | Abridged
    reason: HiddenText


SealingEntry: TypeAlias = SealedEntry | OpenEntry | OpenDecoysEntry | LiftEntry
