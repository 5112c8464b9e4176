"""Runs inside the acceptance sandbox, by the system's Python and nothing else: a loopback port that leads to one unix socket.

`shim.py SOCKET COMMAND...` listens on 127.0.0.1 of the sandbox's own network namespace, sets PINGEE_TARGET_URL, runs COMMAND and ends with
its status. It is shown to the tests, which may kill it: beyond it there is only the forwarder, and beyond that only the one target.
"""

import os
import socket
import subprocess
import sys
import threading

CHUNK = 65536


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy one direction until its end, and pass that end on."""
    try:
        while data := source.recv(CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for side in (source, sink):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def relay(one: socket.socket, other: socket.socket) -> None:
    """Copy both directions until both have ended."""
    with one, other:
        back = threading.Thread(target=pump, args=(other, one), daemon=True)
        back.start()
        pump(one, other)
        back.join()


def accept(listener: socket.socket, path: str) -> None:
    """Lead each connection to the unix socket at `path`."""
    while True:
        client, _ = listener.accept()
        onward = socket.socket(socket.AF_UNIX)
        try:
            onward.connect(path)
        except OSError:
            onward.close()
            client.close()
            continue
        threading.Thread(target=relay, args=(client, onward), daemon=True).start()


def main(path: str, base: str, command: list[str]) -> int:
    """Listen, run the command, give back its status."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    threading.Thread(target=accept, args=(listener, path), daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}{base}"
    status = subprocess.run(command, env={**os.environ, "PINGEE_TARGET_URL": url}, check=False).returncode
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
