"""An artifact store in a repository of any OCI 1.1 registry. The registry is believed in nothing: what comes from it is hashed on the way.

A blob on its way in is hashed in a local file first, so that nothing reaches the registry which is not what it is called. A manifest is stored
twice: as a blob, where the intake puts it, and as a manifest once it is listed. Referrers are found by the referrers API; where a registry has
none, by the fallback tag `sha256-<hex>` of OCI distribution 1.1, which this store then keeps.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

import trio

from gatekeeper.model.digest import Digest, digest_hex, digest_of, parse_digest
from gatekeeper.model.uris import OCI_INDEX
from gatekeeper.ports.artifacts import BlobDiffers, BlobMissing
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.registry import RegistryAddress

from .disk import HASH_S, Disk
from .incoming import Incoming, remove_leftovers
from .manifests import MAX_MANIFEST, demand_as_listed, descriptors_of, subject_of
from .oci import OciLink, Transient

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ASK_S: Final = 30.0
"""One question about one thing, a manifest's bytes included."""
KEPT_S: Final = 3600.0
"""A downloaded file that nobody has asked for since then is removed; whoever was given its path has read it long before."""
PAUSES_S: Final = (0.2, 1.0)
"""Before the second and the third try of what failed in passing."""
MAX_REFERRERS: Final = 1000
TAG_TRIES: Final = 3


class RegistryStore:
    """`ports.artifacts.ArtifactStore` in a registry. Made by `open_registry`."""

    def __init__(self, link: OciLink, directory: Path, disk: Disk, *, max_blob: int, pauses: tuple[float, ...] = PAUSES_S) -> None:
        self._link = link
        self._directory = directory
        self._disk = disk
        self._max_blob = max_blob
        self._pauses = pauses
        self._tagging = trio.Lock()

    async def put(self, digest: Digest, chunks: AsyncIterable[bytes], *, max_bytes: int) -> int:
        """See `ArtifactStore.put`. Chunks that are an asynchronous generator are closed, also where they were not taken to the end."""
        async with self._disk.receive(self._directory, parse_digest(digest), chunks, max_bytes=max_bytes) as incoming:
            await self._ask(self._link.upload, digest, incoming.path, deadline_s=HASH_S)
            return incoming.size

    async def size(self, digest: Digest) -> int | None:
        """See `ArtifactStore.size`: the registry's own word."""
        return await self._ask(self._link.size, parse_digest(digest))

    async def read(self, digest: Digest, *, max_bytes: int) -> bytes:
        """See `ArtifactStore.read`. The registry is asked on every call."""
        return await self._ask(self._read, parse_digest(digest), max_bytes)

    async def local(self, digest: Digest) -> Path:
        """See `ArtifactStore.local`. What was downloaded and hashed before is hashed again here, and the registry is not asked."""
        path = self._directory / digest_hex(parse_digest(digest))
        if not await self._disk.step(_kept, path, digest, deadline_s=HASH_S):
            await self._disk.step(_remove_unused, self._directory)
            await self._ask(self._download, digest, path, deadline_s=HASH_S)
        return path

    async def list_manifest(self, digest: Digest, *, media_type: str, artifact_type: str | None, subject: Digest | None = None) -> None:
        """See `ArtifactStore.list_manifest`. Without a referrers API, replicas that list for one subject at once may have to try again."""
        subject = None if subject is None else parse_digest(subject)
        data = await self.read(digest, max_bytes=MAX_MANIFEST)
        demand_as_listed(data, media_type=media_type, subject=subject)
        known = await self._ask(self._link.put_manifest, digest, digest, data, media_type)
        if subject is not None and not known and digest not in await self._ask(self._listed, subject):
            descriptor: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": len(data)}
            if artifact_type is not None:
                descriptor["artifactType"] = artifact_type
            async with self._tagging:
                await self._ask(self._tag, subject, descriptor)

    async def referrers(self, subject: Digest) -> list[Digest]:
        """See `ArtifactStore.referrers`. Raises `Unavailable` where the registry lists more than `MAX_REFERRERS`: some would go unseen."""
        return await self._ask(self._referrers, parse_digest(subject), deadline_s=HASH_S)

    async def _ask(self, fn: Callable[[*Ts], T], *args: *Ts, deadline_s: float = ASK_S) -> T:
        """Run what asks the registry, again where it failed in passing; all within the deadline."""

        def run() -> T:
            with self._link.within(ends - time.monotonic()):
                return fn(*args)

        ends = time.monotonic() + deadline_s
        for pause in (*self._pauses, None):
            try:
                return await self._disk.step(run, deadline_s=max(ends - time.monotonic(), 0))
            except Transient:
                if pause is None:
                    raise
                await trio.sleep(pause)
        raise AssertionError  # the last pause is None

    def _read(self, digest: Digest, max_bytes: int) -> bytes:
        data = bytearray()
        if not self._link.blob(digest, data.extend, max_bytes=max_bytes):
            raise BlobMissing("artifact-missing", "the store has no such blob")
        whole = bytes(data)
        _demand(digest_of(whole), digest)
        return whole

    def _download(self, digest: Digest, path: Path) -> None:
        incoming = Incoming(self._directory)
        try:
            if not self._link.blob(digest, incoming.write, max_bytes=self._max_blob):
                raise BlobMissing("artifact-missing", "the store has no such blob")
            _demand(incoming.digest(), digest)
            incoming.keep(path)
        finally:
            incoming.discard()

    def _listed(self, subject: Digest) -> list[Digest]:
        """What the registry says refers to the subject, by its referrers API and by the tag: it may have got the API after the tag."""
        pages = [page.index for page in self._link.referrers(subject) or ()]
        found = dict.fromkeys(Digest(item["digest"]) for index in pages for item in descriptors_of(index))
        found |= dict.fromkeys(Digest(item["digest"]) for item in self._tagged(subject))
        if len(found) > MAX_REFERRERS:
            raise Unavailable("registry-unavailable", f"the registry lists more than {MAX_REFERRERS} referrers of one subject")
        return list(found)

    def _referrers(self, subject: Digest) -> list[Digest]:
        found = []
        for digest in self._listed(subject):
            try:
                manifest = self._read(digest, MAX_MANIFEST)
            except BlobMissing:
                continue  # listed and not there is not listed
            if subject_of(manifest) == subject:
                found.append(digest)
        return found

    def _tagged(self, subject: Digest) -> list[dict[str, Any]]:
        manifest = self._link.manifest(_tag_of(subject))
        return [] if manifest is None else descriptors_of(manifest.data)

    def _tag(self, subject: Digest, descriptor: dict[str, Any]) -> None:
        """Add a descriptor to the tag's index, and look whether it stayed: another replica may have written in between."""
        for _ in range(TAG_TRIES):
            listed = self._tagged(subject)
            if any(item["digest"] == descriptor["digest"] for item in listed):
                return
            index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*listed, descriptor]}).encode()
            self._link.put_manifest(_tag_of(subject), digest_of(index), index, OCI_INDEX)
        if not any(item["digest"] == descriptor["digest"] for item in self._tagged(subject)):
            raise Unavailable("registry-unavailable", "the registry does not keep the list of referrers, or others change it at the same time")


async def open_registry(address: RegistryAddress, directory: Path, *, max_blob: int, threads: int = 8) -> RegistryStore:
    """The store in a registry's repository. `directory` (made, 0700) holds blobs on their way in and what was downloaded.

    `threads` bounds how many calls are under way at once, `max_blob` the bytes of a downloaded blob. Nothing is asked of the registry here.
    Raises `Unavailable("registry-unavailable")` where the directory or the address's CA file cannot be used.
    """
    disk = Disk("the registry or the directory for its files", code="registry-unavailable", threads=threads)
    store = RegistryStore(OciLink(address), directory, disk, max_blob=max_blob)
    if address.ca_file is not None:
        await disk.step(address.ca_file.read_bytes)
    await disk.step(_prepare, directory)
    return store


def _prepare(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_leftovers(directory)


def _kept(path: Path, digest: Digest) -> bool:
    """Whether a file is there with these bytes; one with others is removed, since it can be fetched again."""
    try:
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return False
    if whole != digest_hex(digest):
        path.unlink(missing_ok=True)
        return False
    os.utime(path)
    return True


def _remove_unused(directory: Path) -> None:
    for path in directory.glob("[0-9a-f]*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - KEPT_S:
                path.unlink()


def _demand(found: Digest, digest: Digest) -> None:
    if found != digest:
        raise BlobDiffers("digest-mismatch", f"the registry has other bytes for {digest}")


def _tag_of(subject: Digest) -> str:
    return f"sha256-{digest_hex(subject)}"
