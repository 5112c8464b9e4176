"""The rollback bundle as the target believes it: every member's receipt and proof are checked as those of a frame are.

Pure: bytes and values in, an answer out. What differs from a frame's own receipt: a member's `not_after` has passed long ago, and its index lies
below the last one accepted. When the bundle arrives, every proof must lead to the checkpoint that the frame was accepted under, so a member of a
private tree is a fork as its deploy would have been. Read again for an override, the proofs are checked once more against the pinned log, under the
origin that was followed when the bundle came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gatekeeper.model.digest import Digest
from gatekeeper.model.moment import Moment
from gatekeeper.model.receipt import parse_receipt, receipt_id
from gatekeeper.model.verified import Refusal
from gatekeeper.tlog.checkpoint import Checkpoint
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.verify.inclusion import check_inclusion
from gatekeeper.verify.receipt import verify_decision_statement
from gatekeeper.verify.rollback import BundleMember, verify_rollback_bundle

from .checks import Acceptable, check_meant_here
from .origins import policies
from .state import Memory
from .target import Pinned


@dataclass(frozen=True)
class Member:
    """A release that may be brought back here: its artifact, and the receipt under which it was deployed."""

    artifact: Digest
    receipt: Digest


@dataclass(frozen=True)
class Bundle:
    """A bundle that holds here. `reported`: override orders that the log has."""

    component: str
    members: tuple[Member, ...]
    reported: tuple[Digest, ...]

    def holds(self, artifact: Digest) -> bool:
        """Whether the artifact may be brought back."""
        return any(member.artifact == artifact for member in self.members)


def check_bundle(data: bytes, component: str, pinned: Pinned, memory: Memory) -> Bundle | Refusal:
    """Whether a bundle is the gatekeeper's, for this component here, with nothing in it but logged Allows. Raises ValueError for other bytes.

    It was accepted when it arrived, so keys that were replaced since, and origins that were left, are good for it.
    """
    return _check(data, component, pinned, policies(pinned, memory), None, None)


def check_arriving(data: bytes, found: Acceptable, at: Moment) -> Bundle | Refusal:
    """As `check_bundle`, for the bundle of a frame: its first member is the frame's receipt, and all stand under the frame's checkpoint."""
    believed = {found.checkpoint.origin: found.policy}
    bundle = _check(data, found.statement.component, found.believed.pinned, believed, found.checkpoint.checkpoint, at)
    if isinstance(bundle, Refusal):
        return bundle
    if not bundle.members or bundle.members[0].receipt != found.receipt:
        return Refusal("receipt-other-target", "the rollback bundle was made for another deploy")
    return bundle


def _check(
    data: bytes, component: str, pinned: Pinned, believed: Mapping[str, LogPolicy], under: Checkpoint | None, at: Moment | None
) -> Bundle | Refusal:
    verified = verify_rollback_bundle(data, pinned.receipt_keys_at(at))
    if isinstance(verified, Refusal):
        return verified
    bundle, target = verified.value, pinned.target
    named = (bundle.instance, bundle.environment, bundle.component, bundle.target)
    if named != (target.instance, target.environment, component, target.name):
        return Refusal("receipt-other-target", "the rollback bundle is for another target, environment or component")
    members = []
    for raw in bundle.members:
        member = _check_member(raw, component, pinned, believed, under)
        if isinstance(member, Refusal):
            return Refusal(member.reason, f"rollback bundle: {member.detail}")
        members.append(member)
    return Bundle(component, tuple(members), bundle.reported)


def _check_member(
    raw: BundleMember, component: str, pinned: Pinned, believed: Mapping[str, LogPolicy], under: Checkpoint | None
) -> Member | Refusal:
    receipt = parse_receipt(raw.receipt)
    try:
        # A receipt of long ago stays what it was: its key is the one of its date, which stands in the entry, which the log holds.
        keys = pinned.receipt_keys_at(parse_entry(receipt.entry).at)
    except TlogError as error:
        return Refusal("receipt-missing", f"the entry of a member is no entry: {error}")
    statement = verify_decision_statement(receipt.statement, keys)
    if isinstance(statement, Refusal):
        return statement
    if receipt.origin not in believed:
        return Refusal("receipt-missing", f"a member is of {receipt.origin}, which is not the log's origin here")
    inclusion = check_inclusion(receipt, raw.proof, statement, believed[receipt.origin])
    if isinstance(inclusion, Refusal):
        return inclusion
    if under is not None and inclusion.checkpoint.checkpoint != under:
        return Refusal("receipt-missing", "a proof leads to another checkpoint than the frame's")
    elsewhere = check_meant_here(statement.value, pinned)
    if elsewhere is not None:
        return elsewhere
    if statement.value.component != component:
        return Refusal("receipt-other-target", "a member is of another component")
    return Member(statement.value.subject, receipt_id(raw.receipt))
