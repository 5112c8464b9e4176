"""The demo as a test sees it: the command run as a user would, what it printed, and the house that still stands."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.demo.steps import Stage
from clients.demo.world import World

ROOT = Path(__file__).resolve().parents[2]
DEMO_S = 580


@dataclass(frozen=True)
class ShownDemo:
    """What the demo printed, and the house that still stands."""

    document: dict[str, Any]
    world: World
    stage: Stage

    def step(self, name: str) -> dict[str, Any]:
        """The detail of one step."""
        (found,) = [s for s in self.document["steps"] if s["name"] == name]
        assert found["ok"], found
        return found["detail"]


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, with nothing of this process's environment but the path."""
    environment = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), "LANG": "C.UTF-8"}
    return subprocess.run(
        [sys.executable, "-m", "clients.cli.main", "demo", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEMO_S,
        check=False,
    )


def processes_of(directory: Path) -> list[str]:
    """Command lines of processes that name the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(directory) in line:
                found.append(line)
    return found
