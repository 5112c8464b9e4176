"""A sequencer at work over any store, and a check of everything it served."""

import secrets
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import trio

from gatekeeper.model.moment import Moment
from gatekeeper.sequencer import Sequencer
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.fsck import check_log
from gatekeeper.tlog.kinds import Cause, OriginEntry
from gatekeeper.tlog.signature import ed25519_vkey

ORIGIN = "log.example/log/2026"
START = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)


class TrioTime:
    """A clock that goes with trio's."""

    def __init__(self):
        self._offset = None

    def __call__(self):
        if self._offset is None:
            self._offset = trio.current_time()
        return START + timedelta(seconds=trio.current_time() - self._offset)


def opening(origin=ORIGIN):
    return OriginEntry(
        entry_id=secrets.token_hex(16),
        origin=origin,
        at=Moment(START),
        config=None,
        cause=Cause.FIRST,
        previous=None,
        heads=None,
        sealed_slots=4,
        tick=0,
        who=(),
        reason=None,
    )


@asynccontextmanager
async def running_log(store, vault, *, first=None, clock=None, witnesses=None):
    sequencer = Sequencer(store, vault, opening=first or opening(), clock=clock or TrioTime(), witnesses=witnesses)
    async with trio.open_nursery() as nursery:
        await nursery.start(sequencer.run)
        yield sequencer
        nursery.cancel_scope.cancel()


async def log_key(vault):
    return ed25519_vkey(ORIGIN, await vault.public_key())


async def check_served(sequencer, vault, *, older=None):
    """Fetch everything that is served, through fsck: any byte that is wrong fails."""
    view = sequencer.published()
    newest = open_checkpoint(view.note, await log_key(vault))

    async def fetch(address):
        if address.level is None:
            return await sequencer.entries(address.n, address.width)
        return await sequencer.tile(address.level, address.n, address.width)

    check = check_log(newest, older=None if older is None else open_checkpoint(older, await log_key(vault)), schema=False)
    try:
        wanted = next(check)
        while True:
            wanted = check.send(await fetch(wanted))
    except StopIteration as stop:
        report = stop.value
    assert report.sound, report.fault
    assert newest.size == view.size
    return newest
