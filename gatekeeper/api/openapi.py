"""`GET /openapi.json`: OpenAPI 3.1, made from one table; the same for everybody. A test holds the table against the routes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gatekeeper.model.strictjson import JsonValue

_DIGEST: Final[JsonValue] = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_NAME: Final[JsonValue] = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"}
_COMMIT: Final[JsonValue] = {"type": "string", "pattern": "^[0-9a-f]{40}([0-9a-f]{24})?$"}
_TEXT: Final[JsonValue] = {"type": "string", "maxLength": 1000}
_MOMENT: Final[JsonValue] = {"type": "string", "format": "date-time"}


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    statuses: tuple[int, ...]
    body: tuple[tuple[str, JsonValue, bool], ...] | None = None
    """members of the JSON body: name, schema, required; None: no body, or one described by `media`"""
    media: str = "application/json"
    token: bool = False
    key: bool = False
    """needs an Idempotency-Key"""


OPERATIONS: Final = (
    Operation(
        "post",
        "/v1/pings",
        "Ask to deploy: who comes from the token, what and where from the body",
        (202, 400, 401, 403, 404, 409, 413, 503),
        (
            ("environment", _NAME, True),
            ("component", _NAME, True),
            ("artifact", _DIGEST, False),
            ("config", _COMMIT, False),
            ("reason", _TEXT, False),
            ("deadline", _MOMENT, False),
        ),
        token=True,
        key=True,
    ),
    Operation("get", "/v1/pings", "Pings, newest first", (200, 400)),
    Operation("get", "/v1/pings/{ping_id}", "One ping; `Prefer: wait=30` holds the answer for a change", (200, 304, 404)),
    Operation("get", "/v1/pings/{ping_id}/events", "Its history as server-sent events", (200, 404), media="text/event-stream"),
    Operation("get", "/v1/pings/{ping_id}/explanation", "Every rule, and what would make it pass", (200, 304, 404)),
    Operation("post", "/v1/pings/{ping_id}/cancellation", "Withdraw a waiting ping", (202, 403, 404, 409), (("reason", _TEXT, True),), token=True),
    Operation(
        "post",
        "/v1/rollbacks",
        "Bring back a member of the rollback set",
        (202, 400, 401, 403, 422),
        (("environment", _NAME, True), ("component", _NAME, True), ("to", _DIGEST, False), ("reason", _TEXT, True)),
        token=True,
        key=True,
    ),
    Operation(
        "post",
        "/v1/adoptions",
        "Record what runs there as the first member of the rollback set; deploys nothing",
        (201, 400, 401, 403, 404, 409, 503),
        (("environment", _NAME, True), ("component", _NAME, True), ("reason", _TEXT, True)),
        token=True,
        key=True,
    ),
    Operation("get", "/v1/rollbacks", "The rollback set of an environment and component", (200, 400)),
    Operation(
        "post",
        "/v1/builder-certificates",
        "A ten-minute certificate for a run",
        (201, 400, 401, 403, 422, 503),
        (("csr", {"type": "string", "maxLength": 8192}, True),),
        token=True,
    ),
    Operation("post", "/v1/artifacts", "Submit an artifact manifest or provenance (sigstore bundle)", (201, 202, 400, 401, 422, 503), (), token=True),
    Operation("put", "/v1/artifacts/{artifact}/uploads/{blob}", "Upload one blob, as raw bytes", (201, 401, 404, 413, 422), token=True),
    Operation(
        "patch",
        "/v1/artifacts/{artifact}/uploads/{blob}",
        "Upload the next part of a blob, named by Content-Range; 202 until it is the last",
        (201, 202, 400, 401, 404, 413, 416, 422, 503),
        token=True,
    ),
    Operation("get", "/v1/artifacts/{artifact}/uploads/{blob}", "How far an upload in parts has come", (200, 401, 404), token=True),
    Operation("get", "/v1/artifacts", "Artifacts by commit or project", (200,)),
    Operation("get", "/v1/artifacts/{digest}", "One artifact", (200, 304, 404)),
    Operation("get", "/v1/artifacts/{digest}/provenance", "Commit, votes, build, tests, decisions behind it", (200, 304, 404)),
    Operation("get", "/v1/artifacts/{digest}/log", "The build log", (200, 404), media="text/plain"),
    Operation("post", "/v1/results", "Submit a signed stage result (sigstore bundle)", (201, 400, 401, 404, 422, 503), (), token=True),
    Operation("post", "/v1/votes", "Cast a signed vote (sigstore bundle)", (201, 400, 401, 403, 404, 422, 503), (), token=True),
    Operation("get", "/v1/running", "What runs where", (200, 304)),
    Operation(
        "get",
        "/v1/entries",
        "An index over the log's entries, newest first, by kind, environment, component, person (roles A and S) and since; it may omit",
        (200, 304, 400, 403, 503),
    ),
    Operation("get", "/v1/receipts/{digest}", "A receipt's exact bytes", (200, 404)),
    Operation("get", "/v1/policies/current", "The policy in force", (200, 304)),
    Operation("get", "/v1/whoami", "Who the token says you are", (200, 401), token=True),
    Operation("get", "/log/checkpoint", "The signed checkpoint", (200, 503), media="text/plain"),
    Operation("get", "/log/tile/{path}", "Tiles and entry bundles (C2SP tlog-tiles)", (200, 404), media="application/octet-stream"),
    Operation("get", "/log/proof/{index}", "A tlog-proof against the published checkpoint", (200, 404), media="text/plain"),
    Operation("get", "/log/keys", "The log's key entries, each with the proof by which whoever knows the key before it can follow", (200, 503)),
    Operation("get", "/log/{tail}/checkpoint", "The signed checkpoint of any origin, by the last part of its name", (200, 404), media="text/plain"),
    Operation("get", "/log/{tail}/tile/{path}", "Tiles and entry bundles of that origin", (200, 404), media="application/octet-stream"),
    Operation("get", "/log/{tail}/proof/{index}", "A tlog-proof in that origin", (200, 404), media="text/plain"),
    Operation("get", "/.well-known/pingee/log-policy", "The log's policy file, a convenience copy", (200,), media="text/plain"),
    Operation("get", "/problems/{code}", "What a code means", (200, 404)),
    Operation("get", "/openapi.json", "This document", (200,)),
)


def openapi_document() -> dict[str, JsonValue]:
    """The document as JSON values."""
    paths: dict[str, dict[str, JsonValue]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pingee", "version": "v1", "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": dict(paths),
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": {
                "Problem": {
                    "type": "object",
                    "description": "RFC 9457; `code` is stable, /problems/{code} says what it means",
                    "required": ["type", "title", "status", "code", "retryable"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "code": {"type": "string"},
                        "detail": {"type": "string"},
                        "retryable": {"type": "boolean"},
                    },
                }
            },
        },
    }


def _operation(operation: Operation) -> JsonValue:
    problem: JsonValue = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses: dict[str, JsonValue] = {}
    for status in operation.statuses:
        if status >= 400:
            responses[str(status)] = {"description": "refused", "content": problem}
        elif status == 304:
            responses["304"] = {"description": "unchanged"}
        else:
            responses[str(status)] = {"description": "done", "content": {operation.media: {}}}
    parameters: list[JsonValue] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.key:
        parameters.append({"name": "Idempotency-Key", "in": "header", "required": True, "schema": {"type": "string", "maxLength": 128}})
    described: dict[str, JsonValue] = {"summary": operation.summary, "responses": responses, "parameters": parameters}
    if operation.body is not None:
        schema: dict[str, JsonValue] = {"type": "object"}
        if operation.body:
            schema["properties"] = {name: schema_of for name, schema_of, _ in operation.body}
            schema["required"] = [name for name, _, required in operation.body if required]
            schema["additionalProperties"] = False
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if operation.token:
        described["security"] = [{"bearer": []}]
    return described
