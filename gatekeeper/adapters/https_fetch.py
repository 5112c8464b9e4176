"""One request over HTTPS, small: what the issuer of tokens publishes, or answers. h11 and trio alone, a new connection each time.

No redirect is followed, no proxy taken from the environment, and no credential sent but the one that a `post` is given. The name is
resolved once and connected to by address, the next where one does not answer; link-local addresses are refused, where clouds keep their
credentials. The answer is bounded in bytes and comes uncompressed.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from gatekeeper.ports.errors import Unavailable

MAX_ANSWER: Final = 1024 * 1024
MAX_HEAD: Final = 16 * 1024
TIMEOUT_S: Final = 5.0
ADDRESSES: Final = 4
"""of one name, tried in the resolver's order"""
_CHUNK: Final = 16 * 1024
_OK: Final = frozenset({200, 201})
_CAUSE: Final = "identity-unavailable"
_BROKEN: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError)


class OtherStatus(Unavailable):
    """Answered, and not with a good status."""

    def __init__(self, status: int) -> None:
        super().__init__(_CAUSE, f"the issuer answers with HTTP {status}")
        self.status = status


class HttpsFetch:
    """`ports.keys.KeyFetch`, trusting the CAs of a PEM file, or the system's. Raises `OSError`, which names the file, where it cannot be used."""

    def __init__(self, ca_file: Path | None) -> None:
        try:
            self._tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        except ssl.SSLError:
            raise OSError(errno.EINVAL, "holds no certificate in PEM", str(ca_file)) from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(ca_file)) from None
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.set_alpn_protocols(["http/1.1"])

    async def fetch(self, url: str) -> bytes:
        """See `KeyFetch`."""
        return await self._in_time("GET", url, {}, b"")

    async def post(self, url: str, body: bytes, *, credential: str) -> bytes:
        """The same for a POST of a JSON document with a bearer credential, answered with 200 or 201. Raises as `fetch`, `OtherStatus` among it."""
        headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json", "Content-Length": str(len(body))}
        return await self._in_time("POST", url, headers, body)

    async def _in_time(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
        try:
            with trio.fail_after(TIMEOUT_S):
                return await self._ask(method, url, headers, body)
        except trio.TooSlowError:
            detail = "no answer in time"
        except (*_BROKEN, ValueError) as error:
            detail = f"no connection, or it was cut: {type(error).__name__}"
        raise Unavailable(_CAUSE, detail)

    async def _ask(self, method: str, url: str, extra: Mapping[str, str], body: bytes) -> bytes:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError("not an https URL")
        stream = await self._connected(parts.hostname, parts.port or 443)
        try:
            http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
            headers = [("Host", parts.netloc), ("User-Agent", "pingee"), ("Accept", "application/json"), ("Connection", "close")]
            request = h11.Request(method=method, target=parts.path or "/", headers=[*headers, *extra.items()])
            events: list[h11.Event] = [request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]
            await stream.send_all(b"".join(http.send(event) or b"" for event in events))
            return await _answer(http, stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def _connected(self, host: str, port: int) -> trio.SSLStream[trio.SocketStream]:
        plain = await _reached(await _addresses(host, port), port)
        stream = trio.SSLStream(plain, self._tls, server_hostname=host, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream


async def _addresses(host: str, port: int) -> list[str]:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if any(_refused(address) for address in addresses):
        raise Unavailable(_CAUSE, "the issuer's name leads to an address that is never asked")
    return addresses[:ADDRESSES]


async def _reached(addresses: list[str], port: int) -> trio.SocketStream:
    """A connection to the first that answers in its share of the time: one server of several may be down."""
    for address in addresses:
        with trio.move_on_after(TIMEOUT_S / (len(addresses) + 1)), suppress(OSError):
            return await trio.open_tcp_stream(address, port)
    raise OSError("no address answers")


def _refused(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    plain = mapped or address
    return plain.is_link_local or plain.is_multicast or plain.is_unspecified


async def _answer(http: h11.Connection, stream: trio.SSLStream[trio.SocketStream]) -> bytes:
    body = bytearray()
    while True:
        event = http.next_event()
        match event:
            case h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some(_CHUNK)))
            case h11.Response():
                if event.status_code not in _OK:
                    raise OtherStatus(event.status_code)
                if dict(event.headers).get(b"content-encoding", b"identity") != b"identity":
                    raise Unavailable(_CAUSE, "the issuer's answer is encoded, which was not asked for")
            case h11.Data():
                body += event.data
                if len(body) > MAX_ANSWER:
                    raise Unavailable(_CAUSE, f"the issuer's answer has more than {MAX_ANSWER} bytes")
            case h11.EndOfMessage():
                return bytes(body)
            case h11.InformationalResponse():
                continue
            case _:
                raise trio.BrokenResourceError("closed before its answer")
