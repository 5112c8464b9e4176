"""Where a benchmark says what it is called, and what it gives back.

    @bench("http.hello.rate")
    def hello() -> list[Figure]: ...

One function may give several figures of one run (rate, p50, p99); it names them all, so that BENCH=prefix can choose before anything runs.
A figure stands beside the bare cost of the same run: a number alone says more about the machine than about us.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final


class Measured(Enum):
    """Which number of a figure its bar is about."""

    VALUE = "value"
    RATIO = "ratio"


@dataclass(frozen=True)
class Bar:
    """What a figure must reach. Exactly one of `at_least` and `at_most` is set."""

    measured: Measured
    at_least: float | None = None
    at_most: float | None = None
    otherwise: Bar | None = None
    """another bar that will do as well"""

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a bar has one bound")

    def holds(self, figure: Figure) -> bool:
        """Whether the figure reaches the bar, or the other one; a ratio that could not be formed reaches none."""
        return self._reached(figure) or (self.otherwise is not None and self.otherwise.holds(figure))

    def _reached(self, figure: Figure) -> bool:
        number = figure.value if self.measured is Measured.VALUE else figure.ratio
        if number is None:
            return False
        return number >= self.at_least if self.at_least is not None else self.at_most is not None and number <= self.at_most

    def __str__(self) -> str:
        sign, bound = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return f"{self.measured.value} {sign} {bound:g}" + (f" or {self.otherwise}" if self.otherwise else "")


@dataclass(frozen=True)
class Figure:
    """One measured number in `unit`, the bare cost (`baseline`, same unit, same run), and what it must reach, if anything."""

    bench: str
    value: float
    unit: str
    baseline: float | None = None
    bar: Bar | None = None

    @property
    def ratio(self) -> float | None:
        """Value over baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def ok(self) -> bool:
        """A figure without a bar is printed, not judged."""
        return self.bar is None or self.bar.holds(self)


@dataclass(frozen=True)
class Bench:
    """A registered function and the figures it promises."""

    names: tuple[str, ...]
    measure: Callable[[], list[Figure]]


_registered: Final[list[Bench]] = []


def bench(*names: str) -> Callable[[Callable[[], list[Figure]]], Callable[[], list[Figure]]]:
    """Register a function that measures the figures of these names. A name twice is a bug."""

    def register(measure: Callable[[], list[Figure]]) -> Callable[[], list[Figure]]:
        taken = {name for known in _registered for name in known.names}
        if not names or taken & set(names):
            raise ValueError(f"bench names are missing or taken: {names}")
        _registered.append(Bench(names, measure))
        return measure

    return register


def load_benches() -> list[Bench]:
    """Every bench of `tests/bench/bench_*.py`, in the order of their files."""
    for file in sorted(Path(__file__).parent.glob("bench_*.py")):
        importlib.import_module(f"tests.bench.{file.stem}")
    return list(_registered)


def known_benches() -> set[str]:
    """The names of all figures that `make bench` can print."""
    return {name for one in load_benches() for name in one.names}
