"""Builds the embedded house in one directory: vault, database, policy, targets, gatekeepers, each a real program.

Each part is a step with a name and a duration. Secrets: the vault's are under `operator/` (0700); people's tokens and keys under `people/` (0600);
a gatekeeper gets its three wrapped logins over a pipe at every start and writes none of them down.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import trio

from gatekeeper import bootstrap
from gatekeeper.bootstrap import PublicMaterial
from gatekeeper.shipped import example
from gatekeeper.tlog.logpolicy import LogPolicy, encode_log_policy
from gatekeeper.tlog.note import parse_vkey

from . import openbao
from .certificate import make_certificate
from .git import git
from .layout import LayoutInstance, VaultLayout, read_material, written_layout
from .platform import BUILDER_ID, ISSUER, Platform
from .policy_repository import InstanceFacts, PolicyFacts, PolicyRepository, make_policy_repository
from .postgres import EmbeddedPostgres, GivenPostgres
from .processes import Supervised, environment, module, spawn
from .world import InstanceWorld, World

START_S: Final = 30.0
HOST: Final = "127.0.0.1"

PEOPLE: Final = {
    "alice": ("developers", "reviewers"),
    "bob": ("developers", "reviewers"),
    "olga": ("operators",),
    "sec": ("security",),
    "admin": ("admins",),
}
"""who is in which groups: alice writes, bob reviews, olga operates"""
VOTERS: Final = ("alice", "bob")


class HouseFailed(RuntimeError):
    """A part did not come up; the message names it and its log file."""


@dataclass(frozen=True)
class Plan:
    """What house to build."""

    directory: Path
    project: str
    component: str
    repository: Path
    """bare repository of the project"""
    instances: tuple[tuple[str, tuple[str, ...]], ...]
    """name, and the stages that its environment requires"""
    database_url: str | None = field(default=None, repr=False)
    """a server to make databases on; None: one of our own"""


@dataclass(frozen=True)
class _Ports:
    """Ports of one instance, free when they were chosen."""

    public: int
    operator: int
    ssh: int
    workload: int

    @classmethod
    def choose(cls, names: list[str]) -> dict[str, _Ports]:
        # All at once, so that no two are the same.
        held = [socket.socket() for _ in range(4 * len(names))]
        try:
            for one in held:
                one.bind((HOST, 0))
            ports = [one.getsockname()[1] for one in held]
        finally:
            for one in held:
                one.close()
        return {name: cls(*ports[4 * n : 4 * n + 4]) for n, name in enumerate(names)}


class House:
    """A house under construction, then standing. `stack` takes it down again, in the opposite order."""

    def __init__(self, plan: Plan, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        self._plan = plan
        self._stack = stack
        self._nursery = nursery
        self._dir = plan.directory
        self.steps: list[dict[str, Any]] = []
        self._ports = _Ports.choose([name for name, _ in plan.instances])
        self.platform = Platform(self._dir / "platform")
        self._passwords = {name: secrets.token_urlsafe(18) for name in PEOPLE}
        self._canaries = {name: f"canary-{name}-{secrets.token_hex(12)}" for name, _ in plan.instances}

    async def build(self) -> World:
        """Everything, in order."""
        self._bao = await self._step("vault", self._vault)
        self._material: PublicMaterial = await self._step("vault-bootstrap", self._bootstrap)
        self._postgres = await self._step("database", self._database)
        self._policy: PolicyRepository = await self._step("policy", self._make_policy)
        host_keys = await self._step("target", self._targets)
        await self._step("gatekeeper", partial(self._gatekeepers, host_keys))
        await self.refresh_tokens()
        return self._world()

    async def refresh_tokens(self) -> None:
        """Fresh tokens for everybody, people's an hour long, the pipeline's ten minutes, written whole."""
        for person, password in self._passwords.items():
            folder = self._dir / "people" / person
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, _ in self._plan.instances:
                token = await trio.to_thread.run_sync(
                    partial(bootstrap.person_token, self._bao.address, name=person, password=password, instance=name)
                )
                _write_private(folder / f"{name}.token", token + "\n")
        # A run's token lives ten minutes and speaks for one commit: the newest on main, as if its pipeline were running now.
        commit = await trio.to_thread.run_sync(partial(git, "rev-parse", "refs/heads/main", cwd=self._plan.repository))
        run = self.platform.start_run(project=self._plan.project, commit=commit, ref="refs/heads/main", actor="alice")
        pipeline = self._dir / "people" / "pipeline"
        pipeline.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, _ in self._plan.instances:
            _write_private(pipeline / f"{name}.token", self.platform.token(run, f"pingee:{name}") + "\n")

    async def renew_supervisor(self) -> None:
        """Prolong the supervisor's token: without it a killed gatekeeper could not come back."""
        token = (self._dir / "operator" / "supervisor.token").read_text().strip()
        await trio.to_thread.run_sync(bootstrap.renew_supervisor, self._bao.address, token)

    async def _step(self, name: str, work: Any) -> Any:
        started = time.monotonic()
        found = await work()
        seconds = round(time.monotonic() - started, 3)
        self.steps.append({"name": name, "seconds": seconds})
        print(json.dumps({"step": name, "seconds": seconds}), flush=True)
        return found

    async def _vault(self) -> openbao.OpenBao:
        bao = await openbao.start(self._dir / "vault")
        self._stack.push_async_callback(openbao.stop, bao)
        return bao

    async def _bootstrap(self) -> PublicMaterial:
        operator = self._dir / "operator"
        operator.mkdir(mode=0o700)
        layout = VaultLayout(
            directory=operator,
            platform_key_pem=self.platform.public_key_pem,
            project=self._plan.project,
            component=self._plan.component,
            people={name: (groups, self._passwords[name]) for name, groups in PEOPLE.items()},
            people_issuer=self._bao.address.url,
            instances=tuple(
                LayoutInstance(name=name, origin=_origin(name), target=_target(name), account=_account(name), source_address=HOST, canary=canary)
                for name, canary in self._canaries.items()
            ),
        )
        with written_layout(layout) as file:
            address = ("--vault", self._bao.address.url, "--ca-file", str(self._bao.address.ca_file))
            argv = module("gatekeeper.command", "bootstrap", *address, "--layout", str(file), "--out", str(operator), "--initialise")
            (self._dir / "vault" / "bootstrap.log").write_bytes(await _run(argv))
        return read_material(operator, tuple(self._canaries))

    async def _database(self) -> EmbeddedPostgres | GivenPostgres:
        given = self._plan.database_url
        postgres = EmbeddedPostgres(self._dir / "postgres") if given is None else GivenPostgres(given)
        self._stack.callback(postgres.stop)
        postgres.start()
        for name, _ in self._plan.instances:
            _write_private(self._dir / "operator" / f"{name}.database-url", postgres.create_database(name) + "\n")
        return postgres

    async def _make_policy(self) -> PolicyRepository:
        texts = {
            "ci_issuer": ISSUER,
            "builder_id": BUILDER_ID,
            "people_issuer": self._material.people_issuer,
            "repository": self._plan.repository.as_uri(),
        }
        for name in PEOPLE:
            texts[f"{name}_subject"] = self._material.people[name]
        for name in VOTERS:
            texts[f"{name}_key"] = await trio.to_thread.run_sync(_new_key, self._dir / "people" / name / "key.pem")
        facts = PolicyFacts(
            project=self._plan.project,
            component=self._plan.component,
            texts=texts,
            files={
                "ci.jwks.json": self.platform.jwks,
                "people.jwks.json": json.dumps(self._material.jwks, indent=1, sort_keys=True) + "\n",
                "builder-ca.pem": self._material.builder_ca_pem,
            },
        )
        instances = tuple(InstanceFacts(name, _target(name), stages) for name, stages in self._plan.instances)
        return await trio.to_thread.run_sync(make_policy_repository, self._dir / "policy", example("policy"), facts, instances)

    async def _targets(self) -> Mapping[str, str]:
        keys = {}
        for name, _ in self._plan.instances:
            folder = self._dir / "instances" / name
            folder.mkdir(mode=0o700, parents=True)
            public = self._material.instances[name]
            (folder / "log-policy").write_bytes(encode_log_policy(LogPolicy(log=parse_vkey(public.log_vkey))))
            (folder / "log.vkey").write_text(public.log_vkey + "\n")
            (folder / "receipt.pem").write_text(public.receipt_key_pem)
            (folder / "ssh-user-ca.pub").write_text(public.ssh_ca + "\n")
            keys[name] = await self._target(name, folder)
        return keys

    async def _target(self, name: str, folder: Path) -> str:
        home = self._dir / "targets" / name
        home.mkdir(mode=0o700, parents=True)
        ports = self._ports[name]
        await _run(
            [
                *module("clients.doorkeeper.cli", "--dir", str(home), "install"),
                *("--target", _target(name), "--instance", name, "--environment", name),
                *("--component", f"{self._plan.component}={ports.workload}"),
                *("--log-policy", str(folder / "log-policy"), "--receipt-keys", str(folder / "receipt.pem")),
            ]
        )
        log = (home / "host.log").open("ab")
        self._stack.callback(log.close)
        announced = home / "announced.json"
        argv = module("clients.doorkeeper.host", "--dir", str(home), "--user-ca", str(folder / "ssh-user-ca.pub"))
        argv += ["--principal", _account(name), "--listen", f"{HOST}:{ports.ssh}"]

        def start() -> subprocess.Popen[bytes]:
            with announced.open("wb") as out:
                return spawn(argv, log, stdout=out)

        self._nursery.start_soon(Supervised("target", start, home / "host.pid").run)
        line = await _first_line(announced, f"the target of {name}", home / "host.log")
        return str(json.loads(line)["host_key"])

    async def _gatekeepers(self, host_keys: Mapping[str, str]) -> None:
        for name, _ in self._plan.instances:
            folder = self._dir / "instances" / name
            make_certificate(folder / "tls", "Pingee demo CA")
            config = folder / "gatekeeper.toml"
            config.write_text(self._configuration(name, host_keys[name]))
            log = (folder / "gatekeeper.log").open("ab")
            self._stack.callback(log.close)
            self._nursery.start_soon(Supervised("gatekeeper", partial(self._start_gatekeeper, name, config, log), folder / "gatekeeper.pid").run)
        for name, _ in self._plan.instances:
            await self._ready(name)

    def _start_gatekeeper(self, name: str, config: Path, log: Any) -> subprocess.Popen[bytes]:
        """Fresh single-use secrets at every start, over a pipe that is closed at once."""
        supervisor = (self._dir / "operator" / "supervisor.token").read_text().strip()
        logins = {}
        for role in ("log", "decide", "act"):
            secret = bootstrap.mint_wrapped(self._bao.address, supervisor, f"{name}-{role}")
            logins[role] = {"role_id": secret.role_id, "token": secret.wrapping_token}
        process = spawn(module("gatekeeper.command", "serve", "--config", str(config)), log, pipe=True)
        if process.stdin is not None:
            with process.stdin as pipe:
                pipe.write(json.dumps(logins).encode() + b"\n")
        return process

    def _configuration(self, name: str, host_key: str) -> str:
        ports = self._ports[name]
        vault = self._dir / "vault"
        return f"""\
instance = "{name}"
origin = "{_origin(name)}"
public_url = "https://{HOST}:{ports.public}"
state = "state"

[public]
host = "{HOST}"
port = {ports.public}
certificate = "tls/tls.pem"
key = "tls/tls.key"

[operator]
host = "{HOST}"
port = {ports.operator}

[database]
url_file = "{self._dir}/operator/{name}.database-url"

[vault]
url = "{self._bao.address.url}"
ca_file = "{vault}/ca.pem"
log_key = "log.vkey"
receipt_key = "receipt.pem"
key_version = 1

[policy]
remote = "{self._policy.remote.as_uri()}"
branch = "{name}"
root = "{self._policy.roots[name]}"
signers = "{self._policy.signers}"
refresh_s = 2

[artifacts]
directory = "artifacts"
max_blob = 536870912

[targets.{_target(name)}]
environment = "{name}"
host = "{HOST}"
port = {ports.ssh}
user = "{_account(name)}"
host_keys = ["{host_key}"]
source_address = "{HOST}"
"""

    async def _ready(self, name: str) -> None:
        url = f"http://{HOST}:{self._ports[name].operator}/readyz"
        log = self._dir / "instances" / name / "gatekeeper.log"
        deadline = trio.current_time() + START_S
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            while trio.current_time() < deadline:
                try:
                    if (await client.get(url)).status_code == 200:
                        return
                except httpx2.HTTPError:
                    pass
                await trio.sleep(0.05)
        lines = log.read_text(errors="replace").splitlines()[-3:]
        raise HouseFailed(f"the gatekeeper {name} was not ready within {START_S:.0f} s; see {log}: {' | '.join(lines)}")

    def _world(self) -> World:
        instances = []
        for name, _ in self._plan.instances:
            ports = self._ports[name]
            folder = self._dir / "instances" / name
            instances.append(
                InstanceWorld(
                    name=name,
                    url=f"https://{HOST}:{ports.public}",
                    operator_url=f"http://{HOST}:{ports.operator}",
                    ca_file=str(folder / "tls" / "ca.pem"),
                    log_policy=str(folder / "log-policy"),
                    origin=_origin(name),
                    target=_target(name),
                    workload_url=f"http://{HOST}:{ports.workload}",
                    database_url_file=str(self._dir / "operator" / f"{name}.database-url"),
                    artifacts=str(folder / "artifacts"),
                    log_file=str(folder / "gatekeeper.log"),
                    pid_file=str(folder / "gatekeeper.pid"),
                )
            )
        return World(
            directory=str(self._dir),
            project=self._plan.project,
            component=self._plan.component,
            repository=self._plan.repository.as_uri(),
            repository_path=str(self._plan.repository),
            people=str(self._dir / "people"),
            platform=str(self._dir / "platform"),
            policy=str(self._policy.work),
            instances=tuple(instances),
            steps=tuple(self.steps),
        )


def _origin(name: str) -> str:
    return f"{name}.demo/log/{datetime.now(UTC).year}"


def _target(name: str) -> str:
    return f"{name}-1"


def _account(name: str) -> str:
    return f"deploy-{name}"


def _new_key(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = module("clients.cli.main", "key", "new", str(path))
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30, env=environment())
    return done.stdout.strip()


async def _run(argv: list[str]) -> bytes:
    done = await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False, env=environment(), stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise HouseFailed(f"{argv[2]} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout


async def _first_line(file: Path, what: str, log: Path) -> str:
    deadline = trio.current_time() + START_S
    while trio.current_time() < deadline:
        text = file.read_text() if file.exists() else ""
        if "\n" in text:
            return text.splitlines()[0]
        await trio.sleep(0.05)
    raise HouseFailed(f"{what} did not start within {START_S:.0f} s; see {log}")


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.touch(mode=0o600)
    draft.chmod(0o600)
    draft.write_text(text)
    draft.replace(path)
