"""Routes about pings: ask, look, follow, explain, withdraw, roll back; and adopt, which makes something to roll back to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import trio
from quart import Blueprint, Response, request

from gatekeeper.deploy.adopt import adopt
from gatekeeper.deploy.calls import viewer_of
from gatekeeper.deploy.explain import explain
from gatekeeper.deploy.parts import Parts
from gatekeeper.deploy.ping import PingRequest, accept_ping, accept_rollback, cancel, rollback_set
from gatekeeper.deploy.query import adoption_json, deployment_json, origin_then, ping_json
from gatekeeper.model.caller import Caller
from gatekeeper.model.fields import FieldError
from gatekeeper.model.ping import State
from gatekeeper.model.strictjson import JsonValue
from gatekeeper.ports.pings import Ping, PingFilter

from .answer import answer_json, call_key, read_fields
from .authenticate import known_caller, reader
from .problem import ApiError

KEEPALIVE_S: Final = 15.0
MAX_WAIT_S: Final = 30
MAX_STREAM_S: Final = 3600.0


def ping_routes(parts: Parts, closing: trio.Event) -> Blueprint:
    """The routes; `closing` is set before the server stops, so that streams end by themselves."""
    routes = Blueprint("pings", __name__, url_prefix="/v1")

    @routes.post("/pings")
    async def post_ping() -> Response:
        who = known_caller(parts)
        fields, body = await read_fields()
        wanted = PingRequest(
            environment=fields.name("environment"),
            component=fields.name("component"),
            artifact=fields.optional("artifact", fields.digest),
            config=fields.optional("config", fields.commit),
            reason=fields.optional("reason", lambda key: fields.text(key, max_length=1000, min_length=0)) or "",
            deadline=fields.optional("deadline", fields.moment),
        )
        fields.done()
        ping, _ = await accept_ping(parts, who, wanted, call_key(body))
        return _accepted(ping)

    @routes.post("/rollbacks")
    async def post_rollback() -> Response:
        who = known_caller(parts)
        fields, body = await read_fields()
        environment, component = fields.name("environment"), fields.name("component")
        to = fields.optional("to", fields.digest)
        reason = fields.text("reason", max_length=1000)
        fields.done()
        ping, _ = await accept_rollback(parts, who, environment, component, to=to, reason=reason, call=call_key(body))
        return _accepted(ping)

    @routes.post("/adoptions")
    async def post_adoption() -> Response:
        who = known_caller(parts)
        fields, body = await read_fields()
        environment, component = fields.name("environment"), fields.name("component")
        reason = fields.text("reason", max_length=1000)
        fields.done()
        return answer_json(adoption_json(await adopt(parts, who, environment, component, reason=reason, call=call_key(body))), 201)

    @routes.get("/rollbacks")
    async def get_rollback_set() -> Response:
        who = reader(parts)
        environment, component = _argument("environment"), _argument("component")
        members = await rollback_set(parts, who, environment, component)
        items: list[JsonValue] = [deployment_json(row, origin_then(parts, row.at)) for row in members]
        return answer_json({"apiVersion": "pingee/v1", "kind": "RollbackSet", "items": items})

    @routes.get("/pings")
    async def list_pings() -> Response:
        who = reader(parts)
        state = request.args.get("state")
        if state is not None and state not in tuple(State):
            raise FieldError("/state", "is not a state of a ping")
        limit = request.args.get("limit", "50")
        if not (limit.isascii() and limit.isdecimal() and len(limit) < 4) or not 1 <= int(limit) <= 200:
            raise FieldError("/limit", "is a number from 1 to 200")
        wanted = PingFilter(
            environment=request.args.get("environment"),
            component=request.args.get("component"),
            state=None if state is None else State(state),
            reason=request.args.get("reason"),
            limit=int(limit),
            before=request.args.get("cursor"),
        )
        found = await parts.pings.list_pings(wanted, viewer_of(who))
        headers = {}
        if len(found) == wanted.limit:
            headers["Link"] = f'</v1/pings?limit={wanted.limit}&cursor={found[-1].id}>; rel="next"'
        items: list[JsonValue] = [ping_json(ping, public_url=parts.public_url, origin=origin_then(parts, ping.logged_at)) for ping in found]
        return answer_json({"apiVersion": "pingee/v1", "kind": "PingList", "items": items}, headers=headers)

    @routes.get("/pings/<ping_id>")
    async def get_ping(ping_id: str) -> Response:
        who = reader(parts)
        ping = await _ping(parts, ping_id, who)
        wait = _prefer_wait()
        if wait and not ping.state.ended:
            ping = await _changed(parts, ping, who, wait, closing)
        return answer_json(ping_json(ping, public_url=parts.public_url, origin=origin_then(parts, ping.logged_at)))

    @routes.get("/pings/<ping_id>/explanation")
    async def get_explanation(ping_id: str) -> Response:
        return answer_json(explain(await _ping(parts, ping_id, reader(parts)), public_url=parts.public_url))

    @routes.post("/pings/<ping_id>/cancellation")
    async def post_cancellation(ping_id: str) -> Response:
        who = known_caller(parts)
        fields, _ = await read_fields()
        reason = fields.text("reason", max_length=1000)
        fields.done()
        ping = await cancel(parts, who, ping_id, reason)
        return answer_json(ping_json(ping, public_url=parts.public_url, origin=origin_then(parts, ping.logged_at)), 202)

    @routes.get("/pings/<ping_id>/events")
    async def get_events(ping_id: str) -> Response:
        who = reader(parts)
        await _ping(parts, ping_id, who)
        after = request.headers.get("Last-Event-ID") or request.args.get("after") or "0"
        start = int(after) if after.isascii() and after.isdecimal() and len(after) < 10 else 0
        headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
        return Response(_stream(parts, ping_id, who, start, closing), headers=headers, content_type="text/event-stream")

    def _accepted(ping: Ping) -> Response:
        document = ping_json(ping, public_url=parts.public_url, origin=origin_then(parts, ping.logged_at))
        return answer_json(document, 202, {"Location": f"/v1/pings/{ping.id}"})

    return routes


async def _ping(parts: Parts, ping_id: str, who: Caller | None) -> Ping:
    ping = await parts.pings.get(ping_id, viewer_of(who)) if len(ping_id) == 32 else None
    if ping is None:
        raise ApiError("not-found")
    return ping


def _argument(name: str) -> str:
    value = request.args.get(name)
    if not value:
        raise FieldError(f"/{name}", "is missing from the query")
    return value


def _prefer_wait() -> float:
    for preference in request.headers.get("Prefer", "").split(","):
        name, _, value = preference.strip().partition("=")
        if name == "wait" and value.isascii() and value.isdecimal() and len(value) < 4:
            return min(int(value), MAX_WAIT_S)
    return 0


async def _changed(parts: Parts, ping: Ping, who: Caller | None, wait_s: float, closing: trio.Event) -> Ping:
    """The ping after its state changed, or as it is when the time is over."""
    before = (ping.state, ping.reasons)
    async with parts.pings.changes() as changes:
        deadline = trio.current_time() + wait_s
        while not closing.is_set():
            found = await parts.pings.get(ping.id, viewer_of(who))
            if found is None:
                raise ApiError("not-found")
            left = deadline - trio.current_time()
            if (found.state, found.reasons) != before or left <= 0:
                return found
            await changes.wait(min(left, 1.0))
    return ping


async def _stream(parts: Parts, ping_id: str, who: Caller | None, after: int, closing: trio.Event) -> AsyncIterator[bytes]:
    """Events as they come. Clearance is asked again at each look; lost, the stream ends as a cut would."""
    yield b"retry: 3000\n\n"
    started = silent = trio.current_time()
    async with parts.pings.changes() as changes:
        while trio.current_time() - started < MAX_STREAM_S:
            events = await parts.pings.events(ping_id, after, viewer_of(who))
            for event in events:
                after, silent = event.seq, trio.current_time()
                data = json.dumps({**event.data, "at": _text(event.at)}, ensure_ascii=True)
                yield f"id: {event.seq}\nevent: {event.event}\ndata: {data}\n\n".encode()
                if event.event == "end":
                    return
            if not events and await parts.pings.get(ping_id, viewer_of(who)) is None:
                return
            if closing.is_set():
                yield b"event: bye\ndata: {}\n\n"
                return
            if trio.current_time() - silent >= KEEPALIVE_S:
                silent = trio.current_time()
                yield b": ping\n\n"
            await changes.wait(1.0)


def _text(at: datetime) -> str:
    return at.isoformat()


