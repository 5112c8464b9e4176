"""What verification costs a decision, and everybody else in the process while it goes on."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from unittest import mock

import trio

from gatekeeper.deploy.decide import judge
from gatekeeper.deploy.facts import Facts
from gatekeeper.model.decision import Verdict
from gatekeeper.ports.pings import Ping
from tests.bench.bench_verify import public_bundles, under_a_run
from tests.bench.registry import Bar, Figure, Measured, bench
from tests.fakes.house import House
from tests.fakes.public_keys import Counted

WARM, LAG = "verify.warm.pubkey_ops", "verify.loop_lag_p99_ms"
AT_ONCE = 8
RUN_S = 5.0
TICK_S = 0.002


@bench(WARM)
def warm_operations() -> list[Figure]:
    """Public-key operations of a second decision on the same artifact, beside those of the first."""
    return [trio.run(_warm)]


@bench(LAG)
def loop_lag() -> list[Figure]:
    """How late a task wakes that asked to sleep for two milliseconds, while eight others have a bundle verified, again and again, as the intake and a
    decision do; beside it, with nothing under way. Half of them verify sigstore's bundles, which take longest, where the corpora are there.
    """
    return [trio.run(_lag)]


async def _warm() -> Figure:
    house, ping = await _house()
    cold, warm = Counted(), Counted()
    for counted in (cold, warm):
        async with _counting(counted):
            await _allowed(house, ping, house.parts.facts)
    if not cold.total:
        raise RuntimeError("a count that sees nothing of the first decision says nothing of the second")
    return Figure(WARM, warm.total, "operations", cold.total, Bar(Measured.VALUE, at_most=0))


@asynccontextmanager
async def _counting(counted: Counted) -> AsyncIterator[None]:
    """Count in this thread and in every thread that work is handed to."""
    run_sync = trio.to_thread.run_sync

    async def counting(function: Callable[..., object], *args: object, **options: object) -> object:
        return await run_sync(lambda: counted.within(lambda: function(*args)), **options)

    with mock.patch.object(trio.to_thread, "run_sync", counting), counted.here():
        yield


async def _lag() -> Figure:
    idle: list[float] = []
    busy: list[float] = []
    await _watched(idle, RUN_S / 5)
    facts, works = Facts(), [under_a_run(), public_bundles() or under_a_run()]

    async def verify_on(ours: Callable[[], object], deciding: bool) -> None:
        while True:
            await facts.in_thread(ours, deciding=deciding)

    async with trio.open_nursery() as nursery:
        for number in range(AT_ONCE):
            nursery.start_soon(verify_on, works[number % 2].ours, number < AT_ONCE // 2)
        await trio.sleep(0.2)
        await _watched(busy, RUN_S)
        nursery.cancel_scope.cancel()
    return Figure(LAG, _p99_ms(busy), "ms", _p99_ms(idle), Bar(Measured.VALUE, at_most=20))


async def _watched(lags: list[float], seconds: float) -> None:
    until = trio.current_time() + seconds
    while (due := trio.current_time() + TICK_S) < until:
        await trio.sleep_until(due)
        lags.append(trio.current_time() - due)


def _p99_ms(lags: list[float]) -> float:
    return statistics.quantiles(lags, n=100)[98] * 1000


async def _house() -> tuple[House, Ping]:
    house = House()
    return house, await house.ping(await house.bring())


async def _allowed(house: House, ping: Ping, facts: Facts) -> None:
    decision = (await judge(replace(house.parts, facts=facts), ping)).decision
    if decision.verdict is not Verdict.ALLOW:
        raise RuntimeError(f"a decision that is not made whole is no decision to measure: {decision.reasons}")
