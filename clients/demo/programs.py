"""The programs that the house is made of: vault, database, a target for each instance, a gatekeeper for each instance."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2
import trio

from clients.doorkeeper import supervise
from gatekeeper import bootstrap
from gatekeeper.adapters.vault import VaultAddress
from gatekeeper.bootstrap import VaultState
from gatekeeper.ports.errors import PortError

from . import openbao
from .instance import DemoInstance
from .ports import HOST
from .postgres import EmbeddedPostgres
from .processes import NotReady, Supervised, end, module, spawn

READY_S: Final = 60.0
_POLL_S: Final = 0.05


class VaultProgram:
    """The vault: its seal opens itself, what it holds is on disk."""

    name = "vault"

    def __init__(self, bao: openbao.OpenBao) -> None:
        self._bao = bao

    def runs(self) -> bool:
        """Whether its process lives."""
        return self._bao.process.poll() is None

    async def launch(self) -> None:
        """See `Program`."""
        try:
            self._bao = openbao.launch(self._bao.directory)
        except openbao.VaultFailed as error:
            raise NotReady(str(error)) from error

    async def ready(self) -> None:
        """Answering and unsealed."""
        try:
            await openbao.wait_for_state(self._bao, VaultState.READY)
        except openbao.VaultFailed as error:
            raise NotReady(str(error)) from error

    async def end(self) -> None:
        """See `Program`."""
        await openbao.stop(self._bao)

    async def kill(self) -> None:
        """See `Program`."""
        self._bao.process.kill()
        await trio.to_thread.run_sync(self._bao.process.wait)


class DatabaseProgram:
    """The database server that is our own."""

    name = "database"

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._postgres = postgres

    def runs(self) -> bool:
        """Whether its process lives."""
        return self._postgres.runs

    async def launch(self) -> None:
        """From this thread, with which the server dies."""
        self._postgres.launch()

    async def ready(self) -> None:
        """Answering a query. After a kill it may need more than one try, which the supervision makes."""
        with trio.move_on_after(READY_S):
            while not await trio.to_thread.run_sync(self._postgres.answers):
                await trio.sleep(_POLL_S)
            return
        raise NotReady(f"the database did not answer within {READY_S:.0f} s")

    async def end(self) -> None:
        """See `Program`; sockets stay where they are."""
        await trio.to_thread.run_sync(self._postgres.halt)

    async def kill(self) -> None:
        """See `Program`."""
        await trio.to_thread.run_sync(self._postgres.kill)


@dataclass
class TargetProgram:
    """A target: its SSH host, the doorkeepers that the host starts, and the workloads that those start."""

    instance: DemoInstance
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        """See `Program`."""
        return f"target-{self.instance.name}"

    def runs(self) -> bool:
        """Whether the host's process lives."""
        return self.process is not None and self.process.poll() is None

    async def launch(self) -> None:
        """See `Program`."""
        home = self.instance.home
        argv = module("clients.doorkeeper.host", "--dir", str(home), "--user-ca", str(self.instance.folder / "ssh-user-ca.pub"))
        argv += ["--principal", self.instance.account, "--listen", f"{HOST}:{self.instance.ports.ssh}"]
        with (home / "host.log").open("ab") as log, (home / "announced.json").open("wb") as out:
            self.process = spawn(argv, log, stdout=out)
        (home / "host.pid").write_text(f"{self.process.pid}\n")

    async def ready(self) -> None:
        """It has said where it listens."""
        await self.host_key()

    async def host_key(self) -> str:
        """The key that it announces, once it listens. Raises `NotReady`."""
        home = self.instance.home
        with trio.move_on_after(READY_S):
            while True:
                text = (home / "announced.json").read_text()
                if "\n" in text:
                    return str(json.loads(text.splitlines()[0])["host_key"])
                await trio.sleep(_POLL_S)
        raise NotReady(f"{self.name} did not listen within {READY_S:.0f} s; see {home / 'host.log'}")

    async def end(self) -> None:
        """The host stops its workloads itself."""
        if self.process is not None:
            await end(self.process)

    async def kill(self) -> None:
        """As when a machine loses its power: the host, its doorkeepers and every workload at once."""
        if self.process is None:
            return
        os.killpg(self.process.pid, signal.SIGKILL)
        await trio.to_thread.run_sync(self.process.wait)
        # Without its host there is no new doorkeeper; a doorkeeper at work may have started one more workload.
        while groups := _groups_of(self.instance.home):
            for group in groups:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            await trio.sleep(_POLL_S)


@dataclass
class GatekeeperProgram:
    """A gatekeeper. It gets its three logins at every start, wrapped and for one use, over a pipe that is closed at once."""

    instance: DemoInstance
    vault: VaultAddress
    needs: Sequence[Supervised]
    """without these it cannot be ready"""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        """See `Program`."""
        return f"gatekeeper-{self.instance.name}"

    def runs(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    async def launch(self) -> None:
        """Raises `NotReady` where the vault hands out no login."""
        try:
            logins = await trio.to_thread.run_sync(self._mint)
        except PortError as error:
            raise NotReady(f"{self.name} {self._waits() or f'gets no login from the vault: {error}'}") from None
        with self.instance.log_file.open("ab") as log:
            process = spawn(module("gatekeeper.command", "serve", "--config", str(self.instance.configuration_file)), log, pipe=True)
        if process.stdin is not None:
            # One that ended at once says why in its log.
            with suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(json.dumps(logins).encode() + b"\n")
        self.process = process
        self.instance.pid_file.write_text(f"{process.pid}\n")

    async def ready(self) -> None:
        """Its own `readyz` says so."""
        deadline = trio.current_time() + READY_S
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            while trio.current_time() < deadline:
                with suppress(httpx2.HTTPError):
                    if (await client.get(f"{self.instance.operator_url}/readyz")).status_code == 200:
                        return
                waits = self._waits()
                if waits is not None:
                    raise NotReady(f"{self.name} {waits}")
                await trio.sleep(_POLL_S)
        lines = self.instance.log_file.read_text(errors="replace").splitlines()[-3:]
        raise NotReady(f"{self.name} was not ready within {READY_S:.0f} s; see {self.instance.log_file}: {' | '.join(lines)}")

    async def end(self) -> None:
        """See `Program`."""
        if self.process is not None:
            await end(self.process)

    async def kill(self) -> None:
        """See `Program`."""
        if self.process is not None:
            self.process.kill()
            await trio.to_thread.run_sync(self.process.wait)

    def _mint(self) -> dict[str, dict[str, str]]:
        supervisor = (self.instance.house / "operator" / "supervisor.token").read_text().strip()
        logins = {}
        for role in ("log", "decide", "act"):
            secret = bootstrap.mint_wrapped(self.vault, supervisor, f"{self.instance.name}-{role}")
            logins[role] = {"role_id": secret.role_id, "token": secret.wrapping_token}
        return logins

    def _waits(self) -> str | None:
        stopped = [part.name for part in self.needs if not part.wanted]
        return f"is to run and becomes ready by itself once these are started: {', '.join(stopped)}" if stopped else None


def _groups_of(home: Path) -> frozenset[int]:
    """Process groups led by a host, a doorkeeper or a workload's supervisor of the target in `home`. Nobody else who names it is meant."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if _belongs(argv, str(home)):
                    found.add(os.getpgid(int(entry.name)))
    return frozenset(found)


def _belongs(argv: list[str], home: str) -> bool:
    if len(argv) > 4 and argv[1] == "-m" and argv[2] in ("clients.doorkeeper.host", "clients.doorkeeper.cli"):
        return argv[3:5] == ["--dir", home]
    return len(argv) > 4 and argv[3] == supervise.__file__ and argv[4].startswith(f"{home}/")
