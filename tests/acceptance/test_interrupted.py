"""Ctrl-C, and the hard end of the demo itself, leave no process and no directory behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.fakes.shown_demo import ROOT, processes_of

END_S = 90


# Whatever a shell starts in the background ignores SIGINT, and so would everything below it.
AS_AT_A_TERMINAL = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_demo_leaves_nothing_running(tmp_path, blow):
    directory = tmp_path / "house"
    demo = subprocess.Popen(
        [sys.executable, "-c", AS_AT_A_TERMINAL, sys.executable, "-m", "clients.cli.main", "demo", "--dir", str(directory)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with demo:
        for line in demo.stdout:
            if " gatekeeper " in line:  # the house stands, the first build begins
                break
        assert processes_of(directory)
        demo.send_signal(blow)
        demo.stdout.read()
    deadline = time.monotonic() + END_S
    while processes_of(directory) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(directory) == []
    if blow is signal.SIGINT:
        assert demo.returncode == 130
