"""The origins of one log besides the open one (log format, 3, 6 and 7): how the database keeps them, and what use cases ask of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from gatekeeper.model.digest import Digest

from .errors import Unavailable


@dataclass(frozen=True)
class OpeningRecord:
    """What two people ordered when an origin was opened after another."""

    origin: str
    previous_origin: str
    order_id: Digest
    signers: tuple[str, ...]
    envelope: bytes = field(repr=False)
    """the order as they signed it"""
    reason: str
    salt: bytes = field(repr=False)
    """of the hidden `reason` in the origin's entry 0"""
    closing_edge: bytes | None = field(repr=False)
    """partial tiles of the closed origin's last signed tree (`tlog.origins.encode_edge`); None where nobody kept them"""
    opened_at: datetime


class OriginStore(Protocol):
    """Rows about origins. Every write is durable on return."""

    async def origins(self) -> tuple[str, ...]:
        """Every origin that has an entry, oldest first."""
        ...

    async def add_opening(self, record: OpeningRecord) -> OpeningRecord:
        """Keep what was ordered; the record that stands for this origin, which is an earlier one where there is one."""
        ...

    async def opening(self, origin: str) -> OpeningRecord | None:
        """What was ordered when this origin was opened; None for the first."""
        ...


class Origins(Protocol):
    """What use cases ask of the origins that were closed. Safe for concurrent use."""

    def is_closed(self, origin: str) -> bool:
        """Whether this is an origin of this log that was closed."""
        ...

    def closed_at(self, when: datetime) -> str | None:
        """The closed origin that was open at that time of ours; None: the one that is open now."""
        ...

    async def prove(self, origin: str, index: int) -> bytes:
        """A `.tlog-proof` for an entry of a closed origin. Raises `Unavailable` where there is no such entry."""
        ...

    async def crossings(self, origin: str, size: int, proof: bytes) -> bytes | None:
        """What shows a target that remembers `size` entries of this closed origin that the open one follows (`tlog.origins`).

        `proof` is that of the open origin's entry 0. None where that cannot be shown: nothing follows it, the target remembers more than was ever
        known, or the hashes are lost.
        """
        ...


class FirstOrigin:
    """There never was another."""

    def is_closed(self, origin: str) -> bool:  # noqa: ARG002 -- of the protocol
        """See `Origins.is_closed`."""
        return False

    def closed_at(self, when: datetime) -> str | None:  # noqa: ARG002 -- of the protocol
        """See `Origins.closed_at`."""
        return None

    async def prove(self, origin: str, index: int) -> bytes:
        """See `Origins.prove`."""
        raise Unavailable("log-unavailable", f"there is no origin {origin} here with an entry {index}")

    async def crossings(self, origin: str, size: int, proof: bytes) -> bytes | None:  # noqa: ARG002 -- of the protocol
        """See `Origins.crossings`."""
        return None
