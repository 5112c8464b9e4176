"""What the web framework costs: quart-trio against a bare ASGI function, both on hypercorn's trio worker, in one run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.bench.registry import Figure, bench

ROOT = Path(__file__).parents[2]
CONNECTIONS = 16
ROUND_S = 1.5
ROUNDS = 3
REQUEST = b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n"


@bench("http.hello.rate")
def hello_rate() -> list[Figure]:
    """Rounds alternate between the two servers, so that a noisy neighbour disturbs both; the best round of each counts."""
    rates: dict[str, list[float]] = {"quart": [], "bare": []}
    with hello_server("quart") as quart, hello_server("bare") as bare:
        for _ in range(ROUNDS):
            rates["quart"].append(trio.run(requests_per_second, quart))
            rates["bare"].append(trio.run(requests_per_second, bare))
    return [Figure("http.hello.rate", max(rates["quart"]), "requests/s", max(rates["bare"]))]


@contextmanager
def hello_server(variant: str) -> Iterator[int]:
    """A server process of its own; gives its port."""
    with server("hello_server", variant) as port:
        yield port


@contextmanager
def server(module: str, *arguments: str, told: bytes = b"") -> Iterator[int]:
    """A module of this directory that serves until its input closes and prints its port first. `told` is written to its input."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            process.stdin.write(told)
            process.stdin.flush()
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def requests_per_second(port: int, request: bytes = REQUEST) -> float:
    """`CONNECTIONS` keep-alive connections, each with one request under way."""
    answered = 0

    async def ask() -> None:
        nonlocal answered
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            while True:
                await stream.send_all(request)
                answer = b""
                while not answer.endswith(b"}"):
                    chunk = await stream.receive_some(4096)
                    if not chunk:
                        raise RuntimeError("the server hung up")
                    answer += chunk
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"not an answer to measure: {answer[:60]!r}")
                answered += 1

    start = trio.current_time()
    with trio.move_on_after(ROUND_S):
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(ask)
    return answered / (trio.current_time() - start)
