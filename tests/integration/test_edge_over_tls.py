"""The edge, listening and Quart's errors together: raw bytes over TLS on loopback against a real hypercorn."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from quart import Response, abort, request

from gatekeeper.api import edge, factory
from gatekeeper.api.edge import REQUEST_ID, Edge
from gatekeeper.api.factory import create_app
from gatekeeper.api.listen import CannotListen, open_listener, serve_app
from gatekeeper.api.problem import ApiError, FieldProblem
from tests.fakes.raw_http import Server, read_answer

pytestmark = pytest.mark.anyio

DEADLINE_S = 30


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    signed = builder.sign(key, hashes.SHA256())
    (directory / "chain.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(key.private_bytes(*form))
    return directory


def routes():
    app = create_app("edge-test")

    @app.get("/hello")
    async def hello() -> dict[str, str]:
        return {"id": factory.request_id(), "scope": str(request.scope[REQUEST_ID])}

    @app.post("/echo")
    async def echo() -> Response:
        return Response(await request.get_data(), content_type="application/octet-stream")

    @app.get("/boom")
    async def boom() -> str:
        raise RuntimeError("the password is hunter2")

    @app.get("/group")
    async def group() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse)
        return "never"

    async def refuse() -> None:
        raise ApiError("idempotency-conflict", "Use another key.", retry_after=7, errors=[FieldProblem("/artifact", "is wrong")])

    @app.get("/abort/<int:status>")
    async def aborted(status: int) -> str:
        abort(status)

    @app.get("/problem/<code>")
    async def problem(code: str) -> str:
        raise ApiError(code, "detail that must not show in a constant answer")

    @app.get("/slashed/")
    async def slashed() -> str:
        return "slashed"

    return app


async def broken(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            kind = message["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    raise RuntimeError("the password is hunter2")


@asynccontextmanager
async def serving(app, certificate):
    listener = open_listener("127.0.0.1", 0, certificate=certificate / "chain.pem", key=certificate / "key.pem")
    server = Server(listener.port, certificate / "chain.pem")
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_app, app, [listener], stop)
        yield server
        stop.set()


def bound(method: str, path: str) -> int | None:
    return 1000


H2C = b"host: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
WEBSOCKET = b"host: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
GROWN = b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"
MANY = b"".join(b"x-%d: y\r\n" % n for n in range(64))
REFUSALS = {
    "length and chunks": (b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad-request"),
    "chunks in 1.0": (b"POST /echo HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad-request"),
    "two lengths": (b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400, "bad-request"),
    "unknown coding": (b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", 501, "not-implemented"),
    "connect": (b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad-request"),
    "absolute form": (b"GET http://x/hello HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad-request"),
    "two slashes": (b"GET //hello HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad-request"),
    "asterisk form": (b"GET * HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad-request"),
    "method": (b"TRACE /hello HTTP/1.1\r\nhost: x\r\n\r\n", 405, "method-not-allowed"),
    "options": (b"OPTIONS /hello HTTP/1.1\r\nhost: x\r\n\r\n", 405, "method-not-allowed"),
    "h2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http-version"),
    "h2c upgrade": (b"GET /hello HTTP/1.1\r\n" + H2C + b"\r\n", 400, "bad-request"),
    "websocket": (b"GET /hello HTTP/1.1\r\n" + WEBSOCKET + b"\r\n", 400, "bad-request"),
    "bad websocket": (b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 400, "bad-request"),
    "65 headers": (b"GET /hello HTTP/1.1\r\nhost: x\r\n" + MANY + b"\r\n", 431, "headers-too-large"),
    "header bytes": (b"GET /hello HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 16400 + b"\r\n\r\n", 431, "headers-too-large"),
    "endless header": (b"GET /hello HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 40000, 431, "headers-too-large"),
    "endless target": (b"GET /" + b"y" * 40000, 431, "headers-too-large"),
    "two hosts": (b"GET /hello HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400, "bad-request"),
    "no host": (b"GET /hello HTTP/1.1\r\n\r\n", 400, "bad-request"),
    "no host in 1.0": (b"GET /hello HTTP/1.0\r\n\r\n", 400, "bad-request"),
    "two authorizations": (b"GET /hello HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400, "bad-request"),
    "two keys": (b"GET /hello HTTP/1.1\r\nhost: x\r\nidempotency-key: a\r\nidempotency-key: b\r\n\r\n", 400, "bad-request"),
    "two types": (b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: a/b\r\ncontent-type: c/d\r\ncontent-length: 0\r\n\r\n", 400, "bad-request"),
    "encoded body": (b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n", 415, "unsupported-media-type"),
    "zero byte": (b"GET /hello HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n", 400, "bad-request"),
    "declared too large": (b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n" + b"x" * 1001, 413, "too-large"),
    "grown too large": (b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + GROWN, 413, "too-large"),
    "no http": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "bad-request"),
}


async def test_what_is_ambiguous_oversized_or_foreign_is_refused_and_the_connection_ends(certificate):
    async with serving(Edge(routes(), max_body=bound), certificate) as server:
        for name, (data, status, code) in REFUSALS.items():
            try:
                (await server.raw(data)).cut(status, code)
            except (AssertionError, KeyError) as error:
                raise AssertionError(f"{name}: {error!r}") from error


async def test_bodies_and_headers_up_to_the_bounds_pass(certificate):
    async with serving(Edge(routes(), max_body=bound), certificate) as server:
        answer = await server.raw(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n" + b"x" * 1000)
        assert (answer.status, answer.body) == (200, b"x" * 1000)
        many = b"".join(b"x-%d: y\r\n" % n for n in range(62))
        assert (await server.raw(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + many + b"\r\n")).status == 200
        assert (await server.raw(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: " + b"y" * 15000 + b"\r\n\r\n")).status == 200


async def test_the_id_is_on_every_answer_and_known_to_the_application(certificate):
    async with serving(Edge(routes()), certificate) as server:
        first, second = await server.get("/hello"), await server.get("/hello")
        shown = json.loads(first.body)
        assert first.headers["pingee-request-id"] == [shown["id"]] == [shown["scope"]]
        assert second.headers["pingee-request-id"] != first.headers["pingee-request-id"]
        assert "server" not in first.headers


async def test_a_client_cannot_choose_the_id(certificate):
    async with serving(Edge(routes()), certificate) as server:
        answer = await server.raw(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\npingee-request-id: mine\r\n\r\n")
        assert answer.headers["pingee-request-id"] != ["mine"]


async def test_framework_errors_are_problems(certificate):
    async with serving(Edge(routes()), certificate) as server:
        for path in ("/nowhere", "/slashed", "/hello/", "/problem//x", "/abort/404"):
            (await server.get(path)).refused(404, "not-found")
        answer = await server.raw(b"POST /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        answer.refused(405, "method-not-allowed")
        assert answer.headers["allow"] == ["GET, HEAD"]
        for status, code in ((400, "bad-request"), (403, "not-authorised"), (418, "bad-request"), (429, "rate-limited"), (503, "unavailable")):
            (await server.get(f"/abort/{status}")).refused(400 if status == 418 else status, code)


async def test_not_found_is_the_same_bytes_for_every_path(certificate):
    async with serving(Edge(routes()), certificate) as server:
        one, other, raised = await server.get("/nowhere"), await server.get("/else"), await server.get("/problem/not-found")
        assert one.body == other.body == raised.body
        assert {"instance", "request_id"} & set(one.problem) == set()
        assert (await server.get("/problem/unknown-manifest")).body != one.body
        assert {"instance", "request_id"} & set((await server.get("/problem/unknown-manifest")).problem) == set()


async def test_an_error_raised_in_a_nursery_is_its_problem(certificate):
    async with serving(Edge(routes()), certificate) as server:
        answer = await server.get("/group")
        problem = answer.refused(409, "idempotency-conflict")
        assert (problem["detail"], problem["instance"]) == ("Use another key.", "/group")
        assert problem["errors"] == [{"pointer": "/artifact", "detail": "is wrong"}]
        assert answer.headers["retry-after"] == ["7"]
        assert (await server.get("/problem/unauthenticated")).headers["www-authenticate"] == ["Bearer"]


@pytest.mark.parametrize("app", [routes, lambda: broken])
async def test_a_fault_shows_its_id_and_neither_client_nor_log_sees_the_message(certificate, caplog, app):
    async with serving(Edge(app()), certificate) as server:
        answer = await server.get("/boom")
        problem = answer.refused(500, "internal")
        assert b"hunter2" not in answer.body
        assert b"Traceback" not in answer.body
        assert problem["request_id"] in caplog.text
        assert "RuntimeError" in caplog.text
        assert "hunter2" not in caplog.text.replace('raise RuntimeError("the password is hunter2")', "")


async def test_a_slow_body_times_out(certificate, monkeypatch):
    monkeypatch.setattr(factory, "BODY_S", 0.3)
    async with serving(Edge(routes()), certificate) as server:
        (await server.raw(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")).cut(408, "timeout")


async def test_a_large_body_still_on_its_way_does_not_swallow_the_answer(certificate):
    async with serving(Edge(routes(), max_body=bound), certificate) as server:
        size = 4 * 1024 * 1024
        (await server.raw(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)).cut(413, "too-large")


async def test_connections_are_kept_for_the_next_request(certificate):
    async with serving(Edge(routes()), certificate) as server:
        with trio.fail_after(DEADLINE_S):
            stream = await server.connect()
            async with stream:
                assert stream.selected_alpn_protocol() == "http/1.1"
                for _ in range(2):
                    await stream.send_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n")
                    answer = b""
                    while b"scope" not in answer:
                        answer += await stream.receive_some(65536)
                    assert answer.startswith(b"HTTP/1.1 200")


async def test_stopping_lets_a_request_under_way_finish(certificate):
    entered, leave, stop = trio.Event(), trio.Event(), trio.Event()
    app = create_app("stopping")

    @app.get("/slow")
    async def slow() -> str:
        entered.set()
        await leave.wait()
        return "done"

    listener = open_listener("127.0.0.1", 0, certificate=certificate / "chain.pem", key=certificate / "key.pem")
    server, answers = Server(listener.port, certificate / "chain.pem"), []

    async def ask() -> None:
        answers.append(await server.get("/slow"))

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_app, Edge(app), [listener], stop)
            nursery.start_soon(ask)
            await entered.wait()
            stop.set()
            leave.set()
    assert [answer.body for answer in answers] == [b"done"]


async def test_a_plain_listener_speaks_the_same(certificate):
    listener = open_listener("127.0.0.1", 0)
    stop = trio.Event()
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_app, Edge(routes()), [listener], stop)
            stream = await trio.open_tcp_stream("127.0.0.1", listener.port)
            async with stream:
                await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                (await read_answer(stream)).cut(505, "http-version")
            stop.set()


def test_a_port_in_use_is_one_sentence():
    first = open_listener("127.0.0.1", 0)
    try:
        with pytest.raises(CannotListen, match=f"^port {first.port} on 127.0.0.1 is in use by another program"):
            open_listener("127.0.0.1", first.port)
    finally:
        first.close()


def test_an_unusable_certificate_is_one_sentence(certificate, tmp_path):
    with pytest.raises(CannotListen, match="No such file"):
        open_listener("127.0.0.1", 0, certificate=tmp_path / "none.pem", key=certificate / "key.pem")
    with pytest.raises(CannotListen, match="not a PEM chain and its key"):
        open_listener("127.0.0.1", 0, certificate=certificate / "key.pem", key=certificate / "key.pem")
    with pytest.raises(CannotListen, match="cannot listen on nowhere"):
        open_listener("nowhere.invalid", 0)


async def test_a_declared_length_is_refused_before_a_byte_of_the_body_comes(certificate, monkeypatch):
    monkeypatch.setattr(edge, "LINGER_S", 0.2)
    async with serving(Edge(routes(), max_body=bound), certificate) as server:
        (await server.raw(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n")).cut(413, "too-large")
