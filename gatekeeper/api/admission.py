"""How many connections one listener holds: in all, and from one address. What is over a bound is closed before it costs a TLS handshake.

Behind a reverse proxy all connections come from its address: then the bound of one address is the proxy's, and it must be set as high as the
proxy needs (`connections_per_address` of the configuration file).
"""

from __future__ import annotations

import ipaddress
import logging
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

RESERVED: Final = 256
"""File descriptors that connections leave to everything else: database, vault, git, targets, blobs on their way in."""
MOST: Final = 2048
MOST_EACH: Final = 256
_SAY_EVERY_S: Final = 60.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """Most connections open at once, in all and from one address (IPv6: from one /64, which is what one customer gets)."""

    most: int = MOST
    each: int = MOST_EACH


class Admission:
    """Counts the open connections of one server."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._open: Counter[str] = Counter()
        self._said_at: float | None = None

    @contextmanager
    def place(self, host: str, now: float) -> Iterator[bool]:
        """Take a place for a connection from `host` while the context lasts; False where there is none. `now` is seconds that only grow."""
        peer = _counted_as(host)
        if self._open.total() >= self._bounds.most or self._open[peer] >= self._bounds.each:
            self._say(peer, now)
            yield False
            return
        self._open[peer] += 1
        try:
            yield True
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    def _say(self, peer: str, now: float) -> None:
        # Once a minute: a flood must not become a flood of log lines.
        if self._said_at is None or now - self._said_at >= _SAY_EVERY_S:
            self._said_at = now
            held, total = self._open[peer], self._open.total()
            _logger.warning("connections are refused: %d are open, %d of them from %s", total, held, peer)


def within_descriptors(bounds: Bounds) -> Bounds:
    """Raise this process's soft limit of open files to its hard one; the bounds, lowered where even that does not carry them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return bounds
    most = max(1, min(bounds.most, hard - RESERVED))
    return Bounds(most, min(bounds.each, most))


def _counted_as(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped is not None else str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
