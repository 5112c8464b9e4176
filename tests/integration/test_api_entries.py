"""`GET /v1/entries` over real sockets: filters, pages, people for those alone who may know, and how far the index goes."""

import json
from dataclasses import replace

import pytest
import trio

from gatekeeper.deploy.entries import index_more, run_indexer
from gatekeeper.deploy.people import pseudonym_of
from gatekeeper.ports.errors import Unavailable
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.tlog.proof import parse_proof, verify_proof
from tests.fakes.api import running_api, until
from tests.fakes.house import House
from tests.fakes.running_log import ORIGIN

pytestmark = pytest.mark.anyio
ADMINS, TESTERS = "admins", "testers"


@pytest.fixture
async def api():
    """A running gatekeeper whose log holds an intake and whatever a test appends; group `admins` has role A, `testers` only for test/*."""
    house = House()
    roles = f'\n[[role]]\nrole = "A"\ngroup = "{ADMINS}"\nscope = "*/*"\n[[role]]\nrole = "S"\ngroup = "{TESTERS}"\nscope = "test/*"\n'
    house.policy.files["roles.toml"] += roles.encode()
    async with running_api(house) as found:
        yield found


async def append(api, kind, number, **members):
    body = {"v": 1, "kind": kind, "entry_id": f"{number:032x}", "origin": ORIGIN, "at": "2026-11-21T10:00:00Z", "config": None, **members}
    data = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return (await api.log.append(data, entry_id=body["entry_id"], kind=kind)).index


async def indexed(api):
    """Publish and index everything that was appended."""
    store = api.house.database.log(ORIGIN)
    size = (await store.load_head()).size
    await until(lambda: api.log.published().size >= size)
    while await index_more(api.parts.entries, store, size):
        pass
    return size


async def deploys(api):
    """Two decisions of one place with outcomes, one of another; bob voted for the first."""
    bob = await pseudonym_of(api.parts, "people", "s-bob")
    first = await append(api, "decision", 1, environment="production", component="hello", people={"voter": [bob]})
    await append(api, "outcome", 2, of={"origin": ORIGIN, "index": first, "slot": None})
    await append(api, "decision", 3, environment="production", component="hello", at="2026-11-21T11:00:00Z")
    await append(api, "decision", 4, environment="test", component="hello", people={"voter": [bob]})
    await indexed(api)
    return bob


async def kinds(api, query="", token=None):
    return [(item["kind"], item["index"]) for item in (await api.get(f"/v1/entries{query}", token)).json["items"]]


async def test_each_hit_has_its_exact_bytes_and_a_proof_against_the_log(api):
    await deploys(api)
    answer = await api.get("/v1/entries?kind=decision&environment=production")
    policy = parse_log_policy((await api.get("/.well-known/pingee/log-policy")).body)
    assert open_checkpoint(answer.json["checkpoint"].encode(), policy.log).size == answer.json["indexed"] == 5
    assert [item["index"] for item in answer.json["items"]] == [3, 1]
    for item in answer.json["items"]:
        proof = parse_proof((await api.get(item["proof"])).body)
        assert verify_proof(proof, item["body"].encode(), policy).index == item["index"]
    assert "people" not in answer.json


async def test_filters_and_an_outcome_stands_where_its_decision_does(api):
    await deploys(api)
    assert await kinds(api) == [("decision", 4), ("decision", 3), ("outcome", 2), ("decision", 1), ("origin", 0)]
    assert await kinds(api, "?environment=production&component=hello") == [("decision", 3), ("outcome", 2), ("decision", 1)]
    assert await kinds(api, "?kind=outcome") == [("outcome", 2)]
    assert await kinds(api, "?since=2026-11-21T10:30:00Z") == [("decision", 3)]
    assert await kinds(api, "?component=other") == []


async def test_pages_follow_one_another_without_a_gap(api):
    await deploys(api)
    found, path = [], "/v1/entries?environment=production&limit=2"
    while path is not None:
        answer = await api.get(path)
        found += [item["index"] for item in answer.json["items"]]
        link = answer.headers.get("link")
        assert (link is None) == (answer.json["next"] is None)
        assert link is None or link.endswith(f"cursor={answer.json['next']}>; rel=\"next\"")
        path = None if link is None else link.partition(">")[0].removeprefix("<")
    assert found == [3, 2, 1]


async def test_a_person_is_looked_for_by_roles_a_and_s_alone_and_only_where_they_have_them(api):
    bob = await deploys(api)
    admin, tester = api.token("ada", groups=(ADMINS,)), api.token("tess", groups=(TESTERS,))
    found = await api.get("/v1/entries?person=bob", admin)
    assert ([item["index"] for item in found.json["items"]], found.json["people"]) == ([4, 1], {bob: "bob"})
    assert await kinds(api, "?person=bob&environment=test", tester) == [("decision", 4)]
    for query, token in (("?person=bob", None), ("?person=bob", api.token()), ("?person=bob", tester), ("?person=bob&environment=production", tester)):
        (await api.get(f"/v1/entries{query}", token)).refused(403, "not-authorised")
        assert "people" not in (await api.get("/v1/entries", token)).json
    assert await kinds(api, "?person=carol", admin) == await kinds(api, "?person=nobody", admin) == []


async def test_who_has_no_name_in_the_policy_any_more_is_resolved_by_issuer_and_subject(api):
    gone = await pseudonym_of(api.parts, "people", "s-gone")
    await append(api, "adopt", 1, who=gone)
    await indexed(api)
    assert (await api.get("/v1/entries?kind=adopt", api.token("ada", groups=(ADMINS,)))).json["people"] == {gone: "people|s-gone"}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("cursor=-1", "cursor"), ("cursor=01", "cursor"),
     ("since=yesterday", "since"), ("kind=UP", "kind"), ("kind=" + "a" * 40, "kind")],
)  # fmt: skip
async def test_a_query_that_is_none_says_where(api, query, pointer):
    problem = (await api.get(f"/v1/entries?{query}")).refused(400, "ping-malformed")
    assert problem["errors"][0]["pointer"] == f"/{pointer}"


async def test_nothing_beyond_the_published_size_is_shown_and_what_is_not_indexed_yet_shows_in_the_count(api):
    await deploys(api)
    await append(api, "decision", 9, environment="production", component="hello")
    await until(lambda: api.log.published().size == 6)
    answer = await api.get("/v1/entries?limit=1")
    assert (answer.json["indexed"], answer.json["items"][0]["index"]) == (5, 4)
    ahead = replace(api.parts.entries.rows[4], index=6)
    assert await api.parts.entries.add(5, 7, [ahead])
    answer = await api.get("/v1/entries?limit=1")
    assert (answer.json["indexed"], answer.json["items"][0]["index"]) == (6, 4)


async def test_an_instance_that_is_not_public_shows_nothing_to_the_anonymous(api):
    api.house.policy.files["policy.toml"] = api.house.policy.files["policy.toml"].replace(b'"public"', b'"none"')
    api.house.policy.load()
    (await api.get("/v1/entries")).refused(401, "unauthenticated")
    assert (await api.get("/v1/entries", api.token())).status == 200


async def test_the_indexer_goes_on_after_the_database_was_away(api, caplog):
    await append(api, "decision", 1, environment="production", component="hello")
    await until(lambda: api.log.published().size == 2)
    api.house.database.faults.next("index_size", persisted=False, error=Unavailable("environment-unavailable", "away"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_indexer, api.parts.entries, api.house.database.log(ORIGIN), lambda: api.log.published().size)
        await until(lambda: api.house.database.state.indexed.get(ORIGIN) == 2)
        nursery.cancel_scope.cancel()
    assert "the index over the log cannot be kept now" in caplog.text
