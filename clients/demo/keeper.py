"""The keeper of a demo house: builds it, keeps it standing, takes it down. Started by `pingee demo`, told to stop by SIGTERM.

It reads one JSON line, `{"database_url": URL or null}`: a URL may hold a password, so it is no argument and no variable.
It prints a JSON line for each step and `{"ready": FILE}` at the end, or `{"failed": SENTENCE}`. While it lives it renews people's tokens and the
supervisor's, and starts again what was killed. It holds a lock on the directory: two demos never share one.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import trio

from gatekeeper.bootstrap import BootstrapRefused
from gatekeeper.ports.errors import PortError

from .control import serve_control
from .git import GitFailed
from .house import House, HouseFailed, Plan
from .instance import InstancePlan
from .openbao import VaultFailed
from .ports import NoPorts
from .postgres import ServerFailed
from .processes import NotReady
from .world import write_world

REFRESH_S: Final = 240.0
"""well within the ten minutes of a run's token"""
AGAIN_S: Final = 5.0
"""after which a vault that was away is asked again"""
INSTANCES: Final = (
    InstancePlan("test", stages=(), allow_s=10),
    InstancePlan("production", stages=("commit", "acceptance"), allow_s=600, second_mode="shadow", witnessed=True),
)
"""an Allow of the test environment is short, so that a late one can be shown"""


class DirectoryBusy(RuntimeError):
    """Another demo runs there, or something else is there already."""


def lock_directory(directory: Path) -> int:
    """An open descriptor that holds the directory's lock for as long as this process lives. Raises `DirectoryBusy`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        sentence = f"another demo runs in {directory}: end it with `pingee demo --stop --dir {directory}`, or name another directory"
        raise DirectoryBusy(sentence) from None
    return descriptor


async def keep(plan: Plan) -> None:
    """Build the house and keep it until SIGTERM or SIGINT."""
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        nursery.start_soon(_stop_at_signal, nursery.cancel_scope)
        house = House(plan, stack, nursery)
        world = await house.build()
        await nursery.start(serve_control, plan.directory, house.controlled)
        file = plan.directory / "world.json"
        write_world(world, file)
        print(json.dumps({"ready": str(file)}), flush=True)
        await _keep_fresh(house)


async def _keep_fresh(house: House) -> None:
    pause = REFRESH_S
    while True:
        await trio.sleep(pause)
        try:
            await house.refresh_tokens()
            await house.renew_supervisor()
            pause = REFRESH_S
        except PortError as error:
            # A vault that was stopped is no reason to end: what it gives is asked for until it is back.
            print(f"nothing was renewed: {error}", file=sys.stderr, flush=True)
            pause = AGAIN_S


async def _stop_at_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


def main() -> int:
    """Command line of the keeper; see `clients.demo.main`."""
    parser = argparse.ArgumentParser(prog="clients.demo.keeper")
    for name in ("dir", "project", "component", "repository", "second"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    os.umask(0o077)
    given = json.loads(sys.stdin.readline())
    repository = Path(options.repository).resolve()
    second = Path(options.second).resolve()
    plan = Plan(Path(options.dir).resolve(), options.project, options.component, repository, second, INSTANCES, given["database_url"])
    ended = 0
    try:
        lock_directory(plan.directory)
        (plan.directory / "keeper.pid").write_text(f"{os.getpid()}\n")
        trio.run(keep, plan)
    except* (DirectoryBusy, HouseFailed, NoPorts, NotReady, VaultFailed, ServerFailed, GitFailed, BootstrapRefused, PortError) as group:
        print(json.dumps({"failed": _sentence(group)}), flush=True)
        ended = 1  # `return` may not stand in an except* block
    return ended


def _sentence(group: BaseExceptionGroup[BaseException]) -> str:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)


if __name__ == "__main__":
    raise SystemExit(main())
