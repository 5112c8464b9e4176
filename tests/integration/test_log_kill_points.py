"""A process that writes the log on a real PostgreSQL, stopped at each of its durable steps; then it is killed with -9, its connections are cut, or
the server is killed with -9 and started again. Afterwards another process brings the same entries to their end, and the rows are honest."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import trio

from gatekeeper.ports.log import Appended
from gatekeeper.postgres.log_check import check_rows
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.signature import ed25519_vkey
from tests.fakes.file_vault import FileVault
from tests.fakes.honest_log import DurableLog, assert_honest, some_entry
from tests.fakes.running_log import ORIGIN

ROOT = Path(__file__).parents[2]
ENTRIES = 260
"""one batch that fills a tile"""
IN_TRANSACTION = ["await_turn_and_move_head", "add_entries", "add_tiles"]
STEPS = [(name, "after") for name in IN_TRANSACTION]  # the last one stands right before COMMIT
STEPS += [(name, when) for name in ("store.append_batch", "vault.sign", "store.save_checkpoint", "vault.write_head") for when in ("before", "after")]


class Played:
    """One database, one vault, and the processes that worked on them."""

    def __init__(self, postgres, url, directory):
        self.postgres, self.url, self.directory = postgres, url, directory

    @contextmanager
    def worker(self, first, count, *step):
        command = [sys.executable, "-m", "tests.fakes.log_worker", str(self.directory), str(first), str(count), *step]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                process.stdin.write(self.url + "\n")
                process.stdin.flush()
                yield process
            finally:
                process.kill()

    def finish(self, first, count):
        with self.worker(first, count) as process:
            ended(process)

    def cut(self):
        name = self.url.split("@/")[1].split("?")[0]
        self.postgres.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")

    def restart(self):
        self.postgres.kill()
        self.postgres.start()

    def lines(self, name):
        path = self.directory / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def acknowledged(self):
        """A line that a kill cut short was never read by anybody."""
        whole = [line for line in self.lines("acknowledged") if len(line) == 3 and len(line[2]) == 64]
        return {entry_id: (some_entry(entry_id), Appended(int(index), bytes.fromhex(leaf))) for entry_id, index, leaf in whole}

    def assert_honest(self):
        vault = FileVault(self.directory)
        key = ed25519_vkey(ORIGIN, vault.key.public_key().public_bytes_raw())
        log = asyncio.run(durable(self.url, vault))
        shown = [bytes.fromhex(note) for (note,) in self.lines("shown")]
        assert_honest(log, LogPolicy(key), signed=vault.signed, acknowledged=self.acknowledged, shown=shown)
        checked = trio.run(check_rows, self.url, key)
        assert checked.report.sound, checked.report.fault
        assert (checked.report.size, checked.beyond) == (len(log.entries), 0)
        return log


async def durable(url, vault):
    connection = await asyncpg.connect(url)
    try:
        entries = await connection.fetch("select idx, entry_id, body, leaf_hash from log_entry order by idx")
        tiles = await connection.fetch("select level, n, data from log_tile")
        notes = await connection.fetch("select note from checkpoint order by seq")
    finally:
        await connection.close()
    kept = vault.head and vault.head.note
    return DurableLog([tuple(row) for row in entries], {(level, n): data for level, n, data in tiles}, [row["note"] for row in notes], kept)


def stopped(process):
    assert process.stdout.readline() == "stopped\n", process.stderr.read()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ended(process, within=120):
    _, said = process.communicate(timeout=within)
    assert process.returncode == 0, said


@pytest.fixture
def played(postgres_server, database_url, tmp_path):
    return Played(postgres_server.postgres, database_url, tmp_path)


@pytest.mark.parametrize(("step", "when"), STEPS)
def test_kill_minus_nine_of_the_process_at_each_step(played, step, when):
    with played.worker(1, ENTRIES, step, when) as process:
        stopped(process)
        process.kill()
        process.wait()
    played.finish(1, ENTRIES)
    log = played.assert_honest()
    assert len(log.entries) == len(played.acknowledged) + 1 == ENTRIES + 1


@pytest.mark.parametrize("strike", ["cut", "restart"])
@pytest.mark.parametrize(("step", "when"), [("add_tiles", "after"), ("store.append_batch", "before"), ("store.append_batch", "after"), ("store.save_checkpoint", "after")])
def test_connections_cut_and_a_server_killed_under_the_process_at_each_step(played, strike, step, when):
    with played.worker(1, ENTRIES, step, when) as process:
        stopped(process)
        getattr(played, strike)()
        os.kill(process.pid, signal.SIGCONT)
        ended(process)
    log = played.assert_honest()
    assert len(log.entries) == len(played.acknowledged) + 1 == ENTRIES + 1


def test_of_two_replicas_at_work_one_is_killed_three_times(played):
    million = 1_000_000
    with played.worker(million, 0) as steady:
        for life in range(1, 4):
            with played.worker(2 * life * million, 0) as other:
                wait_for(lambda: sum(entry_id > f"{2 * life * million:032x}" for entry_id in played.acknowledged) > 50)  # noqa: B023 -- used at once
                other.kill()
                other.wait()
            before = len(played.acknowledged)
            wait_for(lambda: len(played.acknowledged) > before + 50)  # noqa: B023 -- used at once
        steady.kill()
        steady.wait()
    played.finish(1, 20)
    log = played.assert_honest()
    # What was committed when a replica was killed stands there, though nobody was told.
    assert len(log.entries) >= len(played.acknowledged) + 1


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
