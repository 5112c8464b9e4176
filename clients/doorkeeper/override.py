"""`pingee-doorkeeper override ORDER`: two people bring back a release while gatekeeper, log or vault is away.

The checks, always in this order; the first that fails is the answer, and nothing was changed:

1. the file is an order (else exit 1);
2. exactly two signatures, by two different people whose keys are pinned here: `override-signers`;
3. not past its `not_after`, which lies at most four hours ahead, and not used here before: `override-expired`;
4. for this target; a digest that the rollback bundle holds (or, where `target.toml` says `override = "any"`, any digest), that was healthy here
   and whose bytes are kept: `override-scope`;
5. the kept bytes are those of the digest (else exit 7).

Then the record says who ordered what, the order is stored as spent, durably, and only after that the workload is switched. Unhealthy: what ran
before is put back. A crash in between is found by whoever opens the doorkeeper next; the order stays spent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gatekeeper.model.canonical import Json
from gatekeeper.model.digest import Digest, digest_hex
from gatekeeper.model.moment import Moment, later, parse_moment, render_moment
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.override import SignedOrder, verify_override_order
from gatekeeper.verify.twopeople import MAX_LIFE_S

from .apply import MAX_DETAIL, Doorkeeper
from .bundle import Bundle, check_bundle
from .files import Place, Unreadable, read_bounded
from .keep import forget_all_but, is_kept, open_kept
from .state import MAX_ORDERS, ComponentMemory, KeptRelease, Memory, Outcome, Release, SpentOrder, save_memory
from .target import ComponentSlot, Pinned
from .unpack import UnsafeArchive, unpack_layer

MAX_BUNDLE: Final = 4 * 1024 * 1024


@dataclass(frozen=True)
class Overridden:
    """Stored and done: `exit_code` 0 healthy, 6 put back or nothing to put back, 1 not even switched."""

    spent: SpentOrder
    restored: Digest | None
    exit_code: int


@dataclass(frozen=True)
class _Found:
    slot: ComponentSlot
    memory: ComponentMemory
    kept: KeptRelease


def override(door: Doorkeeper, data: bytes, memory: Memory) -> Overridden | Refusal:
    """Carry out an order. Raises ValueError for a file that is no order, and `Unreadable`."""
    at = door.now()
    signed = check_order(data, door.pinned, memory, at)
    if isinstance(signed, Refusal):
        return signed
    order = signed.value.order
    found = _find(door, order.digest, memory)
    if isinstance(found, Refusal):
        return found
    run, layer = open_kept(door.place, found.slot.name, order.digest)
    release = Release(
        artifact=order.digest,
        receipt=found.kept.receipt,
        config=found.kept.config,
        argv=run.argv,
        health=run.health,
        grace_s=min(run.grace_s, door.pinned.target.caps.grace_s),
    )
    memory = _with_room(memory, at)
    said: dict[str, Json] = {
        "order": signed.digest,
        "component": found.slot.name,
        "digest": order.digest,
        "signers": list(signed.value.signers),
        "reason": order.reason,
        "incident": order.incident,
        "not_after": render_moment(order.not_after),
    }
    spent = SpentOrder(
        order=signed.digest,
        component=found.slot.name,
        digest=order.digest,
        signers=signed.value.signers,
        not_after=render_moment(order.not_after),
        applied_at=render_moment(at),
        outcome=Outcome.IN_PROGRESS,
        detail="",
        record=door.record.append(at, "override", said),
        envelope=data,
        reported=False,
    )
    memory = memory.with_order(spent)
    save_memory(door.place, memory)
    door.say({"progress": "checked", "detail": f"ordered by {' and '.join(signed.value.signers)}"})
    try:
        unpack_layer(layer, door.place.release(found.slot.name, digest_hex(order.digest)), door.pinned.target.caps, beat=door.beat("unpacking"))
    except (UnsafeArchive, OSError) as error:
        why = str(error) if isinstance(error, UnsafeArchive) else f"the release cannot be written: {error.strerror}"
        return _settled(door, memory, replace(spent, outcome=Outcome.FAILED, detail=why[:MAX_DETAIL]), None, 1)
    problem = door.switch(found.slot, release)
    if problem is None:
        running = replace(found.memory, healthy=release, override=signed.digest)
        done = _settled(door, memory.with_component(found.slot.name, running), replace(spent, outcome=Outcome.HEALTHY), None, 0)
        forget_all_but(door.place, found.slot.name, running, dict(memory.adopted).get(found.slot.name))
        return done
    not_restored = door.restore(found.slot, found.memory.healthy)
    if not_restored is None:
        assert found.memory.healthy is not None  # noqa: S101 -- where there is none, that is what `restore` says
        spent = replace(spent, outcome=Outcome.ROLLED_BACK, detail=f"{problem}; the previous release runs again"[:MAX_DETAIL])
        return _settled(door, memory, spent, found.memory.healthy.artifact, 6)
    return _settled(door, memory, replace(spent, outcome=Outcome.FAILED, detail=f"{problem}; {not_restored}"[:MAX_DETAIL]), None, 6)


def check_order(data: bytes, pinned: Pinned, memory: Memory, at: Moment) -> Verified[SignedOrder] | Refusal:
    """Checks 1 to 3, and of 4 the target. Raises ValueError for bytes that are no order."""
    signed = verify_override_order(data, pinned.override_keys)
    if isinstance(signed, Refusal):
        return signed
    order = signed.value.order
    if at >= order.not_after:
        return Refusal("override-expired", f"the order held until {render_moment(order.not_after)}; write and sign a new one")
    if order.not_after > later(at, seconds=MAX_LIFE_S):
        return Refusal("override-expired", f"the order would hold for more than {MAX_LIFE_S // 3600} hours from now; write and sign a shorter one")
    if memory.order(signed.digest) is not None:
        return Refusal("override-expired", "the order was used here before; write and sign a new one")
    if order.target != pinned.target.name:
        return Refusal("override-scope", f"the order is for target {order.target}, this is {pinned.target.name}")
    return signed


def may_bring_back(place: Place, pinned: Pinned, memory: Memory) -> list[tuple[str, KeptRelease]]:
    """What an order may name here now: component and release."""
    found = []
    for name, component in memory.components:
        if pinned.target.component(name) is None:
            continue
        bundle = None if pinned.target.override_any else _bundle(place, name, pinned, memory)
        for kept in component.kept:
            listed = pinned.target.override_any or (isinstance(bundle, Bundle) and bundle.holds(kept.artifact))
            if listed and is_kept(place, name, kept.artifact):
                found.append((name, kept))
    return found


def _find(door: Doorkeeper, digest: Digest, memory: Memory) -> _Found | Refusal:
    for name, kept in may_bring_back(door.place, door.believed(memory), memory):
        if kept.artifact == digest:
            slot, component = door.pinned.target.component(name), memory.component(name)
            assert slot is not None and component is not None  # noqa: S101, PT018 -- it brings back nothing else
            return _Found(slot, component, kept)
    for name, _ in memory.components:
        bundle = _bundle(door.place, name, door.believed(memory), memory)
        if isinstance(bundle, Refusal):
            return Refusal("override-scope", f"the rollback bundle of {name} does not hold: {bundle.detail}")
    where = "what is kept here" if door.pinned.target.override_any else "the rollback bundle, or was never healthy here, or is no longer kept"
    return Refusal("override-scope", f"the digest is not in {where}; see rollback_set of: pingee-doorkeeper status")


def _bundle(place: Place, component: str, pinned: Pinned, memory: Memory) -> Bundle | Refusal | None:
    path = place.rollback_bundle(component)
    if not path.exists():
        return None
    try:
        return check_bundle(read_bounded(path, MAX_BUNDLE), component, pinned, memory)
    except ValueError as error:
        raise Unreadable(f"rollback-bundle: {error}") from error


def _with_room(memory: Memory, at: Moment) -> Memory:
    orders = [spent for spent in memory.orders if not spent.reported or parse_moment(spent.not_after) > at]
    over = len(orders) - MAX_ORDERS + 1
    for spent in [spent for spent in orders if parse_moment(spent.not_after) <= at][: max(over, 0)]:
        # It was never reported, and stands in the record alone. An order that could still be used again must not be forgotten.
        orders.remove(spent)
    if len(orders) >= MAX_ORDERS:
        raise Unreadable(f"{MAX_ORDERS} orders were used here within {MAX_LIFE_S // 3600} hours: no more can be remembered")
    return replace(memory, orders=tuple(orders))


def _settled(door: Doorkeeper, memory: Memory, spent: SpentOrder, restored: Digest | None, exit_code: int) -> Overridden:
    spent = door.settle_order(memory, spent)[1]
    return Overridden(spent, restored, exit_code)
