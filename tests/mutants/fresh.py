"""Chosen tests in a process that loads one module as a mutant from the first import on: `python -m tests.mutants.fresh FILE NUMBER < node-ids`.

For mutants in code that runs while tests are collected. Exit 0: every test passed; anything else: one did not, or could not be collected.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.mutants.live import Instrumented
from tests.mutants.warm import PYTEST, stable_examples

ROOT = Path(__file__).resolve().parents[2]


class Chosen:
    """The plugin that leaves out all other tests."""

    def __init__(self, tests: set[str]) -> None:
        self._tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        stable_examples()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._tests]


def main() -> int:
    file, number = sys.argv[1], int(sys.argv[2])
    tests = sys.stdin.read().split("\n")
    Instrumented({str(ROOT / file): file}, (file, number)).install()
    return int(pytest.main([*PYTEST, "-x", *sorted({test.partition("::")[0] for test in tests})], plugins=[Chosen(set(tests))]))


if __name__ == "__main__":
    sys.exit(main())
