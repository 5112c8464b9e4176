"""What a repository that means harm does to the builder, each attempt with the reason it fails for; and probes that would find something.

The example's own probes are first pointed at planted things: a probe that finds nothing anywhere proves nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.git_repositories import Repository

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "hostile"
TAIL = 'artifact:\n  paths: [out/]\nrun:\n  argv: ["out/x"]\n  health: /\n'


def document(build, test=("true",), timeout="20s"):
    return f"version: 1\ncomponent: x\ncommit:\n  build: {json.dumps(list(build))}\n  test: {json.dumps(list(test))}\n  timeout: {timeout}\n{TAIL}"


def command(repository, commit, *arguments):
    return [sys.executable, "-P", "-m", "builder.cli", "run", str(repository.path), commit, "--no-submit", "-o", "json", *map(str, arguments)]


ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


def build(repository, commit, *arguments):
    done = subprocess.run(command(repository, commit, *arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


@contextmanager
def running(repository, commit):
    """A build that goes on, and a reader of its live log."""
    process = subprocess.Popen(command(repository, commit), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        with urllib.request.urlopen(process.stderr.readline().split()[-1], timeout=30) as live:
            yield process, live
    finally:
        process.terminate()
        process.communicate(timeout=60)


def lines_until(live, words):
    """The live log up to the line with these words."""
    seen = []
    for line in live:
        seen.append(line.decode().rstrip("\n"))
        if seen[-1] == words:
            return seen
    raise AssertionError(f"the log ended without {words!r}: {seen}")


def alive(mark):
    """Processes anywhere on this machine that have `mark` as an argument."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(entry.name)
            except OSError:
                continue
    return found


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "x").mkdir()
    return Repository(tmp_path / "x")


@pytest.fixture(scope="module")
def attack():
    specification = importlib.util.spec_from_file_location("hostile_attack", EXAMPLE / "attack.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


# The probes themselves.


def test_the_example_does_nothing_outside_a_sandbox(tmp_path):
    for word in ("look", "leave", "links", "many", "files", "endless"):
        done = subprocess.run([sys.executable, EXAMPLE / "attack.py", word], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "not the builder's sandbox; nothing was done" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_probes_find_what_is_there_to_be_found(attack, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("x")
    monkeypatch.setenv("PINGEE_TOKEN", "x")
    abstract = f"@pingee-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as path, socket.socket(socket.AF_UNIX) as name:
        monkeypatch.chdir(tmp_path)
        path.bind("here.sock")
        name.bind("\0" + abstract[1:])
        for one in (path, name):
            one.listen()
        port = tcp.getsockname()[1]
        assert attack.answering([("vault", "127.0.0.1", port), ("nobody", "127.0.0.1", 1)]) == [f"vault 127.0.0.1:{port}"]
        assert attack.open_sockets(["here.sock", abstract, "@nobody"]) == ["here.sock", abstract]
        assert abstract in attack.seen_sockets()
        assert port in attack.listening()
    assert attack.readable(["secret", "/nonexistent"]) == ["secret"]
    assert "PINGEE_TOKEN" in attack.environment()
    assert str(os.getpid()) in {entry.name for entry in attack.processes()}
    with subprocess.Popen(["sleep", "20"], env={"PINGEE_PLANTED": "x"}) as child:
        assert "PINGEE_PLANTED" in attack.foreign_environments()
        child.kill()


# The sandbox.


def test_the_example_gets_nothing(repository, tmp_path):
    """SECURE, row 137."""
    shutil.copytree(EXAMPLE, repository.path, dirs_exist_ok=True)
    commit = repository.commit({})
    status, report = build(repository, commit, "--out", tmp_path / "out")
    log = (tmp_path / "out/log").read_bytes().decode("utf-8", "replace")
    assert (status, report["result"]) == (0, "PASSED"), log
    found = dict(line.removeprefix("probe: ").split(": ", 1) for line in log.splitlines() if line.startswith("probe: "))
    nothing = {name: value for name, value in found.items() if value.startswith("0")}
    assert set(found) - set(nothing) == {
        "environment", "user", "processes", "root directory", "network interfaces", "memory", "forks", "left behind", "shouted",
    }, found  # fmt: skip
    assert int(found["forks"].removesuffix(", then EAGAIN")) < 256
    assert found["user"] == "uid 1000, capabilities 0000000000000000, no new privileges 1, seccomp 2"
    assert alive("hostile") == []


@pytest.mark.parametrize(
    ("variant", "code", "words"),
    [
        ("links", "output-refused", "'out/environ' is a link"),
        ("many", "output-refused", "more than 4000 files"),
        ("files", "workspace-full", "the workspace is full (50000 files)"),
        ("endless", "stage-timeout", "took longer than its 1 s"),
    ],
)
def test_each_variant_ends_with_its_code(repository, variant, code, words):
    shutil.copytree(EXAMPLE, repository.path, dirs_exist_ok=True)
    shutil.copyfile(EXAMPLE / "variants" / f"{variant}.yaml", repository.path / ".pipeline/config.yaml")
    status, report = build(repository, repository.commit({}))
    assert (status, report["code"]) == (3, code), report
    assert words in report["detail"]


def test_a_tree_that_unfolds_to_thousands_of_millions_of_files_is_not_unfolded(repository):
    commit = repository.commit({".pipeline/config.yaml": document(["true"]), "f": "boom"})
    tree = repository.git("rev-parse", "HEAD:.pipeline")
    for _ in range(9):
        entries = "".join(f"040000 tree {tree}\td{n}\n" for n in range(10))
        tree = subprocess.run(["git", "mktree"], cwd=repository.path, input=entries, capture_output=True, text=True, check=True).stdout.strip()
    whole = repository.git("ls-tree", "HEAD") + f"\n040000 tree {tree}\tbomb\n"
    root = subprocess.run(["git", "mktree"], cwd=repository.path, input=whole, capture_output=True, text=True, check=True).stdout.strip()
    bomb = repository.git("commit-tree", "-p", commit, "-m", "bomb", root)
    repository.git("update-ref", "refs/heads/main", bomb)
    started = time.monotonic()
    status, report = build(repository, bomb)
    assert (status, report["code"]) == (1, "workspace-full"), report
    assert report["detail"] == "the commit's tree holds more than 50000 files and directories"
    assert time.monotonic() - started < 20


def test_a_build_that_sleeps_is_ended_with_everything_it_started(repository):
    """MAXBUILDTIME: the limit of five seconds holds for `sleep 999` and for a child that left its session."""
    mark = f"{os.getpid()}999"
    commit = repository.commit({".pipeline/config.yaml": document([f"setsid sleep {mark} & echo started; sleep {mark}"], timeout="5s")})
    with running(repository, commit) as (process, live):
        lines_until(live, "started")
        # Both have been started; that each has become `sleep` may take a moment more.
        until = time.monotonic() + 4.5
        while (seen := len(alive(mark))) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert seen == 2
        assert process.wait(60) == 3
        assert '"code": "stage-timeout"' in process.stdout.read()
        assert alive(mark) == []


def test_a_workspace_is_the_commits_tree_and_nothing_else(repository):
    """CLEANWORKSPACE: every file of the commit with its content, no other; what an earlier run left is not there."""
    hashes = 'for f in $(find . -type f | sort); do echo "blob: $(git hash-object --no-filters "$f") $f"; done'
    leave = "touch left-behind ~/left-behind /tmp/left-behind /dev/shm/left-behind; mkdir out; touch out/x"
    see = "ls -A ~ /tmp /dev/shm | grep -v :$ | grep . && exit 1; echo empty: home, tmp, shm"
    commit = repository.commit({".pipeline/config.yaml": document([hashes, see, leave]), "a file": "a\n", "deep/b": "b\n", ".hidden": ""})
    repository.write({"not-committed": "x"})
    out = repository.path.parent
    for number in (1, 2):
        status, report = build(repository, commit, "--out", out / str(number))
        log = (out / str(number) / "log").read_text()
        assert status == 0, log
        assert "\nempty: home, tmp, shm\n" in log
        blobs = {line.split(" ", 1)[1] for line in log.splitlines() if line.startswith("blob: ")}
        tree = repository.git("ls-tree", "-r", "--format=%(objectname) ./%(path)", commit).splitlines()
        assert {line for line in blobs if " ./" in line} >= {line for line in tree if " ./a" not in line}
        assert not [line for line in blobs if "left-behind" in line or "not-committed" in line or ".git/" in line]
        assert report["tree"] == repository.git("rev-parse", f"{commit}^{{tree}}")


def test_two_jobs_at_once_see_nothing_of_each_other(repository):
    """ISOLATION: files, an installed program, processes, ports, abstract sockets of one are not the other's."""
    mark = f"neighbour-{os.getpid()}"
    occupy = f"""
mkdir -p ~/bin; printf '#!/bin/sh\\n' > ~/bin/{mark}; chmod 755 ~/bin/{mark}
touch /tmp/{mark} /dev/shm/{mark} {mark}
python3 - {mark} <<'END'
import socket, sys, time
tcp = socket.create_server(("127.0.0.1", 4711))
one = socket.socket(socket.AF_UNIX)
one.bind("\\0" + sys.argv[1])
print("occupied", flush=True)
time.sleep(60)
END
"""
    look = f"""
for place in ~/bin/{mark} /tmp/{mark} /dev/shm/{mark} {mark}; do [ -e $place ] && echo "SEEN $place"; done
grep -al {mark} /proc/net/unix && echo SEEN socket
for one in /proc/[0-9]*; do [ $one = /proc/$$ ] || [ $one = /proc/1 ] || grep -al {mark} $one/cmdline; done | grep . && echo SEEN process
python3 -c 'import socket; socket.create_connection(("127.0.0.1", 4711), 1)' 2>/dev/null && echo SEEN port
python3 -c 'import socket; socket.create_server(("127.0.0.1", 4711))' || echo SEEN port in use
mkdir out; touch out/x
"""
    first = repository.commit({".pipeline/config.yaml": document(["sh occupy"], timeout="50s"), "occupy": occupy})
    second = repository.commit({".pipeline/config.yaml": document(["sh look"]), "look": look})
    repository.git("branch", "first", first)
    with running(repository, first) as (_, live):
        lines_until(live, "occupied")
        out = repository.path.parent / "out"
        status, _ = build(repository, second, "--out", out)
        log = (out / "log").read_text()
        assert status == 0, log
        assert "SEEN" not in log
        assert alive(mark)  # the neighbour was there all the time
    assert alive(mark) == []


@pytest.mark.parametrize("place", ["/src", "/tmp", "$HOME", "/dev/shm"])
def test_wherever_a_build_may_write_the_number_of_files_is_bounded(repository, place):
    many = "import os, sys\nfor n in range(2000): os.close(os.open(f'{sys.argv[1]}/{n}', os.O_CREAT))"
    commit = repository.commit({".pipeline/config.yaml": document([f'python3 many "{place}"']), "many": many})
    status, report = build(repository, commit, "--workspace-files", 1000)
    assert (status, report["code"]) == (3, "workspace-full"), report
    assert "the workspace is full (1000 files)" in report["detail"]


def test_an_honest_build_may_open_its_output_by_name_and_share_memory(repository, tmp_path):
    share = "from multiprocessing import Lock, shared_memory; Lock(); shared_memory.SharedMemory(create=True, size=100).unlink()"
    commit = repository.commit({".pipeline/config.yaml": document(["echo seen | tee /dev/stderr > /dev/stdout", f'python3 -c "{share}"', "mkdir out; touch out/x"])})
    assert build(repository, commit, "--out", tmp_path / "out")[0] == 0
    assert (tmp_path / "out/log").read_text().count("\nseen") == 2


def test_where_memory_runs_out_the_build_goes_first(repository, tmp_path):
    script = "cat /proc/self/oom_score_adj; if echo 0 > /proc/self/oom_score_adj; then echo LOWERED; fi; mkdir out; touch out/x"
    commit = repository.commit({".pipeline/config.yaml": document([script])})
    status, _ = build(repository, commit, "--out", tmp_path / "out")
    log = (tmp_path / "out/log").read_text()
    assert status == 0, log
    assert "\n1000\n" in log
    assert "\nLOWERED" not in log


def test_a_live_log_shows_no_control_character(repository):
    """Row 113: a reader's terminal is not the build's to write to."""
    bad = r"printf '\033[2J\033]0;owned\007\r\300\200\342\200\256evil\n'; mkdir out; touch out/x"
    commit = repository.commit({".pipeline/config.yaml": document([bad])})
    with running(repository, commit) as (process, live):
        text = live.read().decode()
        assert process.wait(20) == 0
    assert r"\x1b[2J\x1b]0;owned\x07\r\xc0\x80\u202eevil" in text
    assert [c for c in text if ord(c) < 32 and c not in "\n\t"] == []


def test_a_branch_name_cannot_break_out_of_what_is_printed(repository):
    """Row 113, the builder's half: names reach its output as JSON or escaped, on their own line."""
    commit = repository.commit({".pipeline/config.yaml": document(["mkdir out; touch out/x"])})
    evil = "refs/heads/x\n{\"ok\": false}\x1b[2J\u202e"
    done = subprocess.run(command(repository, commit, "--ref", evil), env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    for text in (done.stdout, done.stderr):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert len(done.stdout.splitlines()) == 1


def test_threads_that_serve_the_log_end_with_the_run(repository):
    commit = repository.commit({".pipeline/config.yaml": document(["mkdir out; touch out/x"])})
    before = threading.active_count()
    assert build(repository, commit)[0] == 0
    assert threading.active_count() <= before  # those that earlier tests left idle may end meanwhile
