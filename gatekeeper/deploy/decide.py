"""Judge a ping, and make its verdict durable in the log before anybody is told.

Order, never changed: evidence, rules, signed statement, draft in the ping's row, log entry, receipt, state. The draft is what a crash needs: the
same bytes are appended again under the same `entry_id`, which gives the first index again. `LoggedAllow` is made here and nowhere else.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from gatekeeper.model.allow import AllowTerms, LoggedAllow
from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.decision import Candidate, Decision, EvidenceItem, Mode, Verdict
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.evidence import Present
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.label import Viewer
from gatekeeper.model.logged import make_logged_allow
from gatekeeper.model.moment import Moment, later
from gatekeeper.model.ping import State
from gatekeeper.model.receipt import UntrustedReceipt, encode_receipt, parse_receipt, receipt_id
from gatekeeper.model.statement import DecisionStatement, encode_decision_statement
from gatekeeper.model.strictjson import JsonValue, MalformedJson, parse_object
from gatekeeper.model.uris import IN_TOTO_PAYLOAD
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.policy.case import Case
from gatekeeper.policy.decide import conclude, decide, ends_ping, evidence_items
from gatekeeper.policy.document import Policy
from gatekeeper.policy.rule import failed
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.pings import Held, Ping
from gatekeeper.ports.records import ReceiptRecord
from gatekeeper.tlog.entry import DecisionEntry, RolePeople, encode_entry, parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.person import Pseudonym
from gatekeeper.verify.dsse import envelope_json, pae
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.receipt import parse_receipt_key, verify_decision_statement

from .candidate import PolicyGap, candidate_of, own_viewer, stranded
from .explain import row_json
from .gather import gather, nothing_gathered
from .parts import Parts
from .people import pseudonym_of, pseudonym_of_account
from .proven import demand_in_log

MAX_DRAFT: Final = 512 * 1024


class BrokenAllow(Exception):
    """A stored Allow whose receipt does not verify: somebody wrote the row who is not the gatekeeper. An alarm."""


@dataclass(frozen=True)
class Judged:
    """A decision with what it was made from."""

    case: Case
    decision: Decision


async def judge(parts: Parts, ping: Ping) -> Judged:
    """Gather and decide once, with one policy and one evaluation time. Raises `PolicyGap`."""
    policy = parts.policy.current()
    candidate = candidate_of(ping, policy)
    evidence = await gather(parts, candidate, policy, own_viewer(ping))
    case = Case(candidate=candidate, evidence=evidence, policy=policy, at=parts.now())
    return Judged(case, decide(case))


def judge_stranded(parts: Parts, ping: Ping, gap: PolicyGap) -> Judged:
    """The denial of a ping that the policy in force does not know: there is no rule that could say yes."""
    case = Case(candidate=stranded(ping, gap), evidence=nothing_gathered(), policy=gap.policy, at=parts.now())
    row = failed("policy", "policy-empty", expected="rules for this place", actual=gap.detail, need="reviewed configuration, then a new ping")
    return Judged(case, conclude((row,), case.at))


def with_lock_taken(judged: Judged, held: Held, viewer: Viewer) -> Judged:
    """The same decision with one more row: another ping holds the lock. Which one is told only to a Viewer who may know of it."""
    known = viewer.may_read(held.label)
    row = failed(
        "environment.lock",
        "environment-busy" if known else "hold-active",
        expected="environment and component free",
        actual=f"held by ping {held.ping_id} since {held.since:%H:%M:%S} UTC" if known else "on hold",
        need="wait: the ping goes on by itself when the other ends" if known else "wait",
    )
    return Judged(judged.case, conclude((*judged.decision.rules, row), judged.case.at))


async def draft_decision(parts: Parts, ping: Ping, judged: Judged, *, fence: int | None, next_at: datetime | None = None) -> Ping:
    """Sign, and keep the draft of the entry in the ping's row. `fence` is the lock's token for an Allow, else None; `next_at` is for one that waits.

    Raises `PortError`; the ping can then be tried again.
    """
    decision, case = judged.decision, judged.case
    policy = case.policy
    not_after = later(case.at, seconds=parts.allow_s) if decision.verdict is Verdict.ALLOW else None
    items = evidence_items(case.evidence)
    payload: bytes | None = None
    envelope: dict[str, Json] | None = None
    if decision.verdict is not Verdict.INDETERMINATE:
        payload = encode_decision_statement(_statement(case.candidate, policy, decision, items, not_after))
        envelope = envelope_json(IN_TOTO_PAYLOAD, payload, [("", await _sign(parts, pae(IN_TOTO_PAYLOAD, payload)))])
    entry_id = parts.new_id()
    evidence = tuple(sorted({item.digest for item in items if item.digest is not None}))
    entry = encode_entry(
        DecisionEntry(
            entry_id=entry_id,
            origin=parts.origin,
            at=parts.now(),
            config=policy.commit,
            ping_id=ping.id,
            landing=None,
            purpose=case.candidate.purpose,
            mode=case.candidate.mode,
            requester=await pseudonym_of_account(parts, policy, ping.new.caller),
            on_behalf_of=None if ping.new.on_behalf_of is None else await pseudonym_of_account(parts, policy, ping.new.on_behalf_of),
            people=await _people(parts, case),
            environment=case.candidate.environment,
            component=case.candidate.component,
            artifact=case.candidate.artifact,
            candidate_config=case.candidate.config,
            target=case.candidate.targets,
            subjects=(case.candidate.artifact,),
            verdict=decision.verdict,
            reasons=decision.reasons,
            policy=policy.digest,
            trusted_root=policy.trusted_root,
            evidence=evidence,
            statement=None if payload is None else digest_of(payload),
            not_after=not_after,
            supersedes=None,
        )
    )
    drafted = replace(
        ping,
        entry_id=entry_id,
        verdict=decision.verdict,
        reasons=decision.reasons,
        mode=case.candidate.mode,
        rules=tuple(row_json(row) for row in decision.rules),
        policy=policy.digest,
        policy_commit=policy.commit,
        evaluated_at=case.at,
        not_after=not_after,
        fence=fence,
        next_at=next_at,
        draft=encode_canonical({"entry": base64.b64encode(entry).decode(), "statement": envelope, "evidence": list(evidence)}),
    )
    return await parts.pings.move(ping, drafted)


async def log_decision(parts: Parts, ping: Ping) -> Ping:
    """Append the decision that the ping's draft holds and take the state it gives; again after a crash, with the same result."""
    if ping.draft is None or ping.entry_id is None:
        raise ValueError("the ping has no draft")
    draft = Fields(parse_object(ping.draft, max_bytes=MAX_DRAFT))
    entry = base64.b64decode(draft.text("entry", max_length=MAX_DRAFT))
    appended = await parts.log.append(entry, entry_id=ping.entry_id, kind="decision")
    now = parts.clock()
    logged = replace(ping, draft=None, log_index=appended.index, logged_at=now, logged_reasons=ping.reasons)
    if ping.verdict is not Verdict.ALLOW:
        return await settle(parts, ping, logged)
    statement = draft.raw("statement")
    if not isinstance(statement, dict):
        raise BrokenAllow("the draft of an Allow has no statement")
    evidence = tuple(Digest(text) for text in draft.texts("evidence"))
    receipt = encode_receipt(statement=statement, entry=entry, index=appended.index, origin=parts.origin, evidence=evidence)
    await parts.deployments.add_receipt(
        ReceiptRecord(
            id=receipt_id(receipt),
            ping_id=ping.id,
            environment=ping.new.environment,
            component=ping.new.component,
            receipt=receipt,
            index=appended.index,
            statement=digest_of(base64.b64decode(Fields(statement).text("payload", max_length=MAX_DRAFT))),
            created_at=now,
            label=ping.new.label,
        )
    )
    allowed = replace(logged, state=State.ALLOWED, receipt=receipt_id(receipt), next_at=None)
    if ping.mode is Mode.SHADOW:
        allowed = replace(allowed, state=State.SHADOW_ALLOWED, detail="shadow: nothing was leased, nothing was deployed")
    return await parts.pings.move(ping, allowed, [state_event(allowed)])


async def settle(parts: Parts, old: Ping, new: Ping) -> Ping:
    """Give a ping that was not allowed its state: denied where a reason ends it, else waiting, to be looked at again."""
    decision = Decision(new.verdict or Verdict.DENY, new.reasons, (), parts.now())
    if decision.verdict is Verdict.INDETERMINATE:
        state = State.INDETERMINATE
    elif ends_ping(decision):
        state = State.DENIED
    else:
        state = State.PENDING
    settled = replace(new, state=state, fence=None, next_at=None if state is State.DENIED else new.next_at)
    # One line of history for each change; a sweep that finds the same again is silent.
    said = (old.state, old.reasons) if old.draft is None else None
    return await parts.pings.move(old, settled, [] if said == (state, settled.reasons) else [state_event(settled)])


async def recall_allow(parts: Parts, ping: Ping) -> LoggedAllow:
    """The logged Allow of a ping in a state that holds the lock. Raises `BrokenAllow`, and `PortError` where it cannot be checked now.

    The row is only a pointer. Signature, entry and the entry's place in the log are verified again: whoever can write rows but has no receipt
    key, or holds a signed Allow that was never logged, or that of another ping, gets no lease out of this code.
    """
    record = None if ping.receipt is None else await parts.deployments.receipt(ping.receipt, own_viewer(ping))
    if ping.receipt is None or record is None or ping.fence is None or receipt_id(record.receipt) != ping.receipt:
        raise BrokenAllow("the ping names no stored receipt")
    try:
        receipt = parse_receipt(record.receipt)
        checked = verify_decision_statement(receipt.statement, [parse_receipt_key(pem) for pem in parts.receipt_keys])
        if isinstance(checked, Refusal):
            raise BrokenAllow(checked.detail)
        terms = _terms(parts, ping, ping.fence, record.receipt, receipt, checked)
        await demand_in_log(parts, receipt.entry, receipt.index)
    except (MalformedJson, FieldError, Malformed, TlogError) as error:
        raise BrokenAllow(f"the receipt does not hold: {error}") from error
    return make_logged_allow(terms)


def _terms(
    parts: Parts, ping: Ping, fence: int, data: bytes, receipt: UntrustedReceipt, checked: Verified[DecisionStatement]
) -> AllowTerms:
    statement, entry = checked.value, parse_entry(receipt.entry)
    named = (statement.instance, statement.environment, statement.component, statement.subject, statement.candidate_config, statement.verdict)
    if named != (parts.instance, ping.new.environment, ping.new.component, ping.new.artifact, ping.new.config, Verdict.ALLOW):
        raise BrokenAllow("the receipt is about something else than the ping")
    if not isinstance(entry, DecisionEntry) or (entry.ping_id, entry.statement) != (ping.id, checked.digest):
        raise BrokenAllow("the receipt's entry is that of another ping or decision")
    if statement.not_after is None or len(statement.targets) != 1 or (receipt.origin, receipt.index) != (parts.origin, ping.log_index):
        raise BrokenAllow("the receipt is not for one target and this log")
    if statement.mode is Mode.SHADOW:
        raise BrokenAllow("a decision in mode shadow is never acted upon")
    return AllowTerms(
        ping_id=ping.id,
        environment=statement.environment,
        component=statement.component,
        target=statement.targets[0],
        artifact=statement.subject,
        config=statement.candidate_config,
        receipt_id=receipt_id(data),
        receipt=data,
        index=receipt.index,
        not_after=statement.not_after,
        fence=fence,
        mode=statement.mode,
        kept_at_target=any((item.kind, item.state) == ("adopted", "present") for item in statement.evidence),
    )


def state_event(ping: Ping) -> tuple[str, Mapping[str, JsonValue]]:
    """The `state` line of a ping's history."""
    return ("end" if ping.state.ended else "state", {"state": ping.state.value, "reasons": list(ping.reasons), "detail": ping.detail})


async def _sign(parts: Parts, message: bytes) -> bytes:
    try:
        return await parts.decide_vault.sign(message)
    except PortError as error:
        raise Unavailable("vault-unavailable", error.detail) from None


def _statement(
    candidate: Candidate, policy: Policy, decision: Decision, items: tuple[EvidenceItem, ...], not_after: Moment | None
) -> DecisionStatement:
    return DecisionStatement(
        instance=candidate.instance,
        environment=candidate.environment,
        component=candidate.component,
        subject=candidate.artifact,
        policy=policy.digest,
        trusted_root=policy.trusted_root,
        candidate_config=candidate.config,
        verdict=decision.verdict,
        reasons=decision.reasons,
        mode=candidate.mode,
        purpose=candidate.purpose,
        targets=candidate.targets,
        evidence=items,
        evaluated_at=decision.at,
        not_after=not_after,
    )


async def _people(parts: Parts, case: Case) -> RolePeople:
    uploader: tuple[Pseudonym, ...] = ()
    if isinstance(case.evidence.uploader, Present):
        uploader = (await pseudonym_of_account(parts, case.policy, case.evidence.uploader.value),)
    voters: set[Pseudonym] = set()
    if isinstance(case.evidence.votes, Present):
        for checked in case.evidence.votes.value:
            person = None if isinstance(checked, Refusal) else case.policy.people.get(checked.value.voter)
            if person is not None:
                voters.add(await pseudonym_of(parts, person.issuer, person.subject))
    # Embedded review has no owner apart from who pushed.
    return RolePeople(owner=uploader, uploader=uploader, voter=tuple(sorted(voters)))
