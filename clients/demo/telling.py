"""How the demo speaks: for a person a line for each step, what happened, how long, where to look; for a program one JSON document."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StepFailed(RuntimeError):
    """A step did not show what it has to show; the message says what was expected and what was seen."""


class EnoughShown(Exception):
    """The step after which the demo was told to end has ended, and showed what it has to show."""


class Telling:
    """Collects the steps and prints them as they end. `until`: the name of the step after which it is enough."""

    def __init__(self, *, as_json: bool, until: str | None = None) -> None:
        self._json, self._until = as_json, until
        self.steps: list[dict[str, Any]] = []

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[dict[str, Any]]:
        """One step: the block fills the detail that a stranger can check. What it raises is told and ends the demo.

        Raises `EnoughShown` after the last step that is wanted.
        """
        detail: dict[str, Any] = {}
        started = time.monotonic()
        try:
            yield detail
        except BaseException:
            self.add(name, what, time.monotonic() - started, detail, ok=False)
            raise
        self.add(name, what, time.monotonic() - started, detail)
        if name == self._until:
            raise EnoughShown(name)

    def add(self, name: str, what: str, seconds: float, detail: dict[str, Any], *, ok: bool = True) -> None:
        """Record a step and, for a person, print it."""
        self.steps.append({"name": name, "ok": ok, "seconds": round(seconds, 3), "detail": detail})
        if self._json:
            return
        print(f"\n{len(self.steps):>2}. {name}  {'' if ok else 'FAILED  '}{seconds:.2f} s\n    {what}")
        for key, value in detail.items():
            print(f"    {key.replace('_', ' ')}: {_shown(value)}")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """A line for a person."""
        if not self._json:
            print(text, flush=True)

    def end(self, *, ok: bool, extra: dict[str, Any]) -> None:
        """The document of `-o json`."""
        if self._json:
            print(json.dumps({"steps": self.steps, "ok": ok, **extra}, indent=1, sort_keys=True))

    def seconds_of(self, *names: str) -> float:
        """How long these steps took together."""
        return sum(float(step["seconds"]) for step in self.steps if step["name"] in names)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)
