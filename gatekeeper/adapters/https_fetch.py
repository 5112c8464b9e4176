"""One GET over HTTPS, small: what the issuer of tokens publishes. h11 and trio alone, a new connection each time.

No redirect is followed, no proxy taken from the environment, no credential sent. The name is resolved once and connected to by address;
link-local addresses are refused, where clouds keep their credentials. The answer is bounded in bytes and comes uncompressed.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from gatekeeper.ports.errors import Unavailable

MAX_ANSWER: Final = 1024 * 1024
MAX_HEAD: Final = 16 * 1024
TIMEOUT_S: Final = 5.0
_CHUNK: Final = 16 * 1024
_OK: Final = 200
_CAUSE: Final = "identity-unavailable"
_BROKEN: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError)


class HttpsFetch:
    """`ports.keys.KeyFetch`, trusting the CAs of a PEM file, or the system's. Raises `OSError` where the file cannot be read."""

    def __init__(self, ca_file: Path | None) -> None:
        self._tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.set_alpn_protocols(["http/1.1"])

    async def fetch(self, url: str) -> bytes:
        """See `KeyFetch`."""
        try:
            with trio.fail_after(TIMEOUT_S):
                return await self._fetch(url)
        except trio.TooSlowError:
            detail = "no answer in time"
        except (*_BROKEN, ValueError) as error:
            detail = f"no connection, or it was cut: {type(error).__name__}"
        raise Unavailable(_CAUSE, detail)

    async def _fetch(self, url: str) -> bytes:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError("not an https URL")
        stream = await self._connected(parts.hostname, parts.port or 443)
        try:
            http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
            headers = [("Host", parts.netloc), ("User-Agent", "pingee"), ("Accept", "application/json"), ("Connection", "close")]
            request = h11.Request(method="GET", target=parts.path or "/", headers=headers)
            await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
            return await _answer(http, stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def _connected(self, host: str, port: int) -> trio.SSLStream[trio.SocketStream]:
        plain = await trio.open_tcp_stream(await _address(host, port), port)
        stream = trio.SSLStream(plain, self._tls, server_hostname=host, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream


async def _address(host: str, port: int) -> str:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if any(_refused(address) for address in addresses):
        raise Unavailable(_CAUSE, "the issuer's name leads to an address that is never asked")
    return addresses[0]


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
                if event.status_code != _OK:
                    raise Unavailable(_CAUSE, f"the issuer answers with HTTP {event.status_code}")
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
