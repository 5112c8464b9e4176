"""The door between a decision and a deed.

A `LoggedAllow` exists only because an Allow was decided under the lock, signed, and made durable in the log. `deploy.decide` alone makes one
(`model.logged`, guarded by import-linter); `deploy.execute` accepts nothing else, so no honest code path takes a credential without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias, final

from .decision import Mode
from .digest import Digest
from .moment import Moment

ActingMode: TypeAlias = Literal[Mode.WARN, Mode.ENFORCE]
"""A decision of mode shadow is never acted upon: there are no terms for one."""


@dataclass(frozen=True)
class AllowTerms:
    """What exactly was allowed."""

    ping_id: str
    environment: str
    component: str
    target: str
    artifact: Digest
    config: str
    receipt_id: Digest
    receipt: bytes
    index: int
    not_after: Moment
    fence: int
    mode: ActingMode
    kept_at_target: bool
    """what comes back was adopted: its bytes lie at the target and nowhere else"""


@final
class LoggedAllow:
    """An Allow with its durable log index. `terms` is all that anybody may act on."""

    __slots__ = ("terms",)

    terms: AllowTerms

    def __init__(self) -> None:
        raise TypeError("only deploy.decide makes logged Allows")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a logged Allow does not change")

    def __repr__(self) -> str:
        return f"LoggedAllow({self.terms.receipt_id}, index {self.terms.index})"
