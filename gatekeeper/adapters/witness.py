"""C2SP tlog-witness over HTTPS. The addresses are those of the log policy file; nothing else is asked, and no redirect is followed.

h11 and trio alone: the publisher cancels what is slow at any moment, and then nothing may be left open or half read.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from gatekeeper.ports.errors import Denied, PortError, Rejected, Unavailable
from gatekeeper.ports.witness import Cosignatures, OtherRoot, OtherSize, WitnessAnswer, WitnessBusy
from gatekeeper.tlog.errors import MalformedNote
from gatekeeper.tlog.signature import parse_signature_lines
from gatekeeper.tlog.spelling import parse_decimal

MAX_ANSWER: Final = 64 * 1024
MAX_HEAD: Final = 16 * 1024
MAX_LINES: Final = 16
TIMEOUT_S: Final = 5.0
"""For a whole request; the publisher's budget is shorter."""
MAX_PAUSE_S: Final = 60
_CHUNK: Final = 16 * 1024
_BROKEN: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError)


@dataclass(frozen=True)
class _Place:
    host: str
    port: int


@dataclass(frozen=True)
class _Heard:
    status: int
    retry_after: bytes
    body: bytes


class HttpsWitnesses:
    """`ports.witness.WitnessLink`. Made by `open_witnesses`; keeps one connection to each witness open between checkpoints."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: dict[_Place, trio.SSLStream[trio.SocketStream]] = {}

    async def add_checkpoint(self, url: str, body: bytes) -> WitnessAnswer:
        """See `WitnessLink`."""
        problem: PortError
        try:
            with trio.fail_after(TIMEOUT_S):
                return _read(await self._exchange(url, body))
        except trio.TooSlowError:
            problem = Unavailable("timeout", "the witness did not answer in time")
        except (*_BROKEN, ValueError) as error:
            problem = Unavailable("witness-unreachable", f"no connection to the witness, or it was cut: {type(error).__name__}")
        raise problem

    async def close(self) -> None:
        """Drop the kept connections."""
        while self._idle:
            await trio.aclose_forcefully(self._idle.popitem()[1])

    async def _exchange(self, url: str, body: bytes) -> _Heard:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError("not an https URL")
        place, path = _Place(parts.hostname, parts.port or 443), f"{parts.path.rstrip('/')}/add-checkpoint"
        headers = [("Host", parts.netloc), ("User-Agent", "pingee"), ("Content-Length", str(len(body))), ("Content-Type", "text/plain")]
        request = h11.Request(method="POST", target=path, headers=headers)
        kept = self._idle.pop(place, None)
        if kept is not None:
            try:
                return await self._asked(kept, place, request, body)
            except _BROKEN:
                pass  # closed in between, as an idle connection may be; asking twice is harmless
        return await self._asked(await self._connected(place), place, request, body)

    async def _connected(self, place: _Place) -> trio.SSLStream[trio.SocketStream]:
        plain = await trio.open_tcp_stream(place.host, place.port)
        stream = trio.SSLStream(plain, self._tls, server_hostname=place.host, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    async def _asked(self, stream: trio.SSLStream[trio.SocketStream], place: _Place, request: h11.Request, body: bytes) -> _Heard:
        http, reusable = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD), False
        try:
            sent = (http.send(request) or b"") + (http.send(h11.Data(data=body)) or b"") + (http.send(h11.EndOfMessage()) or b"")
            await stream.send_all(sent)
            heard = await _answer(http, stream)
            reusable = http.our_state is h11.DONE and http.their_state is h11.DONE and place not in self._idle
            if reusable:
                self._idle[place] = stream
            return heard
        finally:
            if not reusable:
                await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_witnesses(ca_file: Path | None) -> AsyncIterator[HttpsWitnesses]:
    """The way to witnesses, trusting the CAs of a PEM file, or the system's where there is none. Raises `OSError` where it cannot be read."""
    tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.set_alpn_protocols(["http/1.1"])
    witnesses = HttpsWitnesses(tls)
    try:
        yield witnesses
    finally:
        await witnesses.close()


async def _answer(http: h11.Connection, stream: trio.SSLStream[trio.SocketStream]) -> _Heard:
    status, retry_after, body = 0, b"", bytearray()
    while True:
        event = http.next_event()
        match event:
            case h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some(_CHUNK)))
            case h11.Response():
                status, retry_after = event.status_code, dict(event.headers).get(b"retry-after", b"")
            case h11.Data():
                body += event.data
                if len(body) > MAX_ANSWER:
                    raise Unavailable("witness-answer", "the witness's answer is too long")
            case h11.EndOfMessage():
                return _Heard(status, retry_after, bytes(body))
            case h11.InformationalResponse():
                continue
            case _:
                raise trio.BrokenResourceError("closed before its answer")


def _read(heard: _Heard) -> WitnessAnswer:
    match heard.status:
        case 200:
            try:
                return Cosignatures(parse_signature_lines(heard.body, limit=MAX_LINES))
            except MalformedNote:
                raise Unavailable("witness-answer", "the witness's answer is not signature lines") from None
        case 409:
            # An empty body is how transparency-dev's witness tells another root at the same size.
            size = parse_decimal(heard.body.removesuffix(b"\n"))
            return OtherRoot() if size is None else OtherSize(size)
        case 422:
            return OtherRoot()
        case 429:
            told = parse_decimal(heard.retry_after)
            raise WitnessBusy(None if told is None else min(told, MAX_PAUSE_S))
        case 403 | 404:
            raise Denied("witness-unknown-log", "the witness does not know this log or its key")
        case 400 | 405 | 413:
            raise Rejected("witness-rejected", "the witness finds the request malformed")
        case _:
            raise Unavailable("witness-answer", f"the witness answers with HTTP {heard.status}")
