"""Witnesses as the publisher sees them: C2SP tlog-witness `add-checkpoint`, one question and one answer (log format, 1.6 and 8).

What a witness says is not believed here: a cosignature counts when it verifies under the key that the log policy file gives that witness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from gatekeeper.tlog.signature import NoteSignature

from .errors import Unavailable


class WitnessBusy(Unavailable):
    """It asks to be left alone for `retry_after_s` seconds (429); None where it does not say how long."""

    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__("witness-busy", "the witness asks for a pause")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Cosignatures:
    """The signature lines of its answer, unverified."""

    lines: tuple[NoteSignature, ...]


@dataclass(frozen=True)
class OtherSize:
    """The old size that was named is not the newest it knows, which is this."""

    size: int


@dataclass(frozen=True)
class OtherRoot:
    """It holds the proof for wrong: what it knows is no prefix of the checkpoint, or has another root at its size."""


WitnessAnswer: TypeAlias = Cosignatures | OtherSize | OtherRoot


class WitnessLink(Protocol):
    """The way to witnesses. Safe for concurrent use; bounded in bytes, and in time by its caller, who may cancel."""

    async def add_checkpoint(self, url: str, body: bytes) -> WitnessAnswer:
        """Offer `encode_growth(...)` to the witness with that submission prefix.

        Raises `Unavailable` (not reached, overloaded, broken answer; `WitnessBusy` with its wish), `Denied` where it does not know the log
        or its key, and `Rejected` where it finds the request malformed.
        """
        ...
