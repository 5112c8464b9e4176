"""What opens the slots of sealed leaves, as it is stored (log format, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gatekeeper.model.label import Label, Viewer


@dataclass(frozen=True)
class SealedSlot:
    """The opening of one slot with a decision. The bytes are wrapped by the vault; nothing here reads them. Decoys are not stored."""

    slot: int
    entry_id: str
    """of the sealed entry, not of the leaf"""
    r: bytes
    body: bytes
    private: bytes
    """rp and the private entry"""
    label: Label


@dataclass(frozen=True)
class StoredSlot:
    """A slot and the index of its leaf."""

    index: int
    sealed: SealedSlot


class SealedStore(Protocol):
    """The openings of one origin. They are written with their leaf, in its transaction (`LogStore.append_batch`); reads are read-after-write."""

    async def find_sealed(self, entry_ids: Sequence[str], viewer: Viewer) -> dict[str, StoredSlot]:
        """Where these entries are sealed, and their openings. Ids unknown, and those this Viewer may not read, are left out alike."""
        ...
