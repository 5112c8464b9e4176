"""Makes `Verified` values. Importable by `gatekeeper.verify` alone (import-linter); everybody else receives them."""

from __future__ import annotations

from typing import TypeVar

from .digest import Digest
from .verified import Verified

T = TypeVar("T")


def seal(value: T, digest: Digest) -> Verified[T]:
    """Wrap a value whose bytes, named by `digest`, have passed every check."""
    sealed: Verified[T] = Verified.__new__(Verified)
    object.__setattr__(sealed, "value", value)
    object.__setattr__(sealed, "digest", digest)
    return sealed
