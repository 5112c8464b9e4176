"""Artifact bytes by digest. Nothing is believed that was not hashed here, from raw bytes, size first."""

from __future__ import annotations

from collections.abc import AsyncIterable
from pathlib import Path
from typing import Protocol

from gatekeeper.model.digest import Digest

from .errors import PortError


class BlobMissing(PortError):
    """The store has no such blob."""


class BlobDiffers(PortError):
    """The bytes are not those of the digest: refused on the way in, an alarm on the way out."""


class BlobTooLarge(PortError):
    """More bytes than the caller allows."""


class ArtifactStore(Protocol):
    """Blobs and manifests by content. Writes are durable on return and idempotent; concurrent writers of one digest are harmless.

    Raises `Unavailable("registry-unavailable")` where the store cannot be used (disk full included), and then nothing is half there.
    """

    async def put(self, digest: Digest, chunks: AsyncIterable[bytes], *, max_bytes: int) -> int:
        """Store a blob while hashing it; the number of bytes. Raises `BlobDiffers`, `BlobTooLarge`."""
        ...

    async def size(self, digest: Digest) -> int | None:
        """Bytes of a blob that is there, else None. Does not hash."""
        ...

    async def read(self, digest: Digest, *, max_bytes: int) -> bytes:
        """A small blob, hashed again on this call. Raises `BlobMissing`, `BlobDiffers`, `BlobTooLarge`."""
        ...

    async def local(self, digest: Digest) -> Path:
        """A file with these bytes, hashed again on this call. Raises `BlobMissing`, `BlobDiffers`."""
        ...

    async def list_manifest(self, digest: Digest, *, media_type: str, artifact_type: str | None, subject: Digest | None = None) -> None:
        """Make a stored manifest findable: in the layout's index or as the registry's manifest, and as a referrer of `subject` where one is given.

        What it names (config, layers) is stored before it. Raises `BlobMissing`; `BlobDiffers` where its bytes were altered, or it names another
        subject or another media type than given here.
        """
        ...

    async def referrers(self, subject: Digest) -> list[Digest]:
        """Listed manifests that name this subject, each hashed on this call. Their order means nothing. Raises `BlobDiffers`."""
        ...
