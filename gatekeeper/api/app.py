"""The public application: routes, one translation of errors, the upload door, the edge."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import cast

import trio
from quart import Blueprint, Response, request

from gatekeeper.deploy.calls import CallRefused
from gatekeeper.deploy.parts import Parts
from gatekeeper.model.fields import FieldError
from gatekeeper.model.strictjson import MalformedJson
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.uploads import UploadShelf
from gatekeeper.sequencer import Sequencer
from gatekeeper.sequencer.origins import ClosedOrigins
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.verify.errors import Malformed

from .answer import MAX_BUNDLE, translate
from .authenticate import bearer, make_ready
from .blobs import BlobDoor, is_upload
from .edge import AsgiApp, Edge, bound_json
from .entries import entry_routes
from .factory import answer_problem, create_app
from .intake import intake_routes
from .logs import log_routes
from .pings import ping_routes
from .problem import ApiError
from .reads import read_routes

_BUNDLE_PATHS = frozenset({"/v1/artifacts", "/v1/results"})


def build_app(
    parts: Parts,
    log: Sequencer,
    policy: LogPolicy,
    *,
    pages: Sequence[Blueprint],
    max_blob: int,
    closing: trio.Event,
    closed: ClosedOrigins | None = None,
    uploads: UploadShelf | None = None,
) -> Edge:
    """The ASGI application of the public listener. `closing` is set before the server stops; `pages` come from `web`.

    Without `uploads` blobs are taken at once only.
    """
    app = create_app("gatekeeper")
    own = (ping_routes(parts, closing), intake_routes(parts), read_routes(parts), entry_routes(parts, log), log_routes(parts, log, policy, closed))
    for routes in (*own, *pages):
        app.register_blueprint(routes)
    app.before_request(_refuse_control_characters)
    app.before_request(partial(_make_ready, parts))
    for kind in (CallRefused, FieldError, MalformedJson, Malformed, PortError):
        app.register_error_handler(kind, _answer_known)
    return Edge(BlobDoor(parts, cast("AsgiApp", app), max_blob, uploads), max_body=_bound)


async def _refuse_control_characters() -> None:
    # No name of ours holds one, and a database cannot even be asked about a NUL. What cannot exist does not, and a query says where.
    if _holds_control(request.path):
        raise ApiError("not-found")
    for name, value in request.args.items(multi=True):
        if _holds_control(name) or _holds_control(value):
            raise FieldError("" if _holds_control(name) else f"/{name[:64]}", "holds a control character")


async def _make_ready(parts: Parts) -> None:
    with suppress(ApiError):  # a malformed field is refused where somebody asks who calls, and nowhere else
        await make_ready(parts, bearer())


def _holds_control(text: str) -> bool:
    return any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text)


async def _answer_known(error: Exception) -> Response:
    return await answer_problem(translate(error))


def _bound(method: str, path: str) -> int | None:
    if is_upload(method, path):
        return None
    return MAX_BUNDLE if path in _BUNDLE_PATHS else bound_json(method, path)
