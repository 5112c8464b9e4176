"""A file on its way into a directory: hashed while it is written, and under its own name only when it is whole."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from gatekeeper.model.digest import Digest

_TEMPORARY: Final = ".incoming-"


class Incoming:
    """A temporary file that is locked while its writer lives, so that another process knows it from a leftover. Raises `OSError`."""

    def __init__(self, directory: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=directory)
        self.path = Path(name)
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=0)
        self._hash = hashlib.sha256()
        self.size = 0
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def write(self, chunk: bytes) -> None:
        """Append, and hash what was appended."""
        self._hash.update(chunk)
        left = memoryview(chunk)
        while left:  # a raw write may be short, most of all on a full disk
            left = left[self._file.write(left) :]
        self.size += len(chunk)

    def digest(self) -> Digest:
        """Of everything written until now."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def keep(self, path: Path) -> None:
        """Give it its name, read-only and durable. A second writer of the same digest replaces equal bytes by equal bytes."""
        os.fchmod(self._file.fileno(), 0o444)
        os.fsync(self._file.fileno())
        self.path.replace(path)
        _sync_directory(path.parent)

    def discard(self) -> None:
        """Close it, and remove it where it has no name of its own."""
        with suppress(FileNotFoundError):
            self.path.unlink()
        self._file.close()


def remove_leftovers(directory: Path) -> None:
    """Remove what writers left behind that are no longer alive."""
    for path in directory.glob(f"{_TEMPORARY}*"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held while its writer lives
            path.unlink()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
