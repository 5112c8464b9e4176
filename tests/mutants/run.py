"""`make mutants`: what is checked is changed, one guard at a time, and a test must notice. Exit 1 when one lives that should not.

Every module of the scopes is found by itself. Only tests that run the changed statement are asked, those first that killed it before, then the
quickest; nothing is written into the tree. The last line is the count; `-o json` gives one document.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCOPES = ("gatekeeper/verify", "gatekeeper/policy", "gatekeeper/tlog", "clients/doorkeeper")
TESTS = ("tests/unit", "tests/property", *(f"tests/integration/test_doorkeeper_{name}.py" for name in ("adopts", "applies", "override", "refusals")))
KEEP_EVERY_S = 20
MOST_ASKED_S = 8
"""seconds of processor time of tests that are asked about one mutant: what is noticed only by a long test of something else counts as not noticed"""
MOST_FRESH_FILES = 3
"""of tests that are nearest to a mutant, imported anew with it"""


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    files = chosen_files(options.only)
    if not files:
        print(f"no file of {', '.join(SCOPES)} begins with {' or '.join(options.only)}", file=sys.stderr)
        return 1
    # hypothesis would keep tables beside the tests; it reads this when it is imported
    with tempfile.TemporaryDirectory(prefix="pingee-mutants-") as scratch:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = scratch
        return _run(options, files)


def chosen_files(only: Sequence[str]) -> list[str]:
    """Files of the scopes whose path begins with one of `only`, all where that is empty."""
    found = sorted(str(file.relative_to(ROOT)) for scope in SCOPES for file in (ROOT / scope).rglob("*.py"))
    return [file for file in found if not only or any(file.startswith(one) for one in only)]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATH", help="files that begin so (make mutants MUTANTS=gatekeeper/verify/token.py)")
    parser.add_argument("--list", action="store_true", help="say what would be changed, and change nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    parser.add_argument("--anew", action="store_true", help="believe no earlier run")
    parser.add_argument("-o", dest="output", choices=["text", "json"], default="text")
    return parser.parse_args(arguments)


@dataclass
class Report:
    """What a run found; `killers` has one entry for each mutant that was asked about."""

    seconds: float = 0.0
    killers: dict[object, str | None] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """why nothing can be said: tests that cannot be collected or fail without any mutant"""


def _run(options: argparse.Namespace, files: list[str]) -> int:
    import pytest

    from tests.mutants.live import Instrumented
    from tests.mutants.memory import Memory, default_file
    from tests.mutants.mutate import mutants_of
    from tests.mutants.survivors import SURVIVORS, faults, name_of, parse_survivors
    from tests.mutants.warm import PYTEST, Warm

    listed = parse_survivors(SURVIVORS.read_text(encoding="utf-8"))
    made = {name_of(file, mutant): mutant for file in files for mutant in mutants_of((ROOT / file).read_text(encoding="utf-8"))}
    if options.list:
        for name, mutant in made.items():
            print(f"{name.file}:{mutant.line}: {name.function}: {mutant.kind}: {name.words}")
        print(f"mutants: {len(made):,} to be made")
        return 0
    # Ended from outside, it ends what it started: its children lead groups of their own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report, start = Report(), time.monotonic()
    memory = Memory(None if options.anew else default_file())
    instrumented = Instrumented({str(ROOT / file): file for file in chosen_files(())})
    instrumented.install()
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as tell:
        hunt = Hunt(made, memory, report, tell)
        modules = [file.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for file in instrumented.files.values()]
        pytest.main([*PYTEST, *TESTS], plugins=[Warm(instrumented, modules, options.jobs, hunt.work)])
    memory.keep()
    report.seconds = time.monotonic() - start
    if len(report.killers) < len(made) and not report.broken:
        report.broken.append("the tests did not run to their end")
    survived = [name for name in made if name in report.killers and report.killers[name] is None]
    wrong = report.broken or faults(listed, made, survived, whole=not options.only)
    if options.output == "json":
        print(json.dumps(_document(made, listed, report, survived, wrong), indent=1))
    else:
        for name in survived:
            print(f"survived: {name.file}:{made[name].line}: {name.function}: {name.words}" + (" (listed)" if name in listed.reasons else ""))
        for fault in wrong:
            print(f"RED: {fault}")
        print(_last_line(made, listed, report, survived, files))
    return 1 if wrong else 0


def _last_line(made, listed, report: Report, survived, files: list[str]) -> str:
    if report.broken:
        return f"mutants: {len(made):,} made, not judged"
    unlisted = sum(name not in listed.reasons for name in survived)
    share = len(survived) / max(1, len(made))
    told = "all listed" if not unlisted else f"{unlisted} not listed"
    killed = len(made) - len(survived)
    return f"mutants: {len(made):,} made in {len(files)} files, {killed:,} killed, {len(survived)} survived ({share:.1%}), {told}"


def _document(made, listed, report: Report, survived, wrong: list[str]) -> dict[str, object]:
    return {
        "made": len(made),
        "killed": len(made) - len(survived),
        "survived": [
            {"file": one.file, "line": made[one].line, "function": one.function, "mutation": one.words, "reason": listed.reasons.get(one)}
            for one in survived
        ],
        "seconds": round(report.seconds, 1),
        "wrong": wrong,
        "ok": not wrong,
    }


class Hunt:
    """Asks the warm process about every mutant, and tells how far it is."""

    def __init__(self, made, memory, report: Report, tell) -> None:
        self._made, self._memory, self._report, self._tell = made, memory, report, tell
        self._observed = {}
        self._shares: dict[str, dict[str, float]] = {}
        self._lines: dict[str, list[int]] = {}
        self._killers: dict[tuple[str, str], dict[str, None]] = {}
        self._kept = self._told = time.monotonic()

    def work(self, warm) -> None:
        if warm.uncollected:
            self._report.broken += [f"cannot be collected: {one}" for one in warm.uncollected]
            return
        self._observe(warm)
        failing = [test for test, one in self._observed.items() if one.failed]
        if failing or self._report.broken:
            self._report.broken += [f"fails without any mutant: {test}" for test in failing]
            return
        asked = []
        for name in self._made:
            settled, killer = self._memory.outcome(name)
            if settled:
                self._report.killers[name] = killer
            else:
                asked.append(name)
        left = self._ask(warm, asked, fresh=False)
        again = [name for name in left if self._needs_fresh(warm, name) and self._tests(name, fresh=True)]
        left = [name for name in left if name not in again] + self._ask(warm, again, fresh=True)
        for name in left:
            self._settle(name, None)

    def _observe(self, warm) -> None:
        by_file: dict[str, list[str]] = {}
        for test in warm.items:
            by_file.setdefault(test.partition("::")[0], []).append(test)
        unknown = []
        for file, tests in by_file.items():
            seen = self._memory.observed(file)
            if seen is None or set(seen) != set(tests):
                unknown += tests
            else:
                self._observed |= seen
        if unknown:
            start, seen = time.monotonic(), {}
            for test, one in warm.observe(unknown):
                seen[test] = one
                self._progress("tests observed", len(seen), len(unknown), start)
            if len(seen) < len(unknown):
                self._report.broken += [f"ended its process without any mutant: {test}" for test in unknown if test not in seen]
            self._memory.observe(seen)
            self._memory.keep()
            self._observed |= seen

    def _ask(self, warm, names, *, fresh: bool) -> list:
        """The mutants among these that no test noticed."""
        start, left = time.monotonic(), []
        questions = {}

        def one_by_one() -> Iterator:
            # Late, so that what killed the mutant before is asked first about the next in its function.
            for name in names:
                question = self._question(name, fresh=fresh)
                questions[question] = name
                yield question

        for count, (question, killer) in enumerate(warm.ask(one_by_one(), lambda test: self._observed[test].seconds), 1):
            name = questions.pop(question)
            if killer is None:
                left.append(name)
                print(f"alive: {name}".ljust(80), file=self._tell, flush=True)
            else:
                self._killers.setdefault((name.file, name.function), {})[killer] = None
                self._settle(name, killer)
            self._progress("mutants asked anew from their import on" if fresh else "mutants", count, len(names), start, f"{len(left)} alive")
        return left

    def _settle(self, name, killer: str | None) -> None:
        self._report.killers[name] = killer
        self._memory.settle(name, killer)
        if time.monotonic() - self._kept > KEEP_EVERY_S:
            self._kept = time.monotonic()
            self._memory.keep()

    def _question(self, name, *, fresh: bool):
        from tests.mutants.warm import Question

        tests = self._tests(name, fresh=fresh)
        _, before = self._memory.outcome(name)
        first = [test for test in (before, *reversed(self._killers.get((name.file, name.function), {}))) if test in tests]
        order = dict.fromkeys([*first, *self._by_turns(sorted(tests, key=lambda test: self._cost(test, name.file)), name)])
        spent = accumulate((self._observed[test].seconds for test in order), initial=0.0)
        quick = tuple(test for test, before_it in zip(order, spent, strict=False) if before_it < MOST_ASKED_S)
        if fresh:
            nearest = list(dict.fromkeys(test.partition("::")[0] for test in quick))[:MOST_FRESH_FILES]
            quick = tuple(test for test in quick if test.partition("::")[0] in nearest)
        return Question(name.file, self._made[name].number, name.function, quick, fresh)

    def _tests(self, name, *, fresh: bool) -> set[str]:
        """Tests that run the statement; for what ran while they were collected, those that run anything of its file."""
        place = (name.file, self._made[name].statement)
        return {test for test, one in self._observed.items() if place in one.places or (fresh and any(file == name.file for file, _ in one.places))}

    def _by_turns(self, tests: Sequence[str], name) -> Iterator[str]:
        """Of the tests that run a statement by turns one that came into what it guards and one that did not: a check is wrong in two ways."""
        behind = (name.file, self._after(name.file, self._made[name].statement))
        inside = [test for test in tests if behind in self._observed[test].places]
        past = [test for test in tests if behind not in self._observed[test].places]
        return (test for pair in zip_longest(inside, past) for test in pair if test is not None)

    def _after(self, file: str, line: int) -> int:
        """The next statement that any test runs: of a guard, mostly what it guards; of a call, what stands behind it."""
        if not self._lines:
            found: dict[str, set[int]] = {}
            for one in self._observed.values():
                for name, number in one.places:
                    found.setdefault(name, set()).add(number)
            self._lines = {name: sorted(numbers) for name, numbers in found.items()}
        lines = self._lines.get(file, [])
        place = bisect_right(lines, line)
        return lines[place] if place < len(lines) else line

    def _cost(self, test: str, file: str) -> float:
        """Seconds, the more the less of what the test runs is this file: the quick one about it is asked before the quick one that passes by."""
        if test not in self._shares:
            files = Counter(place[0] for place in self._observed[test].places)
            self._shares[test] = {one: count / files.total() for one, count in files.items()}
        return (0.005 + self._observed[test].seconds) / self._shares[test].get(file, 0.001)

    def _needs_fresh(self, warm, name) -> bool:
        return (name.file, self._made[name].statement) in warm.at_import or not warm.is_live(name.file, name.function)

    def _progress(self, what: str, done: int, of: int, start: float, more: str = "") -> None:
        now = time.monotonic()
        if done != of and now - self._told < (0.2 if self._tell.isatty() else 10):
            return
        self._told, spent = now, now - start
        left = spent / done * (of - done)
        ending = "\n" if not self._tell.isatty() or done == of else "\r"
        words = f"{what}: {done} of {of}, about {left / 60:.0f} min left" + (f", {more}" if more else "")
        print(words.ljust(80), end=ending, file=self._tell, flush=True)


if __name__ == "__main__":
    sys.exit(main())
