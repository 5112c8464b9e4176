"""What is known about one thing a decision asks for: it is there, it is not there, or nobody can tell.

Absent and unreadable are different on purpose. Absent is a fact, and usually a denial; unreadable is a failed authority, and gives
Indeterminate, which waits and never turns into Allow by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from .digest import Digest

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Present(Generic[T_co]):
    """Read whole from its authority. `digests` name the bytes it came from, for the receipt's evidence list."""

    value: T_co
    digests: tuple[Digest, ...] = ()


@dataclass(frozen=True)
class Absent:
    """Its authority answered, and there is no such thing."""


@dataclass(frozen=True)
class Unreadable:
    """Its authority could not be asked, or answered in part. `cause` is an Indeterminate reason code."""

    cause: str
    detail: str = ""


Evidence: TypeAlias = Present[T_co] | Absent | Unreadable
