"""What every PingStore and LockStore promises."""

import math
from dataclasses import replace
from datetime import timedelta

import pytest
import trio

from gatekeeper.model.decision import Mode, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.label import ANONYMOUS, Viewer
from gatekeeper.model.moment import moment
from gatekeeper.model.ping import State
from gatekeeper.ports.pings import Held, IdempotencyConflict, PingFilter, StalePing
from tests.fakes.records import ARTIFACT, EMBARGO, NOW, SECRET, deployment, new_ping, statement, vote

pytestmark = pytest.mark.anyio
CLEARED = Viewer("alice", SECRET)


async def test_a_ping_comes_back_as_it_was_stored(database):
    new = new_ping(label=SECRET, rollback_of="2" * 32)
    ping, created = await database.pings.create(new)
    assert created
    assert (ping.new, ping.state, ping.version) == (new, State.RECEIVED, 1)
    assert await database.pings.get(new.id, CLEARED) == ping


async def test_the_same_key_and_body_give_the_earlier_ping(database):
    first, _ = await database.pings.create(new_ping(idempotency_key="k"))
    again, created = await database.pings.create(new_ping(idempotency_key="k", created_at=NOW + timedelta(hours=24)))
    assert (again, created) == (first, False)


@pytest.mark.parametrize("changes", [{"body": digest_of(b"other")}, {"created_at": NOW + timedelta(hours=24, seconds=1)}])
async def test_a_key_with_another_body_or_after_a_day_conflicts(database, changes):
    await database.pings.create(new_ping(idempotency_key="k"))
    with pytest.raises(IdempotencyConflict):
        await database.pings.create(new_ping(idempotency_key="k", **changes))


async def test_a_key_is_each_caller_s_own(database):
    await database.pings.create(new_ping(idempotency_key="k"))
    _, created = await database.pings.create(new_ping(idempotency_key="k", caller="other|run", body=digest_of(b"other")))
    assert created


async def test_concurrent_creates_with_one_key_make_one_ping(database):
    made = []

    async def create():
        made.append(await database.pings.create(new_ping(idempotency_key="k")))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(create)
    assert len({ping.id for ping, _ in made}) == 1
    assert sorted(created for _, created in made) == [False, False, False, True]


async def test_a_labelled_ping_does_not_exist_for_others(database):
    ping, _ = await database.pings.create(new_ping(label=SECRET))
    await database.pings.move(ping, replace(ping, state=State.PENDING), [("state", {})])
    assert await database.pings.get(ping.id, ANONYMOUS) is None
    assert await database.pings.list_pings(PingFilter(), ANONYMOUS) == []
    assert await database.pings.events(ping.id, 0, ANONYMOUS) == []
    assert len(await database.pings.events(ping.id, 0, CLEARED)) == 1


async def test_lists_are_newest_first_filtered_and_paged(database):
    pings = [(await database.pings.create(new_ping(created_at=NOW + timedelta(seconds=nr))))[0] for nr in range(4)]
    await database.pings.create(new_ping(environment="test", component="other", caller="x|y"))
    mine = PingFilter(environment="production", component="shop", caller="https://ci|run", state=State.RECEIVED)
    assert [p.id for p in await database.pings.list_pings(mine, ANONYMOUS)] == [p.id for p in reversed(pings)]
    page = await database.pings.list_pings(replace(mine, limit=2, before=pings[3].id), ANONYMOUS)
    assert [p.id for p in page] == [pings[2].id, pings[1].id]
    assert await database.pings.list_pings(replace(mine, before="f" * 32), ANONYMOUS) == []
    moved = await database.pings.move(pings[0], replace(pings[0], state=State.DENIED, reasons=("vote-missing", "frozen")))
    assert [p.id for p in await database.pings.list_pings(PingFilter(reason="frozen"), ANONYMOUS)] == [moved.id]
    assert [p.id for p in await database.pings.list_pings(PingFilter(state=State.DENIED), ANONYMOUS)] == [moved.id]


async def test_a_hidden_ping_is_no_better_cursor_than_an_unknown_one(database):
    await database.pings.create(new_ping())
    hidden, _ = await database.pings.create(new_ping(label=SECRET, created_at=NOW + timedelta(seconds=1)))
    assert await database.pings.list_pings(PingFilter(before=hidden.id), ANONYMOUS) == []
    assert len(await database.pings.list_pings(PingFilter(before=hidden.id), CLEARED)) == 1


@pytest.mark.parametrize("limit", [0, 201])
async def test_a_list_is_bounded(database, limit):
    with pytest.raises(ValueError, match="1 to 200"):
        await database.pings.list_pings(PingFilter(limit=limit), ANONYMOUS)


async def test_a_move_replaces_what_may_change_and_adds_gapless_events(database, replicas):
    ping, _ = await database.pings.create(new_ping())
    replicas.now = NOW + timedelta(seconds=5)
    wanted = replace(
        ping,
        new=replace(ping.new, reason="never replaced"),
        state=State.PENDING,
        verdict=Verdict.INDETERMINATE,
        mode=Mode.WARN,
        reasons=("tests-missing",),
        rules=({"rule": "tests", "result": "fail", "n": 1},),
        policy=digest_of(b"policy"),
        policy_commit="d" * 40,
        evaluated_at=NOW,
        fence=7,
        entry_id="e" * 32,
        logged_at=NOW,
        logged_reasons=("tests-missing",),
        log_index=12,
        receipt=digest_of(b"receipt"),
        not_after=moment(NOW),
        accessor="accessor",
        leases=(digest_of(b"1"), digest_of(b"2")),
        outcome_index=13,
        detail="one sentence",
        next_at=NOW + timedelta(minutes=1),
    )
    moved = await database.pings.move(ping, wanted, [("state", {"state": "pending"}), ("rule", {"b": 1, "a": [None, True]})])
    assert moved == replace(wanted, new=ping.new, version=2, updated_at=replicas.now)
    assert await database.pings.get(ping.id, ANONYMOUS) == moved
    await database.pings.move(moved, replace(moved, state=State.DENIED), [("end", {})])
    events = await database.pings.events(ping.id, 0, ANONYMOUS)
    assert [(e.seq, e.event, e.at, e.data) for e in events] == [
        (1, "state", replicas.now, {"state": "pending"}),
        (2, "rule", replicas.now, {"b": 1, "a": [None, True]}),
        (3, "end", replicas.now, {}),
    ]
    assert [e.seq for e in await database.pings.events(ping.id, 2, ANONYMOUS)] == [3]


async def test_only_one_of_two_moves_from_one_version_stands(database):
    ping, _ = await database.pings.create(new_ping())
    await database.pings.move(ping, replace(ping, state=State.PENDING), [("state", {})])
    with pytest.raises(StalePing):
        await database.pings.move(ping, replace(ping, state=State.DENIED), [("end", {})])
    assert [e.event for e in await database.pings.events(ping.id, 0, ANONYMOUS)] == ["state"]


async def test_a_forbidden_move_is_a_bug(database):
    ping, _ = await database.pings.create(new_ping())
    denied = await database.pings.move(ping, replace(ping, state=State.DENIED))
    for state in (State.PENDING, State.DENIED):
        with pytest.raises(ValueError, match="does not move"):
            await database.pings.move(denied, replace(denied, state=state))


async def test_a_ping_may_be_written_without_leaving_its_state(database):
    ping, _ = await database.pings.create(new_ping())
    assert (await database.pings.move(ping, replace(ping, entry_id="e" * 32))).entry_id == "e" * 32


async def test_what_is_due_is_claimed_once_until_let_go(database, replicas):
    other = await replicas.open()
    ping, _ = await database.pings.create(new_ping())
    assert [p.id for p in await database.pings.claim_due(NOW, 10)] == [ping.id]
    assert await database.pings.claim_due(NOW, 10) == []
    assert await other.pings.claim_due(NOW, 10) == []
    await other.pings.unclaim(ping.id)
    assert await other.pings.claim_due(NOW, 10) == []
    await database.pings.unclaim(ping.id)
    assert [p.id for p in await other.pings.claim_due(NOW, 10)] == [ping.id]


async def test_a_killed_replica_s_claims_are_free_at_once(database, replicas):
    other = await replicas.open()
    ping, _ = await database.pings.create(new_ping())
    await database.pings.claim_due(NOW, 10)
    await replicas.kill(database)
    with trio.fail_after(60):
        while not (claimed := await other.pings.claim_due(NOW, 10)):  # noqa: ASYNC110 -- the server says when
            await trio.sleep(0.01)
    assert [p.id for p in claimed] == [ping.id]


async def test_only_due_pings_that_have_not_ended_are_claimed_at_most_so_many_oldest_first(database):
    async def make(nr, **members):
        ping, _ = await database.pings.create(new_ping(created_at=NOW + timedelta(seconds=nr)))
        return await database.pings.move(ping, replace(ping, **members)) if members else ping

    await make(0, state=State.DENIED)
    late = await make(1, state=State.PENDING, next_at=NOW + timedelta(seconds=30))
    due = await make(2, state=State.PENDING, next_at=NOW)
    fresh = await make(3)
    working = await make(4, state=State.ALLOWED)
    assert {p.id for p in await database.pings.claim_due(NOW, 2)} == {fresh.id, working.id}
    assert [p.id for p in await database.pings.claim_due(NOW, 5)] == [due.id]
    assert [p.id for p in await database.pings.claim_due(NOW + timedelta(seconds=30), 5)] == [late.id]


async def waiting(database, **members):
    ping, _ = await database.pings.create(new_ping(**members))
    return await database.pings.move(ping, replace(ping, state=State.PENDING, next_at=NOW + timedelta(hours=1)))


async def due(database):
    return {p.id for p in await database.pings.claim_due(NOW, 50)}


async def test_wake_makes_waiting_pings_of_a_place_due(database):
    here, there = await waiting(database), await waiting(database, environment="test")
    await database.pings.wake(environment="staging")
    assert await due(database) == set()
    await database.pings.wake(environment="production", component="shop")
    assert await due(database) == {here.id}
    await database.pings.wake()
    assert await due(database) == {there.id}


async def test_evidence_and_releases_wake_whom_they_concern(database):
    ping = await waiting(database)
    other = await waiting(database, artifact=digest_of(b"other"), project="else", environment="test")
    cases = [
        lambda: database.statements.add_statement(statement(artifact=ARTIFACT)),
        lambda: database.statements.add_vote(vote()),
        lambda: database.deployments.add_deployment(deployment("9" * 32)),
    ]
    for case in cases:
        await case()
        assert await due(database) == {ping.id}
        current = await database.pings.get(ping.id, ANONYMOUS)
        await database.pings.move(current, replace(current, next_at=NOW + timedelta(hours=1)))
        await database.pings.unclaim(ping.id)
    assert (await database.pings.get(other.id, ANONYMOUS)).next_at == NOW + timedelta(hours=1)


async def test_a_wake_during_the_work_outlives_the_work_s_own_next_time(database):
    ping = await waiting(database)
    await database.pings.wake()
    assert await due(database) == {ping.id}
    await database.statements.add_vote(vote())
    claimed = await database.pings.get(ping.id, ANONYMOUS)
    moved = await database.pings.move(claimed, replace(claimed, next_at=NOW + timedelta(hours=1)))
    assert moved.next_at == NOW
    await database.pings.unclaim(ping.id)
    assert await due(database) == {ping.id}
    moved = await database.pings.move(moved, replace(moved, next_at=NOW + timedelta(hours=1)))
    assert moved.next_at == NOW + timedelta(hours=1)


async def test_a_change_by_any_replica_is_heard_and_none_is_missed(database, replicas):
    other = await replicas.open()
    async with database.pings.changes() as changes:
        with trio.move_on_after(0.5):
            while True:  # what was said before
                await changes.wait(0.1)
        await other.pings.create(new_ping())
        await trio.sleep(0.05)
        with trio.fail_after(60):
            await changes.wait(math.inf)


async def test_waiting_for_changes_ends_at_its_timeout(database):
    async with database.pings.changes() as changes:
        with trio.fail_after(60):
            for _ in range(3):
                await changes.wait(0.05)


async def test_a_lock_is_held_once_and_its_fence_only_grows(database):
    first, _ = await database.pings.create(new_ping())
    second, _ = await database.pings.create(new_ping())
    fence = await database.locks.acquire("production", "shop", first.id, NOW)
    assert await database.locks.acquire("production", "shop", first.id, NOW + timedelta(seconds=9)) == fence
    assert await database.locks.acquire("production", "shop", second.id, NOW) == Held(first.id, fence, NOW, frozenset())
    await database.locks.release("production", "shop", fence - 1)
    assert (await database.locks.holder("production", "shop", ANONYMOUS)).ping_id == first.id
    await database.locks.release("production", "shop", fence)
    assert await database.locks.holder("production", "shop", ANONYMOUS) is None
    assert await database.locks.acquire("production", "shop", second.id, NOW) > fence
    assert isinstance(await database.locks.acquire("test", "shop", first.id, NOW), int)


async def test_a_release_wakes_who_waits_there(database):
    holder, _ = await database.pings.create(new_ping(environment="elsewhere"))
    fence = await database.locks.acquire("production", "shop", holder.id, NOW)
    ping = await waiting(database)
    await database.pings.claim_due(NOW, 9)
    await database.locks.release("production", "shop", fence)
    assert await due(database) == {ping.id}


async def test_many_take_a_lock_and_one_gets_it(database):
    pings = [(await database.pings.create(new_ping()))[0] for _ in range(4)]
    got = []

    async def take(ping):
        got.append(await database.locks.acquire("production", "shop", ping.id, NOW))

    async with trio.open_nursery() as nursery:
        for ping in pings:
            nursery.start_soon(take, ping)
    assert sorted(isinstance(item, Held) for item in got) == [False, True, True, True]


async def test_a_lock_is_as_secret_as_its_ping(database):
    ping, _ = await database.pings.create(new_ping(label=SECRET))
    fence = await database.locks.acquire("production", "shop", ping.id, NOW)
    assert await database.locks.holder("production", "shop", ANONYMOUS) is None
    assert await database.locks.holder("production", "shop", Viewer("a", frozenset({EMBARGO}))) == Held(ping.id, fence, NOW, SECRET)


async def test_a_lock_for_a_ping_that_was_never_stored_is_a_bug(database):
    with pytest.raises(ValueError, match="stored ping"):
        await database.locks.acquire("production", "shop", "0" * 32, NOW)
