"""Answers "hello" on 127.0.0.1 until its standard input closes: `python -m tests.bench.hello_server quart|bare`; prints the port first.

Both variants run on hypercorn's trio worker; what differs is the framework alone.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import hypercorn.config
import hypercorn.trio
import quart_trio
import trio

HELLO = b'{"hello":"world"}'


def quart_application() -> quart_trio.QuartTrio:
    app = quart_trio.QuartTrio("hello")

    @app.get("/hello")
    async def hello() -> tuple[bytes, dict[str, str]]:
        return HELLO, {"content-type": "application/json"}

    return app


async def bare_application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(HELLO)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


async def main(variant: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = None
    config.loglevel = "WARNING"
    app: Any = quart_application() if variant == "quart" else bare_application
    await hypercorn.trio.serve(app, config, shutdown_trigger=standard_input_closed, mode="asgi")


async def standard_input_closed() -> None:
    await trio.lowlevel.wait_readable(sys.stdin.fileno())


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
