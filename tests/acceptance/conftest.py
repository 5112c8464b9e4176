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


def pytest_collection_modifyitems(items):
    """All acceptance tests share one house, so one worker has them all; the others go on beside it, for a house mostly waits."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("house"))


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
