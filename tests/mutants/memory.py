"""What earlier runs found, so that a run that was cut short goes on and a small change does not ask everything anew.

Kept outside the tree, one file for each checkout. An outcome counts as long as no shipped source and no test has changed; after that the test that
killed a mutant is only the first one asked. What a test runs counts as long as neither its own file nor anything it is not one of has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.mutants.survivors import Name
from tests.mutants.warm import ROOT, Observed

SHIPPED = ("gatekeeper", "builder", "clients")
SHARED = ("tests/fakes", "tests/conftest.py", "tests/assets", "tests/mutants/live.py", "tests/mutants/mutate.py")
ALL_TESTS = ("tests/unit", "tests/property", "tests/integration")


class Memory:
    """Observations and outcomes by digest. `keep` writes them; a file that cannot be read is an empty memory."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._held: dict[str, Any] = {"observed": {}, "outcomes": {}}
        if file is not None and file.is_file():
            with suppress(OSError, ValueError):
                self._held |= json.loads(file.read_text(encoding="utf-8"))
        self._shared = _digest([*SHIPPED, *SHARED])
        self._world = _digest([*SHIPPED, *SHARED, *ALL_TESTS])

    def keep(self) -> None:
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._file.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps(self._held), encoding="utf-8")
            fresh.replace(self._file)

    def observed(self, file: str) -> dict[str, Observed] | None:
        """What the tests of a file did, None where that is not known of the file as it is, or where one of them failed."""
        held = self._held["observed"].get(file)
        if held is None or held["digest"] != self._of_test(file) or any(failed for _, failed, _ in held["tests"].values()):
            return None
        return {
            test: Observed(seconds, failed, {(name, line) for name, lines in places.items() for line in lines})
            for test, (seconds, failed, places) in held["tests"].items()
        }

    def observe(self, seen: Mapping[str, Observed]) -> None:
        by_file: dict[str, dict[str, Any]] = {}
        for test, one in seen.items():
            places: dict[str, list[int]] = {}
            for name, line in sorted(one.places):
                places.setdefault(name, []).append(line)
            by_file.setdefault(test.partition("::")[0], {})[test] = [one.seconds, one.failed, places]
        for file, tests in by_file.items():
            self._held["observed"][file] = {"digest": self._of_test(file), "tests": tests}

    def outcome(self, name: Name) -> tuple[bool, str | None]:
        """Whether the outcome still counts, and the test that killed the mutant when it was last asked."""
        held = self._held["outcomes"].get(str(name))
        return (False, None) if held is None else (held["world"] == self._world, held["killer"])

    def settle(self, name: Name, killer: str | None) -> None:
        self._held["outcomes"][str(name)] = {"world": self._world, "killer": killer}

    def _of_test(self, file: str) -> str:
        return hashlib.sha256(self._shared.encode() + (ROOT / file).read_bytes()).hexdigest()


def default_file() -> Path:
    """Outside the tree, named by the checkout."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "pingee-mutants" / (hashlib.sha256(str(ROOT).encode()).hexdigest()[:16] + ".json")


def _digest(rooms: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for room in rooms:
        start = ROOT / room
        for file in sorted(start.rglob("*")) if start.is_dir() else [start]:
            if file.is_file() and "__pycache__" not in file.parts:
                data = file.read_bytes()
                whole.update(f"{file.relative_to(ROOT)} {len(data)}\n".encode() + data)
    return whole.hexdigest()
