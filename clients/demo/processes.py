"""Programs of the house: started in sessions of their own, ended with the house, started again when something kills them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Final, Protocol

import trio

TERM_S: Final = 10.0
_POLL_S: Final = 0.05
_AGAIN_S: Final = 0.1
_MAX_AGAIN_S: Final = 2.0
_LIVED_S: Final = 5.0
"""a program that lived so long did not fail to start"""


class NotReady(RuntimeError):
    """A part does not run as it should; the message names it and says what is in the way."""


def environment() -> dict[str, str]:
    """What a child of the house sees: nothing of ours."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}


def spawn(argv: list[str], log: IO[bytes], *, stdout: int | IO[bytes] | None = None, pipe: bool = False) -> subprocess.Popen[bytes]:
    """Start a child that gets SIGTERM when the house dies. Call it from the main thread: the kernel watches the thread that forked."""
    setpriv = shutil.which("setpriv")
    guard = [] if setpriv is None else [setpriv, "--pdeathsig", "TERM", "--"]
    return subprocess.Popen(
        [*guard, *argv],
        stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
        stdout=log if stdout is None else stdout,
        stderr=log,
        env=environment(),
        cwd=Path(__file__).resolve().parents[2],
        start_new_session=True,
        umask=0o077,
    )


def module(name: str, *arguments: str) -> list[str]:
    """The command line of one of our own modules."""
    return [sys.executable, "-m", name, *arguments]


async def end(process: subprocess.Popen[bytes]) -> None:
    """Politely, then by force."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    with trio.move_on_after(TERM_S):
        while process.poll() is None:
            await trio.sleep(_POLL_S)
        return
    os.killpg(process.pid, signal.SIGKILL)
    await trio.to_thread.run_sync(process.wait)


class Program(Protocol):
    """One program of the house. `name` is how people call it."""

    @property
    def name(self) -> str:
        """As in `--stop-part NAME`."""
        ...

    def runs(self) -> bool:
        """Whether its process lives."""
        ...

    async def launch(self) -> None:
        """Begin, where it does not run; returns before it is ready. Raises `NotReady` where it cannot be begun now."""
        ...

    async def ready(self) -> None:
        """Wait, within bounds, until it does its work. Raises `NotReady`."""
        ...

    async def end(self) -> None:
        """End it in order, and by force if it will not."""
        ...

    async def kill(self) -> None:
        """SIGKILL, without a word; returns when it is dead."""
        ...


class Supervised:
    """A program that is started again whenever it ends without having been told to."""

    def __init__(self, program: Program, *, wanted: bool = False) -> None:
        self._program = program
        self._lock = trio.Lock()
        self.wanted = wanted
        """whether it is to run; one that is stopped stays stopped"""

    @property
    def name(self) -> str:
        """As in `--stop-part NAME`."""
        return self._program.name

    async def start(self) -> None:
        """Returns when it is ready. Raises `NotReady`: it is then tried again until it is told to stop."""
        async with self._lock:
            self.wanted = True
            if not self._program.runs():
                await self._program.launch()
        await self._program.ready()

    async def stop(self) -> None:
        """Returns when it is down. Idempotent."""
        async with self._lock:
            self.wanted = False
            await self._program.end()

    async def kill(self) -> None:
        """Returns when it is dead; it comes back by itself. Raises `NotReady` where nothing runs."""
        async with self._lock:
            if not self._program.runs():
                raise NotReady(f"{self.name} does not run")
            await self._program.kill()

    async def run(self) -> None:
        """Watch until cancelled. The program runs on: `stop` ends it."""
        pause, begun = _AGAIN_S, trio.current_time()
        while True:
            await trio.sleep(_POLL_S)
            if not self.wanted or self._program.runs():
                continue
            pause = _AGAIN_S if trio.current_time() - begun > _LIVED_S else min(2 * pause, _MAX_AGAIN_S)
            await trio.sleep(pause)
            begun = trio.current_time()
            await self._revive()

    async def _revive(self) -> None:
        async with self._lock:
            if not self.wanted or self._program.runs():
                return
            try:
                await self._program.launch()
            except (NotReady, OSError) as error:
                print(f"{self.name} will be tried again: {error}", file=sys.stderr, flush=True)
