"""`pingee doctor` on the demo's house, each part stopped in turn and started again: one sentence for what is wrong, then all is well."""

import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from clients.demo.diagnosis import diagnosis
from tests.fakes.shown_demo import run_demo

WELL_S = 120
VAULT_PARTS = {"vault-log", "vault-decide", "vault-act", "vault-clock"}


def ask(demo, instance="production", *, person="olga", code=None, **options):
    """What the doctor says of an instance: name -> check, and its exit code."""
    world = demo.world.instance(instance)
    arguments = ("doctor", "-o", "json", "--operator", world.operator_url)
    if "token_file" in options:
        done = demo.stage.pingee(world, *arguments, token_file=options["token_file"], code=code)
    else:
        done = demo.stage.as_person(person, world, *arguments, code=code)
    document = done.document()
    assert (document["apiVersion"], document["kind"], document["ok"]) == ("pingee/v1", "Doctor", done.code == 0)
    return {check["name"]: check for check in document["checks"]}, done.code


def wrong(checks):
    return {name: check["code"] for name, check in checks.items() if check["ok"] is False}


def untold(checks):
    return {name for name, check in checks.items() if check["ok"] is None}


@contextmanager
def stopped(demo, part):
    """The part is down in the block, and the whole house well after it."""
    demo.stage.stop(part)
    try:
        yield
    finally:
        demo.stage.start(part)
        until = time.monotonic() + WELL_S
        while any(ask(demo, name)[1] for name in ("test", "production")):
            assert time.monotonic() < until, diagnosis(demo.world)
            time.sleep(0.2)


def test_all_is_well_and_everything_was_looked_at(demo):
    checks, code = ask(demo)
    assert (code, wrong(checks), untold(checks)) == (0, {}, set())
    assert set(checks) >= {
        "token", "tls", "server", "login", "clock", "log-policy", "operator-clock", "database", "schema", "database-clock", "vault", "vault-clock",
        "vault-log", "vault-decide", "vault-act", "log", "policy", "certificate", "builder-ca", "target:production-1",
    }  # fmt: skip


def test_a_stopped_vault_is_named_and_what_it_alone_knows_cannot_be_told(demo):
    with stopped(demo, "vault"):
        checks, code = ask(demo)
        assert (code, wrong(checks), untold(checks)) == (3, {"vault": "vault-unreachable"}, VAULT_PARTS)
        assert checks["vault"]["sentence"] == "the vault does not answer"
        assert "override at the target" in checks["vault"]["remedy"]
        # What `make demo` prints where a step fails, and `pingee demo --doctor` for a house that was kept.
        told = run_demo("--doctor", "--dir", demo.world.directory).stdout
        assert [told.count(f"WRONG        {name}: the vault does not answer") for name in ("vault", "vault-seal")] == [2, 2]
        assert told.startswith("pingee doctor, test:\n")


def test_a_stopped_database_is_named(demo):
    with stopped(demo, "database"):
        checks, code = ask(demo)
        assert (code, wrong(checks), untold(checks) - {"login", "log"}) == (3, {"database": "database-unreachable"}, {"schema", "database-clock"})


def test_a_stopped_gatekeeper_leaves_the_rest_untold_and_the_other_one_well(demo):
    with stopped(demo, "gatekeeper-production"):
        checks, code = ask(demo)
        assert (code, wrong(checks)) == (3, {"server": "server-unreachable", "operator": "operator-unreachable"})
        assert untold(checks) == {"clock", "log-policy", "parts"}
        assert ask(demo, "test")[1] == 0


def test_a_stopped_target_is_named(demo):
    with stopped(demo, "target-production"):
        checks, code = ask(demo)
        assert (code, wrong(checks)) == (3, {"target:production-1": "target-unreachable"})
        assert checks["target:production-1"]["sentence"] == "the target production-1 does not answer SSH"


def test_ones_own_token_for_another_instance_or_expired(demo):
    checks, code = ask(demo, token_file=demo.world.token_file("olga", "test"))
    assert (code, wrong(checks)) == (3, {"login": "unauthenticated"})
    run = demo.stage.platform.start_run(project=demo.world.project, commit="0" * 40, ref="refs/heads/main", actor="alice")
    checks, code = ask(demo, token_file=demo.stage.token(run, "pingee:production", life_s=-120))
    assert code == 3
    assert wrong(checks)["token"] == "token-expired"
    assert wrong(checks)["login"] == "unauthenticated"


def test_a_policy_that_nobody_signed_is_named_and_the_old_one_stays(demo, tmp_path):
    """On a replica's own word: pushed to the test instance's branch, and taken back after it."""
    branch = "test"
    remote = Path(demo.world.directory) / "policy" / "policy.git"
    work = tmp_path / "work"

    def git(*arguments, cwd=work):
        command = ["git", "-c", "user.name=mallory", "-c", "user.email=m@x", *arguments]
        return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    git("clone", "-q", "-b", branch, str(remote), str(work), cwd=tmp_path)
    before = git("rev-parse", "HEAD")
    (work / "roles.toml").write_text("")
    git("commit", "-q", "--no-gpg-sign", "-am", "mine")
    git("push", "-q", "origin", f"HEAD:{branch}")
    try:
        wait_for(demo, "test", {"policy": "config-unreviewed"})
    finally:
        git("push", "-qf", "origin", f"{before}:refs/heads/{branch}")
        wait_for(demo, "test", {})
        shutil.rmtree(work)


def wait_for(demo, instance, expected):
    until = time.monotonic() + WELL_S
    while (found := wrong(ask(demo, instance)[0])) != expected:
        assert time.monotonic() < until, found
        time.sleep(0.2)


@pytest.mark.parametrize("directory", [None, "none"])
def test_a_house_that_was_not_kept_is_said_so(directory, tmp_path):
    done = run_demo("--doctor", *(() if directory is None else ("--dir", str(tmp_path / directory))))
    assert (done.returncode, done.stderr) == (1, "pingee demo: --doctor needs --dir DIR of a demo that was kept\n")


def test_the_environment_of_a_kept_house_is_enough_for_the_doctor(demo):
    script = f". {demo.world.directory}/env.sh; PINGEE_TOKEN_FILE=$PINGEE_PEOPLE/olga/production.token pingee doctor -o json"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=120, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stdout
    assert "vault-act" in {check["name"] for check in json.loads(done.stdout)["checks"]}
