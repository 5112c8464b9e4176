"""Routes for builders and reviewers: certificates, statements, votes."""

from __future__ import annotations

from typing import Final

from quart import Blueprint, Response

from gatekeeper.deploy.intake import Accepted, accept_statement, issue_certificate
from gatekeeper.deploy.parts import Parts
from gatekeeper.deploy.vote import cast_vote
from gatekeeper.model.strictjson import JsonValue

from .answer import MAX_BUNDLE, answer_json, read_body, read_fields
from .authenticate import bearer, known_caller
from .problem import ApiError

_BUILD: Final = frozenset({"manifest", "provenance"})
_RESULTS: Final = frozenset({"test-result"})


def intake_routes(parts: Parts) -> Blueprint:
    """The routes for JSON bodies; blobs have a door of their own (`blobs`)."""
    routes = Blueprint("intake", __name__, url_prefix="/v1")

    @routes.post("/builder-certificates")
    async def post_certificate() -> Response:
        who = known_caller(parts, certificates=True)
        fields, _ = await read_fields(16 * 1024)
        csr = _pem(fields.raw("csr"))
        fields.done()
        chain = await issue_certificate(parts, who, bearer() or "", csr.encode())
        return answer_json({"chain": [pem.decode() for pem in chain]}, 201, {"Cache-Control": "no-store"})

    @routes.post("/artifacts")
    async def post_artifact() -> Response:
        who = known_caller(parts)
        return _accepted(await accept_statement(parts, who, await read_body(MAX_BUNDLE), kinds=_BUILD))

    @routes.post("/results")
    async def post_result() -> Response:
        who = known_caller(parts)
        return _accepted(await accept_statement(parts, who, await read_body(MAX_BUNDLE), kinds=_RESULTS))

    @routes.post("/votes")
    async def post_vote() -> Response:
        who = known_caller(parts)
        vote = await cast_vote(parts, who, await read_body(64 * 1024))
        document: dict[str, JsonValue] = {
            "apiVersion": "pingee/v1",
            "kind": "Vote",
            "project": vote.project,
            "change": vote.change,
            "revision": vote.revision,
            "label": vote.label,
            "value": vote.value,
            "voter": vote.voter,
        }
        return answer_json(document, 201)

    return routes


def _accepted(accepted: Accepted) -> Response:
    missing: list[JsonValue] = [
        {
            "digest": blob.digest,
            "size": blob.size,
            "mediaType": blob.media_type,
            "upload": f"/v1/artifacts/{accepted.artifact}/uploads/{blob.digest}",
        }
        for blob in accepted.missing
    ]
    document: dict[str, JsonValue] = {
        "digest": accepted.artifact,
        "kind": accepted.kind,
        "stage": accepted.stage,
        "log_index": accepted.log_index,
        "missing": missing,
    }
    return answer_json(document, 202 if missing else 201)


def _pem(value: object) -> str:
    # PEM has newlines, which `Fields.text` refuses as control characters.
    if not isinstance(value, str) or len(value) > 8192:
        raise ApiError("ping-malformed", "csr must be a PEM certificate request of at most 8192 characters")
    return value
