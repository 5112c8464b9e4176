"""Builds the embedded house in one directory: vault, database, policy, targets, gatekeepers, each a real program.

Each part is a step with a name and a duration. Secrets: the vault's are under `operator/` (0700); people's tokens and keys under `people/` (0600);
a gatekeeper gets its three wrapped logins over a pipe at every start and writes none of them down.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from gatekeeper import bootstrap
from gatekeeper.bootstrap import PublicMaterial
from gatekeeper.shipped import example
from gatekeeper.tlog.logpolicy import LogPolicy, encode_log_policy
from gatekeeper.tlog.note import parse_vkey

from . import openbao
from .certificate import make_certificate
from .control import Controlled
from .git import git
from .instance import DemoInstance, InstancePlan, InstancePorts
from .layout import VaultLayout, read_material, written_layout
from .legacy import end_legacy, legacy_of, start_legacy
from .platform import BUILDER_ID, ISSUER, Platform
from .policy_repository import PolicyFacts, PolicyRepository, SecondProject, make_policy_repository
from .ports import held_ports
from .postgres import VARIABLE, EmbeddedPostgres, GivenPostgres
from .processes import Supervised, environment, module
from .programs import DatabaseProgram, GatekeeperProgram, TargetProgram, VaultProgram
from .witness import WitnessProgram, cosigned_policy, make_witness
from .world import World

PEOPLE: Final = {
    "alice": ("developers", "reviewers"),
    "bob": ("developers", "reviewers"),
    "olga": ("operators",),
    "omar": ("operators",),
    "sec": ("security",),
    "admin": ("admins",),
}
"""who is in which groups: alice writes, bob reviews, olga and omar operate"""
VOTERS: Final = ("alice", "bob")
OPERATORS: Final = ("olga", "omar")
"""whose keys are pinned at the targets"""


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
    second: Path
    """bare repository of a second project, which has the directory's name"""
    instances: tuple[InstancePlan, ...]
    database_url: str | None = field(default=None, repr=False)
    """a server to make databases on; None: one of our own"""


class House:
    """A house under construction, then standing. `stack` takes it down again, in the opposite order."""

    def __init__(self, plan: Plan, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        self._plan = plan
        self._stack = stack
        self._nursery = nursery
        self._dir = plan.directory
        self.steps: list[dict[str, Any]] = []
        self.platform = Platform(self._dir / "platform")
        self._passwords = {name: secrets.token_urlsafe(18) for name in PEOPLE}
        self._parts: dict[str, Supervised] = {}
        self._fixed: dict[str, str] = {}
        self._leaves: list[Supervised] = []
        """witnesses, targets and gatekeepers: nothing else depends on them"""
        ports = stack.enter_context(held_ports(6 * len(plan.instances) + 2))
        self._second = legacy_of(plan.second, self._dir)
        self._vault_ports, rest = ports[:2], ports[2:]
        self._instances = tuple(
            DemoInstance(one, self._dir, InstancePorts(*rest[6 * n : 6 * n + 6]), f"canary-{one.name}-{secrets.token_hex(12)}")
            for n, one in enumerate(plan.instances)
        )

    async def build(self) -> World:
        """Everything, in order."""
        self._bao = await self._step("vault", self._vault)
        self._material: PublicMaterial = await self._step("vault-bootstrap", self._bootstrap)
        await self._step("database", self._database)
        self._policy: PolicyRepository = await self._step("policy", self._make_policy)
        await self._step("witness", self._witnesses)
        host_keys = await self._step("target", self._targets)
        await self._step("gatekeeper", partial(self._gatekeepers, host_keys))
        await self.refresh_tokens()
        return self._world()

    @property
    def controlled(self) -> Controlled:
        """What can be stopped and started."""
        return Controlled(self._parts, self._fixed)

    async def refresh_tokens(self) -> None:
        """Fresh tokens for everybody, the pipeline's ten minutes long, people's an hour, written whole. Raises `PortError` without the vault."""
        await self._refresh_pipeline()
        for person, password in self._passwords.items():
            folder = self._dir / "people" / person
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for instance in self._instances:
                token = await trio.to_thread.run_sync(
                    partial(bootstrap.person_token, self._bao.address, name=person, password=password, instance=instance.name)
                )
                _write_private(folder / f"{instance.name}.token", token + "\n")

    async def _refresh_pipeline(self) -> None:
        # A run's token lives ten minutes and speaks for one commit: the newest on main, as if its pipeline were running now.
        commit = await trio.to_thread.run_sync(partial(git, "rev-parse", "refs/heads/main", cwd=self._plan.repository))
        run = self.platform.start_run(project=self._plan.project, commit=commit, ref="refs/heads/main", actor="alice")
        pipeline = self._dir / "people" / "pipeline"
        pipeline.mkdir(mode=0o700, parents=True, exist_ok=True)
        for instance in self._instances:
            _write_private(pipeline / f"{instance.name}.token", self.platform.token(run, f"pingee:{instance.name}") + "\n")

    async def renew_supervisor(self) -> None:
        """Prolong the supervisor's token: without it a killed gatekeeper could not come back. Raises `PortError` without the vault."""
        token = (self._dir / "operator" / "supervisor.token").read_text().strip()
        await trio.to_thread.run_sync(bootstrap.renew_supervisor, self._bao.address, token)

    def _supervise(self, part: Supervised, ends_with: list[Supervised] | None = None) -> Supervised:
        """From now on it comes back when it is killed, can be stopped by name, and ends with the house: by itself, or together with others."""
        self._parts[part.name] = part
        if ends_with is None:
            self._stack.push_async_callback(_stop_together, [part])
        else:
            ends_with.append(part)
        self._nursery.start_soon(part.run)
        return part

    async def _step(self, name: str, work: Any) -> Any:
        started = time.monotonic()
        found = await work()
        seconds = round(time.monotonic() - started, 3)
        self.steps.append({"name": name, "seconds": seconds})
        print(json.dumps({"step": name, "seconds": seconds}), flush=True)
        return found

    async def _vault(self) -> openbao.OpenBao:
        bao = await openbao.start(self._dir / "vault", ports=self._vault_ports)
        self._supervise(Supervised(VaultProgram(bao), wanted=True))
        return bao

    async def _bootstrap(self) -> PublicMaterial:
        operator = self._dir / "operator"
        operator.mkdir(mode=0o700)
        layout = VaultLayout(
            directory=operator,
            platform_key_pem=self.platform.public_key_pem,
            projects=(self._plan.project, self._second.name),
            component=self._plan.component,
            people={name: (groups, self._passwords[name]) for name, groups in PEOPLE.items()},
            people_issuer=self._bao.address.url,
            instances=tuple(instance.layout() for instance in self._instances),
        )
        with written_layout(layout) as file:
            address = ("--vault", self._bao.address.url, "--ca-file", str(self._bao.address.ca_file))
            argv = module("gatekeeper.command", "bootstrap", *address, "--layout", str(file), "--out", str(operator), "--initialise")
            (self._dir / "vault" / "bootstrap.log").write_bytes(await _run(argv))
        return read_material(operator, tuple(instance.name for instance in self._instances))

    async def _database(self) -> None:
        given = self._plan.database_url
        postgres = EmbeddedPostgres(self._dir / "postgres") if given is None else GivenPostgres(given)
        self._stack.callback(postgres.stop)
        postgres.start()
        if isinstance(postgres, EmbeddedPostgres):
            self._supervise(Supervised(DatabaseProgram(postgres), wanted=True))
        else:
            self._fixed["database"] = f"the database is not the demo's to stop or start: {VARIABLE} names a server that somebody else runs"
        for instance in self._instances:
            _write_private(instance.database_url_file, postgres.create_database(instance.name) + "\n")

    async def _make_policy(self) -> PolicyRepository:
        texts = {
            "ci_issuer": ISSUER,
            "builder_id": BUILDER_ID,
            "people_issuer": self._material.people_issuer,
            "repository": self._plan.repository.as_uri(),
        }
        for name in PEOPLE:
            texts[f"{name}_subject"] = self._material.people[name]
        for name in (*VOTERS, *OPERATORS):
            texts[f"{name}_key"] = await trio.to_thread.run_sync(_new_key, self._dir / "people" / name / "key.pem")
        # A person may have more than one key; a second one makes nobody a second person.
        second = await trio.to_thread.run_sync(_new_key, self._dir / "people" / OPERATORS[0] / "second-key.pem")
        pinned = [(name, texts[f"{name}_key"]) for name in OPERATORS] + [(OPERATORS[0], second)]
        (self._dir / "operator" / "override-keys").write_text("".join(f"{name} {key}\n" for name, key in pinned))
        facts = PolicyFacts(
            project=self._plan.project,
            component=self._plan.component,
            texts=texts,
            second=SecondProject(self._second.name, self._second.repository),
            files={
                "ci.jwks.json": self.platform.jwks,
                "people.jwks.json": json.dumps(self._material.jwks, indent=1, sort_keys=True) + "\n",
                "builder-ca.pem": self._material.builder_ca_pem,
            },
        )
        instances = tuple(instance.facts() for instance in self._instances)
        return await trio.to_thread.run_sync(make_policy_repository, self._dir / "policy", example("policy"), facts, instances)

    async def _witnesses(self) -> None:
        """What is pinned of each instance, and the witness where its log has one."""
        self._stack.push_async_callback(_stop_together, self._leaves)
        for instance in self._instances:
            instance.folder.mkdir(mode=0o700, parents=True)
            public = self._material.instances[instance.name]
            policy = encode_log_policy(LogPolicy(log=parse_vkey(public.log_vkey)))
            if instance.plan.witnessed:
                policy = cosigned_policy(public.log_vkey, instance, await make_witness(instance, public.log_vkey))
                await self._supervise(Supervised(WitnessProgram(instance)), self._leaves).start()
            (instance.folder / "log-policy").write_bytes(policy)
            (instance.folder / "log.vkey").write_text(public.log_vkey + "\n")
            (instance.folder / "receipt.pem").write_text(public.receipt_key_pem)
            (instance.folder / "ssh-user-ca.pub").write_text(public.ssh_ca + "\n")

    async def _targets(self) -> Mapping[str, str]:
        keys = {}
        for instance in self._instances:
            keys[instance.name] = await self._target(instance)
        self._stack.callback(end_legacy, start_legacy(self._second, self._instances[-1].ports.second_workload))
        return keys

    async def _target(self, instance: DemoInstance) -> str:
        instance.home.mkdir(mode=0o700, parents=True)
        await _run(
            [
                *module("clients.doorkeeper.cli", "--dir", str(instance.home), "install"),
                *("--target", instance.target, "--instance", instance.name, "--environment", instance.name),
                *("--component", f"{self._plan.component}={instance.ports.workload}"),
                *("--component", f"{self._second.name}={instance.ports.second_workload}"),
                *("--log-policy", str(instance.folder / "log-policy"), "--receipt-keys", str(instance.folder / "receipt.pem")),
                *("--override-keys", str(self._dir / "operator" / "override-keys")),
            ]
        )
        program = TargetProgram(instance)
        await self._supervise(Supervised(program), self._leaves).start()
        return await program.host_key()

    async def _gatekeepers(self, host_keys: Mapping[str, str]) -> None:
        needs = [part for name, part in self._parts.items() if name in ("vault", "database")]
        started = []
        for instance in self._instances:
            make_certificate(instance.folder / "tls", "Pingee demo CA")
            text = instance.configuration(self._bao.address, self._policy, host_key=host_keys[instance.name])
            instance.configuration_file.write_text(text)
            started.append(self._supervise(Supervised(GatekeeperProgram(instance, self._bao.address, needs)), self._leaves))
        async with trio.open_nursery() as nursery:
            for gatekeeper in started:
                nursery.start_soon(gatekeeper.start)

    def _world(self) -> World:
        return World(
            directory=str(self._dir),
            project=self._plan.project,
            component=self._plan.component,
            repository=self._plan.repository.as_uri(),
            repository_path=str(self._plan.repository),
            people=str(self._dir / "people"),
            platform=str(self._dir / "platform"),
            policy=str(self._policy.work),
            instances=tuple(instance.world() for instance in self._instances),
            parts=tuple(self._parts),
            second=self._second,
            steps=tuple(self.steps),
        )


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


async def _stop_together(parts: list[Supervised]) -> None:
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            for part in parts:
                nursery.start_soon(part.stop)


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.touch(mode=0o600)
    draft.chmod(0o600)
    draft.write_text(text)
    draft.replace(path)
