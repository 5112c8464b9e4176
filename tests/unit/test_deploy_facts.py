"""Facts are verified once for the same bytes under the same trust, and never believed for longer than the policy does."""

from dataclasses import replace
from threading import Event, Thread

import pytest

from gatekeeper.deploy import facts as keeping
from gatekeeper.deploy import gather as gathering
from gatekeeper.deploy.decide import judge
from gatekeeper.deploy.facts import Facts, Question, Trust
from gatekeeper.model.decision import Purpose, Result, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Present, Unreadable
from gatekeeper.model.label import Compartment
from gatekeeper.model.moment import later
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.revocations import key_line
from gatekeeper.ports.errors import Unavailable
from tests.fakes import signing
from tests.fakes.cases import sealed
from tests.fakes.house import NEW_COMMIT, OLD_COMMIT, House, _verify_inline, anyio_backend  # noqa: F401
from tests.fakes.public_keys import Counted

pytestmark = pytest.mark.anyio

ROOT, SIGNERS, EPOCH = (digest_of(text) for text in (b"root", b"signers", b"epoch"))
QUESTION = Question(digest_of(b"bundle"), "provenance", ("artifact", ""), signing.RECEIVED, Trust(ROOT, SIGNERS, EPOCH))
FACT = sealed("fact")


@pytest.fixture
def house():
    return House()


def never():
    raise AssertionError("asked again")


async def judged(house, ping):
    with Counted().here() as counted:
        return await judge(house.parts, ping), counted


def revoke(house, row):
    house.policy.files["revocations.toml"] = f'[[revoked]]\n{row}\nreason = "its host was broken into"\n'.encode()
    house.policy.load()


# --- the cache by itself


def test_an_answer_is_given_once_and_a_refusal_is_an_answer():
    facts = Facts()
    refusal = Refusal("bad-signature", "no")
    assert facts.ask(QUESTION, lambda: FACT, size=1) is FACT
    assert facts.ask(QUESTION, never, size=1) is FACT
    other = replace(QUESTION, bundle=digest_of(b"other"))
    assert facts.ask(other, lambda: refusal, size=1) is refusal
    assert facts.ask(other, never, size=1) is refusal


@pytest.mark.parametrize(
    "change",
    [
        {"bundle": digest_of(b"x")},
        {"kind": "manifest"},
        {"about": ("another artifact", "")},
        {"about": ("artifact", "commit")},
        {"received_at": later(signing.RECEIVED, seconds=1)},
        {"trust": Trust(digest_of(b"x"), SIGNERS, EPOCH)},
        {"trust": Trust(ROOT, digest_of(b"x"), EPOCH)},
        {"trust": Trust(ROOT, SIGNERS, digest_of(b"x"))},
    ],
)
def test_whatever_an_answer_depends_on_makes_another_question(change):
    facts = Facts()
    facts.ask(QUESTION, lambda: FACT, size=1)
    other = sealed("another fact")
    assert facts.ask(replace(QUESTION, **change), lambda: other, size=1) is other


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_raises_leaves_nothing(error):
    facts = Facts()

    def fails():
        raise error

    with pytest.raises(error):
        facts.ask(QUESTION, fails, size=1)
    assert len(facts) == 0
    assert facts.ask(QUESTION, lambda: FACT, size=1) is FACT


def test_an_answer_under_way_is_neither_seen_nor_waited_for():
    facts, begun, go_on = Facts(), Event(), Event()

    def slowly():
        begun.set()
        go_on.wait()
        return FACT

    thread = Thread(target=facts.ask, args=(QUESTION, slowly), kwargs={"size": 1})
    thread.start()
    begun.wait()
    assert len(facts) == 0
    own = sealed("found meanwhile")
    assert facts.ask(QUESTION, lambda: own, size=1) is own
    go_on.set()
    thread.join()
    assert len(facts) == 1
    assert facts.ask(QUESTION, never, size=1) is own


def test_another_epoch_empties_it_and_a_late_answer_of_the_last_one_is_not_kept():
    facts = Facts()
    facts.ask(QUESTION, lambda: FACT, size=1)
    next_epoch = replace(QUESTION, trust=Trust(ROOT, SIGNERS, digest_of(b"next")))

    def meanwhile():
        facts.ask(next_epoch, lambda: Refusal("builder-revoked", "no"), size=1)
        return FACT

    late = replace(QUESTION, bundle=digest_of(b"late"))
    assert facts.ask(late, meanwhile, size=1) is FACT
    assert len(facts) == 1
    assert facts.ask(next_epoch, never, size=1) == Refusal("builder-revoked", "no")


def test_it_is_bounded_in_number_and_bytes_and_the_least_used_goes_first():
    facts = Facts(most=3, most_bytes=100)
    questions = [replace(QUESTION, bundle=digest_of(b"%d" % number)) for number in range(4)]
    for question in questions[:3]:
        facts.ask(question, lambda: FACT, size=10)
    facts.ask(questions[0], never, size=10)
    facts.ask(questions[3], lambda: FACT, size=10)
    assert len(facts) == 3
    facts.ask(questions[0], never, size=10)
    facts.ask(replace(QUESTION, kind="vote"), lambda: FACT, size=90)
    assert len(facts) == 2
    facts.ask(questions[0], never, size=10)
    facts.ask(replace(QUESTION, kind="manifest"), lambda: FACT, size=101)
    assert len(facts) == 2
    assert keeping.MOST_BYTES <= 64 * 1024 * 1024


def test_many_threads_ask_and_each_gets_its_own_answer():
    facts, started = Facts(most=50, most_bytes=1000), Event()
    wrong = []

    def ask(thread):
        started.wait()
        for number in range(300):
            name = b"%d" % ((number * 7 + thread) % 80)
            expected = sealed(name)
            if facts.ask(replace(QUESTION, bundle=digest_of(name)), lambda expected=expected: expected, size=len(name)) != expected:
                wrong.append(name)

    threads = [Thread(target=ask, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join()
    assert (wrong, len(facts)) == ([], 50)
    assert facts._bytes == sum(size for _, size in facts._kept.values())


# --- decisions


async def test_a_second_decision_on_the_same_artifact_does_no_public_key_operation(house):
    ping = await house.ping(await house.bring())
    first, cold = await judged(house, ping)
    assert first.decision.verdict is Verdict.ALLOW
    # three statements, each of certificate, path and envelope, and a vote: the counter can count
    assert {"Certificate.verify_directly_issued_by", "ClientVerifier.verify", "ECPublicKey.verify", "Ed25519PublicKey.verify"} >= set(cold.operations)
    assert cold.operations["ECPublicKey.verify"] == 3
    assert cold.operations["Ed25519PublicKey.verify"] == 1
    second, warm = await judged(house, ping)
    assert (second.decision.verdict, second.case.evidence) == (Verdict.ALLOW, first.case.evidence)
    assert warm.operations == {}
    other_ping = await house.ping(ping.new.artifact)
    assert (await judged(house, other_ping))[1].operations == {}


async def test_a_refusal_is_not_computed_again(house):
    house.ca = signing.FakeCa()
    ping = await house.ping(await house.bring())
    first, cold = await judged(house, ping)
    assert "unknown-builder" in first.decision.reasons
    assert cold.total > 0
    second, warm = await judged(house, ping)
    assert (second.decision.reasons, warm.total) == (first.decision.reasons, 0)


async def test_a_changed_byte_in_a_row_is_found_although_the_facts_are_kept(house):
    ping = await house.ping(await house.bring())
    assert (await judged(house, ping))[0].decision.verdict is Verdict.ALLOW
    for rows, reason in ((house.database.state.statements, "bad-signature"), (house.database.state.votes, "votes-ineligible")):
        for key, row in list(rows.items()):
            rows[key] = replace(row, bundle=row.bundle[:-1] + b" }")
            assert reason in (await judged(house, ping))[0].decision.reasons
            rows[key] = row
    assert (await judged(house, ping))[0].decision.verdict is Verdict.ALLOW


async def test_another_time_of_receipt_or_another_rule_is_verified_again(house):
    ping = await house.ping(await house.bring())
    await judged(house, ping)
    statements = house.database.state.statements
    for key, row in list(statements.items()):
        statements[key] = replace(row, received_at=later(signing.RECEIVED, seconds=3600))
    late, counted = await judged(house, ping)
    assert "certificate-expired" in late.decision.reasons
    assert counted.total > 0
    for key, row in list(statements.items()):
        statements[key] = replace(row, received_at=signing.RECEIVED)
    assert (await judged(house, ping))[1].total == 0
    house.policy.files["builders.toml"] = house.policy.files["builders.toml"].replace(b'"hello"', b'"hello", "second"')
    house.policy.load()
    assert (await judged(house, ping))[1].operations["ECPublicKey.verify"] == 3


async def test_a_persons_new_keys_are_asked_about_an_old_vote(house):
    ping = await house.ping(await house.bring())
    assert (await judged(house, ping))[0].decision.verdict is Verdict.ALLOW
    house.reviewers["bob"] = signing.FakeReviewer()
    house.policy.files.update(house._files())
    house.policy.load()
    decision = (await judged(house, ping))[0].decision
    assert (decision.verdict, decision.reasons) == (Verdict.DENY, ("votes-ineligible",))


async def test_a_gather_that_breaks_off_leaves_whole_answers_or_none(house, monkeypatch):
    ping = await house.ping(await house.bring())

    def breaks_off(*_args, **_options):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(gathering, "verify_provenance", breaks_off)
        found = (await judged(house, ping))[0]
    assert isinstance(found.case.evidence.provenance, Unreadable)
    assert found.decision.verdict is Verdict.INDETERMINATE
    assert {question.kind for question in house.parts.facts._kept} == {"manifest", "vote"}
    assert (await judged(house, ping))[0].decision.verdict is Verdict.ALLOW


async def test_what_the_row_filter_hides_is_not_found_in_the_facts(house):
    ping = await house.ping(await house.bring())
    assert (await judged(house, ping))[0].decision.verdict is Verdict.ALLOW
    before = len(house.parts.facts)
    hidden = frozenset({Compartment("embargo-1")})
    statements = house.database.state.statements
    for key, row in list(statements.items()):
        statements[key] = replace(row, label=hidden)
    decision = (await judged(house, ping))[0].decision
    assert decision.verdict is Verdict.DENY
    assert {"bad-signature", "provenance-missing"} <= set(decision.reasons)
    assert len(house.parts.facts) == before


# --- revocation

SIGNED_UNDER = "provenance"


def rows_that_revoke(house):
    (provenance,) = [row for row in house.database.state.statements.values() if row.kind == SIGNED_UNDER]
    signer = gathering.verify_provenance(provenance.bundle, gathering.signer_of(house.policy.current(), signing.BUILDER_ID), received_at=signing.RECEIVED, artifact=provenance.artifact).value.signer
    return {
        "builder": f'builder = "{signing.BUILDER_ID}"',
        "certificate": f'certificate = "{signer.certificate}"',
        "run": f'run = "urn:pingee:run:{signer.project}:{signer.commit}:{signer.run}"',
        "key": f'key = "{signer.certificate}"',
        "since then": f'builder = "{signing.BUILDER_ID}"\nfrom = {signing.RECEIVED:%Y-%m-%dT%H:%M:%SZ}',
    }


@pytest.mark.parametrize("name", ["builder", "certificate", "run", "key", "since then"])
async def test_a_revocation_empties_the_facts_and_denies_what_was_allowed_before(house, name):
    ping = await house.ping(await house.bring())
    assert (await judged(house, ping))[0].decision.verdict is Verdict.ALLOW
    assert (await judged(house, ping))[1].total == 0
    revoke(house, rows_that_revoke(house)[name])
    denied, counted = await judged(house, ping)
    assert counted.operations["ECPublicKey.verify"] == 3
    assert (denied.decision.verdict, denied.decision.reasons) == (Verdict.DENY, ("builder-revoked",))
    rows = {row.rule: row for row in denied.decision.rules if row.result is Result.FAIL}
    assert set(rows) == {"origin.signature", "origin.provenance", "tests.commit"}
    assert "its host was broken into" in rows["origin.signature"].actual
    assert "not revoked" in rows["origin.signature"].need
    assert rows["origin.signature"].who == "security"
    again, warm = await judged(house, ping)
    assert (again.decision.reasons, warm.total) == (("builder-revoked",), 0)


@pytest.mark.parametrize(
    "row",
    [
        f'builder = "{signing.BUILDER_ID}"\nfrom = {later(signing.RECEIVED, seconds=1):%Y-%m-%dT%H:%M:%SZ}',
        f'certificate = "{digest_of(b"of another run")}"',
        f'run = "urn:pingee:run:{signing.PROJECT}:{NEW_COMMIT}:{signing.RUN}"',
        f'run = "urn:pingee:run:other:{OLD_COMMIT}:{signing.RUN}"',
    ],
)
async def test_what_was_received_before_or_is_anothers_stands(house, row):
    ping = await house.ping(await house.bring())
    await judged(house, ping)
    revoke(house, row)
    found, counted = await judged(house, ping)
    assert found.decision.verdict is Verdict.ALLOW
    assert counted.total > 0
    assert (await judged(house, ping))[1].total == 0


async def test_a_rollback_to_what_a_revoked_builder_made_is_denied(house):
    old = await house.deployed("1")
    await house.deployed("2", commit=NEW_COMMIT)
    back = await house.ping(old.new.artifact, purpose=Purpose.ROLLBACK, config=old.new.config)
    assert (await judged(house, back))[0].decision.verdict is Verdict.ALLOW
    revoke(house, f'builder = "{signing.BUILDER_ID}"')
    decision = (await judged(house, back))[0].decision
    assert (decision.verdict, decision.reasons) == (Verdict.DENY, ("builder-revoked",))
    ended = await house.to_the_end(back)
    assert (ended.state.value, ended.reasons) == ("denied", ("builder-revoked",))


async def test_a_vote_by_a_revoked_key_counts_no_longer_and_an_older_one_does(house):
    ping = await house.ping(await house.bring())
    assert (await judged(house, ping))[0].decision.verdict is Verdict.ALLOW
    (voted,) = house.database.state.votes.values()
    key = key_line(house.reviewers["bob"].public)
    revoke(house, f'key = "{key}"\nfrom = {voted.received_at:%Y-%m-%dT%H:%M:%SZ}')
    decision = (await judged(house, ping))[0].decision
    assert (decision.verdict, decision.reasons) == (Verdict.DENY, ("votes-ineligible",))
    revoke(house, f'key = "{key}"\nfrom = {later(voted.received_at, seconds=1):%Y-%m-%dT%H:%M:%SZ}')
    assert (await judged(house, ping))[0].decision.verdict is Verdict.ALLOW


async def test_a_vote_store_that_is_away_says_so_although_facts_are_kept(house, monkeypatch):
    ping = await house.ping(await house.bring())
    first = (await judged(house, ping))[0]
    assert isinstance(first.case.evidence.votes, Present)

    async def away(*_args):
        raise Unavailable("timeout", "away")

    monkeypatch.setattr(house.database.statements, "votes", away)
    monkeypatch.setattr(house.database.statements, "statements", away)
    evidence = (await judged(house, ping))[0].case.evidence
    assert isinstance(evidence.votes, Unreadable)
    assert isinstance(evidence.manifest, Unreadable)
