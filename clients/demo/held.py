"""A version whose start can be held up from outside, as one that waits for something it depends on.

Its `run.argv` is the repository's own behind a shell that waits while a file is there. So a step can stop a deploy in its middle for as long as
it needs and not longer, and a version that was healthy in one environment is never so in another.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.languages import HEALTH
from builder.pipeline import FILE as DOCUMENT
from builder.pipeline import RunWritten, parse_document
from builder.plan import make_plan

from .git import git
from .steps import Built, Stage
from .telling import StepFailed
from .world import InstanceWorld

_RUN: Final = re.compile(r"^run[ ]*:.*\n?(?:(?:[ #\]}].*)?(?:\n|\Z))*", re.MULTILINE)
"""the key and every line up to the next key of the top level"""
MOST_S: Final = 3600
"""the longest stage: nothing is built from this plan"""


@dataclass(frozen=True)
class HeldVersion:
    """A built version. While `file` exists it does not start."""

    built: Built
    file: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """In this block no start of it gets anywhere."""
        self.file.touch()
        try:
            yield
        finally:
            self.file.unlink(missing_ok=True)


def make_held_version(stage: Stage, message: str, *, change: str, grace_s: int) -> HeldVersion:
    """Push it, and build it; then main has the repository's own document again."""
    file = stage.work / f"held-{change[:12]}"

    def hold(tree: Path) -> None:
        _write(tree / DOCUMENT, held_document((tree / DOCUMENT).read_text("utf-8"), file, component=stage.world.component, grace_s=grace_s))

    commit = stage.new_version(message, change=change, edit=hold)
    own = git("show", f"{commit}^:{DOCUMENT}", cwd=stage.clone)
    stage.new_version("Start at once", change=f"{change[:-1]}f", edit=lambda tree: _write(tree / DOCUMENT, own + "\n"))
    return HeldVersion(stage.build(commit), file)


def held_document(text: str, file: Path, *, component: str, grace_s: int) -> str:
    """The document with another `run`; all else stays as its owner wrote it. Raises `ConfigInvalid`, and `StepFailed` where `run` is not found."""
    document = parse_document(text.encode())
    # What the owner left out is the type's.
    own = document.run.argv or make_plan(document, repository=component, enforced=(), most_s=MOST_S).run.argv
    waiting = f'while [ -e {shlex.quote(str(file))} ]; do sleep 0.05; done; exec "$0" "$@"'
    wanted = RunWritten(("/bin/sh", "-c", waiting, *own), document.run.health or HEALTH, grace_s)
    # A JSON string is a YAML string.
    run = f"run:\n  argv: {json.dumps(wanted.argv)}\n  health: {json.dumps(wanted.health)}\n  grace: {grace_s}s\n"
    held, found = _RUN.subn(lambda _: run, text, count=1)
    if not found:
        held = text.rstrip("\n") + "\n" + run
    if parse_document(held.encode()).run != wanted:
        raise StepFailed(f"the demo did not find its way in {DOCUMENT}: write 'run:' at the beginning of a line")
    return held


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def bring_to_test(stage: Stage, test: InstanceWorld, production: InstanceWorld, built: Built) -> None:
    """What production asks for before it takes a version: it ran in the test environment, its acceptance stage passed, bob voted."""
    stage.accept(test, built, stage.wait_for(test, stage.ping(test, built), "deployed"))
    stage.vote("bob", production, built.commit)
