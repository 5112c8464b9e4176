"""What a doorkeeper tells of itself."""

from __future__ import annotations

import base64

from gatekeeper.model.canonical import Json
from gatekeeper.tlog.note import encode_vkey

from .apply import Doorkeeper
from .files import Unreadable
from .origins import standing
from .override import may_bring_back
from .state import Memory, Outcome, Release, SpentOrder
from .workload import is_alive


def render_status(door: Doorkeeper, memory: Memory) -> dict[str, Json]:
    """One JSON object; its members are those of `gatekeeper.ports.target.TargetStatus` and a few for people."""
    known = standing(door.pinned, memory).known
    return {
        "v": 1,
        "target": door.pinned.target.name,
        "instance": door.pinned.target.instance,
        "environment": door.pinned.target.environment,
        "origin": None if known is None else known[0].origin,
        "size": 0 if known is None else known[0].size,
        "closed_origins": [closed.origin for closed in memory.closed],
        "cosigner": encode_vkey(door.cosigner.vkey),
        "record": _record_state(door),
        "components": [_component(door, memory, name) for name, _ in memory.components],
        "adopted": [_adopted(door, name, release) for name, release in memory.adopted],
        "rollback_set": _rollback_set(door, memory),
        "overrides": [_override(spent) for spent in memory.orders if not spent.reported and spent.outcome is not Outcome.IN_PROGRESS],
    }


def _component(door: Doorkeeper, memory: Memory, name: str) -> dict[str, Json]:
    component, slot = memory.component(name), door.pinned.target.component(name)
    assert component is not None  # noqa: S101 -- the name is one of the memory's own
    healthy = component.healthy
    seen = healthy is not None and slot is not None and is_alive(door.place, slot, healthy.receipt)
    if slot is not None and slot.restart and component.outcome is Outcome.IN_PROGRESS:
        seen = False  # of a unit we see only the link, and that may have been switched already
    running = healthy if seen else None
    return {
        "component": name,
        "receipt": component.receipt,
        "index": component.index,
        "origin": component.origin,
        "slot": component.slot,
        "outcome": component.outcome.value,
        "detail": component.detail,
        "cosignature": component.cosignature,
        "size": component.size,
        "at": component.at,
        "running": None if running is None else running.artifact,
        "config": None if running is None else running.config,
        "override": component.override,
    }


def _rollback_set(door: Doorkeeper, memory: Memory) -> list[Json]:
    """What an override order may name here; for people. A bundle that cannot be read holds nothing, and `override` says why."""
    try:
        found = may_bring_back(door.place, door.believed(memory), memory)
    except Unreadable:
        return []
    return [{"component": name, "artifact": kept.artifact, "config": kept.config} for name, kept in found]


def _override(spent: SpentOrder) -> dict[str, Json]:
    """An order that the gatekeeper has not said it logged, with its envelope, so that it need not take our word for who signed."""
    return {
        "order": spent.order,
        "component": spent.component,
        "digest": spent.digest,
        "signers": list(spent.signers),
        "applied_at": spent.applied_at,
        "outcome": spent.outcome.value,
        "detail": spent.detail,
        "record": spent.record,
        "envelope": base64.b64encode(spent.envelope).decode(),
    }


def _adopted(door: Doorkeeper, name: str, release: Release) -> dict[str, Json]:
    slot = door.pinned.target.component(name)
    return {"component": name, "artifact": release.artifact, "runs": slot is not None and is_alive(door.place, slot, release.receipt)}


def _record_state(door: Doorkeeper) -> str:
    try:
        return f"intact, {door.record.verify()} lines"
    except Unreadable as error:
        return f"damaged: {error}"
