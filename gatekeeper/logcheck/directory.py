"""A log as a directory: plain files only, none longer than its kind can be.

The directory may come from anybody. A symbolic link, a pipe or a device in it would be read from somewhere else, or for ever: refused.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType

from gatekeeper.tlog.note import MAX_NOTE
from gatekeeper.tlog.tile import MAX_BUNDLE, TILE_BYTES, TileAddress


class BadDirectory(Exception):
    """The directory holds something else than plain files; one sentence says what."""


class LogDirectory:
    """Reads a log's files below one directory. A context manager; raises `OSError` where there is no such directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> LogDirectory:
        return self

    def __exit__(self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None) -> None:
        os.close(self._root)

    def checkpoint(self) -> bytes | None:
        """The signed note, or None."""
        return self.read("checkpoint", MAX_NOTE)

    def fetch(self, address: TileAddress) -> bytes | None:
        """A tile or bundle, or None. One byte more than its kind can have is read, which the check refuses as too long."""
        return self.read(address.path, MAX_BUNDLE if address.level is None else TILE_BYTES)

    def read(self, path: str, most: int) -> bytes | None:
        """The first `most` + 1 bytes of a file, or None where there is none. Raises `BadDirectory`."""
        *parents, name = path.split("/")
        try:
            descriptor = self._open(parents, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadDirectory(f"{self._path / path} is no plain file, or a directory above it is a link: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BadDirectory(f"{self._path / path} is no plain file")
        with os.fdopen(descriptor, "rb") as file:
            return file.read(most + 1)

    def _open(self, parents: list[str], name: str) -> int:
        above = self._root
        try:
            for parent in parents:
                below = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
                if above != self._root:
                    os.close(above)
                above = below
            # Not to wait for whoever writes a pipe.
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=above)
        finally:
            if above != self._root:
                os.close(above)
