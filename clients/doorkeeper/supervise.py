"""Runs one workload and keeps its output bounded. A program of its own: the standard library, nothing else of ours.

    supervise.py LOG LIMIT ARGV...

It is the leader of its own session. It first waits for one byte on stdin: the doorkeeper writes down its process id before sending it, so a
doorkeeper killed in between leaves no process that nobody knows of (end of file: end). Then it starts ARGV in its own process group and copies
its output to LOG; past LIMIT bytes LOG becomes LOG.1. It ends when the workload has ended and its output is closed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import BinaryIO


def main(arguments: list[str]) -> int:
    """Wait for the word, run, copy, end with the workload's exit status."""
    log, limit, argv = arguments[0], int(arguments[1]), arguments[2:]
    if os.read(0, 1) != b"1":
        return 1
    # Whoever stops the group stops the workload; we stay to write down its last words, and are killed with it if it does not end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with _open_log(log) as file:
        try:
            workload = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, preexec_fn=_default_signals
            )
        except OSError as error:
            file.write(f"cannot be started: {error.strerror}\n".encode())
            return 127
    assert workload.stdout is not None  # noqa: S101 -- PIPE above
    _copy(workload.stdout.fileno(), log, limit)
    return workload.wait() & 0xFF


def _default_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _open_log(path: str) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "ab", buffering=0)


def _copy(source: int, path: str, limit: int) -> None:
    file = _open_log(path)
    written = os.fstat(file.fileno()).st_size
    while chunk := os.read(source, 65536):
        if written + len(chunk) > limit:
            file.close()
            os.replace(path, path + ".1")  # noqa: PTH105 -- pathlib would double the start-up time
            file, written = _open_log(path), 0
        try:
            file.write(chunk)
        except OSError:
            continue  # a full disk must not block the workload: its output is lost, it runs on
        written += len(chunk)
    file.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
