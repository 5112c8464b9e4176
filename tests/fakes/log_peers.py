"""Foreign programs around the log: how each is called, what it says, and how its process ends. See `tests/peers/build`."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from clients.demo.ports import held_ports
from gatekeeper.tlog.signature import VerifierKey, encode_vkey
from tests.fakes.doorkeepers import ROOT
from tests.fakes.peers import peer

DEADLINE_S = 60
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


class PeerRefused(Exception):
    """The foreign program refused, in its own words."""


@dataclass(frozen=True)
class Checked:
    """What tessera's fsck found: size and root of a sound log, or why it is not sound."""

    size: int = 0
    root: bytes = b""
    fault: str = ""


async def fsck(source: str, key: VerifierKey, directory: Path, *, ca: Path | None = None) -> Checked:
    """Run tessera's fsck on an `https:`, `http:` or `file:` address. It ends with 0 whatever it found: its words decide."""
    vkey = directory / "log.vkey"
    vkey.write_text(encode_vkey(key))
    # With one worker it hangs at the first tile that is wrong: each fault ends a worker, and nobody takes what the rest is waiting to hand on.
    command = [str(peer("tessera", "fsck")), "-ui=false", "-N=8", f"-storage_url={source}", f"-public_key={vkey}"]
    environment = _ENVIRONMENT | ({} if ca is None else {"SSL_CERT_FILE": str(ca)})
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(command, capture_stderr=True, check=False, env=environment)
    said = done.stderr.decode()
    if found := re.search(r"Successfully fsck'd log with size (\d+) and root (\S+) \(", said):
        return Checked(int(found[1]), base64.b64decode(found[2]))
    fault = re.search(r"fsck failed: (.*)", said, re.DOTALL) or pytest.fail(f"fsck ended with {done.returncode}: {said}")
    return Checked(fault=fault[1])


def ask_notes(operation: str, **request: object) -> dict[str, object]:
    """Ask our small command around x/mod and formats; bytes go as base64. Raises `PeerRefused` with the library's words."""

    def plain(value: object) -> object:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    asked = json.dumps({name: plain(value) for name, value in request.items()})
    command = [str(peer("notes", "notes")), operation]
    done = subprocess.run(command, input=asked.encode(), capture_output=True, timeout=DEADLINE_S, env=_ENVIRONMENT, check=False)
    if done.returncode == 1:
        raise PeerRefused(done.stderr.decode().strip())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def running_omniwitness(directory: Path, logs: Sequence[VerifierKey], private: str) -> Iterator[str]:
    """The public witness, which trusts these logs and keeps what it saw in `directory`: its submission prefix. `private` is a note key.

    Other logs stand in the program itself; it asks none of them, it waits to be asked.
    """
    directory.mkdir(exist_ok=True)
    (directory / "key").write_text(private)
    (directory / "key").chmod(0o600)
    (directory / "logs.yaml").write_text("Logs:\n" + "".join(map(_yaml, logs)))
    with held_ports(1) as (port,):
        yield from _omniwitness(directory, f"127.0.0.1:{port}")


def _omniwitness(directory: Path, address: str) -> Iterator[str]:
    command = [str(peer("omniwitness", "omniwitness")), f"-listen={address}", "-metrics_listen=", f"-private_key_path={directory / 'key'}"]
    command += [f"-additional_logs={directory / 'logs.yaml'}", f"-db_file={directory / 'state.db'}"]
    with _running(command, directory / "said") as process:
        _await_port(process, address, directory / "said")
        yield f"http://{address}"


def _yaml(log: VerifierKey) -> str:
    return f"  - Origin: {json.dumps(log.name)}\n    PublicKey: {json.dumps(encode_vkey(log))}\n"


@contextmanager
def static_server(directory: Path) -> Iterator[str]:
    """Python's own static file server."""
    said = directory.parent / "http.server.said"
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(directory)]
    with _running(command, said) as process:
        until = time.monotonic() + DEADLINE_S
        while not (found := re.search(r"port (\d+) ", said.read_text())):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"http.server does not start: {said.read_text()}")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{found[1]}/"


def append_to_foreign_log(storage: Path, private: Path, entries: Sequence[bytes], *arguments: str, ca: Path | None = None) -> str:
    """Let tessera's small log append and publish; what it said. Raises `PeerRefused`."""
    new = storage.parent / "new-entries"
    new.mkdir(exist_ok=True)
    for old in new.iterdir():
        old.unlink()
    for number, entry in enumerate(entries):
        (new / f"{number:04}").write_bytes(entry)
    command = [str(peer("tessera", "posix-oneshot")), f"--storage_dir={storage}", f"--entries={new}/*", f"--private_key={private}", *arguments]
    environment = _ENVIRONMENT | ({} if ca is None else {"SSL_CERT_FILE": str(ca)})
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=environment, check=False)
    if done.returncode != 0:
        raise PeerRefused(done.stderr)
    return done.stderr


@contextmanager
def _running(command: list[str], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    with said.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=_ENVIRONMENT | _python_path())
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _python_path() -> dict[str, str]:
    return {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}


def _await_port(process: subprocess.Popen[bytes], address: str, said: Path) -> None:
    host, port = address.split(":")
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    pytest.fail(f"{process.args} does not listen on {address}: {said.read_text()[-1000:] or 'it said nothing'}")


@contextmanager
def tls_before(url, certificates):
    """What an operator puts before a program that speaks plain HTTP: TLS, and the bytes as they are. Yields the https URL."""
    plain = urlsplit(url)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates / "tls.pem", certificates / "tls.key")

    class Passing(socketserver.BaseRequestHandler):
        def handle(self):
            with (
                suppress(OSError),
                tls.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection((plain.hostname, plain.port)) as behind,
            ):
                _pass_on(client, behind)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, block_on_close, allow_reuse_address = True, False, True

    with Server(("127.0.0.1", 0), Passing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}{plain.path}"
        finally:
            server.shutdown()
            thread.join()


def _pass_on(client, behind):
    """Until one of the two ends."""
    while True:
        ready = [client] if client.pending() else select.select([client, behind], [], [])[0]
        for one in ready:
            data = one.recv(65536)
            if not data:
                return
            (behind if one is client else client).sendall(data)
