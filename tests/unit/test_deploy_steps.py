"""How a ping waits, is denied, expires and goes on: `reconcile.step` over a house of fakes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gatekeeper.deploy import gather as gathering
from gatekeeper.deploy.gather import DEADLINE_S
from gatekeeper.model.decision import Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.label import Compartment
from gatekeeper.model.ping import State
from gatekeeper.ports.errors import Unavailable
from gatekeeper.tlog.entry import DecisionEntry, OutcomeEntry
from tests.fakes.house import (  # noqa: F401
    COMPONENT,
    ENVIRONMENT,
    NEW_COMMIT,
    OLD_COMMIT,
    TARGET,
    House,
    Tap,
    _verify_inline,
    anyio_backend,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def house():
    return House()


def decisions(house):
    return [(entry.verdict, entry.reasons) for _, entry in house.log.entries(DecisionEntry)]


async def test_a_ping_waits_for_a_vote_and_is_then_deployed(house):
    ping = await house.step(await house.ping(await house.bring(vote=False)))
    assert (ping.state, ping.reasons, ping.next_at) == (State.PENDING, ("votes-missing",), house.clock() + timedelta(seconds=5))
    await house.vote()
    ended = await house.step(ping)
    assert (ended.state, ended.reasons, ended.verdict) == (State.DEPLOYED, (), Verdict.ALLOW)
    assert decisions(house) == [(Verdict.DENY, ("votes-missing",)), (Verdict.ALLOW, ())]
    assert house.target.accepted == [ended.receipt]
    assert (house.holder(), house.violations, house.unclosed(), house.used_credentials()) == (None, [], [], [])
    (record,) = house.database.state.deployments.values()
    assert (record.state, record.artifact, record.receipt) == ("deployed", ping.new.artifact, ended.receipt)
    assert (record.decision_index, record.outcome_index) == (ended.log_index, ended.outcome_index)
    events = [(e.event, e.data.get("state")) for e in house.database.state.rows[ping.id].events]
    assert events == [("state", "pending"), ("state", "allowed"), ("state", "leased"), ("state", "applying"), ("outcome", "deployed"), ("end", "deployed")]


async def test_the_entries_tell_people_apart_and_name_nobody(house):
    ended = await house.deployed()
    entry = dict(house.log.entries(DecisionEntry))[ended.log_index]
    assert entry.people.uploader == (entry.requester,), "alice pinged what alice pushed"
    assert len(entry.people.voter) == 1
    assert entry.people.voter != entry.people.uploader
    for body in house.log.tree.entries:
        assert b"alice" not in body
        assert b"bob" not in body


async def test_what_is_denied_ends_and_is_logged_once(house):
    artifact = await house.bring()
    del house.artifacts.blobs[artifact]
    ping = await house.step(await house.ping(artifact))
    assert (ping.state, ping.reasons, ping.fence, ping.next_at) == (State.DENIED, ("artifact-missing",), None, None)
    assert (await house.step(ping)) == ping
    assert decisions(house) == [(Verdict.DENY, ("artifact-missing",))]
    assert house.act_vault.children == 0


@pytest.mark.parametrize(
    ("port", "method", "cause"),
    [
        ("review", "revision", "vcs-unavailable"),
        ("statements", "votes", "review-unavailable"),
        ("statements", "statements", "evidence-unreadable"),
        ("statements", "artifact", "evidence-unreadable"),
        ("artifacts", "read", "registry-unavailable"),
        ("artifacts", "local", "registry-unavailable"),
        ("policy", "configuration", "config-unavailable"),
        ("deployments", "running", "target-unavailable"),
        ("review", "is_older", "vcs-unavailable"),
    ],
)
@pytest.mark.parametrize("bug", [False, True])
async def test_an_authority_that_is_away_never_allows_and_is_named(house, port, method, cause, bug):
    await house.deployed()
    ping = await house.ping(await house.bring("2", commit=NEW_COMMIT), commit=NEW_COMMIT)
    allows = house.allows()

    class Away:
        def __init__(self, whole):
            self.whole = whole

        def __getattr__(self, name):
            return self.away if name == method else getattr(self.whole, name)

        async def away(self, *_args, **_options):
            raise KeyError("a bug") if bug else Unavailable("timeout", "away")

    parts = replace(house.parts, **{port: Away(getattr(house.parts, port))})
    found = await house.step(ping, parts)
    assert (found.state, found.verdict) == (State.INDETERMINATE, Verdict.INDETERMINATE)
    assert cause in found.reasons
    assert house.allows() == allows
    assert house.holder() is None
    assert (await house.step(ping)).state is State.DEPLOYED


async def test_the_rollback_rule_cannot_be_read_around(house):
    await house.deployed()
    house.clock.ahead(60)
    await house.deployed("2", commit=NEW_COMMIT)
    artifact = house.database.state.deployments[next(iter(house.database.state.deployments))].artifact
    ping = await house.ping(artifact, purpose=gathering.Purpose.ROLLBACK)
    tap = Tap(at=("deployments.history", 0), kind="away")
    found = await house.step(ping, house.tapped(tap))
    assert (found.state, found.reasons) == (State.INDETERMINATE, ("evidence-unreadable",))
    assert (await house.to_the_end(ping)).state is State.DEPLOYED


async def test_at_most_one_entry_a_minute_while_reasons_change(house):
    ping = await house.step(await house.ping(await house.bring(vote=False)))
    for _ in range(3):
        house.review.away = not house.review.away
        ping = await house.step(ping)
    assert len(decisions(house)) == 1, "the minute is not over"
    assert ping.state is State.INDETERMINATE
    house.clock.ahead(60)
    ping = await house.step(ping)
    assert decisions(house)[1:] == [(Verdict.INDETERMINATE, ("vcs-unavailable",))]
    house.clock.ahead(600)
    await house.step(ping)
    assert len(decisions(house)) == 2, "nothing changed"


async def test_a_busy_place_is_waited_for(house):
    first = await house.ping(await house.bring())
    second = await house.ping(first.new.artifact)
    await house.parts.locks.acquire(ENVIRONMENT, COMPONENT, first.id, house.clock())
    waiting = await house.step(second)
    assert (waiting.state, waiting.reasons) == (State.PENDING, ("environment-busy",))
    assert first.id in waiting.rules[-1]["actual"]
    assert (await house.to_the_end(first)).state is State.DEPLOYED
    assert (await house.to_the_end(second)).state is State.DEPLOYED
    assert len(house.target.accepted) == 2


async def test_who_holds_the_place_is_told_only_to_whom_it_may_be(house):
    artifact = await house.bring()
    secret = await house.ping(artifact, label=frozenset({Compartment("embargo:cve-1")}))
    await house.parts.locks.acquire(ENVIRONMENT, COMPONENT, secret.id, house.clock())
    waiting = await house.step(await house.ping(artifact))
    assert (waiting.state, waiting.reasons) == (State.PENDING, ("hold-active",))
    assert secret.id not in str(waiting.rules)


async def test_a_lock_left_by_a_withdrawn_ping_is_taken_over(house):
    artifact = await house.bring()
    dead = await house.ping(artifact)
    await house.parts.locks.acquire(ENVIRONMENT, COMPONENT, dead.id, house.clock())
    await house.parts.pings.move(dead, replace(dead, state=State.CANCELLED))
    assert (await house.step(await house.ping(artifact))).state is State.DEPLOYED


async def test_what_is_decided_under_the_lock_counts_not_the_forecast(house):
    ping = await house.ping(await house.bring())
    acquire = house.parts.locks.acquire

    async def lock_and_veto(*place):
        fence = await acquire(*place)
        await house.vote(voter="carol", value=-2)
        return fence

    house.parts.locks.acquire = lock_and_veto
    found = await house.step(ping)
    assert (found.state, found.reasons, found.fence) == (State.DENIED, ("votes-veto",), None)
    assert (house.holder(), house.allows(), house.act_vault.children) == (None, [], 0)


async def test_a_ping_expires_and_keeps_its_other_reasons(house):
    ping = await house.step(await house.ping(await house.bring(vote=False), seconds=3600))
    house.clock.ahead(3600)
    ended = await house.step(ping)
    assert (ended.state, ended.reasons) == (State.DENIED, ("ping-expired", "votes-missing"))
    assert decisions(house)[-1] == (Verdict.DENY, ("ping-expired", "votes-missing"))


async def test_an_expired_ping_is_denied_whatever_the_evidence_says_and_holds_nothing(house):
    ping = await house.ping(await house.bring())
    await house.parts.locks.acquire(ENVIRONMENT, COMPONENT, ping.id, house.clock())
    house.clock.ahead(3600)
    ended = await house.step(ping)
    assert (ended.state, ended.reasons, ended.verdict) == (State.DENIED, ("ping-expired",), Verdict.DENY)
    assert (house.holder(), house.act_vault.children) == (None, 0)


@pytest.mark.parametrize("gone", ["component", "environment", "target"])
async def test_a_place_that_the_policy_no_longer_knows_denies(house, gone):
    ping = await house.ping(await house.bring())
    await house.parts.locks.acquire(ENVIRONMENT, COMPONENT, ping.id, house.clock())
    files = house.policy.files
    match gone:
        case "component":
            del files["components/hello.toml"]
        case "environment":
            files["components/hello.toml"] = files["components/hello.toml"].replace(b'production = ["host-1"]', b"")
            del files["environments/production.toml"]
        case "target":
            files["components/hello.toml"] = files["components/hello.toml"].replace(b'production = ["host-1"]', b"")
    house.policy.load()
    ended = await house.step(ping)
    assert (ended.state, ended.reasons) == (State.DENIED, ("policy-empty",))
    assert decisions(house) == [(Verdict.DENY, ("policy-empty",))]
    assert house.holder() is None


async def test_a_gather_that_takes_too_long_is_indeterminate(house):
    ping = await house.ping(await house.bring())

    class Slow:
        async def revision(self, *_args):
            await gathering.trio.sleep(DEADLINE_S + 1)

    found = await house.step(ping, replace(house.parts, review=Slow()))
    assert (found.state, found.reasons) == (State.INDETERMINATE, ("decision-timeout",))


@pytest.mark.parametrize("kind", ["manifest", "provenance", "test-result", "vote"])
async def test_stored_bytes_that_were_changed_are_not_believed(house, kind):
    artifact = await house.bring()
    state = house.database.state
    rows = state.votes if kind == "vote" else state.statements
    digest, row = next((d, r) for d, r in rows.items() if kind == "vote" or r.kind == kind)
    rows[digest] = replace(row, bundle=row.bundle.replace(b'"', b' "', 1))
    found = await house.step(await house.ping(artifact))
    assert found.verdict is Verdict.DENY
    assert found.reasons == (("votes-ineligible",) if kind == "vote" else ("bad-signature",))
    assert house.allows() == []


@pytest.mark.parametrize("kind", ["manifest", "provenance", "test-result"])
async def test_statements_about_another_artifact_stand_for_nothing(house, kind):
    artifact = await house.bring()
    other = digest_of(b"other")
    rows = house.database.state.statements
    for digest, row in list(rows.items()):
        rows[digest] = replace(row, artifact=other)
    await house.bring("1", vote=False)
    moved = [digest for digest, row in rows.items() if row.kind == kind and row.artifact == artifact]
    for digest in moved:
        del rows[digest]
    foreign = await house.bring("9", commit=NEW_COMMIT, vote=False)
    for digest, row in list(rows.items()):
        if row.artifact == foreign and row.kind == kind:
            rows[digest] = replace(row, artifact=artifact)
    found = await house.step(await house.ping(artifact))
    assert found.state is State.DENIED
    assert "digest-mismatch" in found.reasons
    assert house.allows() == []


async def test_bytes_of_the_store_are_hashed_before_the_decision(house):
    artifact = await house.bring()
    layer = max(house.artifacts.blobs, key=lambda digest: len(house.artifacts.blobs[digest]))
    house.artifacts.blobs[layer] += b"evil"
    found = await house.step(await house.ping(artifact))
    assert (found.state, found.reasons) == (State.DENIED, ("digest-mismatch",))


async def test_a_labelled_artifact_is_not_deployed(house):
    artifact = await house.bring()
    secret = frozenset({Compartment("embargo:cve-1")})
    state = house.database.state
    state.artifacts[artifact] = replace(state.artifacts[artifact], label=secret)
    found = await house.step(await house.ping(artifact, label=secret))
    assert "embargoed" in found.reasons
    assert found.state is State.DENIED


async def test_an_outcome_names_its_decision_and_what_the_target_signed(house):
    ended = await house.deployed()
    ((index, outcome),) = house.log.entries(OutcomeEntry)
    assert (index, outcome.of.index, outcome.state) == (ended.outcome_index, ended.log_index, "deployed")
    assert outcome.applied == (ended.new.artifact,)
    assert [mark.target for mark in outcome.doorkeeper] == [TARGET]
    assert len(outcome.lease) == 1


async def test_older_commits_come_back_by_rollback_only(house):
    first = await house.deployed("1", commit=OLD_COMMIT)
    house.clock.ahead(60)
    await house.deployed("2", commit=NEW_COMMIT)
    again = await house.step(await house.ping(first.new.artifact))
    assert (again.state, again.reasons) == (State.DENIED, ("older-than-running",))
