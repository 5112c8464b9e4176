"""A process with a real database and one replica of the log, which stops itself at one step so that a test can do to it what it likes.

    log_worker.py DIRECTORY FIRST COUNT [STEP before|after]

It appends COUNT entries whose ids begin at FIRST, all at once, and proves each; what was acknowledged stands in DIRECTORY/acknowledged, a line
each. The URL of the database is the first line of its input. At the STEP it writes "stopped" and stops by SIGSTOP. With a COUNT of 0 it goes on for ever. It starts again what fails, as a supervisor does.
"""

import os
import signal
import sys
from pathlib import Path

import trio

from gatekeeper.ports.errors import PortError
from gatekeeper.postgres import open_database
from gatekeeper.postgres.bridge import Unit
from gatekeeper.sequencer import Sequencer
from gatekeeper.tlog.proof import parse_proof
from tests.fakes.file_vault import FileVault
from tests.fakes.honest_log import some_entry
from tests.fakes.log_cuts import LogTap
from tests.fakes.running_log import ORIGIN, TrioTime, opening

AT_ONCE = 16


class Stop:
    """Where this process stops, once."""

    def __init__(self, step=None, when="before"):
        self.step, self.when = step, when
        self.armed = False
        """not before the log is open: its first entry is written in the same steps"""

    def here(self, step, when):
        if self.armed and (step, when) == (self.step, self.when):
            self.step = None
            sys.stdout.write("stopped\n")
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGSTOP)


class StoppingTap(LogTap):
    """As `LogTap`, but a call at the step stops the process before or after it, and then goes on."""

    def __init__(self, stop):
        super().__init__()
        self._stop = stop

    async def begin(self, port, name):
        self._stop.here(name, "before")
        return await super().begin(port, name)

    async def end(self, port, call):
        self._stop.here(call[0], "after")
        await super().end(port, call)


def stop_in_transactions(stop):
    """Statements are steps too, by the name of their query: after the last one comes COMMIT."""
    run = Unit.run

    async def stopping(self, query, /, **values):
        stop.here(query.name, "before")
        done = await run(self, query, **values)
        stop.here(query.name, "after")
        return done

    Unit.run = stopping


class Worker:
    def __init__(self, url, directory, stop):
        self.url, self.directory, self.stop = url, directory, stop
        self.log = None

    async def replica(self):
        while True:
            try:
                async with open_database(self.url) as database:
                    tap, clock = StoppingTap(self.stop), TrioTime()
                    store, vault = tap.around("store", database.log(ORIGIN)), tap.around("vault", FileVault(self.directory))
                    self.log = Sequencer(store, vault, opening=opening(), clock=clock)
                    async with trio.open_nursery() as nursery:
                        await nursery.start(self.log.run)
                        self.stop.armed = True
            except* PortError as group:
                if any(error.cause_code == "log-refused" for error in group.exceptions):
                    raise
                await trio.sleep(0.1)

    async def client(self, numbers):
        for number in numbers:
            entry_id = f"{number:032x}"
            body = some_entry(entry_id)
            while True:
                try:
                    where = await self.log.append(body, entry_id=entry_id, kind="config")
                    self.note("acknowledged", f"{entry_id} {where.index} {where.leaf_hash.hex()}")
                    proof = await self.log.prove(where.index)
                    break
                except (PortError, AttributeError):
                    await trio.sleep(0.05)
            self.note("shown", parse_proof(proof.proof).checkpoint.hex())

    def note(self, name, line):
        with (self.directory / name).open("a") as file:
            file.write(line + "\n")

    async def run(self, first, count):
        async with trio.open_nursery() as replicas:
            replicas.start_soon(self.replica)
            async with trio.open_nursery() as clients:
                for number in range(count or AT_ONCE):
                    clients.start_soon(self.client, [first + number] if count else range(first + number, first + 10**9, AT_ONCE))
            replicas.cancel_scope.cancel()


if __name__ == "__main__":
    directory, first, count, *step = sys.argv[1:]
    stop = Stop(*step)
    stop_in_transactions(stop)
    trio.run(Worker(sys.stdin.readline().strip(), Path(directory), stop).run, int(first), int(count))
