"""Counts public-key operations of the `cryptography` package, whoever calls them: its methods are compiled, so the interpreter is asked."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

OPERATIONS = frozenset({"verify", "verify_directly_issued_by", "recover_data_from_signature", "sign", "decrypt", "encrypt", "exchange"})


class Counted:
    """`operations` by type and method. `within(function)` counts for one call, in the thread that makes it."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(self.operations.values())

    @contextmanager
    def here(self) -> Iterator[Counted]:
        before = sys.getprofile()
        sys.setprofile(self._see)
        try:
            yield self
        finally:
            sys.setprofile(before)

    def within(self, function: Callable[[], Any]) -> Any:
        with self.here():
            return function()

    def _see(self, _frame: object, event: str, called: object) -> None:
        if event != "c_call":
            return
        owner, name = type(getattr(called, "__self__", None)), getattr(called, "__name__", "")
        if name in OPERATIONS and owner.__module__.startswith("cryptography."):
            self.operations[f"{owner.__name__}.{name}"] += 1
