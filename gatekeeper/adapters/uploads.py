"""Unfinished uploads as files of one directory, each locked while a sender adds to it."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, TypeVarTuple

import trio

from gatekeeper.ports.artifacts import BlobTooLarge
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.uploads import WrongOffset

from .disk import Disk, closing

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_OPEN: Final = 32
"""Unfinished blobs at once; with the largest blob, this bounds the disk that they take."""
MAX_OF_ONE: Final = 8
"""of them with one first part of the name, up to the first dash: whoever leaves uploads unfinished leaves room for others"""
KEPT_S: Final = 3600.0
CHUNK: Final = 1024 * 1024
_NAME: Final = re.compile(r"[0-9a-f-]{1,200}")


class DirectoryUploads:
    """`ports.uploads.UploadShelf`. Made by `open_uploads`."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk

    async def offset(self, name: str) -> int:
        """See `UploadShelf`."""
        return await self._disk.step(_size, self._path(name))

    async def append(self, name: str, start: int, chunks: AsyncIterable[bytes], *, max_bytes: int) -> int:
        """See `UploadShelf`. Chunks that are an asynchronous generator are closed, also where they were not taken to the end."""
        async with closing(chunks):
            with trio.CancelScope(shield=True):  # a file opened in an abandoned thread would stay locked
                file = await self._disk.step(self._open, self._path(name), start)
            with file:
                ends = start
                async for chunk in chunks:
                    if ends + len(chunk) > max_bytes:
                        raise BlobTooLarge("too-large", f"more than {max_bytes} bytes")
                    await self._disk.step(_write, file, chunk)
                    ends += len(chunk)
            return ends

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """See `UploadShelf`."""
        file = await self._disk.step(self._path(name).open, "rb")
        try:
            while chunk := await self._disk.step(file.read, CHUNK):
                yield chunk
        finally:
            file.close()

    async def drop(self, name: str) -> None:
        """See `UploadShelf`."""
        await self._disk.step(_unlink, self._path(name))

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


async def open_uploads(directory: Path, *, threads: int = 4) -> DirectoryUploads:
    """The shelf in a directory, made (0700) where there is none. Raises `Unavailable`."""
    disk = Disk("the directory of unfinished uploads", code="unavailable", threads=threads)
    await disk.step(_prepare, directory)
    return DirectoryUploads(directory, disk)


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
