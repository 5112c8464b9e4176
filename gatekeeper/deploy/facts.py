"""What was verified once and need not be verified again: answers kept under everything that they depend on.

Verifying is a pure function of the exact bytes, of what they must be about, of the time at which they were received, and of whom the policy
trusts; all of that is the key (`Question`). So a refusal is kept like a belief: it would be found again, and whoever is refused shall not make
the gatekeeper compute for it at each decision. Not kept is what was never an answer: an exception, or the work of a gather that was given up
before it was done.

Nothing is found here but by somebody who holds the bytes: a Viewer's rows are read first, with the database's filter, and only what it gave is
looked up. The bytes are hashed each time; a row that an administrator changed is another question.

In this process alone, bounded in number and bytes, least recently used first out. Emptied whenever the policy revokes something.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, TypeVar

import trio

from gatekeeper.model.digest import Digest
from gatekeeper.model.moment import Moment
from gatekeeper.model.verified import Checked

T = TypeVar("T")
R = TypeVar("R")

MOST: Final = 8192
VERIFYING: Final = 1
"""Threads that verify at once for decisions, and as many for callers. They share one interpreter lock: more would make the event loop wait longer,
and no answer come sooner."""
MOST_BYTES: Final = 32 * 1024 * 1024
"""of the bundles whose facts are kept; the facts themselves take up to three times as much"""


@dataclass(frozen=True)
class Trust:
    """Whom the policy trusts, as far as a statement's signature is concerned."""

    root: Digest
    """`Policy.trusted_root`"""
    signers: Digest
    """what the policy says of the signers in question"""
    epoch: Digest
    """`Revocations.epoch`"""


@dataclass(frozen=True)
class Question:
    """Everything that an answer depends on. `bundle` is of the bytes in hand, hashed by whoever asks."""

    bundle: Digest
    kind: str
    """of statement, which is the function that answers"""
    about: tuple[str, ...]
    """the artifact and the stage, or the voter"""
    received_at: Moment
    trust: Trust


class Facts:
    """The answers of one process. Its methods may be called from any thread."""

    def __init__(self, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._lock = Lock()
        self._kept: OrderedDict[Question, tuple[Checked[Any], int]] = OrderedDict()
        self._bytes = 0
        self._epoch: Digest | None = None
        self._deciding, self._asked = trio.CapacityLimiter(VERIFYING), trio.CapacityLimiter(VERIFYING)

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._kept)

    async def in_thread(self, function: Callable[[], R], *, deciding: bool = False) -> R:
        """Verify off the event loop. A call that is cancelled is left to end by itself, and may keep whole answers.

        A decision waits for other decisions alone, never for what callers bring or ask, however much that is.
        """
        return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=self._deciding if deciding else self._asked)

    def ask(self, question: Question, answer: Callable[[], Checked[T]], *, size: int) -> Checked[T]:
        """The kept answer, or `answer()`, which is kept once it is complete; what it raises is raised and not kept. `size` is the bundle's."""
        with self._lock:
            self._enter(question.trust.epoch)
            found = self._kept.get(question)
            if found is not None:
                self._kept.move_to_end(question)
                return found[0]
        checked = answer()
        with self._lock:
            # What was revoked meanwhile leaves no answer of the time before.
            if self._epoch == question.trust.epoch:
                self._keep(question, checked, size)
        return checked

    def _enter(self, epoch: Digest) -> None:
        if epoch != self._epoch:
            self._kept.clear()
            self._bytes = 0
            self._epoch = epoch

    def _keep(self, question: Question, checked: Checked[Any], size: int) -> None:
        if question in self._kept or size > self._most_bytes:
            return
        self._kept[question] = (checked, size)
        self._bytes += size
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped
