"""That a decision is in the log: what doorkeepers, and auditors with files alone, ask of a receipt and its proof (log format, section 3)."""

from __future__ import annotations

from gatekeeper.model.receipt import UntrustedReceipt
from gatekeeper.model.statement import DecisionStatement
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.kinds import DecisionEntry
from gatekeeper.tlog.kinds_sealed import SealedEntry
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.members import Abridged, abridge
from gatekeeper.tlog.proof import VerifiedInclusion, parse_proof, verify_proof


def check_inclusion(
    receipt: UntrustedReceipt, proof: bytes, statement: Verified[DecisionStatement], policy: LogPolicy
) -> VerifiedInclusion | Refusal:
    """The receipt's entry is that statement's, and stands in the policy's log under a checkpoint that satisfies the policy."""
    try:
        inclusion = verify_proof(parse_proof(proof), receipt.entry, policy)
        entry = parse_entry(receipt.entry)
    except TlogError as error:
        return Refusal("receipt-missing", f"no proof that satisfies the log policy: {error}")
    if isinstance(entry, SealedEntry):
        return Refusal("sealed-not-allowed", "this target takes no sealed decision")
    if not isinstance(entry, DecisionEntry):
        return Refusal("receipt-missing", "the entry is no decision")
    if (receipt.index, receipt.origin, entry.origin) != (inclusion.index, inclusion.checkpoint.origin, inclusion.checkpoint.origin):
        return Refusal("receipt-missing", "the receipt names another place in the log than its proof")
    if entry.statement != statement.digest or not _agree(entry, statement.value):
        return Refusal("receipt-missing", "the entry is that of another decision")
    return inclusion


def _agree(entry: DecisionEntry, statement: DecisionStatement) -> bool:
    # The statement's digest in the entry binds the two already; that they also say the same is held against whoever wrote the entry.
    targets = sorted(statement.targets)
    if isinstance(entry.target, Abridged):
        same_targets = entry.target in (_abridged(list(statement.targets)), _abridged(targets))
    else:
        same_targets = sorted(entry.target) == targets
    return same_targets and (
        entry.verdict,
        entry.mode,
        entry.purpose,
        entry.environment,
        entry.component,
        entry.artifact,
        entry.candidate_config,
        entry.not_after,
        entry.policy,
    ) == (
        statement.verdict,
        statement.mode,
        statement.purpose,
        statement.environment,
        statement.component,
        statement.subject,
        statement.candidate_config,
        statement.not_after,
        statement.policy,
    )


def _abridged(items: list[str]) -> Abridged:
    short = abridge(items)
    return Abridged(**short)  # type: ignore[arg-type]  # abridge writes exactly its members
