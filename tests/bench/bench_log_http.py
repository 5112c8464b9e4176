"""What an append costs through HTTP, against the framework's own "hello" in the same run: the same server, one body read, one row made durable."""

from __future__ import annotations

import secrets

import trio

from tests.bench.bench_http import ROUNDS, hello_server, requests_per_second, server
from tests.bench.bench_log import SIZE, a_server
from tests.bench.registry import Bar, Figure, Measured, bench

NAME = "log.append.http"
HEAD = b"POST /append HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n" % SIZE


@bench(NAME)
def append_over_http() -> list[Figure]:
    """Rounds alternate between the two servers; the best round of each counts."""
    request = HEAD + secrets.token_bytes(SIZE)
    ours, hello = [], []
    with a_server() as postgres:
        told = postgres.create_database("http").encode() + b"\n"
        with server("append_server", told=told) as appends, hello_server("quart") as hellos:
            for _ in range(ROUNDS):
                ours.append(trio.run(requests_per_second, appends, request))
                hello.append(trio.run(requests_per_second, hellos))
    return [Figure(NAME, max(ours), "entries/s", max(hello), Bar(Measured.RATIO, at_least=0.4))]
