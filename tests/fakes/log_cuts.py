"""A tap on every call by which a sequencer reaches its authorities, so that any one of them can be cut before or after it took effect."""

from __future__ import annotations

import inspect
from collections import Counter
from contextlib import asynccontextmanager
from enum import StrEnum, unique

import trio

from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.log import OutcomeUnknown

OUTAGE_S = 30.0
"""longer than a sequencer tries a batch again, and than a caller waits for a proof"""


@unique
class Kind(StrEnum):
    """How a call is cut."""

    AWAY = "away"
    """this call fails as its authority would"""
    OUTAGE = "outage"
    """it fails, and the same authority stays away for `OUTAGE_S`"""
    KILL = "kill"
    """the process is gone: nothing leaves it any more, not even from a `finally`"""


class LogTap:
    """Counts the calls through it. `at` is (name, how many of that name came before); None cuts nothing."""

    def __init__(self, at=None, when="before", kind=Kind.KILL):
        self.at, self.when, self.kind = at, when, kind
        self.seen, self.order = Counter(), []
        self.struck = self.dead = False
        self.scope = trio.CancelScope()
        self.back_at = {}

    def around(self, name, port):
        """The port as this process sees it."""
        return _Tapped(self, name, port)

    def next(self, name, when, kind):
        """Cut the next call of this name, whenever it comes."""
        self.at, self.when, self.kind = (name, self.seen[name]), when, kind

    async def begin(self, port, name):
        await self._live(port)
        call = (name, self.seen[name])
        self.seen[name] += 1
        self.order.append(call)
        if call == self.at and self.when == "before":
            await self._strike(port, name)
        return call

    async def end(self, port, call):
        if call == self.at and self.when == "after":
            await self._strike(port, call[0])
        await self._live(port)

    async def _live(self, port):
        if self.dead:
            await self._end()
        if trio.current_time() < self.back_at.get(port, 0):
            raise Unavailable("timeout", "away")

    async def _strike(self, port, name):
        self.struck = True
        if self.kind is Kind.KILL:
            self.dead = True
            self.scope.cancel()
            await self._end()
        if self.kind is Kind.OUTAGE:
            self.back_at[port] = trio.current_time() + OUTAGE_S
        if name == "store.append_batch" and (self.when, self.kind) != ("before", Kind.AWAY):
            raise OutcomeUnknown("log-unavailable", "cut while committing")
        raise Unavailable("timeout", "cut")


    async def _end(self):
        # The process's own tasks are cancelled here; a caller of it, who lives on, finds the connection broken.
        await trio.lowlevel.checkpoint()
        raise Unavailable("killed", "the process is gone")


class _Tapped:
    def __init__(self, tap, name, port):
        self._tap, self._name, self._port = tap, name, port

    def __getattr__(self, attribute):
        found = getattr(self._port, attribute)
        name = f"{self._name}.{attribute}"
        if not inspect.iscoroutinefunction(found):
            return self._held(name, found) if callable(found) else found

        async def call(*args, **options):
            call = await self._tap.begin(self._name, name)
            try:
                result = await found(*args, **options)
            except PortError:
                await self._tap.end(self._name, call)
                raise
            await self._tap.end(self._name, call)
            return result

        return call

    def _held(self, name, found):
        """What is entered and left, such as a turn: both are calls."""

        @asynccontextmanager
        async def hold(*args):
            call = await self._tap.begin(self._name, name)
            async with found(*args) as held:
                await self._tap.end(self._name, call)
                yield held
                call = await self._tap.begin(self._name, name + " ends")
            await self._tap.end(self._name, call)

        return hold


def calls_of(name, port):
    """The names under which a tap counts the calls of a port's Protocol."""
    methods = {method: found for method, found in vars(port).items() if inspect.isfunction(found) and not method.startswith("_")}
    once = {f"{name}.{method}" for method in methods}
    return once | {f"{name}.{method} ends" for method, found in methods.items() if not inspect.iscoroutinefunction(found)}
