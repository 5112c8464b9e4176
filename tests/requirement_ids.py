"""Reads `tests/requirements.toml` and `tests/attacks.toml`: what is shown by which tests, and what is still only planned."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.toml")
ATTACKS = Path(__file__).with_name("attacks.toml")

ISSUES = ("path", "promises", "log", "evidence", "decisions", "deploys", "embargo", "later")
MANDATORY = ("VERY HARD", "HARD")
BENCH = "bench:"


@dataclass(frozen=True)
class RequirementTable:
    """`levels` names every id; each id stands in `shown` (its tests and benches) or in `planned` (the issue that brings them)."""

    levels: dict[str, str]
    shown: dict[str, list[str]]
    planned: dict[str, str]
    resolved: list[str]

    def is_hard(self, requirement: str) -> bool:
        # EMBARGO is NICE in the drafts and mandatory here.
        return self.levels[requirement] in MANDATORY or requirement == "EMBARGO"

    def later(self) -> list[str]:
        return sorted(name for name, issue in self.planned.items() if issue == "later")

    def summary(self, what: str = "requirements", each: str = "ids") -> str:
        hard = sum(self.is_hard(name) for name in self.planned if name in self.levels)
        return f"{what}: {len(self.levels)} {each}, {len(self.shown)} shown by tests, {len(self.planned)} planned, {hard} of these HARD"

    def faults(self) -> list[str]:
        """Everything that is wrong with the table itself, in sentences; whether the tests exist is another question."""
        found = [f"{name}: unknown" for name in {*self.shown, *self.planned} - self.levels.keys()]
        found += [f"{name}: both shown and planned" for name in self.shown.keys() & self.planned.keys()]
        found += [f"{name}: neither shown nor planned" for name in self.levels.keys() - self.shown.keys() - self.planned.keys()]
        found += [f"{name}: shown by nothing" for name, tests in self.shown.items() if not tests]
        for name, issue in self.planned.items():
            if issue not in ISSUES:
                found.append(f"{name}: planned for {issue!r}, which is no issue")
            elif issue in self.resolved:
                found.append(f"{name}: still planned for {issue}, which is resolved")
            elif issue == "later" and name in self.levels and self.is_hard(name):
                found.append(f"{name}: a mandatory promise cannot wait for later")
        return sorted(found)


def read_table(path: Path) -> RequirementTable:
    """Read the table; a missing part is a KeyError, which no test needs to survive."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return RequirementTable(document["levels"], document["tests"], document["planned"], document["resolved"])


def read_attacks(path: Path, resolved: list[str]) -> RequirementTable:
    """The rows of the attack matrix as a table of the same kind: every row is a promise, and none may wait for later."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    levels = {str(row): "HARD" for row in range(1, document["rows"] + 1)}
    planned = {row: issue for rows, issue in document["planned"].items() for row in _range(rows)}
    return RequirementTable(levels, document["tests"], planned, resolved)


def _range(text: str) -> list[str]:
    first, _, last = text.partition("-")
    return [str(row) for row in range(int(first), int(last or first) + 1)]
