"""The log's writer against what it must do anyway: the same rows, committed in groups by bare PostgreSQL, in the same run.

64 callers append entries of 600 bytes, each waiting for durability (fsync on). The baseline writes such rows into the same tables in batches of
64, head and entries in one transaction each, over one asyncpg connection, with nothing hashed, no queue and no crossing from trio. Half of that
is the bar.
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
from gatekeeper.postgres import migrate, open_database
from tests.bench.registry import Bar, Figure, Measured, bench
from tests.fakes.running_log import ORIGIN, running_log
from tests.fakes.vault import FakeLogVault

CALLERS = 64
SIZE = 600
RUN_S = 2.0
ROUNDS = 3
RATE = "log.append.inprocess.64"
P99 = "log.append.inprocess.64.p99"


@bench(RATE, P99)
def append_inprocess() -> list[Figure]:
    """Durable appends per second by 64 callers, and how long the slowest hundredth waits. Rounds alternate; the best round of each counts."""
    directory = Path(tempfile.mkdtemp(prefix="pingee-bench-"))
    bare: list[float] = []
    sequenced: list[tuple[float, float]] = []
    try:
        with EmbeddedPostgres(directory / "pg") as postgres:
            for number in range(ROUNDS):
                bare.append(asyncio.run(_bare(postgres.create_database(f"bare{number}"))))
                sequenced.append(trio.run(_sequenced, postgres.create_database(f"sequenced{number}")))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    bar = Bar(Measured.RATIO, at_least=0.5)
    rate, p99 = max(sequenced)
    return [Figure(RATE, rate, "entries/s", max(bare), bar), Figure(P99, p99 * 1000, "ms")]


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
    await asyncio.to_thread(trio.run, migrate, url)
    connection = await asyncpg.connect(url)
    log = await connection.fetchval("insert into log (origin) values ('bare') returning id")
    await connection.execute("insert into log_head (log, size, edge, root) values ($1, 0, '', $2)", log, bytes(32))
    body = secrets.token_bytes(SIZE)
    digest = hashlib.sha256(body).digest()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < RUN_S:
        async with connection.transaction():
            await connection.execute("update log_head set size = $2, root = $3 where log = $1", log, count + CALLERS, digest)
            await connection.execute(
                "insert into log_entry (log, kind, idx, entry_id, body, leaf_hash) "
                "select $1, 'intake', * from unnest($2::bigint[], $3::text[], $4::bytea[], $5::bytea[])",
                log,
                list(range(count, count + CALLERS)),
                [secrets.token_hex(16) for _ in range(CALLERS)],
                [body] * CALLERS,
                [digest] * CALLERS,
            )
        count += CALLERS
    took = time.perf_counter() - began
    await connection.close()
    return count / took
