"""`python -m tests.bench.check_rows VKEY SIZE [bare]`: the check of one log on one processor; the database's URL is the first line of the input.

Prints seconds and the process's largest resident size as JSON; fails where anything was wrong with the log. `bare`: each row is read and its body
hashed, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time

import asyncpg
import trio

from gatekeeper.postgres.log_check import check_rows
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.note import parse_vkey

CHUNK = 4096


async def hash_rows(url: str, origin: str, size: int) -> None:
    connection = await asyncpg.connect(url)
    log = await connection.fetchval("select id from log where origin = $1", origin)
    for start in range(0, size, CHUNK):
        rows = await connection.fetch(
            "select idx, entry_id, body, leaf_hash from log_entry where log = $1 and idx >= $2 and idx < $3 order by idx",
            log,
            start,
            start + CHUNK,
        )
        if any(leaf_hash(row["body"]) != row["leaf_hash"] for row in rows):
            raise SystemExit("a row does not hash to its leaf")
    await connection.close()


def check(url: str, vkey: str, size: int) -> None:
    checked = trio.run(check_rows, url, parse_vkey(vkey))
    if not checked.report.sound or checked.report.size != size:
        raise SystemExit(str(checked))

if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    url = sys.stdin.readline().strip()
    began = time.perf_counter()
    vkey, size = sys.argv[1], int(sys.argv[2])
    if len(sys.argv) > 3:
        asyncio.run(hash_rows(url, parse_vkey(vkey).name, size))
    else:
        check(url, vkey, size)
    took = time.perf_counter() - began
    print(json.dumps({"seconds": took, "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
