"""What is asked of a platform about a token's run: once in a while, of a bounded number at a time, and nobody comes in while it cannot be asked."""

import json
from dataclasses import replace

import pytest
import trio
import trio.testing

from gatekeeper.deploy import liveruns
from gatekeeper.deploy.liveruns import ASK_S, HELD_S, MOST, RETRY_S, LiveRuns, Question
from gatekeeper.ports.errors import Unavailable
from gatekeeper.verify.platform import NotAdmitted
from gatekeeper.verify.token import Unauthenticated
from gatekeeper.verify.zuulbuild import build_url
from tests.fakes.clusters import FakeCluster, FakeTokenReview
from tests.fakes.issuers import FakeKeyFetch, HandClock
from tests.fakes.platforms import AUDIENCE, SHA, changed, own_issuer, platform, verify, zuul_build

ASKED = {"zuul": {"builds_url": "https://zuul.example.com", "unbound": False}, "kubernetes": {"token_review": True}}


class World:
    def __init__(self):
        self.fetch, self.clock, self.cluster = FakeKeyFetch(), HandClock(), FakeCluster()
        self.review = FakeTokenReview({"kubernetes": self.cluster})
        self.runs = LiveRuns(self.fetch, self.review, clock=self.clock)
        self.build(zuul_build())

    def build(self, answer):
        url = build_url(self.question("zuul").caller, platform("zuul", **ASKED["zuul"]))
        self.fetch.sets[url] = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def question(self, kind, change=None, **changes):
        token = changed(kind, change)
        said = ASKED[kind] | changes
        return Question(verify(token, own_issuer(kind, **said)), platform(kind, **said), AUDIENCE, token)

    async def ask(self, kind, change=None, **changes):
        question = self.question(kind, change, **changes)
        await self.runs.ready(question)
        return self.runs.held(question)

    async def refused(self, kind, error, words, change=None, **changes):
        with pytest.raises(error, match=words) as caught:
            await self.ask(kind, change, **changes)
        if error is Unavailable:
            assert caught.value.cause_code == "identity-unavailable"


@pytest.fixture
def world():
    return World()


async def test_a_zuul_run_has_the_commit_of_its_build(world):
    for _ in range(3):
        assert (await world.ask("zuul")).commit == SHA
    assert len(world.fetch.asked) == 1


async def test_a_build_that_ends_stops_within_the_time_an_answer_holds(world):
    await world.ask("zuul")
    world.build(zuul_build(result="SUCCESS"))
    world.clock.now += HELD_S
    await world.refused("zuul", NotAdmitted, "build is over")


async def test_a_pod_that_is_deleted_stops_within_the_time_an_answer_holds(world):  # row 101
    assert (await world.ask("kubernetes")).project == "hello"
    world.cluster.delete_pods()
    world.clock.now += HELD_S - 1
    assert (await world.ask("kubernetes")).project == "hello"
    world.clock.now += 1
    await world.refused("kubernetes", Unauthenticated, "its pod is gone")


@pytest.mark.parametrize(
    "change",
    [
        lambda claims: claims["kubernetes.io"].update(namespace="other"),
        lambda claims: claims["kubernetes.io"]["serviceaccount"].update(name="other"),
        lambda claims: claims["kubernetes.io"]["serviceaccount"].update(uid="00000000-0000-4000-8000-000000000000"),
        lambda claims: claims["kubernetes.io"]["pod"].update(uid="00000000-0000-4000-8000-000000000000"),
    ],
    ids=["namespace", "name", "account", "pod"],
)
async def test_the_cluster_must_take_the_token_for_whom_we_read_in_it(world, change):
    # The cluster's word is about another workload than our reading of the token: neither is taken.
    question = world.question("kubernetes")
    other = changed("kubernetes", change)
    world.cluster.status = lambda _token, _audiences: FakeCluster.status(_Believing(world.cluster), other, [AUDIENCE])
    await world.runs.ready(question)
    with pytest.raises(Unauthenticated, match="for another account or pod"):
        world.runs.held(question)


class _Believing(FakeCluster):
    """A cluster in which every object is there."""

    def __init__(self, cluster):
        super().__init__()
        self.now = cluster.now

    def _lives(self, _inner):
        return True


async def test_a_platform_that_cannot_be_asked_lets_nobody_in_and_is_asked_again_soon(world):
    world.fetch.away, world.review.away = "away", "gone"
    await world.refused("zuul", Unavailable, "cannot be asked about the token's run: away")
    await world.refused("kubernetes", Unavailable, "cannot be asked about the token's run: gone")
    world.fetch.away = world.review.away = ""
    await world.refused("zuul", Unavailable, "away")
    assert len(world.fetch.asked) == 1
    world.clock.now += RETRY_S
    assert (await world.ask("zuul")).commit == SHA
    assert (await world.ask("kubernetes")).project == "hello"


async def test_an_old_answer_does_not_serve_while_the_platform_is_away(world):
    await world.ask("zuul")
    world.fetch.away = "away"
    world.clock.now += HELD_S
    await world.refused("zuul", Unavailable, "away")


async def test_our_own_credential_refused_is_no_word_about_the_token(world):
    world.review.denied = True
    await world.refused("kubernetes", Unavailable, "our own credential")


@pytest.mark.parametrize("answer", [b"", b"{}", b"<html>", zuul_build(uuid="0" * 32)])
async def test_an_answer_that_cannot_be_read_is_none(world, answer):
    world.build(answer)
    await world.refused("zuul", Unavailable, "its answer cannot be read")


async def test_what_was_never_asked_is_not_held(world):
    question = world.question("zuul")
    with pytest.raises(Unavailable, match="not asked yet"):
        world.runs.held(question)
    await world.runs.ready(question)
    world.clock.now += HELD_S + ASK_S
    with pytest.raises(Unavailable, match="not asked yet"):
        world.runs.held(question)


async def test_another_policy_asks_anew(world):
    await world.ask("zuul")
    renamed = world.question("zuul")
    other = replace(renamed, caller=replace(renamed.caller, project="renamed"))
    await world.runs.ready(other)
    assert world.runs.held(other).project == "renamed"
    assert (await world.ask("zuul")).project == "hello"
    world.build(zuul_build(newrev=None))
    world.clock.now += HELD_S
    assert (await world.ask("zuul", unbound=True)).commit == ""
    await world.refused("zuul", NotAdmitted, "names no commit")


async def test_two_tokens_of_one_run_are_two_questions(world):
    await world.ask("zuul")
    world.fetch.away = "away"
    await world.refused("zuul", Unavailable, "away", lambda claims: claims.update(jti="another"))


async def test_whoever_has_the_same_question_waits_for_its_answer(world):
    world.fetch.gate, answers = trio.Event(), []

    async def ask():
        answers.append((await world.ask("zuul")).commit)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        world.fetch.gate.set()
    assert answers == [SHA] * 5
    assert len(world.fetch.asked) == 1


async def test_an_answer_that_was_young_a_moment_ago_is_not_taken_away(world):
    question = world.question("zuul")
    await world.runs.ready(question)
    world.clock.now += HELD_S
    assert world.runs.held(question).commit == SHA
    world.fetch.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.runs.ready, question)
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.fetch.asked) == 2, "somebody else asks anew"
        assert world.runs.held(question).commit == SHA
        world.fetch.gate.set()


async def test_whoever_hangs_up_does_not_decide_for_the_others(world):
    world.fetch.gate, answers = trio.Event(), []

    async def ask():
        answers.append((await world.ask("zuul")).commit)

    async with trio.open_nursery() as nursery:
        impatient = trio.CancelScope()
        nursery.start_soon(_until_cancelled, impatient, world)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        impatient.cancel()
        world.fetch.gate.set()
    assert answers == [SHA]
    assert len(world.fetch.asked) == 1, "the question went on without him"


async def _until_cancelled(scope, world):
    with scope:
        await world.ask("zuul")


async def test_a_bounded_number_of_questions_is_under_way(world):
    world.runs._limit.total_tokens = 2
    world.fetch.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(world.ask, "zuul", lambda claims, n=number: claims.update(jti=f"jti-{n}"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.fetch.asked) == 2
        world.fetch.gate.set()
    assert len(world.fetch.asked) == 5
    assert liveruns.AT_ONCE == 16


def test_nobody_waits_for_ever():
    async def run():
        world = World()
        world.fetch.gate, began = trio.Event(), trio.current_time()
        await world.refused("zuul", Unavailable, "no answer in time")
        return trio.current_time() - began

    assert trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0)) == pytest.approx(ASK_S)


async def test_answers_are_kept_in_a_bounded_number(world, monkeypatch):
    monkeypatch.setattr(liveruns, "MOST", 3)
    for number in range(5):
        await world.ask("zuul", lambda claims, n=number: claims.update(jti=f"jti-{n}"))
    assert len(world.runs._rows) == 3
    assert MOST == 1024
