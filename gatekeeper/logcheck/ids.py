"""The ids of a log of any size, in flat memory: what does not fit spills into a private directory of temporary files.

Ids are dealt out to 256 parts by the interpreter's own keyed hash, so that nobody who writes the log can fill one part alone; the parts are
looked at one after the other at the end. Memory: 1.5 MiB while the log is read, then one part at a time, about 0.6 byte for each entry of
the log (60 MiB at 100 million). Disk: 24 bytes an entry.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

PARTS: Final = 256
HELD: Final = 64 * 1024
"""Ids kept in memory before they are written out."""
_ID: Final = 16
_RECORD: Final = _ID + 8


class SpillingIds:
    """A `tlog.fsck.IdSet`. A context manager: the temporary files go with it, and there are none for fewer than 65,536 ids."""

    def __init__(self, held: int = HELD) -> None:
        self._most, self._held = held, 0
        self._parts = [bytearray() for _ in range(PARTS)]
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> SpillingIds:
        return self

    def __exit__(self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None) -> None:
        if self._directory is not None:
            self._directory.cleanup()

    def add(self, index: int, entry_id: bytes) -> None:
        """See `IdSet`. Raises `OSError` where the temporary directory is full."""
        self._parts[hash(entry_id) % PARTS] += entry_id + index.to_bytes(8, "big")
        self._held += 1
        if self._held >= self._most:
            self._spill()

    def repeated(self) -> int | None:
        """See `IdSet`."""
        return min((index for number in range(PARTS) for index in _repeated(self._part(number))), default=None)

    def _spill(self) -> None:
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="pingee-ids-")
        for number, part in enumerate(self._parts):
            with self._file(number).open("ab") as file:
                file.write(part)
            part.clear()
        self._held = 0

    def _part(self, number: int) -> bytes:
        spilt = b"" if self._directory is None else self._file(number).read_bytes()
        return spilt + self._parts[number]

    def _file(self, number: int) -> Path:
        if self._directory is None:
            raise ValueError("nothing was spilt")
        return Path(self._directory.name) / str(number)


def _repeated(part: bytes) -> Iterator[int]:
    """Of one part, the first index at which an id stands again."""
    ids = [part[at : at + _ID] for at in range(0, len(part), _RECORD)]
    if len(set(ids)) == len(ids):
        return
    seen: set[bytes] = set()
    for number, entry_id in enumerate(ids):
        if entry_id in seen:
            yield int.from_bytes(part[number * _RECORD + _ID : (number + 1) * _RECORD], "big")
            return
        seen.add(entry_id)
