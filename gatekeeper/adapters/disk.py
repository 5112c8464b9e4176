"""The steps of an adapter that may block: each in a thread, within a time, and a disk that is full, slow or gone is `Unavailable`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import trio

from gatekeeper.crossing import in_thread
from gatekeeper.model.digest import Digest
from gatekeeper.ports.artifacts import BlobDiffers, BlobTooLarge
from gatekeeper.ports.errors import Unavailable

from .incoming import Incoming

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEP_S: Final = 60.0
"""One write of a chunk, one flush, or one change of an index; a disk slower than this is unavailable."""
HASH_S: Final = 600.0
"""Moving a whole blob, or hashing one again."""


class Disk:
    """Threads for what one adapter keeps. `what` it is stands in errors, under the cause `code`; `threads` bounds how many steps run at once."""

    def __init__(self, what: str, *, code: str, threads: int) -> None:
        self._what = what
        self._code = code
        self._limiter = trio.CapacityLimiter(threads)

    async def step(self, fn: Callable[[*Ts], T], *args: *Ts, deadline_s: float = STEP_S) -> T:
        """Run one step; raises what it raises, and `Unavailable` for `OSError` and at the deadline."""
        try:
            return await in_thread(fn, *args, deadline_s=deadline_s, limiter=self._limiter)
        except trio.TooSlowError:
            raise Unavailable(self._code, f"{self._what} is too slow") from None
        except OSError as error:
            raise Unavailable(self._code, f"{self._what} cannot be used: {error.strerror or type(error).__name__}") from None

    @asynccontextmanager
    async def receive(self, directory: Path, digest: Digest, chunks: AsyncIterable[bytes], *, max_bytes: int) -> AsyncIterator[Incoming]:
        """A file of the directory that holds all chunks, which are of this digest; removed at the end where it was not kept.

        Raises `BlobTooLarge` and `BlobDiffers`.
        """
        with trio.CancelScope(shield=True):  # a file made in an abandoned thread would be nobody's to remove
            incoming = await self.step(Incoming, directory)
        try:
            async with closing(chunks):
                async for chunk in chunks:
                    if incoming.size + len(chunk) > max_bytes:
                        raise BlobTooLarge("too-large", f"more than {max_bytes} bytes")
                    await self.step(incoming.write, chunk)
            if incoming.digest() != digest:
                raise BlobDiffers("digest-mismatch", "the bytes are not those of the digest")
            yield incoming
        finally:
            # Unlinking one name is quick, and must happen also when the caller was cancelled.
            incoming.discard()


@asynccontextmanager
async def closing(chunks: AsyncIterable[bytes]) -> AsyncIterator[None]:
    """Chunks that are an asynchronous generator are closed at the end, also where they were not taken to the end."""
    try:
        yield
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
