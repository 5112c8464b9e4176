"""The public API over a real listener: which routes there are, and how every call is refused or answered."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from gatekeeper.api.openapi import OPERATIONS
from gatekeeper.model.label import Compartment
from gatekeeper.model.ping import State
from tests.fakes import signing
from tests.fakes.api import running_api
from tests.fakes.house import COMPONENT, ENVIRONMENT, NEW_COMMIT, PEOPLE

pytestmark = pytest.mark.anyio

UNKNOWN = "sha256:" + "0" * 64
UPLOADS = {(method, "/v1/artifacts/{artifact}/uploads/{blob}") for method in ("put", "patch", "get")}


@pytest.fixture
async def api():
    async with running_api() as found:
        yield found


def wanted(artifact=None, **changes):
    return {"environment": ENVIRONMENT, "component": COMPONENT, **({} if artifact is None else {"artifact": artifact}), **changes}


async def test_every_route_is_in_the_table_and_every_line_of_the_table_is_a_route(api):
    quart = api.app._app.inner
    routes = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in quart.url_map.iter_rules()
        if not rule.endpoint.startswith("pages.")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    table = {(operation.method, operation.path) for operation in OPERATIONS}
    assert routes | UPLOADS == table
    document = (await api.get("/openapi.json")).json
    assert {(method, path) for path, methods in document["paths"].items() for method in methods} == table
    for method, _ in UPLOADS:
        (await api.ask(method.upper(), f"/v1/artifacts/{UNKNOWN}/uploads/{UNKNOWN}")).refused(401, "unauthenticated")


async def test_every_route_that_says_token_refuses_the_anonymous_and_every_route_refuses_a_bad_token(api):
    for operation in OPERATIONS:
        path = re.sub(r"{\w+}", UNKNOWN, operation.path)
        body = b"{}" if operation.method == "post" else b""
        headers = {"content-type": "application/json", "idempotency-key": "k"}
        bad = await api.ask(operation.method.upper(), path, "not.a.token", body=body, **headers)
        if operation.path in ("/.well-known/pingee/log-policy", "/problems/{code}", "/openapi.json"):
            assert bad.status in (200, 404), operation.path  # the same for everybody: they look at no token
            continue
        assert bad.refused(401, "unauthenticated")["retryable"] is False, operation.path
        assert bad.headers["www-authenticate"] == "Bearer"
        if operation.token:
            (await api.ask(operation.method.upper(), path, body=body, **headers)).refused(401, "unauthenticated")


async def test_tokens_that_are_not_for_this_door(api):
    bad = {
        "other audience": api.token(aud="pingee:test"),
        "certificate audience": api.run_token(aud="pingee:certificates:production"),
        "expired": api.token(iat=1, exp=2),
        "other key": signing.FakeIssuer(url=PEOPLE, kid="p1").token(signing.person_claims(int(api.house.clock().timestamp()))),
        "unsigned": api.token().rsplit(".", 1)[0] + ".",
    }
    for name, token in bad.items():
        problem = (await api.get("/v1/running", token)).refused(401, "unauthenticated")
        assert token.split(".")[1][:40] not in json.dumps(problem), name
    for header in ("Basic YTpi", "Bearer", api.token()):
        (await api.get("/v1/running", authorization=header)).refused(401, "unauthenticated")
    (await api.post("/v1/builder-certificates", api.run_token(), {"csr": "x"})).refused(401, "unauthenticated")
    assert (await api.get("/v1/running", api.token())).status == 200
    assert (await api.get("/v1/whoami", api.token())).json["person"] == "alice"


async def test_who_may_not_is_told_so_before_anything_is_looked_up(api):
    for body in (wanted(UNKNOWN), wanted(await api.house.bring())):
        (await api.post("/v1/pings", api.token(groups=["nobodies"]), body)).refused(403, "not-authorised")
    (await api.post("/v1/rollbacks", api.token(), wanted(reason="back"))).refused(403, "not-authorised")
    (await api.post("/v1/artifacts", api.token(), b"{}")).refused(403, "not-authorised")
    (await api.post("/v1/votes", api.run_token(), b"{}")).refused(403, "not-authorised")


async def test_nobody_can_tell_an_unreadable_artifact_from_one_that_never_was(api):
    digest = await api.house.bring()
    rows = api.house.database.state.artifacts
    assert (await api.get(f"/v1/artifacts/{digest}")).status == 200
    rows[digest] = replace(rows[digest], label=frozenset({Compartment("embargo:cve-1")}))
    for path in ("/v1/artifacts/{}", "/v1/artifacts/{}/provenance", "/v1/artifacts/{}/log"):
        hidden, unknown = await api.get(path.format(digest)), await api.get(path.format(UNKNOWN))
        hidden.refused(404, "unknown-manifest")
        assert hidden.body == unknown.body
        assert {**hidden.headers, "pingee-request-id": "", "date": ""} == {**unknown.headers, "pingee-request-id": "", "date": ""}
    assert (await api.post("/v1/pings", api.token(), wanted(digest))).refused(404, "unknown-manifest") == (
        await api.post("/v1/pings", api.token(), wanted(UNKNOWN))
    ).refused(404, "unknown-manifest")
    upload = f"/uploads/{UNKNOWN}"
    answers = [await api.ask("PUT", f"/v1/artifacts/{d}{upload}", api.run_token(commit="1" * 40), body=b"x") for d in (digest, UNKNOWN)]
    assert answers[0].body == answers[1].body
    answers[0].refused(404, "unknown-manifest")


async def test_what_never_was_is_one_answer(api):
    bodies = {(await api.get(path)).body for path in ("/v1/pings/" + "0" * 32, "/v1/pings/x", "/nothing", "/v1/receipts/" + UNKNOWN, "/problems/none", "/v1/pings/")}
    assert len(bodies) == 1
    (await api.get("/nothing")).refused(404, "not-found")
    method = await api.ask("DELETE", "/v1/running")
    method.refused(405, "method-not-allowed")
    assert method.headers["allow"] == "GET, HEAD"


MALFORMED = {
    "unknown member": (b'{"environment":"production","component":"hello","colour":"red"}', "/colour"),
    "missing member": (b'{"environment":"production"}', "/component"),
    "wrong type": (b'{"environment":"production","component":7}', "/component"),
    "duplicate key": (b'{"environment":"production","component":"hello","component":"other"}', None),
    "not a number": (b'{"environment":"production","component":NaN}', None),
    "deep nesting": (b'{"environment":"production","component":' + b"[" * 1000 + b"]" * 1000 + b"}", None),
    "not an object": (b'["production"]', None),
    "not UTF-8": b'{"environment":"production","component":"\xff"}',
    "cut": b'{"environment":"production"',
    "nothing": b"",
    "a digest in capitals": (json.dumps(wanted("sha256:" + "A" * 64)).encode(), "/artifact"),
    "a branch for a commit": (json.dumps(wanted(UNKNOWN, config="main")).encode(), "/config"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_ping_is_400_and_says_where(api, name):
    body, pointer = MALFORMED[name] if isinstance(MALFORMED[name], tuple) else (MALFORMED[name], None)
    problem = (await api.post("/v1/pings", api.token(), body)).refused(400, "ping-malformed")
    assert [item["pointer"] for item in problem["errors"]] == ([] if pointer is None else [pointer])
    assert not api.house.database.state.rows


async def test_media_type_size_key_and_query_are_checked(api):
    token, body = api.token(), wanted(UNKNOWN)
    for media in ("text/plain", "application/x-www-form-urlencoded", ""):
        (await api.post("/v1/pings", token, body, content_type=media)).refused(415, "unsupported-media-type")
    (await api.post("/v1/pings", token, b" " * (64 * 1024 + 1))).refused(413, "too-large")
    (await api.post("/v1/builder-certificates", api.run_token(aud="pingee:certificates:production"), b" " * (16 * 1024 + 1))).refused(413, "too-large")
    (await api.post("/v1/artifacts", api.run_token(), b" " * (16 * 1024 * 1024 + 1))).refused(413, "too-large")
    for key in (None, "", "with space", "x" * 129):
        (await api.post("/v1/pings", token, body, key=key)).refused(400, "ping-malformed")
    for query in ("state=gone", "limit=0", "limit=201", "limit=x", "limit=%C2%B2", "limit=" + "9" * 5000):
        problem = (await api.get(f"/v1/pings?{query}")).refused(400, "ping-malformed")
        assert problem["errors"][0]["pointer"] == "/" + query.partition("=")[0]
    assert (await api.get("/v1/rollbacks?environment=production")).refused(400, "ping-malformed")["errors"][0]["pointer"] == "/component"


async def test_a_repeated_call_is_one_ping_and_another_body_under_its_key_is_refused(api):
    digest = await api.house.bring()
    first = await api.post("/v1/pings", api.token(), wanted(digest))
    again = await api.post("/v1/pings", api.token(), wanted(digest))
    assert (first.status, again.status) == (202, 202)
    assert first.json["id"] == again.json["id"]
    assert first.headers["location"] == f"/v1/pings/{first.json['id']}"
    assert len(api.house.database.state.rows) == 1
    (await api.post("/v1/pings", api.token(), wanted(digest, reason="other"))).refused(409, "idempotency-conflict")
    other = await api.post("/v1/pings", api.run_token(), wanted(digest))
    assert other.json["id"] != first.json["id"], "keys are counted for each caller"
    (await api.post("/v1/pings", api.token(), wanted(digest, environment="elsewhere"), key="k2")).refused(409, "wrong-gatekeeper")


async def test_an_answer_the_caller_has_is_304_and_changes_with_what_it_tells(api):
    ping = (await api.post("/v1/pings", api.token(), wanted(await api.house.bring()))).json["id"]
    for path in (f"/v1/pings/{ping}", f"/v1/pings/{ping}/explanation", "/v1/running", "/v1/policies/current", "/openapi.json"):
        first = await api.get(path)
        same = await api.get(path, if_none_match=first.headers["etag"])
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", first.headers["etag"])
        assert (await api.get(path, if_none_match='"other"')).status == 200
        several = await api.get(path, if_none_match=f'"other", W/{first.headers["etag"]}')
        assert several.status == 304, "RFC 9110, 13.1.2: a list, compared weakly"
    first = await api.get(f"/v1/pings/{ping}")
    done = await api.post(f"/v1/pings/{ping}/cancellation", api.token(), {"reason": "no"})
    assert (done.status, done.json["state"]) == (202, State.CANCELLED)
    assert (await api.get(f"/v1/pings/{ping}", if_none_match=first.headers["etag"])).json["state"] == State.CANCELLED
    (await api.post(f"/v1/pings/{ping}/cancellation", api.token(), {"reason": "no"})).refused(409, "not-cancellable")
    assert first.headers["vary"] == "Authorization, Accept"


async def test_statements_and_votes_are_refused_by_what_they_are(api):
    run = api.house.ca.run()
    good = run.sign(signing.manifest_statement())
    assert (await api.post("/v1/artifacts", api.run_token(), good)).status == 202
    stranger = signing.FakeCa().run().sign(signing.manifest_statement())
    problem = (await api.post("/v1/artifacts", api.run_token(), stranger))
    assert problem.status == 422
    assert problem.json["code"] in ("unknown-builder", "bad-signature")
    (await api.post("/v1/artifacts", api.run_token(commit=NEW_COMMIT), good)).refused(422, "provenance-commit")
    (await api.post("/v1/artifacts", api.run_token(), b'{"not":"a bundle"}')).refused(400, "ping-malformed")
    (await api.post("/v1/results", api.run_token(), good)).refused(422, "provenance-predicate")
    await api.house.bring()
    vote = await api.post("/v1/votes", api.token("bob"), api.house.vote_bundle())
    assert (vote.status, vote.json["voter"]) == (201, "bob")
    forged = await api.post("/v1/votes", api.token("bob"), api.house.vote_bundle(voter="carol"))
    assert forged.status == 422, "a vote is signed with the voter's own key"
