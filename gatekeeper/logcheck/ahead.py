"""Fetching ahead: a few requests under way while the check works on what has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from gatekeeper.tlog.fsck import Fetch, order_of_check
from gatekeeper.tlog.tile import TileAddress

WINDOW: Final = 16
"""Answers that may wait: at most 16 bundles of 16 MiB, in practice of 150 KiB."""
WORKERS: Final = 8


@contextmanager
def fetched_ahead(size: int, fetch: Fetch) -> Iterator[Fetch]:
    """`fetch`, called by several threads in the order in which `check_log` will ask. An error comes up where its answer is asked for."""
    coming = order_of_check(size)
    waiting: deque[tuple[TileAddress, Future[bytes | None]]] = deque()
    with ThreadPoolExecutor(WORKERS, "pingee-fetch") as pool:

        def fetch_next(wanted: TileAddress) -> bytes | None:
            while len(waiting) < WINDOW and (address := next(coming, None)) is not None:
                waiting.append((address, pool.submit(fetch, address)))
            if waiting and waiting[0][0] == wanted:
                return waiting.popleft()[1].result()
            # A fallback from a partial tile to the full one: the check asks for what nobody foresaw.
            return fetch(wanted)

        try:
            yield fetch_next
        finally:
            pool.shutdown(cancel_futures=True)
