"""Writers and verifying readers at once on a real PostgreSQL: each reader believes nothing but what follows from what it was shown before."""

import asyncio
import random
import secrets
import statistics
import sys

import pytest
import trio

from gatekeeper.postgres import open_database
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.consistency import parse_growth, verify_growth
from gatekeeper.tlog.merkle import verify_inclusion
from gatekeeper.tlog.proof import parse_proof
from tests.fakes.honest_log import assert_honest, some_entry
from tests.fakes.running_log import ORIGIN, check_served, log_key, running_log
from tests.fakes.vault import FakeLogVault
from tests.fakes.witnesses import FakeWitness, plan_of
from tests.integration.test_log_kill_points import durable

pytestmark = pytest.mark.anyio
RUN_S = 4.0
WRITERS, READERS = 16, 4


class Hammer:
    """What was acknowledged and shown, and how long it took."""

    def __init__(self, vault, key):
        self.vault, self.key = vault, key
        self.acknowledged, self.shown = {}, []
        self.appending, self.proving = [], []

    async def write(self, log, until):
        while trio.current_time() < until:
            entry_id = secrets.token_hex(16)
            body = some_entry(entry_id)
            began = trio.current_time()
            where = await log.append(body, entry_id=entry_id, kind="config")
            self.appending.append(trio.current_time() - began)
            self.acknowledged[entry_id] = (body, where)

    async def read(self, log, until):
        known = None
        while trio.current_time() < until:
            places = list(self.acknowledged.values())[-500:]
            if not places:
                await trio.sleep(0.01)
                continue
            _, where = random.choice(places)
            began = trio.current_time()
            inclusion = await log.prove(where.index, old_size=known.size if known else 0)
            self.proving.append(trio.current_time() - began)
            proof = parse_proof(inclusion.proof)
            checkpoint = open_checkpoint(proof.checkpoint, self.key)
            verify_inclusion(where.leaf_hash, where.index, checkpoint.size, proof.path, checkpoint.root)
            verify_growth(known.checkpoint if known else None, parse_growth(inclusion.growth), checkpoint)
            known = checkpoint
            self.shown.append(proof.checkpoint)
            await trio.sleep(0.005)  # a proof out of memory gives nobody else a turn


async def test_writers_and_verifying_readers_on_two_replicas(database_url):
    vault = FakeLogVault()
    key = await log_key(vault)
    plan = plan_of(key, FakeWitness("w1", [key]), FakeWitness("w2", [key]))
    hammer = Hammer(vault, key)
    async with (
        open_database(database_url) as a, open_database(database_url) as b,
        running_log(a.log(ORIGIN), vault, witnesses=plan) as one, running_log(b.log(ORIGIN), vault, witnesses=plan) as two,
    ):  # fmt: skip
        until = trio.current_time() + RUN_S
        async with trio.open_nursery() as nursery:
            for log in (one, two):
                for _ in range(WRITERS // 2):
                    nursery.start_soon(hammer.write, log, until)
                for _ in range(READERS // 2):
                    nursery.start_soon(hammer.read, log, until)
        last = max(where.index for _, where in hammer.acknowledged.values())
        for log in (one, two):
            await log.prove(last)
            assert log.alarm() is None
            await check_served(log, vault, older=hammer.shown[0])
    rows = await trio.to_thread.run_sync(lambda: asyncio.run(durable(database_url, vault)))
    assert_honest(rows, plan.policy, signed=vault.signed, acknowledged=hammer.acknowledged, shown=hammer.shown)
    assert len(rows.entries) == len(hammer.acknowledged) + 1 == last + 1
    assert len(hammer.shown) > READERS
    slowest = [statistics.quantiles(times, n=100)[98] for times in (hammer.appending, hammer.proving)]
    sys.stdout.write(f"{len(hammer.acknowledged) / RUN_S:.0f} entries/s; p99: acknowledged {slowest[0]:.3f} s, witnessed proof {slowest[1]:.3f} s\n")
