"""One table from error code to HTTP status, and RFC 9457 problem documents made from it (interfaces, 2.2).

Every code of `model.reason` is in the table, so that a refusal of any rule can be rendered, and beside them the codes of HTTP itself. The
answers `not-found` and `unknown-manifest` are constant bytes: what may not be seen and what never existed look the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.reason import REASONS, Effect, Reason

PROBLEM_TYPE: Final = "application/problem+json"
CONSTANT: Final = frozenset({"not-found", "unknown-manifest"})
"""Codes whose document is the same bytes every time: no detail of ours, no `instance`, no `request_id`."""

_RETRYABLE: Final = frozenset({408, 429, 503})


@dataclass(frozen=True)
class ErrorCode:
    """One row: what the client gets to see of a code."""

    code: str
    status: int
    title: str
    who: str
    """who can mend it"""
    retryable: bool
    """whether the same request may succeed later without being changed"""


@dataclass(frozen=True)
class FieldProblem:
    """One member of the request that is wrong: a JSON pointer (RFC 6901) and what would be right."""

    pointer: str
    detail: str


class ApiError(Exception):
    """An answer other than success. `code` is a code of `CODES`, `detail` a sentence that says what to do and holds no secret.

    `retry_after` is in whole seconds. Raises KeyError for a code that is not in the table: a bug.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        errors: Sequence[FieldProblem] = (),
        retry_after: int | None = None,
        ping_id: str | None = None,
        receipt_id: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.row = CODES[code]
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.ping_id = ping_id
        self.receipt_id = receipt_id

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return self.row.status


_CALL_STATUS: Final = MappingProxyType(
    {
        "unauthenticated": 401,
        "not-authorised": 403,
        "rate-limited": 429,
        "quota-exceeded": 413,
        "ping-malformed": 400,
        "idempotency-conflict": 409,
        "idempotency-running": 409,
        "wrong-gatekeeper": 409,
        "unknown-manifest": 404,
        "not-found": 404,
        "already-public": 409,
    }
)

_EFFECT_STATUS: Final = (
    # The first effect that a code has decides. An authority that is away is 503; a statement that is refused is 422; what waits or came too
    # late is 409.
    (Effect.IND, 503),
    (Effect.DENY, 422),
    (Effect.DOOR, 422),
    (Effect.LOAD, 422),
    (Effect.ORDER, 422),
    (Effect.WAIT, 409),
    (Effect.AFTER, 409),
)

_HTTP_ROWS: Final = (
    ErrorCode("bad-request", 400, "Not a request that can be read in one way only", "requester", retryable=False),
    ErrorCode("method-not-allowed", 405, "This path has no such method", "requester", retryable=False),
    ErrorCode("not-acceptable", 406, "None of the media types asked for is offered here", "requester", retryable=False),
    ErrorCode("timeout", 408, "The request did not arrive in time", "requester", retryable=True),
    ErrorCode("not-cancellable", 409, "The ping is past the point where it can be withdrawn", "requester", retryable=False),
    ErrorCode("already-managed", 409, "What runs there is known already: adopted, or deployed by ping", "nobody", retryable=False),
    ErrorCode("nothing-to-adopt", 404, "The target knows of nothing that runs there and could be adopted", "the host's admin", retryable=False),
    ErrorCode("conflict", 409, "The thing is in a state that does not allow this", "requester", retryable=False),
    ErrorCode("too-large", 413, "More bytes than this path takes", "requester", retryable=False),
    ErrorCode("unsupported-media-type", 415, "A media type or an encoding that is not read here", "requester", retryable=False),
    ErrorCode("range-not-satisfiable", 416, "The range does not begin where the bytes end", "requester", retryable=False),
    ErrorCode("unprocessable", 422, "Read, understood, and not acceptable", "requester", retryable=False),
    ErrorCode("headers-too-large", 431, "Too many header fields, or too long", "requester", retryable=False),
    ErrorCode("internal", 500, "A fault of ours; the id finds it in the gatekeeper's log", "maintainers", retryable=False),
    ErrorCode("not-implemented", 501, "A transfer coding or a method that is not served", "requester", retryable=False),
    ErrorCode("unavailable", 503, "Overloaded, or something needed is away", "operator", retryable=True),
    ErrorCode("http-version", 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here", "requester", retryable=False),
)


def _row(reason: Reason) -> ErrorCode:
    status = _CALL_STATUS.get(reason.code)
    if status is None:
        status = next(status for effect, status in _EFFECT_STATUS if effect in reason.effects)
    title = reason.meaning[0].upper() + reason.meaning[1:]
    return ErrorCode(reason.code, status, title, reason.who, status in _RETRYABLE or reason.code == "idempotency-running")


CODES: Final = MappingProxyType({row.code: row for row in (*(_row(reason) for reason in REASONS.values()), *_HTTP_ROWS)})

_BY_STATUS: Final = MappingProxyType(
    {row.status: row.code for row in _HTTP_ROWS} | {401: "unauthenticated", 403: "not-authorised", 404: "not-found", 429: "rate-limited"}
)


def code_of_status(status: int) -> str:
    """The code for an error that a framework raised with a bare status; `bad-request` or `internal` where there is no closer one."""
    return _BY_STATUS.get(status, "bad-request" if 400 <= status < 500 else "internal")


def encode_problem(error: ApiError, *, instance: str | None, request_id: str | None) -> bytes:
    """The problem document of an error; constant bytes for the codes of `CONSTANT`. `instance` is the path that was asked for."""
    row = error.row
    document: dict[str, Json] = {
        "type": f"/problems/{row.code}",
        "title": row.title,
        "status": row.status,
        "code": row.code,
        "ping_id": None,
        "receipt_id": None,
        "errors": [],
        "retryable": row.retryable,
    }
    if row.code in CONSTANT:
        document["detail"] = "There is no such thing, or it is not yours to see."
    else:
        document["detail"] = error.detail or row.title + "."
        document["instance"] = instance
        document["request_id"] = request_id
        document["ping_id"] = error.ping_id
        document["receipt_id"] = error.receipt_id
        document["errors"] = [{"pointer": item.pointer, "detail": item.detail} for item in error.errors]
    return encode_canonical(document)


def problem_headers(error: ApiError) -> list[tuple[str, str]]:
    """Header fields that belong to the answer: media type, caching, and what the status demands (RFC 9110, RFC 6750)."""
    headers = [("content-type", PROBLEM_TYPE), ("cache-control", "no-store")]
    if error.status == 401:
        headers.append(("www-authenticate", "Bearer"))
    if error.retry_after is not None:
        headers.append(("retry-after", str(error.retry_after)))
    return headers


def describe_code(code: str) -> dict[str, Json] | None:
    """What `GET /problems/{code}` says; None for a code that does not exist."""
    row = CODES.get(code)
    if row is None:
        return None
    effects = sorted(effect.value for effect in REASONS[code].effects) if code in REASONS else ["call"]
    return {
        "type": f"/problems/{row.code}",
        "code": row.code,
        "title": row.title,
        "status": row.status,
        "effects": effects,
        "who": row.who,
        "retryable": row.retryable,
    }
