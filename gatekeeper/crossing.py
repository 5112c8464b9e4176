"""The one crossing from trio into code that is not trio's: blocking calls (hvac) and asyncio libraries (asyncpg, asyncssh).

`in_thread` runs one blocking call in a worker thread, bounded in number by a limiter and in time by a deadline. `LoopThread` is one asyncio
event loop in one thread of its own; a whole unit of work crosses once, and a trio cancellation becomes `task.cancel()` there, waited for, so
that nothing (a transaction, a connection) is left half done behind a caller that has gone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar, TypeVarTuple

import outcome
import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CLOSE_S: Final = 10.0
"""How long closing waits for the loop's tasks to end."""

_logger = logging.getLogger(__name__)


class LoopStopped(RuntimeError):
    """The asyncio thread is not running, or it was closed while the work was under way: the outcome of the work is unknown."""


async def in_thread(fn: Callable[[*Ts], T], *args: *Ts, deadline_s: float, limiter: trio.CapacityLimiter) -> T:
    """Run `fn(*args)` in a worker thread; wait at most `deadline_s` seconds, the wait for a free thread included.

    Raises `trio.TooSlowError` at the deadline. At the deadline and on cancellation the thread is abandoned, not stopped: it keeps its
    place in the limiter until the call returns, so give every call a timeout of its own. The outcome is then unknown.
    """
    with trio.fail_after(deadline_s):
        return await trio.to_thread.run_sync(fn, *args, abandon_on_cancel=True, limiter=limiter)


class LoopThread:
    """One asyncio event loop in one dedicated thread, entered from trio. Made by `open_loop_thread`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._lock = threading.Lock()
        self._open = False
        self._pending: set[_Crossing] = set()

    async def start(self) -> None:
        """Start the thread; returns when its loop runs. Raises `LoopStopped` if it ends at once."""
        self._thread.start()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._started.wait)
        if not self._open:
            raise LoopStopped(f"{self._name} did not start")

    async def run(self, fn: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Await `fn(*args)` as a task of the asyncio loop and return or raise what it does.

        Cancelled from trio, the task is cancelled and waited for; `trio.Cancelled` follows if it ended cancelled, otherwise its result
        stands (the cancellation came too late). Raises `LoopStopped` if the loop is not running or ends first.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        work = _Crossing(fn, args)
        with self._lock:
            # Pending only what was taken: whoever is told here must not be woken by `_end` as well.
            if not self._tell(self._begin, work):
                raise LoopStopped(f"{self._name} is not running")
            self._pending.add(work)
        result: T = await trio.lowlevel.wait_task_rescheduled(partial(self._abort, work))
        return result

    async def close(self) -> None:
        """Cancel what still runs there, end the loop and join the thread; shielded from cancellation, bounded by `CLOSE_S`. Idempotent."""
        with self._lock:
            if self._stop is not None:
                self._tell(self._stop.set)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join, CLOSE_S)
        if self._thread.is_alive():
            _logger.error("asyncio thread %s did not end within %.0f s and is abandoned", self._name, CLOSE_S)
            self._end()

    def _tell(self, fn: Callable[..., object], *args: object) -> bool:
        """Have the loop call `fn`; with the lock held. False where it has ended, also before its thread has said so."""
        if not self._open or self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:  # "Event loop is closed"
            return False
        return True

    def _live(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._end()
            self._started.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._started.set()
        await self._stop.wait()
        # asyncio.run cancels and awaits every other task when this coroutine returns.

    def _end(self) -> None:
        # A call queued between the loop's last turn and its end would never begin: its caller is told here instead of waiting for ever.
        with self._lock:
            self._open = False
            left = tuple(self._pending)
        for work in left:
            self._deliver(work, outcome.Error(LoopStopped(f"{self._name} was closed")))

    def _begin(self, work: _Crossing) -> None:
        if self._stop is None or self._stop.is_set():
            return
        work.task = asyncio.get_running_loop().create_task(work.call())
        work.task.add_done_callback(partial(self._finished, work))

    def _abort(self, work: _Crossing, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        work.raise_cancel = raise_cancel
        with self._lock:
            self._tell(work.cancel)
        return trio.lowlevel.Abort.FAILED

    def _finished(self, work: _Crossing, task: asyncio.Task[Any]) -> None:
        result: outcome.Outcome[Any]
        if not task.cancelled():
            error = task.exception()
            result = outcome.Value(task.result()) if error is None else outcome.Error(error)
        elif work.raise_cancel is not None:
            result = outcome.capture(work.raise_cancel)
        else:
            result = outcome.Error(LoopStopped("the work was cancelled in asyncio"))
        self._deliver(work, result)

    def _deliver(self, work: _Crossing, result: outcome.Outcome[Any]) -> None:
        with self._lock:
            if work not in self._pending:
                return
            self._pending.remove(work)
        with suppress(trio.RunFinishedError):
            work.trio_token.run_sync_soon(trio.lowlevel.reschedule, work.trio_task, result)


class _Crossing:
    """One call on its way: made in trio, begun and finished in asyncio, delivered back into trio exactly once."""

    def __init__(self, fn: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> None:
        self._fn, self._args = fn, args
        self.trio_task = trio.lowlevel.current_task()
        self.trio_token = trio.lowlevel.current_trio_token()
        self.task: asyncio.Task[Any] | None = None
        self.raise_cancel: Callable[[], Any] | None = None

    async def call(self) -> Any:
        return await self._fn(*self._args)

    def cancel(self) -> None:
        if self.task is not None:  # None only when the loop was already stopping
            self.task.cancel()


@asynccontextmanager
async def open_loop_thread(name: str) -> AsyncIterator[LoopThread]:
    """A running `LoopThread`, closed at the end in a shielded scope. `name` is the thread's, for people who read stack dumps."""
    loop = LoopThread(name)
    await loop.start()
    try:
        yield loop
    finally:
        await loop.close()
