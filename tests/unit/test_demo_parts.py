"""Which processes are a target's, how a stopped vault is lived with, and how often a program that will not run is tried."""

import sys

import pytest
import trio
from trio.testing import MockClock

from clients.demo import keeper
from clients.demo.processes import NotReady, Supervised
from clients.demo.programs import _belongs
from clients.doorkeeper import supervise
from gatekeeper.ports.errors import Unavailable

pytestmark = pytest.mark.anyio

HOME = "/demo/targets/test"


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.mark.parametrize(
    ("argv", "ours"),
    [
        ([sys.executable, "-m", "clients.doorkeeper.host", "--dir", HOME, "--user-ca", "ca", ""], True),
        ([sys.executable, "-m", "clients.doorkeeper.cli", "--dir", HOME, "serve", "0" * 64, ""], True),
        ([sys.executable, "-I", "-S", supervise.__file__, f"{HOME}/log/hello.log", "4096", "out/greeter", ""], True),
        ([sys.executable, "-m", "clients.doorkeeper.host", "--dir", f"{HOME}-2", "--user-ca", "ca", ""], False),
        ([sys.executable, "-I", "-S", supervise.__file__, f"{HOME}-2/log/hello.log", "4096", ""], False),
        (["tail", "-f", "-n", "3", f"{HOME}/lib/record.jsonl", ""], False),
        (["vim", f"{HOME}/etc/target.toml", ""], False),
        ([sys.executable, "-m", "clients.demo.keeper", "--dir", "/demo", ""], False),
        ([""], False),
    ],
)
def test_a_killed_target_takes_its_own_processes_with_it_and_nobody_elses(argv, ours):
    assert _belongs(argv, HOME) is ours


class House:
    """The vault is away for so many calls."""

    def __init__(self, away):
        self.away, self.at = away, []

    async def refresh_tokens(self):
        self.at.append(trio.current_time())
        if self.away:
            self.away -= 1
            raise Unavailable("vault-unavailable", "connection refused")

    async def renew_supervisor(self):
        await trio.lowlevel.checkpoint()


async def test_tokens_are_asked_for_again_soon_while_the_vault_is_stopped(capsys):
    house = House(away=2)
    began = trio.current_time()
    with trio.move_on_after(keeper.REFRESH_S * 2 + 60):
        await keeper._keep_fresh(house)
    soon = keeper.REFRESH_S + keeper.AGAIN_S
    assert [round(at - began) for at in house.at] == [keeper.REFRESH_S, soon, soon + keeper.AGAIN_S, 2 * keeper.REFRESH_S + 2 * keeper.AGAIN_S]
    assert capsys.readouterr().err == 2 * "nothing was renewed: vault-unavailable: connection refused\n"


class NeverRuns:
    """Ends as soon as it is launched."""

    name = "vault"

    def __init__(self):
        self.launches = []

    def runs(self):
        return False

    async def launch(self):
        self.launches.append(trio.current_time())

    async def ready(self):
        raise NotReady("vault does not answer")

    async def end(self):
        await trio.lowlevel.checkpoint()

    async def kill(self):
        raise AssertionError("nothing to kill")


async def test_a_program_that_ends_at_once_is_tried_ever_more_slowly(capsys):
    program = NeverRuns()
    part = Supervised(program)
    with pytest.raises(NotReady, match="does not answer"):
        await part.start()
    with trio.move_on_after(60):
        await part.run()
    gaps = [later - earlier for earlier, later in zip(program.launches, program.launches[1:], strict=False)]
    assert gaps[0] < 0.5
    assert all(2.0 <= gap < 2.2 for gap in gaps[6:])
    assert len(gaps) < 40


async def test_a_part_that_was_stopped_is_not_tried():
    program = NeverRuns()
    part = Supervised(program)
    with pytest.raises(NotReady):
        await part.start()
    await part.stop()
    with trio.move_on_after(60):
        await part.run()
    assert len(program.launches) == 1
