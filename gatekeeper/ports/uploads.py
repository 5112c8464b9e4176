"""Blobs that arrive in parts: what came stays for a while, so that a sender whose connection broke goes on where it ended."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol

from .errors import PortError


class WrongOffset(PortError):
    """The part does not begin where the bytes end, or another sender is at it; `offset` is where they end."""

    def __init__(self, offset: int) -> None:
        super().__init__("range-not-satisfiable", f"the bytes end at {offset}")
        self.offset = offset


class UploadShelf(Protocol):
    """Unfinished blobs by name, of this replica alone. Nothing of them is hashed or believed. Raises `Unavailable` where there is no room.

    What stands in a name before its first dash is whose it is: nobody's uploads take all the room. What nobody adds to is
    forgotten after a while, and all of it may be lost: the sender then begins again.
    """

    async def offset(self, name: str) -> int:
        """How many bytes are there; 0 for what is not known."""
        ...

    async def append(self, name: str, start: int, chunks: AsyncIterable[bytes], *, max_bytes: int) -> int:
        """Add bytes that begin at `start`; where they end then. What came before a failure stays. Raises `WrongOffset`, `BlobTooLarge`."""
        ...

    def read(self, name: str) -> AsyncIterator[bytes]:
        """All bytes, in order."""
        ...

    async def drop(self, name: str) -> None:
        """Forget it."""
        ...
