"""What callers may ask for, in which order it is refused, and that a call made twice is one call."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gatekeeper.deploy.calls import CallRefused
from gatekeeper.deploy.ping import CallKey, PingRequest, accept_ping, accept_rollback, cancel, rollback_set
from gatekeeper.deploy.vote import MAX_VOTES, cast_vote
from gatekeeper.model.decision import Purpose
from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import later
from gatekeeper.model.ping import State
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.pings import IdempotencyConflict, StalePing
from tests.fakes import signing
from tests.fakes.house import (  # noqa: F401
    COMPONENT,
    ENVIRONMENT,
    NEW_COMMIT,
    OLD_COMMIT,
    POLICY_COMMIT,
    START,
    House,
    _verify_inline,
    anyio_backend,
)

pytestmark = pytest.mark.anyio

KEY = CallKey("key-1", digest_of(b"body"))


@pytest.fixture
def house():
    return House()


def request(artifact=None, **changes):
    values = {"environment": ENVIRONMENT, "component": COMPONENT, "artifact": artifact, "config": None, "reason": "", "deadline": None}
    return PingRequest(**values | changes)


async def refused(code, call, *mentions):
    with pytest.raises(CallRefused) as caught:
        await call
    assert caught.value.code == code, caught.value
    for text in mentions:
        assert text in caught.value.detail


async def test_a_role_is_asked_for_before_anything_is_looked_up(house):
    house.database.faults.down = True
    stranger = house.person("mallory", groups=())
    await refused("not-authorised", accept_ping(house.parts, stranger, request(digest_of(b"none")), KEY), "D or P")
    await refused("not-authorised", accept_rollback(house.parts, house.person(), ENVIRONMENT, COMPONENT, to=None, reason="", call=KEY), "role O")


async def test_an_environment_or_component_that_is_not_served_is_said_so(house):
    artifact = await house.bring()
    await refused("wrong-gatekeeper", accept_ping(house.parts, house.person(), request(artifact, environment="staging"), KEY), "staging")
    for place in ({"component": "other"}, {"environment": "lab"}):
        await refused("wrong-gatekeeper", accept_ping(house.parts, house.person(), request(artifact, **place), KEY), "deploys no component")
    call = accept_rollback(house.parts, house.operator(), "lab", COMPONENT, to=None, reason="", call=KEY)
    await refused("wrong-gatekeeper", call)


async def test_an_unknown_artifact_has_one_constant_refusal(house):
    said = set()
    for nothing in (b"a", b"b"):
        with pytest.raises(CallRefused) as caught:
            await accept_ping(house.parts, house.person(), request(digest_of(nothing)), KEY)
        said.add((caught.value.code, caught.value.detail))
    assert said == {("unknown-manifest", "no such artifact manifest")}


async def test_a_call_made_twice_is_one_ping(house):
    artifact = await house.bring()
    first, created = await accept_ping(house.parts, house.person(), request(artifact), KEY)
    again, twice = await accept_ping(house.parts, house.person(), request(artifact), KEY)
    assert (created, twice, again.id) == (True, False, first.id)
    with pytest.raises(IdempotencyConflict):
        await accept_ping(house.parts, house.person(), request(artifact), replace(KEY, body=digest_of(b"other")))
    other, created = await accept_ping(house.parts, house.run_caller(), request(artifact), KEY)
    assert created
    assert other.id != first.id


async def test_who_and_what_are_taken_from_token_and_records(house):
    artifact = await house.bring()
    ping, _ = await accept_ping(house.parts, house.run_caller(), request(artifact), KEY)
    new = ping.new
    assert (new.caller, new.on_behalf_of, new.bound_commit) == ("ci|project:hello:run:run-1", "ci|alice", OLD_COMMIT)
    assert (new.purpose, new.project, new.commit, new.config) == (Purpose.DEPLOY, "hello", OLD_COMMIT, POLICY_COMMIT)
    assert new.deadline == house.clock() + timedelta(hours=24)
    by_person, _ = await accept_ping(house.parts, house.person(), request(artifact), KEY)
    assert (by_person.new.bound_commit, by_person.new.on_behalf_of) == (None, None)


@pytest.mark.parametrize("change", [{"project": "other"}, {"builder": "https://ci.demo/builder2"}])
async def test_a_run_of_another_project_or_builder_has_no_role(house, change):
    artifact = await house.bring()
    await refused("not-authorised", accept_ping(house.parts, house.run_caller(**change), request(artifact), KEY))


async def test_without_an_artifact_what_runs_is_meant(house):
    await refused("ping-malformed", accept_ping(house.parts, house.person(), request(), KEY), "name an artifact")
    running = await house.deployed()
    ping, _ = await accept_ping(house.parts, house.person(), request(), KEY)
    assert (ping.new.artifact, ping.new.config, ping.new.commit) == (running.new.artifact, running.new.config, running.new.commit)


@pytest.mark.parametrize(("seconds", "fine"), [(0, False), (1, True), (14 * 86400, True), (14 * 86400 + 1, False)])
async def test_a_deadline_lies_ahead_and_not_too_far(house, seconds, fine):
    artifact = await house.bring()
    house.clock()
    asked = request(artifact, deadline=START + timedelta(seconds=seconds))
    if fine:
        ping, _ = await accept_ping(house.parts, house.person(), asked, KEY)
        assert ping.new.deadline == asked.deadline
    else:
        await refused("ping-malformed", accept_ping(house.parts, house.person(), asked, KEY), "14 days")


async def test_the_rollback_set_holds_what_ran_newest_first_without_what_runs(house):
    one = await house.deployed("1", commit=OLD_COMMIT)
    house.clock.ahead(60)
    two = await house.deployed("2", commit=NEW_COMMIT)
    house.clock.ahead(60)
    three = await house.deployed("3", commit="5" * 40)
    members = await rollback_set(house.parts, None, ENVIRONMENT, COMPONENT)
    assert [m.artifact for m in members] == [two.new.artifact, one.new.artifact]
    ping, _ = await accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=None, reason="broken", call=KEY)
    assert (ping.new.artifact, ping.new.purpose, ping.new.rollback_of) == (two.new.artifact, Purpose.ROLLBACK, three.id)
    ended = await house.to_the_end(ping)
    assert ended.state is State.DEPLOYED
    members = await rollback_set(house.parts, None, ENVIRONMENT, COMPONENT)
    assert [m.artifact for m in members] == [three.new.artifact, one.new.artifact]


async def test_what_never_ran_is_not_rolled_back_to(house):
    call = accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=None, reason="", call=KEY)
    await refused("never-deployed", call, "nothing else")
    await house.deployed()
    other = await house.bring("2", commit=NEW_COMMIT)
    call = accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=other, reason="", call=KEY)
    await refused("never-deployed", call, "that digest")


async def test_a_rollback_asked_again_after_it_is_done_is_the_same_ping(house):
    one = await house.deployed("1", commit=OLD_COMMIT)
    house.clock.ahead(60)
    await house.deployed("2", commit=NEW_COMMIT)
    house.clock.ahead(60)
    to = one.new.artifact
    ping, _ = await accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=to, reason="", call=KEY)
    await house.to_the_end(ping)
    again, created = await accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=to, reason="", call=KEY)
    assert (again.id, created) == (ping.id, False)
    other = accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=to, reason="", call=replace(KEY, key="key-2"))
    await refused("never-deployed", other)


async def test_a_waiting_ping_is_withdrawn_by_its_requester_or_an_operator_alone(house):
    artifact = await house.bring(vote=False)
    for caller in (house.person(), house.operator()):
        ping = await house.step(await house.ping(artifact))
        assert ping.state is State.PENDING
        await refused("not-authorised", cancel(house.parts, house.person("carol", groups=("reviewers",)), ping.id, "no"))
        ended = await cancel(house.parts, caller, ping.id, "no more")
        assert (ended.state, ended.reasons, ended.detail) == (State.CANCELLED, ("cancelled",), "no more")
        await refused("not-cancellable", cancel(house.parts, caller, ping.id, "again"), "cancelled")
    await refused("not-found", cancel(house.parts, house.operator(), "0" * 32, "no"))


async def test_a_decision_on_its_way_into_the_log_is_not_withdrawn(house):
    ping = await house.ping(await house.bring())
    house.log.append = None  # the next replica finds the draft
    with pytest.raises(TypeError):
        await house.step(ping)
    assert (await house.read(ping)).draft is not None
    await refused("not-cancellable", cancel(house.parts, house.person(), ping.id, "no"))


async def test_withdrawing_frees_a_lock_that_a_dead_replica_held_for_the_ping(house):
    ping = await house.ping(await house.bring())
    await house.parts.locks.acquire(ENVIRONMENT, COMPONENT, ping.id, house.clock())
    await cancel(house.parts, house.person(), ping.id, "no")
    assert house.holder() is None


async def test_a_withdrawal_and_a_replica_at_work_meet_at_the_version(house):
    ping = await house.ping(await house.bring())
    get = house.parts.pings.get

    async def late(ping_id, viewer):
        found = await get(ping_id, viewer)
        house.parts.pings.get = get
        await house.parts.pings.move(found, replace(found, detail="moved on"))
        return found

    house.parts.pings.get = late
    with pytest.raises(StalePing):
        await cancel(house.parts, house.person(), ping.id, "no")


async def test_a_vote_is_stored_for_the_person_whose_key_and_token_agree(house):
    await house.bring(vote=False)
    vote = await cast_vote(house.parts, house.person("bob"), house.vote_bundle())
    assert (vote.voter, vote.value, vote.revision) == ("bob", 2, OLD_COMMIT)
    own = await cast_vote(house.parts, house.person("alice"), house.vote_bundle(voter="alice"))
    assert own.voter == "alice", "a self-vote is stored; the decision does not count it"
    assert {row.voter for row in house.database.state.votes.values()} == {"bob", "alice"}


@pytest.mark.parametrize(
    ("caller", "bundle", "code"),
    [
        ("carol", {}, "bad-signature"),
        ("olga", {}, "not-authorised"),
        ("bob", {"revision": NEW_COMMIT}, "not-found"),
        ("bob", {"project": "other"}, "not-found"),
        ("bob", {"tree": "4" * 40}, "votes-stale"),
        ("bob", {"change": "I" + "7" * 40}, "votes-stale"),
    ],
)
async def test_a_vote_that_is_not_the_callers_about_a_known_revision_is_refused(house, caller, bundle, code):
    await house.bring(vote=False)
    await refused(code, cast_vote(house.parts, house.person(caller), house.vote_bundle(**bundle)))
    assert not house.database.state.votes


async def test_only_people_vote_and_a_review_that_is_away_is_no_refusal(house):
    await house.bring(vote=False)
    await refused("not-authorised", cast_vote(house.parts, house.run_caller(), house.vote_bundle()))
    house.review.away = True
    with pytest.raises(Unavailable, match="vcs-unavailable"):
        await cast_vote(house.parts, house.person("bob"), house.vote_bundle())


async def test_one_person_cannot_fill_the_evidence_with_votes(house):
    await house.bring(vote=False)
    for number in range(MAX_VOTES):
        await cast_vote(house.parts, house.person("bob"), house.vote_bundle(at=later(signing.RECEIVED, seconds=number)))
    await cast_vote(house.parts, house.person("bob"), house.vote_bundle(at=signing.RECEIVED))
    more = house.vote_bundle(at=later(signing.RECEIVED, seconds=MAX_VOTES))
    await refused("quota-exceeded", cast_vote(house.parts, house.person("bob"), more))
    await cast_vote(house.parts, house.person("carol"), house.vote_bundle(voter="carol"))
