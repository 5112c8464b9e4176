"""`record.jsonl`: a hash-chained record of what was accepted, refused and done here.

Each line is RFC 8785 JSON and names the sha256 of the line before it. `record.head` names the last line, so a cut tail shows too. A line is
appended and fsynced before its head is written: after a crash between the two, the record is one line ahead of its head, and that is accepted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest, digest_of, parse_digest
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import Moment, render_moment
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .files import Place, Unreadable, read_bounded, write_durably

FIRST: Final = digest_of(b"")
MAX_LINE: Final = 4096
MAX_RECORD: Final = 16 * 1024 * 1024
"""past this the file becomes `record.1.jsonl`; the chain goes on in a new one"""


class Record:
    """The record of one doorkeeper. Use it under the doorkeeper's lock."""

    def __init__(self, place: Place) -> None:
        self._path = place.var / "record.jsonl"
        self._head_path = place.var / "record.head"

    def begin(self) -> None:
        """Make an empty record."""
        write_durably(self._path, b"")
        write_durably(self._head_path, FIRST.encode())

    def append(self, at: Moment, what: str, members: Mapping[str, Json]) -> Digest:
        """Add a line durably; returns the new head. Raises `Unreadable` where the record does not fit its head or cannot be written."""
        try:
            previous = self._mended_head()
            line = encode_canonical({**members, "v": 1, "at": render_moment(at), "what": what, "previous": previous})
            if len(line) > MAX_LINE:
                raise ValueError(f"a line of the record has more than {MAX_LINE} bytes")
            if self._path.stat().st_size > MAX_RECORD:
                self._path.rename(self._path.with_name("record.1.jsonl"))
            _append_durably(self._path, line + b"\n")
            write_durably(self._head_path, digest_of(line).encode())
        except OSError as error:
            raise Unreadable(f"record.jsonl could not be made durable: {error.strerror}") from error
        return digest_of(line)

    def verify(self) -> int:
        """Walk the whole chain; returns the number of lines. Raises `Unreadable` naming the first line that does not fit."""
        number, previous, named = 0, None, FIRST
        for number, line in enumerate(read_bounded(self._path, MAX_RECORD + 2 * MAX_LINE).split(b"\n")[:-1], 1):
            named = _previous(line, number)
            if previous is None:
                if named != FIRST and not self._path.with_name("record.1.jsonl").exists():
                    raise Unreadable("record.jsonl: its beginning is missing")
            elif named != previous:
                raise Unreadable(f"record.jsonl: line {number} does not follow the one before it")
            previous = digest_of(line)
        # One whole line ahead of its head: a crash, or a full disk, came between the two. The next line mends it.
        if self._head() not in (previous, named):
            raise Unreadable("record.jsonl: its end is missing or was changed")
        return number

    def _head(self) -> Digest:
        try:
            return parse_digest(read_bounded(self._head_path, 128).decode("ascii"))
        except ValueError as error:
            raise Unreadable("record.head: not a digest") from error

    def _mended_head(self) -> Digest:
        # A torn last line was never acknowledged to anybody: it is cut off. A whole line ahead of the head was fsynced: the head follows.
        head = self._head()
        whole, newline, torn = _tail(self._path).rpartition(b"\n")
        if torn:
            os.truncate(self._path, self._path.stat().st_size - len(torn))
        last = whole.rpartition(b"\n")[2]
        found = digest_of(last)  # of nothing it is `FIRST`
        if found == head:
            return head
        if last and _previous(last, 0) == head:
            write_durably(self._head_path, found.encode())
            return found
        if not newline and self._path.with_name("record.1.jsonl").exists():
            return head  # renamed, and the first line of the new file not written yet
        raise Unreadable("record.jsonl: its end is missing or was changed")


def _tail(path: Path) -> bytes:
    # Two lines at most are needed: the last whole one and a torn one.
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2 * (MAX_LINE + 1)))
        return file.read()


def _append_durably(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _previous(line: bytes, number: int) -> Digest:
    try:
        return Fields(parse_object(line, max_bytes=MAX_LINE)).digest("previous")
    except (MalformedJson, FieldError) as error:
        raise Unreadable(f"record.jsonl: line {number} is damaged: {error}") from error
