"""A change of configuration alone: what runs stays, the configuration changes; and a rollback brings back the pair."""

from dataclasses import replace

import pytest

from gatekeeper.deploy.ping import CallKey, PingRequest, accept_ping, accept_rollback, rollback_set
from gatekeeper.model.decision import Purpose, Result, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.model.facts import Running, TestVerdict
from gatekeeper.model.ping import State
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.decide import decide
from gatekeeper.tlog.entry import DecisionEntry
from tests.fakes import signing
from tests.fakes.cases import ARTIFACT, COMMIT, good_case, with_fact
from tests.fakes.house import (  # noqa: F401
    COMPONENT,
    ENVIRONMENT,
    NEW_COMMIT,
    POLICY_COMMIT,
    House,
    _verify_inline,
    anyio_backend,
    configuration_text,
)

FLIPPED = "f" * 40
NEW_POLICY = "e" * 40


def key(number):
    return CallKey(f"key-{number}", digest_of(b"body"))


def asked(*, artifact=None, config=FLIPPED):
    return PingRequest(ENVIRONMENT, COMPONENT, artifact, config, "", None)


@pytest.fixture
def house():
    found = House()
    found.policy.others = {FLIPPED: configuration_text({"GREETING": "bye"}, set())}
    return found


def installed(house):
    """What was sent as the configuration, in order."""
    sent = []
    take = house.target._take

    def taking(named, parts, data):
        sent.append({name.value: data[name] for name in data})
        return take(named, parts, data)

    house.target._take = taking
    return sent


async def flip(house, number=1, **changes):
    ping, _ = await accept_ping(house.parts, house.person(), asked(**changes), key(number))
    return await house.to_the_end(ping)


async def test_the_artifact_stays_the_configuration_changes_and_the_decision_says_so(house):
    before = await house.deployed()
    house.clock.ahead(60)
    sent = installed(house)
    after = await flip(house)
    assert after.state is State.DEPLOYED
    assert (after.new.artifact, after.new.config, after.new.purpose) == (before.new.artifact, FLIPPED, Purpose.CONFIGURATION)
    entry = dict(house.log.entries(DecisionEntry))[after.log_index]
    assert (entry.purpose, entry.artifact, entry.candidate_config) == (Purpose.CONFIGURATION, before.new.artifact, FLIPPED)
    assert digest_of(house.policy.others[FLIPPED]) in entry.evidence
    assert sent[0]["configuration"] == house.policy.others[FLIPPED]
    assert after.log_index > before.log_index
    assert house.violations == []


async def test_it_needs_no_vote_of_its_own_and_no_stage_that_failed_since_stops_it(house):
    await house.deployed()
    house.clock.ahead(60)
    state = house.database.state
    state.votes.clear()
    for digest in [digest for digest, row in state.statements.items() if row.kind == "test-result"]:
        del state.statements[digest]
    assert (await flip(house)).state is State.DEPLOYED


@pytest.mark.parametrize("change", ["artifact", "config", "receipt", "receipt of another place"])
async def test_a_row_that_no_receipt_vouches_for_does_not_say_what_runs(house, change):
    """A database's administrator who makes other bytes pass for what runs gets them deployed by nobody."""
    before = await house.deployed()
    house.clock.ahead(60)
    unvoted = await house.bring("2", commit=NEW_COMMIT, vote=False)
    rows = house.database.state.deployments
    (place, row), *_ = rows.items()
    changes = {
        "artifact": {"artifact": unvoted, "commit": NEW_COMMIT},
        "config": {"config": FLIPPED},
        "receipt": {"receipt": digest_of(b"none")},
        "receipt of another place": {"component": COMPONENT},
    }[change]
    rows[place] = replace(row, **changes)
    if change == "receipt of another place":
        house.parts = replace(house.parts, instance="test")
    ping, _ = await accept_ping(house.parts, house.person(), asked(), key(1))
    found = await house.step(ping)
    assert (found.state, found.reasons) == (State.INDETERMINATE, ("target-unavailable",))
    assert house.allows() == [before.log_index]


async def test_what_was_only_adopted_had_no_votes_to_rely_on(house):
    await house.deployed()
    house.clock.ahead(60)
    rows = house.database.state.deployments
    (place, row), *_ = rows.items()
    rows[place] = replace(row, receipt=None)
    ended = await flip(house)
    assert (ended.state, ended.reasons) == (State.DENIED, ("older-than-running",))


async def test_where_something_else_runs_by_then_the_answer_is_no(house):
    await house.deployed()
    house.clock.ahead(60)
    ping, _ = await accept_ping(house.parts, house.person(), asked(), key(1))
    house.clock.ahead(60)
    await house.deployed("2", commit=NEW_COMMIT)
    ended = await house.to_the_end(ping)
    assert (ended.state, ended.reasons) == (State.DENIED, ("older-than-running",))


@pytest.mark.parametrize(
    ("commit", "data", "reason"),
    [
        ("0" * 40, None, "config-unreviewed"),
        (FLIPPED, b"[values\n", "config-invalid"),
        (FLIPPED, b"[values]\nLD_PRELOAD = 'x'\n", "config-invalid"),
        (FLIPPED, b"[values]\nPATH = '/tmp'\n", "config-invalid"),
        (FLIPPED, b"secrets = ['PYTHONSTARTUP']\n", "config-invalid"),
    ],
)
async def test_a_configuration_that_cannot_be_is_denied_and_leases_nothing(house, commit, data, reason):
    await house.deployed()
    house.clock.ahead(60)
    if data is not None:
        house.policy.others[commit] = data
    children = house.act_vault.children
    ended = await flip(house, config=commit)
    assert (ended.state, ended.reasons) == (State.DENIED, (reason,))
    assert house.act_vault.children == children
    assert house.holder() is None


async def test_artifact_and_configuration_together_are_a_deploy_like_any_other(house):
    await house.deployed()
    house.clock.ahead(60)
    artifact = await house.bring("2", commit=NEW_COMMIT, vote=False)
    ping, _ = await accept_ping(house.parts, house.person(), asked(artifact=artifact), key(1))
    waiting = await house.step(ping)
    assert (waiting.state, waiting.reasons, waiting.new.purpose) == (State.PENDING, ("votes-missing",), Purpose.DEPLOY)
    await house.vote(NEW_COMMIT)
    ended = await house.to_the_end(waiting)
    assert (ended.state, ended.new.artifact, ended.new.config) == (State.DEPLOYED, artifact, FLIPPED)


async def test_a_rollback_brings_back_the_pair(house):
    first = await house.deployed()
    house.clock.ahead(60)
    await flip(house)
    members = await rollback_set(house.parts, None, ENVIRONMENT, COMPONENT)
    assert [(m.artifact, m.config) for m in members] == [(first.new.artifact, POLICY_COMMIT)]
    house.clock.ahead(60)
    sent = installed(house)
    ping, _ = await accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=None, reason="no", call=key(2))
    ended = await house.to_the_end(ping)
    assert (ended.state, ended.new.purpose) == (State.DEPLOYED, Purpose.ROLLBACK)
    assert (ended.new.artifact, ended.new.config) == (first.new.artifact, POLICY_COMMIT)
    assert b"hello" in sent[0]["configuration"]


async def test_pairs_stand_once_each_newest_first_and_a_digest_means_its_newest_pair_that_does_not_run(house):
    one = await house.deployed()
    house.clock.ahead(60)
    await flip(house)
    house.clock.ahead(60)
    two = await house.deployed("2", commit=NEW_COMMIT)  # with the first configuration: house.deployed asks for it
    house.clock.ahead(60)
    third = await flip(house, 3)
    assert third.new.artifact == two.new.artifact
    members = await rollback_set(house.parts, None, ENVIRONMENT, COMPONENT)
    a, b = one.new.artifact, two.new.artifact
    assert [(m.artifact, m.config) for m in members] == [(b, POLICY_COMMIT), (a, FLIPPED), (a, POLICY_COMMIT)]
    house.clock.ahead(60)
    ping, _ = await accept_rollback(house.parts, house.operator(), ENVIRONMENT, COMPONENT, to=a, reason="no", call=key(4))
    assert (ping.new.artifact, ping.new.config) == (a, FLIPPED)
    assert (await house.to_the_end(ping)).state is State.DEPLOYED
    members = await rollback_set(house.parts, None, ENVIRONMENT, COMPONENT)
    assert [(m.artifact, m.config) for m in members] == [(b, FLIPPED), (b, POLICY_COMMIT), (a, POLICY_COMMIT)]


async def test_a_pair_that_never_ran_together_is_no_member(house):
    await house.deployed()
    house.clock.ahead(60)
    ping = await house.ping((await house.deployed("2", commit=NEW_COMMIT)).new.artifact, purpose=Purpose.ROLLBACK, commit=NEW_COMMIT, config=FLIPPED)
    ended = await house.to_the_end(ping)
    assert (ended.state, ended.reasons) == (State.DENIED, ("never-deployed",))


# the rules alone


def flip_case(**evidence):
    running = Present(Running(ARTIFACT, "b" * 40, COMMIT, "ping-0", digest_of(b"receipt"), signing.ISSUED), (digest_of(b"receipt"),))
    asked = {"purpose": Purpose.CONFIGURATION, "bound_commit": None, "requester": "people|subject-alice"}
    return good_case(asked=asked, **{"running": running, "votes": Absent(), **evidence})


def row(case, rule):
    (found,) = [found for found in decide(case).rules if found.rule == rule]
    return found


def test_the_rules_of_a_change_of_configuration():
    decision = decide(flip_case())
    assert decision.verdict is Verdict.ALLOW
    skipped = {found.rule for found in decision.rules if found.result is Result.SKIP}
    assert {"votes.review", "tests.commit", "tests.acceptance"} <= skipped
    passed = {found.rule for found in decision.rules if found.result is Result.PASS}
    assert {"origin.project", "origin.signature", "origin.provenance", "origin.age", "artifact.bytes", "embargo.label", "config.reviewed"} <= passed


@pytest.mark.parametrize("running", [Absent(), Present(Running(digest_of(b"b"), "b" * 40, COMMIT, "p", digest_of(b"r"), signing.ISSUED))])
def test_without_a_vote_only_what_runs_gets_another_configuration(running):
    found = row(flip_case(running=running), "origin.age")
    assert (found.result, found.reason) == (Result.FAIL, "older-than-running")
    assert "ping again" in found.need
    assert decide(flip_case(running=running)).verdict is Verdict.DENY


def test_what_runs_unreadable_is_no_allow():
    assert decide(flip_case(running=Unreadable("target-unavailable"))).verdict is Verdict.INDETERMINATE


def test_the_same_case_as_a_deploy_asks_for_the_vote():
    assert decide(good_case(votes=Absent())).reasons == ("votes-missing",)


def test_a_stage_that_failed_since_stops_a_deploy_and_no_change_of_configuration():
    results = good_case().evidence.results
    failed = {**results, "commit": with_fact(results["commit"], verdict=TestVerdict.FAILED)}
    assert decide(good_case(results=failed)).reasons == ("stage-failed",)
    assert decide(flip_case(results=failed)).verdict is Verdict.ALLOW


def test_a_configuration_that_does_not_parse_is_said_to_be_invalid():
    case = flip_case(configuration=Present(Refusal("config-invalid", "config/production/hello.toml: does not parse"), (digest_of(b"x = "),)))
    found = row(case, "config.reviewed")
    assert (found.result, found.reason, found.actual) == (Result.FAIL, "config-invalid", "config/production/hello.toml: does not parse")
    assert decide(case).verdict is Verdict.DENY
