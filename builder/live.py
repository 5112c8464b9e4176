"""The log while it grows, over HTTP on loopback, at a path that cannot be guessed: other users of the machine are not its readers."""

from __future__ import annotations

import contextlib
import hmac
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from .log import BuildLog, Escaper

_CHUNK: Final = 65536
_READERS: Final = 16
_IDLE_S: Final = 30.0


@contextlib.contextmanager
def served(log: BuildLog) -> Iterator[str]:
    """Serve `log` until the block ends; yields its URL. Each reader gets all lines so far, then each new one as it is written."""
    path = f"/{secrets.token_urlsafe(16)}/log"
    server = _LogServer(("127.0.0.1", 0), _handler(log, path))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="live-log", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{path}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _LogServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that goes away is no news."""


def _handler(log: BuildLog, path: str) -> type[BaseHTTPRequestHandler]:
    readers = threading.BoundedSemaphore(_READERS)

    class LogReader(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"
        timeout = _IDLE_S

        def do_GET(self) -> None:
            if not hmac.compare_digest(self.path.encode("latin-1"), path.encode("ascii")):
                self.send_error(404)
                return
            if not readers.acquire(blocking=False):
                self.send_error(503)
                return
            try:
                self._follow()
            finally:
                readers.release()

        def _follow(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            escaper = Escaper()
            seen = 0
            with log.path.open("rb") as stream:
                while True:
                    size, closed = log.wait(seen, _IDLE_S)
                    while seen < size:
                        data = stream.read(min(_CHUNK, size - seen))
                        seen += len(data)
                        self.wfile.write(escaper.feed(data).encode())
                    if closed and seen >= log.size:
                        self.wfile.write(escaper.feed(b"", last=True).encode())
                        return

        def log_message(self, *_arguments: Any) -> None:
            """No access log: the path is the reader's only secret."""

    return LogReader
