"""Mode shadow decides, logs and does nothing; mode warn reports and lets pass what may pass."""

from base64 import b64decode
from dataclasses import replace

import pytest

from clients.doorkeeper import checks
from gatekeeper.deploy.decide import BrokenAllow, recall_allow
from gatekeeper.deploy.explain import explain
from gatekeeper.deploy.query import ping_json
from gatekeeper.model.decision import Mode, Verdict
from gatekeeper.model.ping import State
from gatekeeper.model.statement import parse_decision_statement
from gatekeeper.model.strictjson import parse_object
from gatekeeper.tlog.entry import DecisionEntry
from tests.fakes.house import COMPONENT, ENVIRONMENT, House, Killed, Tap, _verify_inline, anyio_backend  # noqa: F401

pytestmark = pytest.mark.anyio

FILE = f"components/{COMPONENT}.toml"


def house_in(mode):
    house = House()
    set_mode(house, mode)
    return house


def set_mode(house, mode):
    lines = house.policy.files[FILE].decode().split("\n")
    house.policy.files[FILE] = "\n".join(f'mode = "{mode}"' if line.startswith("mode") else line for line in lines).encode()
    house.policy.load()


def nothing_done(house):
    assert (house.act_vault.children, house.target.credentials, house.target.accepted, house.database.state.deployments) == (0, [], [], {})
    assert (house.holder(), house.outcomes()) == (None, [])


def statement_of(house, ping):
    members = parse_object(house.database.state.receipts[ping.receipt].receipt)
    assert members["index"] == ping.log_index
    return parse_decision_statement(b64decode(members["statement"]["payload"]))


async def test_shadow_logs_an_allow_and_leases_nothing():
    house = house_in("shadow")
    ping = await house.step(await house.ping(await house.bring()))
    assert (ping.state, ping.verdict, ping.mode, ping.reasons) == (State.SHADOW_ALLOWED, Verdict.ALLOW, Mode.SHADOW, ())
    assert (ping.detail, ping.fence, ping.accessor) == ("shadow: nothing was leased, nothing was deployed", None, None)
    ((index, entry),) = house.log.entries(DecisionEntry)
    assert (index, entry.verdict, entry.mode, entry.not_after) == (ping.log_index, Verdict.ALLOW, Mode.SHADOW, ping.not_after)
    statement = statement_of(house, ping)
    assert (statement.verdict, statement.mode) == (Verdict.ALLOW, Mode.SHADOW)
    nothing_done(house)
    assert await house.step(ping) == ping, "it has ended"
    told = explain(ping, public_url="")
    assert (told["headline"], told["mode"], told["state"]) == ("ALLOWED IN SHADOW", "shadow", "shadow-allowed")
    assert (ping_json(ping, public_url="")["mode"], ping_json(ping, public_url="")["step_code"]) == ("shadow", 1000)


async def test_shadow_waits_and_denies_as_enforce_would():
    house = house_in("shadow")
    artifact = await house.bring(vote=False)
    ping = await house.step(await house.ping(artifact))
    assert (ping.state, ping.reasons, ping.mode) == (State.PENDING, ("votes-missing",), Mode.SHADOW)
    await house.vote()
    assert (await house.step(ping)).state is State.SHADOW_ALLOWED
    del house.artifacts.blobs[artifact]
    denied = await house.step(await house.ping(artifact))
    assert (denied.state, denied.reasons) == (State.DENIED, ("artifact-missing",))
    assert [(entry.mode, entry.verdict) for _, entry in house.log.entries(DecisionEntry)] == [
        (Mode.SHADOW, Verdict.DENY),
        (Mode.SHADOW, Verdict.ALLOW),
        (Mode.SHADOW, Verdict.DENY),
    ]
    nothing_done(house)


async def test_a_shadow_allow_needs_no_free_place():
    house = house_in("shadow")
    artifact = await house.bring()
    other = await house.ping(artifact)
    await house.parts.locks.acquire(ENVIRONMENT, COMPONENT, other.id, house.clock())
    assert (await house.step(await house.ping(artifact))).state is State.SHADOW_ALLOWED
    assert house.holder() == other.id


async def test_a_mode_that_turns_to_shadow_between_forecast_and_lock_leases_nothing():
    house = House()
    ping = await house.ping(await house.bring())
    acquire = house.parts.locks.acquire

    async def and_then(*args):
        set_mode(house, "shadow")
        return await acquire(*args)

    house.parts.locks.acquire = and_then
    assert (await house.step(ping)).state is State.SHADOW_ALLOWED
    nothing_done(house)


async def test_killed_anywhere_a_shadow_ping_ends_the_same():
    calls = Tap()
    house = house_in("shadow")
    await house.step(await house.ping(await house.bring()), house.tapped(calls))
    assert len(calls.order) > 8
    for at in calls.order:
        for when in ("before", "after"):
            house = house_in("shadow")
            ping = await house.ping(await house.bring())
            tap = Tap(at=at, when=when)
            with pytest.raises((Killed, BaseExceptionGroup)):
                await house.step(ping, house.tapped(tap))
            assert (await house.to_the_end(ping)).state is State.SHADOW_ALLOWED
            assert len(house.allows()) == 1
            nothing_done(house)


@pytest.mark.parametrize("state", [State.ALLOWED, State.LEASED, State.APPLYING])
async def test_a_row_that_says_allowed_over_a_shadow_decision_is_never_acted_upon(state):
    house = house_in("shadow")
    ping = await house.step(await house.ping(await house.bring()))
    row = house.database.state.rows[ping.id]
    row.ping = replace(row.ping, state=state, fence=1, mode=Mode.ENFORCE)
    with pytest.raises(BrokenAllow, match="mode shadow is never acted upon"):
        await recall_allow(house.parts, row.ping)
    with pytest.raises(BrokenAllow, match="mode shadow"):
        await house.step(ping)
    assert (house.act_vault.children, house.target.credentials) == (0, [])


async def test_the_doorkeeper_refuses_the_receipt_of_a_shadow_allow():
    house = house_in("shadow")
    ping = await house.step(await house.ping(await house.bring()))
    record, index = house.database.state.receipts[ping.receipt], ping.log_index
    offer = checks.Offer(record.receipt, house.log.tree.proof(index), house.log.tree.growth(0), opening=False)
    found = checks.check_offer(offer, named=record.id, pinned=house.target._pinned, memory=house.target._memory, at=house.parts.now())
    assert (found.reason, "mode warn or enforce" in found.detail) == ("receipt-other-target", True)


async def test_warn_deploys_and_says_everywhere_what_it_let_pass():
    house = house_in("warn")
    ping = await house.step(await house.ping(await house.bring(vote=False, stages=())))
    assert (ping.state, ping.mode) == (State.DEPLOYED, Mode.WARN)
    let_pass = ("stage-pending", "votes-missing")
    entry = dict(house.log.entries(DecisionEntry))[ping.log_index]
    assert (entry.verdict, entry.mode, entry.reasons) == (Verdict.ALLOW, Mode.WARN, let_pass)
    statement = statement_of(house, ping)
    assert (statement.verdict, statement.mode, statement.reasons) == (Verdict.ALLOW, Mode.WARN, let_pass)
    told = explain(ping, public_url="")
    assert (told["mode"], told["let_pass"]) == ("warn", list(let_pass))
    assert [(row["rule"], row["need"] != "") for row in told["rules"] if row["result"] == "warn"] == [("tests.commit", True), ("votes.review", True)]
    assert house.target.accepted == [ping.receipt]
    assert (house.violations, house.unclosed(), house.holder()) == ([], [], None)


async def test_warn_holds_what_must_hold_and_never_passes_what_cannot_be_read():
    house = house_in("warn")
    artifact = await house.bring(vote=False)
    del house.artifacts.blobs[artifact]
    ping = await house.step(await house.ping(artifact))
    assert (ping.state, ping.reasons) == (State.DENIED, ("artifact-missing",))
    house = house_in("warn")
    artifact = await house.bring(vote=False)
    house.review.away = True
    ping = await house.step(await house.ping(artifact))
    assert (ping.state, ping.reasons) == (State.INDETERMINATE, ("vcs-unavailable",))
    nothing_done(house)


async def test_warn_waits_for_the_place():
    house = house_in("warn")
    artifact = await house.bring(vote=False)
    other = await house.ping(artifact)
    await house.parts.locks.acquire(ENVIRONMENT, COMPONENT, other.id, house.clock())
    ping = await house.step(await house.ping(artifact))
    assert (ping.state, ping.reasons) == (State.PENDING, ("environment-busy",))
