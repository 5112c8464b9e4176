"""Routes that only read: what runs, artifacts and their provenance, receipts, the policy in force, what a code means."""

from __future__ import annotations

from quart import Blueprint, Response, request

from gatekeeper.deploy.calls import viewer_of
from gatekeeper.deploy.parts import Parts
from gatekeeper.deploy.query import artifact_json, build_log, provenance, running_json
from gatekeeper.model.digest import parse_digest
from gatekeeper.model.strictjson import JsonValue

from .answer import answer_json, path_digest
from .authenticate import known_caller, reader
from .openapi import openapi_document
from .problem import ApiError, describe_code


def read_routes(parts: Parts) -> Blueprint:
    """The routes."""
    routes = Blueprint("reads", __name__)

    @routes.get("/v1/running")
    async def get_running() -> Response:
        viewer = viewer_of(reader(parts))
        items: list[JsonValue] = list(
            await running_json(
                parts,
                viewer,
                environment=request.args.get("environment"),
                component=request.args.get("component"),
                drifted_only="drift" in request.args,
            )
        )
        return answer_json({"apiVersion": "pingee/v1", "kind": "Running", "items": items})

    @routes.get("/v1/artifacts")
    async def list_artifacts() -> Response:
        viewer = viewer_of(reader(parts))
        rows = await parts.statements.artifacts(commit=request.args.get("commit"), project=request.args.get("project"), viewer=viewer)
        items: list[JsonValue] = [artifact_json(row) for row in rows]
        return answer_json({"apiVersion": "pingee/v1", "kind": "ArtifactList", "items": items})

    @routes.get("/v1/artifacts/<digest>")
    async def get_artifact(digest: str) -> Response:
        row = await parts.statements.artifact(path_digest(digest), viewer_of(reader(parts)))
        if row is None:
            raise ApiError("unknown-manifest")
        return answer_json({"apiVersion": "pingee/v1", "kind": "Artifact", **artifact_json(row)})

    @routes.get("/v1/artifacts/<digest>/provenance")
    async def get_provenance(digest: str) -> Response:
        document = await provenance(parts, path_digest(digest), viewer_of(reader(parts)))
        if document is None:
            raise ApiError("unknown-manifest")
        return answer_json(document)

    @routes.get("/v1/artifacts/<digest>/log")
    async def get_log(digest: str) -> Response:
        log = await build_log(parts, path_digest(digest), viewer_of(reader(parts)))
        if log is None:
            raise ApiError("unknown-manifest")
        # Text that a stranger's build wrote: never rendered, never sniffed.
        headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}
        return Response(log, content_type="text/plain; charset=utf-8", headers=headers)

    @routes.get("/v1/receipts/<digest>")
    async def get_receipt(digest: str) -> Response:
        row = await parts.deployments.receipt(path_digest(digest), viewer_of(reader(parts)))
        if row is None:
            raise ApiError("not-found")
        return Response(row.receipt, content_type="application/json", headers={"ETag": f'"{parse_digest(row.id)[7:39]}"'})

    @routes.get("/v1/policies/current")
    async def get_policy() -> Response:
        reader(parts)
        policy = parts.policy.current()
        document: dict[str, JsonValue] = {
            "apiVersion": "pingee/v1",
            "kind": "Policy",
            "instance": policy.instance,
            "revision": policy.commit,
            "digest": policy.digest,
            "trusted_root": policy.trusted_root,
            "environments": {
                name: {"class": e.environment_class.value, "stages": list(e.stages), "votes": None if e.votes is None else e.votes.count}
                for name, e in policy.environments.items()
            },
        }
        return answer_json(document)

    @routes.get("/v1/whoami")
    async def get_whoami() -> Response:
        who = known_caller(parts)
        person = parts.policy.current().person_of(who.issuer, who.subject)
        groups: list[JsonValue] = sorted(getattr(who, "groups", ()))
        return answer_json({"issuer": who.issuer, "subject": who.subject, "person": None if person is None else person.name, "groups": groups})

    @routes.get("/problems/<code>")
    async def get_problem(code: str) -> Response:
        document = describe_code(code)
        if document is None:
            raise ApiError("not-found")
        return answer_json(document)  # type: ignore[arg-type]  # plain strings, numbers and lists

    @routes.get("/openapi.json")
    async def get_openapi() -> Response:
        return answer_json(openapi_document())

    return routes
