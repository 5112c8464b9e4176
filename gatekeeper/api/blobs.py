"""`PUT /v1/artifacts/{artifact}/uploads/{blob}`: raw bytes, streamed into the artifact store.

A plain ASGI application in front of the framework, which would read a whole body into memory first. Chunks are taken as the store takes them,
so a slow disk slows the sender; the sender has a deadline for each chunk and one for all.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import trio

from gatekeeper.deploy.intake import accept_blob
from gatekeeper.deploy.parts import Parts
from gatekeeper.model.canonical import encode_canonical

from .answer import path_digest, translate
from .authenticate import caller_of, parse_bearer
from .edge import REQUEST_ID, AsgiApp, Receive, Scope, Send
from .problem import ApiError, encode_problem, problem_headers

CHUNK_S: Final = 20.0
TOTAL_S: Final = 900.0

_PATH: Final = re.compile(r"/v1/artifacts/(sha256:[0-9a-f]{64})/uploads/(sha256:[0-9a-f]{64})")


def is_upload(method: str, path: str) -> bool:
    """Whether a request is for this door; its body is bounded here and not by the edge."""
    return method == "PUT" and _PATH.fullmatch(path) is not None


@dataclass(frozen=True)
class BlobDoor:
    """Takes uploads, and passes everything else on to `inner`."""

    parts: Parts
    inner: AsgiApp
    max_blob: int
    """bytes of one blob"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an upload, or pass the request on."""
        if scope["type"] != "http" or not is_upload(scope["method"], scope["path"]):
            await self.inner(scope, receive, send)
            return
        try:
            size = await self._take(scope, receive)
        except Exception as error:  # noqa: BLE001 -- translate raises again what is a bug; the edge answers that
            await _refuse(scope, send, translate(error))
            return
        await _answer(send, 201, encode_canonical({"size": size}), [("content-type", "application/json")])

    async def _take(self, scope: Scope, receive: Receive) -> int:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        who = caller_of(self.parts, parse_bearer(headers.get(b"authorization")))
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
                return await accept_blob(self.parts, who, artifact, blob, _chunks(receive), max_bytes=self.max_blob)
        except trio.TooSlowError:
            raise ApiError("timeout", f"each chunk must arrive within {CHUNK_S:.0f} s and the blob within {TOTAL_S:.0f} s") from None


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
