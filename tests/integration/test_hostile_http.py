"""Attack matrix 108-111 and 114 against the real application over TLS: real sockets, raw bytes, and it still answers afterwards."""

from __future__ import annotations

import json
import resource
import ssl
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from clients.demo.certificate import make_certificate
from gatekeeper.api import edge, factory, listen
from gatekeeper.api.admission import Admission, Bounds, within_descriptors
from gatekeeper.api.listen import open_listener, serve_app
from tests.fakes.api import running_api
from tests.fakes.house import COMPONENT, ENVIRONMENT
from tests.fakes.raw_http import Server

pytestmark = pytest.mark.anyio

UNKNOWN = "sha256:" + "0" * 64
PING = json.dumps({"environment": ENVIRONMENT, "component": COMPONENT, "artifact": UNKNOWN}).encode()
DEADLINE_S = 30
JSON_BOUND, BUNDLE_BOUND = 64 * 1024, 16 * 1024 * 1024


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    make_certificate(directory, "a CA of the test")
    return directory


class Attacked(Server):
    """The whole application behind its TLS listener. `alive` is asked after every attack."""

    def __init__(self, api, port, ca_file, **options):
        super().__init__(port, ca_file, **options)
        self.api = api

    def head(self, *fields, method="POST", path="/v1/pings"):
        """A head whose caller may ping: what is refused is refused for its form, not for its caller."""
        own = [b"host: x", b"authorization: Bearer " + self.api.token().encode(), b"content-type: application/json", b"idempotency-key: k1"]
        return b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *own, *fields]) + b"\r\n\r\n"

    async def alive(self):
        """A new connection is answered, whoever else is connected, and nothing that was refused became a ping."""
        with trio.fail_after(DEADLINE_S):
            assert (await self.get("/v1/running")).status == 200
        assert not self.api.house.database.state.rows


@asynccontextmanager
async def attacked(certificate, *, bounds=None, **options):
    listener = open_listener("127.0.0.1", 0, certificate=certificate / "tls.pem", key=certificate / "tls.key")
    stop = trio.Event()
    async with running_api() as api, trio.open_nursery() as nursery:
        async def serve(*, task_status):
            await serve_app(api.app, [listener], stop, bounds=bounds, task_status=task_status)

        await nursery.start(serve)
        server = Attacked(api, listener.port, certificate / "ca.pem", **options)
        yield server
        await server.alive()
        stop.set()


# 108: bodies


def chunks(*parts):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


async def test_a_body_of_one_byte_too_many_is_413_however_it_comes(certificate, monkeypatch):
    monkeypatch.setattr(edge, "LINGER_S", 0.2)
    async with attacked(certificate) as server:
        over = PING + b" " * (JSON_BOUND + 1 - len(PING))
        declared = server.head(b"content-length: %d" % len(over)) + over
        chunked = server.head(b"transfer-encoding: chunked") + chunks(over) + b"0\r\n\r\n"
        for data in (declared, chunked):
            assert "65536" in (await server.raw(data)).cut(413, "too-large")["detail"]
            await server.alive()
        bundle = server.head(b"content-length: %d" % (BUNDLE_BOUND + 1), path="/v1/artifacts")
        assert "16777216" in (await server.raw(bundle)).cut(413, "too-large")["detail"]
        fits = PING + b" " * (JSON_BOUND - len(PING))
        answer = await server.raw(server.head(b"content-length: %d" % JSON_BOUND, b"connection: close") + fits)
        answer.refused(404, "unknown-manifest")  # the largest body is read whole, and judged


async def test_chunks_without_end_are_refused_at_the_bound_and_no_byte_later(certificate):
    async with attacked(certificate) as server:
        sent = 0
        with trio.fail_after(DEADLINE_S):
            stream = await server.connect()
            async with stream:
                await stream.send_all(server.head(b"transfer-encoding: chunked"))
                answer = b""

                async def read():
                    nonlocal answer
                    while b"\r\n\r\n" not in answer:
                        answer += await stream.receive_some(65536)
                    sending.cancel()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read)
                    with trio.CancelScope() as sending, suppress(trio.BrokenResourceError):
                        while True:
                            await stream.send_all(chunks(b" " * 1024))
                            sent += 1024
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert sent < edge.LINGER_BYTES + 4 * 1024 * 1024, "what was sent is what sockets buffer, and what is read to let the answer through"


async def test_chunks_that_only_trickle_are_408(certificate, monkeypatch):
    monkeypatch.setattr(factory, "BODY_S", 0.5)
    async with attacked(certificate) as server:
        began = time.monotonic()
        stream = await server.connect()
        async with stream, trio.open_nursery() as nursery:
            async def trickle():
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await stream.send_all(server.head(b"transfer-encoding: chunked"))
                    while True:
                        await stream.send_all(chunks(b" "))
                        await trio.sleep(0.05)

            nursery.start_soon(trickle)
            answer = b""
            with trio.fail_after(DEADLINE_S):
                while b"}" not in answer:
                    answer += await stream.receive_some(65536)
            nursery.cancel_scope.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"timeout"' in answer
        assert time.monotonic() - began < 20


async def test_no_coding_of_a_body_is_undone_so_no_bomb_goes_off(certificate):
    async with attacked(certificate) as server:
        for field in (b"content-encoding: gzip", b"content-encoding: deflate, gzip", b"content-encoding: identity", b"Content-Encoding: zstd"):
            (await server.raw(server.head(field, b"content-length: 3") + b"abc")).cut(415, "unsupported-media-type")
        for field in (b"transfer-encoding: gzip, chunked", b"transfer-encoding: gzip"):
            (await server.raw(server.head(field))).cut(501, "not-implemented")
        await server.alive()


# 109: slowness


async def test_a_head_that_trickles_is_closed_on_time_whatever_it_sends(certificate, monkeypatch):
    monkeypatch.setattr(listen, "KEEP_ALIVE_S", 1)
    async with attacked(certificate) as server:
        began = time.monotonic()
        with trio.fail_after(DEADLINE_S):
            stream = await server.connect()
            async with stream, trio.open_nursery() as nursery:
                async def trickle():
                    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                        for byte in b"GET /v1/running HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 1000:
                            await stream.send_all(bytes([byte]))
                            await trio.sleep(0.02)

                nursery.start_soon(trickle)
                got = b"?"
                with suppress(trio.BrokenResourceError):
                    got = await stream.receive_some(65536)
                nursery.cancel_scope.cancel()
        assert got in (b"", b"?"), "no answer: there was no request"
        assert 0.5 < time.monotonic() - began < 15


async def test_who_does_not_shake_hands_is_closed_on_time(certificate, monkeypatch):
    monkeypatch.setattr(listen, "HANDSHAKE_S", 0.5)
    async with attacked(certificate) as server:
        with trio.fail_after(DEADLINE_S):
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            async with stream:
                await stream.send_all(b"\x16\x03\x01")
                with suppress(trio.BrokenResourceError):
                    assert await stream.receive_some(1) == b""


async def test_a_peer_that_reads_nothing_is_cut_and_holds_up_nobody(certificate, monkeypatch):
    monkeypatch.setattr(listen, "SEND_STALL_MS", 1000)
    async with attacked(certificate) as server:
        ask = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
        with trio.fail_after(2 * DEADLINE_S):
            stream = await server.connect()
            stream.transport_stream.setsockopt(1, 8, 4096)  # SO_RCVBUF
            async with stream:
                with suppress(trio.BrokenResourceError), trio.move_on_after(DEADLINE_S) as waiting:
                    while True:
                        await stream.send_all(ask * 200)
                        await trio.lowlevel.checkpoint()
                assert not waiting.cancelled_caught, "it was never cut"
                await server.alive()


def _memory():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


async def idle(server, sources, number, sockets):
    for n in range(number):
        sockets.append(await trio.open_tcp_stream("127.0.0.1", server.port, local_address=sources[n % len(sources)]))


async def still_open(sockets):
    """How many of the sockets the server has not closed."""
    found = 0

    async def look(stream):
        nonlocal found
        with trio.move_on_after(0.3) as waiting, suppress(trio.BrokenResourceError):
            await stream.receive_some(1)
        found += waiting.cancelled_caught

    async with trio.open_nursery() as nursery:
        for stream in sockets:
            nursery.start_soon(look, stream)
    return found


async def test_a_thousand_idle_sockets_of_one_address_get_the_places_of_one_address(certificate, monkeypatch, caplog):
    monkeypatch.setattr(listen, "HANDSHAKE_S", 10 * DEADLINE_S)  # none of them goes by itself
    async with attacked(certificate) as server:
        sockets = []
        await idle(server, ["127.0.0.9"], 1000, sockets)
        await server.alive()
        with trio.fail_after(DEADLINE_S):
            while await still_open(sockets) > Bounds().each:  # it may be closing the others still
                pass
        assert await still_open(sockets) == Bounds().each
        refused = [record.getMessage() for record in caplog.records if "connections are refused" in record.getMessage()]
        assert refused == [f"connections are refused: {Bounds().each} are open, {Bounds().each} of them from 127.0.0.9"], "one line, not 744"
        elsewhere = Attacked(server.api, server.port, certificate / "ca.pem", source="127.0.0.9")
        with pytest.raises((trio.BrokenResourceError, ssl.SSLError, OSError)):
            await elsewhere.get("/v1/running")
        for stream in sockets:
            await trio.aclose_forcefully(stream)
        assert (await when_there_is_a_place(partial(elsewhere.get, "/v1/running"))).status == 200, "places are given back"


async def test_a_thousand_idle_sockets_of_many_addresses_leave_room_and_go_by_themselves(certificate, monkeypatch):
    monkeypatch.setattr(listen, "HANDSHAKE_S", 6)
    async with attacked(certificate) as server:
        before, sockets = _memory(), []
        await idle(server, [f"127.0.0.{n}" for n in range(2, 10)], 1000, sockets)
        for _ in range(5):
            began = time.monotonic()
            await server.alive()
            assert time.monotonic() - began < 5, "it waited for an idle one to go"
        assert _memory() - before < 100 * 1024 * 1024
        deadline = time.monotonic() + DEADLINE_S
        while await still_open(sockets):
            assert time.monotonic() < deadline, "idle connections stay"
        for stream in sockets:
            await trio.aclose_forcefully(stream)


async def when_there_is_a_place(ask):
    """The server notices a moment later that somebody left; until then it refuses."""
    with trio.fail_after(DEADLINE_S):
        while True:
            with suppress(trio.BrokenResourceError, ssl.SSLError, OSError):
                return await ask()
            await trio.sleep(0.02)


async def test_more_than_all_places_is_closed_before_a_handshake_and_a_place_given_back_is_taken(certificate, monkeypatch):
    monkeypatch.setattr(listen, "KEEP_ALIVE_S", 10 * DEADLINE_S)
    async with attacked(certificate, bounds=Bounds(most=5, each=5)) as server:
        held = [await server.connect() for _ in range(5)]
        with pytest.raises((trio.BrokenResourceError, ssl.SSLError, OSError)):
            await server.connect()
        for stream in held:
            await trio.aclose_forcefully(stream)
        # A client that left holds no place until an idle connection's time is over, here far beyond the deadline.
        await trio.aclose_forcefully(await when_there_is_a_place(server.connect))


def test_places_are_counted_by_address_and_by_ipv6_network():
    admission = Admission(Bounds(most=3, each=1))
    with admission.place("2001:db8::1", 0) as one, admission.place("2001:db8::ffff", 0) as same, admission.place("2001:db8:0:1::1", 0) as other:
        assert (one, same, other) == (True, False, True)
        with admission.place("::ffff:10.0.0.1", 0) as mapped, admission.place("10.0.0.1", 0) as plain:
            assert (mapped, plain) == (True, False)
            with admission.place("10.0.0.2", 0) as fourth:
                assert not fourth, "three in all"
    with admission.place("2001:db8::1", 0) as again:
        assert again


def test_descriptors_are_raised_and_bounds_never_promise_more(monkeypatch):
    told = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert within_descriptors(Bounds()) == Bounds(768, 256)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 300))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: told.append(limits))
    assert within_descriptors(Bounds()) == Bounds(44, 44)
    assert told == [(300, 300)]


# 110: HTTP/2 is not served at all


FRAMES = {
    "settings": b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "ping": b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"12345678",
    "headers and reset": b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x82" + b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08",
    "continuation": b"\x00\x00\x01\x09\x00\x00\x00\x00\x01\x82",
    "hpack": b"\x00\x40\x00\x01\x04\x00\x00\x00\x01" + b"\xbe" * 16384,
}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
H2C = (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABk")


@pytest.mark.parametrize("name", FRAMES)
async def test_a_flood_of_http2_frames_meets_no_http2(certificate, name):
    async with attacked(certificate) as server:
        few, flood = FRAMES[name] * (16 * 1024 // len(FRAMES[name])), FRAMES[name] * (1024 * 1024 // len(FRAMES[name]))
        (await server.raw(PREFACE + FRAMES["settings"] + few)).cut(505, "http-version")
        with trio.fail_after(DEADLINE_S):
            stream = await server.connect()
            async with stream:
                with suppress(trio.BrokenResourceError):  # cut while it still sends
                    await stream.send_all(PREFACE + FRAMES["settings"] + flood)
                    assert (await stream.receive_some(65536))[:13] in (b"HTTP/1.1 505 ", b"")


async def test_alpn_never_agrees_on_http2_and_an_upgrade_is_refused(certificate):
    async with attacked(certificate) as server:
        for offered, agreed in ((["h2"], None), (["h2", "http/1.1"], "http/1.1"), (["h2c"], None)):
            client = Server(server.port, certificate / "ca.pem", alpn=offered)
            with trio.fail_after(DEADLINE_S):
                stream = await client.connect()
                async with stream:
                    assert stream.selected_alpn_protocol() == agreed
            (await client.raw(PREFACE)).cut(505, "http-version")
        (await server.raw(server.head(*H2C))).cut(400, "bad-request")
        (await server.raw(server.head(*H2C, method="GET", path="/v1/running"))).cut(400, "bad-request")
        (await server.raw(server.head(b"upgrade: h2c", method="GET", path="/v1/running"))).cut(400, "bad-request")
        (await server.raw(b"GET /v1/running HTTP/3.0\r\nhost: x\r\n\r\n")).cut(505, "http-version")


# 111: what two parsers could read in two ways. A second request hides behind each: it must never be answered.


SMUGGLED = b"GET /v1/whoami HTTP/1.1\r\nhost: x\r\n\r\n"
TWO_WAYS = {
    "length and chunks": [b"content-length: 5", b"transfer-encoding: chunked"],
    "chunks and length": [b"transfer-encoding: chunked", b"content-length: 5"],
    "two lengths that differ": [b"content-length: 5", b"content-length: 50"],
    "two lengths that agree": [b"content-length: 0", b"content-length: 0"],
    "a list of lengths": [b"content-length: 5, 6"],
    "a signed length": [b"content-length: +5"],
    "a hexadecimal length": [b"content-length: 0x5"],
    "a negative length": [b"content-length: -1"],
    "a length of other digits": ["content-length: ５".encode()],
    "two codings": [b"transfer-encoding: chunked", b"transfer-encoding: chunked"],
    "chunked, twice": [b"transfer-encoding: chunked, chunked"],
    "chunked, in other letters": [b"transfer-encoding: xchunked"],
    "a tab before the coding's colon": [b"transfer-encoding\t: chunked"],
    "a space before the colon": [b"content-length : 5"],
    "a vertical tab before the coding": [b"transfer-encoding: \x0bchunked"],
    "two hosts": [b"host: y"],
    "a folded line": [b"x: a\r\n b"],
    "a line folded with a tab": [b"x: a\r\n\tcontent-length: 5"],
    "a folded coding": [b"transfer-encoding:\r\n chunked"],
    "a bare LF in a value": [b"x: a\ncontent-length: 50"],
    "a bare CR in a value": [b"x: a\rcontent-length: 50"],
    "a NUL in a value": [b"x: a\0b"],
    "an escape in a value": [b"x: \x1b[2J"],
    "a DEL in a value": [b"x: \x7f"],
    "a NUL in a name": [b"x\0y: a"],
    "a name with a space": [b"x y: a"],
    "a name that is empty": [b": a"],
    "a line without a colon": [b"xy"],
    "an upgrade": [b"upgrade: websocket", b"connection: upgrade"],
}


@pytest.mark.parametrize("name", TWO_WAYS)
async def test_a_head_that_two_parsers_read_in_two_ways_is_refused_with_all_that_follows(certificate, name):
    status, code = (501, "not-implemented") if "chunked, " in name or name == "two codings" else (400, "bad-request")
    async with attacked(certificate) as server:
        answer = await server.raw(server.head(*TWO_WAYS[name]) + b"0\r\n\r\n" + SMUGGLED)
        answer.cut(status, code)
        assert b"HTTP/1.1" not in answer.body, "one answer, and the end"


LINES = {
    "a bare LF everywhere": b"GET /v1/running HTTP/1.1\nhost: x\n\n",
    "a bare LF after the request line": b"GET /v1/running HTTP/1.1\nhost: x\r\n\r\n",
    "a bare LF as the empty line": b"GET /v1/running HTTP/1.1\r\nhost: x\r\n\n",
    "a bare CR in the request line": b"GET /v1/running\r HTTP/1.1\r\nhost: x\r\n\r\n",
    "a fold after the request line": b"GET /v1/running HTTP/1.1\r\n host: x\r\nhost: x\r\n\r\n",
    "an empty line first": b"\r\nGET /v1/running HTTP/1.1\r\nhost: x\r\n\r\n",
    "a bare LF first": b"\nGET /v1/running HTTP/1.1\r\nhost: x\r\n\r\n",
    "two spaces": b"GET  /v1/running HTTP/1.1\r\nhost: x\r\n\r\n",
    "a tab": b"GET\t/v1/running HTTP/1.1\r\nhost: x\r\n\r\n",
    "no version": b"GET /v1/running\r\nhost: x\r\n\r\n",
    "another version's letters": b"GET /v1/running http/1.1\r\nhost: x\r\n\r\n",
    "a version of three parts": b"GET /v1/running HTTP/1.1.1\r\nhost: x\r\n\r\n",
    "CONNECT": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: x\r\n\r\n",
    "CONNECT to a path": b"CONNECT /v1/running HTTP/1.1\r\nhost: x\r\n\r\n",
    "absolute form": b"GET http://169.254.169.254/latest/meta-data HTTP/1.1\r\nhost: x\r\n\r\n",
    "absolute form of our own": b"GET https://x/v1/running HTTP/1.1\r\nhost: x\r\n\r\n",
    "authority form": b"GET x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "asterisk form": b"GET * HTTP/1.1\r\nhost: x\r\n\r\n",
    "coding in 1.0": b"POST /v1/pings HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "no host": b"GET /v1/running HTTP/1.1\r\n\r\n",
    "bytes beyond ASCII": b"GET /v1/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    "a fragment of TLS": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
}


@pytest.mark.parametrize("name", LINES)
async def test_a_request_line_that_is_none_or_asks_for_a_proxy_is_400(certificate, name):
    async with attacked(certificate) as server:
        answer = await server.raw(LINES[name] + SMUGGLED)
        answer.cut(400, "bad-request")
        assert b"HTTP/1.1" not in answer.body


async def test_a_head_in_pieces_is_judged_like_a_head_in_one(certificate):
    async with attacked(certificate) as server:
        for line, good in ((b"x: a\r\n ", False), (b"x: a\n", False), (b"x: a\r\n\r\n", True)):
            with trio.fail_after(DEADLINE_S):
                stream = await server.connect()
                async with stream:
                    for byte in b"GET /v1/running HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + line:
                        await stream.send_all(bytes([byte]))
                    answer = await stream.receive_some(65536)
            assert answer.startswith(b"HTTP/1.1 200 " if good else b"HTTP/1.1 400 "), line


CHUNKED = {
    "a trailer": b"0\r\nx: y\r\n\r\n",
    "a trailer that is a length": b"0\r\ncontent-length: 50\r\n\r\n",
    "a folded trailer": b"0\r\nx: y\r\n z\r\n\r\n",
    "a bare LF as the end": b"0\r\n\n",
    "a bare LF after the size": b"0\n\r\n",
    "a bare LF after the bytes": b"1\r\nx\n0\r\n\r\n",
    "a size of another base": b"0x0\r\n\r\n",
    "a signed size": b"+0\r\n\r\n",
    "a size that is no number": b"g\r\n\r\n",
    "a size too long": b"0" * 21 + b"\r\n\r\n",
    "bytes beyond the size": b"1\r\nxy\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", CHUNKED)
async def test_chunks_that_two_parsers_cut_in_two_ways_end_the_connection(certificate, name):
    async with attacked(certificate) as server:
        answer = await server.raw(server.head(b"transfer-encoding: chunked") + CHUNKED[name] + SMUGGLED)
        answer.cut(400, "bad-request")
        assert b"HTTP/1.1" not in answer.body
        # the same in pieces, so that the end stands alone in the buffer
        with trio.fail_after(DEADLINE_S):
            stream = await server.connect()
            async with stream:
                await stream.send_all(server.head(b"transfer-encoding: chunked"))
                for byte in CHUNKED[name]:
                    with suppress(trio.BrokenResourceError):
                        await stream.send_all(bytes([byte]))
                with suppress(trio.BrokenResourceError):  # refused at an earlier byte: what came later reset the connection
                    assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 400 ")


async def test_a_body_of_chunks_with_an_extension_is_read(certificate):
    async with attacked(certificate) as server:
        body = b"%x;name=value\r\n%s\r\n0\r\n\r\n" % (len(PING), PING)
        answer = await server.raw(server.head(b"transfer-encoding: chunked", b"connection: close") + body)
        answer.refused(404, "unknown-manifest")


# 114: paths


PATHS = [
    "/v1/pings/..%2f..%2fetc%2fpasswd", "/v1/../v1/whoami", "/v1/pings/%2e%2e/whoami", "/v1/pings/%2e%2e%2fwhoami", "/v1/pings/%252e%252e%252fwhoami",
    "/v1/pings/..\\..\\whoami", "/v1/pings/..%5c..%5cwhoami", "/v1/pings/%00", "/v1/pings/" + "%00" * 32, "/v1/whoami%00", "/v1/whoami;x=1",
    "/v1/whoami;/..", "/v1/pings;a=b", "/v1//whoami", "/v1/./whoami", "/v1/whoami/", "/v1/whoami/.", "/V1/WHOAMI", "/v1/%77hoami%2f",
    "/v1/whoami%20", "/v1/whoami%0d%0aset-cookie:a=b", "/v1/%e2%80%ae", "/v1/%ff", "/v1/%c0%ae%c0%ae/whoami", "/v1/%u002e%u002e/whoami", "/v1/%",
    "/log/tile/0/..%2f000.p/1", "/log/tile/entries/%2e%2e/000", "/style.css/../v1/whoami", "/log/..%2f..%2fv1/whoami",
    f"/v1/artifacts/{UNKNOWN}/../../whoami", "/problems/..%2f..%2fwhoami", "/.well-known/pingee/..%2f..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd",
    "/v1/pings/" + "a" * 8000, "/" + "a/" * 4000,
]  # fmt: skip


async def test_no_spelling_of_a_path_leads_anywhere_else(certificate):
    async with attacked(certificate) as server:
        token = server.api.token()
        for path in PATHS:
            answer = await server.raw(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n".encode())
            code = "unknown-manifest" if answer.problem["code"] == "unknown-manifest" else "not-found"
            answer.refused(404, code)
            assert "set-cookie" not in answer.headers, path
            assert "location" not in answer.headers, path
        (await server.raw(b"GET //v1/whoami HTTP/1.1\r\nhost: x\r\n\r\n")).cut(400, "bad-request")
        (await server.raw(b"GET \\v1\\whoami HTTP/1.1\r\nhost: x\r\n\r\n")).cut(400, "bad-request")
        (await server.raw(b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")).cut(431, "headers-too-large")


async def test_an_upload_has_one_spelling_and_its_path_names_no_file(certificate):
    async with attacked(certificate) as server:
        blobs = dict(server.api.house.artifacts.blobs)
        for artifact in ("..%2f..%2fetc", "sha256:" + "0" * 63, "sha256:" + "0" * 64 + "%00", "sha256:" + "0" * 64 + ";a", "SHA256:" + "0" * 64, "%2e%2e"):
            head = server.head(b"content-length: 1", method="PUT", path=f"/v1/artifacts/{artifact}/uploads/{UNKNOWN}")
            answer = await server.raw(head + b"x")
            assert (answer.status, answer.problem["code"]) in {(404, "not-found"), (404, "unknown-manifest")}, artifact
        assert server.api.house.artifacts.blobs == blobs
