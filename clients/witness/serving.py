"""HTTP/1.1 over TLS for a witness, each thing bounded: connections in all and from one address, head, body, and the seconds for each.

h11 and trio alone, so that a witness starts at once. A connection takes one request after another.
"""

from __future__ import annotations

import ssl
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

import h11
import trio

from gatekeeper.tlog.proof import MAX_PROOF

from .keys import Unusable
from .protocol import TEXT, Answer, Witness

MOST: Final = 128
MOST_EACH: Final = 32
"""Connections at once: in all, and from one address."""
MAX_HEAD: Final = 16 * 1024
HANDSHAKE_S: Final = 5.0
REQUEST_S: Final = 5.0
"""For a whole request, from its first byte: a body that drips is cut."""
IDLE_S: Final = 60.0
SEND_S: Final = 5.0
_CHUNK: Final = 16 * 1024


class _Cut(Exception):
    """The connection is of no further use."""


class WitnessServer:
    """Answers for one witness; its store is used by one thread at a time."""

    def __init__(self, witness: Witness, *, request_s: float = REQUEST_S) -> None:
        self._witness, self._request_s = witness, request_s
        self._one = trio.CapacityLimiter(1)
        self._open: Counter[str] = Counter()

    async def serve(self, listeners: list[trio.SocketListener], tls: ssl.SSLContext | None) -> None:
        """Until cancelled."""

        async def connected(stream: trio.SocketStream) -> None:
            async with stream:
                peer = str(stream.socket.getpeername()[0])
                if self._open.total() >= MOST or self._open[peer] >= MOST_EACH:
                    return
                self._open[peer] += 1
                try:
                    await self._connection(stream if tls is None else await _encrypted(stream, tls))
                finally:
                    self._open[peer] -= 1
                    if not self._open[peer]:
                        del self._open[peer]

        async def guarded(stream: trio.SocketStream) -> None:
            with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, _Cut):
                await connected(stream)

        await trio.serve_listeners(guarded, listeners)

    async def _connection(self, stream: trio.abc.Stream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        while True:
            try:
                await _first_bytes(http, stream)
                with trio.move_on_after(self._request_s) as reading:
                    method, path, body = await _request(http, stream)
                answer = Answer(408, b"too slow\n") if reading.cancelled_caught else None
            except h11.RemoteProtocolError as error:
                answer = Answer(error.error_status_hint, b"not a request\n")
            if answer is None:
                # Waited for to the end: a cosignature that was stored is answered, or its caller has gone.
                answer = await trio.to_thread.run_sync(self._witness.answer, method, path, body, limiter=self._one)
            await _send(http, stream, answer)
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()


async def _encrypted(stream: trio.SocketStream, tls: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
    encrypted = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
    with trio.move_on_after(HANDSHAKE_S):
        await encrypted.do_handshake()
        return encrypted
    raise _Cut


async def _first_bytes(http: h11.Connection, stream: trio.abc.Stream) -> None:
    if http.trailing_data[0]:
        return
    with trio.move_on_after(IDLE_S):
        data = await stream.receive_some(_CHUNK)
        if data:
            http.receive_data(bytes(data))
            return
    raise _Cut


async def _request(http: h11.Connection, stream: trio.abc.Stream) -> tuple[str, str, bytes]:
    method, path, body = "", "", bytearray()
    while True:
        event = http.next_event()
        match event:
            case h11.Request():
                method, path = event.method.decode("ascii"), event.target.decode("ascii")
                if http.they_are_waiting_for_100_continue:
                    await stream.send_all(http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            case h11.Data():
                body += event.data
                if len(body) > MAX_PROOF:
                    raise h11.RemoteProtocolError("the body is too long", error_status_hint=413)
            case h11.EndOfMessage():
                return method, path, bytes(body)
            case h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some(_CHUNK)))
            case _:
                raise _Cut


async def _send(http: h11.Connection, stream: trio.abc.Stream, answer: Answer) -> None:
    if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        raise _Cut
    headers = [("content-type", answer.content_type or TEXT), ("content-length", str(len(answer.body))), ("cache-control", "no-store")]
    if http.their_state is not h11.DONE:
        headers.append(("connection", "close"))
    data = http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
    data += http.send(h11.Data(data=answer.body)) or b""
    data += http.send(h11.EndOfMessage()) or b""
    with trio.move_on_after(SEND_S):
        await stream.send_all(data)
        return
    raise _Cut


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with a PEM chain and its key, unencrypted; raises `Unusable`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError):
        raise Unusable(f"the certificate {certificate} with the key {key} cannot be used: not a PEM chain and its key") from None
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal.
    raise ValueError("the key is encrypted")
