"""The log's writer against what it must do anyway: the same rows, committed in groups by bare PostgreSQL, in the same run.

64 callers append entries of 600 bytes, each waiting for durability (fsync on). The baseline inserts such rows in batches of 64, in one
transaction each, over one asyncpg connection, with nothing hashed, no queue and no crossing from trio.
"""

import asyncio
import hashlib
import secrets
import shutil
import tempfile
import time
from pathlib import Path

import asyncpg
import trio

from clients.demo.postgres import EmbeddedPostgres
from gatekeeper.postgres import open_database
from tests.bench.registry import Bar, Figure, Measured, bench
from tests.fakes.running_log import ORIGIN, running_log
from tests.fakes.vault import FakeLogVault

CALLERS = 64
SIZE = 600
RUN_S = 3.0
RATE = "log.append.inprocess.64"
P99 = "log.append.inprocess.64.p99"


@bench(RATE, P99)
def append_inprocess() -> list[Figure]:
    """Durable appends per second by 64 callers, and how long the slowest hundredth waits."""
    directory = Path(tempfile.mkdtemp(prefix="pingee-bench-"))
    try:
        with EmbeddedPostgres(directory / "pg") as postgres:
            baseline = asyncio.run(_bare(postgres.create_database("bare")))
            rate, p99 = trio.run(_sequenced, postgres.create_database("sequenced"))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    bar = Bar(Measured.RATIO, at_least=0.3)
    return [Figure(RATE, rate, "entries/s", baseline, bar), Figure(P99, p99 * 1000, "ms")]


async def _sequenced(url: str) -> tuple[float, float]:
    waits: list[float] = []
    body = secrets.token_bytes(SIZE)
    async with open_database(url) as database, running_log(database.log(ORIGIN), FakeLogVault()) as log:

        async def caller() -> None:
            while time.perf_counter() < until:
                started = time.perf_counter()
                await log.append(body, entry_id=secrets.token_hex(16), kind="intake")
                waits.append(time.perf_counter() - started)

        began = time.perf_counter()
        until = began + RUN_S
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(caller)
        took = time.perf_counter() - began
    return len(waits) / took, sorted(waits)[int(len(waits) * 0.99)]


async def _bare(url: str) -> float:
    connection = await asyncpg.connect(url)
    await connection.execute("create table entry (idx bigint primary key, entry_id text unique, body bytea, leaf_hash bytea)")
    body = secrets.token_bytes(SIZE)
    digest = hashlib.sha256(body).digest()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < RUN_S:
        async with connection.transaction():
            await connection.execute(
                "insert into entry select * from unnest($1::bigint[], $2::text[], $3::bytea[], $4::bytea[])",
                list(range(count, count + CALLERS)),
                [secrets.token_hex(16) for _ in range(CALLERS)],
                [body] * CALLERS,
                [digest] * CALLERS,
            )
        count += CALLERS
    took = time.perf_counter() - began
    await connection.close()
    return count / took
