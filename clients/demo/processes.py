"""Children of the house: started in sessions of their own, ended with the house, started again when something kills them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import trio

TERM_S: Final = 10.0
_POLL_S: Final = 0.05


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


class Supervised:
    """A process that is started again whenever it ends before it is told to."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen[bytes]], pid_file: Path) -> None:
        self.name = name
        self._start = start
        self._pid_file = pid_file
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        process = self._start()
        self._pid_file.write_text(f"{process.pid}\n")
        return process

    async def run(self) -> None:
        """Watch until cancelled, then end the process."""
        try:
            while True:
                await trio.sleep(_POLL_S)
                if self.process.poll() is not None:
                    await trio.sleep(0.1)
                    self.process = self._started()
        finally:
            with trio.CancelScope(shield=True):
                await end(self.process)
