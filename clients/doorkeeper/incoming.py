"""Reading a frame: bounded, hashed while it is read, never waiting for ever."""

from __future__ import annotations

import hashlib
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gatekeeper.model.digest import Digest
from gatekeeper.model.frame import MAX_HEADER, MalformedFrame, PartSpec, parse_header

IDLE_S: Final = 60.0
"""the sender's longest silence"""
WHOLE_S: Final = 900.0
"""for a whole frame"""
_CHUNK: Final = 1 << 16


class WrongBytes(Exception):
    """A part's bytes are not what the header announces."""


class Incoming:
    """One frame on a file descriptor. Raises `MalformedFrame` where it ends early, is late, or goes on after its last part."""

    def __init__(self, descriptor: int, *, idle_s: float = IDLE_S, whole_s: float = WHOLE_S) -> None:
        self._descriptor = descriptor
        self._idle_s = idle_s
        self._deadline = time.monotonic() + whole_s
        self._ahead = b""

    def header(self) -> tuple[PartSpec, ...]:
        """The header line."""
        line = b""
        while b"\n" not in line:
            if len(line) >= MAX_HEADER:
                raise MalformedFrame(f"the header is no line of at most {MAX_HEADER} bytes")
            line += self._read(MAX_HEADER - len(line))
        head, newline, self._ahead = line.partition(b"\n")
        return parse_header(head + newline)

    def part(self, spec: PartSpec) -> bytes:
        """A part that is kept in memory; its bound is the header's. Raises `WrongBytes`."""
        return b"".join(self._hashed(spec))

    def part_to_file(self, spec: PartSpec, path: Path, *, beat: Callable[[str], None]) -> None:
        """A part that goes to a new file, 0600. Raises `WrongBytes`; the file is the caller's to remove."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            written = 0
            for chunk in self._hashed(spec):
                written += file.write(chunk)
                beat(f"{written} of {spec.size} bytes")

    def end(self) -> None:
        """Nothing may stand after the last part."""
        if self._read(1, may_end=True):
            raise MalformedFrame("bytes stand after the last part")

    def _hashed(self, spec: PartSpec) -> Iterator[bytes]:
        hashed, left = hashlib.sha256(), spec.size
        while left:
            chunk = self._read(left)
            hashed.update(chunk)
            left -= len(chunk)
            yield chunk
        if Digest(f"sha256:{hashed.hexdigest()}") != spec.sha256:
            raise WrongBytes(f"the bytes of {spec.name.value} are not those that the header announces")

    def _read(self, limit: int, *, may_end: bool = False) -> bytes:
        if self._ahead:
            chunk, self._ahead = self._ahead[:limit], self._ahead[limit:]
            return chunk
        patience = min(self._idle_s, self._deadline - time.monotonic())
        if patience <= 0 or not select.select([self._descriptor], [], [], patience)[0]:
            raise MalformedFrame("the frame was not sent in time")
        chunk = os.read(self._descriptor, min(limit, _CHUNK))
        if not chunk and not may_end:
            raise MalformedFrame("the frame ends before its last part")
        return chunk
