"""A disk that is soon full: a tmpfs of few bytes in a mount namespace of its own, and one function of a test run on it.

Works for root and for ordinary users, wherever user namespaces do; the builder's sandbox needs them too, so their lack is a failure here.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[2]
_MOUNT = 'mount -t tmpfs -o size="$1",mode=0700 none "$2"; shift 2; exec "$@"'


def on_small_disk(function: str, mount: Path, size: str) -> None:
    """Run `module:function` with the mounted directory as its only argument; what it raises fails the caller, in its words."""
    mount.mkdir(parents=True)
    child = [sys.executable, "-m", "tests.fakes.small_disk", function, str(mount)]
    done = subprocess.run(
        ["unshare", "-m" if os.geteuid() == 0 else "-Urm", "--", "sh", "-ec", _MOUNT, "sh", size, str(mount), *child],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"},
    )  # fmt: skip
    assert done.returncode == 0, f"{function} on a disk of {size}: exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    assert f"{function} done" in done.stdout


class Filler:
    """Files that take all the room there is, or all but some of it."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._files = directory, []

    def fill(self, *, leaving: int = 0) -> None:
        """Take everything; then give `leaving` bytes back, in whole pages."""
        path = self._directory / f"filler-{len(self._files)}"
        self._files.append(path)
        with path.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        left = os.statvfs(self._directory)
        if leaving > left.f_bavail * left.f_frsize:
            os.truncate(path, max(0, path.stat().st_size - leaving))

    def free(self) -> None:
        """Give everything back."""
        while self._files:
            self._files.pop().unlink()


def _main() -> None:
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)
    trio.run(function, Path(sys.argv[2]))
    sys.stdout.write(f"{sys.argv[1]} done\n")


if __name__ == "__main__":
    _main()
