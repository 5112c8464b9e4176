"""SLSA verification summaries: somebody else's verdict about an artifact, believed from verifiers that are named, for the resource that is named.

`https://slsa.dev/spec/v1.0/verification_summary`. Signer and subject are checked before, by `attestation`; a summary of the right artifact for
another resource is another verdict.

| member | demanded |
|---|---|
| verifier.id | one of the given, exactly, else ``unknown-builder`` |
| resourceUri | the given, exactly, else ``provenance-project`` |
| verificationResult | PASSED, else ``stage-failed`` |
| verifiedLevels | holds each of the given, exactly: no level stands for another, else ``stage-missing`` |
| timeVerified | RFC 3339; the verifier's own word, compared with nothing |
| verifier.version, policy, inputAttestations, dependencyLevels, slsaVersion | optional (policy: required), not compared |

Any other member is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.uris import VSA_V1

from .checks import Checks, Name
from .statement import Statement

SUMMARY_CHECKS = (Name.PREDICATE, Name.VERIFIER, Name.RESOURCE, Name.RESULT, Name.LEVELS)
_MAX_URI = 2048
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})")
_PREDICATE = "provenance-predicate"


@dataclass(frozen=True)
class _Summary:
    verifier: str
    resource: str
    result: str
    levels: frozenset[str]


@dataclass(frozen=True)
class ExpectedSummary:
    """Whose verdict counts, about what, and what must have been verified."""

    verifiers: frozenset[str]
    resource_uri: str
    levels: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.verifiers or "" in self.verifiers or not self.resource_uri or "" in self.levels:
            raise ValueError("an empty expectation would expect nothing")

    def demand(self, statement: Statement, checks: Checks) -> None:
        """Check the predicate of a statement whose signature and subject hold; raises `Refused`."""
        if statement.predicate_type != VSA_V1:
            checks.refuse(Name.PREDICATE, f"the predicate type must be {VSA_V1}", reason=_PREDICATE)
        try:
            found = _read(statement.predicate)
        except FieldError as error:
            checks.refuse(Name.PREDICATE, f"predicate {error}", reason=_PREDICATE)
        checks.passed(Name.PREDICATE, VSA_V1)
        named = " or ".join(sorted(self.verifiers))
        checks.demand(
            found.verifier in self.verifiers, Name.VERIFIER, found.verifier, f"verified by {found.verifier}, not by {named}", reason="unknown-builder"
        )
        checks.demand(
            found.resource == self.resource_uri,
            Name.RESOURCE,
            found.resource,
            f"a verdict about {found.resource}, not about {self.resource_uri}",
            reason="provenance-project",
        )
        checks.demand(found.result == "PASSED", Name.RESULT, "PASSED", f"the verdict is {found.result}", reason="stage-failed")
        if not self.levels:
            checks.skipped(Name.LEVELS, "none was expected; it names " + (", ".join(sorted(found.levels)) or "none"))
            return
        missing = sorted(self.levels - found.levels)
        checks.demand(not missing, Name.LEVELS, ", ".join(sorted(self.levels)), f"not verified: {', '.join(missing)}", reason="stage-missing")


def _read(fields: Fields) -> _Summary:
    verifier, policy = fields.nested("verifier"), fields.nested("policy")
    summary = _Summary(
        verifier=verifier.text("id", max_length=_MAX_URI),
        resource=fields.text("resourceUri", max_length=_MAX_URI),
        result=fields.choice("verificationResult", ("PASSED", "FAILED")),
        levels=frozenset(fields.texts("verifiedLevels")),
    )
    if _TIME.fullmatch(fields.text("timeVerified")) is None:
        raise fields.error("timeVerified", "is no time")
    for place, names in ((verifier, ("version",)), (policy, ("uri", "digest")), (fields, ("inputAttestations", "dependencyLevels", "slsaVersion"))):
        for name in names:
            place.optional(name, place.raw)
        place.done()
    return summary
