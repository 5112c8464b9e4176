"""A real doorkeeper, called as a program, with real workloads."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from clients.doorkeeper.workload import find_process
from gatekeeper.model.frame import PartName
from gatekeeper.tlog.cosignature import verify_cosignature
from gatekeeper.tlog.note import parse_note, parse_signature_lines, parse_vkey
from tests.fakes.doorkeepers import installed
from tests.fakes.frames import frame_of, make_artifact, make_layer, parts_of


@pytest.fixture
def door(tmp_path):
    with installed(tmp_path) as door:
        yield door


def test_first_and_second_deploy_then_same_receipt_again(door):
    one, two = make_artifact("1"), make_artifact("2")
    receipt, items = door.gatekeeper.deploy(one, old=0, settings=b"GREETING=good day\n")
    code, answer = door.apply(receipt, items)
    assert (code, answer["outcome"], answer["applied"]) == (0, "healthy", one.digest)
    assert door.page() == "good day 1"
    settings = door.place.settings("hello", receipt.removeprefix("sha256:"))
    assert settings.stat().st_mode & 0o777 == 0o600

    receipt2, items2 = door.gatekeeper.deploy(two, old=1)
    code, answer = door.apply(receipt2, items2)
    assert (code, answer["outcome"]) == (0, "healthy")
    assert door.page() == "none 2"
    assert settings.stat().st_mode & 0o777 == 0o600  # kept as long as the release that ran with them may be brought back

    key = parse_vkey(door.status()["cosigner"])
    line = parse_signature_lines(answer["cosignature"].encode() + b"\n")[0]
    assert verify_cosignature(key, parse_note(door.gatekeeper.log.note(2)).text, line) > 0

    before = door.state()
    again = {**items2, PartName.CONSISTENCY: door.gatekeeper.log.growth(2)}
    code, answer = door.apply(receipt2, again)
    assert (code, answer["refused"]) == (3, "receipt-replayed")
    assert door.state() == before
    assert door.component()["outcome"] == "healthy"
    assert door.component()["running"] == two.digest
    assert door.status()["record"].startswith("intact")


def test_unhealthy_release_is_put_back(door):
    good = make_artifact("1")
    receipt, items = door.gatekeeper.deploy(good, old=0, settings=b"GREETING=hi\n")
    assert door.apply(receipt, items)[0] == 0
    bad = make_artifact("2", argv=["python3", "-c", "import time; time.sleep(60)"], grace_s=1)
    receipt, items = door.gatekeeper.deploy(bad, old=1)
    code, answer = door.apply(receipt, items)
    assert (code, answer["outcome"], answer["restored"]) == (6, "rolled-back", good.digest)
    assert "not healthy within 1 s" in answer["detail"]
    assert door.page() == "hi 1"
    assert door.component()["outcome"] == "rolled-back"
    assert door.component()["running"] == good.digest


def test_first_release_that_dies_leaves_nothing_running(door):
    bad = make_artifact("1", argv=["python3", "-c", "raise SystemExit(3)"])
    receipt, items = door.gatekeeper.deploy(bad, old=0)
    code, answer = door.apply(receipt, items)
    assert (code, answer["outcome"]) == (6, "failed")
    assert "ended by itself" in answer["detail"]
    assert door.component()["running"] is None
    assert not door.place.current("hello").is_symlink()


def test_stale_old_names_the_size_and_changes_nothing(door):
    artifact = make_artifact()
    receipt, items = door.gatekeeper.deploy(artifact, old=0)
    assert door.apply(receipt, items)[0] == 0
    before = door.state()
    receipt, items = door.gatekeeper.deploy(artifact, old=0)
    assert door.apply(receipt, items) == (5, {"stale": 1})
    assert door.state() == before


def test_private_tree_by_the_stolen_log_key_is_a_fork(door):
    artifact = make_artifact()
    receipt, items = door.gatekeeper.deploy(artifact, old=0)
    assert door.apply(receipt, items)[0] == 0
    before = door.state()
    fork = door.gatekeeper.log.fork()
    for _ in range(2):
        forged = door.gatekeeper.receipt(door.gatekeeper.statement(artifact), log=fork)
    items = door.gatekeeper.items(artifact, forged, index=1, old=1, log=fork)
    code, answer = door.apply(parts_of(items)[0].sha256, items)
    assert (code, answer["refused"]) == (3, "log-fork")
    assert door.state() == before
    kept = next(door.place.forks.iterdir()).read_bytes()
    assert fork.note() in kept
    assert door.gatekeeper.log.note(1) in kept


def test_refusal_comes_before_the_layer_is_read(door):
    artifact = make_artifact(layer=make_layer({"a": b"x" * 1000}))
    _, items = door.gatekeeper.deploy(artifact, old=0)
    frame = frame_of(parts_of(items))
    cut = frame[: frame.index(artifact.manifest)]
    child = subprocess.Popen(
        door.command("serve", "0" * 64), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=door.environment("apply")
    )
    with child:
        child.stdin.write(cut)  # and the pipe stays open: only an answer that needs no layer can come
        child.stdin.flush()
        answer = child.stdout.readline()
        child.stdin.close()
    assert b'"refused":"receipt-missing"' in answer
    assert child.returncode == 3


def test_unsafe_archive_fails_after_the_receipt_is_spent_and_leaves_the_old_one_running(door):
    good = make_artifact("1")
    receipt, items = door.gatekeeper.deploy(good, old=0)
    assert door.apply(receipt, items)[0] == 0
    unsafe = make_artifact("2", layer=make_layer({"../evil": b"x"}))
    receipt, items = door.gatekeeper.deploy(unsafe, old=1)
    code, answer = door.apply(receipt, items)
    assert (code, answer["outcome"]) == (1, "failed")
    assert "climbs" in answer["detail"]
    assert door.page() == "none 1"
    assert not list(Path(door.directory).rglob("evil"))
    assert door.component()["running"] == good.digest


def test_unreadable_or_missing_state_refuses_everything(door):
    receipt, items = door.gatekeeper.deploy(make_artifact(), old=0)
    for spoil in (lambda: door.place.state.write_bytes(b"{"), door.place.state.unlink):
        spoil()
        code, answer = door.apply(receipt, items)
        assert code == 7
        assert "state.json" in answer["error"]


def test_a_cut_record_refuses(door):
    artifact = make_artifact()
    receipt, items = door.gatekeeper.deploy(artifact, old=0)
    assert door.apply(receipt, items)[0] == 0
    record = door.place.var / "record.jsonl"
    record.write_bytes(b"".join(record.read_bytes().splitlines(keepends=True)[:-1]))
    assert door.status()["record"].startswith("damaged")
    before = door.state()
    receipt, items = door.gatekeeper.deploy(artifact, old=1)
    assert door.apply(receipt, items)[0] == 7
    assert door.state() == before


def test_killed_in_the_middle_is_put_back_and_never_told_as_healthy(door):
    good = make_artifact("1")
    receipt, items = door.gatekeeper.deploy(good, old=0)
    assert door.apply(receipt, items)[0] == 0
    slow = make_artifact("2", argv=["python3", "-c", "import time; time.sleep(60)"], grace_s=50)
    receipt, items = door.gatekeeper.deploy(slow, old=1)
    child = subprocess.Popen(
        door.command("serve", receipt.removeprefix("sha256:")), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=door.environment("apply")
    )
    with child:
        child.stdin.write(frame_of(parts_of(items)))
        child.stdin.close()
        while b"health" not in child.stdout.readline():
            pass
        assert door.component()["outcome"] == "in-progress"
        os.kill(child.pid, signal.SIGKILL)
    component = door.component()
    assert (component["outcome"], component["receipt"]) == ("interrupted", receipt)
    assert component["running"] == good.digest
    assert door.page() == "none 1"
    again = {**items, PartName.CONSISTENCY: door.gatekeeper.log.growth(2)}
    assert door.apply(receipt, again)[1]["refused"] == "receipt-replayed"


def test_workload_gets_settings_port_and_path_and_nothing_else(door):
    argv = ["/bin/sh", "-c", "env; echo end; exec python3 greeter.py $PORT"]
    receipt, items = door.gatekeeper.deploy(make_artifact(argv=argv), old=0, settings=b"SECRET=hush=1\n")
    os.environ["LEAK"] = "1"
    try:
        assert door.apply(receipt, items)[0] == 0
    finally:
        del os.environ["LEAK"]
    log = door.place.log("hello")
    deadline = time.monotonic() + 60
    while "end" not in (text := log.read_text().split("\n")) and time.monotonic() < deadline:
        time.sleep(0.02)
    names = {line.partition("=")[0] for line in text[: text.index("end")]}
    assert names - {"_", "SHLVL", "PWD", "OLDPWD", "LC_CTYPE"} == {"SECRET", "PORT", "PATH"}
    assert log.stat().st_mode & 0o777 == 0o600
    assert find_process(door.place, "hello") is not None


def test_frame_from_a_file(door):
    receipt, items = door.gatekeeper.deploy(make_artifact(), old=0)
    file = door.directory / "frame"
    file.write_bytes(frame_of(parts_of(items)))
    done = subprocess.run(door.command("apply", str(file)), capture_output=True, env=door.environment(""), timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert receipt.encode() in done.stdout


@pytest.mark.parametrize("arguments", [["-c", "sh"], ["-c", "pingee-doorkeeper serve " + "0" * 64 + " "], ["-c"], [], ["serve", "x"], ["scp"], ["-c", "pingee-doorkeeper status x"]])
def test_as_a_login_shell_nothing_else_runs(door, arguments):
    done = subprocess.run(
        [*door.command()[:3], *arguments], capture_output=True, env=door.environment("apply"), timeout=60, check=False
    )
    assert done.returncode == 1
