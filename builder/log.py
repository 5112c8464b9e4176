"""The build log: raw bytes in a bounded file, hashed as they come; escaped for people, because a build may print terminal commands."""

from __future__ import annotations

import codecs
import hashlib
import threading
import unicodedata
from pathlib import Path
from typing import Final

from gatekeeper.model.digest import Digest

MAX_BYTES: Final = 16 * 2**20


class BuildLog:
    """One run's log. Written by one thread, followed by any number; `limit` is in bytes, and a note says when it was reached."""

    def __init__(self, path: Path, limit: int = MAX_BYTES) -> None:
        self.path = path
        self._limit = limit
        self._file = path.open("xb", buffering=0)
        path.chmod(0o600)
        self._hash = hashlib.sha256()
        self._size = 0
        self._grown = threading.Condition()
        self._closed = False
        self.truncated = False

    @property
    def digest(self) -> Digest:
        """Of the raw bytes written so far."""
        return Digest("sha256:" + self._hash.hexdigest())

    @property
    def size(self) -> int:
        """In bytes."""
        return self._size

    def write(self, data: bytes) -> None:
        """Append what the build printed; past the limit it is dropped, and the log says so once."""
        if self.truncated:
            return
        room = self._limit - self._size
        if len(data) > room:
            self.truncated = True
            data = data[:room] + f"\npingee-builder: the log ends here, at {self._limit} bytes\n".encode()
        self._append(data)

    def note(self, text: str) -> None:
        """A line of the worker's own; always kept."""
        self._append(f"pingee-builder: {text}\n".encode())

    def close(self) -> None:
        """Nothing more will come: followers end."""
        with self._grown:
            self._closed = True
            self._file.close()
            self._grown.notify_all()

    def wait(self, seen: int, timeout: float) -> tuple[int, bool]:
        """Block until more than `seen` bytes are there, the log is closed, or `timeout` seconds passed: (size, closed)."""
        with self._grown:
            self._grown.wait_for(lambda: self._size > seen or self._closed, timeout)
            return self._size, self._closed

    def _append(self, data: bytes) -> None:
        with self._grown:
            left = memoryview(data)
            while left:  # a raw write may be short, most of all on a full disk
                written = self._file.write(left)
                self._hash.update(left[:written])
                self._size += written
                left = left[written:]
            self._grown.notify_all()


class Escaper:
    """Raw log bytes -> text that is safe to show: invalid UTF-8, control and direction characters become visible escapes.

    Feed chunks as they come; a character split between two chunks is held back until it is whole.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """The text of these bytes."""
        return "".join(_visible(c) for c in self._decoder.decode(data, last))


def _visible(character: str) -> str:
    # Cf holds the bidirectional overrides that make a line read as another; Cc the terminal's escape.
    if character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cf", "Zl", "Zp"}:
        return character
    return character.encode("unicode_escape").decode("ascii")
