"""A small SSH host for a machine without an OpenSSH server: it accepts the vault's certificates and runs the doorkeeper, nothing else.

    python -m clients.doorkeeper.host --dir DIR --user-ca FILE --principal NAME [--listen HOST:PORT] [--host-certificate FILE]

- Whoever logs in has a certificate of the pinned user CA whose principals hold the account's name; no other way in.
- The certificate's `force-command` must be exactly `pingee-doorkeeper serve <64 hex>`, or `pingee-doorkeeper status`. It is read, never run:
  the doorkeeper of this installation is started with that digest, or for that one word. The client's own command becomes
  `SSH_ORIGINAL_COMMAND`, as under OpenSSH.
- A doorkeeper that refuses early ends without reading its stdin; the rest is drained, so that the client reads the refusal and not a reset.
- A client that goes away does not kill an apply: its stdin ends, and an apply already accepted comes to its own end, within `SERVE_S`.
- The first line on stdout tells address and host key as JSON. At SIGTERM it stops its workloads and leaves no process behind; at the next
  start it starts again what was last seen healthy, as a machine's init would.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncssh

from gatekeeper.hidden import hide_memory

from .cli import FORCED
from .files import Place, Unreadable, exclusive, make_private, read_bounded, write_durably
from .state import Outcome, load_memory
from .target import load_pinned
from .workload import PATH, NotStarted, find_process, is_alive, stop, switch_on

SERVE_S: Final = 1200.0
"""the longest life of one doorkeeper process"""
LOGIN_S: Final = 10
DRAIN_S: Final = 10.0
"""how long the rest of a refused frame is read, so that the refusal arrives"""
SESSIONS: Final = 8
"""doorkeeper processes at once"""
_CHUNK: Final = 1 << 16
_SERVER: Final[dict[str, Any]] = {
    "encoding": None,
    "allow_pty": False,
    "line_editor": False,
    "agent_forwarding": False,
    "x11_forwarding": False,
    "allow_scp": False,
    "sftp_factory": None,
    "password_auth": False,
    "kbdint_auth": False,
    "host_based_auth": False,
    "gss_host": None,
    "login_timeout": LOGIN_S,
    "keepalive_interval": 15,
    "compression_algs": None,
}


@dataclass(frozen=True)
class HostFiles:
    """What a host is started with."""

    directory: Path
    user_ca: Path
    principal: str
    host_certificate: Path | None


class _Login(asyncssh.SSHServer):
    """Ties the account's name, and keeps the forced command apart from the client's own."""

    def __init__(self, principal: str) -> None:
        self._principal = principal
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def auth_completed(self) -> None:
        connection = self._connection
        if connection is None or connection.get_extra_info("username") != self._principal:
            return  # without a forced command no session is served
        option = connection.get_certificate_option
        connection.set_extra_info(forced=option("force-command"))

        # asyncssh puts the forced command in the place of the client's, which is then lost; OpenSSH keeps it in SSH_ORIGINAL_COMMAND. Hiding
        # the option from the channel keeps the client's word. Should this ever fail to work, the word is the forced command, and refused.
        def without_forced_command(name: str, default: object = None) -> object:
            return default if name == "force-command" else option(name, default)

        connection.get_certificate_option = without_forced_command  # type: ignore[method-assign,assignment]


class Host:
    """The sessions of one host."""

    def __init__(self, files: HostFiles) -> None:
        self._directory = files.directory
        self._places = asyncio.Semaphore(SESSIONS)

    async def session(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run one doorkeeper for one channel."""
        forced = FORCED.fullmatch(process.get_extra_info("forced") or "")
        # A certificate that only reads names no receipt and serves no other word.
        word = process.command or ""
        if forced is None or word not in (("apply", "status") if forced[1] else ("status",)):
            process.stdout.write(b'{"error":"only a doorkeeper\'s certificate, and the words apply and status, are served"}\n')
            process.exit(1)
            return
        async with self._places:
            await self._serve(process, forced[1], word)

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes], receipt: str | None, word: str) -> None:
        command = ("status",) if receipt is None else ("serve", receipt)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "clients.doorkeeper.cli", "--dir", str(self._directory), *command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_child_environment(word),
            start_new_session=True,
        )
        sending = asyncio.create_task(_feed(process, child))
        try:
            async with asyncio.timeout(SERVE_S):
                await _answer(child, process)
                status = await child.wait()
            # The refusal has been written; what the client still sends is read and dropped, or it would see a reset instead of the answer.
            await asyncio.wait({sending}, timeout=DRAIN_S)
            process.exit(status)
        except TimeoutError:
            process.exit(20)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
                await child.wait()


async def _feed(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    assert child.stdin is not None  # noqa: S101 -- PIPE above
    reading = True
    try:
        while chunk := await process.stdin.read(_CHUNK):
            if reading:
                try:
                    child.stdin.write(chunk)
                    await child.stdin.drain()
                except (BrokenPipeError, ConnectionResetError):
                    reading = False
    except (asyncssh.Error, OSError):
        pass  # the client is gone: the end of the child's stdin tells it
    finally:
        child.stdin.close()


async def _answer(child: asyncio.subprocess.Process, process: asyncssh.SSHServerProcess[bytes]) -> None:
    assert child.stdout is not None  # noqa: S101 -- PIPE above
    heard = True
    while chunk := await child.stdout.read(_CHUNK):
        if heard:
            try:
                process.stdout.write(chunk)
                await process.stdout.drain()
            except (asyncssh.Error, OSError):
                heard = False  # go on reading: the doorkeeper must not block on a full pipe


def _child_environment(word: str) -> dict[str, str]:
    # PYTHONPATH only where we run from a source tree; nothing else of our own environment reaches the doorkeeper.
    root = str(Path(__file__).resolve().parents[2])
    return {"PATH": PATH, "SSH_ORIGINAL_COMMAND": word, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}


def resume_workloads(place: Place) -> None:
    """Start again what was last seen healthy and does not run: a machine's init would. An interrupted apply is left to the doorkeeper."""
    pinned, memory = load_pinned(place), load_memory(place)
    with exclusive(place, wait_s=5):
        for name, component in memory.components:
            slot, release = pinned.target.component(name), component.healthy
            if slot is None or release is None or slot.restart or component.outcome is Outcome.IN_PROGRESS:
                continue
            if not is_alive(place, slot, release.receipt):
                try:
                    switch_on(place, slot, release, pinned.target.caps)
                except (NotStarted, ValueError, OSError) as error:
                    print(json.dumps({"not_started": name, "detail": type(error).__name__}), flush=True)


def stop_workloads(place: Place) -> None:
    """End every workload that we run ourselves; what was adopted and never switched is not ours."""
    for slot in load_pinned(place).target.components:
        running = find_process(place, slot.name)
        if not slot.restart and not (running is not None and running.foreign):
            stop(place, slot)


def _host_key(place: Place) -> asyncssh.SSHKey:
    path = place.etc / "ssh_host_ed25519_key"
    if not path.exists():
        make_private(path.parent)
        write_durably(path, asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    return asyncssh.import_private_key(read_bounded(path, 16 * 1024))


async def run_host(files: HostFiles, host: str, port: int) -> None:
    """Listen until SIGTERM or SIGINT."""
    place = Place.below(files.directory)
    load_pinned(place)
    load_memory(place)
    key = _host_key(place)
    certificate = None if files.host_certificate is None else asyncssh.import_certificate(read_bounded(files.host_certificate, 16 * 1024))
    ca = asyncssh.import_public_key(read_bounded(files.user_ca, 16 * 1024)).export_public_key("openssh").decode().strip()
    # No principals= here: asyncssh would then no longer tie the account's name to the certificate.
    authorized = asyncssh.import_authorized_keys(f"cert-authority,no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-pty {ca}\n")
    sessions = Host(files)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await asyncio.to_thread(resume_workloads, place)
    try:
        listener = await asyncssh.listen(
            host,
            port,
            server_factory=lambda: _Login(files.principal),
            server_host_keys=[key if certificate is None else (key, certificate)],
            authorized_client_keys=authorized,
            process_factory=sessions.session,
            **_SERVER,
        )
        line = key.export_public_key("openssh").decode().strip()
        print(json.dumps({"listening": {"host": host, "port": listener.get_port()}, "host_key": line}), flush=True)
        async with listener:
            await stopping.wait()
    finally:
        await asyncio.to_thread(_stop_all, place)


def _stop_all(place: Place) -> None:
    # An apply under way is given its moment; then its workload is stopped all the same, for nothing may be left behind.
    try:
        with exclusive(place, wait_s=2):
            stop_workloads(place)
    except Exception:
        stop_workloads(place)
        raise


def main() -> int:
    """Command line of the host."""
    parser = argparse.ArgumentParser(prog="clients.doorkeeper.host", allow_abbrev=False)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--user-ca", type=Path, required=True, help="public key of the CA that signs people's and gatekeepers' certificates")
    parser.add_argument("--principal", required=True, help="the account's name")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--host-certificate", type=Path)
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    os.umask(0o077)
    hide_memory()
    try:
        asyncio.run(run_host(HostFiles(options.dir.resolve(), options.user_ca, options.principal, options.host_certificate), host, int(port)))
    except Unreadable as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 7
    return 0


if __name__ == "__main__":
    sys.exit(main())
