"""Entries about what people ordered: one dataclass for each kind, with the members of our log format, section 2.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from gatekeeper.model.digest import Digest

from .kinds import Kind, Preamble
from .person import HiddenText, Pseudonym


@dataclass(frozen=True, kw_only=True)
class WitnessChangeEntry(Preamble):
    """The quorum of witnesses that a checkpoint needs is another one from here."""

    KIND: ClassVar[Kind] = Kind.WITNESS_CHANGE
    who: tuple[Pseudonym, ...]
    policy: Digest
    """of the log policy file"""
    fail_open: bool
    """whether checkpoints are published that too few witnesses cosigned"""
    reason: HiddenText


PeopleEntry: TypeAlias = WitnessChangeEntry
