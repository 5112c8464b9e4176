"""How far a long check is, on standard error: at most one line a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TextIO

EVERY_S: Final = 1.0


class Progress:
    """Told how many entries are done; says so now and then. On a terminal the line is written over, elsewhere each stands for itself."""

    def __init__(self, total: int, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._out, self._clock = total, out, clock
        self._began = self._said = clock()
        self._width = 0

    def at(self, done: int) -> None:
        """So many entries are done."""
        now = self._clock()
        if now - self._said < EVERY_S:
            return
        self._said = now
        rate = done / (now - self._began)
        left = f", {round((self._total - done) / rate)} s left" if rate else ""
        self._write(f"{done} of {self._total} entries, {rate:.0f} a second{left}")

    def done(self) -> None:
        """Take the line away from a terminal."""
        if self._width:
            self._out.write("\r" + " " * self._width + "\r")
            self._out.flush()
            self._width = 0

    def _write(self, line: str) -> None:
        if self._out.isatty():
            self._out.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._out.write(line + "\n")
        self._out.flush()


def open_progress(total: int, out: TextIO, *, asked: bool) -> Progress | None:
    """Progress where somebody looks: on a terminal, or where it was asked for."""
    return Progress(total, out) if asked or out.isatty() else None
