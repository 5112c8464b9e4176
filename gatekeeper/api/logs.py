"""`/log/`: the transparency log as C2SP tlog-tiles (log format, 1.4 and 7). Nothing beyond the published size is served."""

from __future__ import annotations

import re
from typing import Final

from quart import Blueprint, Response

from gatekeeper.deploy.parts import Parts
from gatekeeper.ports.errors import Unavailable
from gatekeeper.sequencer import Sequencer
from gatekeeper.tlog.errors import MalformedTile
from gatekeeper.tlog.logpolicy import LogPolicy, encode_log_policy
from gatekeeper.tlog.tile import TILE_WIDTH, parse_tile_path

from .authenticate import reader
from .problem import ApiError

_OCTETS: Final = "application/octet-stream"
_NOTE: Final = "text/plain; charset=utf-8"
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_FOR_EVER: Final = "public, max-age=31536000, immutable"


def log_routes(parts: Parts, log: Sequencer, policy: LogPolicy) -> Blueprint:
    """The routes. `policy` is the convenience copy of the verifiers' file; whoever distrusts us installs their own."""
    routes = Blueprint("log", __name__)

    @routes.get("/log/checkpoint")
    async def get_checkpoint() -> Response:
        reader(parts)
        published = log.published()
        if published is None:
            raise ApiError("log-unavailable", "nothing was published yet", retry_after=1)
        return Response(published.note, content_type=_NOTE, headers={"Cache-Control": "public, max-age=5"})

    @routes.get("/log/tile/<path:path>")
    async def get_tile(path: str) -> Response:
        reader(parts)
        try:
            address = parse_tile_path(f"tile/{path}")
        except MalformedTile:
            raise ApiError("not-found") from None
        if address.level is None:
            data = await log.entries(address.n, address.width)
        else:
            data = await log.tile(address.level, address.n, address.width)
        if data is None:
            raise ApiError("not-found")
        caching = _FOR_EVER if address.width == TILE_WIDTH else "public, max-age=86400"
        return Response(data, content_type=_OCTETS, headers={"Cache-Control": caching})

    @routes.get("/log/proof/<index>")
    async def get_proof(index: str) -> Response:
        reader(parts)
        published = log.published()
        if _INDEX.fullmatch(index) is None or published is None or int(index) >= published.size:
            raise ApiError("not-found")
        try:
            inclusion = await log.prove(int(index))
        except Unavailable as error:
            raise ApiError("log-unavailable", error.detail, retry_after=1) from error
        return Response(inclusion.proof, content_type=_NOTE, headers={"Cache-Control": "no-cache"})

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
