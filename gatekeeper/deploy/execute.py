"""Carry out a logged Allow: credential, proof, frame, answer, outcome. Accepts nothing but a `LoggedAllow`.

What a crash at each step means, and what the next replica does with the ping as it finds it:

* `allowed`: nothing was leased. A credential is taken now, if there is still time.
* `leased`: a one-deploy token may exist; its accessor is stored. It is ended, a new one is taken. Nothing was sent.
* `applying`: bytes may have been sent. The target is asked before anything else; it accepts each receipt once, so what it accepted is what happened.
  A target that was itself cut short has put back what ran: the Allow closes with an outcome `interrupted` and the ping is decided anew.
* a draft is there: the outcome is known and on its way into the log. It is appended again under the same `entry_id`.

Past `not_after` nothing is leased or sent: what became of a frame is then asked under a certificate that only reads. An Allow that was never
accepted closes with an outcome `allow-expired`; the ping is decided anew. Every certificate is on the ping before it is used, so the outcome
names those too that a killed replica took.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.model.allow import AllowTerms, LoggedAllow
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest
from gatekeeper.model.fields import Fields
from gatekeeper.model.lease import lease_digest, question_id
from gatekeeper.model.moment import moment
from gatekeeper.model.ping import State
from gatekeeper.model.reason import REASONS
from gatekeeper.model.strictjson import JsonValue, parse_object
from gatekeeper.ports.errors import Denied, PortError, Rejected, Unavailable, Untrustworthy
from gatekeeper.ports.log import AheadOfLog, Inclusion
from gatekeeper.ports.pings import Ping
from gatekeeper.ports.records import DeploymentRecord
from gatekeeper.ports.target import (
    Answer,
    Applied,
    ApplyFailed,
    ComponentStatus,
    LastOutcome,
    Part,
    Progress,
    Refused,
    RolledBack,
    SshCredential,
    Stale,
    TargetAddress,
    TargetUnavailable,
    TargetUnknown,
)
from gatekeeper.ports.vault import DeployToken
from gatekeeper.tlog.entry import DoorkeeperMark, OutcomeEntry, Reference, encode_entry

from .ask import reading_credential
from .decide import MAX_DRAFT, state_event
from .frame_parts import deploy_parts
from .parts import Parts
from .rollback_bundle import rollback_bundle, rollback_members
from .secret_scan import secret_in_parts

_log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
MAX_RETRY_S: Final = 30.0
PROGRESS_S: Final = 60.0
MAX_ALLOWS: Final = 3
"""how often a ping is allowed at most while its target is cut short in the middle each time"""
MISSES: Final = 10
"""missed progress updates after which a target is unresponsive"""
_RESENDS: Final = 5
_MAX_DETAIL: Final = 1000
_END_S: Final = 10.0
_UNSHOWN: Final = "that this log carries on from there cannot be shown any more: a person has to install new files at the target"
_END_QUICKLY_S: Final = 2.0


@dataclass(frozen=True)
class Done:
    """How an Allow ended: the ping's state, the outcome entry's word, a reason code, a sentence, and what the target signed."""

    state: State
    word: str
    reason: str | None
    detail: str
    applied: tuple[Digest, ...] = ()
    mark: DoorkeeperMark | None = None


_EXPIRED: Final = Done(State.PENDING, "allow-expired", "allow-expired", "not_after passed and nothing was applied; decided anew")
_UNRESPONSIVE: Final = Done(State.UNRESPONSIVE, "unresponsive", "target-unresponsive", f"no last word within {MISSES} updates of {PROGRESS_S:.0f} s")


@dataclass(frozen=True)
class _Access:
    """A credential for one deploy at one target."""

    token: DeployToken
    credential: SshCredential


async def carry_out(parts: Parts, allow: LoggedAllow, ping: Ping) -> Ping:
    """Bring a ping that holds the lock to its end, from whatever step it stands at. Raises `PortError` where it has to be tried again."""
    if ping.draft is not None:
        return await finish(parts, ping)
    terms = allow.terms
    address = parts.addresses.get(terms.target)
    if address is None and ping.state is State.APPLYING:
        raise Unavailable("target-unavailable", f"no address is configured for target {terms.target}, and what it did has to be asked")
    if address is None:
        done = Done(State.FAILED, "failed", "apply-failed", f"no address is configured for target {terms.target}")
        return await finish(parts, await draft_outcome(parts, ping, Reference(parts.origin, terms.index), done))
    run = _Run(parts, terms, address, ping)
    try:
        # Once bytes may have been sent only the target can tell what happened, whoever holds the lock by now.
        lost = None if ping.state is State.APPLYING else await _fence_lost(parts, terms)
        done = lost or await run.to_the_end()
    except BaseException:
        if run.ping.accessor is not None:
            await _end(parts, run.ping.accessor, within_s=_END_QUICKLY_S)
        raise
    return await finish(parts, await draft_outcome(parts, run.ping, Reference(parts.origin, terms.index), done))


async def _fence_lost(parts: Parts, terms: AllowTerms) -> Done | None:
    """Whether somebody else may have deployed here since the decision."""
    lock = await parts.locks.acquire(terms.environment, terms.component, terms.ping_id, parts.clock())
    if lock == terms.fence:
        return None
    if isinstance(lock, int):
        await parts.locks.release(terms.environment, terms.component, lock)
    return Done(State.PENDING, "fence-lost", "fence-lost", "the lock was lost before anything was sent; decided anew")


class _Run:
    """One attempt to carry out an Allow."""

    def __init__(self, parts: Parts, terms: AllowTerms, address: TargetAddress, ping: Ping) -> None:
        self._parts = parts
        self._terms = terms
        self._address = address
        self.ping = ping
        self._maybe_sent = ping.state is State.APPLYING
        self._patience: float | None = None

    async def to_the_end(self) -> Done:
        """Lease, then ask or apply, until the target has said its last word or there is no time left."""
        pause = RETRY_S
        while True:
            if self._maybe_sent and trio.current_time() >= self._asks_until():
                return _UNRESPONSIVE
            if not self._maybe_sent and self._too_late():
                return _EXPIRED
            try:
                return await (self._ask_late() if self._too_late() else self._with(await self._lease()))
            except (Denied, Untrustworthy, Rejected) as error:
                # While a frame may be at work there is no such end: only the target's word, or its silence, ends it.
                if not self._maybe_sent:
                    return _refused(error)
                trouble: Exception = error
            except (TargetUnavailable, TargetUnknown) as error:
                trouble = error
            self.ping = await self._note(f"the target cannot be reached: {trouble}; trying again")
            await trio.sleep(pause)
            pause = min(2 * pause, MAX_RETRY_S)

    def _too_late(self) -> bool:
        return self._parts.clock() >= self._terms.not_after

    def _asks_until(self) -> float:
        """Until when (trio's clock) a target that may be at work is waited for; counted from the first question."""
        if self._patience is None:
            self._patience = trio.current_time() + MISSES * PROGRESS_S
        return self._patience

    async def _lease(self) -> _Access:
        """A fresh one-deploy token, its accessor stored before it is used, and a certificate over a key that never leaves memory."""
        if self.ping.accessor is not None:
            await self._parts.act_vault.end(self.ping.accessor)
        token = await self._parts.act_vault.child(receipt=self._terms.receipt_id, target=self._terms.target)
        state = State.APPLYING if self.ping.state is State.APPLYING else State.LEASED
        try:
            self.ping = await self._move(replace(self.ping, state=state, accessor=token.accessor))
        except BaseException:
            await _end(self._parts, token.accessor, within_s=_END_QUICKLY_S)
            raise
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
        certificate = await self._parts.act_vault.ssh_certificate(token, public_key=public)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        self.ping = await self._move(replace(self.ping, leases=(*self.ping.leases, lease_digest(certificate.serial))))
        return _Access(token, SshCredential(pem, certificate.text))

    async def _with(self, access: _Access) -> Done:
        if self._maybe_sent:
            found = await self._ask(access.credential, self._terms.receipt_id)
            if found is not None:
                return found
            self._maybe_sent = False
            if lost := await _fence_lost(self._parts, self._terms):
                return lost
        settings = await self._parts.act_vault.settings(access.token, environment=self._terms.environment, component=self._terms.component)
        members = await rollback_members(self._parts, self._terms, self.ping)
        known = Stale(0)
        for _ in range(_RESENDS):
            try:
                inclusion, crossings = await self._prove(known, [member.index for member in members])
            except AheadOfLog:
                return Done(State.FAILED, "failed", "log-fork", "the target remembers more of the log than was ever published: an alarm")
            if known.origin is not None and crossings is None:
                return Done(State.FAILED, "failed", "log-fork", f"the target remembers {known.size} entries of {known.origin}; {_UNSHOWN}")
            bundle = await rollback_bundle(self._parts, self._terms, members, inclusion)
            frame = await deploy_parts(self._parts, self._terms, inclusion, settings, bundle, crossings)
            if leak := await secret_in_parts(frame, settings):
                return Done(State.FAILED, "failed", "config-secret-found", f"{leak}: nothing was sent")
            if self.ping.state is not State.APPLYING:
                self.ping = await self._move(replace(self.ping, state=State.APPLYING))
            # The last thing before the first byte: whatever came before may have taken its time.
            if self._too_late():
                return _EXPIRED
            answer = await self._send(access, frame)
            if not isinstance(answer, Stale):
                return await self._read(access, answer)
            known = answer
        return Done(State.FAILED, "failed", "apply-failed", "the target's memory of the log kept moving")

    async def _prove(self, known: Stale, members: Sequence[int]) -> tuple[Inclusion, bytes | None]:
        """The proofs that a target which remembers this asks for, and the crossings where it remembers another origin and they can be shown."""
        log = self._parts.log
        if known.origin is None:
            return await log.prove(self._terms.index, old_size=known.size, also=members, with_keys=True), None
        # Key changes of the next origin can be followed only from files that were installed for it.
        # The step ends at the very checkpoint under which the receipt is proven.
        inclusion = await log.prove(self._terms.index, also=[*members, 0])
        crossings = await self._parts.origins.crossings(known.origin, known.size, inclusion.also[-1])
        return replace(inclusion, also=inclusion.also[:-1]), crossings

    async def _send(self, access: _Access, frame: Sequence[Part]) -> Answer:
        try:
            return await self._parts.target.apply(self._address, access.credential, self._terms.receipt_id, frame, progress=_ignore)
        except TargetUnknown:
            self._maybe_sent = True
            raise

    async def _read(self, access: _Access, answer: Answer) -> Done:
        match answer:
            case Applied():
                mark = DoorkeeperMark(self._terms.target, answer.size, answer.cosignature)
                return Done(State.DEPLOYED, "deployed", None, "healthy", (answer.artifact,), mark)
            case RolledBack():
                mark = DoorkeeperMark(self._terms.target, answer.size, answer.cosignature)
                return _rolled_back(answer.detail, (answer.restored,), mark)
            case Refused(code="receipt-replayed"):
                # Our own earlier frame may have been accepted; only the target can say what became of it.
                self._maybe_sent = True
                found = await self._ask(access.credential, self._terms.receipt_id)
                return found or Done(State.FAILED, "failed", "receipt-replayed", answer.detail)
            case Refused(code="allow-expired"):
                return _EXPIRED
            case Refused():
                return Done(State.FAILED, "failed", answer.code, f"the doorkeeper refused: {answer.detail}")
            case ApplyFailed():
                signed = None
                if answer.cosignature is not None and answer.size is not None:
                    signed = DoorkeeperMark(self._terms.target, answer.size, answer.cosignature)
                return Done(State.FAILED, "failed", "apply-failed", answer.detail, (), signed)
            case Stale():
                raise AssertionError("a stale answer is sent again, not read")

    async def _ask_late(self) -> Done:
        """What the target did with a frame that may have been sent, asked when the Allow leases nothing any more."""
        name = question_id(self._parts.origin, self._terms.target)
        return await self._ask(await reading_credential(self._parts, self._address, name=name), None) or _EXPIRED

    async def _ask(self, credential: SshCredential, receipt: Digest | None) -> Done | None:
        """What the target did with our receipt; None: it never accepted it. Waits while it is at work. `receipt` is what the credential names."""
        while trio.current_time() < self._asks_until():
            status = await self._parts.target.status(self._address, credential, receipt)
            component = status.component(self._terms.component)
            if component is None or component.receipt != self._terms.receipt_id:
                return None
            if component.outcome is LastOutcome.INTERRUPTED:
                return await self._interrupted(component)
            if component.outcome is not LastOutcome.IN_PROGRESS:
                return self._told(component)
            await trio.sleep(RETRY_S)
        return _UNRESPONSIVE

    async def _interrupted(self, component: ComponentStatus) -> Done:
        # The receipt is spent and what ran before runs again, so the ping needs another Allow. One whose every apply ends like this gets no more.
        mark = DoorkeeperMark(self._terms.target, component.size, component.cosignature)
        running = () if component.running is None else (component.running,)
        if await self._parts.deployments.allows(self._terms.ping_id) >= MAX_ALLOWS:
            detail = f"the target was cut short in mid-apply, as before; allowed {MAX_ALLOWS} times: {component.detail}"
            return Done(State.FAILED, "failed", "apply-interrupted", detail, running, mark)
        return Done(State.PENDING, "interrupted", "apply-interrupted", f"the target was {component.detail}; decided anew", running, mark)

    def _told(self, component: ComponentStatus) -> Done:
        mark = DoorkeeperMark(self._terms.target, component.size, component.cosignature)
        running = () if component.running is None else (component.running,)
        match component.outcome:
            case LastOutcome.HEALTHY:
                # What runs by now may be another: two people may have brought back an older one after it was seen healthy.
                applied = (self._terms.artifact,)
                return Done(State.DEPLOYED, "deployed", None, "healthy (told by the target after an interruption)", applied, mark)
            case LastOutcome.ROLLED_BACK:
                return _rolled_back(component.detail, running, mark)
            case _:
                return Done(State.FAILED, "failed", "apply-failed", component.detail, (), mark)

    async def _move(self, new: Ping) -> Ping:
        return await self._parts.pings.move(self.ping, new, [] if new.state is self.ping.state else [state_event(new)])

    async def _note(self, text: str) -> Ping:
        detail = _plain(text)
        if detail == self.ping.detail:
            return self.ping
        return await self._parts.pings.move(self.ping, replace(self.ping, detail=detail), [("line", {"text": detail})])


def _refused(error: PortError) -> Done:
    """What ends an Allow before anything was sent: the vault says no, or what is to be deployed cannot be had whole."""
    if not isinstance(error, Rejected):
        return Done(State.FAILED, "lease-refused", "lease-refused", error.detail)
    return Done(State.FAILED, "failed", error.cause_code if error.cause_code in REASONS else "apply-failed", error.detail)


def _rolled_back(detail: str, running: tuple[Digest, ...], mark: DoorkeeperMark) -> Done:
    restored = "".join(f"; {artifact} runs again" for artifact in running)
    return Done(State.ROLLED_BACK, "rolled-back", "health-failed", detail + restored, running, mark)


def _plain(text: str) -> str:
    """A foreign sentence as it may be stored and shown: no control characters, bounded."""
    return "".join(c if c.isprintable() else " " for c in text[:_MAX_DETAIL])


def _ignore(_: Progress) -> None:
    """Progress lines of a deploy are not stored yet; the state says enough for a deploy of seconds."""


async def draft_outcome(parts: Parts, ping: Ping, of: Reference, done: Done) -> Ping:
    """Keep the draft of the outcome's entry in the ping's row; `of` is where the decision stands."""
    entry_id = parts.new_id()
    entry = encode_entry(
        OutcomeEntry(
            entry_id=entry_id,
            origin=parts.origin,
            at=parts.now(),
            config=parts.policy.current().commit,
            of=of,
            state=done.word,
            lease=tuple(sorted(set(ping.leases))),
            applied=tuple(sorted(done.applied)),
            doorkeeper=() if done.mark is None else (done.mark,),
        )
    )
    body = base64.b64encode(entry).decode()
    draft = encode_canonical({"entry": body, "state": done.state.value, "reason": done.reason, "detail": _plain(done.detail)})
    return await parts.pings.move(ping, replace(ping, entry_id=entry_id, draft=draft))


async def finish(parts: Parts, ping: Ping) -> Ping:
    """Log the drafted outcome, end the credential, record the deployment, release the lock: each step may be repeated."""
    if ping.draft is None or ping.entry_id is None or ping.fence is None or ping.receipt is None or ping.log_index is None:
        raise ValueError("the ping has no outcome to finish")
    draft = Fields(parse_object(ping.draft, max_bytes=MAX_DRAFT))
    appended = await parts.log.append(base64.b64decode(draft.text("entry", max_length=MAX_DRAFT)), entry_id=ping.entry_id, kind="outcome")
    state, reason = State(draft.text("state")), draft.optional("reason", draft.text)
    if ping.accessor is not None:
        await _end(parts, ping.accessor, within_s=_END_S)
    if state is not State.PENDING:
        await parts.deployments.add_deployment(
            DeploymentRecord(
                ping_id=ping.id,
                environment=ping.new.environment,
                component=ping.new.component,
                project=ping.new.project,
                artifact=ping.new.artifact,
                config=ping.new.config,
                commit=ping.new.commit,
                purpose=ping.new.purpose.value,
                state=state.value,
                receipt=ping.receipt,
                decision_index=ping.log_index,
                outcome_index=appended.index,
                at=moment(parts.clock()),
                label=ping.new.label,
            )
        )
    await parts.locks.release(ping.new.environment, ping.new.component, ping.fence)
    ended = replace(
        ping,
        state=state,
        draft=None,
        accessor=None,
        leases=(),
        fence=None,
        reasons=() if reason is None else (reason,),
        outcome_index=appended.index,
        detail=draft.text("detail", max_length=_MAX_DETAIL, min_length=0),
        next_at=None,
    )
    events: list[tuple[str, Mapping[str, JsonValue]]] = [("outcome", {"state": state.value, "log_index": appended.index}), state_event(ended)]
    return await parts.pings.move(ping, ended, events)


async def _end(parts: Parts, accessor: str, *, within_s: float) -> None:
    # Shielded: a credential is ended even while the process is told to stop. SSH certificates are spent at the target all the same.
    with trio.CancelScope(shield=True), trio.move_on_after(within_s):
        while True:
            try:
                await parts.act_vault.end(accessor)
            except Unavailable:
                await trio.sleep(RETRY_S)
                continue
            except PortError as error:
                _log.warning("the vault will not end a deploy token, it dies within ten minutes by itself: %s", error)
            return
    _log.warning("a deploy token could not be ended within %.0f s, it dies within ten minutes by itself", within_s)
