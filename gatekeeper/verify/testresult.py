"""in-toto test-result v0.1: what one stage of a pipeline found.

`https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md`.

| member | demanded |
|---|---|
| subject | one, by sha256 alone: the artifact that the caller asks about, else ``digest-mismatch`` |
| result | PASSED, WARNED or FAILED; not PASSED beside failed tests |
| configuration | exactly one: name = the stage, digest = the plan's sha256 |
| configuration[0].annotations | optional; ``pingee.internal/receipt`` alone, a digest. Stage ``acceptance``: required |
| url | optional; https or http. Stage ``acceptance``: required |
| passedTests, warnedTests, failedTests | optional; names, at most `MAX_TESTS` each |

No other member is accepted. The predicate names no commit: whose commit was tested is what the signer's certificate says, and the policy
compares it with the artifact manifest's.
"""

from __future__ import annotations

from gatekeeper.model.digest import Digest
from gatekeeper.model.facts import TestResult, TestVerdict
from gatekeeper.model.fields import Fields
from gatekeeper.model.moment import Moment
from gatekeeper.model.uris import TEST_RESULT
from gatekeeper.model.verified import Checked

from .claims import Claim, refuse_legacy, verify_claim
from .signers import SignerRule
from .statement import read_sha256

MAX_TESTS = 10_000
ACCEPTANCE = "acceptance"
RECEIPT_ANNOTATION = "pingee.internal/receipt"


def verify_test_result(data: bytes, rule: SignerRule, *, received_at: Moment, artifact: Digest) -> Checked[TestResult]:
    """Verify the bundle bytes of a test result about `artifact`; raises `MalformedBundle` or `MalformedStatement`."""
    return verify_claim(data, rule, received_at=received_at, artifact=artifact, readers={TEST_RESULT: read_test_result})


def read_test_result(claim: Claim) -> TestResult:
    """Read the predicate of a statement v1 by the table above; raises `FieldError` or `Unbelievable`."""
    refuse_legacy(claim)
    fields = claim.statement.predicate
    stage, plan, receipt = _read_configuration(fields)
    result = TestResult(
        artifact=claim.artifact,
        stage=stage,
        plan=plan,
        verdict=TestVerdict(fields.choice("result", tuple(TestVerdict))),
        passed=_names(fields, "passedTests"),
        warned=_names(fields, "warnedTests"),
        failed=_names(fields, "failedTests"),
        url=fields.optional("url", lambda key: _read_url(fields, key)),
        receipt=receipt,
        signer=claim.signer,
    )
    fields.done()
    if result.verdict is TestVerdict.PASSED and result.failed:
        raise fields.error("result", "is PASSED beside failed tests")
    if stage == ACCEPTANCE and (result.url is None or receipt is None):
        raise fields.error("configuration", f"acceptance names what it ran against: url, and the annotation {RECEIPT_ANNOTATION}")
    return result


def _read_configuration(fields: Fields) -> tuple[str, Digest, Digest | None]:
    configurations = list(fields.objects("configuration"))
    if len(configurations) != 1:
        raise fields.error("configuration", "must be exactly one")
    one = configurations[0]
    stage, plan = one.name("name"), read_sha256(one.nested("digest"))
    receipt = one.optional("annotations", lambda key: _read_annotations(one.nested(key)))
    one.done()
    return stage, plan, receipt


def _read_annotations(fields: Fields) -> Digest:
    receipt = fields.digest(RECEIPT_ANNOTATION)
    fields.done()
    return receipt


def _names(fields: Fields, key: str) -> tuple[str, ...]:
    return fields.optional(key, lambda name: fields.texts(name, max_items=MAX_TESTS, max_length=1024)) or ()


def _read_url(fields: Fields, key: str) -> str:
    url = fields.text(key, max_length=2048)
    if not url.startswith(("https://", "http://")):
        raise fields.error(key, "must be an https or http URL")
    return url
