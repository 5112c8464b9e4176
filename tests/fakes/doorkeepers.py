"""Real doorkeepers in temporary directories: installed, called as a program, and cleaned up with everything they started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from clients.demo.ports import held_ports
from clients.doorkeeper.cli import main
from clients.doorkeeper.files import Place
from clients.doorkeeper.host import stop_workloads
from gatekeeper.model.digest import Digest, digest_hex
from tests.fakes.frames import Gatekeeper, frame_of, parts_of

ROOT = Path(__file__).resolve().parents[2]


class InstalledDoorkeeper:
    """One installation; every call is a process of its own, as under sshd."""

    def __init__(self, directory: Path, gatekeeper: Gatekeeper, port: int, override_keys: bytes | None = None) -> None:
        self.directory, self.gatekeeper, self.port = directory, gatekeeper, port
        self.place = Place.below(directory)
        files = directory / "given"
        files.mkdir()
        (files / "log-policy").write_bytes(gatekeeper.log_policy)
        (files / "receipt-keys").write_bytes(gatekeeper.receipt_keys)
        arguments = ["--dir", str(directory), "install", "--target", gatekeeper.target, "--instance", "production", "--environment", "production"]
        arguments += ["--component", f"hello={self.port}", "--log-policy", str(files / "log-policy"), "--receipt-keys", str(files / "receipt-keys")]
        if override_keys is not None:
            (files / "override-keys").write_bytes(override_keys)
            arguments += ["--override-keys", str(files / "override-keys")]
        assert main(arguments) == 0

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "clients.doorkeeper.cli", "--dir", str(self.directory), *words]

    def environment(self, word: str) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "SSH_ORIGINAL_COMMAND": word, "PYTHONPATH": str(ROOT)}

    def serve(self, receipt: Digest, frame: bytes, word: str = "apply") -> tuple[int, list[dict]]:
        done = subprocess.run(
            self.command("serve", digest_hex(receipt)), input=frame, env=self.environment(word), capture_output=True, timeout=60, check=False
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def apply(self, receipt: Digest, items: dict) -> tuple[int, dict]:
        code, lines = self.serve(receipt, frame_of(parts_of(items)))
        return code, lines[-1]

    def status(self) -> dict:
        code, lines = self.serve(Digest("sha256:" + "0" * 64), b"", "status")
        assert code == 0, lines
        return lines[-1]

    def component(self) -> dict:
        return self.status()["components"][0]

    def page(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}/", timeout=30) as answer:
            return answer.read().decode()

    def state(self) -> bytes:
        return self.place.state.read_bytes()


@contextmanager
def installed(directory: Path, gatekeeper: Gatekeeper | None = None, override_keys: bytes | None = None):
    # A workload is stopped and started: its port is nobody else's meanwhile.
    with held_ports(1) as (port,):
        door = InstalledDoorkeeper(directory, gatekeeper or Gatekeeper(), port, override_keys)
        try:
            yield door
        finally:
            stop_workloads(door.place)
            assert not processes_below(directory), "a process was left behind"


def processes_below(directory: Path) -> list[int]:
    """Processes whose working directory, or one of whose arguments, lies below a directory; zombies are nobody's."""
    found = []
    for entry in list(Path("/proc").iterdir()):
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = Path(entry, "cmdline").read_bytes()
            cwd = str(Path(entry, "cwd").readlink())
        except OSError:
            continue
        if arguments and (str(directory).encode() in arguments or cwd.startswith(str(directory))):
            found.append(int(entry.name))
    return found


