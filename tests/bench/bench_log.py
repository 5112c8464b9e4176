"""The log's writer against what it must do anyway: the same rows, committed in groups by bare PostgreSQL, in the same run.

Callers append entries of 600 bytes, each waiting for durability (fsync on). The baseline writes such rows into the same tables in batches of as
many as there are callers, head and entries in one transaction each, over one asyncpg connection, with nothing hashed, no queue and no crossing
from trio. Beside it, for comparison, the chain that many would write first: each entry in a transaction of its own that locks the head's row.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import trio

from clients.demo.postgres import EmbeddedPostgres
from gatekeeper.postgres import migrate, open_database
from tests.bench.registry import Bar, Figure, Measured, bench
from tests.fakes.running_log import ORIGIN, running_log
from tests.fakes.vault import FakeLogVault

SIZE = 600
RUN_S = 1.5
ROUNDS = 3
CALLERS = (1, 16, 64)
RATE, LOCKED, P99 = "log.append.inprocess", "log.append.rowlocked", "log.append.latency_p99_ms.at_1000"
ENOUGH = Bar(Measured.RATIO, at_least=0.5, otherwise=Bar(Measured.VALUE, at_least=8000))
CHAIN_WRITERS = 16
PER_SECOND, STEADY_S = 1000, 5.0


@bench(*(f"{RATE}.{callers}" for callers in CALLERS), LOCKED)
def append_inprocess() -> list[Figure]:
    """Durable appends per second. Rounds alternate with the bare cost, so that a noisy neighbour disturbs both; the best round of each counts."""
    bare: dict[int, list[float]] = {callers: [] for callers in CALLERS}
    ours: dict[int, list[float]] = {callers: [] for callers in CALLERS}
    with a_server() as postgres:
        for number in range(ROUNDS):
            for callers in CALLERS:
                bare[callers].append(asyncio.run(_bare(postgres.create_database(f"bare{number}_{callers}"), callers)))
                ours[callers].append(trio.run(_sequenced, postgres.create_database(f"ours{number}_{callers}"), callers))
        chain = asyncio.run(_row_locked(postgres.create_database("chain")))
    bars = {64: ENOUGH}
    rates = [Figure(f"{RATE}.{callers}", max(ours[callers]), "entries/s", max(bare[callers]), bars.get(callers)) for callers in CALLERS]
    return [*rates, Figure(LOCKED, chain, "entries/s", max(bare[1]))]


@bench(P99)
def latency_at_a_steady_rate() -> list[Figure]:
    """A thousand entries a second, each counted from the moment it was due; beside it a bare commit of one row at a time."""
    with a_server() as postgres:
        waits = trio.run(_steady, postgres.create_database("steady"))
        bare = asyncio.run(_single_commits(postgres.create_database("bare")))
    return [Figure(P99, p99(waits) * 1000, "ms", p99(bare) * 1000, Bar(Measured.VALUE, at_most=50))]


def p99(times: list[float]) -> float:
    """The time within which 99 of a hundred were done."""
    return statistics.quantiles(times, n=100)[98]


@contextmanager
def a_server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="pingee-bench-"))
    try:
        with EmbeddedPostgres(directory / "pg") as postgres:
            yield postgres
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _sequenced(url: str, callers: int) -> float:
    count, body = 0, secrets.token_bytes(SIZE)
    async with open_database(url) as database, running_log(database.log(ORIGIN), FakeLogVault()) as log:

        async def caller() -> None:
            nonlocal count
            while time.perf_counter() < until:
                await log.append(body, entry_id=secrets.token_hex(16), kind="intake")
                count += 1

        began = time.perf_counter()
        until = began + RUN_S
        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                nursery.start_soon(caller)
        return count / (time.perf_counter() - began)


async def _steady(url: str) -> list[float]:
    waits: list[float] = []
    body = secrets.token_bytes(SIZE)
    async with open_database(url) as database, running_log(database.log(ORIGIN), FakeLogVault()) as log:

        async def one(due: float) -> None:
            await log.append(body, entry_id=secrets.token_hex(16), kind="intake")
            waits.append(trio.current_time() - due)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(int(PER_SECOND * STEADY_S)):
                due = began + number / PER_SECOND
                await trio.sleep_until(due)
                nursery.start_soon(one, due)
    return waits


async def _bare(url: str, batch: int) -> float:
    log = await _prepared(url)
    connection = await asyncpg.connect(url)
    body = secrets.token_bytes(SIZE)
    digest = hashlib.sha256(body).digest()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < RUN_S:
        await _commit(connection, log, count, [body] * batch, digest)
        count += batch
    took = time.perf_counter() - began
    await connection.close()
    return count / took


async def _single_commits(url: str) -> list[float]:
    log = await _prepared(url)
    connection = await asyncpg.connect(url)
    body, times = secrets.token_bytes(SIZE), []
    for number in range(1000):
        began = time.perf_counter()
        await _commit(connection, log, number, [body], hashlib.sha256(body).digest())
        times.append(time.perf_counter() - began)
    await connection.close()
    return times


async def _row_locked(url: str) -> float:
    log = await _prepared(url)
    body = secrets.token_bytes(SIZE)
    began, count = time.perf_counter(), 0

    async def writer() -> None:
        nonlocal count
        connection = await asyncpg.connect(url)
        while time.perf_counter() - began < RUN_S:
            async with connection.transaction():
                head = await connection.fetchrow("select size, root from log_head where log = $1 for update", log)
                await _write(connection, log, head["size"], [body], hashlib.sha256(head["root"] + body).digest())
            count += 1
        await connection.close()

    await asyncio.gather(*(writer() for _ in range(CHAIN_WRITERS)))
    return count / (time.perf_counter() - began)


async def _prepared(url: str) -> int:
    await asyncio.to_thread(trio.run, migrate, url)
    connection = await asyncpg.connect(url)
    log: int = await connection.fetchval("insert into log (origin) values ('bare') returning id")
    await connection.execute("insert into log_head (log, size, edge, root) values ($1, 0, '', $2)", log, bytes(32))
    await connection.close()
    return log


async def _commit(connection: asyncpg.Connection, log: int, size: int, bodies: list[bytes], digest: bytes) -> None:
    async with connection.transaction():
        await _write(connection, log, size, bodies, digest)


async def _write(connection: asyncpg.Connection, log: int, size: int, bodies: list[bytes], digest: bytes) -> None:
    await connection.execute("update log_head set size = $2, root = $3 where log = $1", log, size + len(bodies), digest)
    await connection.execute(
        "insert into log_entry (log, kind, idx, entry_id, body, leaf_hash) "
        "select $1, 'intake', * from unnest($2::bigint[], $3::text[], $4::bytea[], $5::bytea[])",
        log,
        list(range(size, size + len(bodies))),
        [secrets.token_hex(16) for _ in bodies],
        bodies,
        [digest] * len(bodies),
    )
