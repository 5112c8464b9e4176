"""The outermost ASGI layer: what is ambiguous, oversized or of another protocol is refused here, before any framework reads it.

h11 has already refused two lengths, unknown transfer codings, bad chunks, NUL and a missing or second Host of HTTP/1.1, and `framing` what h11
would mend and nobody could see from here: a bare LF, folded lines, control characters, trailers (`listen` renders those refusals). A refusal is
a problem document and ends the connection: what follows on it may have been meant as the same request's body.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

import trio

from .problem import ApiError, encode_problem, problem_headers

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
BodyBound: TypeAlias = Callable[[str, str], int | None]
"""(method, path) -> most bytes of a request's body; None: whoever takes the body bounds it"""

REQUEST_ID: Final = "pingee_request_id"
"""Key of the request's id in the ASGI scope."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
MAX_HEADER_BYTES: Final = 16 * 1024
MAX_HEADERS: Final = 64
JSON_BODY: Final = 64 * 1024
LINGER_BYTES: Final = 8 * 1024 * 1024
LINGER_S: Final = 2.0

_ONCE: Final = frozenset({b"host", b"authorization", b"content-type", b"content-length", b"transfer-encoding", b"idempotency-key"})

_logger = logging.getLogger(__name__)


def bound_json(_method: str, _path: str) -> int | None:
    """The default `BodyBound`: every body is a small JSON document."""
    return JSON_BODY


class Edge:
    """An ASGI application around another one. `max_body` bounds bodies by route before the application sees a byte too many."""

    def __init__(self, app: AsgiApp, *, max_body: BodyBound = bound_json, new_id: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self._app = app
        self._max_body = max_body
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass a lifespan through. A websocket is refused unseen."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _Exchange(scope, receive, send, self._new_id()).run(self._app, self._max_body)
        else:
            await send({"type": "websocket.close", "code": 1008})


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._id = request_id
        names = {name for name, _ in scope["headers"]}
        self._arrived = trio.Event()
        """set when the whole body has come"""
        if not names & {b"content-length", b"transfer-encoding"}:
            self._arrived.set()
        self._bound: int | None = None
        self._read = 0
        self._started = False
        self._refused = False

    async def run(self, app: AsgiApp, max_body: BodyBound) -> None:
        refusal = refuse(self._scope)
        if refusal is None:
            self._bound = max_body(self._scope["method"], self._scope["path"])
            refusal = self._refuse_declared()
        if refusal is not None:
            await self._refuse(refusal)
            return
        self._scope[REQUEST_ID] = self._id
        try:
            await app(self._scope, self._take, self._answer)
        except Exception as error:  # noqa: BLE001 -- the last door: whatever it was, the client gets a problem document and the log the place
            log_fault(self._id, error)
            if not self._started:
                await self._refuse(ApiError("internal"))

    def _refuse_declared(self) -> ApiError | None:
        length = next((value for name, value in self._scope["headers"] if name == b"content-length"), b"0")
        if self._bound is not None and int(length) > self._bound:
            return _too_large(self._bound)
        return None

    async def _take(self) -> Message:
        """The application's `receive`: counts, and ends the exchange where the body grows past its bound."""
        if self._refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if not message.get("more_body", False):
                self._arrived.set()
            if self._bound is not None and self._read > self._bound:
                if not self._started:
                    await self._refuse(_too_large(self._bound))
                self._refused = True
                return {"type": "http.disconnect"}
        return message

    async def _answer(self, message: Message) -> None:
        """The application's `send`: puts the request's id on the answer."""
        if self._refused:
            return
        if message["type"] == "http.response.start":
            self._started = True
            headers = [*message.get("headers", []), (b"pingee-request-id", self._id.encode())]
            if not self._arrived.is_set():
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body" and not message.get("more_body", False) and not self._arrived.is_set():
            # Answered before the body was whole: its sender must be able to read why.
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _refuse(self, error: ApiError) -> None:
        self._started = self._refused = True
        body = encode_problem(error, instance=_path_of(self._scope), request_id=self._id)
        headers = [(name.encode(), value.encode()) for name, value in problem_headers(error)]
        headers += [(b"content-length", str(len(body)).encode()), (b"connection", b"close"), (b"pingee-request-id", self._id.encode())]
        if error.status == 405:
            headers.append((b"allow", ", ".join(sorted(METHODS)).encode()))
        with suppress(trio.BusyResourceError, trio.BrokenResourceError, trio.ClosedResourceError):  # the server is closing, or the peer has gone
            await self._send({"type": "http.response.start", "status": error.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        # Closing on a peer that still sends makes the kernel reset the connection and drop the answer it has not read (RFC 9112 9.6).
        with trio.move_on_after(LINGER_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._drop_body, nursery.cancel_scope)
                await self._arrived.wait()  # the application may be reading too
                nursery.cancel_scope.cancel()

    async def _drop_body(self, lingering: trio.CancelScope) -> None:
        left = LINGER_BYTES
        while not self._arrived.is_set() and left > 0:
            message = await self._receive()
            left -= len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                self._arrived.set()
        lingering.cancel()


def refuse(scope: Scope) -> ApiError | None:
    """Why a request of this scope is not let in; None if it is."""
    headers: list[tuple[bytes, bytes]] = list(scope["headers"])
    names = Counter(name.lower() for name, _ in headers)
    target: bytes = scope.get("raw_path", b"")
    if scope["http_version"] not in ("1.0", "1.1"):
        return ApiError("http-version", "Speak HTTP/1.1.")
    if scope["method"] == "CONNECT":
        return ApiError("bad-request", "This is not a proxy: CONNECT is not served.")
    if scope["method"] not in METHODS:
        return ApiError("method-not-allowed")
    if not target.startswith(b"/") or target.startswith(b"//"):
        # "//x/y" is a path to us and a host and a path to others (RFC 3986 4.2)
        return ApiError("bad-request", "The request target must be a path that begins with one '/'.")
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEADER_BYTES - len(target):
        return ApiError("headers-too-large", f"At most {MAX_HEADERS} header fields and {MAX_HEADER_BYTES} bytes of them with the target.")
    return _refuse_framing(scope, names) or _refuse_protocols(names)


def _refuse_framing(scope: Scope, names: Counter[bytes]) -> ApiError | None:
    if twice := sorted(name for name in _ONCE if names[name] > 1):
        return ApiError("bad-request", f"The header field {twice[0].decode()} stands twice.")
    if not names[b"host"]:
        return ApiError("bad-request", "The header field host is missing.")
    if names[b"transfer-encoding"] and (names[b"content-length"] or scope["http_version"] == "1.0"):
        return ApiError("bad-request", "Transfer-Encoding together with Content-Length or HTTP/1.0 can be read in two ways.")
    return None


def _refuse_protocols(names: Counter[bytes]) -> ApiError | None:
    if names[b"upgrade"] or names[b"http2-settings"]:
        return ApiError("bad-request", "No other protocol is spoken here: send no Upgrade.")
    if names[b"content-encoding"]:
        return ApiError("unsupported-media-type", "Send the body as it is, without Content-Encoding.")
    return None


def log_fault(request_id: str, error: BaseException) -> None:
    """Write where a fault of ours arose. Never its message: that may carry what a vendor's answer carried."""
    place = "".join(_frames(error))
    _logger.error("request %s failed: %s\n%s", request_id, type(error).__name__, place)


def _frames(error: BaseException) -> Iterable[str]:
    yield from traceback.format_tb(error.__traceback__)
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield f"{type(inner).__name__}\n"
            yield from _frames(inner)


def _path_of(scope: Scope) -> str:
    # A target that was refused for its form is not repeated; a path is cut, it may be anything.
    path = str(scope.get("path", ""))[:200]
    return path if path.startswith("/") and path.isprintable() else "/"


def _too_large(bound: int) -> ApiError:
    return ApiError("too-large", f"This path takes at most {bound} bytes.")
