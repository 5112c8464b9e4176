"""Unpacking a layer: `tarfile` reads, we write. Nothing but new regular files and directories is ever made, below a new private directory.

Our builder makes deterministic tars of regular files and directories. So whatever else stands in one (links, devices, absolute names, `..`,
sparse files, the same name twice) is refused as a whole; nothing of it is repaired or skipped. Nothing is decompressed: a layer that is no plain
tar is none. `tarfile` reads extended headers and sparse maps into memory, however long they say they are; those are bounded before it does.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NoReturn, Self

from .files import make_private, sync_directory
from .target import Caps

MAX_NAME: Final = 1024
MAX_DEPTH: Final = 32
MAX_HEADER: Final = 16 * 1024
"""Bytes of one extended header, which of ours hold a long name and nothing else."""
_EXTENDED: Final = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})


class UnsafeArchive(Exception):
    """The layer is no tar of ours, or would not stay within its directory or bounds."""


class _Entry(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _EXTENDED and not 0 <= found.size <= MAX_HEADER:
            raise UnsafeArchive(f"layer: an extended header of more than {MAX_HEADER} bytes")
        return found

    def _proc_gnusparse_10(self, *_: object) -> NoReturn:
        # The maps of these two forms stand behind their headers and have no bound; the other forms stand in extended headers.
        raise UnsafeArchive("layer: holds a sparse file")

    _proc_sparse = _proc_gnusparse_10


def unpack_layer(layer: Path, destination: Path, caps: Caps, *, beat: Callable[[str], None]) -> None:
    """Unpack into a new directory that exists only if all went well; an older one of that name is replaced.

    `beat` is called as the work goes on. Raises `UnsafeArchive`, or `OSError` where the disk gives out.
    """
    make_private(destination.parent)
    fresh = destination.with_name(f".{destination.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    try:
        with tarfile.open(layer, mode="r:", errorlevel=2, encoding="utf-8", errors="strict", tarinfo=_Entry) as archive:
            for number, member in enumerate(_bounded(archive, caps)):
                _write_member(archive, member, fresh)
                if number % 100 == 0:
                    beat(f"{number} entries")
        _sync_tree(fresh)
    except (tarfile.TarError, UnicodeError, EOFError, ValueError, RecursionError) as error:  # headers of headers are read by recursion
        shutil.rmtree(fresh, ignore_errors=True)
        raise UnsafeArchive(f"layer: {error}"[:512]) from error
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    _replace_directory(fresh, destination)


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    # Not `extract(filter="data")`: Python 3.11 has it only since 3.11.4, and a filter that mends what it does not like is not wanted here.
    place = root / PurePosixPath(member.name)
    if member.isdir():
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        return
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    source = archive.extractfile(member)
    assert source is not None  # noqa: S101 -- `_bounded` yields regular files and directories alone
    mode = 0o755 if member.mode & 0o100 else 0o644
    with source, os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        shutil.copyfileobj(source, file)
        os.fchmod(file.fileno(), mode)
        if file.tell() != member.size:
            raise UnsafeArchive("layer: an entry is cut short")


def _bounded(archive: tarfile.TarFile, caps: Caps) -> Iterator[tarfile.TarInfo]:
    total, seen = 0, set[str]()
    for number, member in enumerate(archive, 1):
        if number > caps.entries:
            raise UnsafeArchive(f"layer: more than {caps.entries} entries")
        total += member.size
        if total > caps.unpacked_bytes or member.size < 0:
            raise UnsafeArchive(f"layer: more than {caps.unpacked_bytes} bytes unpacked")
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
            raise UnsafeArchive("layer: holds something other than regular files and directories")
        name = _plain_name(member.name)
        # A file system that folds case or normal forms must not make one file of two that were reviewed apart.
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen:
            raise UnsafeArchive("layer: one name stands twice")
        seen.add(folded)
        yield member


def _plain_name(name: str) -> str:
    path = PurePosixPath(name)
    bad = name.startswith("/") or "\\" in name or "\0" in name or not path.parts or any(part == ".." for part in path.parts)
    if bad or len(name.encode()) > MAX_NAME or len(path.parts) > MAX_DEPTH:
        raise UnsafeArchive("layer: a name is absolute, climbs, or is too long or too deep")
    return str(path)


def _sync_tree(root: Path) -> None:
    for directory, _, files in os.walk(root):
        for file in files:
            descriptor = os.open(Path(directory, file), os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(directory))


def _replace_directory(fresh: Path, destination: Path) -> None:
    # The same digest is deployed again: what lies there is not trusted to be what we unpacked, for the workload may have written to it.
    old = destination.with_name(f".{destination.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if destination.exists():
        destination.rename(old)
    fresh.rename(destination)
    sync_directory(destination.parent)
    shutil.rmtree(old, ignore_errors=True)
