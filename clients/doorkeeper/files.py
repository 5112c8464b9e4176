"""Where a doorkeeper's files lie, and how they are written: whole or not at all, and on the disk before anybody acts on them.

`etc` is root's and only read here; `var` is the doorkeeper's own. Every write goes to a new file in the same directory, is fsynced, renamed
over the old one, and the directory is fsynced: after a power failure either the old or the new bytes are there, never a mixture.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ETC: Final = Path("/etc/pingee-doorkeeper")
VAR: Final = Path("/var/lib/pingee-doorkeeper")


class Unreadable(Exception):
    """A file of our own is missing, damaged or cannot be made durable: nothing is applied (exit 7)."""


class Busy(Exception):
    """Another apply is under way here."""


@dataclass(frozen=True)
class Place:
    """The two directories of one doorkeeper."""

    etc: Path = ETC
    var: Path = VAR

    @classmethod
    def below(cls, directory: Path | None) -> Place:
        """`DIR/etc` and `DIR/var`; the system's own directories where none is named."""
        return cls() if directory is None else cls(directory.resolve() / "etc", directory.resolve() / "var")

    @property
    def target_file(self) -> Path:
        """Name, environment, components and caps."""
        return self.etc / "target.toml"

    @property
    def log_policy(self) -> Path:
        """The pinned tlog-policy."""
        return self.etc / "log-policy"

    @property
    def receipt_keys(self) -> Path:
        """The pinned receipt keys, PEM."""
        return self.etc / "receipt-keys"

    @property
    def override_keys(self) -> Path:
        """Optional: the people who may order an override."""
        return self.etc / "override-keys"

    @property
    def first_checkpoint(self) -> Path:
        """Optional: the signed checkpoint that memory starts from."""
        return self.etc / "checkpoint"

    @property
    def state(self) -> Path:
        """What is remembered."""
        return self.var / "state.json"

    @property
    def cosigner_key(self) -> Path:
        """Our own Ed25519 key, PKCS#8 PEM, 0600."""
        return self.var / "cosigner.key"

    def release(self, component: str, artifact_hex: str) -> Path:
        """The versioned directory of one artifact."""
        return self.var / "releases" / component / artifact_hex

    def kept(self, component: str, artifact_hex: str) -> Path:
        """The very bytes of one artifact that was healthy here: manifest, config, layer."""
        return self.var / "artifacts" / component / artifact_hex

    def rollback_bundle(self, component: str) -> Path:
        """What the gatekeeper said at the last deploy may be brought back."""
        return self.var / "rollback-bundle" / component

    def current(self, component: str) -> Path:
        """The link that is switched."""
        return self.var / "current" / component

    def settings(self, component: str, receipt_hex: str) -> Path:
        """The settings of one deployment, 0600."""
        return self.var / "settings" / component / receipt_hex

    def process(self, component: str) -> Path:
        """Which process runs a component."""
        return self.var / "processes" / f"{component}.json"

    def log(self, component: str) -> Path:
        """A component's own output, bounded."""
        return self.var / "logs" / f"{component}.log"

    @property
    def incoming(self) -> Path:
        """Where a layer lies while it is received."""
        return self.var / "incoming"

    @property
    def forks(self) -> Path:
        """Pairs of signed notes that contradict each other: evidence, never deleted by us."""
        return self.var / "forks"


def make_private(directory: Path) -> None:
    """Make a directory (and its parents) that only we may enter."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file's content atomically and durably; the bytes are never readable beyond `mode`, not for a moment."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def switch_link(link: Path, destination: Path) -> None:
    """Point a symbolic link elsewhere, atomically and durably."""
    fresh = link.with_name(f".{link.name}.{secrets.token_hex(8)}")
    fresh.symlink_to(os.path.relpath(destination, link.parent))
    fresh.rename(link)
    sync_directory(link.parent)


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of our own. Raises `Unreadable` where it is missing, too long or not readable."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror}") from error
    if len(data) > limit:
        raise Unreadable(f"{path.name}: more than {limit} bytes")
    return data


@contextmanager
def exclusive(place: Place, *, wait_s: float) -> Iterator[None]:
    """Hold the doorkeeper's lock; `Busy` where another holds it longer than `wait_s`. The kernel drops it when its holder dies."""
    try:
        descriptor = os.open(place.var / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unreadable(f"lock: {error.strerror}") from error
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Busy("another apply is under way at this target") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
