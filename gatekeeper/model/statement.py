"""The decision statement: what the receipt key signs for an Allow or a Deny (`formats.md` 5).

A SLSA verification summary (`https://slsa.dev/spec/v1.0/verification_summary`) with one extension member, named by its URI. The bytes are
RFC 8785 and follow from the value alone, so that replay gives the same bytes, and a parsed statement encodes to what it was parsed from.
Two members are ours to choose: ``verifiedLevels`` claims no SLSA level, and ``inputAttestations`` are all evidence present by digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .canonical import Json, encode_canonical
from .decision import EvidenceItem, Mode, Purpose, Verdict
from .digest import Digest, digest_hex
from .fields import FieldError, Fields
from .moment import Moment, render_moment
from .strictjson import parse_object
from .uris import DECISION, STATEMENT_V1, VSA_V1, resource_uri, verifier_id

MAX_STATEMENT = 128 * 1024

_RESOURCE = re.compile(r"pingee://([^/]+)/([^/]+)/([^/]+)")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_PRESENT: Final = "present"
_STATES: Final = (_PRESENT, "absent", "unreadable")


@dataclass(frozen=True)
class DecisionStatement:
    """One decision, complete. Raises ValueError for one that cannot be: see `__post_init__`."""

    instance: str
    environment: str
    component: str
    subject: Digest
    """the artifact; for a configuration-only candidate the configuration's digest"""
    policy: Digest
    trusted_root: Digest
    candidate_config: str
    """commit of the reviewed configuration"""
    verdict: Verdict
    reasons: tuple[str, ...]
    mode: Mode
    purpose: Purpose
    targets: tuple[str, ...]
    evidence: tuple[EvidenceItem, ...]
    evaluated_at: Moment
    not_after: Moment | None
    """of an Allow: no lease and no apply after it"""

    def __post_init__(self) -> None:
        for name in (self.instance, self.environment, self.component):
            if _NAME.fullmatch(name) is None:
                raise ValueError("instance, environment and component are names")
        if self.verdict is Verdict.INDETERMINATE:
            raise ValueError("Indeterminate is an entry of the log alone, never a signed statement")
        if (self.verdict is Verdict.ALLOW) != (self.not_after is not None):
            raise ValueError("an Allow has not_after, a Deny has none")
        if self.not_after is not None and self.not_after <= self.evaluated_at:
            raise ValueError("not_after lies after the evaluation")
        if self.verdict is Verdict.DENY and not self.reasons:
            raise ValueError("a Deny has a reason")
        if not self.targets:
            raise ValueError("a decision is about at least one target")
        if any((item.state == _PRESENT) != (item.digest is not None) or item.state not in _STATES for item in self.evidence):
            raise ValueError("evidence that is present has a digest, other evidence has none")


def encode_decision_statement(statement: DecisionStatement) -> bytes:
    """The RFC 8785 bytes of the in-toto statement: the DSSE payload, and what the log's ``statement`` is the sha256 of."""
    allowed = statement.verdict is Verdict.ALLOW
    inputs = [item.digest for item in statement.evidence if item.digest is not None]
    return encode_canonical(
        {
            "_type": STATEMENT_V1,
            "subject": [{"digest": _sha256(statement.subject)}],
            "predicateType": VSA_V1,
            "predicate": {
                "verifier": {"id": verifier_id(statement.instance)},
                "timeVerified": render_moment(statement.evaluated_at),
                "resourceUri": resource_uri(statement.instance, statement.environment, statement.component),
                "policy": {"uri": f"{verifier_id(statement.instance)}/policy", "digest": _sha256(statement.policy)},
                "inputAttestations": [{"digest": _sha256(digest)} for digest in inputs],
                "verificationResult": "PASSED" if allowed else "FAILED",
                # The specification allows custom levels; SLSA's own are for who checks them. FAILED is its word for a failed check.
                "verifiedLevels": ["PINGEE_ALLOW" if allowed else "FAILED"],
                DECISION: _extension(statement),
            },
        }
    )


def parse_decision_statement(payload: bytes) -> DecisionStatement:
    """Parse bytes that `encode_decision_statement` made; raises `MalformedJson`, `FieldError` or ValueError for any others.

    What follows from other members is not read twice: the parsed value is encoded again, and must give the very bytes.
    """
    fields = Fields(parse_object(payload, max_bytes=MAX_STATEMENT))
    predicate = fields.nested("predicate")
    resource = _RESOURCE.fullmatch(predicate.text("resourceUri"))
    if resource is None:
        raise predicate.error("resourceUri", "must be pingee://<instance>/<environment>/<component>")
    subjects = [_read_sha256(subject) for subject in fields.objects("subject", max_items=1)]
    if not subjects:
        raise fields.error("subject", "names nothing")
    extension = predicate.nested(DECISION)
    statement = DecisionStatement(
        instance=resource[1],
        environment=resource[2],
        component=resource[3],
        subject=subjects[0],
        policy=_read_sha256(predicate.nested("policy")),
        trusted_root=extension.digest("trusted_root"),
        candidate_config=extension.commit("candidate_config"),
        verdict=Verdict(extension.choice("verdict", tuple(Verdict))),
        reasons=extension.texts("reasons", max_items=128),
        mode=Mode(extension.choice("mode", tuple(Mode))),
        purpose=Purpose(extension.choice("purpose", tuple(Purpose))),
        targets=extension.texts("targets"),
        evidence=tuple(_read_evidence(item) for item in extension.objects("evidence")),
        evaluated_at=extension.moment("evaluated_at"),
        not_after=extension.optional("not_after", extension.moment),
    )
    if encode_decision_statement(statement) != payload:
        raise FieldError("", "is not the canonical form of a decision statement")
    return statement


def _extension(statement: DecisionStatement) -> dict[str, Json]:
    return {
        "verdict": statement.verdict.value,
        "reasons": list(statement.reasons),
        "mode": statement.mode.value,
        "purpose": statement.purpose.value,
        "targets": list(statement.targets),
        "candidate_config": statement.candidate_config,
        "trusted_root": statement.trusted_root,
        "evidence": [{"kind": item.kind, "state": item.state, "digest": item.digest} for item in statement.evidence],
        "evaluated_at": render_moment(statement.evaluated_at),
        "not_after": None if statement.not_after is None else render_moment(statement.not_after),
    }


def _sha256(digest: Digest) -> dict[str, Json]:
    return {"sha256": digest_hex(digest)}


def _read_sha256(fields: Fields) -> Digest:
    return Digest("sha256:" + fields.nested("digest").text("sha256"))


def _read_evidence(fields: Fields) -> EvidenceItem:
    return EvidenceItem(kind=fields.text("kind"), state=fields.choice("state", _STATES), digest=fields.optional("digest", fields.digest))
