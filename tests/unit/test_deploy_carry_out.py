"""What becomes of a logged Allow: time, fence, vault, target. Every end is one outcome entry, and nothing is left behind."""

from dataclasses import replace

import pytest
import trio

from gatekeeper.deploy import execute
from gatekeeper.deploy.execute import MAX_ALLOWS, MISSES, PROGRESS_S
from gatekeeper.deploy.explain import explain
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.lease import lease_digest
from gatekeeper.model.ping import State
from gatekeeper.model.reason import REASONS
from gatekeeper.ports.errors import Denied, PortError, Rejected, Unavailable, Untrustworthy
from gatekeeper.ports.target import ApplyFailed, LastOutcome, Refused, RolledBack, Stale, TargetUnavailable, TargetUnknown
from gatekeeper.tlog.entry import OutcomeEntry
from tests.fakes.house import (  # noqa: F401
    ENVIRONMENT,
    NEW_COMMIT,
    TARGET,
    House,
    Killed,
    Tap,
    _verify_inline,
    anyio_backend,
    configuration_text,
)
from tests.fakes.target import COSIGNATURE

pytestmark = pytest.mark.anyio

RAN = digest_of(b"before")
DOORS = ("bad-signature", "digest-mismatch", "config-invalid", "config-secret-refused", "receipt-missing", "receipt-other-target", "log-fork", "sealed-not-allowed")


@pytest.fixture
def house():
    return House()


def clean(house):
    assert house.violations == []
    assert house.unclosed() == []
    assert house.used_credentials() == []
    assert house.holder() is None


async def killed(house, ping, at, when):
    """The process dies at a call; the row it leaves."""
    with pytest.raises(Killed):
        await house.step(ping, house.tapped(Tap(at=at, when=when)))
    return await house.read(ping)


@pytest.mark.parametrize(
    ("at", "when", "state"),
    [
        (("pings.move", 1), "after", State.ALLOWED),
        (("pings.move", 2), "after", State.LEASED),
        (("target.apply", 0), "before", State.APPLYING),
    ],
)
async def test_an_allow_that_ran_out_is_closed_and_decided_anew(house, at, when, state):
    ping = await house.ping(await house.bring())
    left = await killed(house, ping, at, when)
    assert left.state is state
    house.clock.ahead(600)
    children = house.act_vault.children
    expired = await house.step(ping)
    assert (expired.state, expired.reasons, expired.fence) == (State.PENDING, ("allow-expired",), None)
    assert house.outcomes() == ["allow-expired"]
    assert house.act_vault.children == children, "nothing is leased after not_after"
    asked = [receipt for _, receipt in house.target.questions]
    assert asked == ([None] if state is State.APPLYING else []), "a target that may have been sent something is asked under a certificate that only reads"
    clean(house)
    ended = await house.step(ping)
    assert (ended.state, house.outcomes()) == (State.DEPLOYED, ["allow-expired", "deployed"])
    assert len(house.allows()) == 2
    clean(house)


async def test_an_outcome_names_the_certificate_of_a_killed_replica_too_and_the_next_allow_s_outcome_only_its_own(house):
    ping = await house.ping(await house.bring())
    await killed(house, ping, ("act_vault.settings", 0), "before")
    assert len(house.act_vault.serials) == 1
    house.target.answers = [Refused("allow-expired", "late")]
    await house.step(ping)
    await house.step(ping)
    first, second = (entry.lease for _, entry in house.log.entries(OutcomeEntry))
    serials = house.act_vault.serials
    assert first == tuple(sorted(map(lease_digest, serials[:2])))
    assert second == (lease_digest(serials[2]),)


@pytest.mark.parametrize(("seconds", "outcomes"), [(-1, ["deployed"]), (0, ["allow-expired"]), (1, ["allow-expired"])])
async def test_the_end_of_an_allow_is_its_not_after_to_the_second(house, seconds, outcomes):
    ping = await house.ping(await house.bring())
    left = await killed(house, ping, ("pings.move", 1), "after")
    house.clock.ahead((left.not_after - house.clock()).total_seconds() + seconds)
    found = await house.step(ping)
    assert house.outcomes() == outcomes
    assert found.reasons == (() if seconds < 0 else ("allow-expired",))


@pytest.mark.parametrize("port", ["act_vault.settings", "log.prove", "artifacts.local", "pings.move"])
async def test_nothing_is_sent_when_time_ran_out_on_the_way(house, port):
    ping = await house.ping(await house.bring())
    await killed(house, ping, ("pings.move", 1), "after")
    name, method = port.split(".")

    class Slow:
        def __getattr__(self, attribute):
            return self.slow if attribute == method else getattr(getattr(house.parts, name), attribute)

        async def slow(self, *args, **options):
            result = await getattr(getattr(house.parts, name), method)(*args, **options)
            if house.act_vault.live:
                house.clock.ahead(600)
            return result

    found = await house.step(ping, replace(house.parts, **{name: Slow()}))
    assert (found.state, found.reasons) == (State.PENDING, ("allow-expired",))
    assert house.target.credentials == []
    clean(house)


async def test_a_target_that_says_too_late_has_it_decided_anew(house):
    house.target.answers = [Refused("allow-expired", "late")]
    ping = await house.ping(await house.bring())
    found = await house.step(ping)
    assert (found.state, found.reasons) == (State.PENDING, ("allow-expired",))
    assert (await house.step(ping)).state is State.DEPLOYED
    clean(house)


async def test_a_lost_fence_sends_nothing(house):
    ping = await house.ping(await house.bring())
    left = await killed(house, ping, ("pings.move", 2), "after")
    await house.parts.locks.release(ENVIRONMENT, "hello", left.fence)
    found = await house.step(ping)
    assert (found.state, found.reasons, house.outcomes()) == (State.PENDING, ("fence-lost",), ["fence-lost"])
    assert house.target.credentials == []
    clean(house)
    assert (await house.step(ping)).state is State.DEPLOYED


async def test_a_fence_lost_after_the_frame_was_lost_is_not_sent_again(house):
    ping = await house.ping(await house.bring())
    left = await killed(house, ping, ("target.apply", 0), "before")
    await house.parts.locks.release(ENVIRONMENT, "hello", left.fence)
    found = await house.step(ping)
    assert (found.state, found.reasons) == (State.PENDING, ("fence-lost",))
    assert house.target.accepted == []
    clean(house)


@pytest.mark.parametrize("code", DOORS)
async def test_a_door_that_refuses_ends_the_ping_with_its_code(house, code):
    house.target.answers = [Refused(code, "no")]
    ended = await house.step(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons, ended.detail) == (State.FAILED, (code,), "the doorkeeper refused: no")
    assert house.outcomes() == ["failed"]
    clean(house)


async def test_what_never_becomes_healthy_is_rolled_back(house):
    await house.deployed()
    artifact = await house.bring("2", commit=NEW_COMMIT)
    house.target.unhealthy = {artifact}
    ended = await house.step(await house.ping(artifact, commit=NEW_COMMIT))
    assert (ended.state, ended.reasons) == (State.ROLLED_BACK, ("health-failed",))
    assert house.outcomes() == ["deployed", "rolled-back"]
    (running,) = await house.parts.deployments.running(gatekeeper_viewer())
    assert running.artifact != artifact
    assert ended.detail == f"not healthy; {running.artifact} runs again"
    clean(house)


def gatekeeper_viewer():
    from gatekeeper.model.label import ANONYMOUS

    return ANONYMOUS


@pytest.mark.parametrize("answer", [ApplyFailed("disk full", spent=False), ApplyFailed("broken", spent=True, cosignature=COSIGNATURE, size=1)])
async def test_a_target_that_cannot_is_a_failure(house, answer):
    house.target.answers = [answer]
    ended = await house.step(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons) == (State.FAILED, ("apply-failed",))
    ((_, outcome),) = house.log.entries(OutcomeEntry)
    assert len(outcome.doorkeeper) == (answer.cosignature is not None)
    clean(house)


async def test_a_targets_words_are_stored_as_plain_bounded_text(house):
    house.target.answers = [ApplyFailed("first\nsecond\x00\x1b[31m\u202e\ud800" + "x" * 5000, spent=False)]
    ended = await house.step(await house.ping(await house.bring()))
    assert ended.state is State.FAILED
    assert ended.detail.startswith("first second  [31m  x")
    assert len(ended.detail) == 1000
    clean(house)


async def test_a_stale_answer_is_sent_again_with_the_growth_from_there(house):
    await house.deployed()
    again = await house.deployed("2", commit=NEW_COMMIT)
    assert house.target.accepted[-1] == again.receipt
    assert len(house.target.credentials) == 3, "one frame, then a stale one and its repetition"
    clean(house)


async def test_a_target_whose_memory_keeps_moving_is_given_up(house):
    house.target.answers = [Stale(1)] * 20
    ended = await house.step(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons, len(house.target.credentials)) == (State.FAILED, ("apply-failed",), 5)
    clean(house)


async def test_a_target_that_remembers_more_than_was_published_is_an_alarm(house):
    house.target.answers = [Stale(10**6)]
    ended = await house.step(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons) == (State.FAILED, ("log-fork",))
    clean(house)


async def test_a_target_that_comes_back_is_waited_for(house):
    house.target.faults = [TargetUnavailable("down")] * 3
    ended = await house.step(await house.ping(await house.bring()))
    assert ended.state is State.DEPLOYED
    assert house.target.asked == 0, "no byte was sent, so there was nothing to ask about"
    clean(house)


async def test_a_target_that_stays_away_lets_the_allow_run_out(house):
    house.target.faults = [TargetUnavailable("down")] * 10**4
    found = await house.step(await house.ping(await house.bring()))
    assert (found.state, found.reasons) == (State.PENDING, ("allow-expired",))
    assert house.act_vault.children < 40, "the vault is not hammered"
    clean(house)


async def test_a_lost_last_word_is_asked_for(house):
    house.target.faults = [TargetUnknown("cut")]
    ended = await house.step(await house.ping(await house.bring()))
    assert (ended.state, house.target.asked, len(house.target.accepted)) == (State.DEPLOYED, 1, 1)
    clean(house)


@pytest.mark.parametrize(("told", "state", "reason"), [("rolled-back", State.ROLLED_BACK, "health-failed"), ("failed", State.FAILED, "apply-failed")])
async def test_what_the_target_tells_afterwards_is_the_outcome(house, told, state, reason):
    house.target.faults = [TargetUnknown("cut")]
    house.target.statuses = [{"outcome": LastOutcome.IN_PROGRESS}] * 3 + [{"outcome": LastOutcome(told)}]
    ended = await house.step(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons, house.target.asked) == (state, (reason,), 4)
    clean(house)


@pytest.mark.parametrize(
    ("told", "detail", "step"),
    [
        ({"outcome": LastOutcome.ROLLED_BACK, "detail": "never answered", "running": RAN}, f"never answered; {RAN} runs again", "what ran before serves"),
        ({"outcome": LastOutcome.ROLLED_BACK, "detail": "never answered", "running": None}, "never answered", "what ran before serves"),
        ({"outcome": LastOutcome.FAILED, "detail": "no space"}, "no space", "mend what the target could not do"),
    ],
)
async def test_a_ping_that_ended_badly_says_what_runs_and_what_to_do_next(house, told, detail, step):
    house.target.faults, house.target.statuses = [TargetUnknown("cut")], [told]
    ended = await house.step(await house.ping(await house.bring()))
    explained = explain(ended, public_url="")
    assert (ended.detail, explained["detail"]) == (detail, detail)
    assert step in explained["next_step"]["text"]
    assert explained["next_step"]["who"] == REASONS[ended.reasons[0]].who


CUT_SHORT = {"outcome": LastOutcome.INTERRUPTED, "detail": "interrupted; the previous release runs"}


async def test_a_target_that_was_cut_short_is_decided_anew_and_applied_once_more(house):
    """Row 123."""
    house.target.faults = [TargetUnknown("cut")]
    house.target.statuses = [CUT_SHORT]
    found = await house.step(await house.ping(await house.bring()))
    assert (found.state, found.reasons, found.fence) == (State.PENDING, ("apply-interrupted",), None)
    assert found.detail == "the target was interrupted; the previous release runs; decided anew"
    ended = await house.step(found)
    assert (ended.state, house.outcomes()) == (State.DEPLOYED, ["interrupted", "deployed"])
    assert ended.receipt != found.receipt, "the first receipt is spent"
    clean(house)


async def test_a_target_that_is_cut_short_every_time_ends_the_ping(house):
    ended = await house.ping(await house.bring())
    for number in range(MAX_ALLOWS):
        assert number == 0 or ended.state is State.PENDING
        # From the second time on the first answer is that the target's memory has moved.
        house.target.faults, house.target.statuses = [None] * bool(number) + [TargetUnknown("cut")], [CUT_SHORT]
        ended = await house.step(ended)
    assert (ended.state, ended.reasons) == (State.FAILED, ("apply-interrupted",))
    assert house.outcomes() == ["interrupted"] * (MAX_ALLOWS - 1) + ["failed"]
    clean(house)


async def test_a_frame_that_was_never_accepted_is_sent_again(house):
    ping = await house.ping(await house.bring())
    await killed(house, ping, ("target.apply", 0), "before")
    ended = await house.step(ping)
    assert (ended.state, house.target.asked, len(house.target.accepted)) == (State.DEPLOYED, 1, 1)
    clean(house)


@pytest.mark.parametrize("silence", [{"outcome": LastOutcome.IN_PROGRESS}, TargetUnavailable("down")])
async def test_a_target_without_a_last_word_is_unresponsive_after_a_while(house, silence):
    house.target.faults = [TargetUnknown("cut")]
    house.target.statuses = [silence] * 10**4
    began = house.clock()
    ended = await house.step(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons, house.outcomes()) == (State.UNRESPONSIVE, ("target-unresponsive",), ["unresponsive"])
    took = (house.clock() - began).total_seconds()
    assert MISSES * PROGRESS_S <= took < MISSES * PROGRESS_S + 60
    clean(house)


@pytest.mark.parametrize("error", [Denied("vault-denied", "no"), Untrustworthy("certificate", "for another")])
async def test_a_vault_that_denies_ends_the_allow(house, error):
    house.act_vault.refused = error
    ended = await house.step(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons, house.outcomes()) == (State.FAILED, ("lease-refused",), ["lease-refused"])
    assert house.target.credentials == []
    clean(house)


@pytest.mark.parametrize("error", [Denied("vault-denied", "no"), Rejected("target-unknown", "no")])
async def test_a_vault_that_denies_later_does_not_decide_what_the_target_did(house, error):
    ping = await house.ping(await house.bring())
    await killed(house, ping, ("target.apply", 0), "after")
    house.act_vault.refused = error
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _mend():
            await trio.sleep(30)
            house.act_vault.refused = None

        ended = await house.step(ping)
    assert (ended.state, house.outcomes()) == (State.DEPLOYED, ["deployed"])
    clean(house)


async def test_a_vault_that_is_away_keeps_the_allow_until_it_ran_out(house):
    ping = await house.ping(await house.bring())
    house.act_vault.refused = Unavailable("vault-down", "sealed")
    for _ in range(2):
        with pytest.raises(PortError, match="vault-down"):
            await house.step(ping)
    assert (await house.read(ping)).state is State.ALLOWED
    house.act_vault.refused = None
    assert (await house.step(ping)).state is State.DEPLOYED
    assert len(house.allows()) == 1
    clean(house)


async def test_a_secret_that_is_named_and_not_there_stops_the_deploy(house):
    house.policy.secrets = frozenset({"PASSWORD"})
    ended = await house.step(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons) == (State.FAILED, ("config-secret-refused",))
    assert "PASSWORD" in ended.detail
    assert house.target.credentials == []
    clean(house)


async def test_only_named_secrets_are_installed_and_a_newline_is_none(house):
    house.policy.secrets = frozenset({"PASSWORD"})
    house.secrets.update({"PASSWORD": "p=1", "OTHER": "not asked for"})
    sent = []
    take = house.target._take
    house.target._take = lambda named, parts, data: sent.append(data) or take(named, parts, data)
    ended = await house.step(await house.ping(await house.bring()))
    assert ended.state is State.DEPLOYED
    assert sent[0][PartName.SETTINGS] == b"PASSWORD=p=1\n"
    assert sent[0][PartName.CONFIGURATION] == configuration_text({"GREETING": "hello"}, {"PASSWORD"})
    house.secrets["PASSWORD"] = "two\nlines"
    house.clock.ahead(60)
    ended = await house.step(await house.ping(await house.bring("2", commit=NEW_COMMIT), commit=NEW_COMMIT))
    assert (ended.state, ended.reasons) == (State.FAILED, ("config-invalid",))
    assert "two" not in ended.detail
    clean(house)


@pytest.mark.parametrize(("change", "reason"), [("gone", "artifact-missing"), ("other", "digest-mismatch")])
async def test_bytes_that_changed_since_the_decision_are_not_sent(house, change, reason):
    ping = await house.ping(await house.bring())
    await killed(house, ping, ("pings.move", 1), "after")
    layer = max(house.artifacts.blobs, key=lambda digest: len(house.artifacts.blobs[digest]))
    if change == "gone":
        del house.artifacts.blobs[layer]
    else:
        house.artifacts.blobs[layer] = b"evil"
    ended = await house.step(ping)
    assert (ended.state, ended.reasons) == (State.FAILED, (reason,))
    assert house.target.credentials == []
    clean(house)


async def test_a_replayed_receipt_is_asked_about_and_never_believed_to_be_unsent(house):
    house.target.answers = [Refused("receipt-replayed", "again")]
    ended = await house.step(await house.ping(await house.bring()))
    assert (ended.state, ended.reasons) == (State.FAILED, ("receipt-replayed",)), "it knows nothing of our receipt"
    clean(house)


async def test_another_process_that_sent_the_same_frame_first_is_no_second_deploy(house):
    ping = await house.ping(await house.bring())
    house.target.statuses = [TargetUnavailable("busy")] * 700
    apply = house.target.apply

    async def twice(*args, **options):
        house.target.apply = apply
        await apply(*args, **options)
        return await apply(*args, **options)

    house.target.apply = twice
    ended = await house.step(ping)
    assert ended.state is State.UNRESPONSIVE, "accepted, so never allow-expired and never sent again"
    assert len(house.target.accepted) == 1
    clean(house)


async def test_a_target_without_an_address_fails_unless_it_may_have_been_sent_something(house):
    lost = replace(house.parts, addresses={})
    ended = await house.step(await house.ping(await house.bring()), lost)
    assert (ended.state, ended.reasons) == (State.FAILED, ("apply-failed",))
    assert TARGET in ended.detail
    clean(house)
    house.clock.ahead(60)
    ping = await house.ping(await house.bring("2", commit=NEW_COMMIT), commit=NEW_COMMIT)
    await killed(house, ping, ("target.apply", 0), "after")
    with pytest.raises(Unavailable, match="target-unavailable"):
        await house.step(ping, lost)
    assert (await house.to_the_end(ping)).state is State.DEPLOYED


async def test_a_shutdown_ends_the_credential_before_the_process_leaves(house):
    ping = await house.ping(await house.bring())
    tap = Tap(at=("target.apply", 0), when="before", kind="cancel")
    with trio.CancelScope() as tap.scope:
        await house.step(ping, house.tapped(tap))
    assert (await house.read(ping)).state is State.APPLYING
    assert house.act_vault.live == {}


async def test_a_token_that_cannot_be_ended_does_not_hold_up_the_outcome(house, caplog):
    ping = await house.ping(await house.bring())
    end, tries = house.act_vault.end, []

    async def refuse(accessor):
        tries.append(accessor)
        raise Unavailable("vault-down", "sealed")

    house.act_vault.end = refuse
    assert (await house.step(ping)).state is State.DEPLOYED
    assert len(tries) == execute._END_S / execute.RETRY_S
    assert "dies within ten minutes" in caplog.text
    assert house.holder() is None
    house.act_vault.end = end


async def test_a_rolled_back_answer_names_what_runs(house):
    house.target.answers = [RolledBack("no", digest_of(b"before"), COSIGNATURE, 1)]
    await house.step(await house.ping(await house.bring()))
    ((_, outcome),) = house.log.entries(OutcomeEntry)
    assert outcome.applied == (digest_of(b"before"),)


@pytest.mark.parametrize("history", [None, b"the log's key changes"])
async def test_a_frame_shows_the_target_the_logs_key_changes_also_when_it_is_sent_again(house, history):
    """Else a target could follow no rotation: the first deploy under the new key would be refused there."""
    apply, frames = house.target.apply, []

    async def seen(address, credential, receipt, parts, **options):
        frames.append({part.name: part.source for part in parts})
        return await apply(address, credential, receipt, parts, **options)

    house.log.keys, house.target.apply = history, seen
    house.target.answers = [Stale(0), Refused("log-fork", "whatever it says to these bytes")]
    await house.step(await house.ping(await house.bring()))
    assert [frame.get(PartName.KEYS) for frame in frames] == [history] * 2
