"""One step of a vault's layout: what must stand at a path, and how to see that it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


class Known(Protocol):
    """What only the running vault knows."""

    def accessor(self, mount: str) -> str:
        """Accessor of an auth mount."""
        ...

    def entity(self, name: str) -> str:
        """Id of a person's entity."""
        ...


Body = Callable[[Known], Mapping[str, object]]


@dataclass(frozen=True)
class Step:
    """`body` must stand at `path`. Seen by reading `shown_at`: the members in `compared` are equal to the body's (none: that it is there)."""

    path: str
    purpose: str
    body: Body
    shown_at: str
    compared: tuple[str, ...] | None = None
    """None: all members of the body"""
    within: tuple[str, ...] = ("data",)
    """where in the answer the members stand"""
