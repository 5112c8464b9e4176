import asyncio
import gc
import threading
import time

import pytest
import trio

from gatekeeper.crossing import LoopStopped, LoopThread, _Crossing, in_thread, open_loop_thread

pytestmark = pytest.mark.anyio


async def test_a_thread_call_returns_and_raises_what_the_function_does():
    limiter = trio.CapacityLimiter(1)
    assert await in_thread(lambda a, b: a + b, 2, 3, deadline_s=5, limiter=limiter) == 5
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, deadline_s=5, limiter=limiter)


async def test_a_thread_call_past_its_deadline_is_abandoned_and_keeps_its_place():
    limiter = trio.CapacityLimiter(1)
    gate = threading.Event()
    try:
        with pytest.raises(trio.TooSlowError):
            await in_thread(gate.wait, 10, deadline_s=0.05, limiter=limiter)
        assert limiter.borrowed_tokens == 1
        with pytest.raises(trio.TooSlowError):
            await in_thread(gate.is_set, deadline_s=0.05, limiter=limiter)
    finally:
        gate.set()
    with trio.fail_after(5):
        async with limiter:
            pass


async def _name():
    await asyncio.sleep(0)
    return threading.current_thread().name


async def test_work_runs_in_the_named_thread_and_its_result_and_error_come_back():
    async def fail(word):
        raise KeyError(word)

    async with open_loop_thread("loop-a") as loop:
        assert await loop.run(_name) == "loop-a"
        with pytest.raises(KeyError, match="door"):
            await loop.run(fail, "door")


async def test_many_tasks_share_one_loop_at_once():
    meeting: asyncio.Event | None = None
    there = 0

    async def meet():
        nonlocal meeting, there
        meeting = meeting or asyncio.Event()
        there += 1
        if there == 20:
            meeting.set()
        await asyncio.wait_for(meeting.wait(), 5)

    async with open_loop_thread("loop-b") as loop, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(loop.run, meet)
    assert there == 20


async def test_cancelling_in_trio_cancels_and_waits_for_the_task():
    begun, undone = threading.Event(), []

    async def work():
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            undone.append("rolled back")

    async with open_loop_thread("loop-c") as loop:
        with trio.move_on_after(60) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(loop.run, work)
                await trio.to_thread.run_sync(begun.wait)
                scope.cancel()
        assert scope.cancelled_caught
        assert undone == ["rolled back"]
        assert await loop.run(_name) == "loop-c"


async def test_a_cancellation_that_comes_too_late_leaves_the_result():
    begun = threading.Event()

    async def stubborn():
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "committed"

    results = []
    async with open_loop_thread("loop-d") as loop:

        async def call():
            results.append(await loop.run(stubborn))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
    assert results == ["committed"]


async def test_closing_ends_work_under_way_with_loop_stopped():
    begun, seen = threading.Event(), []

    async def work():
        begun.set()
        await asyncio.sleep(60)

    loop = LoopThread("loop-e")
    await loop.start()

    async def call():
        try:
            await loop.run(work)
        except LoopStopped as error:
            seen.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.to_thread.run_sync(begun.wait)
        await loop.close()
    assert len(seen) == 1
    assert not any(t.name == "loop-e" for t in threading.enumerate())
    with pytest.raises(LoopStopped):
        await loop.run(_name)
    await loop.close()


async def test_closing_is_shielded_and_callers_that_race_it_never_hang():
    seen = []
    loop = LoopThread("loop-f")
    await loop.start()

    async def call():
        try:
            seen.append(await loop.run(_name))
        except LoopStopped:
            seen.append("stopped")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for n in range(200):
                nursery.start_soon(call)
                if n == 100:
                    nursery.start_soon(loop.close)
    assert len(seen) == 200
    with trio.CancelScope() as scope:
        scope.cancel()
        await loop.close()
    gc.collect()


async def test_the_caller_is_not_cancelled_by_an_asyncio_cancellation_it_did_not_ask_for():
    async def cancels_itself():
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    async with open_loop_thread("loop-g") as loop:
        with pytest.raises(LoopStopped):
            await loop.run(cancels_itself)


async def test_a_crossing_is_cheap():
    async with open_loop_thread("loop-h") as loop:
        started = time.perf_counter()
        for _ in range(100):
            await loop.run(_name)
        assert time.perf_counter() - started < 5


async def test_a_loop_that_is_closed_before_its_thread_says_so_is_stopped():
    """Between the loop's end and the thread's word about it a call is told at once, and is not among those that are told later."""
    loop = LoopThread("loop-h")
    await loop.start()
    await loop.close()
    loop._open = True
    with pytest.raises(LoopStopped, match="loop-h is not running"):
        await loop.run(_name)
    assert not loop._pending
    assert loop._abort(_Crossing(_name, ()), lambda: None) is trio.lowlevel.Abort.FAILED
    await loop.close()
