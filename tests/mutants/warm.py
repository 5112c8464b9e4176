"""A process that has imported and collected everything once, and forks a child for every question: which tests run what, and who kills a mutant.

As a pytest plugin, in the place of its loop over the tests. A child gives live functions the mutant's code, runs the tests it is told to, in order,
and writes to its pipe which one failed. Its test may compute a minute and wait for some minutes at most as long as it did without a mutant, times
`PATIENCE`, then the kernel ends it; so does a mutant that takes all memory.
"""

from __future__ import annotations

import gc
import os
import pickle
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.mutants.live import Instrumented, Key, Place, live_caches, live_functions, replace_functions
from tests.mutants.programs import Programs

PATIENCE = 8
LEAST_S = 15
MOST_MEMORY = 3 * 1024**3
FRESH_S = 600
ROOT = Path(__file__).resolve().parents[2]
PYTEST = (
    "-o", "addopts=", "-o", "timeout=0", "--import-mode=importlib", "-m", "not peer", "-p", "no:cacheprovider", "-p", "no:terminal", "--capture=no",
)  # fmt: skip

T = TypeVar("T")
Work = Callable[[Callable[[object], None]], None]
"""What a child does, given what it writes values with."""
_ENDED = object()


@dataclass(frozen=True)
class _Bug:
    """What a child raised: a bug of ours, not a verdict of a test."""

    text: str


@dataclass
class Observed:
    """What a test does without any mutant; `seconds` are of the processor, so that a busy machine asks the same tests."""

    seconds: float = 0.0
    failed: bool = False
    places: set[Place] = field(default_factory=set)


@dataclass(frozen=True)
class Question:
    """Which of these tests, in this order, notices this mutant? `fresh`: in a process that imports the mutant itself."""

    file: str
    number: int
    function: str
    tests: tuple[str, ...]
    fresh: bool = False


class Warm:
    """The plugin. `work` is called with it when all tests are collected."""

    def __init__(self, instrumented: Instrumented, modules: Iterable[str], jobs: int, work: Callable[[Warm], None]) -> None:
        self.instrumented, self.jobs = instrumented, jobs
        self._modules, self._work = tuple(modules), work
        self._scratch = Path(tempfile.mkdtemp(prefix="pingee-mutants-"))
        self._failed = False
        self._shared: dict[object, set[Place]] = {}
        self._live: dict[Key, list] = {}
        self._caches: list[Any] = []
        self._programs = Programs(instrumented.ran, self._forget)
        self.items: dict[str, pytest.Item] = {}
        self.uncollected: list[str] = []
        self.at_import: set[Place] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        stable_examples()
        for module in self._modules:
            __import__(module)
        self._programs.install()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.uncollected.append(f"{report.nodeid}: {report.longreprtext}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.at_import = set(self.instrumented.ran)
        self._live, self._caches = live_functions(self.instrumented.files), live_caches()
        gc.freeze()  # so that children do not copy what they only look at
        try:
            self._work(self)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed = self._failed or report.failed

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef) -> Iterator[None]:
        """What a fixture of many tests runs is run by each of them, though only the first is seen to."""
        if fixturedef.scope == "function":
            return (yield)
        ran = self.instrumented.ran
        before = set(ran)
        ran.clear()
        try:
            return (yield)
        finally:
            self._shared[fixturedef] = set(ran)
            ran |= before

    # -- without a mutant

    def observe(self, tests: Sequence[str]) -> Iterator[tuple[str, Observed]]:
        """Run these tests as they are, file by file, so that what a file prepares once is prepared once."""
        files: dict[str, list[str]] = {}
        for test in tests:
            files.setdefault(test.partition("::")[0], []).append(test)
        jobs = ((file, lambda write, share=share: self._observe(share, write)) for file, share in files.items())
        for file, value in self._in_children(jobs):
            if isinstance(value, _Bug):
                raise RuntimeError(f"{file}: {value.text}")
            if isinstance(value, tuple):
                yield value

    def _observe(self, tests: Sequence[str], write: Callable[[object], None]) -> None:
        ran = self.instrumented.ran
        for item, after in _pairs([self.items[test] for test in tests]):
            self._forget()
            ran.clear()
            start = _processor_seconds()
            failed = self._run(item, after)
            self._programs.collect()
            definitions = [one[-1] for one in item._fixtureinfo.name2fixturedefs.values()]  # type: ignore[attr-defined]
            places = set(ran).union(*(self._shared.get(one, ()) for one in definitions))
            write((item.nodeid, Observed(_processor_seconds() - start, failed, places)))

    # -- with one

    def ask(self, questions: Iterable[Question], seconds: Callable[[str], float]) -> Iterator[tuple[Question, str | None]]:
        """Which test noticed each, None where none did; as they end, in any order. Questions are taken from the iterator one by one."""
        last: dict[Question, object] = {}
        jobs = ((question, lambda write, question=question: self._answer(question, seconds, write)) for question in questions)
        for question, value in self._in_children(jobs):
            if isinstance(value, _Bug):
                raise RuntimeError(f"{question.file}, mutant {question.number}: {value.text}")
            if value is not _ENDED:
                last[question] = value
            elif question not in last:
                raise RuntimeError(f"{question.file}, mutant {question.number}: its child ended before it ran a test")
            else:
                killer = last.pop(question)
                yield question, None if killer is None else str(killer)

    def _in_children(self, jobs: Iterable[tuple[T, Work]]) -> Iterator[tuple[T, object]]:
        """Each job in a fork of its own, `jobs` of them at a time: what it writes, and `_ENDED` when it has ended, however it did."""
        waiting = iter(jobs)
        with selectors.DefaultSelector() as selector:
            try:
                while True:
                    while len(selector.get_map()) < self.jobs and (job := next(waiting, None)) is not None:
                        child = _Child(job[1], self._scratch)
                        selector.register(child.pipe, selectors.EVENT_READ, (job[0], child))
                    if not selector.get_map():
                        return
                    for key, _ in selector.select():
                        name, child = key.data
                        value = child.read()
                        if value is _ENDED:
                            selector.unregister(key.fileobj)
                            child.end()
                        yield name, value
            finally:
                for key in list(selector.get_map().values()):
                    key.data[1].end()

    def is_live(self, file: str, function: str) -> bool:
        """Whether some function that is alive can be given a mutant's code; else only a fresh process meets it."""
        path = str(ROOT / file)
        return any(key[0] == path and key[1].replace(".<locals>", "").startswith(function.split(".")[0]) for key in self._live)

    def _answer(self, question: Question, seconds: Callable[[str], float], write: Callable[[object], None]) -> None:
        (self._fresh if question.fresh else self._kill)(question, seconds, write)

    def _kill(self, question: Question, seconds: Callable[[str], float], write: Callable[[object], None]) -> None:
        path = str(ROOT / question.file)
        replace_functions(self._live, path, question.number, question.function)
        self._forget()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
        for item, after in _pairs([self.items[test] for test in question.tests]):
            write(item.nodeid)
            patience = LEAST_S + PATIENCE * seconds(item.nodeid)
            signal.setitimer(signal.ITIMER_PROF, patience)
            signal.setitimer(signal.ITIMER_REAL, 4 * patience)
            if self._run(item, after):
                signal.setitimer(signal.ITIMER_REAL, LEAST_S)
                item.session._setupstate.teardown_exact(None)
                os._exit(1)
        write(None)

    def _fresh(self, question: Question, _seconds: Callable[[str], float], write: Callable[[object], None]) -> None:
        write("a test of " + ", ".join(sorted({test.partition("::")[0] for test in question.tests})[:3]))
        command = [sys.executable, "-m", "tests.mutants.fresh", question.file, str(question.number)]
        done = subprocess.run(command, input="\n".join(question.tests).encode(), cwd=ROOT, check=False, timeout=FRESH_S)
        if done.returncode == 0:
            write(None)

    def _forget(self) -> None:
        for cache in self._caches:
            cache.cache_clear()

    def _run(self, item: pytest.Item, after: pytest.Item | None) -> bool:
        self._failed = False
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        return self._failed


def _processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return time.process_time() + sum(os.times()[2:4])


def stable_examples() -> None:
    """The same examples in every run, none stored, and no smaller one looked for: that some test fails is enough."""
    from hypothesis import Phase, settings  # not before pytest, which rewrites its plugins as it loads them

    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", settings.get_profile("house"), derandomize=True, database=None, phases=phases, print_blob=False)
    settings.load_profile("mutants")


class _Child:
    """A fork with a pipe that values come through."""

    def __init__(self, work: Work, scratch: Path) -> None:
        self.scratch = Path(tempfile.mkdtemp(dir=scratch))
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            self._live(work, writing)
        os.close(writing)
        self.pipe = os.fdopen(reading, "rb")

    def _live(self, work: Work, writing: int) -> None:
        status = 70
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            devnull = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(devnull, descriptor)
            os.environ["TMPDIR"] = tempfile.tempdir = str(self.scratch)
            with os.fdopen(writing, "wb", buffering=0) as pipe:
                try:
                    work(lambda value: pickle.dump(value, pipe))
                except Exception:  # noqa: BLE001 -- told to the parent, which stops
                    pickle.dump(_Bug(traceback.format_exc()), pipe)
            status = 0
        finally:
            os._exit(status)

    def read(self) -> object:
        """The next value, `_ENDED` where no other will come."""
        try:
            return pickle.load(self.pipe)
        except (EOFError, pickle.UnpicklingError):
            return _ENDED

    def end(self) -> None:
        from tests.fakes.doorkeepers import processes_below  # not before its modules are loaded with probes

        self.pipe.close()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        for left in processes_below(self.scratch):  # a workload leads a group of its own, and a mutant may have lost it
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        shutil.rmtree(self.scratch, ignore_errors=True)


def _pairs(items: Sequence[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    return zip_longest(items, items[1:])
