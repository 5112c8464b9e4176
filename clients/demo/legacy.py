"""The example as a project of any name; and a second one that another tool put on production's host and started there, before any ping."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from importlib.resources import as_file
from pathlib import Path
from typing import Final

from builder.pipeline import FILE as DOCUMENT
from gatekeeper.shipped import example

from .git import commit_all, git
from .processes import spawn
from .world import SecondWorld

STOP_S: Final = 5.0


def second_name(component: str) -> str:
    """Name of the second project and of its component."""
    return "legacy" if component != "legacy" else "legacy-2"


def make_example(bare: Path, component: str) -> Path:
    """A bare repository with the example under the component's name, and one commit."""
    work = bare.with_suffix(".work")
    with as_file(example("hello")) as tree:
        shutil.copytree(tree, work, ignore=shutil.ignore_patterns("__pycache__"))
    document = work / DOCUMENT
    document.write_text(document.read_text().replace("component: hello", f"component: {component}"))
    git("init", "-q", "-b", "main", cwd=work)
    commit_all(work, "A greeter", who="alice")
    git("clone", "-q", "--bare", str(work), str(bare), cwd=bare.parent)
    return bare


def legacy_of(repository: Path, house: Path) -> SecondWorld:
    """Where the second project's files are."""
    place = house / "legacy"
    return SecondWorld(repository.name.removesuffix(".git"), repository.as_uri(), str(repository), str(place / "srv"), str(place / "pid"))


def start_legacy(second: SecondWorld, port: int) -> subprocess.Popen[bytes]:
    """What an rsync and an init script would have done: files in a directory, a process in a session of its own, its number in a file."""
    folder = Path(second.directory)
    folder.mkdir(mode=0o700, parents=True)
    program = folder / "greeter.py"
    program.write_text(git("show", f"main:{program.name}", cwd=Path(second.repository_path)) + "\n")
    program.chmod(0o755)
    (folder / "version.txt").write_text("0\n")
    with (folder.parent / "log").open("ab") as log:
        process = spawn([str(program), str(port)], log)
    Path(second.pid_file).write_text(f"{process.pid}\n")
    return process


def end_legacy(process: subprocess.Popen[bytes]) -> None:
    """End it where no doorkeeper did."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_S)
