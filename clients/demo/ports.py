"""TCP ports that are ours before anything listens on them.

A port that is chosen, closed and bound later can be taken in between: by another demo that starts in the same second, or by any outgoing
connection. So ours lie outside the range that the kernel hands out by itself, and each is held by the *UDP* socket of the same number for as
long as the house stands: the two number spaces are apart, so a server can bind the TCP port at any time, also after it was stopped for a while,
and another demo, of whichever user, fails to bind the UDP port and goes on to the next. The kernel lets go of it with the process that held it.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
_LOWEST: Final = 20_000
_HIGHEST: Final = 60_999
_TRIES: Final = 500
_HANDED_OUT: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


class NoPorts(RuntimeError):
    """No free port was found."""


@contextmanager
def held_ports(count: int) -> Iterator[tuple[int, ...]]:
    """So many free TCP ports of the loopback address, nobody else's until the block ends. Raises `NoPorts`."""
    with ExitStack() as stack:
        yield tuple(_hold_one(stack) for _ in range(count))


def _hold_one(stack: ExitStack) -> int:
    candidates = _candidates()
    for _ in range(_TRIES):
        port = secrets.choice(candidates)
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            holder.bind((HOST, port))
            with socket.socket() as listener:
                listener.bind((HOST, port))
        except OSError:
            holder.close()
            continue
        stack.enter_context(holder)
        return port
    raise NoPorts(f"no free port was found on {HOST} in {_TRIES} tries")


def _candidates() -> tuple[int, ...]:
    low, high = (int(number) for number in _HANDED_OUT.read_text("ascii").split())
    ours = tuple(port for port in range(_LOWEST, _HIGHEST + 1) if not low <= port <= high)
    # Where the kernel hands out all of them there is no better place, and the UDP socket still keeps two demos apart.
    return ours or tuple(range(_LOWEST, _HIGHEST + 1))
