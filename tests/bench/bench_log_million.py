"""A log of a million entries beside one of ten thousand: the whole check of the large one, and what reading costs in it.

Both are made once, by COPY, in a PostgreSQL of their own under `${XDG_CACHE_HOME:-~/.cache}/pingee-bench`; nothing is written to them afterwards.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.demo.postgres import EmbeddedPostgres
from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import Moment
from gatekeeper.postgres import migrate, open_database
from gatekeeper.sequencer.tree import TreeReader
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint
from gatekeeper.tlog.entry import ConfigEntry, encode_entry
from gatekeeper.tlog.merkle import leaf_hash, nodes_for_inclusion, prove_inclusion
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note, encode_vkey
from gatekeeper.tlog.tile import TILE_WIDTH, TileEdge
from tests.bench.bench_log import p99
from tests.bench.registry import Bar, Figure, Measured, bench
from tests.fakes.running_log import START, opening

FORMAT = "log-1"
"""Another name where the rows below or the schema's tables of the log change."""
LARGE, SMALL = 1_000_000, 10_000
CHUNK = 8192
SECONDS, RSS, GROWTH = "log.fsck.million_s", "log.fsck.rss_mib", "log.read.growth"
READS = 1500
ROOT = Path(__file__).parents[2]
_KEY = Ed25519PrivateKey.from_private_bytes(b"benchmarks sign with no secret..")


@bench(SECONDS, RSS)
def fsck_of_a_million() -> list[Figure]:
    """`check_rows` in a process pinned to one processor, with its largest resident size; beside it the
    reading and hashing of each row alone, and the memory of the same check of the small log."""
    with seeded() as url:
        bare, large, small = _checked(url, LARGE, "bare"), _checked(url, LARGE), _checked(url, SMALL)
    return [
        Figure(SECONDS, large["seconds"], "s", bare["seconds"], Bar(Measured.VALUE, at_most=60)),
        Figure(RSS, large["rss_mib"], "MiB", small["rss_mib"], Bar(Measured.RATIO, at_most=1.5)),
    ]


@bench(GROWTH)
def reading() -> list[Figure]:
    """p99 in the large log over p99 in the small one, of proofs, tiles and bundles: the worst of the three. Each read finds the memory empty, as
    the tiles that it keeps would flatter the small log."""
    with seeded() as url:
        ratio = trio.run(_growth, url)
    return [Figure(GROWTH, ratio, "times", None, Bar(Measured.VALUE, at_most=2.0))]


def origin_of(size: int) -> str:
    return f"bench.example/log/{size}"


def _checked(url: str, size: int, *how: str) -> dict[str, float]:
    key = ed25519_vkey(origin_of(size), _KEY.public_key().public_bytes_raw())
    command = [sys.executable, "-m", "tests.bench.check_rows", encode_vkey(key), str(size), *how]
    done = subprocess.run(command, cwd=ROOT, input=url + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the check of {size} entries failed: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def _growth(url: str) -> float:
    async with open_database(url) as database:
        times: dict[int, list[list[float]]] = {size: [[], [], []] for size in (SMALL, LARGE)}
        stores = {size: database.log(origin_of(size)) for size in times}
        edges = {}
        for size, store in stores.items():
            await store.load_head()
            edges[size] = await TreeReader(store).rebuild(size)
        chosen = random.Random(0)
        # In turns, so that a noisy neighbour disturbs both.
        for _ in range(READS):
            for size, store in stores.items():
                index, edge = chosen.randrange(size), edges[size]
                reader = TreeReader(store)
                reads: list[Callable[[], Awaitable[object]]] = [
                    lambda reader=reader, edge=edge, index=index: _proof(reader, edge, index),  # type: ignore[misc]
                    lambda reader=reader, edge=edge, n=index % (size // TILE_WIDTH): reader.tile(edge, 0, n),  # type: ignore[misc]
                    lambda reader=reader, edge=edge, n=index % (size // TILE_WIDTH): reader.bundle(edge, n),  # type: ignore[misc]
                ]
                for kind, read in enumerate(reads):
                    began = time.perf_counter()
                    await read()
                    times[size][kind].append(time.perf_counter() - began)
        return max(p99(large) / p99(small) for large, small in zip(times[LARGE], times[SMALL], strict=True))


async def _proof(reader: TreeReader, edge: TileEdge, index: int) -> tuple[bytes, ...]:
    nodes = await reader.nodes(edge, nodes_for_inclusion(index, edge.size))
    return tuple(prove_inclusion(index, edge.size, lambda level, n: nodes[level, n]))


# the two logs


@contextmanager
def seeded() -> Iterator[str]:
    """The URL of the database with both logs; made where it is not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pingee-bench"
    directory = cache / FORMAT
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{FORMAT}.lock").open("w") as lock:
        # Two servers over one directory would be one too many: a second run waits for the first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make(cache, directory)
        with EmbeddedPostgres(directory) as postgres:
            yield postgres.url("bench")


def _make(cache: Path, directory: Path) -> None:
    if not directory.exists():
        making = cache / f"{FORMAT}.{os.getpid()}"
        print(f"making {directory}: once, about a minute", file=sys.stderr)
        try:
            with EmbeddedPostgres(making) as postgres:
                asyncio.run(_seed(postgres.create_database("bench")))
            making.rename(directory)
        finally:
            shutil.rmtree(making, ignore_errors=True)


async def _seed(url: str) -> None:
    await asyncio.to_thread(trio.run, migrate, url)
    connection = await asyncpg.connect(url)
    for size in (SMALL, LARGE):
        await _seed_log(connection, size)
    await connection.execute("vacuum (analyze, freeze)")
    await connection.execute("checkpoint")
    await connection.close()


async def _seed_log(connection: asyncpg.Connection, size: int) -> None:
    log = await connection.fetchval("insert into log (origin) values ($1) returning id", origin_of(size))
    bodies, edge = _bodies(size), TileEdge()
    while edge.size < size:
        some = [next(bodies) for _ in range(min(CHUNK, size - edge.size))]
        leaves = [leaf_hash(body) for _, body in some]
        rows = [(log, edge.size + at, "config", entry_id, body, leaf) for at, ((entry_id, body), leaf) in enumerate(zip(some, leaves, strict=True))]
        edge, full = edge.extend(leaves)
        await connection.copy_records_to_table("log_entry", records=rows, columns=("log", "idx", "kind", "entry_id", "body", "leaf_hash"))
        tiles = [(log, tile.address.level, tile.address.n, tile.data) for tile in full]
        await connection.copy_records_to_table("log_tile", records=tiles, columns=("log", "level", "n", "data"))
    head = edge.range()
    await connection.execute("insert into log_head (log, size, edge, root) values ($1, $2, $3, $4)", log, size, head.encode(), head.root())
    await connection.execute("insert into checkpoint (log, size, note) values ($1, $2, $3)", log, size, _note(size, head.root()))


def _note(size: int, root: bytes) -> bytes:
    key = ed25519_vkey(origin_of(size), _KEY.public_key().public_bytes_raw())
    text = encode_checkpoint(Checkpoint(key.name, size, root))
    return encode_note(Note(text, (NoteSignature(key.name, key.key_id, _KEY.sign(text)),)))


def _bodies(size: int) -> Iterator[tuple[str, bytes]]:
    """An entry that opens the log, then entries of about 600 bytes that differ in their id, whose hex digits are put into one encoded entry."""
    first = opening(origin_of(size))
    yield first.entry_id, encode_entry(first)
    mark, people = "0" * 32, tuple(f"p:{number:032x}" for number in range(8))
    model = encode_entry(
        ConfigEntry(
            entry_id=mark, origin=origin_of(size), at=Moment(START), config="1" * 40, who=people, previous="1" * 40, commit="2" * 40,
            digest=digest_of(b"a configuration"),
        )
    )  # fmt: skip
    before, after = model.split(f'"entry_id":"{mark}"'.encode())
    for number in range(1, size):
        entry_id = hashlib.sha256(b"%d" % number).hexdigest()[:32]
        yield entry_id, b'%s"entry_id":"%s"%s' % (before, entry_id.encode(), after)
