"""Asks our targets what they run, now and then: what differs from the last deployment is drift, and an override made there is logged, late.

- A question goes under a certificate that the vault lets read and no more, to the target that the policy names for the place. It takes no lease,
  so places that were only adopted are asked too; its key id tells an auditor of the vault which target the observer asked (`question_id`).
- An override is logged when two people whose keys stand in the policy signed it: a target alone can write nothing into the log. Its entry is
  drafted once, stored, and only then appended, so N replicas and restarts write one entry.
- A target that cannot be asked is no drift: what was seen last stands until it is heard again. While a ping holds the place nobody asks.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import trio

from gatekeeper.model.digest import Digest
from gatekeeper.model.label import Viewer
from gatekeeper.model.lease import question_id
from gatekeeper.model.moment import moment
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.log import EntryConflict
from gatekeeper.ports.observations import DriftKind, Observation, ObservedPlace, OverrideRecord
from gatekeeper.ports.records import ADOPTED, DeploymentRecord
from gatekeeper.ports.target import ComponentStatus, LastOutcome, OverrideReport, TargetAddress, TargetStatus, TargetUnavailable
from gatekeeper.tlog.entry import OverrideEntry, encode_entry
from gatekeeper.tlog.person import KEY_BYTES, hidden_text
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.override import SignedOrder, verify_override_order

from .ask import ask_status
from .crossed import under_open_origin
from .parts import Parts
from .people import pseudonym_of

_log = logging.getLogger(__name__)

AT_ONCE: Final = 4
ASK_S: Final = 200.0
"""the longest question: a doorkeeper may have to put back a release first"""


async def run_observer(parts: Parts, interval_s: float) -> None:
    """Observe every place at once, then each interval, until cancelled."""
    fresh = timedelta()
    while True:
        try:
            await observe_all(parts, fresh)
        except PortError as error:
            _log.warning("cannot look at the targets now: %s", error)
        # With several replicas one question in an interval is enough; only a new one asks for itself.
        fresh = timedelta(seconds=interval_s / 2)
        await trio.sleep(interval_s)


async def observe_all(parts: Parts, fresh: timedelta = timedelta()) -> None:
    """Ask about every place ever deployed to or adopted and not heard of within `fresh`. Raises `PortError` where the places cannot be read."""
    limit, places = trio.CapacityLimiter(AT_ONCE), await parts.observations.places()
    async with trio.open_nursery() as nursery:
        for place in places:
            if not fresh or place.observed_at is None or parts.clock() - place.observed_at >= fresh:
                nursery.start_soon(_observe, parts, place, limit)


async def _observe(parts: Parts, place: ObservedPlace, limit: trio.CapacityLimiter) -> None:
    where = f"{place.newest.environment}/{place.newest.component}"
    async with limit:
        try:
            with trio.fail_after(ASK_S):
                await observe_place(parts, place)
        except (PortError, TargetUnavailable, trio.TooSlowError) as error:
            _log.info("%s cannot be asked now: %s", where, error)
        except Exception:  # noqa: BLE001 -- one place's bug must not stop every deploy; it is tried again and stays visible in the log
            _log.exception("looking at %s failed with a bug of ours", where)


async def observe_place(parts: Parts, place: ObservedPlace) -> None:
    """Ask the target of one place, log what was overridden there, and keep what drifted.

    Raises `PortError`, and `TargetUnavailable` where the target cannot be asked.
    """
    environment, component = place.newest.environment, place.newest.component
    address = _address_of(parts, environment, component)
    if address is None or await _held(parts, place.newest):
        return
    asked_at, target = parts.clock(), address.name
    status = await ask_status(parts, address, name=question_id(parts.origin, target))
    if status.record and not status.record.startswith("intact"):
        _log.error("ALARM: the record of target %s is %s", target, status.record)
    for report in status.overrides:
        if report.component == component:
            await _log_override(parts, place.newest, target, report)
    remembered = status.component(component)
    if remembered is not None and _at_work(parts, remembered, place.newest):
        return
    told = _told(status, component)
    await parts.observations.observe(
        Observation(
            environment=environment,
            component=component,
            target=target,
            kind=_drift(place.running, told),
            running=None if told is None else told.running,
            config=None if told is None else told.config,
            order=None if told is None else told.order,
            deployment=place.newest.ping_id,
            observed_at=asked_at,
            label=place.newest.label,
        )
    )


def _address_of(parts: Parts, environment: str, component: str) -> TargetAddress | None:
    """Of the place's one target; None where the policy does not name the place any more, or the settings do not name the target."""
    known = parts.policy.current().components.get(component)
    if known is None or environment not in known.targets:
        return None
    return parts.addresses.get(known.targets[environment][0])


async def _held(parts: Parts, newest: DeploymentRecord) -> bool:
    # A question makes a doorkeeper that was cut short put things right, and meanwhile it takes no frame: a deploy asks for itself.
    viewer = Viewer(who="observer", clearances=newest.label)
    return await parts.locks.holder(newest.environment, newest.component, viewer) is not None


def _at_work(parts: Parts, component: ComponentStatus, newest: DeploymentRecord) -> bool:
    """Whether a deploy is under way whose end is not on our record yet. One that was cut short has ended: what ran before runs."""
    if component.origin not in (None, parts.origin):
        return False  # the last that it took was of an origin that is closed: whatever became of it, nobody works on it any more
    recorded = parts.origins.closed_at(newest.at) is None and component.index <= newest.decision_index
    settled = recorded or component.outcome is LastOutcome.INTERRUPTED
    return component.outcome is LastOutcome.IN_PROGRESS or not settled


@dataclass(frozen=True)
class _Told:
    """What a target says of a component that it knows. `running` None: nothing runs; `config` None: also where what was adopted runs."""

    running: Digest | None
    config: str | None
    order: Digest | None


def _told(status: TargetStatus, component: str) -> _Told | None:
    remembered = status.component(component)
    if remembered is not None:
        return _Told(remembered.running, remembered.config, remembered.override)
    adopted = next((one for one in status.adopted if one.component == component), None)
    return None if adopted is None else _Told(adopted.artifact if adopted.runs else None, None, None)


def _drift(recorded: DeploymentRecord | None, told: _Told | None) -> DriftKind | None:
    if recorded is None:
        return None if told is None or told.running is None else DriftKind.UNMANAGED
    if told is None:
        return DriftKind.UNMANAGED
    if told.running is None:
        return DriftKind.STOPPED
    if told.order is not None:
        return DriftKind.OVERRIDE
    # No target knows under which configuration we adopted what ran there before us.
    config = None if recorded.purpose == ADOPTED else recorded.config
    return None if (told.running, told.config) == (recorded.artifact, config) else DriftKind.UNMANAGED


async def _log_override(parts: Parts, deployment: DeploymentRecord, target: str, report: OverrideReport) -> None:
    stored = await parts.observations.order(target, report.order)
    if stored is None:
        drafted = await _draft(parts, deployment, target, report)
        if drafted is None:
            return
        stored = await parts.observations.add_order(drafted)
    if stored.log_index is not None:
        return
    try:
        appended = await parts.log.append(under_open_origin(parts, stored.entry), entry_id=stored.entry_id, kind="override")
    except EntryConflict:
        _log.error("ALARM: override order %s stands in the log with other words than those stored", report.order)
        return
    await parts.observations.order_logged(target, report.order, appended.index)
    _log.warning("override at %s: two people brought back %s; log index %d", target, stored.digest, appended.index)


async def _draft(parts: Parts, deployment: DeploymentRecord, target: str, report: OverrideReport) -> OverrideRecord | None:
    policy = parts.policy.current()
    signed = _believed(report, {person.name: person.keys for person in policy.people.values()})
    if isinstance(signed, Refusal) or (signed.value.order.target, signed.value.order.digest, signed.digest) != (
        target,
        report.digest,
        report.order,
    ):
        why = signed.detail if isinstance(signed, Refusal) else "it is not the order that was signed"
        _log.error("ALARM: target %s tells of an override that cannot be believed, so it is not logged: %s", target, why)
        return None
    people = [policy.people[name] for name in signed.value.signers]
    salt, order = parts.random(KEY_BYTES), signed.value.order
    entry = OverrideEntry(
        entry_id=_id_of("pingee.override/v1", parts.origin, target, report.order),
        origin=parts.origin,
        at=parts.now(),
        config=policy.commit,
        who=tuple(sorted([await pseudonym_of(parts, person.issuer, person.subject) for person in people])),
        target=target,
        digest=order.digest,
        order=signed.digest,
        incident=hidden_text(salt, order.incident),
        applied_at=report.applied_at,
        record=report.record,
    )
    return OverrideRecord(
        order=signed.digest,
        target=target,
        environment=deployment.environment,
        component=deployment.component,
        digest=order.digest,
        signers=signed.value.signers,
        reason=order.reason,
        incident=order.incident,
        salt=salt,
        envelope=report.envelope,
        outcome=report.outcome.value,
        applied_at=moment(report.applied_at),
        entry_id=entry.entry_id,
        entry=encode_entry(entry),
        log_index=None,
        label=deployment.label,
    )


def _believed(report: OverrideReport, keys: dict[str, tuple[bytes, ...]]) -> Verified[SignedOrder] | Refusal:
    try:
        return verify_override_order(report.envelope, keys)
    except Malformed as error:
        return Refusal("override-signers", f"the order does not parse: {error}")


def _id_of(*words: str) -> str:
    """32 hex digits, the same at every replica and after every restart."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]
