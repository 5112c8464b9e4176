"""One demo house for all acceptance tests: built by `pingee demo --keep`, ended by `pingee demo --stop`, nothing left behind."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from clients.demo.steps import Stage
from clients.demo.world import read_world
from tests.fakes.shown_demo import ShownDemo, processes_of, run_demo


@pytest.fixture(scope="session")
def demo():
    directory = Path(tempfile.mkdtemp(prefix="pingee-acceptance-"))
    try:
        done = run_demo("--keep", "--dir", str(directory), "-o", "json")
        assert done.returncode == 0, done.stderr[-3000:]
        world = read_world(directory / "world.json")
        yield ShownDemo(json.loads(done.stdout), world, Stage(world))
    finally:
        stopped = run_demo("--stop", "--dir", str(directory))
        left = processes_of(directory)
        shutil.rmtree(directory, ignore_errors=True)
        assert stopped.returncode == 0, stopped.stderr
        assert left == []
