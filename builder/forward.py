"""The acceptance stage's only way out: a unix socket, bound into the sandbox, that leads to the one address of the test deployment."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from . import shim
from .fault import BuildFault
from .runner import Surroundings
from .sandbox import Bind

_INSIDE: Final = "/run/pingee"
_PYTHON: Final = "/usr/bin/python3"
_CONNECTIONS: Final = 64
_CONNECT_S: Final = 10.0
_IDLE_S: Final = 120.0


@dataclass(frozen=True)
class Target:
    """Where the test deployment listens; `base` is the URL's path, without a slash at its end."""

    host: str
    port: int
    base: str


def parse_target(url: str) -> Target:
    """Read `http://HOST:PORT[/PATH]`; raises `BuildFault` `target-invalid`. https would need the target's name inside, and is refused."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        raise BuildFault("target-invalid", "the target must be a URL such as http://127.0.0.1:8080") from None
    if parts.scheme != "http" or not host or parts.query or parts.fragment or parts.username is not None:
        raise BuildFault("target-invalid", "the target must be a URL such as http://127.0.0.1:8080, without https, credentials and query")
    return Target(host, port, parts.path.rstrip("/"))


@contextlib.contextmanager
def forwarded(target: Target, keep: Path, uid: int | None) -> Iterator[Surroundings]:
    """Forward to `target` while the block runs; yields what the stage is to be started with.

    `keep` is the worker's directory; `uid` the sandbox user who must be able to connect.
    """
    if not Path(_PYTHON).exists():
        raise BuildFault("toolchain-missing", f"an acceptance stage needs {_PYTHON}")
    home = keep / "forward"
    home.mkdir(mode=0o711)
    script = home / "shim.py"
    script.write_bytes(Path(shim.__file__).read_bytes())
    script.chmod(0o644)
    path = home / "target.sock"
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        # Only the sandbox user reaches this directory, which lies in the run's own mount namespace.
        path.chmod(0o666 if uid is not None else 0o600)
        listener.listen(_CONNECTIONS)
        thread = threading.Thread(target=_accept, args=(listener, target), name="forward", daemon=True)
        thread.start()
        inside = f"{_INSIDE}/target.sock"
        yield Surroundings(
            prefix=(_PYTHON, "-I", "-S", f"{_INSIDE}/shim.py", inside, target.base),
            binds=(Bind(script, f"{_INSIDE}/shim.py"), Bind(path, inside)),
        )
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, target: Target) -> None:
    places = threading.BoundedSemaphore(_CONNECTIONS)
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        if not places.acquire(timeout=_CONNECT_S):
            client.close()
            continue
        threading.Thread(target=_serve, args=(client, target, places), name="forward", daemon=True).start()


def _serve(client: socket.socket, target: Target, places: threading.BoundedSemaphore) -> None:
    try:
        onward = socket.create_connection((target.host, target.port), timeout=_CONNECT_S)
        for side in (client, onward):
            side.settimeout(_IDLE_S)
        shim.relay(client, onward)
    except OSError:
        client.close()
    finally:
        places.release()
