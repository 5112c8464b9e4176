"""One route that appends a body of the request to the log and answers with its index: `python -m tests.bench.append_server`; the database's URL is the first line of
its input, and it serves on 127.0.0.1 until its input closes. For benchmarks only: it knows no caller and reads no body as an entry.
"""

from __future__ import annotations

import secrets
import socket
import sys

import hypercorn.config
import hypercorn.trio
import quart_trio
import trio
from quart import request

from gatekeeper.ports.log import Log
from gatekeeper.postgres import open_database
from tests.bench.hello_server import standard_input_closed
from tests.fakes.running_log import ORIGIN, running_log
from tests.fakes.vault import FakeLogVault


def application(log: Log) -> quart_trio.QuartTrio:
    app = quart_trio.QuartTrio("append")

    @app.post("/append")
    async def append() -> tuple[bytes, dict[str, str]]:
        where = await log.append(await request.get_data(), entry_id=secrets.token_hex(16), kind="intake")
        return b'{"index":%d}' % where.index, {"content-type": "application/json"}

    return app


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = None
    config.loglevel = "WARNING"
    async with open_database(sys.stdin.readline().strip()) as database, running_log(database.log(ORIGIN), FakeLogVault()) as log:
        print(port, flush=True)
        await hypercorn.trio.serve(application(log), config, shutdown_trigger=standard_input_closed, mode="asgi")  # type: ignore[arg-type]


if __name__ == "__main__":
    trio.run(main)
