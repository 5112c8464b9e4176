#!/usr/bin/python3
"""A small greeter: one page, its version, its health. Needs nothing but Python's standard library.

Settings come from the environment: GREETING (default "Hello") is shown, API_KEY is only said to be there or not.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def version():
    """The text of version.txt beside this file."""
    return (Path(__file__).resolve().parent / "version.txt").read_text("utf-8").strip()


def answer(path, settings):
    """Path and settings -> status, content type, body."""
    if path == "/healthz":
        return 200, "text/plain; charset=utf-8", "ok\n"
    if path == "/":
        greeting = settings.get("GREETING", "Hello")
        return 200, "text/plain; charset=utf-8", f"{greeting}. This is version {version()}.\n"
    if path == "/about":
        about = {"version": version(), "greeting": settings.get("GREETING", "Hello"), "api_key": bool(settings.get("API_KEY"))}
        return 200, "application/json", json.dumps(about, sort_keys=True) + "\n"
    return 404, "text/plain; charset=utf-8", "not found\n"


class Greeter(BaseHTTPRequestHandler):
    """Answers GET."""

    timeout = 10

    def do_GET(self):
        """Answer one request."""
        status, kind, body = answer(self.path, os.environ)
        data = body.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        """No access log."""


def main():
    """Serve on the port given as the only argument, on loopback."""
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Greeter).serve_forever()


if __name__ == "__main__":
    main()
