"""Two replicas of the log, killed, cut off and started again in any order: at every moment all that was signed is one growing tree.

The machine's steps run in one trio loop in a thread of its own, whose clock only goes when a step says so.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import replace

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from gatekeeper.ports.errors import PortError
from gatekeeper.ports.log import LogStore
from gatekeeper.ports.vault import LogVault
from gatekeeper.ports.witness import WitnessLink
from gatekeeper.sequencer import Sequencer
from gatekeeper.tlog.proof import parse_proof
from tests.fakes.honest_log import assert_honest, assert_one_tree, of_fakes, some_entry
from tests.fakes.log_cuts import Kind, LogTap, calls_of
from tests.fakes.running_log import ORIGIN, TrioTime, log_key, opening
from tests.fakes.stores import FakeDatabase
from tests.fakes.vault import FakeLogVault
from tests.fakes.witnesses import FakeWitness, plan_of

CALLS = sorted(calls_of("store", LogStore) | calls_of("vault", LogVault) | calls_of("witness", WitnessLink))
REPLICAS = (0, 1)


class Loop:
    """A trio loop in a thread: `do` runs one async function in it and waits for it."""

    def __init__(self):
        self._answers = queue.SimpleQueue()
        self.clock = MockClock()
        self._thread = threading.Thread(target=trio.run, args=(self._live,), kwargs={"clock": self.clock})
        self._thread.start()
        self._token, self._send = self._answers.get(timeout=10)

    async def _live(self):
        send, receive = trio.open_memory_channel(1)
        self._answers.put((trio.lowlevel.current_trio_token(), send))
        async with trio.open_nursery() as self.nursery:
            async for work in receive:
                try:
                    self._answers.put((await work(), None))
                except BaseException as error:  # noqa: BLE001 -- it is raised where the step was asked for
                    self._answers.put((None, error))
            self.nursery.cancel_scope.cancel()

    def do(self, work):
        self._token.run_sync_soon(self._send.send_nowait, work)
        result, error = self._answers.get(timeout=60)
        if error is not None:
            raise error
        return result

    def close(self):
        self._token.run_sync_soon(self._send.close)
        self._thread.join(10)


class LogLives(RuleBasedStateMachine):
    """Replicas live, are cut and die; clients ask again until each entry is proven."""

    def __init__(self):
        super().__init__()
        self.database, self.vault, self.clock = FakeDatabase(), FakeLogVault(), TrioTime()
        self.taps, self.logs = {}, {}
        self.asked, self.proven = 0, 0
        self.acknowledged, self.shown, self.wrong = {}, [], []
        self.loop = Loop()
        self.loop.do(self._begin)

    async def _begin(self):
        key = await log_key(self.vault)
        self.plan = plan_of(key, FakeWitness("w1", [key]), FakeWitness("w2", [key]), quorum=1)
        self.clock()

    # the processes

    async def _replica(self, number, tap):
        database = self.database.replica()
        store, vault = tap.around("store", database.log(ORIGIN)), tap.around("vault", self.vault)
        plan = replace(self.plan, link=tap.around("witness", self.plan.link))
        try:
            with tap.scope:
                while True:
                    self.logs[number] = Sequencer(store, vault, opening=opening(), clock=self.clock, witnesses=plan)
                    try:
                        await self.logs[number].run()
                    except PortError as error:
                        if error.cause_code == "log-refused":
                            self.wrong.append(f"refused to start: {error}")
                            return
                        await trio.sleep(0.5)
        finally:
            database.die()
            self.taps.pop(number, None)

    @rule(number=st.sampled_from(REPLICAS))
    @precondition(lambda self: len(self.taps) < len(REPLICAS))
    def start(self, number):
        """A process starts on what is durable, unless it runs already."""
        if number not in self.taps:
            self.taps[number] = LogTap()
            self.loop.do(lambda: self._started(number))

    async def _started(self, number):
        self.loop.nursery.start_soon(self._replica, number, self.taps[number])
        await wait_all_tasks_blocked()

    @rule(number=st.sampled_from(REPLICAS))
    def kill(self, number):
        """Nothing of it goes on."""
        self.loop.do(lambda: self._killed(number))

    async def _killed(self, number):
        if number in self.taps:
            self.taps[number].dead = True
            self.taps[number].scope.cancel()
            await wait_all_tasks_blocked()

    @rule(number=st.sampled_from(REPLICAS), name=st.sampled_from(CALLS), when=st.sampled_from(["before", "after"]), kind=st.sampled_from(Kind))
    def cut(self, number, name, when, kind):
        """The next such call of it is cut."""
        if number in self.taps:
            self.taps[number].next(name, when, kind)

    # the clients

    @rule(count=st.integers(1, 200), number=st.sampled_from(REPLICAS))
    def append(self, count, number):
        """Entries are brought to one replica, and to the other one where that does not help."""
        self.loop.do(lambda: self._appended(count, number))

    async def _appended(self, count, number):
        for _ in range(count):
            self.asked += 1
            self.loop.nursery.start_soon(self._client, f"{self.asked:032x}", number)
        await wait_all_tasks_blocked()

    async def _client(self, entry_id, number):
        body = some_entry(entry_id)
        while True:
            number = 1 - number
            try:
                where = await self.logs[number].append(body, entry_id=entry_id, kind="config")
                if self.acknowledged.setdefault(entry_id, (body, where)) != (body, where):
                    self.wrong.append(f"{entry_id} stands in two places")
                proof = await self.logs[number].prove(where.index)
            except (PortError, KeyError):
                await trio.sleep(0.4)
            else:
                self.shown.append(parse_proof(proof.proof).checkpoint)
                self.proven += 1
                return

    # time

    @rule(seconds=st.sampled_from([0.02, 0.1, 0.6, 3.0, 31.0]))
    def wait(self, seconds):
        """Time passes, in steps that no deadline is skipped by."""
        self.loop.do(lambda: self._waited(seconds))

    async def _waited(self, seconds):
        left = seconds
        while left > 0:
            await wait_all_tasks_blocked()
            self.loop.clock.jump(min(left, 0.1))
            left -= 0.1
        await wait_all_tasks_blocked()

    @invariant()
    def what_was_signed_is_one_tree(self):
        """And no replica has seen anything that people would have to look into."""
        assert not self.wrong
        assert_one_tree([entry.leaf_hash for entry in self.database.log(ORIGIN).rows.entries], self.vault.signed)
        for alarm in self.loop.do(self._alarms):
            assert alarm in (None, "the sequencer is not running", "the newest checkpoint is older than 60 seconds")

    async def _alarms(self):
        return [log.alarm() for log in self.logs.values()]

    def teardown(self):
        """Everybody comes back: every entry is proven in the end."""
        try:
            for number in REPLICAS:
                self.start(number)
            for tap in list(self.taps.values()):
                tap.at = None
            for _ in range(600):
                if self.proven == self.asked:
                    break
                self.wait(0.6)
                for number in REPLICAS:
                    self.start(number)
            assert self.proven == self.asked
            self.what_was_signed_is_one_tree()
            log = of_fakes(self.database.log(ORIGIN).rows, self.vault)
            assert_honest(log, self.plan.policy, signed=self.vault.signed, acknowledged=self.acknowledged, shown=self.shown)
            assert len(log.entries) in {self.asked + 1, 0}
        finally:
            self.loop.close()


TestLogLives = LogLives.TestCase
TestLogLives.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
