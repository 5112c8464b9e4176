"""What a person does wrong on the first day: one clear sentence, a code where there is one, the right exit status, nothing half-done."""

import json
import os
import subprocess
import sys

import pytest

from clients.demo.git import commit_all, git
from clients.demo.keeper import lock_directory
from tests.fakes.shown_demo import ROOT, processes_of, run_demo

TAIL = 'artifact:\n  paths: [out/]\nrun:\n  argv: ["out/x"]\n  health: /\n'
GOOD = f'version: 1\ncommit:\n  build: ["mkdir out; echo hi > out/x"]\n  test: ["true"]\n  timeout: 20s\n{TAIL}'
LEEWAY_S = 120


def repository(directory, document):
    """A repository with one commit and this document, or none; `(path, commit)`."""
    path = directory / "project"
    path.mkdir()
    git("init", "-q", "-b", "main", cwd=path)
    (path / "README").write_text("a project\n")
    if document is not None:
        (path / ".pipeline").mkdir()
        (path / ".pipeline" / "config.yaml").write_text(document)
    return path, commit_all(path, "First", who="alice")


def build(*arguments):
    argv = [sys.executable, "-m", "builder.cli", "run", *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def last_line(done):
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (None, "config-invalid: {path} has no .pipeline/config.yaml on its branch"),
        (GOOD + "deploy: now\n", "config-invalid: .pipeline/config.yaml line 11, deploy: "),
        (GOOD.replace("version: 1", "version: 2"), "config-invalid: .pipeline/config.yaml line 1, version: "),
    ],
)
def test_a_repository_that_cannot_be_shown_starts_no_house(tmp_path, document, words):
    path, _ = repository(tmp_path, document)
    house = tmp_path / "house"
    done = run_demo("--repo", str(path), "--dir", str(house), "-o", "json")
    assert done.returncode == 1
    assert done.stderr.startswith("pingee demo: " + words.format(path=path)), done.stderr
    assert done.stderr.count("\n") == 1
    assert json.loads(done.stdout)["ok"] is False
    # Nothing that the next try, with a better repository, would stumble over.
    assert list(house.iterdir()) == []
    assert processes_of(house) == []


def test_a_repository_that_is_none(tmp_path):
    done = run_demo("--repo", str(tmp_path / "none"))
    assert (done.returncode, done.stderr) == (1, f"pingee demo: repository-unreadable: --repo {tmp_path}/none is no directory\n")
    (tmp_path / "empty").mkdir()
    done = run_demo("--repo", str(tmp_path / "empty"), "--dir", str(tmp_path / "house"))
    assert done.returncode == 1
    assert done.stderr.startswith("pingee demo: git clone: ")
    assert list((tmp_path / "house").iterdir()) == []


def test_a_second_demo_in_the_same_directory(tmp_path):
    (tmp_path / "repositories").mkdir()
    lock = lock_directory(tmp_path)
    try:
        done = run_demo("--dir", str(tmp_path))
        sentence = f"another demo runs in {tmp_path}: end it with `pingee demo --stop --dir {tmp_path}`, or name another directory"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"pingee demo: {sentence}\n")
    finally:
        os.close(lock)
    done = run_demo("--dir", str(tmp_path))
    assert (done.returncode, done.stderr) == (1, f"pingee demo: {tmp_path} holds an earlier demo: remove it first, or name another directory\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "repositories"]


def test_the_running_demo_is_not_disturbed_by_a_second_one(demo):
    done = run_demo("--dir", demo.world.directory)
    assert done.returncode == 1
    assert f"another demo runs in {demo.world.directory}" in done.stderr
    assert demo.stage.pingee(demo.world.instance("production"), "running").code == 0


@pytest.mark.parametrize(
    ("commands", "timeout", "status", "sentence"),
    [
        ("exit 7", "20s", 3, "build-failed: 'exit 7' failed with status 7"),
        ("sleep 300", "2s", 3, "stage-timeout: "),
        ("mkdir out; while :; do head -c 1M /dev/zero >> out/x; done", "20s", 3, "workspace-full: "),
        ("true", "20s", 3, "output-missing: the build made no 'out'"),
    ],
)
def test_a_build_that_fails_hangs_or_fills_the_disk(tmp_path, commands, timeout, status, sentence):
    document = f"version: 1\ncommit:\n  build: {json.dumps([commands])}\n  test: ['true']\n  timeout: {timeout}\n{TAIL}"
    path, commit = repository(tmp_path, document)
    done = build(path, commit, "--no-submit", "--workspace-mib", "8", "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (status, "")
    assert last_line(done).startswith(f"pingee-builder: {sentence}")
    assert not (tmp_path / "out" / "manifest.bundle.json").exists()


def test_a_commit_that_does_not_exist(tmp_path):
    path, _ = repository(tmp_path, GOOD)
    done = build(path, "0" * 40, "--no-submit")
    assert (done.returncode, done.stdout) == (1, "")
    assert last_line(done) == f"pingee-builder: commit-unknown: the repository has no commit {'0' * 40}"


@pytest.fixture(scope="module")
def run(demo):
    """A run of the platform for the newest commit on main."""
    commit = git("rev-parse", "refs/heads/main", cwd=demo.stage.work / "clone")
    return demo.stage.platform.start_run(project=demo.world.project, commit=commit, ref="refs/heads/main", actor="alice")


def log_size(demo, instance):
    return int(demo.stage.pingee(instance, "log", "checkpoint").out.splitlines()[1])


def test_an_expired_token_asks_for_a_login_and_does_nothing(demo, run):
    production = demo.world.instance("production")
    size, pings = log_size(demo, production), demo.stage.pingee(production, "status", "-o", "json").out
    expired = demo.stage.token(run, "pingee:production", life_s=-LEEWAY_S)
    arguments = ("ping", "production", demo.world.component, "--artifact", "sha256:" + "0" * 64)
    done = demo.stage.pingee(production, *arguments, "-o", "json", token_file=expired, code=None)
    assert (done.code, done.out) == (4, "")
    problem = json.loads(done.err)
    assert (problem["status"], problem["code"]) == (401, "unauthenticated")
    done = demo.stage.pingee(production, *arguments, token_file=expired, code=None)
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert demo.stage.pingee(production, "status", "-o", "json").out == pings
    assert log_size(demo, production) == size


def test_a_builder_whose_token_has_expired_submits_nothing(demo, run):
    test = demo.world.instances[0]
    size = log_size(demo, test)
    arguments = demo.stage._build_arguments(run)
    expired = demo.stage.token(run, f"pingee:certificates:{test.name}", life_s=-LEEWAY_S)
    assert str(expired) in arguments
    done = build(*arguments[1:], "--out", demo.stage.work / "expired")
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == "unauthenticated"
    assert log_size(demo, test) == size
