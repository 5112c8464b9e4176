"""The rollback bundle that travels with each deploy: what two people may bring back at the target while we, the log or the vault are away.

Its members are the deploy's own release and what a rollback could name there: successfully deployed, with a receipt of ours that verifies. A
release that never became healthy the target does not bring back, whatever stands here; nor does it take more from us than it can check itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from gatekeeper.model.allow import AllowTerms
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.decision import Mode, Verdict
from gatekeeper.model.digest import Digest
from gatekeeper.model.fields import FieldError
from gatekeeper.model.label import Viewer
from gatekeeper.model.ping import State
from gatekeeper.model.receipt import parse_receipt
from gatekeeper.model.strictjson import MalformedJson
from gatekeeper.model.uris import ROLLBACK_BUNDLE
from gatekeeper.model.verified import Refusal
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.log import Inclusion
from gatekeeper.ports.pings import Ping
from gatekeeper.verify.dsse import envelope_json, pae
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.receipt import ReceiptKey, parse_receipt_key, verify_decision_statement
from gatekeeper.verify.rollback import MAX_MEMBER_BYTES, MAX_MEMBERS, BundleMember, RollbackBundle, encode_rollback_bundle

from .candidate import own_viewer
from .parts import Parts

_log = logging.getLogger(__name__)

_PROOF_BYTES = 4096
"""about what a proof takes; only the bound on all members together is counted with it"""


@dataclass(frozen=True)
class PastRelease:
    """A member of the rollback set: the bytes of its receipt, and where its decision stands in the log."""

    receipt: bytes
    index: int


async def rollback_members(parts: Parts, terms: AllowTerms, ping: Ping) -> tuple[PastRelease, ...]:
    """What was deployed there before and may be brought back, newest first, each artifact once; bounded in number and bytes. Raises `PortError`."""
    viewer = own_viewer(ping)
    keys = [parse_receipt_key(pem) for pem in parts.receipt_keys]
    found: list[PastRelease] = []
    seen, room = {terms.artifact}, MAX_MEMBER_BYTES - len(terms.receipt) - _PROOF_BYTES
    for row in await parts.deployments.history(terms.environment, terms.component, viewer, limit=200):
        if row.state != State.DEPLOYED or row.artifact in seen or row.receipt is None:
            continue
        seen.add(row.artifact)
        member = await _member(parts, terms, row.receipt, row.artifact, viewer, keys)
        room -= 0 if member is None else len(member.receipt) + _PROOF_BYTES
        if room < 0:
            break
        if member is not None:
            found.append(member)
        if len(found) == MAX_MEMBERS - 1:
            break
    return tuple(found)


async def rollback_bundle(parts: Parts, terms: AllowTerms, members: Sequence[PastRelease], inclusion: Inclusion) -> bytes:
    """The signed bundle; `inclusion` proves the deploy's own entry and those of `members`. Raises `PortError`."""
    proven = zip((terms.receipt, *(member.receipt for member in members)), (inclusion.proof, *inclusion.also), strict=True)
    bundle = RollbackBundle(
        instance=parts.instance,
        environment=terms.environment,
        component=terms.component,
        target=terms.target,
        members=tuple(BundleMember(receipt, proof) for receipt, proof in proven),
        reported=tuple(await parts.observations.reported(terms.target, terms.component)),
    )
    payload = encode_rollback_bundle(bundle)
    try:
        signature = await parts.decide_vault.sign(pae(ROLLBACK_BUNDLE, payload))
    except PortError as error:
        raise Unavailable("vault-unavailable", error.detail) from None
    return encode_canonical(envelope_json(ROLLBACK_BUNDLE, payload, [("", signature)]))


async def _member(
    parts: Parts, terms: AllowTerms, receipt_id: Digest, artifact: Digest, viewer: Viewer, keys: Sequence[ReceiptKey]
) -> PastRelease | None:
    record = await parts.deployments.receipt(receipt_id, viewer)
    if record is None or await parts.statements.artifact(artifact, viewer) is None:
        return None
    try:
        receipt = parse_receipt(record.receipt)
        checked = verify_decision_statement(receipt.statement, keys)
    except (MalformedJson, FieldError, Malformed) as error:
        _log.error("ALARM: the stored receipt %s does not parse: %s", receipt_id, error)
        return None
    if isinstance(checked, Refusal):
        # Under a key that is no longer in force, or not what we wrote: the target would refuse the whole frame for it.
        _log.warning("receipt %s is left out of the rollback bundle: %s", receipt_id, checked.detail)
        return None
    statement = checked.value
    allowed = statement.verdict is Verdict.ALLOW and statement.mode in (Mode.WARN, Mode.ENFORCE)
    here = (statement.environment, statement.component, statement.subject) == (terms.environment, terms.component, artifact)
    if not (allowed and here and terms.target in statement.targets and receipt.origin == parts.origin):
        return None
    return PastRelease(record.receipt, receipt.index)
