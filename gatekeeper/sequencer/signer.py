"""Who signs a log's checkpoints: one key, two while one follows the other, then the new one alone (log format, section 5, "Rotation").

The new key signs nothing before the `key` entry that names it is durable. The old one stops when the overlap has ended *and* a published
checkpoint that it signed covers that entry: else nobody who knows the old key alone could ever follow. It stops at a larger size than that
checkpoint's, so that the history of notes keeps the one that verifiers follow by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gatekeeper.ports.vault import LogVault
from gatekeeper.tlog.signature import NoteSignature, VerifierKey


@dataclass(frozen=True)
class SigningKey:
    """A log key and the vault that signs with it."""

    key: VerifierKey
    vault: LogVault


@dataclass(frozen=True)
class Succession:
    """Where the `key` entry stands, and when the overlap ends."""

    index: int
    until: datetime


class NoteSigner:
    """Makes the signature lines of one origin's checkpoints; each is verified under its pinned key before it is returned."""

    def __init__(
        self, old: SigningKey, new: SigningKey | None = None, *, past: tuple[VerifierKey, ...] = (), clock: Callable[[], datetime]
    ) -> None:
        """`past` are keys that signed stored notes of this origin and sign no more."""
        self._old, self._new, self._past, self._clock = old, new, past, clock
        self._succession: Succession | None = None

    @property
    def name(self) -> str:
        """The origin, which is the name of all its keys."""
        return self._old.key.name

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """Under which a stored note may stand: all that sign, signed or will."""
        return (self._old.key, *(() if self._new is None else (self._new.key,)), *self._past)

    @property
    def newest(self) -> VerifierKey:
        """What a verifier should be installed with today."""
        return self._old.key if self._new is None or self._succession is None else self._new.key

    def follow(self, succession: Succession) -> None:
        """From now on the new key signs too. Without a new key this is a bug and raises ValueError."""
        if self._new is None:
            raise ValueError("there is no key to follow")
        self._succession = succession

    async def sign(self, text: bytes, *, size: int, published: int) -> tuple[NoteSignature, ...]:
        """The lines for a note text over `size` entries, when `published` are covered already. Raises what `LogVault.sign` raises."""
        return tuple([NoteSignature(key.key.name, key.key.key_id, await key.vault.sign(text)) for key in self._signing(size, published)])

    def _signing(self, size: int, published: int) -> tuple[SigningKey, ...]:
        new, succession = self._new, self._succession
        if new is None or succession is None:
            return (self._old,)
        ended = self._clock() >= succession.until and succession.index < published < size
        return (new,) if ended else (self._old, new)
