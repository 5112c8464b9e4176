"""`/v1/artifacts/{artifact}/uploads/{blob}`: raw bytes, streamed into the artifact store.

PUT takes a blob at once. PATCH with `Content-Range: bytes FIRST-LAST/SIZE` takes the next part of one, and answers 202 with the offset, or 201
when it was the last; `bytes */SIZE` asks to finish what is complete. GET tells the offset. A part at another offset is 416, and says which.

A plain ASGI application in front of the framework, which would read a whole body into memory first. Chunks are taken as the store takes them,
so a slow disk slows the sender; the sender has a deadline for each chunk and one for all.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from gatekeeper.deploy.intake import accept_blob, demand_wanted
from gatekeeper.deploy.parts import Parts
from gatekeeper.model.caller import Caller
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest, digest_hex, digest_of
from gatekeeper.model.strictjson import JsonValue
from gatekeeper.ports.artifacts import BlobDiffers
from gatekeeper.ports.uploads import UploadShelf, WrongOffset

from .answer import path_digest, translate
from .authenticate import caller_of, make_ready, parse_bearer
from .edge import REQUEST_ID, AsgiApp, Receive, Scope, Send
from .problem import ApiError, encode_problem, problem_headers

CHUNK_S: Final = 20.0
TOTAL_S: Final = 900.0

_RANGE: Final = re.compile(r"bytes (?:(?P<first>[0-9]{1,15})-(?P<last>[0-9]{1,15})|\*)/(?P<size>[0-9]{1,15})")
_PATH: Final = re.compile(r"/v1/artifacts/(sha256:[0-9a-f]{64})/uploads/(sha256:[0-9a-f]{64})")


def is_upload(method: str, path: str) -> bool:
    """Whether a request is for this door; its body is bounded here and not by the edge."""
    return method in {"PUT", "PATCH", "GET"} and _PATH.fullmatch(path) is not None


@dataclass(frozen=True)
class BlobDoor:
    """Takes uploads, and passes everything else on to `inner`."""

    parts: Parts
    inner: AsgiApp
    max_blob: int
    """bytes of one blob"""
    uploads: UploadShelf | None = None
    """None: blobs are taken at once only"""
    finishing: dict[str, trio.Lock] = field(default_factory=dict)
    """uploads whose bytes are complete and go to the store"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an upload, or pass the request on."""
        if scope["type"] != "http" or not is_upload(scope["method"], scope["path"]):
            await self.inner(scope, receive, send)
            return
        try:
            status, answer = await self._take(scope, receive)
        except Exception as error:  # noqa: BLE001 -- translate raises again what is a bug; the edge answers that
            await _refuse(scope, send, translate(error))
            return
        await _answer(send, status, encode_canonical(answer), [("content-type", "application/json"), ("cache-control", "no-store")])

    async def _take(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, JsonValue]]:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        token = parse_bearer(headers.get(b"authorization"))
        await make_ready(self.parts, token)
        who = caller_of(self.parts, token)
        if who is None:
            raise ApiError("unauthenticated", "this needs a bearer token")
        declared = headers.get(b"content-length", "0")
        if not declared.isdecimal() or int(declared) > self.max_blob:
            raise ApiError("too-large", f"a blob has at most {self.max_blob} bytes here")
        found = _PATH.fullmatch(scope["path"])
        if found is None:
            raise ApiError("not-found")
        artifact, blob = path_digest(found[1]), path_digest(found[2])
        try:
            with trio.fail_after(TOTAL_S):
                if scope["method"] == "PUT":
                    return 201, {"size": await accept_blob(self.parts, who, artifact, blob, _chunks(receive), max_bytes=self.max_blob)}
                return await self._take_part(scope["method"], headers.get(b"content-range", ""), who, artifact, blob, _chunks(receive))
        except trio.TooSlowError:
            raise ApiError("timeout", f"each chunk must arrive within {CHUNK_S:.0f} s and the blob within {TOTAL_S:.0f} s") from None

    async def _take_part(
        self, method: str, content_range: str, who: Caller, artifact: Digest, blob: Digest, chunks: AsyncIterator[bytes]
    ) -> tuple[int, dict[str, JsonValue]]:
        if self.uploads is None:
            raise ApiError("method-not-allowed")
        project = await demand_wanted(self.parts, who, artifact, blob)
        name = f"{digest_hex(digest_of(project.encode()))}-{digest_hex(artifact)}-{digest_hex(blob)}"
        if method == "GET":
            return 200, {"offset": await self.uploads.offset(name)}
        part = _parse_range(content_range)
        if part.size > self.max_blob:
            raise ApiError("too-large", f"a blob has at most {self.max_blob} bytes here")
        try:
            if part.first is not None:
                offset = await self.uploads.append(name, part.first, chunks, max_bytes=part.last + 1)
                if offset < part.size:
                    return 202, {"offset": offset}
            async with self._alone(name):
                return 201, {"size": await self._finish(self.uploads, name, who, artifact, blob, part.size)}
        except WrongOffset as wrong:
            raise ApiError("range-not-satisfiable", f"the bytes end at {wrong.offset}: send what follows") from None

    async def _finish(self, uploads: UploadShelf, name: str, who: Caller, artifact: Digest, blob: Digest, size: int) -> int:
        offset = await uploads.offset(name)
        if offset == 0 and await self.parts.artifacts.size(blob) == size:
            return size  # finished before: whoever asked then may have waited for the answer no longer
        if offset != size:
            raise WrongOffset(offset)
        try:
            stored = await accept_blob(self.parts, who, artifact, blob, uploads.read(name), max_bytes=self.max_blob)
        except BlobDiffers:
            await uploads.drop(name)  # going on with wrong bytes makes no right ones
            raise
        await uploads.drop(name)
        return stored

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """A blob goes to the store once at a time: who asks again while it does waits for that."""
        lock = self.finishing.setdefault(name, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self.finishing.pop(name, None)


@dataclass(frozen=True)
class _Part:
    first: int | None
    """None: nothing is added, what is complete is finished"""
    last: int
    size: int


def _parse_range(text: str) -> _Part:
    """`Content-Range` of a part (RFC 9110, 14.4 and 14.5); its size must be given. Raises `ApiError`."""
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ApiError("bad-request", "a part needs the header Content-Range: bytes FIRST-LAST/SIZE, or bytes */SIZE to finish")
    size = int(found["size"])
    if size == 0:
        raise ApiError("bad-request", "an empty blob has no parts: send it by PUT")
    if found["first"] is None:
        return _Part(None, size - 1, size)
    part = _Part(int(found["first"]), int(found["last"]), size)
    if not int(found["first"]) <= part.last < size:
        raise ApiError("bad-request", "the part does not lie within the blob")
    return part


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        with trio.fail_after(CHUNK_S):
            message = await receive()
        if message["type"] != "http.request":
            raise ApiError("bad-request", "the connection ended before the blob did")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _refuse(scope: Scope, send: Send, error: ApiError) -> None:
    body = encode_problem(error, instance=str(scope["path"])[:200], request_id=scope.get(REQUEST_ID))
    await _answer(send, error.status, body, [*problem_headers(error), ("connection", "close")])


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
    fields = [(name.encode(), value.encode()) for name, value in (*headers, ("content-length", str(len(body))))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})
