"""Adopt what runs: record, as the first member of a rollback set, the digest that a target says runs there. Deploys nothing.

Order: checks of the call; what stands already; the target's own word, under a certificate that the vault lets read and no more; the row with
the entry's exact bytes; the log; the place in the deployments' history. A crash between any two is finished by the next call for that place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gatekeeper.model.caller import Caller
from gatekeeper.model.digest import Digest
from gatekeeper.model.label import Viewer
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.pings import IdempotencyConflict
from gatekeeper.ports.records import ADOPTED, AdoptionRecord, DeploymentRecord
from gatekeeper.ports.target import TargetUnavailable
from gatekeeper.tlog.entry import AdoptEntry, encode_entry

from .ask import ask_status
from .calls import CallRefused, caller_id, demand_role, viewer_of
from .crossed import under_open_origin
from .parts import Parts
from .people import pseudonym_of_account
from .ping import CallKey, demand_deployed, demand_served

_OPERATORS: Final = frozenset({"O"})


async def adopt(parts: Parts, caller: Caller, environment: str, component: str, *, reason: str, call: CallKey) -> AdoptionRecord:
    """The adoption that this call makes, or made before. Raises `CallRefused`, `IdempotencyConflict`, `PortError`."""
    policy = parts.policy.current()
    demand_served(policy, environment)
    demand_role(policy, caller, environment, component, _OPERATORS)
    demand_deployed(policy, environment, component)
    viewer = viewer_of(caller)
    standing = await parts.adoptions.adoption(environment, component, viewer)
    if standing is not None:
        return await _own(parts, standing, caller, call)
    await _demand_unmanaged(parts, environment, component, viewer)
    entry_id = parts.new_id()
    artifact = await _asked(parts, policy.components[component].targets[environment][0], component, name=entry_id)
    at = parts.now()
    who = await pseudonym_of_account(parts, policy, caller_id(caller))
    entry = AdoptEntry(
        entry_id=entry_id,
        origin=parts.origin,
        at=at,
        config=policy.commit,
        who=who,
        environment=environment,
        component=component,
        running=(artifact,),
        candidate_config=policy.commit,
    )
    record = AdoptionRecord(
        id=entry_id,
        caller=caller_id(caller),
        idempotency_key=call.key,
        body=call.body,
        project=policy.components[component].project,
        environment=environment,
        component=component,
        artifact=artifact,
        config=policy.commit,
        reason=reason,
        at=at,
        entry=encode_entry(entry),
    )
    return await _own(parts, await parts.adoptions.add_adoption(record), caller, call)


async def _own(parts: Parts, record: AdoptionRecord, caller: Caller, call: CallKey) -> AdoptionRecord:
    """The adoption that stands, brought into the log whoever began it; refused where it is not this call's own."""
    if record.log_index is None:
        record = await _finish(parts, record)
    if (record.caller, record.idempotency_key) != (caller_id(caller), call.key):
        raise CallRefused("already-managed", f"{record.artifact} was adopted there at {record.at:%Y-%m-%d %H:%M} UTC, log index {record.log_index}")
    if record.body != call.body:
        raise IdempotencyConflict("idempotency-conflict", "the key was used with another body")
    return record


async def _demand_unmanaged(parts: Parts, environment: str, component: str, viewer: Viewer) -> None:
    held = await parts.locks.holder(environment, component, viewer)
    if held is not None:
        raise CallRefused("environment-busy", f"ping {held.ping_id} deploys there; what runs is known when it has ended")
    if any(row.state == "deployed" for row in await parts.deployments.history(environment, component, viewer, limit=200)):
        raise CallRefused("already-managed", f"it was deployed there by ping; see: pingee rollback {environment} {component} --list")


async def _asked(parts: Parts, target: str, component: str, *, name: str) -> Digest:
    """The digest that the target's doorkeeper says it adopted, and that still runs."""
    address = parts.addresses.get(target)
    if address is None:
        raise Unavailable("target-unavailable", f"no address is configured for target {target}")
    try:
        status = await ask_status(parts, address, name=name)
    except PortError as error:
        raise Unavailable("vault-unavailable", error.detail) from None
    except TargetUnavailable as error:
        raise Unavailable("target-unavailable", str(error)) from None
    if status.component(component) is not None:
        raise CallRefused("already-managed", f"target {target} has taken a deployment of {component} before; its receipts say what runs")
    found = next((one for one in status.adopted if one.component == component), None)
    if found is None:
        raise CallRefused("nothing-to-adopt", f"{target} knows nothing of {component}; on its host run: pingee-doorkeeper adopt {component} ...")
    if not found.runs:
        raise CallRefused("nothing-to-adopt", f"what was adopted on the host of {target} does not run there any more")
    return found.artifact


async def _finish(parts: Parts, record: AdoptionRecord) -> AdoptionRecord:
    """Log the entry and give it its place in the history: each step may be repeated."""
    entry = under_open_origin(parts, record.entry)
    appended = await parts.log.append(entry, entry_id=record.id, kind="adopt")
    await parts.deployments.add_deployment(
        DeploymentRecord(
            ping_id=record.id,
            environment=record.environment,
            component=record.component,
            project=record.project,
            artifact=record.artifact,
            config=record.config,
            commit=None,
            purpose=ADOPTED,
            state="deployed",
            receipt=None,
            decision_index=appended.index,
            outcome_index=appended.index,
            at=record.at,
            label=record.label,
        )
    )
    await parts.adoptions.mark_logged(record.id, appended.index, entry)
    return replace(record, log_index=appended.index, entry=entry)
