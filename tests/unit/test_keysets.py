"""Attack matrix 99: fetched key sets. One fetch at a time, a bounded number of them, removed keys stop, an issuer away is bounded."""

import json

import pytest
import trio
import trio.testing

from gatekeeper.deploy.keysets import FETCH_S, FRESH_S, MOST, RETRY_S, STALE_S, UNKNOWN_S, KeySets, KeySource
from gatekeeper.ports.errors import Unavailable
from tests.fakes.issuers import FakeKeyFetch, HandClock
from tests.fakes.signing import FakeIssuer

URL = "https://ci.demo/keys"
SOURCE = KeySource(URL, ("ES256",), "sig")
OLD, NEW = FakeIssuer(kid="old"), FakeIssuer(kid="new")


def jwks(*issuers):
    return json.dumps({"keys": [issuer.jwk() for issuer in issuers]}).encode()


class World:
    def __init__(self):
        self.fetch, self.clock = FakeKeyFetch({URL: jwks(OLD)}), HandClock()
        self.sets = KeySets(self.fetch, clock=self.clock)

    async def ask(self, kid="old", source=SOURCE):
        await self.sets.ready(source, kid)
        return set(self.sets.held(source, kid))

    async def unreadable(self, words, kid="old"):
        with pytest.raises(Unavailable, match=words) as caught:
            await self.ask(kid)
        assert caught.value.cause_code == "identity-unavailable"

    @property
    def asked(self):
        return len(self.fetch.asked)


@pytest.fixture
def world():
    return World()


async def test_a_set_is_fetched_once_while_it_is_fresh(world):
    for _ in range(5):
        assert await world.ask() == {"old"}
    world.clock.now += FRESH_S - 1
    assert await world.ask() == {"old"}
    assert world.asked == 1


async def test_a_removed_key_stops_within_the_cache_time(world):
    await world.ask()
    world.fetch.sets[URL] = jwks(NEW)
    world.clock.now += FRESH_S
    assert await world.ask() == {"new"}
    assert world.asked == 2


async def test_a_new_key_is_found_by_the_first_token_that_names_it(world):
    await world.ask()
    world.fetch.sets[URL] = jwks(OLD, NEW)
    world.clock.now += UNKNOWN_S
    assert await world.ask("new") == {"old", "new"}
    assert world.asked == 2


async def test_a_flood_of_unknown_keys_asks_the_issuer_once_a_minute(world):
    await world.ask()
    for second in range(180):
        world.clock.now += 1
        for number in range(5):
            assert await world.ask(f"unknown-{second}-{number}") == {"old"}
    assert world.asked == 1 + 3


async def test_many_at_once_wait_for_one_fetch(world):
    world.fetch.gate = trio.Event()
    found = []

    async def one():
        found.append(await world.ask())

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        assert (world.asked, found) == (1, [])
        world.fetch.gate.set()
    assert (world.asked, found) == (1, [{"old"}] * 20)


async def test_a_known_key_does_not_wait_for_somebodys_unknown_one(world):
    await world.ask()
    world.clock.now += UNKNOWN_S
    world.fetch.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.sets.ready, SOURCE, "unknown")
        await trio.testing.wait_all_tasks_blocked()
        assert world.asked == 2
        with trio.move_on_after(0) as impatient:
            await world.sets.ready(SOURCE, "old")
        assert not impatient.cancelled_caught, "the issuer may be slow, and its keys are fresh"
        world.fetch.gate.set()


async def test_whoever_hangs_up_stops_nobodys_fetch(world):
    world.fetch.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(world.ask)
            await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        nursery.cancel_scope.cancel()
        world.fetch.gate.set()
    assert set(world.sets.held(SOURCE, "old")) == {"old"}
    assert world.asked == 1


async def test_an_issuer_away_leaves_the_last_good_set_for_a_bounded_time(world):
    await world.ask()
    fetched = world.clock.now
    world.fetch.away = "no connection"
    world.clock.now = fetched + STALE_S - 1
    assert await world.ask() == {"old"}
    world.clock.now = fetched + STALE_S
    await world.unreadable("no set is young enough .no connection.")


async def test_an_issuer_that_was_never_read_is_unreadable_and_asked_again_soon(world):
    world.fetch.away = "no connection"
    await world.unreadable("no set is young enough")
    world.clock.now += RETRY_S - 1
    await world.unreadable("no set is young enough")
    assert world.asked == 1
    world.fetch.away = ""
    world.clock.now += 1
    assert await world.ask() == {"old"}


async def test_an_unknown_key_while_the_issuer_is_away_is_no_verdict(world):
    await world.ask()
    world.fetch.away = "the issuer answers with HTTP 503"
    world.clock.now += UNKNOWN_S
    await world.unreadable("HTTP 503", "new")
    assert await world.ask() == {"old"}, "a key of the last good set goes on"
    world.fetch.away = ""
    world.clock.now += UNKNOWN_S
    assert await world.ask("new") == {"old"}, "then it is known to be unknown"


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"<html>", "key set"), (b'{"keys":[]}', "no key that can verify"), (jwks(OLD, OLD), "share a kid"), (b'{"keys":[{"kty":"oct","kid":"k","k":"AA"}]}', "secret")],
    ids=["no JSON", "empty", "one kid twice", "a secret"],
)
async def test_a_set_that_cannot_be_used_leaves_the_last_good_one(world, body, words):  # rows 94, 100
    await world.ask()
    world.fetch.sets[URL] = body
    world.clock.now += FRESH_S
    assert await world.ask() == {"old"}
    world.clock.now += STALE_S
    await world.unreadable(words)


def test_a_fetch_that_never_ends_ends():
    async def run():
        world = World()
        world.fetch.gate = trio.Event()
        began = trio.current_time()
        await world.unreadable("no answer in time")
        return trio.current_time() - began

    assert trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0)) == pytest.approx(FETCH_S)


async def test_sets_of_two_policies_are_two_sets(world):
    assert await world.ask() == {"old"}
    with pytest.raises(Unavailable, match="no key that can verify"):
        await world.ask(source=KeySource(URL, ("RS256",), "sig"))
    assert world.asked == 2


async def test_no_more_sets_are_kept_than_the_bound(world):
    for number in range(MOST + 20):
        await world.sets.ready(KeySource(f"https://{number}.example/keys", ("ES256",), "sig"), "k")
    assert len(world.sets._rows) == MOST
