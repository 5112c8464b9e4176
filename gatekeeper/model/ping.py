"""The states of a ping and the moves between them (design, section 4)."""

from __future__ import annotations

from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final


@unique
class State(StrEnum):
    """Where a ping stands."""

    RECEIVED = "received"
    PENDING = "pending"
    DENIED = "denied"
    INDETERMINATE = "indeterminate"
    ALLOWED = "allowed"
    """the Allow is logged and the lock held"""
    LEASED = "leased"
    APPLYING = "applying"
    OBSERVING = "observing"
    DEPLOYED = "deployed"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    UNRESPONSIVE = "unresponsive"
    SUPERSEDED = "superseded"
    SHADOW_ALLOWED = "shadow-allowed"
    """mode shadow: the Allow is logged, and that was all; no lock was held and nothing leased"""
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the ping."""
        return self in ENDED

    @property
    def holds_lock(self) -> bool:
        """Whether a ping in this state holds the lock of its environment and component."""
        return self in HOLDING


ENDED: Final = frozenset(
    {
        State.DENIED,
        State.DEPLOYED,
        State.ROLLED_BACK,
        State.FAILED,
        State.UNRESPONSIVE,
        State.SUPERSEDED,
        State.CANCELLED,
        State.SHADOW_ALLOWED,
    }
)
HOLDING: Final = frozenset({State.ALLOWED, State.LEASED, State.APPLYING, State.OBSERVING})
WAITING: Final = frozenset({State.RECEIVED, State.PENDING, State.INDETERMINATE})

_S = State
MOVES: Final = MappingProxyType(
    {
        _S.RECEIVED: frozenset({_S.PENDING, _S.DENIED, _S.INDETERMINATE, _S.ALLOWED, _S.SUPERSEDED, _S.CANCELLED, _S.SHADOW_ALLOWED}),
        _S.PENDING: frozenset({_S.DENIED, _S.INDETERMINATE, _S.ALLOWED, _S.SUPERSEDED, _S.CANCELLED, _S.SHADOW_ALLOWED}),
        _S.INDETERMINATE: frozenset({_S.PENDING, _S.DENIED, _S.ALLOWED, _S.SUPERSEDED, _S.CANCELLED, _S.SHADOW_ALLOWED}),
        # back to pending: `allow-expired`, decided anew
        _S.ALLOWED: frozenset({_S.LEASED, _S.PENDING, _S.FAILED, _S.CANCELLED}),
        _S.LEASED: frozenset({_S.APPLYING, _S.PENDING, _S.FAILED}),
        _S.APPLYING: frozenset({_S.OBSERVING, _S.DEPLOYED, _S.ROLLED_BACK, _S.FAILED, _S.UNRESPONSIVE, _S.PENDING}),
        _S.OBSERVING: frozenset({_S.DEPLOYED, _S.ROLLED_BACK, _S.FAILED, _S.UNRESPONSIVE}),
    }
)
"""Every move that is allowed; states that ended have none."""

STEP_CODES: Final = MappingProxyType(
    {
        _S.RECEIVED: 100,
        _S.PENDING: 100,
        _S.INDETERMINATE: 100,
        _S.ALLOWED: 500,
        _S.LEASED: 500,
        _S.APPLYING: 500,
        _S.OBSERVING: 500,
        _S.DEPLOYED: 1000,
        _S.SHADOW_ALLOWED: 1000,
        _S.DENIED: 999,
        _S.ROLLED_BACK: 999,
        _S.FAILED: 999,
        _S.UNRESPONSIVE: 999,
        _S.SUPERSEDED: 999,
        _S.CANCELLED: 999,
    }
)
"""The Ubuntu CI Engine's step code of each state."""


def may_move(old: State, new: State) -> bool:
    """Whether a ping may go from one state to the other. Staying is allowed until the end: other members change on the way."""
    return new in MOVES.get(old, frozenset()) or (old is new and not old.ended)
