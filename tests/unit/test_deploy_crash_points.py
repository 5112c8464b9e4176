"""A deploy that is cut short before and after every call that leaves the process, and is then brought to its end by another process.

Three ways of being cut: the process is killed and nothing of it runs any more; the authority called is away, and whether it did what was asked
is unknown; the process is told to stop. Whatever was cut, one Allow stands in the log with one outcome, the target accepted one receipt, the
lock is free and every credential that was used is ended.
"""

import pytest
import trio

from gatekeeper.model.ping import State
from gatekeeper.ports.errors import PortError
from tests.fakes.house import NEW_COMMIT, House, Killed, Tap, _verify_inline, anyio_backend  # noqa: F401

pytestmark = pytest.mark.anyio

CUTS = [(kind, when) for kind in ("kill", "away", "cancel") for when in ("before", "after")]


async def second_deploy():
    """A house where version 1 runs and version 2 is pinged: the target remembers a checkpoint, so a stale answer is part of the way."""
    house = House()
    await house.deployed()
    ping = await house.ping(await house.bring("2", commit=NEW_COMMIT), commit=NEW_COMMIT)
    return house, ping


async def one_life(house, ping, tap):
    """One process works on the ping until it stops for whatever reason."""
    with trio.CancelScope() as tap.scope:
        try:
            await house.step(ping, house.tapped(tap))
        except PortError:
            return
        except (Killed, BaseExceptionGroup) as error:
            if isinstance(error, Killed) or error.split(Killed)[1] is None:
                return
            raise


def wrongs(house, ping, ended, *, deploys):
    """What does not hold after the end; empty is good."""
    found = list(house.violations)
    if ended.state is not State.DEPLOYED:
        found.append(f"ended {ended.state} {ended.reasons} {ended.detail}")
    if len(house.target.accepted) != deploys:
        found.append(f"the target accepted {len(house.target.accepted)} receipts")
    if house.unclosed():
        found.append(f"Allows without exactly one outcome: {house.unclosed()} of {house.allows()}")
    if house.outcomes().count("deployed") != deploys:
        found.append(f"outcomes {house.outcomes()}")
    if house.holder() is not None:
        found.append("the lock is held")
    if house.used_credentials():
        found.append("a used credential lives")
    if house.unnamed():
        found.append(f"certificates that no outcome names: {house.unnamed()}")
    if ended.leases:
        found.append("the row still names certificates")
    if ended.accessor is not None or ended.draft is not None or ended.fence is not None:
        found.append("the row still names a credential, draft or fence")
    if [row.ping_id for row in house.database.state.deployments.values()].count(ping.id) != 1:
        found.append("not one deployment record")
    return found


@pytest.mark.parametrize(("kind", "when"), CUTS)
async def test_a_deploy_cut_at_any_call_ends_deployed_once(kind, when):
    house, ping = await second_deploy()
    whole = Tap()
    await house.step(ping, house.tapped(whole))
    calls = sorted(set(whole.order))
    assert len(calls) > 40
    assert not wrongs(house, ping, await house.read(ping), deploys=2)
    broken = {}
    for at in calls:
        house, ping = await second_deploy()
        tap = Tap(at=at, when=when, kind=kind)
        await one_life(house, ping, tap)
        assert tap.struck, at
        ended = await house.to_the_end(ping)
        if found := wrongs(house, ping, ended, deploys=2):
            broken[at] = found
    assert not broken
