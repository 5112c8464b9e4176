"""The operator's listener: `/livez`, `/readyz[?verbose]`, `/metrics`. A separate bind, never on the public one (interfaces, 2.1 and 7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, cast

import trio
from quart import Response, request

from gatekeeper.deploy.measure import Metrics
from gatekeeper.ports.errors import PortError

from .answer import translate
from .edge import AsgiApp, Edge
from .factory import answer_problem, create_app

PROBE_S: Final = 3.0

Probe = Callable[[], Awaitable[None]]
"""Returns when its part works; raises otherwise. What it raises is not shown: only the part's name and a word."""


def build_operator_app(probes: Mapping[str, Probe], metrics: Metrics) -> Edge:
    """The ASGI application of the operator's listener."""
    app = create_app("gatekeeper.operator")
    app.register_error_handler(PortError, _answer_away)

    @app.get("/livez")
    async def get_livez() -> Response:
        return Response("ok\n", content_type="text/plain")

    @app.get("/readyz")
    async def get_readyz() -> Response:
        words: dict[str, str] = {}

        async def ask(name: str, probe: Probe) -> None:
            words[name] = await _word(probe)

        async with trio.open_nursery() as nursery:
            for name, probe in probes.items():
                nursery.start_soon(ask, name, probe)
        ready = all(word == "ok" for word in words.values())
        text = "".join(f"{name} {words[name]}\n" for name in probes) if "verbose" in request.args else ""
        return Response(text + ("ready\n" if ready else "not ready\n"), status=200 if ready else 503, content_type="text/plain")

    @app.get("/metrics")
    async def get_metrics() -> Response:
        return Response(await metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return Edge(cast("AsgiApp", app))


async def _answer_away(error: PortError) -> Response:
    return await answer_problem(translate(error))


async def _word(probe: Probe) -> str:
    try:
        with trio.fail_after(PROBE_S):
            await probe()
    except trio.TooSlowError:
        return "slow"
    except Exception:  # noqa: BLE001 -- a probe may fail in any way; readiness is a word, not a traceback
        return "failing"
    return "ok"
