"""Looks for secrets where they must not be: in files, in git's packed objects, in databases, in what processes show of themselves.

A secret is looked for as it is, in hexadecimal, in base64 at each of its three alignments, and JSON-escaped, so that one wrapped in an envelope
or dumped as bytea is found too. What is found is told by the secret's name and the place, never by its value.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

_CHUNK: Final = 1 << 20
MAX_OBJECTS: Final = 512 * 1024 * 1024
GIT_S: Final = 60


@dataclass(frozen=True, order=True)
class Leak:
    """The secret of that name lies there."""

    secret: str
    place: str


@dataclass(frozen=True)
class Needles:
    """Every spelling of some secrets, by their names."""

    spellings: Mapping[str, tuple[bytes, ...]] = field(repr=False)

    @classmethod
    def of(cls, secrets: Mapping[str, str]) -> Needles:
        """Raises ValueError for a secret under 12 bytes: too short to be told from chance in base64."""
        if any(len(value.encode()) < 12 for value in secrets.values()):
            raise ValueError("a secret that is looked for has at least 12 bytes")
        return cls({name: _spellings(value.encode()) for name, value in secrets.items()})

    @property
    def longest(self) -> int:
        """Bytes of the longest spelling."""
        return max((len(spelling) for found in self.spellings.values() for spelling in found), default=1)

    def within(self, data: bytes) -> set[str]:
        """Names of the secrets that stand in these bytes."""
        return {name for name, found in self.spellings.items() if any(spelling in data for spelling in found)}


def _spellings(value: bytes) -> tuple[bytes, ...]:
    found = {value, value.hex().encode(), value.hex().upper().encode(), json.dumps(value.decode())[1:-1].encode(), quote(value).encode()}
    for before, spoilt in ((0, 0), (1, 2), (2, 3)):
        # Only the characters that depend on no neighbouring byte: `before` bytes stand ahead in the first group of three, and spoil some.
        text = base64.b64encode(bytes(before) + value)[spoilt:-4]
        found |= {text, text.replace(b"+", b"-").replace(b"/", b"_")}
    return tuple(sorted(found))


def search_texts(needles: Needles, texts: Mapping[str, bytes]) -> set[Leak]:
    """Leaks in bytes in memory, each under the name of its place: answers, dumps, outputs."""
    return {Leak(name, place) for place, data in texts.items() for name in needles.within(data)}


def search_files(needles: Needles, *roots: Path) -> set[Leak]:
    """Leaks in every regular file below the roots, whatever its size, and in its name; and in every git object, which git compresses."""
    leaks: set[Leak] = set()
    for root in roots:
        for path in (root, *_below(root)):
            leaks |= {Leak(name, f"the name of {path}") for name in needles.within(path.name.encode(errors="surrogateescape"))}
            leaks |= {Leak(name, str(path)) for name in _within_file(needles, path)}
            if path.name == "objects" and (path.parent / "HEAD").is_file():
                leaks |= {Leak(name, f"git objects of {path.parent}") for name in needles.within(_git_objects(path.parent))}
    return leaks


def _below(root: Path) -> list[Path]:
    # os.walk passes over a directory that is gone since it was listed, which pathlib does not; of a file it lists nothing.
    return sorted(Path(folder, name) for folder, folders, files in os.walk(root) for name in (*folders, *files))


def _within_file(needles: Needles, path: Path) -> set[str]:
    found: set[str] = set()
    try:
        # A link's target is another file's business; a pipe would never end.
        if not stat.S_ISREG(path.lstat().st_mode):
            return found
        with path.open("rb") as file:
            kept = b""
            while chunk := file.read(_CHUNK):
                found |= needles.within(kept + chunk)
                kept = chunk[-needles.longest :]
    except FileNotFoundError:
        return found  # gone since it was listed
    return found


def _git_objects(repository: Path) -> bytes:
    argv = ["git", "-C", str(repository), "-c", "safe.directory=*", "cat-file", "--batch", "--batch-all-objects"]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    trusted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    done = subprocess.run(argv, env=environment | trusted, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=GIT_S)
    if len(done.stdout) > MAX_OBJECTS:
        raise ValueError(f"{repository} holds more than {MAX_OBJECTS} bytes of objects")
    return done.stdout


def search_processes(needles: Needles, *, besides: Iterable[int] = ()) -> set[Leak]:
    """Leaks in command line and environment of every process that lets us read them, but for the process groups in `besides`."""
    groups = set(besides)
    leaks: set[Leak] = set()
    for pid, group in _processes():
        if group in groups:
            continue
        for name in ("cmdline", "environ"):
            try:
                data = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue  # it ended, or is not ours to read
            leaks |= {Leak(secret, f"{name} of process {pid}") for secret in needles.within(data)}
    return leaks


def readable_processes() -> int:
    """How many processes show us their environment: a scan that could read none has looked at nothing."""
    return sum(1 for pid, _ in _processes() if os.access(f"/proc/{pid}/environ", os.R_OK))


def _processes() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            rest = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        yield int(entry.name), int(rest[2])


def search_database(needles: Needles, dumps: Mapping[str, bytes]) -> set[Leak]:
    """Leaks in dumps of databases; told by the line, which begins with the table's name."""
    leaks: set[Leak] = set()
    for database, dump in dumps.items():
        for line in dump.splitlines():
            leaks |= {Leak(name, f"database {database}, {line[:64].split(maxsplit=1)[0].decode(errors='replace')}") for name in needles.within(line)}
    return leaks
