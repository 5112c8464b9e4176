"""What a doorkeeper asks of a frame before it believes it: log format, section 3, in its order. Pure: bytes and values in, an answer out.

1. The receipt is there and is the one that the credential names; its statement is signed by a receipt key that is pinned, or that followed one
   that is (`keys`), and is in force today (`bad-signature`); its entry is that statement's, and stands in the pinned log: origin, log signature,
   witness quorum, inclusion (`receipt-missing`).
2. The checkpoint extends the one remembered (`log-fork`; a proof from another size, or a smaller checkpoint, is `Stale`). Where the log has gone on
   to its next origin, the frame shows the step (`origins`); a receipt of an origin that was left is `origin-closed`.
3. An Allow in mode warn or enforce, for this instance, environment, component and target (`receipt-other-target`), before its `not_after`
   (`allow-expired`), with an index above the last one accepted for the component (`receipt-replayed`), not sealed (`sealed-not-allowed`).
4. Then, and only then, are the artifact's bytes read: `check_manifest` and `check_config`, and the environment's configuration, whose digest
   stands among the decision's evidence: `check_configuration` (`digest-mismatch`).

Not checked here: whether the decision was right. That is in the log, for everybody to replay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gatekeeper.model.decision import Mode, Verdict
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.moment import Moment
from gatekeeper.model.receipt import parse_receipt, receipt_id
from gatekeeper.model.statement import DecisionStatement
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.document import Configuration
from gatekeeper.policy.load import PolicyError, parse_configuration
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint, open_checkpoint
from gatekeeper.tlog.consistency import parse_growth, verify_growth
from gatekeeper.tlog.errors import ProofMismatch, TlogError
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.origins import may_follow
from gatekeeper.tlog.proof import VerifiedInclusion
from gatekeeper.verify.inclusion import check_inclusion
from gatekeeper.verify.receipt import verify_decision_statement

from .artifact import Contents, Run
from .keys import Believed, believe, follow
from .origins import Fork, Standing, cross, is_left, standing
from .state import ClosedOrigin, Memory
from .target import Pinned


@dataclass(frozen=True)
class Offer:
    """What stands first in a frame. None: the part is not there."""

    receipt: bytes | None
    proof: bytes | None
    consistency: bytes | None
    opening: bool
    keys: bytes | None = None
    origins: bytes | None = None


@dataclass(frozen=True)
class Behind:
    """The proof does not start at the size we remember, which is `size`; nor, where `origin` is given, at the origin."""

    size: int
    origin: str | None = None


@dataclass(frozen=True)
class Acceptable:
    """Everything about the decision holds, here and now; `believed` are the keys that it holds under."""

    statement: DecisionStatement
    receipt: Digest
    index: int
    checkpoint: VerifiedCheckpoint
    believed: Believed
    policy: LogPolicy
    """of the origin that the checkpoint is of"""
    left: tuple[ClosedOrigin, ...] = ()
    """origins that are left by accepting it"""


Verdicts: TypeAlias = Acceptable | Behind | Refusal


def check_offer(offer: Offer, *, named: Digest, pinned: Pinned, memory: Memory, at: Moment) -> Verdicts:
    """Steps 1 to 3. `named` is the receipt that the credential names. Raises ValueError for bytes that are no receipt or proof at all."""
    if offer.receipt is None or offer.proof is None or offer.consistency is None:
        return Refusal("receipt-missing", "receipt, proof and consistency must stand first in the frame")
    if receipt_id(offer.receipt) != named:
        return Refusal("receipt-missing", "the receipt is not the one that the credential names")
    receipt = parse_receipt(offer.receipt)
    believed = _check_keys(offer.keys, offer.consistency, believe(pinned, memory, at), at)
    if isinstance(believed, Refusal):
        return believed
    pinned = believed.pinned
    # By our own clock and not by the receipt's date: a stolen key could write any date.
    statement = verify_decision_statement(receipt.statement, pinned.receipt_keys_at(at))
    if isinstance(statement, Refusal):
        return Refusal("bad-signature", statement.detail)
    here = _follow(receipt.origin, offer.origins, offer.consistency, pinned, memory, at)
    if not isinstance(here, Standing):
        return here
    inclusion = check_inclusion(receipt, offer.proof, statement, here.policy)
    if isinstance(inclusion, Refusal):
        return inclusion
    grown = _check_growth(offer.consistency, inclusion, here, crossed=offer.origins is not None)
    if grown is not None:
        return grown
    acceptable = Acceptable(statement.value, named, inclusion.index, inclusion.checkpoint, believed, here.policy, here.left)
    return _check_decision(acceptable, pinned, memory, at, sealed=offer.opening) or acceptable


def check_expiry(statement: DecisionStatement, at: Moment) -> Refusal | None:
    """Whether the Allow still holds; asked again just before acting, for a large layer takes its time."""
    if statement.not_after is None or at >= statement.not_after:
        return Refusal("allow-expired", "the Allow's not_after has passed")
    return None


def check_manifest(manifest: bytes, statement: DecisionStatement) -> Refusal | None:
    """Step 4: the manifest's bytes are the artifact that was decided on."""
    if digest_of(manifest) != statement.subject:
        return Refusal("digest-mismatch", "the manifest is not the artifact that was decided on")
    return None


def check_config(config: bytes, contents: Contents, layer: Digest, layer_size: int) -> Refusal | None:
    """Step 4: config and layer are those that the manifest names; the layer's bytes are hashed while they are read."""
    if (digest_of(config), len(config)) != (contents.config.digest, contents.config.size):
        return Refusal("digest-mismatch", "the config is not the one that the manifest names")
    if (layer, layer_size) != (contents.layer.digest, contents.layer.size):
        return Refusal("digest-mismatch", "the layer is not the one that the manifest names")
    return None


def check_configuration(data: bytes, statement: DecisionStatement) -> Configuration | Refusal:
    """Step 4: what is installed beside the artifact is the file that was decided on; read from these very bytes."""
    named = [item.digest for item in statement.evidence if item.kind == "configuration"]
    if named != [digest_of(data)]:
        return Refusal("digest-mismatch", "the configuration is not the one that was decided on")
    try:
        return parse_configuration(data, commit=statement.candidate_config, file="configuration")
    except PolicyError as error:
        return Refusal("config-invalid", str(error))


def check_run(run: Run, statement: DecisionStatement) -> Refusal | None:
    """Step 4: the artifact is of the component that was decided on."""
    if run.component != statement.component:
        return Refusal("receipt-other-target", "the artifact is of another component")
    return None


def _check_keys(keys: bytes | None, consistency: bytes, believed: Believed, at: Moment) -> Believed | Refusal:
    return believed if keys is None else follow(believed, keys, parse_growth(consistency).checkpoint, at)


def _follow(
    origin: str, origins: bytes | None, consistency: bytes, pinned: Pinned, memory: Memory, at: Moment
) -> Standing | Behind | Refusal:
    """The origin that the frame's receipt is of, if it is the one followed here or follows it."""
    here = standing(pinned, memory, at)
    if is_left(memory, here, origin):
        return Refusal("origin-closed", f"{origin} is closed here: {here.origin} follows it")
    if origins is not None:
        return cross(here, origins)
    if here.known is None:
        return here
    known, note = here.known
    if may_follow(here.origin, origin):
        return Behind(known.size, here.origin)
    if origin != here.origin and origin == pinned.log_policy.log.name:
        sent = parse_growth(consistency).checkpoint
        return Fork("log-fork", "another origin than the one remembered: this needs a person and new files", (note, sent))
    return here


def _check_growth(consistency: bytes, inclusion: VerifiedInclusion, here: Standing, *, crossed: bool) -> Behind | Refusal | None:
    growth = parse_growth(consistency)
    known, known_note = (None, None) if here.known is None else here.known
    try:
        grown = open_checkpoint(growth.checkpoint, here.policy.log, *here.policy.also)
    except TlogError as error:
        return Refusal("receipt-missing", f"the consistency proof leads to no checkpoint of the log: {error}")
    if grown.checkpoint != inclusion.checkpoint.checkpoint:
        return Refusal("receipt-missing", "proof and consistency lead to two checkpoints")
    notes = (growth.checkpoint,) if known_note is None else (known_note, growth.checkpoint)
    if crossed:
        # The step from what is remembered was the crossing's, and it ended at this very checkpoint.
        if known != grown.checkpoint or growth.old != 0:
            return Refusal("receipt-missing", "the crossing leads to another checkpoint than the receipt's proof")
        return None
    size = 0 if known is None else known.size
    if growth.old != size or grown.size < size:
        return Behind(size)
    try:
        verify_growth(known, growth, grown)
    except ProofMismatch as error:
        return Fork("log-fork", f"the checkpoint does not extend the one remembered: {error}", notes)
    return None


def check_meant_here(statement: DecisionStatement, pinned: Pinned) -> Refusal | None:
    """The first of step 3: an Allow in mode warn or enforce, for this instance, environment, component and target."""
    target = pinned.target
    if statement.verdict is not Verdict.ALLOW or statement.mode not in (Mode.WARN, Mode.ENFORCE):
        return Refusal("receipt-other-target", "the decision is no Allow in mode warn or enforce")
    if (statement.instance, statement.environment) != (target.instance, target.environment) or target.name not in statement.targets:
        return Refusal("receipt-other-target", "the Allow is for another target or environment")
    if target.component(statement.component) is None:
        return Refusal("receipt-other-target", "the Allow is for a component that does not run here")
    return None


def _check_decision(acceptable: Acceptable, pinned: Pinned, memory: Memory, at: Moment, *, sealed: bool) -> Refusal | None:
    statement = acceptable.statement
    elsewhere = check_meant_here(statement, pinned)
    if elsewhere is not None:
        return elsewhere
    expired = check_expiry(statement, at)
    if expired is not None:
        return expired
    last = memory.component(statement.component)
    # An index of an origin that was left says nothing of this one's; its receipts are refused before.
    if last is not None and memory.origin_of(last) in (None, acceptable.checkpoint.origin) and acceptable.index <= last.index:
        return Refusal("receipt-replayed", "its log index is not above the last one accepted for this component")
    if sealed:
        return Refusal("sealed-not-allowed", "this target takes no sealed decision")
    return None
