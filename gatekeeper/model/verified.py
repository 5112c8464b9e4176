"""The door between bytes and belief.

A `Verified` value exists only because code in `gatekeeper.verify` checked the signature, the identity, the payload type, the predicate type
and the subject of the bytes it came from. Nobody else can make one: the constructor refuses, and `model.seal`, which does make them, may be
imported by `gatekeeper.verify` alone (a contract of import-linter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NoReturn, TypeAlias, TypeVar, final

from .digest import Digest

T_co = TypeVar("T_co", covariant=True)


@final
class Verified(Generic[T_co]):
    """`value` was verified; `digest` names the exact bytes it was verified from."""

    __slots__ = ("digest", "value")

    value: T_co
    digest: Digest

    def __init__(self) -> None:
        raise TypeError("only gatekeeper.verify makes verified values")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("verified values do not change")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verified) and (self.digest, self.value) == (other.digest, other.value)

    def __hash__(self) -> int:
        return hash((self.digest, self.value))

    def __repr__(self) -> str:
        return f"Verified({self.value!r}, {self.digest})"


@dataclass(frozen=True)
class Refusal:
    """Bytes that were looked at and are not believed: a value, because a refused rule is no bug. `reason` is a code of `model.reason`."""

    reason: str
    detail: str


Checked: TypeAlias = Verified[T_co] | Refusal
