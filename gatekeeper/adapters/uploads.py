"""Unfinished uploads as files of one directory, each locked while a sender adds to it."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, TypeVarTuple

import trio

from gatekeeper.crossing import in_thread
from gatekeeper.ports.artifacts import BlobTooLarge
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.uploads import WrongOffset

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_OPEN: Final = 32
"""Unfinished blobs at once; with the largest blob, this bounds the disk that they take."""
MAX_OF_ONE: Final = 8
"""of them with one first part of the name, up to the first dash: whoever leaves uploads unfinished leaves room for others"""
KEPT_S: Final = 3600.0
STEP_S: Final = 60.0
CHUNK: Final = 1024 * 1024
_NAME: Final = re.compile(r"[0-9a-f-]{1,200}")


class DirectoryUploads:
    """`ports.uploads.UploadShelf`. Made by `open_uploads`."""

    def __init__(self, directory: Path, limiter: trio.CapacityLimiter) -> None:
        self._directory = directory
        self._limiter = limiter

    async def offset(self, name: str) -> int:
        """See `UploadShelf`."""
        return await self._cross(_size, self._path(name))

    async def append(self, name: str, start: int, chunks: AsyncIterable[bytes], *, max_bytes: int) -> int:
        """See `UploadShelf`. Chunks that are an asynchronous generator are closed, also where they were not taken to the end."""
        try:
            with trio.CancelScope(shield=True):  # a file opened in an abandoned thread would stay locked
                file = await self._cross(self._open, self._path(name), start)
            with file:
                ends = start
                async for chunk in chunks:
                    if ends + len(chunk) > max_bytes:
                        raise BlobTooLarge("too-large", f"more than {max_bytes} bytes")
                    await self._cross(_write, file, chunk)
                    ends += len(chunk)
            return ends
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """See `UploadShelf`."""
        file = await self._cross(self._path(name).open, "rb")
        try:
            while chunk := await self._cross(file.read, CHUNK):
                yield chunk
        finally:
            file.close()

    async def drop(self, name: str) -> None:
        """See `UploadShelf`."""
        await self._cross(_unlink, self._path(name))

    def _path(self, name: str) -> Path:
        if _NAME.fullmatch(name) is None:
            raise ValueError("no name of an upload")
        return self._directory / name

    def _open(self, path: Path, start: int) -> BinaryIO:
        if not path.exists():
            self._make_room(path.name)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ends = file.seek(0, os.SEEK_END)
            if ends != start:
                raise WrongOffset(ends)
        except BlockingIOError:
            file.close()
            raise WrongOffset(_size(path)) from None
        except BaseException:
            file.close()
            raise
        return file

    def _make_room(self, name: str) -> None:
        kept: list[str] = []
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):  # another's, which was finished in between
                if path.lstat().st_mtime < time.time() - KEPT_S:
                    path.unlink()
                else:
                    kept.append(path.name.partition("-")[0])
        if len(kept) >= MAX_OPEN or kept.count(name.partition("-")[0]) >= MAX_OF_ONE:
            raise Unavailable("unavailable", "too many uploads are unfinished: go on with one of them, or ask again later")

    async def _cross(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return await in_thread(fn, *args, deadline_s=STEP_S, limiter=self._limiter)
        except trio.TooSlowError:
            raise Unavailable("unavailable", "the directory of unfinished uploads is too slow") from None
        except OSError as error:
            raise Unavailable("unavailable", f"the directory of unfinished uploads cannot be used: {error.strerror}") from None


async def open_uploads(directory: Path, *, threads: int = 4) -> DirectoryUploads:
    """The shelf in a directory, made (0700) where there is none. Raises `Unavailable`."""
    uploads = DirectoryUploads(directory, trio.CapacityLimiter(threads))
    await uploads._cross(_prepare, directory)  # noqa: SLF001 -- its own maker
    return uploads


def _prepare(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _write(file: BinaryIO, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:  # a raw write may be short, most of all on a full disk
        left = left[file.write(left) :]


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
