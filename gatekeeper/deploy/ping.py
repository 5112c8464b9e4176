"""Accept a ping: who comes from the token, what and where from the body; then the worker takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from gatekeeper.model.caller import Caller, RunCaller
from gatekeeper.model.decision import Purpose
from gatekeeper.model.digest import Digest
from gatekeeper.model.label import Label
from gatekeeper.model.ping import State
from gatekeeper.policy.document import EnvironmentClass, Policy
from gatekeeper.ports.pings import NewPing, Ping, PingFilter
from gatekeeper.ports.records import ADOPTED, DeploymentRecord

from .calls import CallRefused, caller_id, demand_role, viewer_of
from .decide import state_event
from .lock import let_go
from .parts import Parts
from .running import what_runs

DEADLINE: Final = timedelta(hours=24)
MAX_DEADLINE: Final = timedelta(days=14)

_PINGERS: Final = frozenset({"P", "D"})
_OPERATORS: Final = frozenset({"O"})


@dataclass(frozen=True)
class PingRequest:
    """The body of a ping, parsed."""

    environment: str
    component: str
    artifact: Digest | None
    config: str | None
    reason: str
    deadline: datetime | None


@dataclass(frozen=True)
class CallKey:
    """What makes a repeated call the same call: the caller's own key, and the sha256 of the body."""

    key: str
    body: Digest


async def accept_ping(parts: Parts, caller: Caller, request: PingRequest, call: CallKey) -> tuple[Ping, bool]:
    """Store a ping, or find the one this call made before. Raises `CallRefused`, `IdempotencyConflict`, `PortError`.

    Order (interfaces, 2.1): right to environment and component first, only then a look-up, over what the caller may read.
    """
    policy = parts.policy.current()
    demand_served(policy, request.environment)
    demand_role(policy, caller, request.environment, request.component, _PINGERS)
    demand_deployed(policy, request.environment, request.component)
    runs = await what_runs(parts, viewer_of(caller), request.environment, request.component)
    artifact = request.artifact or (runs.artifact if runs else None)
    if artifact is None:
        raise CallRefused("ping-malformed", "nothing runs there yet, so the ping has to name an artifact")
    record = await parts.statements.artifact(artifact, viewer_of(caller))
    if record is None:
        raise CallRefused("unknown-manifest", "no such artifact manifest")
    return await _create(
        parts,
        caller,
        call,
        environment=request.environment,
        component=request.component,
        artifact=artifact,
        commit=record.commit,
        config=request.config or (runs.config if runs else policy.commit),
        purpose=_purpose(policy, request),
        reason=request.reason,
        deadline=request.deadline,
        project=policy.components[request.component].project,
        label=record.label,
    )


async def accept_rollback(
    parts: Parts, caller: Caller, environment: str, component: str, *, to: Digest | None, reason: str, call: CallKey
) -> tuple[Ping, bool]:
    """Store the ping of a rollback: to a member of the rollback set, by default the newest, else the newest with the artifact `to`.

    Raises as `accept_ping`.
    """
    policy = parts.policy.current()
    demand_served(policy, environment)
    demand_role(policy, caller, environment, component, _OPERATORS)
    demand_deployed(policy, environment, component)
    members = await rollback_set(parts, caller, environment, component)
    chosen = next((m for m in members if to in (None, m.artifact)), None)
    if chosen is None:
        # Asked again after the first call brought it back: what it names runs now and is no member any more.
        if earlier := await _earlier(parts, caller, call):
            return earlier, False
        detail = "that digest was never deployed there" if to else "nothing else was ever deployed there"
        raise CallRefused("never-deployed", f"{detail}; see the rollback set: pingee rollback {environment} {component} --list")
    runs = await what_runs(parts, viewer_of(caller), environment, component)
    return await _create(
        parts,
        caller,
        call,
        environment=environment,
        component=component,
        artifact=chosen.artifact,
        commit=chosen.commit,
        config=chosen.config,
        purpose=Purpose.ROLLBACK,
        reason=reason,
        deadline=None,
        rollback_of=None if runs is None or runs.purpose == ADOPTED else runs.ping_id,
        project=policy.components[component].project,
        label=chosen.label,
    )


async def rollback_set(parts: Parts, caller: Caller | None, environment: str, component: str) -> tuple[DeploymentRecord, ...]:
    """What may be brought back there, newest first: each pair of artifact and configuration once; the pair that runs now is not among them."""
    history = await parts.deployments.history(environment, component, viewer_of(caller), limit=200)
    runs = await what_runs(parts, viewer_of(caller), environment, component)
    pairs: dict[tuple[Digest, str], DeploymentRecord] = {}
    for row in history:
        if row.state == State.DEPLOYED:
            pairs.setdefault((row.artifact, row.config), row)
    if runs is not None:
        pairs.pop((runs.artifact, runs.config), None)
    return tuple(pairs.values())


async def cancel(parts: Parts, caller: Caller, ping_id: str, reason: str) -> Ping:
    """Withdraw a ping that waits: by its requester or an operator.

    Raises `CallRefused` `not-found`, `not-authorised`, `not-cancellable`; `StalePing` where a replica is at work on it.
    """
    ping = await parts.pings.get(ping_id, viewer_of(caller))
    if ping is None:
        raise CallRefused("not-found", "no such ping")
    if ping.new.caller != caller_id(caller):
        demand_role(parts.policy.current(), caller, ping.new.environment, ping.new.component, _OPERATORS)
    if ping.state not in (State.RECEIVED, State.PENDING, State.INDETERMINATE) or ping.draft is not None:
        raise CallRefused("not-cancellable", f"the ping is {ping.state.value}; only a waiting one can be withdrawn")
    cancelled = replace(ping, state=State.CANCELLED, reasons=("cancelled",), detail=reason, next_at=None)
    ended = await parts.pings.move(ping, cancelled, [state_event(cancelled)])
    # Only after the move: whoever still works on the ping cannot draft an Allow any more.
    await let_go(parts, ended)
    return ended


def _purpose(policy: Policy, request: PingRequest) -> Purpose:
    # No artifact named: what runs stays, and rule origin.age denies where it does not.
    if request.artifact is None and request.config is not None:
        return Purpose.CONFIGURATION
    tests = policy.environments[request.environment].environment_class is EnvironmentClass.TEST
    return Purpose.TEST if tests else Purpose.DEPLOY


def demand_served(policy: Policy, environment: str) -> None:
    """Refuse with `wrong-gatekeeper` an environment that this instance does not serve."""
    if environment not in policy.environments:
        raise CallRefused("wrong-gatekeeper", f"instance {policy.instance} does not serve environment {environment}")


def demand_deployed(policy: Policy, environment: str, component: str) -> None:
    """Refuse with `wrong-gatekeeper` a component that has no target there."""
    known = policy.components.get(component)
    if known is None or environment not in known.targets:
        raise CallRefused("wrong-gatekeeper", f"instance {policy.instance} deploys no component {component} to {environment}")


async def _earlier(parts: Parts, caller: Caller, call: CallKey) -> Ping | None:
    """The caller's ping of exactly this call, if it is among the newest."""
    pings = await parts.pings.list_pings(PingFilter(caller=caller_id(caller), limit=200), viewer_of(caller))
    return next((ping for ping in pings if (ping.new.idempotency_key, ping.new.body) == (call.key, call.body)), None)


async def _create(
    parts: Parts,
    caller: Caller,
    call: CallKey,
    *,
    environment: str,
    component: str,
    artifact: Digest,
    commit: str | None,
    config: str,
    purpose: Purpose,
    reason: str,
    deadline: datetime | None,
    project: str,
    label: Label,
    rollback_of: str | None = None,
) -> tuple[Ping, bool]:
    now = parts.clock()
    until = deadline or now + DEADLINE
    if not now < until <= now + MAX_DEADLINE:
        raise CallRefused("ping-malformed", "the deadline lies in the past or more than 14 days ahead")
    return await parts.pings.create(
        NewPing(
            id=parts.new_id(),
            caller=caller_id(caller),
            idempotency_key=call.key,
            body=call.body,
            purpose=purpose,
            project=project,
            environment=environment,
            component=component,
            artifact=artifact,
            config=config,
            commit=commit,
            bound_commit=(caller.commit or None) if isinstance(caller, RunCaller) else None,
            reason=reason,
            deadline=until,
            created_at=now,
            label=label,
            rollback_of=rollback_of,
            on_behalf_of=f"{caller.issuer}|{caller.actor}" if isinstance(caller, RunCaller) else None,
        )
    )
