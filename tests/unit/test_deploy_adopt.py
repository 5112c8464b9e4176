"""What runs somewhere becomes the first member of its rollback set; nothing is deployed, and nothing but the log's word counts later."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_identity

from gatekeeper.deploy.adopt import adopt
from gatekeeper.deploy.calls import CallRefused
from gatekeeper.deploy.ping import CallKey, PingRequest, accept_ping, accept_rollback, rollback_set
from gatekeeper.deploy.query import deployment_json, provenance
from gatekeeper.model.decision import Purpose, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.ping import State
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.pings import IdempotencyConflict
from gatekeeper.ports.target import AdoptedStatus, TargetUnavailable
from gatekeeper.tlog.entry import AdoptEntry, encode_entry
from tests.fakes.frames import make_artifact
from tests.fakes.house import (  # noqa: F401
    COMPONENT,
    ENVIRONMENT,
    NEW_COMMIT,
    POLICY_COMMIT,
    House,
    Killed,
    Tap,
    _verify_inline,
    anyio_backend,
    anyone,
)

pytestmark = pytest.mark.anyio

KEY = CallKey("key-1", digest_of(b"body"))
BACK = CallKey("key-2", digest_of(b"back"))
D0 = make_artifact("0")


@pytest.fixture
def house():
    house = House()
    house.target.adopted = [AdoptedStatus(COMPONENT, D0.digest, runs=True)]
    house.target.kept = {D0.digest: {PartName.MANIFEST: D0.manifest, PartName.CONFIG: D0.config, PartName.LAYER: D0.layer}}
    return house


def adopting(house, *, caller=None, parts=None, environment=ENVIRONMENT, component=COMPONENT, call=KEY):
    return adopt(parts or house.parts, caller or house.operator(), environment, component, reason="moved in", call=call)


async def refused(code, call, *mentions):
    with pytest.raises(CallRefused) as caught:
        await call
    assert caught.value.code == code, caught.value
    for text in mentions:
        assert text in caught.value.detail


def entries(house):
    return [entry for _, entry in house.log.entries(AdoptEntry)]


async def test_what_runs_is_recorded_and_nothing_is_deployed(house):
    record = await adopting(house)
    (entry,) = entries(house)
    assert (entry.environment, entry.component, entry.running, entry.candidate_config) == (ENVIRONMENT, COMPONENT, (D0.digest,), POLICY_COMMIT)
    assert (record.artifact, record.log_index, record.id) == (D0.digest, 0, entry.entry_id)
    assert b"olga" not in record.entry
    assert b"moved in" not in record.entry
    (row,) = await house.parts.deployments.running(anyone())
    assert (row.artifact, row.purpose, row.receipt, row.commit, row.decision_index) == (D0.digest, "adopt", None, None, 0)
    told = deployment_json(row)
    assert (told["ping_id"], told["receipt_id"], told["commit"], told["purpose"]) == (None, None, None, "adopt")
    assert (house.act_vault.children, house.target.credentials, house.holder()) == (0, [], None)
    document = await provenance(house.parts, D0.digest, anyone())
    assert (document["source"], document["build"], document["statements"]) == (None, None, [])
    assert [a["log_index"] for a in document["adopted"]] == [0]


async def test_the_status_is_read_under_a_certificate_that_only_reads(house):
    seen = []
    status = house.target.status

    async def noted(address, credential, receipt):
        seen.append((credential, receipt))
        return await status(address, credential, receipt)

    house.target.status = noted
    record = await adopting(house)
    ((credential, receipt),) = seen
    certificate = load_ssh_public_identity(credential.certificate.encode())
    assert receipt is None
    assert certificate.critical_options[b"force-command"] == b"pingee-doorkeeper status"
    assert certificate.key_id == record.id.encode(), "the vault's audit file names the adopt entry"


async def test_a_call_made_twice_is_one_adoption_and_another_is_refused(house):
    first = await adopting(house)
    assert await adopting(house) == first
    with pytest.raises(IdempotencyConflict):
        await adopting(house, call=replace(KEY, body=digest_of(b"other")))
    await refused("already-managed", adopting(house, call=BACK), D0.digest)
    assert len(entries(house)) == 1


async def test_the_call_is_refused_in_the_order_of_its_checks(house):
    house.database.faults.down = True
    await refused("wrong-gatekeeper", adopting(house, environment="staging"), "staging")
    await refused("not-authorised", adopting(house, caller=house.person()), "role O")
    await refused("not-authorised", adopting(house, caller=house.run_caller()), "role O")
    await refused("wrong-gatekeeper", adopting(house, environment="lab"), "deploys no component")


async def test_what_is_deployed_by_ping_or_being_deployed_is_not_adopted(house):
    ping = await house.ping(await house.bring())
    await house.parts.locks.acquire(ENVIRONMENT, COMPONENT, ping.id, house.clock())
    await refused("environment-busy", adopting(house), ping.id)
    await house.parts.locks.release(ENVIRONMENT, COMPONENT, 1)
    await house.to_the_end(ping)
    await refused("already-managed", adopting(house), "by ping")
    assert (entries(house), house.database.state.adoptions) == ([], {})


async def test_a_target_that_has_nothing_to_adopt_is_said_so(house):
    for adopted, mention in (([], "pingee-doorkeeper adopt"), ([AdoptedStatus(COMPONENT, D0.digest, runs=False)], "does not run")):
        house.target.adopted = adopted
        await refused("nothing-to-adopt", adopting(house), mention)
    assert (entries(house), house.database.state.adoptions) == ([], {})


async def test_a_target_or_vault_that_is_away_adopts_nothing(house):
    house.target.faults = [TargetUnavailable("host-1: gone")]
    with pytest.raises(Unavailable, match="gone") as caught:
        await adopting(house)
    assert caught.value.cause_code == "target-unavailable"
    house.act_vault.down = True
    with pytest.raises(Unavailable) as caught:
        await adopting(house)
    assert caught.value.cause_code == "vault-unavailable"
    assert (entries(house), house.database.state.adoptions) == ([], {})


async def test_killed_anywhere_an_adoption_asked_again_is_one(house):
    calls = Tap()
    await adopting(house, parts=house.tapped(calls))
    assert len(calls.order) > 6
    for at in calls.order:
        for when in ("before", "after"):
            other = House()
            other.target.adopted = house.target.adopted
            tap = Tap(at=at, when=when)
            with pytest.raises(Killed):
                await adopting(other, parts=other.tapped(tap))
            record = await adopting(other)
            (entry,) = entries(other)
            (row,) = await other.parts.deployments.running(anyone())
            assert (entry.entry_id, row.ping_id, record.log_index) == (record.id, record.id, 0)


async def test_deployed_over_and_brought_back(house):
    await adopting(house)
    house.clock.ahead(60)
    new = await house.deployed("1", commit=NEW_COMMIT)
    house.clock.ahead(60)
    members = await rollback_set(house.parts, None, ENVIRONMENT, COMPONENT)
    assert [(m.artifact, m.purpose) for m in members] == [(D0.digest, "adopt")]
    ping, _ = await accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=D0.digest, reason="", call=BACK)
    assert (ping.new.artifact, ping.new.commit, ping.new.config, ping.new.rollback_of) == (D0.digest, None, POLICY_COMMIT, new.id)
    ended = await house.to_the_end(ping)
    assert (ended.state, ended.reasons) == (State.DEPLOYED, ()), ended.rules
    results = {row["rule"]: row["result"] for row in ended.rules}
    assert {rule for rule, result in results.items() if result == "pass"} == {"origin.project", "rollback.member", "embargo.label", "config.reviewed"}
    (row,) = await house.parts.deployments.running(anyone())
    assert (row.artifact, row.purpose, row.receipt) == (D0.digest, "rollback", ended.receipt)
    assert (house.violations, house.unclosed(), house.used_credentials(), house.holder()) == ([], [], [], None)
    house.clock.ahead(60)
    again = await house.step(await house.ping(new.new.artifact, commit=NEW_COMMIT))
    assert again.state is State.DEPLOYED, "what was adopted is older than nothing and newer than nothing"


async def test_the_frame_of_what_was_adopted_holds_no_bytes_of_ours(house):
    await adopting(house)
    house.clock.ahead(60)
    await house.deployed("1", commit=NEW_COMMIT)
    house.clock.ahead(60)
    sent = []
    apply = house.target.apply

    async def noted(address, credential, receipt, parts, *, progress):
        sent.append([part.name for part in parts])
        return await apply(address, credential, receipt, parts, progress=progress)

    house.target.apply = noted
    ping, _ = await accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=None, reason="", call=BACK)
    await house.to_the_end(ping)
    assert sent[-1] == [PartName.RECEIPT, PartName.PROOF, PartName.CONSISTENCY, PartName.ROLLBACK_BUNDLE, PartName.CONFIGURATION, PartName.SETTINGS]


@pytest.mark.parametrize("forgery", ["no row", "not logged", "other bytes", "other place", "other artifact"])
async def test_a_row_that_the_log_does_not_bear_out_brings_nothing_back(house, forgery):
    record = await adopting(house)
    house.clock.ahead(60)
    await house.deployed("1", commit=NEW_COMMIT)
    rows = house.database.state.adoptions
    entry = entries(house)[0]
    changes = {
        "not logged": {"log_index": None},
        "other bytes": {"entry": encode_entry(replace(entry, config="8" * 40))},
        "other place": {"log_index": 1},
        "other artifact": {"artifact": digest_of(b"another")},
    }
    if forgery == "no row":
        rows.clear()
    else:
        rows[record.id] = replace(record, **changes[forgery])
    ping, _ = await accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=D0.digest, reason="", call=BACK)
    ended = await house.step(ping)
    assert (ended.state, ended.verdict) == (State.DENIED, Verdict.DENY)
    assert {"never-deployed", "bad-signature"} <= set(ended.reasons)


async def test_it_comes_back_with_the_configuration_that_was_adopted_with_it_and_no_other(house):
    await adopting(house)
    house.clock.ahead(60)
    await house.deployed("1", commit=NEW_COMMIT)
    ping = await house.ping(D0.digest, purpose=Purpose.ROLLBACK, commit=None, config="8" * 40)
    assert "never-deployed" in (await house.step(ping)).reasons


async def test_an_entry_about_another_place_in_the_log_is_no_adoption_here(house):
    record = await adopting(house)
    house.clock.ahead(60)
    await house.deployed("1", commit=NEW_COMMIT)
    other = encode_entry(replace(entries(house)[0], entry_id="e" * 32, component="other"))
    appended = await house.log.append(other, entry_id="e" * 32, kind="adopt")
    house.database.state.adoptions[record.id] = replace(record, entry=other, log_index=appended.index)
    ping, _ = await accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=D0.digest, reason="", call=BACK)
    assert "never-deployed" in (await house.step(ping)).reasons


async def test_a_log_that_cannot_prove_now_makes_the_rollback_wait(house):
    await adopting(house)
    house.clock.ahead(60)
    await house.deployed("1", commit=NEW_COMMIT)
    ping, _ = await accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=D0.digest, reason="", call=BACK)

    async def away(*_args, **_options):
        raise Unavailable("log-unavailable", "not published")

    house.log.prove = away
    found = await house.step(ping)
    assert (found.state, found.reasons) == (State.INDETERMINATE, ("log-unavailable",))


async def test_what_was_adopted_is_not_deployed_by_an_ordinary_ping(house):
    await adopting(house)
    wanted = PingRequest(ENVIRONMENT, COMPONENT, D0.digest, None, "", None)
    await refused("unknown-manifest", accept_ping(house.parts, house.person(), wanted, BACK))
