"""Raw bytes over TLS to a listener of ours, and what came back."""

from __future__ import annotations

import json
import ssl
from contextlib import suppress
from dataclasses import dataclass

import trio

DEADLINE_S = 30


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, list[str]]
    body: bytes
    closed: bool

    @property
    def problem(self) -> dict:
        assert self.headers["content-type"] == ["application/problem+json"]
        return json.loads(self.body)

    def refused(self, status: int, code: str) -> dict:
        assert (self.status, self.problem["code"], self.problem["status"], self.problem["type"]) == (status, code, status, f"/problems/{code}")
        assert len(self.headers["pingee-request-id"]) == 1
        if code not in ("not-found", "unknown-manifest"):
            assert self.problem["request_id"] in (self.headers["pingee-request-id"][0],)
        return self.problem

    def cut(self, status: int, code: str) -> dict:
        assert self.headers["connection"] == ["close"]
        assert self.closed
        return self.refused(status, code)


class Server:
    """A client of few words for one TLS listener of ours. `source` is the loopback address it calls from."""

    def __init__(self, port, ca_file, *, source="127.0.0.1", alpn=("h2", "http/1.1")) -> None:
        self.port, self.source = port, source
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._context.set_alpn_protocols(list(alpn))

    async def connect(self) -> trio.SSLStream:
        tcp = await trio.open_tcp_stream("127.0.0.1", self.port, local_address=self.source)
        stream = trio.SSLStream(tcp, self._context, server_hostname="127.0.0.1", https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(tcp)
            raise
        return stream

    async def raw(self, data: bytes) -> Answer:
        """Send bytes; one answer, read by its length; `closed` where the server closes at once after it."""
        with trio.fail_after(DEADLINE_S):
            stream = await self.connect()
            async with stream:
                with suppress(trio.BrokenResourceError):  # refused before the last byte: the answer is there to be read
                    await stream.send_all(data)
                return await read_answer(stream)

    async def get(self, path: str) -> Answer:
        return await self.raw(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())


async def read_answer(stream) -> Answer:
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        more = await stream.receive_some(65536)
        assert more, f"closed before an answer: {buffer!r}"
        buffer += more
    head, _, body = buffer.partition(b"\r\n\r\n")
    lines = head.decode("latin1").split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    length = int(headers["content-length"][0])
    while len(body) < length:
        more = await stream.receive_some(65536)
        assert more
        body += more
    closed = False
    with trio.move_on_after(4):
        closed = await stream.receive_some(1) == b""
    return Answer(int(lines[0].split(" ")[1]), headers, body, closed)
