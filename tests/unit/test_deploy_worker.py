"""The worker: it finds what is due, survives whatever a ping does, and gives every claim back."""

import pytest
import trio

from gatekeeper.deploy.reconcile import AT_ONCE, run_worker
from gatekeeper.model.ping import State
from gatekeeper.ports.errors import Unavailable
from tests.fakes.house import House, _verify_inline, anyio_backend  # noqa: F401

pytestmark = pytest.mark.anyio


@pytest.fixture
def house():
    return House()


async def until(house, ping, *states, within_s=120):
    with trio.fail_after(within_s):
        while (found := await house.read(ping)).state not in states:  # noqa: ASYNC110 -- the state of a row is no event
            await trio.sleep(0.5)
    return found


async def test_pings_are_brought_to_their_end_one_after_the_other(house):
    artifact = await house.bring()
    async with trio.open_nursery() as nursery:
        await nursery.start(run_worker, house.parts)
        pings = [await house.ping(artifact) for _ in range(AT_ONCE + 4)]
        for ping in pings:
            await until(house, ping, State.DEPLOYED, within_s=1200)
        nursery.cancel_scope.cancel()
    assert len(house.target.accepted) == len(pings)
    assert house.holder() is None
    assert all(row.claim is None for row in house.database.state.rows.values())


@pytest.mark.parametrize("persisted", [False, True])
async def test_a_database_that_goes_away_while_a_claim_is_given_back_is_survived(house, persisted):
    artifact = await house.bring(vote=False)
    house.database.faults.next("unclaim", persisted=persisted)
    async with trio.open_nursery() as nursery:
        await nursery.start(run_worker, house.parts)
        ping = await house.ping(artifact)
        await until(house, ping, State.PENDING)
        await house.vote()
        await until(house, ping, State.DEPLOYED)
        nursery.cancel_scope.cancel()
    assert all(row.claim is None for row in house.database.state.rows.values())


async def test_a_database_that_is_away_is_waited_for(house):
    artifact = await house.bring()
    async with trio.open_nursery() as nursery:
        await nursery.start(run_worker, house.parts)
        house.database.faults.down = True
        await trio.sleep(30)
        house.database.faults.down = False
        ping = await house.ping(artifact)
        await until(house, ping, State.DEPLOYED)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("port", "method", "cause"),
    [
        ("decide_vault", "sign", "vault-unavailable"),
        ("decide_vault", "wrap", "vault-unavailable"),
        ("locks", "acquire", "environment-unavailable"),
    ],
)
async def test_a_ping_that_waits_says_which_authority_is_away(house, port, method, cause):
    artifact = await house.bring()
    found = getattr(house.parts, port)
    whole = getattr(found, method)

    async def away(*_args, **_options):
        raise Unavailable("vault-down" if port == "decide_vault" else "timeout", "away")

    setattr(found, method, away)
    async with trio.open_nursery() as nursery:
        await nursery.start(run_worker, house.parts)
        ping = await until(house, await house.ping(artifact), State.INDETERMINATE)
        assert ping.reasons == (cause,)
        assert house.holder() is None
        await trio.sleep(60)
        setattr(found, method, whole)
        await until(house, ping, State.DEPLOYED)
        nursery.cancel_scope.cancel()
    events = [e.data.get("state") for e in house.database.state.rows[ping.id].events]
    assert events.count("indeterminate") == 1, "said once, not at each retry"


async def test_a_log_that_is_away_keeps_the_draft_and_the_lock(house):
    artifact = await house.bring()
    append = house.log.append

    async def away(*_args, **_options):
        raise Unavailable("log-unavailable", "away")

    house.log.append = away
    async with trio.open_nursery() as nursery:
        await nursery.start(run_worker, house.parts)
        ping = await house.ping(artifact)
        await trio.sleep(30)
        found = await house.read(ping)
        assert found.draft is not None
        assert house.holder() == ping.id
        assert house.act_vault.children == 0
        house.log.append = append
        await until(house, ping, State.DEPLOYED)
        nursery.cancel_scope.cancel()
    assert len(house.allows()) == 1


async def test_one_pings_bug_does_not_stop_the_others(house, caplog):
    artifact = await house.bring()
    broken = await house.ping(artifact)
    row = house.database.state.rows[broken.id]
    row.ping = type(row.ping)(**{**row.ping.__dict__, "draft": b"no draft", "entry_id": "0" * 32})
    async with trio.open_nursery() as nursery:
        await nursery.start(run_worker, house.parts)
        await until(house, await house.ping(artifact), State.DEPLOYED)
        nursery.cancel_scope.cancel()
    assert "failed with a bug of ours" in caplog.text
    assert (await house.read(broken)).state is State.RECEIVED


async def test_a_forged_row_is_an_alarm_and_nothing_else(house, caplog):
    ping = await house.ping(await house.bring())
    row = house.database.state.rows[ping.id]
    row.ping = type(row.ping)(**{**row.ping.__dict__, "state": State.ALLOWED, "fence": 1})
    async with trio.open_nursery() as nursery:
        await nursery.start(run_worker, house.parts)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert "ALARM" in caplog.text
    assert house.act_vault.children == 0


async def test_a_session_lost_in_mid_deploy_puts_no_second_worker_on_the_ping(house):
    """Two of them would spoil each other's moves, and each that gives up would give back the other's claim."""
    artifact = await house.bring()
    apply, child = house.target.apply, house.parts.act_vault.child
    asked, goes_on = [], trio.Event()

    async def held(*arguments, **options):
        await goes_on.wait()
        return await apply(*arguments, **options)

    async def counted(**options):
        asked.append(options)
        return await child(**options)

    house.target.apply, house.parts.act_vault.child = held, counted
    async with trio.open_nursery() as nursery:
        await nursery.start(run_worker, house.parts)
        ping = await until(house, await house.ping(artifact), State.APPLYING)
        house.database.lose_session()
        await trio.sleep(30)
        goes_on.set()
        await until(house, ping, State.DEPLOYED)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert len(asked) == len(house.target.accepted) == 1
    assert all(row.claim is None for row in house.database.state.rows.values())


async def test_a_ping_that_is_due_again_while_its_claim_is_given_back_is_not_lost(house):
    """Between the database's deed and its answer the ping can be claimed anew: whoever then counts as still at work loses it."""
    artifact = await house.bring(vote=False)
    unclaim = house.parts.pings.unclaim
    woken = []

    async def slow(ping_id):
        await unclaim(ping_id)
        if not woken:
            woken.append(ping_id)
            await house.vote()
            await trio.sleep(3)

    house.parts.pings.unclaim = slow
    async with trio.open_nursery() as nursery:
        await nursery.start(run_worker, house.parts)
        await until(house, await house.ping(artifact), State.DEPLOYED, within_s=4)
        nursery.cancel_scope.cancel()
    assert len(house.target.accepted) == 1
