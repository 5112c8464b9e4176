"""What a token cannot say of its run, asked of the platform: the commit of a Zuul build, and whether a Kubernetes token's pod lives.

Asked only for a token that is genuine and admitted, so nobody without one makes us call anybody. An answer holds for `HELD_S`: so long a deleted
pod's token, or one of a build that is over, is still taken. A platform that cannot be asked says neither yes nor no: ``identity-unavailable``.
A question is under way once at any time, and whoever has the same one waits for its answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from gatekeeper.model.caller import RunCaller
from gatekeeper.model.fields import FieldError
from gatekeeper.model.issuer import Platform
from gatekeeper.model.strictjson import MalformedJson
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.keys import KeyFetch
from gatekeeper.ports.tokenreview import TokenReview
from gatekeeper.verify.platform import NotAdmitted
from gatekeeper.verify.token import Unauthenticated
from gatekeeper.verify.zuulbuild import build_url, read_build

HELD_S: Final = 10.0
RETRY_S: Final = 2.0
"""Seconds before a platform that could not be asked is asked again about the same token."""
ASK_S: Final = 6.0
"""The longest that anybody waits for an answer, whatever the adapter does."""
AT_ONCE: Final = 16
"""questions under way"""
MOST: Final = 1024
"""answers kept"""
_CAUSE: Final = "identity-unavailable"


@dataclass(frozen=True)
class Question:
    """A verified token and who it says calls. `token` is shown to its own platform and nobody else."""

    caller: RunCaller
    platform: Platform
    audience: str
    token: str = field(repr=False)


@dataclass
class _Row:
    caller: RunCaller | None = None
    refusal: Callable[[], Exception] | None = None
    away: bool = False
    """the platform could not be asked"""
    asked_at: float = 0.0
    asking: trio.Event | None = field(default=None, repr=False)


def is_asked_about(platform: Platform) -> bool:
    """Whether the policy wants the platform asked about each of its tokens."""
    return bool(platform.builds_url) or platform.token_review


class LiveRuns:
    """The questions and their young answers. `clock` is in seconds and never goes back (a monotonic one)."""

    def __init__(self, fetch: KeyFetch, clusters: TokenReview, *, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clusters = clusters
        self._clock = clock
        self._rows: dict[tuple[object, ...], _Row] = {}
        self._limit = trio.CapacityLimiter(AT_ONCE)

    async def ready(self, question: Question) -> None:
        """Ask if there is no young answer; returns when `held` can say something. Raises nothing."""
        row = self._row(question)
        while row.asking is not None:
            await row.asking.wait()
        if self._is_young(row):
            return
        row.asking = trio.Event()
        try:
            # Shielded: whoever hangs up would else decide for the others who wait.
            with trio.CancelScope(shield=True):
                await self._ask(question, row)
        finally:
            row.asking.set()
            row.asking = None

    def held(self, question: Question) -> RunCaller:
        """The caller as the platform knows it; raises `NotAdmitted`, `Unauthenticated`, `Unavailable`."""
        row = self._row(question)
        if row.refusal is not None:
            raise row.refusal()
        # `ready` found it young; what a request does between the two may take a moment.
        if row.caller is None or self._clock() - row.asked_at >= HELD_S + ASK_S:
            raise Unavailable(_CAUSE, "the platform was not asked yet")
        return row.caller

    def _row(self, question: Question) -> _Row:
        # With the caller in it: another policy reads another caller from the same token, and has its question asked anew.
        platform, token = question.platform, hashlib.sha256(question.token.encode()).digest()
        key = (question.caller, question.audience, platform.builds_url, platform.token_review, platform.unbound, token)
        if key not in self._rows:
            if len(self._rows) >= MOST:
                del self._rows[next(iter(self._rows))]
            self._rows[key] = _Row()
        return self._rows[key]

    def _is_young(self, row: _Row) -> bool:
        if row.caller is None and row.refusal is None:
            return False
        return self._clock() - row.asked_at < (RETRY_S if row.away else HELD_S)

    async def _ask(self, question: Question, row: _Row) -> None:
        caller: RunCaller | None = None
        refusal: Callable[[], Exception] | None = None
        away = False
        try:
            with trio.fail_after(ASK_S):
                async with self._limit:
                    caller = await self._answer(question)
        except (NotAdmitted, Unauthenticated) as error:
            refusal = partial(type(error), error.detail)
        except (trio.TooSlowError, PortError, MalformedJson, FieldError) as error:
            refusal, away = partial(Unavailable, _CAUSE, f"the platform cannot be asked about the token's run: {_trouble(error)}"), True
        # All at once: until then the answer before this one stands, for whoever was told that it is young.
        row.caller, row.refusal, row.away, row.asked_at = caller, refusal, away, self._clock()

    async def _answer(self, question: Question) -> RunCaller:
        caller, platform = question.caller, question.platform
        if platform.builds_url:
            return read_build(await self._fetch.fetch(build_url(caller, platform)), caller, platform)
        workload = await self._clusters.review(caller.issuer, question.token, question.audience)
        if workload is None:
            raise Unauthenticated("the cluster takes the token for nobody: its pod is gone, or it was never the cluster's")
        account_uid = caller.recipe.rpartition("/")[2]
        if (workload.username, workload.account_uid, workload.pod_uid) != (caller.subject, account_uid, caller.run):
            raise Unauthenticated("the cluster takes the token for another account or pod than it names")
        return caller


def _trouble(error: Exception) -> str:
    match error:
        case PortError():
            return error.detail
        case trio.TooSlowError():
            return "no answer in time"
        case _:
            return "its answer cannot be read"
