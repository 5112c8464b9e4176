"""The worker: takes pings that are due, brings each as far as it goes now, and lets go. Every replica runs one.

What wakes it: a new ping, vote or statement (NOTIFY), a lock that was released, a ping's own timer, and a sweep every few seconds in case a
notification was lost. A ping that fails with a bug is left for the next sweep; nothing a ping does stops the others.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Final

import trio

from gatekeeper.model.decision import Decision, Mode, Verdict
from gatekeeper.model.ping import WAITING, State
from gatekeeper.model.reason import REASONS, Effect
from gatekeeper.policy.decide import ends_ping
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.pings import Held, Ping, StalePing

from .candidate import PolicyGap, own_viewer
from .crossed import settle_crossed
from .decide import (
    BrokenAllow,
    Judged,
    draft_decision,
    judge,
    judge_stranded,
    log_decision,
    recall_allow,
    settle,
    state_event,
    with_lock_taken,
)
from .execute import carry_out
from .explain import row_json
from .lock import let_go, take_lock
from .parts import Parts

_log = logging.getLogger(__name__)

SWEEP_S: Final = 5.0
RETRY_S: Final = 1.0
"""after which evidence that could not be read is asked for again"""
AT_ONCE: Final = 16
ENTRY_EVERY: Final = timedelta(minutes=1)
"""a decision that does not end its ping writes at most one entry in this time (log format, 2.1)"""


async def run_worker(parts: Parts, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Work until cancelled."""
    owed: set[str] = set()
    working: set[str] = set()
    async with parts.pings.changes() as changes, trio.open_nursery() as nursery:
        task_status.started()
        while True:
            try:
                for ping_id in tuple(owed):
                    await parts.pings.unclaim(ping_id)
                    owed.discard(ping_id)
                # What is claimed here no other replica works on: no more than can be begun at once.
                free = AT_ONCE - len(nursery.child_tasks)
                due = await parts.pings.claim_due(parts.clock(), free) if free > 0 else ()
            except PortError as error:
                _log.warning("cannot look for due pings: %s", error)
                due = ()
            for ping in due:
                # Claimed again while we are still at it: the session that held the first claim was lost. Two workers on one ping would
                # each spoil the other's moves; the claim is given back by the one who works.
                if ping.id not in working:
                    working.add(ping.id)
                    nursery.start_soon(_work, parts, ping, owed, working)
            await changes.wait(SWEEP_S)


async def _work(parts: Parts, ping: Ping, owed: set[str], working: set[str]) -> None:
    try:
        await step(parts, ping)
    except StalePing:
        _log.info("ping %s moved on elsewhere", ping.id)
    except PortError as error:
        _log.warning("ping %s waits: %s", ping.id, error)
        await _again_later(parts, ping, error)
    except BrokenAllow:
        _log.exception("ALARM: ping %s cannot go on, its row is not what this gatekeeper wrote", ping.id)
        await _again_later(parts, ping)
    except Exception:  # noqa: BLE001
        # One ping's bug must not stop every other deploy; it is tried again at the next sweep and stays visible in the log.
        _log.exception("ping %s failed with a bug of ours", ping.id)
        await _again_later(parts, ping)
    finally:
        # Before the claim is given back: from that moment on the ping may be claimed anew, and must then be worked on.
        working.discard(ping.id)
        await _unclaim(parts, ping, owed)


async def _unclaim(parts: Parts, ping: Ping, owed: set[str]) -> None:
    # A claim that is not given back lives as long as this replica's session, and nobody would work on the ping: it is owed, never forgotten.
    owed.add(ping.id)
    with trio.CancelScope(shield=True), trio.move_on_after(5):
        try:
            await parts.pings.unclaim(ping.id)
            owed.discard(ping.id)
        except PortError as error:
            _log.warning("ping %s stays claimed for now: %s", ping.id, error)


async def _again_later(parts: Parts, ping: Ping, error: PortError | None = None) -> None:
    """Due again at the next sweep and not before: an authority that is away is not hammered. A ping that waits shows which one."""
    await _tell(parts, ping, error)
    # Its `next_at` is not enough: letting go of the lock it had taken woke whoever waits for the place, itself among them.
    await trio.sleep(SWEEP_S)


async def _tell(parts: Parts, ping: Ping, error: PortError | None) -> None:
    try:
        found = await parts.pings.get(ping.id, own_viewer(ping))
        if found is None or found.state.ended:
            return
        again = replace(found, next_at=parts.clock() + timedelta(seconds=SWEEP_S))
        if error is None or found.state not in WAITING or found.draft is not None:
            await parts.pings.move(found, again)
            return
        told = REASONS.get(error.cause_code)
        cause = error.cause_code if told is not None and Effect.IND in told.effects else "environment-unavailable"
        again = replace(again, state=State.INDETERMINATE, verdict=Verdict.INDETERMINATE, reasons=(cause,))
        await parts.pings.move(found, again, [] if (found.state, found.reasons) == (again.state, again.reasons) else [state_event(again)])
    except PortError as second:
        _log.warning("ping %s: %s", ping.id, second)


async def step(parts: Parts, ping: Ping) -> Ping:
    """Bring one ping as far as it goes now. Raises `PortError` where an authority is away: the ping keeps its state and is tried again."""
    crossed = await settle_crossed(parts, ping)
    if crossed is not None:
        return crossed
    if ping.state.holds_lock:
        return await _act(parts, ping)
    if ping.draft is not None:
        ping = await log_decision(parts, ping)
        return await _act(parts, ping) if ping.state is State.ALLOWED else ping
    if ping.state not in WAITING:
        return ping
    try:
        if parts.clock() >= ping.new.deadline:
            return await _expire(parts, ping)
        return await _evaluate(parts, ping)
    except PolicyGap as gap:
        await let_go(parts, ping)
        return await _record(parts, ping, judge_stranded(parts, ping, gap))


async def _evaluate(parts: Parts, ping: Ping) -> Ping:
    place = (ping.new.environment, ping.new.component)
    forecast = await judge(parts, ping)
    if not _acts(forecast):
        await let_go(parts, ping)
        return await _record(parts, ping, forecast)
    lock = await take_lock(parts, ping)
    if isinstance(lock, Held):
        return await _record(parts, ping, with_lock_taken(forecast, lock, own_viewer(ping)))
    # What ran before the lock was only a forecast: gather and decide again, on evidence read while nobody else can deploy here.
    drafted: Ping | None = None
    try:
        judged = await judge(parts, ping)
        if _acts(judged):
            drafted = await draft_decision(parts, ping, judged, fence=lock)
    finally:
        if drafted is None:
            with trio.CancelScope(shield=True), trio.move_on_after(5):
                await parts.locks.release(*place, lock)
    if drafted is None:
        # Only now: a draft that carries no fence, or a ping that ended, must never hold the lock, for nobody would let go of it.
        await let_go(parts, ping)
        return await _record(parts, ping, judged)
    return await _act(parts, await log_decision(parts, drafted))


def _acts(judged: Judged) -> bool:
    """Whether a deed may follow: what is allowed in mode shadow is logged like a refusal, without lock, lease or frame."""
    return judged.decision.verdict is Verdict.ALLOW and judged.case.candidate.mode is not Mode.SHADOW


async def _act(parts: Parts, ping: Ping) -> Ping:
    ended = await carry_out(parts, await recall_allow(parts, ping), ping)
    await parts.pings.wake(environment=ping.new.environment, component=ping.new.component)
    return ended


async def _record(parts: Parts, ping: Ping, judged: Judged) -> Ping:
    """What no deed follows: into the log when it ends the ping, or when its reasons changed and the last entry is a minute old."""
    decision = judged.decision
    again = parts.clock() + timedelta(seconds=RETRY_S if decision.verdict is Verdict.INDETERMINATE else SWEEP_S)
    changed = ping.logged_reasons != decision.reasons
    quiet = ping.logged_at is not None and parts.clock() - ping.logged_at < ENTRY_EVERY
    terminal = decision.verdict is Verdict.ALLOW or (decision.verdict is Verdict.DENY and ends_ping(decision))
    if terminal or (changed and not quiet):
        return await log_decision(parts, await draft_decision(parts, ping, judged, fence=None, next_at=again))
    case = judged.case
    seen = replace(
        ping,
        verdict=decision.verdict,
        reasons=decision.reasons,
        mode=case.candidate.mode,
        rules=tuple(row_json(row) for row in decision.rules),
        policy=case.policy.digest,
        policy_commit=case.policy.commit,
        evaluated_at=case.at,
        next_at=again,
    )
    return await settle(parts, ping, seen)


async def _expire(parts: Parts, ping: Ping) -> Ping:
    await let_go(parts, ping)
    judged = await judge(parts, ping)
    decision = judged.decision
    expired = Decision(Verdict.DENY, ("ping-expired", *(r for r in decision.reasons if r != "ping-expired")), decision.rules, decision.at)
    return await log_decision(parts, await draft_decision(parts, ping, Judged(judged.case, expired), fence=None))

