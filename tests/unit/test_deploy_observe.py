"""What targets say when they are asked: drift, the one late entry of an override, and what the next ping makes of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_identity

from gatekeeper.deploy.adopt import adopt
from gatekeeper.deploy.observe import observe_all, question_id, run_observer
from gatekeeper.deploy.ping import CallKey, rollback_set
from gatekeeper.deploy.query import running_json
from gatekeeper.deploy.running import what_runs
from gatekeeper.model.decision import Purpose
from gatekeeper.model.digest import digest_of
from gatekeeper.model.label import ANONYMOUS, Viewer
from gatekeeper.model.moment import moment
from gatekeeper.model.ping import State
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.observations import DriftKind
from gatekeeper.ports.target import AdoptedStatus, LastOutcome, OverrideReport, TargetUnavailable
from gatekeeper.tlog.entry import OverrideEntry
from gatekeeper.verify.dsse import parse_envelope
from gatekeeper.verify.override import parse_override_order
from tests.fakes.house import COMPONENT, ENVIRONMENT, NEW_COMMIT, OLD_COMMIT, POLICY_COMMIT, TARGET, House, Killed, Tap, _verify_inline, anyio_backend  # noqa: F401
from tests.fakes.orders import payload_of, signed

pytestmark = pytest.mark.anyio
MIDDLE_COMMIT = "2" * 40
D0 = digest_of(b"what ran before us")


@pytest.fixture
async def house():
    """Version 1, then version 2 deployed; commits 1, 2, 3 in a line."""
    house = House()
    house.one = await house.deployed("1")
    house.review.add(MIDDLE_COMMIT, digest_of(MIDDLE_COMMIT.encode())[7:47])
    house.two = await house.deployed("2", commit=NEW_COMMIT)
    return house


def report_of(house, digest, *keys, target=TARGET, **changes):
    """An override as the target tells of it."""
    keys = keys or (house.reviewers["alice"].key, house.reviewers["bob"].key)
    envelope = signed(payload_of(digest, target=target, not_after=moment(house.clock() + timedelta(hours=1))), *keys)
    members = {
        "order": digest_of(parse_envelope(envelope).payload),
        "component": COMPONENT,
        "digest": digest,
        "signers": ("alice", "bob"),
        "applied_at": moment(house.clock()),
        "outcome": LastOutcome.HEALTHY,
        "record": digest_of(b"head"),
        "envelope": envelope,
    }
    return OverrideReport(**(members | changes))


def override(house, digest, *keys, **changes):
    report = report_of(house, digest, *keys, **changes)
    house.target.override(COMPONENT, report, POLICY_COMMIT)
    return report


def late(house):
    return [entry for _, entry in house.log.entries(OverrideEntry)]


async def drift(house, viewer=ANONYMOUS):
    return [(row["drift"]["kind"], row["drift"]["running"]) for row in await running_json(house.parts, viewer, drifted_only=True)]


async def test_what_runs_as_deployed_is_no_drift(house):
    await observe_all(house.parts)
    assert await drift(house) == []
    (row,) = await running_json(house.parts, ANONYMOUS)
    assert (row["artifact"], row["drift"]) == (house.two.new.artifact, None)
    assert [place.observed_at for place in await house.parts.observations.places()] != [None]


async def test_questions_take_no_lease_and_go_under_a_certificate_that_only_reads(house):
    children, ended = house.act_vault.children, list(house.act_vault.ended)
    await observe_all(house.parts)
    await observe_all(house.parts)
    assert (house.act_vault.children, house.act_vault.ended) == (children, ended)
    certificates = [load_ssh_public_identity(credential.certificate.encode()) for credential, _ in house.target.questions]
    assert [receipt for _, receipt in house.target.questions] == [None, None]
    assert [c.critical_options[b"force-command"] for c in certificates] == [b"pingee-doorkeeper status"] * 2
    assert [c.key_id.decode() for c in certificates] == [question_id(house.parts.origin, TARGET)] * 2
    assert len({c.public_key().public_bytes_raw() for c in certificates}) == 2, "a key is used for one question"


def test_an_auditor_can_name_the_observers_questions():
    known = hashlib.sha256(b"pingee.observe/v1\0log.example/production\0host-1").hexdigest()[:32]
    assert question_id("log.example/production", "host-1") == known
    assert question_id("log.example/production", "host-2") != known


async def test_an_override_is_drift_and_one_late_entry_of_two_pseudonyms(house):
    report = override(house, house.one.new.artifact)
    await observe_all(house.parts)
    assert await drift(house) == [("override", house.one.new.artifact)]
    (entry,) = late(house)
    assert (entry.target, entry.digest, entry.order, entry.record) == (TARGET, house.one.new.artifact, report.order, report.record)
    assert entry.applied_at == report.applied_at
    people = house.database.state.people
    assert set(entry.who) == {people["people", "s-alice"].pseudonym, people["people", "s-bob"].pseudonym}
    assert b"INC-1" not in house.log.tree.entries[-1]


async def test_replicas_and_restarts_write_the_entry_once(house):
    override(house, house.one.new.artifact)
    for _ in range(3):
        await observe_all(house.parts)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(observe_all, house.parts)
    assert len(late(house)) == 1
    house.log.append = _away  # what stands in the log is not even appended again
    await observe_all(house.parts)
    assert await drift(house) == [("override", house.one.new.artifact)]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["observations.add_order", "log.append", "observations.order_logged", "target.status", "act_vault.status_certificate"])
async def test_killed_at_any_step_it_is_logged_once_by_the_next(house, call, when):
    override(house, house.one.new.artifact)
    tap = Tap(at=(call, 0), when=when)
    parts = replace(house.tapped(tap), observations=tap.around("observations", house.parts.observations))
    with pytest.raises(BaseException) as caught:
        await observe_all(parts)
    assert tap.struck
    assert caught.group_contains(Killed) if isinstance(caught.value, BaseExceptionGroup) else isinstance(caught.value, Killed)
    await observe_all(house.parts)
    await observe_all(house.parts)
    assert len(late(house)) == 1
    assert await drift(house) == [("override", house.one.new.artifact)]


async def test_a_second_replica_that_drafted_too_appends_the_first_ones_bytes(house):
    report = override(house, house.one.new.artifact)
    store, parts = house.database.observations, house.parts

    class Blind:
        """As a replica that looked before the other had stored its draft."""

        def __getattr__(self, name):
            return getattr(store, name)

        async def order(self, target, order):
            return None

    await observe_all(parts)
    await observe_all(replace(parts, observations=Blind()))
    assert len(late(house)) == 1
    assert (await store.order(TARGET, report.order)).log_index == len(house.log.tree.entries) - 1


@pytest.mark.parametrize("how", ["unknown people", "one person", "another target", "another digest", "another order", "no order"])
async def test_a_target_alone_writes_nothing_into_the_log(house, how, caplog):
    alice = house.reviewers["alice"].key
    one = house.one.new.artifact
    match how:
        case "unknown people":
            override(house, one, alice, Ed25519PrivateKey.generate())
        case "one person":
            override(house, one, alice, alice)
        case "another target":
            override(house, one, target="host-9")
        case "another digest":
            report = report_of(house, one)
            house.target.override(COMPONENT, replace(report, digest=house.two.new.artifact), POLICY_COMMIT)
        case "another order":
            override(house, one, order=digest_of(b"other"))
        case "no order":
            override(house, one, envelope=b"{}")
    await observe_all(house.parts)
    assert late(house) == []
    assert house.database.state.orders == {}
    assert "cannot be believed" in caplog.text
    assert [kind for kind, _ in await drift(house)] == ["override"]  # never reported: drift shows it all the same


async def test_an_order_for_another_component_is_not_logged_as_this_ones(house):
    override(house, house.one.new.artifact, component="other")
    await observe_all(house.parts)
    assert (late(house), house.database.state.orders) == ([], {})


async def test_people_who_come_into_the_policy_later_are_logged_then(house):
    stranger = Ed25519PrivateKey.generate()
    override(house, house.one.new.artifact, house.reviewers["alice"].key, stranger)
    await observe_all(house.parts)
    assert late(house) == []
    house.reviewers["bob"] = replace(house.reviewers["bob"], key=stranger)
    house.policy.files["people.toml"] = house._files()["people.toml"]
    house.policy.load()
    await observe_all(house.parts)
    assert len(late(house)) == 1


@pytest.mark.parametrize("fault", ["target", "vault", "log", "database", "rounds"])
async def test_an_authority_that_is_away_is_no_drift_and_is_asked_again(house, fault):
    await observe_all(house.parts)
    override(house, house.one.new.artifact)
    match fault:
        case "target":
            house.target.faults.append(TargetUnavailable("down"))
        case "vault":
            house.act_vault.down = True
        case "log":
            house.log.append, append = _away, house.log.append
        case "database":
            house.database.faults.next("observe", persisted=False)
        case "rounds":
            house.database.faults.next("places", persisted=False)
    with trio.move_on_after(0.5):
        await run_observer(house.parts, 60)
    assert await drift(house) == []
    house.act_vault.down = False
    if fault == "log":
        house.log.append = append
    await observe_all(house.parts)
    assert await drift(house) == [("override", house.one.new.artifact)]
    assert len(late(house)) == 1


async def _away(*_args, **_options):
    raise Unavailable("log-unavailable", "away")


async def test_it_looks_at_once_and_then_each_interval_and_replicas_share_the_work(house):
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(run_observer, house.parts, 60)
            await trio.sleep(1)
        assert house.target.asked == 3  # each new replica looks for itself first
        await trio.sleep(60)
        assert house.target.asked == 4
        nursery.cancel_scope.cancel()


async def test_other_kinds_of_drift_and_their_end(house):
    house.target.stop(COMPONENT)
    await observe_all(house.parts)
    assert await drift(house) == [("stopped", None)]
    house.target.forget()
    await observe_all(house.parts)
    assert await drift(house) == [("unmanaged", None)]
    assert (await what_runs(house.parts, ANONYMOUS, ENVIRONMENT, COMPONENT)).artifact == house.two.new.artifact


async def test_something_else_that_runs_is_unmanaged(house):
    house.target.statuses.append({"running": digest_of(b"by hand")})
    await observe_all(house.parts)
    assert await drift(house) == [("unmanaged", digest_of(b"by hand"))]
    house.target.statuses.append({"config": "a" * 40})
    await observe_all(house.parts)
    assert await drift(house) == [("unmanaged", house.two.new.artifact)]
    await observe_all(house.parts)
    assert await drift(house) == []


async def test_where_nothing_was_ever_healthy_whatever_runs_is_unmanaged():
    house = House()
    failing = await house.bring("1")
    house.target.unhealthy.add(failing)
    assert (await house.to_the_end(await house.ping(failing))).state is State.FAILED
    await observe_all(house.parts)
    assert await house.parts.observations.drift(ANONYMOUS) == []
    house.target.statuses.append({"running": digest_of(b"by hand")})
    await observe_all(house.parts)
    assert [seen.kind for seen in await house.parts.observations.drift(ANONYMOUS)] == [DriftKind.UNMANAGED]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"outcome": LastOutcome.IN_PROGRESS, "running": None}, []),
        ({"index": 10**6, "running": None}, []),
        ({"index": 10**6, "outcome": LastOutcome.INTERRUPTED, "running": None}, [("stopped", None)]),
    ],
)
async def test_a_target_at_work_is_no_drift(house, said, expected):
    house.target.statuses.append(said)
    await observe_all(house.parts)
    assert await drift(house) == expected


async def test_nobody_asks_while_a_ping_holds_the_place(house):
    ping = await house.ping(house.two.new.artifact, commit=NEW_COMMIT)
    fence = await house.parts.locks.acquire(ENVIRONMENT, COMPONENT, ping.id, house.clock())
    await observe_all(house.parts)
    assert house.target.asked == 0
    await house.parts.locks.release(ENVIRONMENT, COMPONENT, fence)
    await observe_all(house.parts)
    assert house.target.asked == 1


@pytest.mark.parametrize("gone", ["component", "environment", "address"])
async def test_a_place_that_nothing_names_any_more_is_not_asked(house, gone, caplog):
    """The policy says which target a place has, and the settings where that is."""
    parts = house.parts
    match gone:
        case "component":
            del house.policy.files["components/hello.toml"]
        case "environment":
            file = house.policy.files["components/hello.toml"]
            house.policy.files["components/hello.toml"] = file.replace(f"{ENVIRONMENT} = [".encode(), b"lab = [")
        case "address":
            parts = replace(parts, addresses={})
    house.policy.load()
    house.target.stop(COMPONENT)
    await observe_all(parts)
    assert (house.target.asked, await drift(house), caplog.text) == (0, [], "")


async def test_a_deployment_ends_the_drift_and_tells_the_target_that_its_order_was_logged(house):
    report = override(house, house.one.new.artifact)
    await observe_all(house.parts)
    rolled = await house.ping(house.two.new.artifact, purpose=Purpose.ROLLBACK, commit=NEW_COMMIT)
    assert (await house.to_the_end(rolled)).state is State.DEPLOYED
    assert await drift(house) == []
    assert house.target.bundles[-1].reported == (report.order,)
    assert house.target.overrides == []
    await observe_all(house.parts)
    assert await drift(house) == []


async def test_each_frame_carries_what_may_be_brought_back(house):
    members = [[member.artifact for member in bundle.members] for bundle in house.target.bundles]
    one, two = house.one.new.artifact, house.two.new.artifact
    assert members == [[one], [two, one]]
    assert (await house.to_the_end(await house.ping(one, purpose=Purpose.ROLLBACK))).state is State.DEPLOYED
    assert [member.artifact for member in house.target.bundles[-1].members] == [one, two]


async def test_a_past_receipt_that_does_not_verify_is_left_out_of_the_bundle(house, caplog):
    state = house.database.state
    record = state.receipts[house.one.receipt]
    state.receipts[house.one.receipt] = replace(record, receipt=record.receipt.replace(b'"sig":"', b'"sig":"AAAA', 1))
    again = await house.ping(house.two.new.artifact, commit=NEW_COMMIT)
    assert (await house.to_the_end(again)).state is State.DEPLOYED
    assert [member.artifact for member in house.target.bundles[-1].members] == [house.two.new.artifact]
    assert "left out of the rollback bundle" in caplog.text


async def test_the_age_rule_and_the_rollback_set_go_by_what_really_runs(house):
    middle = await house.bring("middle", commit=MIDDLE_COMMIT)
    refused = await house.to_the_end(await house.ping(middle, commit=MIDDLE_COMMIT))
    assert (refused.state, refused.reasons) == (State.DENIED, ("older-than-running",))
    caller = house.operator()
    assert [row.artifact for row in await rollback_set(house.parts, caller, ENVIRONMENT, COMPONENT)] == [house.one.new.artifact]

    override(house, house.one.new.artifact)
    await observe_all(house.parts)
    assert [row.artifact for row in await rollback_set(house.parts, caller, ENVIRONMENT, COMPONENT)] == [house.two.new.artifact]
    assert (await what_runs(house.parts, ANONYMOUS, ENVIRONMENT, COMPONENT)).commit == OLD_COMMIT
    assert (await house.to_the_end(await house.ping(middle, commit=MIDDLE_COMMIT))).state is State.DEPLOYED


async def test_bytes_that_we_never_deployed_there_change_no_rule(house):
    override(house, digest_of(b"kept there from before us"))
    await observe_all(house.parts)
    assert [kind for kind, _ in await drift(house)] == ["override"]
    assert (await what_runs(house.parts, ANONYMOUS, ENVIRONMENT, COMPONENT)).artifact == house.two.new.artifact


async def test_drift_of_a_labelled_deployment_is_not_shown_to_others(house):
    secret = frozenset({"embargo:x1"})
    state = house.database.state
    for ping in (house.one, house.two):
        state.deployments[ping.id] = replace(state.deployments[ping.id], label=secret)
        state.receipts[ping.receipt] = replace(state.receipts[ping.receipt], label=secret)
    override(house, house.one.new.artifact)
    await observe_all(house.parts)
    assert await drift(house) == []
    assert await house.parts.observations.drift(ANONYMOUS) == []
    cleared = Viewer("security", secret)
    assert await drift(house, cleared) == [("override", house.one.new.artifact)]
    (seen,) = await house.parts.observations.drift(cleared)
    assert (seen.kind, seen.label) == (DriftKind.OVERRIDE, secret)


async def test_the_hidden_incident_is_kept_beside_its_salt(house):
    report = override(house, house.one.new.artifact)
    await observe_all(house.parts)
    stored = await house.parts.observations.order(TARGET, report.order)
    assert (stored.reason, stored.incident, stored.signers) == ("it burns", "INC-1", ("alice", "bob"))
    assert parse_override_order(parse_envelope(stored.envelope)).incident == stored.incident


@pytest.fixture
async def adopted():
    """Version 0 ran before us, and was adopted."""
    house = House()
    house.target.adopted = [AdoptedStatus(COMPONENT, D0, runs=True)]
    await adopt(house.parts, house.operator(), ENVIRONMENT, COMPONENT, reason="", call=CallKey("key-1", digest_of(b"body")))
    house.clock.ahead(60)
    return house


async def test_what_was_adopted_and_still_runs_is_no_drift(adopted):
    await observe_all(adopted.parts)
    assert (adopted.target.asked, await drift(adopted)) == (2, []), "once to adopt, once to observe"
    (place,) = await adopted.parts.observations.places()
    assert place.observed_at is not None
    assert (adopted.act_vault.children, adopted.violations) == (0, [])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([AdoptedStatus(COMPONENT, D0, runs=False)], ("stopped", None)),
        ([AdoptedStatus(COMPONENT, digest_of(b"another"), runs=True)], ("unmanaged", digest_of(b"another"))),
        ([AdoptedStatus("other", D0, runs=True)], ("unmanaged", None)),
        ([], ("unmanaged", None)),
    ],
)
async def test_what_was_adopted_drifts_until_it_is_deployed_over(adopted, said, expected):
    adopted.target.adopted = said
    await observe_all(adopted.parts)
    assert await drift(adopted) == [expected]
    await adopted.deployed("1")
    assert await drift(adopted) == [], "what was seen before a deployment says nothing of it"
    await observe_all(adopted.parts)
    assert await drift(adopted) == []


async def test_what_was_adopted_and_put_back_by_its_target_is_no_drift(adopted):
    failing = await adopted.bring("1")
    adopted.target.unhealthy.add(failing)
    ended = await adopted.to_the_end(await adopted.ping(failing))
    assert ended.state is State.FAILED
    adopted.target.statuses.append({"running": D0, "config": None})
    await observe_all(adopted.parts)
    assert await drift(adopted) == []
    adopted.target.statuses.append({"running": D0, "config": POLICY_COMMIT})
    await observe_all(adopted.parts)
    assert await drift(adopted) == [("unmanaged", D0)], "no target can know the configuration that we adopted it under"


async def test_what_was_adopted_is_not_what_was_deployed_over_it(adopted):
    """A target that was put back to the day before its first deploy: it tells of what was adopted, and remembers no deploy."""
    await adopted.deployed("1")
    adopted.target.forget()
    await observe_all(adopted.parts)
    assert await drift(adopted) == [("unmanaged", D0)]
