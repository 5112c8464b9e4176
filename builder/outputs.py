"""Outputs -> artifact, after every process of the build is dead: vetted code reads, copies and hashes; nothing the build says is believed.

Files are opened below the workspace one name at a time without following links (openat(2), O_NOFOLLOW). Regular files with one link and
directories pass; links, pipes, sockets and devices are refused. What is hashed is what was copied.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from gatekeeper.model import uris
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest, digest_of

from .fault import BuildFailed
from .pipeline import RunDeclared
from .statement import Output, Source

_CHUNK: Final = 1 << 20
_MAX_DEPTH: Final = 32
_MAX_NAME: Final = 200


@dataclass(frozen=True)
class Bounds:
    """The most an artifact may hold: files and directories, and bytes of all files together."""

    entries: int = 4000
    size: int = 256 * 2**20


@dataclass(frozen=True)
class Blob:
    """Bytes to upload: in memory (manifest, config) or in a file (layer, log)."""

    digest: Digest
    size: int
    source: bytes | Path


@dataclass(frozen=True)
class Artifact:
    """The OCI image manifest with what it names; `manifest.digest` is the artifact's name everywhere."""

    manifest: Blob
    config: Blob
    layer: Blob
    outputs: tuple[Output, ...]


def extract(src: Path, paths: Sequence[str], layer: Path, bounds: Bounds) -> tuple[Blob, tuple[Output, ...]]:
    """Copy `paths` of the workspace into a deterministic tar at `layer`; raises `BuildFailed` (`output-missing`, `output-refused`).

    Names sorted, times, owners and groups zero, modes 0644 or 0755: the same files give the same bytes.
    """
    walk = _Walk(bounds)
    root = os.open(src, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    outputs: list[Output] = []
    try:
        entries = walk.find(root, paths)
        with layer.open("xb") as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, is_directory in sorted(entries.items()):
                if is_directory:
                    tar.addfile(_member(name, 0o755, tarfile.DIRTYPE))
                else:
                    outputs.append(_copy(root, name, tar, walk))
    finally:
        os.close(root)
    if not outputs:
        raise BuildFailed("output-missing", "the artifact's paths hold no file")
    digest, size = _hash_file(layer)
    return Blob(digest, size, layer), tuple(outputs)


def assemble(*, component: str, run: RunDeclared, source: Source, layer: Blob, outputs: tuple[Output, ...]) -> Artifact:
    """The OCI config and manifest over a layer, as RFC 8785 bytes; purely a function of its arguments."""
    config = encode_canonical(
        {
            "component": component,
            "run": {"argv": list(run.argv), "health": run.health, "grace_s": run.grace_s},
            "source": {"repository": source.repository, "commit": source.commit, "tree": source.tree},
        }
    )
    config_blob = Blob(digest_of(config), len(config), config)
    manifest = encode_canonical(
        {
            "schemaVersion": 2,
            "mediaType": uris.OCI_MANIFEST,
            "artifactType": uris.ARTIFACT_TYPE,
            "config": {"mediaType": uris.ARTIFACT_CONFIG, "digest": config_blob.digest, "size": config_blob.size},
            "layers": [{"mediaType": uris.OCI_LAYER_TAR, "digest": layer.digest, "size": layer.size}],
            "annotations": {"org.opencontainers.image.source": source.repository, "org.opencontainers.image.revision": source.commit},
        }
    )
    return Artifact(Blob(digest_of(manifest), len(manifest), manifest), config_blob, layer, outputs)


class _Walk:
    """Counts what has been found against the bounds."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._size = 0

    def find(self, root: int, paths: Sequence[str]) -> dict[str, bool]:
        """Every file (False) and directory (True) below the paths, with the directories that lead to them."""
        entries: dict[str, bool] = {}
        for path in paths:
            parts = path.split("/")
            for depth in range(1, len(parts)):
                entries["/".join(parts[:depth])] = True
            self._add(root, path, entries)
        return entries

    def _add(self, root: int, path: str, entries: dict[str, bool]) -> None:
        with _opened(root, path) as (fd, found):
            if stat.S_ISDIR(found.st_mode):
                entries[path] = True
                self._count(entries)
                for name in sorted(os.listdir(fd)):  # noqa: PTH208  # by descriptor, not by a path that could change
                    self._add(root, f"{path}/{_checked(name, path)}", entries)
            else:
                entries[path] = False
                self._count(entries)

    def _count(self, entries: dict[str, bool]) -> None:
        if len(entries) > self._bounds.entries:
            raise BuildFailed("output-refused", f"the artifact has more than {self._bounds.entries} files")

    def weigh(self, size: int) -> None:
        """Add bytes; raises when the artifact is too large."""
        self._size += size
        if self._size > self._bounds.size:
            raise BuildFailed("output-refused", f"the artifact is larger than {self._bounds.size // 2**20} MiB")


def _checked(name: str, parent: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise BuildFailed("output-refused", f"a name below {parent!r} is not UTF-8") from None
    if not name.isprintable() or "\\" in name or len(parent) + len(name) > _MAX_NAME or parent.count("/") >= _MAX_DEPTH:
        raise BuildFailed("output-refused", f"a name below {parent[:80]!r} is too long, too deep, or holds a control character or a backslash")
    return name


@contextmanager
def _opened(root: int, path: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open a path below `root`, one name at a time, no link followed, never blocking on a pipe."""
    fd = os.dup(root)
    try:
        for part in path.split("/"):
            try:
                # O_NONBLOCK: opening a pipe must not wait for a writer.
                below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=fd)
            except (FileNotFoundError, NotADirectoryError):
                raise BuildFailed("output-missing", f"the build made no {path!r}, which artifact.paths names") from None
            except OSError:
                raise BuildFailed("output-refused", f"{path!r} is a link, a socket or unreadable; outputs are plain files and directories") from None
            os.close(fd)
            fd = below
        found = os.fstat(fd)
        if not stat.S_ISDIR(found.st_mode) and (not stat.S_ISREG(found.st_mode) or found.st_nlink != 1):
            raise BuildFailed("output-refused", f"{path!r} is a link, a pipe or a device; outputs are plain files and directories")
        yield fd, found
    finally:
        os.close(fd)


def _copy(root: int, name: str, tar: tarfile.TarFile, walk: _Walk) -> Output:
    with _opened(root, name) as (fd, found), os.fdopen(os.dup(fd), "rb") as stream:
        walk.weigh(found.st_size)
        hashed = _Hashed(stream)
        member = _member(name, 0o755 if found.st_mode & 0o111 else 0o644, tarfile.REGTYPE)
        member.size = found.st_size
        # A short file makes addfile raise; a longer one is cut at the size that the header states, and hashed as copied.
        tar.addfile(member, hashed)
        return Output(name, found.st_size, Digest("sha256:" + hashed.digest.hexdigest()))


class _Hashed:
    """A reader that hashes what it hands on."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


def _member(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mode = mode
    return member


def _hash_file(path: Path) -> tuple[Digest, int]:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Digest("sha256:" + digest.hexdigest()), size
