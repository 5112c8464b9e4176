"""SECRETS, attack matrix 135: what our programs hold in memory is in no core file and no other process's sight."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import builder.cli
import clients.cli.main
import clients.cli.submit
import clients.doorkeeper.cli
import clients.doorkeeper.host
import gatekeeper.command

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534

# An ordinary user's process, dumpable as any is after it was started. Root could read it anyway, so root becomes nobody first.
ORDINARY = f"""
import ctypes, os, resource, sys
from gatekeeper.hidden import hide_memory
if os.getuid() == 0:
    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
"""
WAITS = """
print("ordinary", flush=True); sys.stdin.readline()
hide_memory()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE), flush=True); sys.stdin.readline()
"""
DIES = """
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
hide_memory()
os.abort()
"""


def test_the_environment_becomes_roots_and_no_core_may_be_written():
    with subprocess.Popen([sys.executable, "-c", ORDINARY + WAITS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        environ = Path(f"/proc/{child.pid}/environ")
        assert child.stdout.readline() == "ordinary\n"
        assert environ.stat().st_uid == (NOBODY if os.getuid() == 0 else os.getuid())
        print(file=child.stdin, flush=True)
        assert child.stdout.readline() == "0 0 0\n"
        assert environ.stat().st_uid == 0
        if os.getuid() != 0:
            with pytest.raises(PermissionError):
                environ.read_bytes()
        child.communicate("\n", timeout=60)


def test_a_process_that_dies_leaves_no_core(tmp_path):
    tmp_path.chmod(0o777)
    child = subprocess.Popen(
        [sys.executable, "-c", f"import gatekeeper.hidden, os\nos.chdir({str(tmp_path)!r})\n" + ORDINARY + DIES],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status = os.waitpid(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert os.WIFSIGNALED(status)
    assert not os.WCOREDUMP(status)
    assert list(tmp_path.iterdir()) == []


class Called(Exception):
    """The program got as far as hiding its memory."""


@pytest.mark.parametrize(
    ("module", "start"),
    [
        (gatekeeper.command, lambda: gatekeeper.command.main(["check-config", "--config", "/nonexistent"])),
        (clients.doorkeeper.cli, lambda: clients.doorkeeper.cli.main(["--dir", "/nonexistent", "status"])),
        (clients.doorkeeper.host, lambda: clients.doorkeeper.host.main()),
        (builder.cli, lambda: builder.cli.main(["run", "/nonexistent", "0" * 40])),
        (clients.cli.submit, lambda: clients.cli.main.main(["submit", "/nonexistent"])),
    ],
    ids=["gatekeeper", "doorkeeper", "host", "builder", "submit"],
)
def test_every_program_that_holds_a_secret_hides_before_anything_else(module, start, monkeypatch):
    called = []

    def hide():
        called.append(1)
        raise KeyboardInterrupt(Called())

    monkeypatch.setattr(module, "hide_memory", hide)
    monkeypatch.setattr(sys, "argv", ["host", "--dir", "/nonexistent", "--user-ca", "/nonexistent", "--principal", "x"])
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        start()
    assert called == [1]
