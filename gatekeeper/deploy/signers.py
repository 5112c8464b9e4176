"""The signer that a policy names for one builder: what statements of that builder are verified with, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import moment
from gatekeeper.model.verified import Checked, Refusal
from gatekeeper.policy.document import Policy
from gatekeeper.policy.meaning import meaning_of
from gatekeeper.ports.records import ArtifactRecord, StatementRecord
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.signers import NOBODY, SignerRule, parse_signer
from gatekeeper.verify.submission import BuilderFact, verify_submission

from .facts import Facts, Question, Trust


def signer_of(policy: Policy, builder_id: str) -> SignerRule:
    """The rule for a builder's statements; a builder that the policy does not know has no signer. Raises `MalformedKey`."""
    builder = policy.builders.get(builder_id)
    return NOBODY if builder is None else parse_signer(builder.id, builder.signer)


def believe(facts: Facts, policy: Policy, record: ArtifactRecord, rows: Sequence[StatementRecord]) -> list[Checked[BuilderFact]]:
    """What stored statements about an artifact say, as its builder's; for answers to people and for uploads, never for a decision.

    Kept like a decision's facts, since whoever may read may ask again and again. Nothing is said of revocation. For `Facts.in_thread`.
    """
    rule = signer_of(policy, record.builder)
    trust = Trust(policy.trusted_root, meaning_of(policy.builders.get(record.builder)), policy.revocations.epoch)

    def read(row: StatementRecord) -> Checked[BuilderFact]:
        try:
            return verify_submission(row.bundle, rule, received_at=moment(row.received_at), artifact=record.artifact)
        except Malformed as error:
            return Refusal("bad-signature", f"the stored statement does not parse: {error}")

    def ask(row: StatementRecord) -> Checked[BuilderFact]:
        question = Question(digest_of(row.bundle), "submission", (record.artifact,), moment(row.received_at), trust)
        if question.bundle != row.digest:
            return Refusal("bad-signature", "the stored bytes are not the ones that were received")
        return facts.ask(question, lambda: read(row), size=len(row.bundle))

    return [ask(row) for row in rows]
