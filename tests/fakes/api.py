"""The real public application over a real loopback socket, with the parts of `tests.fakes.house`, a real sequencer and a client of few words."""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import h11
import trio

from gatekeeper.api.app import build_app
from gatekeeper.api.listen import open_listener, serve_app
from gatekeeper.api.operator import build_operator_app
from gatekeeper.deploy.measure import Metrics
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.web.pages import page_routes
from tests.fakes import signing
from tests.fakes.house import DEPLOYER_GROUP, INSTANCE, OPERATOR_GROUP, PEOPLE, House
from tests.fakes.running_log import ORIGIN, log_key, running_log
from tests.fakes.vault import FakeLogVault

DEADLINE_S = 30


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    def refused(self, status, code):
        """A whole problem document with this status and code; gives it."""
        assert (self.status, self.headers["content-type"]) == (status, "application/problem+json"), (self.status, self.body[:300])
        found = self.json
        assert (found["status"], found["code"], found["type"]) == (status, code, f"/problems/{code}")
        assert self.headers["cache-control"] == "no-store"
        return found


class Api:
    """A running gatekeeper. `token(...)` makes tokens of its issuers."""

    def __init__(self, house, parts, app, port, operator_port, log, closing, stop):
        self.house, self.parts, self.app, self.port, self.operator_port, self.log = house, parts, app, port, operator_port, log
        self.closing, self.stop = closing, stop

    def run_token(self, **changes):
        now = int(self.house.clock().timestamp())
        return CI.token(signing.run_claims(now, **{"aud": f"pingee:{INSTANCE}", **changes}))

    def token(self, name="alice", *, groups=(DEPLOYER_GROUP,), **changes):
        now = int(self.house.clock().timestamp())
        claims = {"iss": PEOPLE, "sub": f"s-{name}", "name": name, "groups": list(groups), "jti": f"jti-{name}", **changes}
        return IDP.token(signing.person_claims(now, **claims))

    def operator_token(self):
        return self.token("olga", groups=(OPERATOR_GROUP,))

    async def get(self, path, token=None, *, port=None, **headers):
        return await self.ask("GET", path, token, port=port, **headers)

    async def post(self, path, token, body, *, key="k1", content_type="application/json", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"content-type": content_type, **headers} | ({} if key is None else {"idempotency-key": key})
        return await self.ask("POST", path, token, body=data, **fields)

    async def ask(self, method, path, token=None, *, body=b"", port=None, **headers):
        with trio.fail_after(DEADLINE_S):
            async with await self.open(method, path, token, body=body, port=port, **headers) as stream:
                return await stream.whole()

    async def open(self, method, path, token=None, *, body=b"", port=None, **headers):
        fields = {"host": "pingee.demo", "connection": "close", "content-length": str(len(body))}
        if method == "GET":
            del fields["content-length"]
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            fields["authorization"] = f"Bearer {token}"
        stream = Stream(await trio.open_tcp_stream("127.0.0.1", port or self.port))
        await stream.send(h11.Request(method=method, target=path, headers=list(fields.items())))
        if body:
            await stream.send(h11.Data(data=body))
        await stream.send(h11.EndOfMessage())
        return stream


class Stream:
    """One request under way."""

    def __init__(self, socket):
        self._socket, self._http = socket, h11.Connection(h11.CLIENT)
        self.status, self.headers = 0, {}

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self._socket.aclose()

    async def send(self, event):
        with suppress(trio.BrokenResourceError):  # an early refusal: the answer is there to be read
            await self._socket.send_all(self._http.send(event))

    async def chunks(self):
        """The body as it comes."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._socket.receive_some(65536))
            elif isinstance(event, h11.Response):
                self.status, self.headers = event.status_code, {k.decode(): v.decode() for k, v in event.headers}
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    async def whole(self):
        body = b"".join([chunk async for chunk in self.chunks()])
        return Answer(self.status, self.headers, body)

    async def events(self):
        """Server-sent events: (id, event, data)."""
        waiting = b""
        async for chunk in self.chunks():
            *whole, waiting = (waiting + chunk).split(b"\n\n")
            for block in whole:
                fields = dict(line.split(": ", 1) for line in block.decode().splitlines() if not line.startswith(":"))
                if "event" in fields:
                    yield int(fields.get("id", -1)), fields["event"], json.loads(fields["data"])


@asynccontextmanager
async def running_api(house=None, *, max_blob=1 << 20, vault=None, store=None, listener=None, uploads=None, **changes):
    """Serve until left. `changes` replaces parts; `vault` holds the log's key, `store` its rows."""
    house = house or House()
    house.policy.files |= {"ci.json": CI.jwks(), "people.json": IDP.jwks()}
    house.policy.load()
    vault = vault or FakeLogVault()
    async with running_log(store or house.database.log(ORIGIN), vault, clock=house.clock) as log, trio.open_nursery() as nursery:
        parts = replace(house.parts, **{"origin": ORIGIN, "log": log, "entries": house.database.entries(ORIGIN), **changes})
        closing, stop = trio.Event(), trio.Event()
        app = build_app(parts, log, LogPolicy(log=await log_key(vault)), pages=[page_routes(parts)], max_blob=max_blob, closing=closing, uploads=uploads)
        operator = build_operator_app({"database": house.database.ready}, Metrics(parts, lambda: None, "test"))
        public, private = listener or open_listener("127.0.0.1", 0), open_listener("127.0.0.1", 0)
        ports = public.port, private.port
        await nursery.start(serve_app, app, [public], stop)
        await nursery.start(serve_app, operator, [private], stop)
        yield Api(house, parts, app, *ports, log, closing, stop)
        closing.set()
        stop.set()


async def until(condition, *, seconds=DEADLINE_S):
    """Wait for a condition; its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        await trio.sleep(0.02)
    return found


CI = signing.FakeIssuer(url="https://ci.demo")
IDP = signing.FakeIssuer(url=PEOPLE, kid="p1")
