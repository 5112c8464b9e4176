"""The signer that a policy names for one builder: what statements of that builder are verified with, and nothing else."""

from __future__ import annotations

from gatekeeper.policy.document import Policy
from gatekeeper.verify.signers import NOBODY, SignerRule, parse_signer


def signer_of(policy: Policy, builder_id: str) -> SignerRule:
    """The rule for a builder's statements; a builder that the policy does not know has no signer. Raises `MalformedKey`."""
    builder = policy.builders.get(builder_id)
    return NOBODY if builder is None else parse_signer(builder.id, builder.signer)
