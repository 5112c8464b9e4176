"""Quart applications whose every error is a problem document: routing, bodies, and faults of ours alike."""

from __future__ import annotations

import secrets
from typing import Any, Final

from quart import Response, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RoutingException

from .edge import REQUEST_ID, log_fault
from .problem import ApiError, code_of_status, encode_problem, problem_headers

BODY_S: Final = 5
"""Seconds until a body must have arrived whole, else 408."""
MAX_BODY: Final = 16 * 1024 * 1024
"""The second bound on bodies; the first is `edge.Edge`'s, by route."""


class _ProblemApp(QuartTrio):
    async def handle_http_exception(self, *arguments: Any) -> HTTPException | ResponseReturnValue:
        # Quart 0.22 gives the error alone, 0.23 (Python 3.13) a context before it. A routing redirect goes to no handler of theirs: it would
        # be HTML that names another spelling of the path.
        if isinstance(arguments[-1], RoutingException):
            return await answer_problem(ApiError("not-found"))
        return await super().handle_http_exception(*arguments)


def create_app(name: str) -> QuartTrio:
    """An application without routes, static files or templates, to be wrapped in `edge.Edge`."""
    app = _ProblemApp(name, static_folder=None, template_folder=None)
    app.config.update(
        BODY_TIMEOUT=BODY_S,
        MAX_CONTENT_LENGTH=MAX_BODY,
        RESPONSE_TIMEOUT=None,  # event streams last; a peer that stops reading is cut by TCP_USER_TIMEOUT
        PROVIDE_AUTOMATIC_OPTIONS=False,
        PROPAGATE_EXCEPTIONS=False,
        TRAP_HTTP_EXCEPTIONS=False,
    )
    # No second spelling of a path: two proxies must not see two things.
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.register_error_handler(ApiError, answer_problem)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_fault)
    return app


def request_id() -> str:
    """The id of the request being answered, as `Pingee-Request-Id` has it."""
    known = request.scope.get(REQUEST_ID)
    return known if isinstance(known, str) else secrets.token_hex(16)


async def answer_problem(error: ApiError) -> Response:
    """The answer for an `ApiError`."""
    body = encode_problem(error, instance=request.path, request_id=request_id())
    response = Response(body, status=error.status)
    for name, value in problem_headers(error):
        response.headers[name] = value
    return response


async def _answer_http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    response = await answer_problem(ApiError(code_of_status(status), _detail(status)))
    if status == 405 and (methods := getattr(error, "valid_methods", None)):
        response.headers["allow"] = ", ".join(sorted(methods))
    return response


async def _answer_fault(error: Exception) -> Response:
    log_fault(request_id(), error)
    return await answer_problem(ApiError("internal"))


def _detail(status: int) -> str:
    match status:
        case 405:
            return "The field Allow names the methods of this path."
        case 408:
            return f"A body must arrive within {BODY_S} seconds."
        case 413:
            return f"A body has at most {MAX_BODY} bytes."
        case _:
            return ""
