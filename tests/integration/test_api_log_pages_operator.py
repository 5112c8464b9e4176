"""The log's routes, the pages and the operator's listener, over real sockets."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gatekeeper.deploy.decide import state_event
from gatekeeper.model.digest import digest_of
from gatekeeper.model.label import Compartment
from gatekeeper.model.ping import State
from gatekeeper.ports.observations import DriftKind, Observation
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.proof import parse_proof, verify_proof
from tests.fakes import signing
from tests.fakes.api import running_api, until
from tests.fakes.house import House
from tests.fakes.records import deployment

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"


@pytest.fixture
async def api():
    async with running_api() as found:
        yield found


async def published(api, size):
    await until(lambda: api.log.published().size >= size)


async def test_a_stranger_verifies_an_entry_with_what_the_routes_give(api):
    run = api.house.ca.run()
    accepted = await api.post("/v1/artifacts", api.run_token(), run.sign(signing.manifest_statement()))
    index = accepted.json["log_index"]
    await published(api, index + 1)
    policy = parse_log_policy((await api.get("/.well-known/pingee/log-policy")).body)
    note = await api.get("/log/checkpoint")
    assert note.headers["content-type"] == "text/plain; charset=utf-8"
    checkpoint = open_checkpoint(note.body, policy.log)
    bundle = await api.get(f"/log/tile/entries/000.p/{checkpoint.size}")
    assert bundle.headers["content-type"] == "application/octet-stream"
    entries, data = [], bundle.body
    while data:
        length = int.from_bytes(data[:2], "big")
        entries.append(data[2 : 2 + length])
        data = data[2 + length :]
    assert parse_entry(entries[index]).KIND.value == "intake"
    tile = (await api.get(f"/log/tile/0/000.p/{checkpoint.size}")).body
    assert [tile[n : n + 32] for n in range(0, len(tile), 32)] == [leaf_hash(entry) for entry in entries]
    proof = await api.get(f"/log/proof/{index}")
    assert verify_proof(parse_proof(proof.body), entries[index], policy).index == index


async def test_nothing_beyond_the_published_size_is_served(api):
    await published(api, 1)
    size = api.log.published().size
    for path in (
        f"proof/{size}", "proof/-1", "proof/x", "proof/00", "proof/" + "9" * 400, "proof/%D9%A0",
        f"tile/0/000.p/{size + 1}", "tile/0/000", "tile/0/001", "tile/1/000.p/1", "tile/entries/001.p/1", "tile/0/000.p/0", "tile/0/0.p/1",
        "tile/99/000.p/1", "tile/0/../0/000.p/1", "tile/", "tile", "",
    ):  # fmt: skip
        (await api.get(f"/log/{path}")).refused(404, "not-found")


async def test_an_instance_that_is_not_public_shows_nothing_to_the_anonymous():
    house = House()
    house.policy.files["policy.toml"] = house.policy.files["policy.toml"].replace(b'"public"', b'"none"')
    async with running_api(house) as api:
        digest = await house.bring()
        ping = await house.ping(digest)
        for path in (
            "/", "/running", f"/pings/{ping.id}", "/v1/running", "/v1/pings", f"/v1/pings/{ping.id}", f"/v1/pings/{ping.id}/events",
            f"/v1/artifacts/{digest}", "/v1/artifacts", "/v1/policies/current", "/log/checkpoint", "/log/tile/0/000.p/1", "/log/proof/0",
        ):  # fmt: skip
            (await api.get(path)).refused(401, "unauthenticated")
        assert (await api.get(f"/v1/pings/{ping.id}", api.token())).status == 200


async def test_pages_show_what_they_are_told_as_text_alone(api):
    digest = await api.house.bring()
    ping = await api.house.ping(digest, component=HOSTILE, reason=HOSTILE, project=HOSTILE, commit=HOSTILE)
    rule = {"rule": HOSTILE, "result": "fail", "reason": HOSTILE, "expected": HOSTILE, "actual": HOSTILE, "need": HOSTILE, "who": HOSTILE, "evidence": []}
    old = await api.house.read(ping)
    new = replace(old, state=State.PENDING, detail=HOSTILE, rules=(rule,), reasons=(HOSTILE,))
    await api.house.database.pings.move(old, new, [state_event(new), ("note", {"text": HOSTILE})])
    await api.house.database.deployments.add_deployment(deployment(ping.id, component=HOSTILE, environment=HOSTILE, commit=HOSTILE, artifact=digest))
    for path in ("/", "/running", f"/pings/{ping.id}"):
        page = await api.get(path)
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        text = page.body.decode()
        assert "<script" not in text, path
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text, path
        assert "49" not in re.sub(r"[0-9a-f]{12,}", "", text.replace("{{7*7}}", "")), "a value was taken for a template"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "private, no-cache"
        assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:", re.sub(r"&lt;.*?&gt;", "", text)), path


async def test_pages_hide_what_the_reader_may_not_see(api):
    ping = await api.house.ping(await api.house.bring())
    row = api.house.database.state.rows[ping.id]
    row.ping = replace(row.ping, new=replace(row.ping.new, label=frozenset({Compartment("embargo:cve-1")})))
    hidden, unknown = await api.get(f"/pings/{ping.id}"), await api.get("/pings/" + "0" * 32)
    hidden.refused(404, "not-found")
    assert hidden.body == unknown.body
    assert ping.id[:12].encode() not in (await api.get("/")).body


async def test_a_build_log_is_never_rendered(api):
    log = b"<script>alert(1)</script>"
    digest = await api.house.bring()
    api.house.artifacts.blobs[digest_of(b"log")] = log
    answer = await api.get(f"/v1/artifacts/{digest}/log")
    # the provenance of the fakes names the digest of b"log": these are other bytes, and they are not given out
    answer.refused(422, "digest-mismatch")
    api.house.artifacts.blobs[digest_of(b"log")] = b"log"
    answer = await api.get(f"/v1/artifacts/{digest}/log")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"log", "text/plain; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_probes_and_metrics_are_on_the_operators_listener_alone(api):
    await api.house.ping(await api.house.bring())
    for path in ("/livez", "/readyz", "/metrics"):
        (await api.get(path)).refused(404, "not-found")
        assert (await api.get(path, port=api.operator_port)).status == 200
    for path in ("/", "/v1/running", "/log/checkpoint"):
        (await api.get(path, port=api.operator_port)).refused(404, "not-found")
    metrics = (await api.get("/metrics", port=api.operator_port)).body.decode()
    assert 'pingee_ping_states{environment="production",state="received"} 1\n' in metrics
    assert (await api.get("/readyz?verbose", port=api.operator_port)).body == b"database ok\nready\n"


async def test_a_database_that_is_away_is_503_everywhere_and_liveness_stays(api):
    api.house.database.faults.down = True
    ready = await api.get("/readyz?verbose", port=api.operator_port)
    assert (ready.status, ready.body) == (503, b"database failing\nnot ready\n")
    assert (await api.get("/livez", port=api.operator_port)).status == 200
    for path in ("/", "/v1/running", "/v1/pings"):
        problem = (await api.get(path)).refused(503, "environment-unavailable")
        assert problem["retryable"] is True
    (await api.get("/metrics", port=api.operator_port)).refused(503, "environment-unavailable")


async def test_drift_is_told_by_the_api_and_the_page_to_who_may_know(api):
    """RUNNINGINFO: what the target runs, where that is not what was deployed."""
    secret = frozenset({Compartment("embargo:cve-1")})
    stores = api.house.database
    for component, label in (("shop", frozenset()), ("vault", secret), ("calm", frozenset())):
        record = deployment(component.ljust(32, "0"), component=component, receipt=digest_of(component.encode()), label=label)
        await stores.deployments.add_deployment(record)
        kind = None if component == "calm" else DriftKind.OVERRIDE
        running, order = digest_of(b"running " + component.encode()), digest_of(b"order")
        await stores.observations.observe(
            Observation("production", component, "host-1", kind, running, "d" * 40, order, record.ping_id, record.at, label)
        )
    rows = (await api.get("/v1/running")).json["items"]
    assert {row["component"]: row["drift"] and row["drift"]["kind"] for row in rows} == {"shop": "override", "calm": None}
    (row,) = (await api.get("/v1/running?drift")).json["items"]
    assert row["drift"] == {
        "kind": "override", "running": digest_of(b"running shop"), "config": "d" * 40, "order": digest_of(b"order"), "target": "host-1",
        "observed": "2026-11-21T10:00:00Z",
    }  # fmt: skip
    assert (await api.get("/v1/running?drift&component=calm")).json["items"] == []
    page = (await api.get("/running")).body.decode()
    assert "<strong>override</strong>" in page
    assert digest_of(b"running shop")[7:19] in page
    assert digest_of(b"running vault")[7:19] not in page


async def test_the_open_origin_is_served_under_its_own_name_too_and_no_other_is(api):
    await published(api, 1)
    for path in ("checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1", "proof/0"):
        ours, named = await api.get(f"/log/{path}"), await api.get(f"/log/2026/{path}")
        assert (named.status, named.body, named.headers["cache-control"]) == (200, ours.body, ours.headers["cache-control"])
        for other in ("2026b", "2025", "tile", "..", "%2e%2e"):
            (await api.get(f"/log/{other}/{path}")).refused(404, "not-found")
