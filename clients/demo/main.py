"""`pingee demo`: the whole way once, on this machine, on real parts."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from builder.fault import BuildFault
from builder.pipeline import FILE as DOCUMENT
from builder.pipeline import parse_document

from .control import ControlRefused, Do, ask_keeper
from .diagnosis import diagnosis
from .git import GitFailed, clone_as_bare, git
from .keeper import DirectoryBusy, lock_directory
from .legacy import make_example, second_name
from .machine import MachineLacks, check_machine
from .postgres import VARIABLE
from .processes import environment, module
from .show import show
from .telling import EnoughShown, StepFailed, Telling
from .world import World, read_world

BUILD_S: Final = 120.0

_STEPS: Final = {
    "vault": "a real OpenBao server: raft, TLS, static seal, audit file",
    "vault-bootstrap": "pingee-gatekeeper bootstrap: keys, CAs, logins and roles from vault-policies/; the root token is revoked",
    "database": "a real PostgreSQL, migrated by the gatekeeper at its start",
    "policy": "a signed commit of the policy repository, made from examples/policy/",
    "witness": "another team's pingee-witness, without whose cosignature production's host believes nothing of production's log",
    "target": "an SSH host that trusts the vault's CA and runs nothing but the doorkeeper",
    "gatekeeper": "the API over TLS; three vault logins over a pipe, none on disk",
}


class CannotStart(RuntimeError):
    """One sentence: why there is no demo."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 every step showed what it has to, 1 otherwise."""
    options = _parser().parse_args(arguments)
    if options.stop:
        return _stop(options)
    if options.stop_part or options.start_part:
        return _control(options)
    if options.doctor:
        return _doctor(options)
    telling = Telling(as_json=options.output == "json", until=options.until)
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        check_machine()
        with _directory(options) as directory:
            return _demo(options, directory, telling)
    except (MachineLacks, CannotStart, DirectoryBusy, GitFailed, BuildFault) as error:
        print(f"pingee demo: {error}", file=sys.stderr)
        telling.end(ok=False, extra={"error": str(error)})
        return 1
    except KeyboardInterrupt:
        print("\npingee demo: stopped; nothing is left running", file=sys.stderr)
        return 130


def _demo(options: argparse.Namespace, directory: Path, telling: Telling) -> int:
    started = time.monotonic()
    project, component = _names(options)
    repository = _repository(options, directory, component)
    telling.say(f"Pingee, end to end, in {directory}\n")
    second = make_example(repository.with_name(f"{second_name(component)}.git"), second_name(component))
    with _house(directory, project, component, (repository, second), telling, keep=options.keep) as world:
        failure = None
        figures: dict[str, Any] = {}
        try:
            figures = show(world, telling)
            if options.until is not None:
                failure = f"--until {options.until}: there is no such step, so all were shown"
        except EnoughShown as last:
            telling.say(f"\nended after {last}, as --until says: the steps behind it were not shown")
        except (StepFailed, GitFailed, subprocess.TimeoutExpired, OSError) as error:
            failure = str(error)
        seconds = time.monotonic() - started
        if failure is not None:
            print(f"\npingee demo: {failure}\nlogs: {directory}/instances/*/gatekeeper.log (kept with --keep --dir DIR)", file=sys.stderr)
            telling.say(_tail(world))
            print(diagnosis(world), file=sys.stderr)
        elif figures:
            _summary(telling, figures, seconds, options, directory)
        telling.end(ok=failure is None, extra={**figures, "seconds": round(seconds, 2)})
        if options.keep:
            _write_env(world, directory)
        return 0 if failure is None else 1


def _tail(world: World) -> str:
    lines = Path(world.instances[-1].log_file).read_text(errors="replace").splitlines()[-15:]
    return "\n".join(("the gatekeeper's last words:", *lines))


def _summary(telling: Telling, figures: dict[str, Any], seconds: float, options: argparse.Namespace, directory: Path) -> None:
    telling.say(
        f"\npush to running {figures['push_to_running_s']} s (yours {figures['yours_s']}, Pingee {figures['pingee_s']})"
        f"\nrefusals {figures['refusals']}, credentials leased for them {figures['leases_for_refusals']}"
        f"\nlog entries checked with the public key alone: {figures['entries_checked_offline']}"
        f"\nall of it took {seconds:.1f} s"
    )
    if options.keep:
        telling.say(f"it is still running: . {directory}/env.sh   page: {figures['page']}   end it: pingee demo --stop --dir {directory}")
    else:
        telling.say(f"the page to open was {figures['page']}: keep it running with  make demo ARGS=\"--keep --dir DIR\"")


@contextmanager
def _house(directory: Path, project: str, component: str, repositories: tuple[Path, Path], telling: Telling, *, keep: bool) -> Iterator[World]:
    """The keeper in a process of its own; it ends with the block unless it is to be kept."""
    argv = module("clients.demo.keeper", "--dir", str(directory), "--project", project, "--component", component)
    argv += ["--repository", str(repositories[0]), "--second", str(repositories[1])]
    guard = [] if keep else ["setpriv", "--pdeathsig", "TERM", "--"]
    with (directory / "keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [*guard, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environment(), "PYTHONUNBUFFERED": "1"},
            cwd=Path(__file__).resolve().parents[2],
            start_new_session=True,
        )
    failed = True
    try:
        _hand_over(keeper, {"database_url": os.environ.get(VARIABLE) or None})
        world = _await(keeper, telling, directory)
        failed = False
        yield world
    finally:
        if failed or not keep:
            _end(keeper)


def _hand_over(keeper: subprocess.Popen[bytes], told: dict[str, Any]) -> None:
    if keeper.stdin is None:
        raise CannotStart("the keeper has no input")
    # One that ended at once says why on its output.
    with suppress(BrokenPipeError), keeper.stdin as pipe:
        pipe.write(json.dumps(told).encode() + b"\n")


def _await(keeper: subprocess.Popen[bytes], telling: Telling, directory: Path) -> World:
    if keeper.stdout is None:
        raise CannotStart("the keeper has no output")
    for line in keeper.stdout:
        word = json.loads(line)
        if "failed" in word:
            raise CannotStart(word["failed"])
        if "ready" in word:
            return read_world(Path(word["ready"]))
        telling.add(word["step"], _STEPS[word["step"]], word["seconds"], {})
    raise CannotStart(f"the house did not stand: {_last_line(directory / 'keeper.log')}")


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no word in keeper.log"


def _end(keeper: subprocess.Popen[bytes]) -> None:
    if keeper.poll() is None:
        keeper.terminate()
    try:
        keeper.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(keeper.pid, signal.SIGKILL)
        keeper.wait(10)


def _names(options: argparse.Namespace) -> tuple[str, str]:
    component = options.component or ("hello" if options.repo is None else Path(options.repo).resolve().name.removesuffix(".git"))
    return component, component


def _repository(options: argparse.Namespace, directory: Path, component: str) -> Path:
    """The project's bare repository: the example's, or a copy of the one named."""
    bare = directory / "repositories" / f"{component}.git"
    if bare.parent.exists():
        os.close(lock_directory(directory))  # the house that has it says so
        raise CannotStart(f"{directory} holds an earlier demo: remove it first, or name another directory")
    bare.parent.mkdir(parents=True)
    try:
        if options.repo is None:
            make_example(bare, component)
        else:
            _copy(Path(options.repo).resolve(), bare)
    except BaseException:
        shutil.rmtree(bare.parent)
        raise
    return bare


def _copy(source: Path, bare: Path) -> None:
    """A bare copy of somebody's repository with its branch as `main`; its document is read before anything is started for it."""
    if not source.is_dir():
        raise CannotStart(f"repository-unreadable: --repo {source} is no directory")
    clone_as_bare(source, bare)
    head = git("symbolic-ref", "HEAD", cwd=bare)
    if head != "refs/heads/main":
        git("branch", "-f", "main", head, cwd=bare)
    if not git("ls-tree", "main", "--", DOCUMENT, cwd=bare):
        raise CannotStart(f"config-invalid: {source} has no {DOCUMENT} on its branch: see examples/hello for one")
    try:
        parse_document(git("show", f"main:{DOCUMENT}", cwd=bare).encode())
    except UnicodeDecodeError:
        raise CannotStart(f"config-invalid: {DOCUMENT} of {source} is not UTF-8") from None


@contextmanager
def _directory(options: argparse.Namespace) -> Iterator[Path]:
    """The demo's directory: a throw-away one, or the one named, which is kept."""
    if options.dir is None:
        if options.keep:
            raise CannotStart("--keep needs --dir DIR: where should it be kept?")
        made = Path(tempfile.mkdtemp(prefix="pingee-demo-"))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return
    directory = Path(options.dir).resolve()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    yield directory


def _write_env(world: World, directory: Path) -> None:
    instance = world.instance("production")
    lines = [
        "# . this file, then try: pingee running; pingee log fsck; PINGEE_TOKEN_FILE=$PINGEE_PEOPLE/olga/production.token pingee whoami",
        f"export PINGEE_SERVER={instance.url}",
        f"export PINGEE_CA_FILE={instance.ca_file}",
        f"export PINGEE_LOG_POLICY={instance.log_policy}",
        f"export PINGEE_OPERATOR={instance.operator_url}",
        f"export PINGEE_TRUSTED_ROOT={directory}/operator/builder-ca.pem",
        f"export PINGEE_DATABASE_URL=$(cat {instance.database_url_file})",
        f"export PINGEE_PEOPLE={world.people}",
        f"PATH={Path(sys.executable).parent}:$PATH",
    ]
    (directory / "env.sh").write_text("\n".join(lines) + "\n")
    (directory / "env.sh").chmod(0o600)


def _doctor(options: argparse.Namespace) -> int:
    if options.dir is None or not (Path(options.dir) / "world.json").is_file():
        print("pingee demo: --doctor needs --dir DIR of a demo that was kept", file=sys.stderr)
        return 1
    print(diagnosis(read_world(Path(options.dir).resolve() / "world.json")))
    return 0


def _stop(options: argparse.Namespace) -> int:
    if options.dir is None:
        print("pingee demo: --stop needs --dir DIR", file=sys.stderr)
        return 1
    file = Path(options.dir).resolve() / "keeper.pid"
    try:
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        print(f"pingee demo: no demo runs in {options.dir}", file=sys.stderr)
        return 1
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    print(f"stopped; {options.dir} can be removed", file=sys.stderr)
    return 0


def _control(options: argparse.Namespace) -> int:
    """Exit status: 0 done, 1 not done and said why."""
    part, do = (options.stop_part, Do.STOP) if options.stop_part else (options.start_part, Do.START)
    if options.dir is None:
        print(f"pingee demo: --{do.value}-part needs --dir DIR", file=sys.stderr)
        return 1
    try:
        ask_keeper(Path(options.dir).resolve(), part, do)
    except ControlRefused as error:
        print(f"pingee demo: {error}", file=sys.stderr)
        return 1
    print(f"{part} {'is stopped' if do is Do.STOP else 'is ready'}", file=sys.stderr)
    return 0


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pingee demo",
        description="The whole way once on this machine: vault, database, gatekeeper, target; build, review, deploy, audit; and what is refused.",
        epilog=f"With {VARIABLE} set, that PostgreSQL is used: its user must be allowed to create databases; they are dropped at the end.",
    )
    parser.add_argument("--repo", metavar="PATH", help="a git repository of yours with a .pipeline/config.yaml (default: examples/hello)")
    parser.add_argument("--component", metavar="NAME", help="the component's name, as its document has it")
    parser.add_argument("--dir", metavar="DIR", help="keep files here (default: a directory that is removed)")
    parser.add_argument("--keep", action="store_true", help="leave it running, with DIR/env.sh to try commands by hand")
    parser.add_argument("--until", metavar="STEP", help="end after this step, such as deploy or rollback, and leave out all that comes behind it")
    parser.add_argument("--doctor", action="store_true", help="what `pingee doctor` says of each instance of a demo that was kept")
    parser.add_argument("--stop", action="store_true", help="end a demo that was kept")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--stop-part", metavar="NAME", help="stop a part of a demo that was kept; it stays down: vault, database, "
                      "gatekeeper-test, gatekeeper-production, target-test or target-production")  # fmt: skip
    part.add_argument("--start-part", metavar="NAME", help="start it again; returns when it is ready")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return parser
