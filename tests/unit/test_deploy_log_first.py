"""Attack matrix 121 and 122: nothing is deployed whose decision the log did not take, and an outcome that was not recorded is recorded later, once."""

import pytest
import trio

from gatekeeper.model.ping import State
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.log import LogFull
from gatekeeper.tlog.entry import DecisionEntry, OutcomeEntry
from tests.fakes.house import House, _verify_inline, anyio_backend  # noqa: F401

pytestmark = pytest.mark.anyio


@pytest.fixture
def house():
    return House()


def failing(house, method, *, kind=None, after=False, error=None):
    """The log fails at entries of this kind: nothing was written, or it was and nobody is told."""
    real = getattr(house.log, method)
    entry_kind = None if kind is None else kind.KIND.value

    async def fail(*args, **options):
        if entry_kind not in (None, options.get("kind")):
            return await real(*args, **options)
        if after:
            await real(*args, **options)
        raise error or Unavailable("log-unavailable", "the write failed")

    setattr(house.log, method, fail)
    return lambda: setattr(house.log, method, real)


async def tried(house, ping, times=8):
    """Steps of a process that finds the log away; the reason of each."""
    reasons = []
    for _ in range(times):
        try:
            await house.step(ping)
        except PortError as error:
            reasons.append(error.cause_code)
        await trio.sleep(5)
    return reasons


@pytest.mark.parametrize(
    ("method", "after", "error", "reason"),
    [
        ("append", False, None, "log-unavailable"),
        ("append", True, None, "log-unavailable"),
        ("append", False, LogFull(), "log-full"),
        ("prove", False, None, "log-unavailable"),
    ],
    ids=["not written", "written and not told", "full queue", "durable and not published"],
)
async def test_a_decision_that_the_log_did_not_take_deploys_nothing(house, method, after, error, reason):
    ping = await house.ping(await house.bring())
    back = failing(house, method, kind=DecisionEntry if method == "append" else None, after=after, error=error)
    reasons = await tried(house, ping)
    assert reason in reasons
    assert set(reasons) == {reason}
    assert house.target.accepted == []
    assert house.used_credentials() == []
    assert not (await house.read(ping)).state.ended
    back()
    ended = await house.to_the_end(ping)
    assert ended.state is State.DEPLOYED
    assert (len(house.target.accepted), len(house.allows()), house.unclosed(), house.violations) == (1, 1, [], [])


@pytest.mark.parametrize("after", [False, True], ids=["not written", "written and not told"])
async def test_an_outcome_that_was_not_recorded_is_recorded_by_the_reconciler_once(house, after):
    ping = await house.ping(await house.bring())
    back = failing(house, "append", kind=OutcomeEntry, after=after)
    assert set(await tried(house, ping)) == {"log-unavailable"}
    assert len(house.target.accepted) == 1, "it was deployed: only the word of it is missing"
    assert not (await house.read(ping)).state.ended
    back()
    ended = await house.to_the_end(ping)
    assert ended.state is State.DEPLOYED
    assert (len(house.target.accepted), house.outcomes(), house.unclosed(), house.holder()) == (1, ["deployed"], [], None)
