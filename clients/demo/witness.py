"""A witness, as a second team runs it: its own directory, key and certificate. It opens no connection and cosigns what extends what it saw."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from gatekeeper.tlog.logpolicy import LogPolicy, Witness, encode_log_policy
from gatekeeper.tlog.note import parse_vkey

from .certificate import make_certificate
from .instance import DemoInstance
from .ports import HOST
from .processes import NotReady, end, environment, module, spawn

READY_S: Final = 60.0
_POLL_S: Final = 0.02


def cosigned_policy(log_vkey: str, instance: DemoInstance, witness_vkey: str) -> bytes:
    """The log policy of an instance that is witnessed: nothing of its log is believed without the witness."""
    witness = Witness("team-b", parse_vkey(witness_vkey), instance.witness_url)
    return encode_log_policy(LogPolicy(log=parse_vkey(log_vkey), witnesses=(witness,), quorum=witness.name))


async def make_witness(instance: DemoInstance, log_vkey: str) -> str:
    """Its directory, its key, and the log it watches over; its own verifier key."""
    home = instance.witness_home
    make_certificate(home / "tls", "Pingee demo witness CA")
    vkey = await _run("init", str(home / "witness"), "--name", f"witness.demo/{instance.name}")
    await _run("add-log", str(home / "witness"), log_vkey)
    return vkey


@dataclass
class WitnessProgram:
    """The witness of one instance's log."""

    instance: DemoInstance
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        """See `Program`."""
        return f"witness-{self.instance.name}"

    def runs(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    async def launch(self) -> None:
        """See `Program`."""
        home = self.instance.witness_home
        argv = module("clients.witness.cli", "serve", str(home / "witness"), "--listen", f"{HOST}:{self.instance.ports.witness}")
        argv += ["--certificate", str(home / "tls" / "tls.pem"), "--key", str(home / "tls" / "tls.key")]
        with (home / "witness.log").open("ab") as log, self._announced.open("wb") as out:
            self.process = spawn(argv, log, stdout=out)

    async def ready(self) -> None:
        """It has said that it serves."""
        with trio.move_on_after(READY_S):
            while "\n" not in self._announced.read_text():
                await trio.sleep(_POLL_S)
            return
        raise NotReady(f"{self.name} did not listen within {READY_S:.0f} s; see {self.instance.witness_home / 'witness.log'}")

    async def end(self) -> None:
        """See `Program`."""
        if self.process is not None:
            await end(self.process)

    async def kill(self) -> None:
        """See `Program`."""
        if self.process is not None:
            self.process.kill()
            await trio.to_thread.run_sync(self.process.wait)

    @property
    def _announced(self) -> Path:
        return self.instance.witness_home / "announced"


async def _run(*arguments: str) -> str:
    argv = module("clients.witness.cli", *arguments)
    done = await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False, env=environment(), stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise NotReady(f"pingee-witness {arguments[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout.decode().strip()
