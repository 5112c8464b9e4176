"""The operator's listener: `/livez`, `/readyz[?verbose]`, `/metrics`. A separate bind, never on the public one (interfaces, 2.1 and 7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, cast

import trio
from quart import Response, request

from gatekeeper.deploy.measure import Metrics
from gatekeeper.model.readiness import Word
from gatekeeper.ports.errors import PortError

from .answer import translate
from .edge import AsgiApp, Edge
from .factory import answer_problem, create_app

PROBE_S: Final = 3.0

Probe = Callable[[], Awaitable[Word | None]]
"""Returns a word, or None for `ok`. What it raises is not shown: only the part's name and a word."""


def build_operator_app(probes: Mapping[str, Probe], metrics: Metrics, details: Mapping[str, Probe] = MappingProxyType({})) -> Edge:
    """The ASGI application of the operator's listener. `probes` decide whether the replica is ready; `details` are asked and told only verbosely."""
    app = create_app("gatekeeper.operator")
    app.register_error_handler(PortError, _answer_away)

    @app.get("/livez")
    async def get_livez() -> Response:
        return Response("ok\n", content_type="text/plain")

    @app.get("/readyz")
    async def get_readyz() -> Response:
        verbose = "verbose" in request.args
        asked = {**probes, **details} if verbose else probes
        words = await _words(asked)
        ready = all(words[name] is Word.OK for name in probes)
        text = "".join(f"{name} {words[name]}\n" for name in asked) if verbose else ""
        return Response(text + ("ready\n" if ready else "not ready\n"), status=200 if ready else 503, content_type="text/plain")

    @app.get("/metrics")
    async def get_metrics() -> Response:
        return Response(await metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return Edge(cast("AsgiApp", app))


async def _answer_away(error: PortError) -> Response:
    return await answer_problem(translate(error))


async def _words(probes: Mapping[str, Probe]) -> Mapping[str, Word]:
    words: dict[str, Word] = {}

    async def ask(name: str, probe: Probe) -> None:
        words[name] = await _word(probe)

    async with trio.open_nursery() as nursery:
        for name, probe in probes.items():
            nursery.start_soon(ask, name, probe)
    return words


async def _word(probe: Probe) -> Word:
    try:
        with trio.fail_after(PROBE_S):
            return await probe() or Word.OK
    except trio.TooSlowError:
        return Word.SLOW
    except Exception:  # noqa: BLE001 -- a probe may fail in any way; readiness is a word, not a traceback
        return Word.FAILING
