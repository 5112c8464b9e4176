"""What the demo shows: every step goes through a public command, as a user would, and checks what it printed."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .calls import call
from .control import ControlRefused, Do, ask_keeper
from .git import commit_all, git
from .platform import Platform, Run
from .processes import environment, module
from .telling import StepFailed
from .world import InstanceWorld, World

COMMAND_S: Final = 180
MAIN: Final = "refs/heads/main"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def document(self) -> Any:
        """Its stdout as JSON."""
        try:
            return json.loads(self.out)
        except ValueError:
            raise StepFailed(f"expected JSON, got {self.out[:200]!r}; stderr: {self.err[-500:]}") from None


@dataclass(frozen=True)
class Built:
    """A submitted artifact and the run that built it."""

    commit: str
    tree: str
    artifact: str
    run: Run
    log_url: str
    seconds: float


class Stage:
    """The stage on which the steps act: the world, and a pipeline's and people's hands."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.platform = Platform(Path(world.platform))
        self.work = Path(world.directory) / "work"
        self.work.mkdir(mode=0o700, exist_ok=True)

    def pingee(self, instance: InstanceWorld, *arguments: str, token_file: Path | None = None, code: int | None = 0) -> Done:
        """The `pingee` command against an instance; any other exit code than `code` fails the step (None: any is fine)."""
        variables = {
            "PINGEE_SERVER": instance.url,
            "PINGEE_CA_FILE": instance.ca_file,
            "PINGEE_LOG_POLICY": instance.log_policy,
            **({} if token_file is None else {"PINGEE_TOKEN_FILE": str(token_file)}),
        }
        return self._run(module("clients.cli.main", *arguments), variables, code)

    def offline(self, instance: InstanceWorld, *arguments: str) -> Done:
        """The command with the log's policy file and nothing else: no server is named, so none can be asked."""
        return self._run(module("clients.cli.main", *arguments), {"PINGEE_LOG_POLICY": instance.log_policy}, 0)

    def as_person(self, person: str, instance: InstanceWorld, *arguments: str, code: int | None = 0) -> Done:
        """The command with a person's token."""
        return self.pingee(instance, *arguments, token_file=self.world.token_file(person, instance.name), code=code)

    def as_run(self, run: Run, instance: InstanceWorld, *arguments: str, code: int | None = 0) -> Done:
        """The command with a run's token."""
        return self.pingee(instance, *arguments, token_file=self.token(run, f"pingee:{instance.name}"), code=code)

    def gatekeeper(self, instance: InstanceWorld, *arguments: str) -> str:
        """`pingee-gatekeeper` with an instance's configuration, as its operator runs it; what it said."""
        file = Path(self.world.directory) / "instances" / instance.name / "gatekeeper.toml"
        return self._run(module("gatekeeper.command", *arguments, "--config", str(file)), {}, 0).out.strip()

    def witness(self, *arguments: str) -> str:
        """`pingee-witness`, as whoever owns that machine runs it; what it said."""
        return self._run(module("clients.witness.cli", *arguments), {}, 0).out.strip()

    def offline_fsck(self, instance: InstanceWorld, directory: Path, since: Path) -> str:
        """`pingee-offline fsck` over a copy, with the log's policy file and an older checkpoint; what it said."""
        arguments = ("fsck", str(directory), "--log-policy", instance.log_policy, "--since", str(since))
        return self._run(module("clients.offline", *arguments), {}, 0).out.strip()

    def doorkeeper(self, instance: InstanceWorld, *arguments: str, code: int | None = 0) -> Done:
        """`pingee-doorkeeper` at an instance's target, as whoever owns that machine runs it."""
        home = Path(self.world.directory) / "targets" / instance.name
        return self._run(module("clients.doorkeeper.cli", "--dir", str(home), *arguments), {}, code)

    def token(self, run: Run, audience: str, *, life_s: int = 600) -> Path:
        """A fresh token of a run in a file of mode 0600, as a CI platform hands it to a job."""
        path = self.work / f"{run.id}-{audience.replace(':', '-')}.token"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.platform.token(run, audience, life_s=life_s))
        return path

    def build(self, commit: str, *, ref: str = MAIN, actor: str = "alice") -> Built:
        """One run of the pipeline's commit stage: sandbox, sign, submit to every instance."""
        run = self.start_run(commit, ref=ref, actor=actor)
        started = time.monotonic()
        document = self.run_build(run).document()
        return Built(commit, document["tree"], document["artifact"], run, document["log_url"], time.monotonic() - started)

    def start_run(self, commit: str, *, ref: str = MAIN, actor: str = "alice") -> Run:
        """A run of the pipeline, caused by somebody's push."""
        return self.platform.start_run(project=self.world.project, commit=commit, ref=ref, actor=actor)

    def run_build(self, run: Run, *, code: int | None = 0) -> Done:
        """The builder, for a run's commit stage; another exit code fails the step."""
        return self._run(self.build_command(run), {}, code)

    def build_command(self, run: Run) -> list[str]:
        """The builder's command line for a run's commit stage."""
        return module("builder.cli", *self._build_arguments(run), "--out", str(self.out(run)))

    def accept(self, test: InstanceWorld, built: Built, deployed: Any) -> None:
        """A second run: the acceptance stage of the same commit against the test deployment, its result submitted to every instance."""
        run = self.platform.start_run(project=self.world.project, commit=built.commit, ref="refs/heads/main", actor=built.run.actor)
        arguments = [*self._build_arguments(run), "--stage", "acceptance", "--acceptance", test.workload_url, "--artifact", built.artifact]
        self._run(module("builder.cli", *arguments, "--page", deployed["permalink"], "--receipt", deployed["receipt_id"]), {}, 0)

    def ping(self, instance: InstanceWorld, built: Built) -> str:
        """The pipeline asks to deploy what it built; the ping's id."""
        arguments = ("ping", instance.name, self.world.component, "--artifact", built.artifact, "--reason", "pipeline", "-o", "json")
        return str(self.as_run(built.run, instance, *arguments).document()["id"])

    @property
    def checkpoint(self) -> Path:
        """The older checkpoint that an auditor keeps."""
        return self.work / "checkpoint"

    def parent(self, commit: str) -> str:
        """The commit before."""
        return git("rev-parse", f"{commit}^", cwd=Path(self.world.repository_path))

    def out(self, run: Run) -> Path:
        """Where the builder leaves a copy of what it submitted."""
        return self.work / f"out-{run.id}"

    def _build_arguments(self, run: Run) -> list[str]:
        first = self.world.instances[0]
        arguments = ["run", self.world.repository_path, run.commit, "--repository-name", self.world.repository]
        arguments += ["--project", run.project, "-o", "json"]
        for instance in self.world.instances:
            arguments += ["--instance", f"{instance.name}={instance.url},{instance.ca_file},{self.token(run, f'pingee:{instance.name}')}"]
        return [
            *arguments,
            *("--certificate-from", first.name),
            *("--certificate-token-file", str(self.token(run, f"pingee:certificates:{first.name}"))),
        ]

    def vote(self, person: str, instance: InstanceWorld, revision: str, value: int = 2, *, code: int | None = 0) -> Done:
        """A signed vote with the person's own key, for exactly one revision."""
        bare = Path(self.world.repository_path)
        tree = git("rev-parse", f"{revision}^{{tree}}", cwd=bare)
        key = Path(self.world.people) / person / "key.pem"
        arguments = ["vote", self.change(revision), str(value), "--project", self.world.project, "--revision", revision, "--tree", tree]
        return self.as_person(person, instance, *arguments, "--key", str(key), "-o", "json", code=code)

    def change(self, revision: str) -> str:
        """The change that a revision belongs to: its `Change-Id` trailer, else the commit."""
        trailer = git("log", "-1", "--format=%(trailers:key=Change-Id,valueonly)", revision, cwd=Path(self.world.repository_path)).strip()
        return trailer.splitlines()[-1] if trailer else revision

    @property
    def clone(self) -> Path:
        """Alice's work tree."""
        return self.work / "clone"

    def new_version(self, message: str, *, who: str = "alice", change: str = "I" + "2" * 40, edit: Callable[[Path], None] | None = None) -> str:
        """Another revision on main: the example's version goes up; of a stranger's repository, an empty commit. `edit` changes more of the tree."""
        tree = self.clone
        if not tree.exists():
            git("clone", "-q", self.world.repository_path, str(tree), cwd=self.work)
        version = tree / "version.txt"
        if version.exists():
            version.write_text(f"{int(version.read_text()) + 1}\n")
        if edit is not None:
            edit(tree)
        commit = commit_all(tree, f"{message}\n\nChange-Id: {change}", who=who)
        git("push", "-q", "origin", "HEAD:refs/heads/main", cwd=tree)
        return commit

    def fetch(self, instance: InstanceWorld, path: str = "/") -> str:
        """The workload's answer, over HTTP as any of its users."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(instance.workload_url + path, timeout=10) as answer:
            return str(answer.read(4096).decode("utf-8", "replace"))

    def stop(self, part: str) -> None:
        """End a part of the house; it stays down until `start`."""
        self._control(part, Do.STOP)

    def start(self, part: str) -> None:
        """Start a part again; returns when it is ready."""
        self._control(part, Do.START)

    def kill(self, part: str) -> None:
        """SIGKILL a part; returns when it is dead. It comes back by itself."""
        self._control(part, Do.KILL)

    def _control(self, part: str, do: Do) -> None:
        try:
            ask_keeper(Path(self.world.directory), part, do)
        except ControlRefused as error:
            raise StepFailed(str(error)) from error

    def look(self, instance: InstanceWorld, ping: str) -> Any:
        """What `pingee status` prints, asked for directly: a step that waits asks often, and each command is a Python that starts."""
        answer = call(instance, f"/v1/pings/{ping}")
        if answer.status != 200:
            raise StepFailed(f"the ping {ping} cannot be read: {answer.status} {answer.code}")
        return answer.document()

    def wait_for(self, instance: InstanceWorld, ping: str, state: str, *, seconds: float = 120) -> Any:
        """The ping in this state; another end, or the deadline, fails the step."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.look(instance, ping)
            if found["state"] == state:
                return found
            if found["state"] in ("denied", "failed", "rolled-back", "unresponsive", "cancelled", "deployed") or time.monotonic() > deadline:
                raise StepFailed(f"ping {ping} is {found['state']} ({', '.join(found['reasons'])}: {found['detail']}), expected {state}")
            time.sleep(0.1)

    def _run(self, argv: list[str], variables: dict[str, str], code: int | None) -> Done:
        done = subprocess.run(
            argv,
            env={**environment(), **variables},
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        found = Done(done.returncode, done.stdout, done.stderr)
        if code is not None and found.code != code:
            raise StepFailed(f"`{' '.join(argv[2:6])} ...` ended with {found.code}, expected {code}: {(found.err or found.out).strip()[-800:]}")
        return found
