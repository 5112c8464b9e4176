"""Asks our targets what they run, now and then: what differs from the last deployment is drift, and an override made there is logged, late.

- Each question takes a credential bound to the place's newest receipt, whose Allow is proven to be in the log first: so no lease, not even one
  for a question, is without a logged Allow behind it. It is ended at once; after a crash in between it dies within ten minutes by itself.
- An override is logged when two people whose keys stand in the policy signed it: a target alone can write nothing into the log. Its entry is
  drafted once, stored, and only then appended, so N replicas and restarts write one entry.
- A target that cannot be asked is no drift: what was seen last stands until it is heard again. While a ping holds the place nobody asks.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import timedelta
from typing import Final

import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.model.decision import Verdict
from gatekeeper.model.digest import Digest
from gatekeeper.model.fields import FieldError
from gatekeeper.model.label import Viewer
from gatekeeper.model.moment import moment
from gatekeeper.model.receipt import parse_receipt
from gatekeeper.model.strictjson import MalformedJson
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.log import EntryConflict
from gatekeeper.ports.observations import DriftKind, Observation, ObservedPlace, OverrideRecord
from gatekeeper.ports.records import DeploymentRecord
from gatekeeper.ports.target import ComponentStatus, LastOutcome, OverrideReport, SshCredential, TargetUnavailable
from gatekeeper.tlog.entry import OverrideEntry, encode_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.person import KEY_BYTES, hidden_text
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.override import SignedOrder, verify_override_order
from gatekeeper.verify.receipt import parse_receipt_key, verify_decision_statement

from .decide import BrokenAllow
from .parts import Parts
from .people import pseudonym_of
from .proven import demand_in_log

_log = logging.getLogger(__name__)

AT_ONCE: Final = 4
ASK_S: Final = 200.0
"""the longest question: a doorkeeper may have to put back a release first"""
_END_S: Final = 5.0


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
    """Ask about every place that was ever deployed to and not heard of within `fresh`. Raises `PortError` where the places cannot be read."""
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
        except BrokenAllow as error:
            _log.error("ALARM: the newest receipt of %s does not hold: %s", where, error)
        except Exception:  # noqa: BLE001 -- one place's bug must not stop every deploy; it is tried again and stays visible in the log
            _log.exception("looking at %s failed with a bug of ours", where)


async def observe_place(parts: Parts, place: ObservedPlace) -> None:
    """Ask the target of one place, log what was overridden there, and keep what drifted.

    Raises `BrokenAllow`, `PortError`, and `TargetUnavailable` where the target cannot be asked.
    """
    receipt = place.newest.receipt
    if receipt is None:
        return  # what was adopted has no receipt that a credential could be bound to
    target = await _target_of(parts, place.newest, receipt)
    address = parts.addresses.get(target)
    if address is None or await _held(parts, place.newest):
        return
    asked_at = parts.clock()
    child = await parts.act_vault.child(receipt=receipt, target=target)
    try:
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
        certificate = await parts.act_vault.ssh_certificate(child, public_key=public)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        status = await parts.target.status(address, SshCredential(pem, certificate.text), receipt)
    finally:
        await _end(parts, child.accessor)
    if status.record and not status.record.startswith("intact"):
        _log.error("ALARM: the record of target %s is %s", target, status.record)
    for report in status.overrides:
        if report.component == place.newest.component:
            await _log_override(parts, place.newest, target, report)
    component = status.component(place.newest.component)
    if component is not None and _at_work(component, place.newest):
        return
    await parts.observations.observe(
        Observation(
            environment=place.newest.environment,
            component=place.newest.component,
            target=target,
            kind=_drift(place, component),
            running=None if component is None else component.running,
            config=None if component is None else component.config,
            order=None if component is None else component.override,
            receipt=receipt,
            observed_at=asked_at,
            label=place.newest.label,
        )
    )


async def _held(parts: Parts, newest: DeploymentRecord) -> bool:
    # A question makes a doorkeeper that was cut short put things right, and meanwhile it takes no frame: a deploy asks for itself.
    viewer = Viewer(who="observer", clearances=newest.label)
    return await parts.locks.holder(newest.environment, newest.component, viewer) is not None


def _at_work(component: ComponentStatus, newest: DeploymentRecord) -> bool:
    """Whether a deploy is under way whose end is not on our record yet. One that was cut short has ended: what ran before runs."""
    settled = component.index <= newest.decision_index or component.outcome is LastOutcome.INTERRUPTED
    return component.outcome is LastOutcome.IN_PROGRESS or not settled


def _drift(place: ObservedPlace, component: ComponentStatus | None) -> DriftKind | None:
    if place.running is None:
        return None if component is None or component.running is None else DriftKind.UNMANAGED
    if component is None:
        return DriftKind.UNMANAGED
    if component.running is None:
        return DriftKind.STOPPED
    if component.override is not None:
        return DriftKind.OVERRIDE
    same = (component.running, component.config) == (place.running.artifact, place.running.config)
    return None if same else DriftKind.UNMANAGED


async def _target_of(parts: Parts, deployment: DeploymentRecord, receipt_id: Digest) -> str:
    """The one target of a deployment's receipt, which is a signed Allow that stands in the log."""
    record = await parts.deployments.receipt(receipt_id, Viewer(who="observer", clearances=deployment.label))
    if record is None:
        raise BrokenAllow("there is no such receipt")
    try:
        receipt = parse_receipt(record.receipt)
        checked = verify_decision_statement(receipt.statement, [parse_receipt_key(pem) for pem in parts.receipt_keys])
        if isinstance(checked, Refusal):
            raise BrokenAllow(checked.detail)
        await demand_in_log(parts, receipt.entry, receipt.index)
    except (MalformedJson, FieldError, Malformed, TlogError) as error:
        raise BrokenAllow(str(error)) from error
    statement = checked.value
    place = (parts.instance, deployment.environment, deployment.component)
    if statement.verdict is not Verdict.ALLOW or (statement.instance, statement.environment, statement.component) != place:
        raise BrokenAllow("it is no Allow for that place")
    if receipt.origin != parts.origin or len(statement.targets) != 1:
        raise BrokenAllow("it is not of this log, or not for one target")
    return statement.targets[0]


async def _end(parts: Parts, accessor: str) -> None:
    with trio.CancelScope(shield=True), trio.move_on_after(_END_S):
        try:
            await parts.act_vault.end(accessor)
        except PortError as error:
            _log.warning("the token of a question could not be ended, it dies within ten minutes by itself: %s", error)


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
        appended = await parts.log.append(stored.entry, entry_id=stored.entry_id, kind="override")
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
        entry_id=_entry_id(parts.origin, target, report.order),
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


def _entry_id(origin: str, target: str, order: Digest) -> str:
    """The same at every replica and after every restart."""
    return hashlib.sha256(b"\0".join((b"pingee.override/v1", origin.encode(), target.encode(), order.encode()))).hexdigest()[:32]
