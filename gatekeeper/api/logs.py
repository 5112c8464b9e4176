"""`/log/`: the transparency log as C2SP tlog-tiles (log format, 1.4 and 7). Nothing beyond the published size is served.

`/log/checkpoint`, `/log/tile/...`, `/log/proof/{index}` are the open origin's. Every origin, the open one and those that were closed, is served under
the last part of its name too: `/log/2026/checkpoint`. A closed one stays there for ever, as its last checkpoint says.
"""

from __future__ import annotations

import re
from typing import Final

from quart import Blueprint, Response

from gatekeeper.deploy.parts import Parts
from gatekeeper.ports.errors import Unavailable
from gatekeeper.sequencer import Sequencer
from gatekeeper.sequencer.origins import ClosedLog, ClosedOrigins
from gatekeeper.tlog.errors import MalformedTile
from gatekeeper.tlog.logpolicy import LogPolicy, encode_log_policy
from gatekeeper.tlog.origins import origin_tail
from gatekeeper.tlog.tile import TILE_WIDTH, TileAddress, parse_tile_path

from .authenticate import reader
from .problem import ApiError

_OCTETS: Final = "application/octet-stream"
_NOTE: Final = "text/plain; charset=utf-8"
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_A_DAY: Final = "public, max-age=86400"
_SHORTLY: Final = "public, max-age=5"


def log_routes(parts: Parts, log: Sequencer, policy: LogPolicy, closed: ClosedOrigins | None = None) -> Blueprint:
    """The routes. `policy` is the convenience copy of the verifiers' file; whoever distrusts us installs their own."""
    routes = Blueprint("log", __name__)
    own = origin_tail(parts.origin)

    def named(tail: str) -> Sequencer | ClosedLog:
        found = log if tail == own else None if closed is None else closed.by_tail(tail)
        if found is None:
            raise ApiError("not-found")
        return found

    @routes.get("/log/checkpoint")
    async def get_checkpoint() -> Response:
        reader(parts)
        return await _checkpoint(log)

    @routes.get("/log/tile/<path:path>")
    async def get_tile(path: str) -> Response:
        reader(parts)
        return await _tile(log, path)

    @routes.get("/log/proof/<index>")
    async def get_proof(index: str) -> Response:
        reader(parts)
        return await _proof(log, index)

    @routes.get("/log/<tail>/checkpoint")
    async def get_checkpoint_of(tail: str) -> Response:
        reader(parts)
        return await _checkpoint(named(tail))

    @routes.get("/log/<tail>/tile/<path:path>")
    async def get_tile_of(tail: str, path: str) -> Response:
        reader(parts)
        return await _tile(named(tail), path)

    @routes.get("/log/<tail>/proof/<index>")
    async def get_proof_of(tail: str, index: str) -> Response:
        reader(parts)
        return await _proof(named(tail), index)

    @routes.get("/log/keys")
    async def get_keys() -> Response:
        reader(parts)
        try:
            history = await log.key_history()
        except Unavailable as error:
            raise ApiError("log-unavailable", error.detail, retry_after=1) from error
        if history is None:
            raise ApiError("log-unavailable", "nothing was published yet", retry_after=1)
        return Response(history, content_type="application/json", headers={"Cache-Control": "public, max-age=5"})

    @routes.get("/.well-known/pingee/log-policy")
    async def get_log_policy() -> Response:
        return Response(encode_log_policy(policy), content_type=_NOTE)

    return routes


async def _checkpoint(log: Sequencer | ClosedLog) -> Response:
    if isinstance(log, ClosedLog):
        return Response((await log.view()).note, content_type=_NOTE, headers={"Cache-Control": _A_DAY})
    published = log.published()
    if published is None:
        raise ApiError("log-unavailable", "nothing was published yet", retry_after=1)
    return Response(published.note, content_type=_NOTE, headers={"Cache-Control": _SHORTLY})


async def _tile(log: Sequencer | ClosedLog, path: str) -> Response:
    try:
        address = parse_tile_path(f"tile/{path}")
    except MalformedTile:
        raise ApiError("not-found") from None
    data = await _read(log, address)
    if data is None:
        raise ApiError("not-found")
    return Response(data, content_type=_OCTETS, headers={"Cache-Control": _FOR_EVER if address.width == TILE_WIDTH else _A_DAY})


async def _read(log: Sequencer | ClosedLog, address: TileAddress) -> bytes | None:
    if address.level is None:
        return await log.entries(address.n, address.width)
    return await log.tile(address.level, address.n, address.width)


async def _proof(log: Sequencer | ClosedLog, index: str) -> Response:
    if _INDEX.fullmatch(index) is None:
        raise ApiError("not-found")
    if isinstance(log, ClosedLog):
        proof = await log.proof(int(index))
    else:
        published = log.published()
        if published is None or int(index) >= published.size:
            raise ApiError("not-found")
        try:
            proof = (await log.prove(int(index))).proof
        except Unavailable as error:
            raise ApiError("log-unavailable", error.detail, retry_after=1) from error
    if proof is None:
        raise ApiError("not-found")
    return Response(proof, content_type=_NOTE, headers={"Cache-Control": "no-cache"})
