"""The demo's SSH host as a process of its own, with a user CA of the test's."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import asyncssh

from gatekeeper.model.digest import Digest, digest_hex
from gatekeeper.ports.target import SshCredential, TargetAddress
from tests.fakes.doorkeepers import ROOT, InstalledDoorkeeper, processes_below

USER = "deploy-production"


class SshHost:
    def __init__(self, door: InstalledDoorkeeper, ca: asyncssh.SSHKey, port: int, host_key: str):
        self.door, self.ca, self.port, self.host_key = door, ca, port, host_key

    @property
    def address(self) -> TargetAddress:
        return TargetAddress(self.door.gatekeeper.target, "127.0.0.1", self.port, USER, (self.host_key,))

    def credential(self, receipt: Digest, *, command: str | None = None, ca: asyncssh.SSHKey | None = None, principal: str = USER, **options):
        key = asyncssh.generate_private_key("ssh-ed25519")
        command = f"pingee-doorkeeper serve {digest_hex(receipt)}" if command is None else command
        certificate = (ca or self.ca).generate_user_certificate(
            key, "test", principals=[principal], force_command=command or None,
            valid_after="-30s", valid_before=options.pop("valid_before", "+5m"),
            permit_x11_forwarding=False, permit_agent_forwarding=False, permit_port_forwarding=False, permit_pty=False,
            permit_user_rc=False, **options,
        )  # fmt: skip
        return SshCredential(key.export_private_key(), certificate.export_certificate().decode())


@contextmanager
def running_host(door: InstalledDoorkeeper, ca: asyncssh.SSHKey | None = None):
    ca = ca or asyncssh.generate_private_key("ssh-ed25519")
    file = Path(door.directory, "user-ca.pub")
    file.write_bytes(ca.export_public_key())
    command = [sys.executable, "-m", "clients.doorkeeper.host", "--dir", str(door.directory), "--user-ca", str(file), "--principal", USER]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)})
    with process:
        try:
            said = json.loads(process.stdout.readline())
            yield SshHost(door, ca, said["listening"]["port"], said["host_key"])
        finally:
            process.terminate()
            code = process.wait(30)
    assert code == 0
    assert not processes_below(door.directory), "the host left a process behind"
