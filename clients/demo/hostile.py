"""What a stranger's repository can do to the house that builds it: nothing. Shown with the example `hostile`, built by the real builder.

Its commits stand on branches of their own in the project's repository. The addresses, sockets and files that it tries are the real ones of this
house; each is first seen to answer outside, so that silence inside means the sandbox and not a wrong address.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import unicodedata
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import as_file
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from gatekeeper.shipped import example

from .git import commit_all, git
from .processes import environment
from .steps import COMMAND_S, Built, Stage
from .telling import StepFailed, Telling
from .world import InstanceWorld

BRANCH: Final = "refs/heads/hostile"

ENDS: Final = {
    "links": ("output-refused", "is a link"),
    "many": ("output-refused", "more than 4000 files"),
    "files": ("workspace-full", "50000 files"),
    "endless": ("stage-timeout", "longer than its 1 s"),
}
"""the variants of the example that have no end, or outputs that are no outputs: the code and words with which the builder ends each"""

NOTHING: Final = (
    "variables of other processes",
    "open descriptors",
    "mounted from elsewhere",
    "writable directories not ours",
    "secrets readable",
    "addresses answering",
    "loopback listeners",
    "sockets answering",
    "sockets seen",
    "kernel settings writable",
    "kernel doors open",
    "left by an earlier build",
)
"""findings that must begin with 0"""

_PROBE = re.compile(r"probe: ([^:]+): (.*)")
_CLEAN_S: Final = 30.0


@dataclass(frozen=True)
class _Surroundings:
    """What of this house a thief would try, by name: TCP addresses, unix sockets, files."""

    addresses: tuple[tuple[str, str, int], ...]
    sockets: tuple[str, ...]
    files: tuple[str, ...]


def hostile_build(stage: Stage, telling: Telling) -> None:
    """Build the hostile repository twice, then each of its endless variants, then an honest commit."""
    what = "a stranger's build looks for secrets, vault, database and neighbours, leaves a daemon, forks, floods: it gets, harms and leaves nothing"
    with telling.step("hostile-build", what) as detail:
        surroundings = _surroundings(stage)
        detail["tried_and_answering_outside"] = _check_outside(surroundings)
        hostile = _Repository(stage, surroundings)
        before = _left()
        first, live = _built_and_followed(stage, hostile.commits["hostile"])
        found = _findings(stage, first)
        again = stage.build(hostile.commits["hostile"], ref=BRANCH)
        remembered = _findings(stage, again)
        detail |= {"inside": found, "second_build_found_of_the_first": remembered["left by an earlier build"]}
        detail["log"] = _check_log(stage, first, live)
        detail["artifacts"] = [first.artifact, again.artifact]
        detail["ended"] = _check_ends(stage, hostile)
        honest = stage.build(git("rev-parse", "refs/heads/main", cwd=Path(stage.world.repository_path)))
        detail["left"] = _check_nothing_left(hostile.mark, before)
        detail["an_honest_build_right_after"] = honest.artifact


class _Repository:
    """The example's commits in the project's repository: branch `hostile`, and `hostile-VARIANT` for each of `ENDS`."""

    def __init__(self, stage: Stage, surroundings: _Surroundings) -> None:
        tree = stage.work / "hostile"
        shutil.rmtree(tree, ignore_errors=True)
        with as_file(example("hostile")) as source:
            shutil.copytree(source, tree, copy_function=shutil.copyfile)
        form = git("rev-parse", "--show-object-format", cwd=Path(stage.world.repository_path))
        git("init", "-q", f"--object-format={form}", "-b", "hostile", str(tree), cwd=tree)
        self.mark = f"hostile-{time.time_ns()}"
        _add_surroundings(tree / "addresses.json", self.mark, surroundings)
        self.commits = {"hostile": commit_all(tree, "A hostile repository", who="mallory")}
        for name in ENDS:
            shutil.copyfile(tree / "variants" / f"{name}.yaml", tree / ".pipeline" / "config.yaml")
            self.commits[name] = commit_all(tree, f"A hostile repository: {name}", who="mallory")
        branches = [f"{commit}:{BRANCH}" if name == "hostile" else f"{commit}:{BRANCH}-{name}" for name, commit in self.commits.items()]
        git("push", "-q", "-f", stage.world.repository_path, *branches, cwd=tree)


def _surroundings(stage: Stage) -> _Surroundings:
    directory = Path(stage.world.directory)
    vault = (directory / "vault" / "bao.hcl").read_text()
    addresses = [("vault", address) for address in re.findall(r"addr\w*\s*=\s*\"(?:https://)?([^\"]+)\"", vault)]
    sockets, files = [], [str(directory / "operator" / "supervisor.token"), str(directory / "platform" / "issuer.key")]
    for instance in stage.world.instances:
        addresses += [(f"{instance.name} gatekeeper", urlsplit(url).netloc) for url in (instance.url, instance.operator_url)]
        addresses.append((f"{instance.name} workload", urlsplit(instance.workload_url).netloc))
        configured = (directory / "instances" / instance.name / "gatekeeper.toml").read_text()
        addresses += [(f"{instance.name} service", f"127.0.0.1:{port}") for port in re.findall(r"^port = (\d+)$", configured, re.MULTILINE)]
        files += [instance.database_url_file, str(Path(instance.artifacts) / "index.json")]
        database = urlsplit(Path(instance.database_url_file).read_text().strip())
        sockets += [f"{folder}/.s.PGSQL.5432" for folder in parse_qs(database.query).get("host", []) if folder.startswith("/")]
        addresses += [("database", f"{database.hostname}:{database.port or 5432}")] if database.hostname else []
    pairs = {(text.rpartition(":")[0], int(text.rpartition(":")[2])): name for name, text in reversed(addresses)}
    return _Surroundings(
        tuple((name, host, port) for (host, port), name in sorted(pairs.items(), key=lambda item: item[1])), tuple(sorted(set(sockets))), tuple(files)
    )


def _check_outside(surroundings: _Surroundings) -> str:
    for _, host, port in surroundings.addresses:
        with socket.create_connection((host, port), timeout=5):
            pass
    for path in surroundings.sockets:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(5)
            one.connect(path)
    for file in surroundings.files:
        with Path(file).open("rb") as stream:
            stream.read(1)
    return f"{len(surroundings.addresses)} addresses, {len(surroundings.sockets)} database sockets, {len(surroundings.files)} files of this house"


def _add_surroundings(file: Path, mark: str, surroundings: _Surroundings) -> None:
    known = json.loads(file.read_text())
    known["mark"] = mark
    known["addresses"] += [list(address) for address in surroundings.addresses]
    known["sockets"] += surroundings.sockets
    known["files"] += surroundings.files
    file.write_text(json.dumps(known, indent=1) + "\n")


def _built_and_followed(stage: Stage, commit: str) -> tuple[Built, str]:
    """One build, and its live log as a reader got it while it grew."""
    run = stage.start_run(commit, ref=BRANCH)
    argv = stage.build_command(run)
    here = Path(__file__).resolve().parents[2]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=environment(), cwd=here, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        if process.stdout is None or process.stderr is None:
            raise AssertionError("both are pipes")
        said = process.stderr.readline()
        if "live log at" not in said:
            raise StepFailed(f"the builder did not announce its live log: {said.strip()}")
        url = said.split()[-1]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=COMMAND_S) as answer:
            live = answer.read().decode("utf-8", "surrogateescape")
        out, words = process.communicate(timeout=COMMAND_S)
    if process.returncode != 0:
        raise StepFailed(f"the hostile build ended with {process.returncode}, expected 0: {words.strip()[-500:]}")
    document = json.loads(out)
    return Built(commit, document["tree"], document["artifact"], run, url, 0.0), live


def _findings(stage: Stage, built: Built) -> dict[str, str]:
    """What the build's own lines say it got; a finding that should be nothing and is not fails the step."""
    log = (stage.out(built.run) / "log").read_bytes().decode("utf-8", "replace")
    found = {match[1]: match[2] for match in map(_PROBE.fullmatch, log.split("\n")) if match}
    missing = [name for name in (*NOTHING, "environment", "processes", "forks", "left behind", "shouted") if name not in found]
    gained = [f"{name}: {found[name]}" for name in NOTHING if name in found and not re.match(r"0( of \d+)?$", found[name])]
    if missing or gained:
        raise StepFailed(f"the hostile build did not say {missing}; it got {gained}")
    if "capabilities 0000000000000000" not in found["user"] or not found["forks"].endswith("then EAGAIN"):
        raise StepFailed(f"the hostile build was {found['user']} and forked {found['forks']}")
    return found


def _check_log(stage: Stage, built: Built, live: str) -> str:
    """The raw bytes are kept as they were, and everybody who shows them escapes them."""
    raw = (stage.out(built.run) / "log").read_bytes()
    production = stage.world.instance("production")
    shown = stage.pingee(production, "build-log", built.artifact).out
    for name, text in (("pingee build-log", shown), ("the live log", live)):
        moving = sorted({c for c in text if c not in "\n\t" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}})
        if moving or text.count("shout: ") < 8:
            raise StepFailed(f"{name} shows raw {moving}")
    if b"\x1b[2J" not in raw or b"\xff\xfe" not in raw:
        raise StepFailed("the stored log is not what the build printed")
    kept = sum(byte < 32 and byte not in b"\n\t" for byte in raw)
    return f"{kept} control bytes kept, 0 shown by build-log and live log"


def _check_ends(stage: Stage, hostile: _Repository) -> dict[str, str]:
    """Each endless variant ends with its code, and leaves no entry, no blob and no artifact."""
    sizes = {instance.name: _stored(stage, instance) for instance in stage.world.instances}
    with ThreadPoolExecutor(2) as pool:
        ended = dict(zip(ENDS, pool.map(lambda name: _end_of(stage, hostile, name), ENDS), strict=True))
    for instance in stage.world.instances:
        if _stored(stage, instance) != sizes[instance.name]:
            raise StepFailed(f"a refused build left something at {instance.name}: {sizes[instance.name]}, now {_stored(stage, instance)}")
    return ended


def _end_of(stage: Stage, hostile: _Repository, name: str) -> str:
    run = stage.start_run(hostile.commits[name], ref=f"{BRANCH}-{name}")
    done = stage.run_build(run, code=3)
    document, (code, words) = done.document(), ENDS[name]
    if document["code"] != code or words not in document["detail"]:
        raise StepFailed(f"{name} ended with {document['code']} ({document['detail']}), expected {code}")
    size = (stage.out(run) / "log").stat().st_size
    if size > 17 * 2**20:
        raise StepFailed(f"{name} wrote a log of {size} bytes")
    return f"{code} (log of {size} bytes)"


def _stored(stage: Stage, instance: InstanceWorld) -> dict[str, int]:
    """What an accepted build adds to: log entries, files in the artifact store, certificates that the vault was asked for."""
    audit = (Path(stage.world.directory) / "vault" / "audit.log").read_bytes()
    return {
        "entries": int(stage.pingee(instance, "log", "checkpoint").out.splitlines()[1]),
        "files": sum(1 for path in Path(instance.artifacts).rglob("*") if path.is_file()),
        "certificates": audit.count(b'"path":"builder-ca/sign/'),
    }


def _left() -> set[str]:
    """Workspace directories on this machine, another builder's among them."""
    return {str(path) for path in Path("/tmp").glob("pingee-build-*")}  # noqa: S108


def _check_nothing_left(mark: str, before: set[str]) -> str:
    """No process, no workspace, no mount. What another builder on this machine has lasts as long as its build, so we look until it is gone."""
    deadline = time.monotonic() + _CLEAN_S
    while (left := [*(_left() - before), *_processes(mark), *_mounts()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        raise StepFailed(f"left behind: {left}")
    return "0 processes, 0 workspaces, 0 mounts"


def _mounts() -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if "pingee-build-" in line]


def _processes(mark: str) -> list[str]:
    """Command lines of what the hostile repository started, on the whole machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if mark.encode() in words or b"attack.py" in words:
                    found.append(b" ".join(words).decode("utf-8", "replace"))
    return found
