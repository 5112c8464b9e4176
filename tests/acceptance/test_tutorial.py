"""The tutorial's commands, run as written in the kept demo: a reader deploys a change of their own by hand. UNDERSTANDABLE."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
LINES_OF_A_PAGE = 100
TUTORIAL_S = 400


def blocks():
    return re.findall(r"^```sh\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_tutorial_fits_its_page():
    assert len(TUTORIAL.read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_PAGE


def test_its_commands_deploy_a_readers_own_change(demo):
    """Only the house's own start, its directory and its end are the fixture's instead of the reader's."""
    first, *steps, last = blocks()
    assert first.splitlines() == [
        'make demo ARGS="--keep --dir /tmp/pingee-demo"',
        "export DEMO=/tmp/pingee-demo",
        ". $DEMO/env.sh",
    ]
    assert last == "pingee demo --stop --dir $DEMO\n"
    directory = Path(demo.world.directory)
    script = "\n".join(["set -eu", f"export DEMO={directory}", ". $DEMO/env.sh", *steps])
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8"}
    done = subprocess.run(
        ["sh", "-c", script], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TUTORIAL_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    at_test = json.loads((directory / "test.json").read_text())
    assert (at_test["environment"], at_test["state"]) == ("test", "deployed")
    assert "1 more vote(s) Code-Review +2" in done.stdout
    assert "Hello from production. This is version 42." in done.stdout
    assert "sound: every entry and tile below the signed checkpoint is as signed" in done.stdout
    rows = demo.stage.pingee(demo.world.instance("production"), "running", "-o", "json").document()
    (runs,) = [row for row in rows if row["component"] == demo.world.component]
    assert runs["artifact"] != at_test["artifact"], "the last command took the reader's version back"
