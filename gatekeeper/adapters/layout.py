"""An artifact store on disk: an OCI image layout (OCI image specification 1.1, image-layout.md), as oras, skopeo and crane read it.

A blob is written to a temporary file, hashed on the way, flushed to the disk, made read-only and renamed; so a name under `blobs/sha256`
exists only with whole bytes behind it. `index.json` changes under `flock`, also between processes, by the same write and rename.
A path is made from the hex digits of a parsed digest and from nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, TypeVarTuple

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest, digest_hex, parse_digest
from gatekeeper.model.strictjson import JsonValue, MalformedJson, parse_object
from gatekeeper.model.uris import OCI_INDEX
from gatekeeper.ports.artifacts import BlobDiffers, BlobMissing, BlobTooLarge
from gatekeeper.ports.errors import Unavailable

from .disk import HASH_S, Disk
from .incoming import Incoming, remove_leftovers
from .manifests import MAX_MANIFEST, demand_as_listed, subject_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CHUNK: Final = 1024 * 1024
MAX_INDEX: Final = 64 * 1024 * 1024

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_EMPTY_INDEX: Final = encode_canonical({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})


class LayoutStore:
    """`ports.artifacts.ArtifactStore` on the layout in one directory. Made by `open_layout`."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._blobs = directory / "blobs" / "sha256"
        self._disk = disk

    async def put(self, digest: Digest, chunks: AsyncIterable[bytes], *, max_bytes: int) -> int:
        """See `ArtifactStore.put`. Chunks that are an asynchronous generator are closed, also where they were not taken to the end."""
        path = self._path(digest)
        async with self._disk.receive(self._blobs, digest, chunks, max_bytes=max_bytes) as incoming:
            await self._disk.step(incoming.keep, path)
            return incoming.size

    async def size(self, digest: Digest) -> int | None:
        """See `ArtifactStore.size`."""
        return await self._disk.step(_size, self._path(digest))

    async def read(self, digest: Digest, *, max_bytes: int) -> bytes:
        """See `ArtifactStore.read`."""
        return await self._disk.step(_read, self._path(digest), digest, max_bytes)

    async def local(self, digest: Digest) -> Path:
        """See `ArtifactStore.local`. The file is read-only; whoever sends it hashes what was sent."""
        path = self._path(digest)
        await self._disk.step(_check, path, digest, deadline_s=HASH_S)
        return path

    async def list_manifest(self, digest: Digest, *, media_type: str, artifact_type: str | None, subject: Digest | None = None) -> None:
        """See `ArtifactStore.list_manifest`. `subject` must be what the manifest itself names: that is where readers look.

        Raises `BlobMissing`, `BlobDiffers` where the manifest is not there whole, or names another subject.
        """
        subject = None if subject is None else parse_digest(subject)
        await self._disk.step(self._list, parse_digest(digest), media_type, artifact_type, subject)

    async def referrers(self, subject: Digest) -> list[Digest]:
        """Manifests in the index whose `subject` is this digest, in the order they were listed (OCI distribution, referrers)."""
        return await self._disk.step(self._referrers, parse_digest(subject), deadline_s=HASH_S)

    def _path(self, digest: Digest) -> Path:
        return self._blobs / digest_hex(parse_digest(digest))

    def _list(self, digest: Digest, media_type: str, artifact_type: str | None, subject: Digest | None) -> None:
        data = _read(self._path(digest), digest, MAX_MANIFEST)
        demand_as_listed(data, media_type=media_type, subject=subject)
        descriptor: dict[str, JsonValue] = {"mediaType": media_type, "digest": digest, "size": len(data)}
        if artifact_type is not None:
            descriptor["artifactType"] = artifact_type
        with _locked(self._directory):
            index = _load_index(self._directory)
            manifests = index["manifests"]
            assert isinstance(manifests, list)  # noqa: S101 -- for mypy; _load_index refused anything else
            if not any(isinstance(item, dict) and item.get("digest") == digest for item in manifests):
                manifests.append(descriptor)
                _replace(self._directory / "index.json", encode_canonical(index))

    def _referrers(self, subject: Digest) -> list[Digest]:
        found = []
        manifests = _load_index(self._directory)["manifests"]
        for item in manifests if isinstance(manifests, list) else []:
            digest = parse_digest(item["digest"] if isinstance(item, dict) else None)
            if subject_of(_read(self._path(digest), digest, MAX_MANIFEST)) == subject:
                found.append(digest)
        return found


async def open_layout(directory: Path, *, threads: int = 8) -> LayoutStore:
    """The store in a directory, made (0700) where there is none; leftovers of a killed process are removed.

    `threads` bounds how many calls touch the disk at once. Raises `Unavailable("registry-unavailable")`, also where the directory holds
    something else than an image layout 1.0.0.
    """
    disk = Disk("the artifact directory", code="registry-unavailable", threads=threads)
    await disk.step(_prepare, directory)
    return LayoutStore(directory, disk)


def _prepare(directory: Path) -> None:
    blobs = directory / "blobs" / "sha256"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(directory):
        marker = directory / "oci-layout"
        if not marker.exists():
            _replace(marker, _LAYOUT)
        if _version(marker.read_bytes()) != "1.0.0":
            raise Unavailable("registry-unavailable", f"{directory} holds no OCI image layout of version 1.0.0")
        if not (directory / "index.json").exists():
            _replace(directory / "index.json", _EMPTY_INDEX)
        _load_index(directory)
        remove_leftovers(blobs)
        remove_leftovers(directory)


def _version(data: bytes) -> object:
    try:
        return parse_object(data).get("imageLayoutVersion")
    except MalformedJson:
        return None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # A fresh descriptor for each use: flock belongs to the open file, so threads exclude each other too.
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _load_index(directory: Path) -> dict[str, JsonValue]:
    with (directory / "index.json").open("rb") as file:
        data = file.read(MAX_INDEX + 1)
    try:
        index = parse_object(data, max_bytes=MAX_INDEX)
    except MalformedJson:
        index = {}
    if not isinstance(index.get("manifests"), list):
        raise Unavailable("registry-unavailable", "index.json of the artifact directory does not parse")
    return index


def _replace(path: Path, data: bytes) -> None:
    incoming = Incoming(path.parent)
    try:
        incoming.write(data)
        incoming.keep(path)
    finally:
        incoming.discard()


def _size(path: Path) -> int | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _open_blob(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)
    except FileNotFoundError:
        raise BlobMissing("artifact-missing", "the store has no such blob") from None


def _read(path: Path, digest: Digest, max_bytes: int) -> bytes:
    with _open_blob(path) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise BlobTooLarge("too-large", f"more than {max_bytes} bytes")
        data = b"".join(iter(lambda: file.read(min(CHUNK, max_bytes + 1)), b""))
    _compare(hashlib.sha256(data).hexdigest(), digest)
    return data


def _check(path: Path, digest: Digest) -> None:
    whole = hashlib.sha256()
    with _open_blob(path) as file:
        while chunk := file.read(CHUNK):
            whole.update(chunk)
    _compare(whole.hexdigest(), digest)


def _compare(found: str, digest: Digest) -> None:
    if found != digest_hex(digest):
        raise BlobDiffers("digest-mismatch", f"the stored bytes are not those of {digest}: they were altered after they were written")
