"""Any sequence of cut-short processes brings a ping to one end, and never leaves a lock that nobody will let go of."""

from functools import cache

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from gatekeeper.model.ping import WAITING, State
from gatekeeper.ports.errors import PortError
from tests.fakes.house import House, Killed, Tap, _verify_inline  # noqa: F401


@cache
def calls():
    async def whole():
        house = House()
        tap = Tap()
        await house.step(await house.ping(await house.bring()), house.tapped(tap))
        return sorted({name for name, _ in tap.order})

    return trio.run(whole, clock=MockClock(autojump_threshold=0))


CUT = st.tuples(st.deferred(lambda: st.sampled_from(calls())), st.integers(0, 2), st.sampled_from(["before", "after"]), st.sampled_from(["kill", "away", "cancel"]))
LIFE = st.tuples(CUT, st.sampled_from([0, 0, 0, 30, 600]), st.sampled_from(["nothing", "nothing", "nothing", "withdraw the vote", "vote"]))


async def one_life(house, ping, tap):
    with trio.CancelScope() as tap.scope:
        try:
            await house.step(ping, house.tapped(tap))
        except PortError:
            return
        except (Killed, BaseExceptionGroup) as error:
            if isinstance(error, Killed) or error.split((Killed, PortError))[1] is None:
                return
            raise


async def story(lives):
    house = House()
    ping = await house.ping(await house.bring(), seconds=100_000)
    votes = dict(house.database.state.votes)
    for (name, number, when, kind), seconds, what in lives:
        if what != "nothing":
            house.database.state.votes = {} if what == "withdraw the vote" else dict(votes)
        await one_life(house, ping, Tap(at=(name, number), when=when, kind=kind))
        house.clock.ahead(seconds)
        found = await house.read(ping)
        if found.state.ended:
            assert house.holder() is None
        assert not house.violations
    house.database.state.votes = {}
    while not (found := await house.read(ping)).state.ended:
        try:
            found = await house.step(ping)
        except PortError:
            await trio.sleep(5)
            continue
        if found.state in WAITING and found.draft is None and found.reasons == ("votes-missing",):
            assert house.holder() is None, "a ping that waits holds no lock"
            house.database.state.votes = dict(votes)
    assert found.state is State.DEPLOYED
    assert house.holder() is None
    assert house.unclosed() == []
    assert house.used_credentials() == []
    assert len(house.target.accepted) == house.outcomes().count("deployed") == 1
    # fence-lost: the draft was stored, its process was told otherwise and let go of the lock; nothing was sent
    assert set(house.outcomes()) <= {"deployed", "allow-expired", "fence-lost"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LIFE, max_size=6))
def test_whatever_is_cut_short_and_changes_meanwhile(lives):
    trio.run(story, lives, clock=MockClock(autojump_threshold=0))
