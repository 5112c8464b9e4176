"""A version whose start can be held up from outside, as one that waits for something it depends on.

Its `run.argv` is the repository's own behind a shell that waits while a file is there. So a step can stop a deploy in its middle for as long as
it needs and not longer, and a version that was healthy in one environment is never so in another.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from builder.pipeline import FILE as DOCUMENT

from .git import git
from .steps import Built, Stage
from .world import InstanceWorld


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
    """Push it, and build it. The document is the repository's own again with the next version."""
    file = stage.work / f"held-{change[:12]}"

    def hold(tree: Path) -> None:
        path = tree / DOCUMENT
        document = yaml.safe_load(path.read_text("utf-8"))
        waiting = f'while [ -e {shlex.quote(str(file))} ]; do sleep 0.05; done; exec "$0" "$@"'
        document["run"] |= {"argv": ["/bin/sh", "-c", waiting, *document["run"]["argv"]], "grace": f"{grace_s}s"}
        path.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")

    commit = stage.new_version(message, change=change, edit=hold)
    git("checkout", "-q", "HEAD^", "--", DOCUMENT, cwd=stage.clone)
    return HeldVersion(stage.build(commit), file)


def bring_to_test(stage: Stage, test: InstanceWorld, production: InstanceWorld, built: Built) -> None:
    """What production asks for before it takes a version: it ran in the test environment, its acceptance stage passed, bob voted."""
    stage.accept(test, built, stage.wait_for(test, stage.ping(test, built), "deployed"))
    stage.vote("bob", production, built.commit)
