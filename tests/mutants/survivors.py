"""Which mutants may live: `survivors.toml`, and what is wrong with a run. Pure but for reading that file.

`checks` are patterns of files, or of `file:function`, in which none may live, listed or not: where a signature, an identity, a digest or a subject
is checked, a mutant that changes nothing means that the code can be simpler. Elsewhere a survivor is listed with its reason, at most `MOST` of all
mutants are, and an entry that no mutant answers to any more is a fault as well.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.mutants.mutate import Mutant

SURVIVORS = Path(__file__).with_name("survivors.toml")
MOST = 0.02
LEAST_REASON = 20


@dataclass(frozen=True)
class Name:
    """A mutant by what it is, wherever its line is today."""

    file: str
    function: str
    words: str

    def __str__(self) -> str:
        return f"{self.file}: {self.function}: {self.words}"


@dataclass(frozen=True)
class Listed:
    """Survivors with their reasons, and where none may be."""

    reasons: dict[Name, str]
    checks: tuple[str, ...]

    def is_check(self, name: Name) -> bool:
        """Whether it is in a signature, identity, digest or subject check."""
        return any(fnmatchcase(name.file, one) or fnmatchcase(f"{name.file}:{name.function}", one) for one in self.checks)


def parse_survivors(text: str) -> Listed:
    """Read the table. Raises ValueError for an entry without a reason, with unknown members, or twice."""
    document = tomllib.loads(text)
    if set(document) - {"checks", "survivor"}:
        raise ValueError("survivors: the document holds `checks` and `survivor`, nothing else")
    reasons: dict[Name, str] = {}
    for entry in document.get("survivor", []):
        if set(entry) != {"file", "function", "mutation", "reason"} or not all(isinstance(value, str) for value in entry.values()):
            raise ValueError(f"survivors: an entry is file, function, mutation and reason, each a text: {entry}")
        name = Name(entry["file"], entry["function"], entry["mutation"])
        if name in reasons:
            raise ValueError(f"survivors: listed twice: {name}")
        if len(entry["reason"].strip()) < LEAST_REASON:
            raise ValueError(f"survivors: no reason: {name}")
        reasons[name] = entry["reason"]
    return Listed(reasons, tuple(document["checks"]))


def name_of(file: str, mutant: Mutant) -> Name:
    return Name(file, mutant.function, mutant.words)


def faults(listed: Listed, made: Collection[Name], survived: Sequence[Name], *, whole: bool) -> list[str]:
    """What makes a run red. `whole`: every scope ran, so that shares and entries for files that are gone can be judged."""
    found = [f"not listed: {name}" for name in survived if name not in listed.reasons]
    found += [f"in a check of signature, identity, digest or subject: {name}" for name in survived if listed.is_check(name)]
    files = {name.file for name in made}
    known, alive = frozenset(made), frozenset(survived)
    for name in listed.reasons:
        if name.file in files or whole:
            if name not in known:
                found.append(f"listed, but there is no such mutant: {name}")
            elif name not in alive:
                found.append(f"listed, but it is killed: {name}")
    if whole and len(survived) > MOST * len(made):
        found.append(f"{len(survived)} of {len(made)} mutants survived: more than {MOST:.0%}")
    return found
