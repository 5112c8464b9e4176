"""A directory as an artifact of our own format (`formats.md` 2), made at the target of what runs there. Deterministic; of unknown source.

Only regular files and directories are packed; a link, a socket or a device refuses the whole directory, for it could not be put back as it is.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatekeeper.model import uris
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest, digest_of

from .target import Caps


class NotPacked(Exception):
    """The directory holds something that an artifact cannot hold, or too much."""


@dataclass(frozen=True)
class Packed:
    """The layer that was written."""

    digest: Digest
    size: int


def pack_directory(source: Path, layer: Path, caps: Caps) -> Packed:
    """Write the layer to a new file. Raises `NotPacked`, and `OSError` where a file cannot be read."""
    if source.is_symlink() or not source.is_dir():
        raise NotPacked(f"{source}: is no directory")
    total = 0
    with os.fdopen(os.open(layer, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w+b") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for number, (name, found) in enumerate(_walk(source, ""), 1):
                total += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
                if number > caps.entries or total > min(caps.unpacked_bytes, caps.layer_bytes):
                    raise NotPacked(f"{source}: more than this target takes: {caps.entries} entries, {caps.layer_bytes} bytes")
                _add(tar, source, name, found)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    if size > caps.layer_bytes or not total:
        raise NotPacked(f"{source}: the layer is empty, or over this target's bound")
    return Packed(Digest(f"sha256:{digest}"), size)


def encode_config(component: str, *, argv: tuple[str, ...], health: str, grace_s: int) -> bytes:
    """The artifact's configuration; its empty source says that nobody knows it."""
    return encode_canonical({"component": component, "run": {"argv": list(argv), "health": health, "grace_s": grace_s}, "source": {}})


def encode_manifest(config: bytes, layer: Packed) -> bytes:
    """The OCI manifest."""
    return encode_canonical(
        {
            "schemaVersion": 2,
            "mediaType": uris.OCI_MANIFEST,
            "artifactType": uris.ARTIFACT_TYPE,
            "config": {"mediaType": uris.ARTIFACT_CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": uris.OCI_LAYER_TAR, "digest": layer.digest, "size": layer.size}],
        }
    )


def _walk(root: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(root / prefix) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = f"{prefix}/{name}" if prefix else name
        found = (root / path).lstat()
        if stat.S_ISDIR(found.st_mode):
            yield path, found
            yield from _walk(root, path)
        elif stat.S_ISREG(found.st_mode):
            yield path, found
        else:
            raise NotPacked(f"{path}: is a link, a socket or a device; an artifact holds plain files and directories")


def _add(tar: tarfile.TarFile, root: Path, name: str, found: os.stat_result) -> None:
    member = tarfile.TarInfo(name)
    if stat.S_ISDIR(found.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
        return
    member.mode = 0o755 if found.st_mode & 0o111 else 0o644
    with os.fdopen(os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        member.size = os.fstat(file.fileno()).st_size
        tar.addfile(member, file)
