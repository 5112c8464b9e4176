"""A real doorkeeper on a host where something runs already: kept, ended at the first switch, brought back from its own bytes."""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from clients.doorkeeper.host import stop_workloads
from clients.doorkeeper.state import load_memory
from clients.doorkeeper.workload import find_process
from gatekeeper.model.decision import EvidenceItem, Mode, Purpose
from gatekeeper.model.digest import Digest, digest_hex, digest_of
from gatekeeper.model.frame import PartName
from tests.fakes.doorkeepers import installed
from tests.fakes.frames import GREETER, Artifact, make_artifact, parts_of

ARGV = ("python3", "greeter.py", "{port}")
BACK = b'[values]\nGREETING = "back"\n'


@pytest.fixture
def door(tmp_path):
    (tmp_path / "door").mkdir()
    with installed(tmp_path / "door") as door:
        yield door


@contextmanager
def by_other_means(door, folder):
    """The component, put there and started by somebody's own tool."""
    (folder / "static").mkdir(parents=True)
    (folder / "greeter.py").write_bytes(GREETER.replace(b"VERSION", b"0"))
    (folder / "static" / "x").write_bytes(b"x")
    process = subprocess.Popen(
        ["python3", "greeter.py", str(door.port)], cwd=folder, env={"PATH": "/usr/bin:/bin"}, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    pid_file = folder.parent / "legacy.pid"
    pid_file.write_text(f"{process.pid}\n")
    try:
        wait_until(lambda: page(door) == "none 0")
        yield process, pid_file
    finally:
        process.kill()
        process.wait()


def wait_until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def page(door):
    try:
        return door.page()
    except OSError:
        return None


def adopt(door, folder, *more, argv=ARGV, component="hello"):
    words = ("adopt", component, "--from", str(folder), "--health", "/healthz", "--grace", "5", *more, "--", *argv)
    done = subprocess.run(door.command(*words), env=door.environment("status"), capture_output=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def adopted(door):
    return door.status()["adopted"]


def rollback(door, artifact: Digest, *, old, **changes):
    """An Allow for bytes that the gatekeeper never had: the frame leaves them out."""
    unknown = Artifact(b"", b"", b"")
    honest = door.gatekeeper.statement(unknown, configuration=BACK)
    evidence = (*honest.evidence, EvidenceItem("adopted", "present", digest_of(b"entry")))
    statement = replace(honest, subject=artifact, purpose=Purpose.ROLLBACK, evidence=evidence)
    receipt = door.gatekeeper.receipt(replace(statement, **changes))
    items = door.gatekeeper.items(unknown, receipt, index=len(door.gatekeeper.log.entries) - 1, old=old, configuration=BACK)
    for name in (PartName.MANIFEST, PartName.CONFIG, PartName.LAYER):
        del items[name]
    return parts_of(items)[0].sha256, items


def test_adopted_deployed_over_and_brought_back(door, tmp_path):
    with by_other_means(door, tmp_path / "srv") as (process, pid_file):
        code, answer = adopt(door, tmp_path / "srv", "--pid-file", str(pid_file))
        assert (code, answer["component"]) == (0, "hello")
        first = answer["adopted"]
        assert adopted(door) == [{"component": "hello", "artifact": first, "runs": True}]
        assert door.status()["components"] == []
        assert (process.poll(), door.page()) == (None, "none 0")

        stop_workloads(door.place)
        assert process.poll() is None, "what was adopted is not the host's to stop"

        new = make_artifact("1")
        receipt, items = door.gatekeeper.deploy(new, old=0)
        code, answer = door.apply(receipt, items)
        assert (code, answer["outcome"]) == (0, "healthy"), answer
        assert (process.wait(5), door.page()) == (-signal.SIGTERM, "none 1")

        receipt, items = rollback(door, Digest(first), old=1)
        code, answer = door.apply(receipt, items)
        assert (code, answer["outcome"], answer["applied"]) == (0, "healthy", first)
        assert door.page() == "back 0"
        assert door.component()["running"] == first
        assert door.status()["record"].startswith("intact")


def test_a_first_deploy_that_is_unhealthy_puts_back_what_was_adopted(door, tmp_path):
    settings = tmp_path / "legacy.env"
    settings.write_text("GREETING=legacy\n")
    with by_other_means(door, tmp_path / "srv") as (_, pid_file):
        _, answer = adopt(door, tmp_path / "srv", "--pid-file", str(pid_file), "--settings", str(settings))
        first = answer["adopted"]
        bad = make_artifact("1", argv=["python3", "-c", "import time; time.sleep(60)"], grace_s=1)
        receipt, items = door.gatekeeper.deploy(bad, old=0)
        code, answer = door.apply(receipt, items)
        assert (code, answer["outcome"], answer["restored"]) == (6, "rolled-back", first)
        assert door.page() == "legacy 0"


def test_the_same_directory_gives_the_same_digest(door, tmp_path):
    with by_other_means(door, tmp_path / "srv") as (_, pid_file):
        os.utime(tmp_path / "srv" / "greeter.py", (1, 1))
        _, answer = adopt(door, tmp_path / "srv", "--pid-file", str(pid_file))
        (tmp_path / "second").mkdir()
        with installed(tmp_path / "second") as other:
            (tmp_path / "srv" / "greeter.py").touch()
            other.place.target_file.write_bytes(other.place.target_file.read_bytes().replace(str(other.port).encode(), str(door.port).encode()))
            _, again = adopt(other, tmp_path / "srv", "--pid-file", str(pid_file))
            assert again["adopted"] == answer["adopted"]


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "layer.tar"])
def test_kept_bytes_that_were_changed_are_not_brought_back(door, tmp_path, name):
    with by_other_means(door, tmp_path / "srv") as (_, pid_file):
        first = adopt(door, tmp_path / "srv", "--pid-file", str(pid_file))[1]["adopted"]
        file = door.place.kept("hello", digest_hex(first)) / name
        file.write_bytes(file.read_bytes() + b"\n")
        before = door.state()
        receipt, items = rollback(door, Digest(first), old=0)
        code, answer = door.apply(receipt, items)
        assert (code, answer["refused"]) == (3, "digest-mismatch")
        assert (door.state(), door.page()) == (before, "none 0")


def test_a_frame_without_bytes_for_what_is_not_kept_is_refused(door, tmp_path):
    before = door.state()
    receipt, items = rollback(door, digest_of(b"never here"), old=0)
    code, answer = door.apply(receipt, items)
    assert code == 1
    assert "nothing is kept here" in answer["error"]
    assert door.state() == before


def test_a_shadow_allow_for_what_is_kept_is_refused(door, tmp_path):
    with by_other_means(door, tmp_path / "srv") as (_, pid_file):
        first = adopt(door, tmp_path / "srv", "--pid-file", str(pid_file))[1]["adopted"]
        before = door.state()
        receipt, items = rollback(door, Digest(first), old=0, mode=Mode.SHADOW)
        code, answer = door.apply(receipt, items)
        assert (code, answer["refused"]) == (3, "receipt-other-target")
        assert (door.state(), door.page()) == (before, "none 0")


def test_what_cannot_be_adopted_is_said_and_changes_nothing(door, tmp_path):
    folder = tmp_path / "srv"
    with by_other_means(door, folder) as (process, pid_file):
        before = door.state()
        link = folder / "link"
        link.symlink_to("greeter.py")
        dead = tmp_path / "dead.pid"
        gone = subprocess.Popen(["true"])
        gone.wait()
        dead.write_text(str(gone.pid))
        own = ("--pid-file", str(pid_file))
        cases = [
            (adopt(door, folder, *own), "is a link"),
            (adopt(door, folder, *own, component="other"), "no such component"),
            (adopt(door, folder), "--pid-file"),
            (adopt(door, tmp_path / "nowhere", *own), "is no directory"),
        ]
        link.unlink()
        child = subprocess.Popen(["sleep", "60"])
        try:
            (tmp_path / "child.pid").write_text(str(child.pid))
            cases.append((adopt(door, folder, "--pid-file", str(tmp_path / "child.pid")), "does not lead its process group"))
        finally:
            child.kill()
            child.wait()
        cases += [
            (adopt(door, folder, "--pid-file", str(dead)), "no process"),
            (adopt(door, folder, "--pid-file", str(folder / "greeter.py")), "greeter.py"),
            (adopt(door, folder, *own, "--settings", str(folder / "static" / "x")), "settings"),
            (adopt(door, folder, *own, argv=("./x",) * 300), "argv"),
        ]
        for (code, answer), mention in cases:
            assert code == 1, answer
            assert mention in answer["error"]
        assert (door.state(), process.poll(), adopted(door)) == (before, None, [])
        assert find_process(door.place, "hello") is None
        assert not list(door.place.incoming.iterdir())


def test_what_is_not_healthy_is_not_adopted(door, tmp_path):
    with by_other_means(door, tmp_path / "srv") as (process, pid_file):
        os.killpg(process.pid, signal.SIGSTOP)
        code, answer = adopt(door, tmp_path / "srv", "--pid-file", str(pid_file), "--grace", "1")
        os.killpg(process.pid, signal.SIGCONT)
        assert (code, adopted(door)) == (1, [])
        assert "healthy" in answer["error"]
        assert find_process(door.place, "hello") is None
        assert process.poll() is None


def test_it_is_adopted_once_and_not_after_a_deploy(door, tmp_path):
    with by_other_means(door, tmp_path / "srv") as (_, pid_file):
        own = ("--pid-file", str(pid_file))
        assert adopt(door, tmp_path / "srv", *own)[0] == 0
        code, answer = adopt(door, tmp_path / "srv", *own)
        assert (code, "adopted here before" in answer["error"]) == (1, True)
        receipt, items = door.gatekeeper.deploy(make_artifact("1"), old=0)
        assert door.apply(receipt, items)[0] == 0
        code, answer = adopt(door, tmp_path / "srv", *own)
        assert (code, "deployed here by receipt" in answer["error"]) == (1, True)


def test_the_process_that_ended_by_itself_is_told_as_not_running(door, tmp_path):
    with by_other_means(door, tmp_path / "srv") as (process, pid_file):
        first = adopt(door, tmp_path / "srv", "--pid-file", str(pid_file))[1]["adopted"]
        process.kill()
        process.wait()
        assert adopted(door) == [{"component": "hello", "artifact": first, "runs": False}]
        assert dict(load_memory(door.place).adopted)["hello"].artifact == first
