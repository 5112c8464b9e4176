"""POST /v1/adoptions over a real listener, and how modes and what was adopted are shown."""

from __future__ import annotations

import json

import pytest

from gatekeeper.ports.target import AdoptedStatus, TargetUnavailable
from gatekeeper.tlog.entry import AdoptEntry, parse_entry
from tests.fakes.api import running_api
from tests.fakes.frames import make_artifact
from tests.fakes.house import COMPONENT, ENVIRONMENT, House

pytestmark = pytest.mark.anyio

D0 = make_artifact("0")
FILE = f"components/{COMPONENT}.toml"


@pytest.fixture
async def api():
    async with running_api() as found:
        found.house.target.adopted = [AdoptedStatus(COMPONENT, D0.digest, runs=True)]
        yield found


def wanted(**changes):
    return {"environment": ENVIRONMENT, "component": COMPONENT, "reason": "moved in", **changes}


def adopt_entries(api):
    rows = next(iter(api.house.database.state.logs.values()))
    return [entry for entry in map(parse_entry, (row.body for row in rows.entries)) if isinstance(entry, AdoptEntry)]


async def test_what_runs_is_adopted_once_by_an_operator(api):
    (await api.post("/v1/adoptions", api.token(), wanted())).refused(403, "not-authorised")
    (await api.post("/v1/adoptions", api.operator_token(), wanted(environment="staging"))).refused(409, "wrong-gatekeeper")
    (await api.post("/v1/adoptions", api.operator_token(), wanted(extra=1))).refused(400, "ping-malformed")
    (await api.post("/v1/adoptions", api.operator_token(), wanted(), key="")).refused(400, "ping-malformed")
    assert adopt_entries(api) == []
    first = await api.post("/v1/adoptions", api.operator_token(), wanted())
    assert (first.status, first.json["artifact"], first.json["kind"]) == (201, D0.digest, "Adoption")
    again = await api.post("/v1/adoptions", api.operator_token(), wanted())
    assert (again.status, again.json) == (201, first.json)
    (await api.post("/v1/adoptions", api.operator_token(), wanted(reason="other"))).refused(409, "idempotency-conflict")
    (await api.post("/v1/adoptions", api.operator_token(), wanted(), key="k2")).refused(409, "already-managed")
    (entry,) = adopt_entries(api)
    assert entry.running == (D0.digest,)
    (row,) = (await api.get("/v1/running")).json["items"]
    assert (row["artifact"], row["purpose"], row["commit"], row["ping_id"], row["receipt_id"]) == (D0.digest, "adopt", None, None, None)
    chain = (await api.get(f"/v1/artifacts/{D0.digest}/provenance")).json
    assert (chain["build"], [one["id"] for one in chain["adopted"]]) == (None, [first.json["id"]])
    (await api.get(f"/v1/artifacts/{D0.digest}")).refused(404, "unknown-manifest")


async def test_a_target_that_knows_nothing_or_is_away_adopts_nothing(api):
    api.house.target.adopted = []
    problem = (await api.post("/v1/adoptions", api.operator_token(), wanted())).refused(404, "nothing-to-adopt")
    assert "pingee-doorkeeper adopt" in problem["detail"], "the next step"
    api.house.target.faults = [TargetUnavailable("host-1: ConnectionRefusedError")]
    problem = (await api.post("/v1/adoptions", api.operator_token(), wanted())).refused(503, "target-unavailable")
    assert problem["retryable"]
    api.house.act_vault.down = True
    (await api.post("/v1/adoptions", api.operator_token(), wanted())).refused(503, "vault-unavailable")
    assert (adopt_entries(api), api.house.database.state.adoptions) == ([], {})


async def test_pages_say_adopted_and_modes(api):
    await api.post("/v1/adoptions", api.operator_token(), wanted())
    for path in ("/", "/running"):
        page = (await api.get(path)).body.decode()
        assert "adopted, not built by CI" in page
        assert "none: adopted" in page


@pytest.mark.parametrize(
    ("mode", "words"),
    [("shadow", ("ALLOWED IN SHADOW", "nothing was leased", "<dd>shadow</dd>")), ("warn", ("DEPLOYED", "<dd>warn</dd>", "<dt>Let pass</dt><dd>votes-missing</dd>"))],
)
async def test_a_ping_s_page_and_explanation_say_its_mode_and_what_was_let_pass(mode, words):
    house = House()
    house.policy.files[FILE] = house.policy.files[FILE].replace(b'"enforce"', f'"{mode}"'.encode())
    house.policy.load()
    ping = await house.step(await house.ping(await house.bring(vote=mode == "shadow")))
    async with running_api(house) as api:
        page = (await api.get(f"/pings/{ping.id}")).body.decode()
        for word in words:
            assert word in page
        told = (await api.get(f"/v1/pings/{ping.id}/explanation")).json
        assert (told["mode"], told["let_pass"]) == (mode, ["votes-missing"] if mode == "warn" else [])
        assert (await api.get(f"/v1/pings/{ping.id}")).json["mode"] == mode
        assert json.dumps(told)
