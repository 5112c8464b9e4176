"""An artifact store in memory. Passes `tests/contract/test_artifacts.py` like the one on disk."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path

from gatekeeper.model.digest import Digest, digest_of, parse_digest
from gatekeeper.model.strictjson import parse_object
from gatekeeper.ports.artifacts import BlobDiffers, BlobMissing, BlobTooLarge
from gatekeeper.ports.errors import Unavailable


class MemoryArtifacts:
    """`blobs` may be altered by a test, to play a store that lies; `full` makes every write fail as a full disk does."""

    def __init__(self, directory: Path | None = None) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.listed: list[tuple[Digest, str, str | None, Digest | None]] = []
        self.full = False
        self._directory = directory

    async def put(self, digest: Digest, chunks: AsyncIterable[bytes], *, max_bytes: int) -> int:
        parse_digest(digest)
        data = b""
        try:
            async for chunk in chunks:
                data += chunk
                if len(data) > max_bytes:
                    raise BlobTooLarge("too-large", f"more than {max_bytes} bytes")
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        if digest_of(data) != digest:
            raise BlobDiffers("digest-mismatch", "the bytes are not those of the digest")
        if self.full:
            raise Unavailable("registry-unavailable", "no space left")
        self.blobs[digest] = data
        return len(data)

    async def size(self, digest: Digest) -> int | None:
        data = self.blobs.get(parse_digest(digest))
        return None if data is None else len(data)

    async def read(self, digest: Digest, *, max_bytes: int) -> bytes:
        data = self.blobs.get(parse_digest(digest))
        if data is None:
            raise BlobMissing("artifact-missing", "the store has no such blob")
        if len(data) > max_bytes:
            raise BlobTooLarge("too-large", f"more than {max_bytes} bytes")
        if digest_of(data) != digest:
            raise BlobDiffers("digest-mismatch", "the stored bytes were altered")
        return data

    async def local(self, digest: Digest) -> Path:
        data = await self.read(digest, max_bytes=2**40)
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="pingee-fake-artifacts-"))
            weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        path = self._directory / digest.removeprefix("sha256:")
        path.write_bytes(data)
        return path

    async def list_manifest(self, digest: Digest, *, media_type: str, artifact_type: str | None, subject: Digest | None = None) -> None:
        data = await self.read(digest, max_bytes=4 * 1024 * 1024)
        document = parse_object(data)
        if document.get("mediaType", media_type) != media_type:
            raise BlobDiffers("digest-mismatch", "the manifest names another media type than the one it is listed with")
        named = document.get("subject")
        if subject is not None and (named.get("digest") if isinstance(named, dict) else None) != parse_digest(subject):
            raise BlobDiffers("digest-mismatch", "the manifest does not name that subject")
        row = (digest, media_type, artifact_type, subject)
        if digest not in [item[0] for item in self.listed]:
            self.listed.append(row)

    async def referrers(self, subject: Digest) -> list[Digest]:
        return [digest for digest, _, _, of in self.listed if of == parse_digest(subject)]
