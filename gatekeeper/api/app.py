"""The public application: routes, one translation of errors, the upload door, the edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import trio
from quart import Blueprint, Response

from gatekeeper.deploy.calls import CallRefused
from gatekeeper.deploy.parts import Parts
from gatekeeper.model.fields import FieldError
from gatekeeper.model.strictjson import MalformedJson
from gatekeeper.ports.errors import PortError
from gatekeeper.sequencer import Sequencer
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.verify.errors import Malformed

from .answer import MAX_BUNDLE, translate
from .blobs import BlobDoor, is_upload
from .edge import AsgiApp, Edge, bound_json
from .factory import answer_problem, create_app
from .intake import intake_routes
from .logs import log_routes
from .pings import ping_routes
from .reads import read_routes

_BUNDLE_PATHS = frozenset({"/v1/artifacts", "/v1/results"})


def build_app(parts: Parts, log: Sequencer, policy: LogPolicy, *, pages: Sequence[Blueprint], max_blob: int, closing: trio.Event) -> Edge:
    """The ASGI application of the public listener. `closing` is set before the server stops; `pages` come from `web`."""
    app = create_app("gatekeeper")
    for routes in (ping_routes(parts, closing), intake_routes(parts), read_routes(parts), log_routes(parts, log, policy), *pages):
        app.register_blueprint(routes)
    for kind in (CallRefused, FieldError, MalformedJson, Malformed, PortError):
        app.register_error_handler(kind, _answer_known)
    return Edge(BlobDoor(parts, cast("AsgiApp", app), max_blob), max_body=_bound)


async def _answer_known(error: Exception) -> Response:
    return await answer_problem(translate(error))


def _bound(method: str, path: str) -> int | None:
    if is_upload(method, path):
        return None
    return MAX_BUNDLE if path in _BUNDLE_PATHS else bound_json(method, path)
