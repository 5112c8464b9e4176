"""Listening sockets of our own and hypercorn under them, with every limit written down.

hypercorn is told nothing by a file or the environment. Three of its doors are closed here, because no setting closes them: HTTP/2 by prior
knowledge, HTTP/2 by `Upgrade: h2c`, and websockets (`_PlainHttp11`). What h11 refuses by itself is answered as a problem document.
"""

from __future__ import annotations

import errno
import logging
import secrets
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import h11
import trio
from hypercorn.config import Config, Sockets
from hypercorn.events import Closed
from hypercorn.protocol.events import Request as StreamRequest
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio import serve
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import Framework

from .admission import Admission, Bounds, within_descriptors
from .edge import MAX_HEADER_BYTES, AsgiApp
from .framing import StrictConnection
from .problem import ApiError, code_of_status, encode_problem, problem_headers

READ_TIMEOUT_S: Final = 60
"""A connection on which nothing arrives for so long is closed, whatever it was doing."""
KEEP_ALIVE_S: Final = 15
HANDSHAKE_S: Final = 5
GRACE_S: Final = 3.0
"""How long requests under way may go on after the stop event."""
SEND_STALL_MS: Final = 5000
"""A peer that acknowledges nothing for so long is cut (RFC 5482): hypercorn's own send cannot be cancelled and would hold the shutdown."""
BACKLOG: Final = 512

_logger = logging.getLogger(__name__)


class CannotListen(Exception):
    """No socket could be opened there, or its certificate could not be read: one sentence for the operator."""


@dataclass(frozen=True)
class Listener:
    """A bound socket, not yet accepting; with TLS where `tls` is given."""

    socket: socket.socket
    tls: ssl.SSLContext | None

    @property
    def port(self) -> int:
        """The port it is bound to, also where 0 was asked for."""
        return int(self.socket.getsockname()[1])

    def close(self) -> None:
        """Close a listener that was never served."""
        self.socket.close()


def open_listener(host: str, port: int, *, certificate: Path | None = None, key: Path | None = None) -> Listener:
    """Bind a TCP socket to an address (no name), TLS 1.2 or newer where a certificate (PEM chain) and key are given; raises `CannotListen`."""
    tls = None if certificate is None or key is None else _tls(certificate, key)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SEND_STALL_MS)  # accepted sockets inherit it
        bound.bind((host, port))
        # Two sockets with SO_REUSEADDR may both be bound; only listening claims the port, and "in use" must be said now.
        bound.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        bound.close()
        raise CannotListen(_listen_sentence(host, port, error)) from None
    bound.setblocking(False)
    return Listener(bound, tls)


async def serve_app(
    app: AsgiApp,
    listeners: Sequence[Listener],
    stop: trio.Event,
    *,
    grace_s: float = GRACE_S,
    bounds: Bounds | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application until `stop` is set, then finish what is under way within `grace_s` seconds. Closes the listeners.

    `bounds` is how many connections it holds at once, lowered where the process may not open so many files. Started when the application's
    lifespan has started and connections are taken. Listeners with TLS must share one context.
    """
    contexts = {id(listener.tls): listener.tls for listener in listeners if listener.tls is not None}
    if len(contexts) > 1:
        raise ValueError("listeners of one application must share a TLS context")
    admission = Admission(within_descriptors(bounds or Bounds()))
    config = _ExplicitConfig(listeners, next(iter(contexts.values()), None), grace_s, admission)
    framework: Framework = app  # type: ignore[assignment]  # the same protocol, spelled with TypedDicts there
    async with trio.open_nursery() as nursery:
        await nursery.start(_served, framework, config, stop)
        task_status.started()


async def _served(app: Framework, config: Config, stop: trio.Event, *, task_status: trio.TaskStatus[list[str]]) -> None:
    await serve(app, config, shutdown_trigger=stop.wait, mode="asgi", task_status=task_status)


class _ExplicitConfig(Config):
    """hypercorn's settings, every one that bounds something; sockets and TLS are ours."""

    def __init__(self, listeners: Sequence[Listener], tls: ssl.SSLContext | None, grace_s: float, admission: Admission) -> None:
        self.admission = admission
        self._listeners = tuple(listeners)
        self._tls = tls
        self.accesslog = None
        self.errorlog = logging.getLogger("gatekeeper.http")
        self.alpn_protocols = ["http/1.1"]
        self.backlog = BACKLOG
        self.graceful_timeout = grace_s
        self.shutdown_timeout = grace_s
        self.startup_timeout = 60
        self.read_timeout = READ_TIMEOUT_S
        self.keep_alive_timeout = KEEP_ALIVE_S
        self.keep_alive_max_requests = 1000
        self.ssl_handshake_timeout = HANDSHAKE_S
        self.h11_max_incomplete_size = MAX_HEADER_BYTES
        self.max_app_queue_size = 10
        self.include_server_header = False

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self._tls

    def create_sockets(self) -> Sockets:
        secure = [listener.socket for listener in self._listeners if listener.tls is not None]
        plain = [listener.socket for listener in self._listeners if listener.tls is None]
        return Sockets(secure, plain, [])


class _PlainHttp11(H11Protocol):
    """HTTP/1.1 and nothing else, whatever the first bytes ask for."""

    async def initiate(self) -> None:
        self.connection = StrictConnection(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)

    async def _check_protocol(self, _event: h11.Request) -> None:
        return None

    async def _create_stream(self, request: h11.Request) -> None:
        if request.http_version not in (b"1.0", b"1.1"):
            # Answered here: h11 takes what follows an HTTP/2 preface for garbage and would close on the application's answer.
            await self._send_error_response(505)
            await self.send(Closed())
            return
        self.stream = HTTPStream(
            self.app, self.config, self.context, self.task_group, self.ssl, self.client, self.server, self.stream_send, STREAM_ID
        )
        await self.stream.handle(
            StreamRequest(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()

    async def _send_error_response(self, status_code: int) -> None:
        error = ApiError(code_of_status(status_code))
        request_id = secrets.token_hex(16)
        body = encode_problem(error, instance=None, request_id=request_id)
        headers = [(name.encode(), value.encode()) for name, value in problem_headers(error)]
        headers += [(b"content-length", str(len(body)).encode()), (b"connection", b"close"), (b"pingee-request-id", request_id.encode())]
        headers += self.config.response_headers("h11")
        await self._send_h11_event(h11.Response(status_code=error.status, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


_serve_connection = TCPServer.run
_read_connection = TCPServer._read_data  # noqa: SLF001 -- the one place after the last byte and before the wait for the idle timeout


async def _serve_contained(self: TCPServer) -> None:
    config = cast("_ExplicitConfig", self.config)
    with config.admission.place(_peer_of(self.stream), trio.current_time()) as admitted:
        if admitted:
            await _serve_one(self)
        else:
            await trio.aclose_forcefully(self.stream)


async def _serve_one(self: TCPServer) -> None:
    # A peer that breaks off at the right moment makes hypercorn send on a socket that is sending; left alone, the error would end the server.
    try:
        await _serve_connection(self)
    except* Exception as group:  # noqa: BLE001 -- whatever it was, it was one connection
        _logger.warning("a connection ended with %s", ", ".join(sorted(_kinds(group))))


async def _read_to_the_end(self: TCPServer) -> None:
    # Nothing more can come, so nothing is waited for: hypercorn would keep socket and task until the timeout of an idle connection.
    await _read_connection(self)
    await self.idle_task.stop()


def _peer_of(stream: trio.SSLStream[trio.SocketStream] | trio.SocketStream) -> str:
    socket = (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket
    try:
        return str(socket.getpeername()[0])
    except OSError:
        return ""  # gone already


def _kinds(error: BaseException) -> set[str]:
    if isinstance(error, BaseExceptionGroup):
        return {kind for inner in error.exceptions for kind in _kinds(inner)}
    return {type(error).__name__}


def _close_other_protocols() -> None:
    # hypercorn's ProtocolWrapper names the class itself, so the four methods are put into it.
    for name in ("initiate", "_check_protocol", "_create_stream", "_send_error_response"):
        setattr(H11Protocol, name, vars(_PlainHttp11)[name])


_close_other_protocols()
TCPServer.run = _serve_contained  # type: ignore[method-assign]
TCPServer._read_data = _read_to_the_end  # type: ignore[method-assign]  # noqa: SLF001


def _tls(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else "not a PEM chain and its key"
        raise CannotListen(f"the certificate {certificate} with the key {key} cannot be used: {reason}") from None
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal.
    raise ValueError("the key is encrypted")


def _listen_sentence(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program: stop it, or choose another port"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} on {host} may not be opened by this user: choose one above 1023"
    return f"cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or 'not an address of this machine'}"
