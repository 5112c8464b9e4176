"""Verification summaries, SBOM and VEX statements: attack matrix rows 16 and 50, each with its reason; presence by exact predicate type."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gatekeeper.model.moment import moment
from gatekeeper.model.uris import VSA_V1
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.attestation import Artifact, Pinned, verify_attestation
from gatekeeper.verify.checks import Name, Outcome
from gatekeeper.verify.managedkey import parse_managed_key
from gatekeeper.verify.summary import SUMMARY_CHECKS, ExpectedSummary
from tests.fakes.foreign_bundles import SHA256, pem, signed_statement

CYCLONEDX, OPENVEX = "https://cyclonedx.org/bom", "https://openvex.dev/ns/v0.2.0"
SPDX_V2, SPDX_V3 = "https://spdx.dev/Document/v2.3", "https://spdx.dev/Document/v3"

AT = moment(datetime(2026, 11, 21, 12, tzinfo=UTC))
KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = Pinned(parse_managed_key(pem(KEY)), None)
VERIFIER, RESOURCE = "https://verifier.example/release", "pkg:oci/hello?repository_url=registry.example"
GOOD = {
    "verifier": {"id": VERIFIER, "version": {"v": "1"}},
    "timeVerified": "2026-11-21T11:00:00Z",
    "resourceUri": RESOURCE,
    "policy": {"uri": "https://verifier.example/policy", "digest": {"sha256": "00" * 32}},
    "inputAttestations": [],
    "verificationResult": "PASSED",
    "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
    "dependencyLevels": {"SLSA_BUILD_LEVEL_3": 1},
    "slsaVersion": "1.0",
}
EXPECTED = ExpectedSummary(frozenset({VERIFIER}), RESOURCE, frozenset({"SLSA_BUILD_LEVEL_3"}))


def verify(predicate=GOOD, *, expected=EXPECTED, sha256=SHA256, kind=VSA_V1):
    data = signed_statement(KEY, predicateType=kind, predicate=predicate)
    return verify_attestation(data, SIGNER, Artifact({"sha256": sha256}), at=AT, demand=expected.demand, demanded=SUMMARY_CHECKS)


def failed(report):
    assert isinstance(report.result, Refusal)
    (check,) = [check for check in report.checks if check.outcome is Outcome.FAILED]
    assert set(SUMMARY_CHECKS) <= {check.name for check in report.checks}
    return check.name.value, report.result.reason


def test_a_summary_of_the_named_verifier_for_the_named_resource_is_verified():
    report = verify()
    assert isinstance(report.result, Verified)
    assert {check.name for check in report.checks if check.outcome is Outcome.PASSED} >= set(SUMMARY_CHECKS)


def test_where_no_level_is_expected_the_check_is_skipped_and_named():
    report = verify(expected=ExpectedSummary(frozenset({VERIFIER}), RESOURCE))
    assert isinstance(report.result, Verified)
    (check,) = [check for check in report.checks if check.name is Name.LEVELS]
    assert (check.outcome, check.detail) == (Outcome.SKIPPED, "none was expected; it names SLSA_BUILD_LEVEL_3")
    silent = verify(GOOD | {"verifiedLevels": []}, expected=ExpectedSummary(frozenset({VERIFIER}), RESOURCE))
    (check,) = [check for check in silent.checks if check.name is Name.LEVELS]
    assert (check.outcome, check.detail) == (Outcome.SKIPPED, "none was expected; it names none")


@pytest.mark.parametrize("verifier", [VERIFIER + "/", VERIFIER[:-1], VERIFIER.upper(), "https://evil.example", "https://verifier.ex\u0430mple/release", ""])
def test_row_50_a_summary_of_another_verifier_is_refused(verifier):
    wanted = ("verifier", "unknown-builder") if verifier else ("predicate", "provenance-predicate")
    assert failed(verify(GOOD | {"verifier": {"id": verifier}})) == wanted


def test_row_50_the_verifiers_own_word_under_another_key_is_refused():
    other = ec.generate_private_key(ec.SECP256R1())
    data = signed_statement(other, predicateType=VSA_V1, predicate=GOOD)
    report = verify_attestation(data, SIGNER, Artifact({"sha256": SHA256}), at=AT, demand=EXPECTED.demand, demanded=SUMMARY_CHECKS)
    assert failed(report) == ("signature", "bad-signature")


@pytest.mark.parametrize("resource", ["pkg:oci/other?repository_url=registry.example", RESOURCE + "&tag=v1", RESOURCE[:-1], RESOURCE.upper()])
def test_row_16_a_verdict_on_the_right_bytes_under_another_name_is_refused(resource):
    assert failed(verify(GOOD | {"resourceUri": resource})) == ("resource", "provenance-project")


def test_row_16_the_right_name_with_other_bytes_is_refused():
    assert failed(verify(sha256="cd" * 32)) == ("subject", "digest-mismatch")


def test_a_verdict_that_is_not_passed_is_refused():
    assert failed(verify(GOOD | {"verificationResult": "FAILED"})) == ("result", "stage-failed")


@pytest.mark.parametrize("levels", [[], ["SLSA_BUILD_LEVEL_2"], ["SLSA_BUILD_LEVEL_33"], ["slsa_build_level_3"]])
def test_no_level_stands_for_another(levels):
    assert failed(verify(GOOD | {"verifiedLevels": levels})) == ("levels", "stage-missing")


@pytest.mark.parametrize("kind", [VSA_V1 + "evil", "https://slsa.dev/verification_summary/v0.2", "https://slsa.dev/provenance/v1", CYCLONEDX])
def test_row_10_another_predicate_type_is_no_summary(kind):
    assert failed(verify(kind=kind)) == ("predicate", "provenance-predicate")


@pytest.mark.parametrize(
    "change",
    [
        {"verifier": {"id": VERIFIER, "name": "x"}},
        {"policy": {"uri": "x", "x": "y"}},
        {"policy": None},
        {"timeVerified": "yesterday"},
        {"verificationResult": "passed"},
        {"verifiedLevels": "SLSA_BUILD_LEVEL_3"},
        {"unheard": 1},
    ],
    ids=str,
)
def test_a_summary_of_another_form_is_refused(change):
    assert failed(verify(GOOD | change)) == ("predicate", "provenance-predicate")


@pytest.mark.parametrize("name", ["verifier", "timeVerified", "resourceUri", "policy", "verificationResult", "verifiedLevels"])
def test_what_is_compared_may_not_be_missing(name):
    assert failed(verify({key: value for key, value in GOOD.items() if key != name})) == ("predicate", "provenance-predicate")


@pytest.mark.parametrize("empty", [((), RESOURCE, ()), ({""}, RESOURCE, ()), ({VERIFIER}, "", ()), ({VERIFIER}, RESOURCE, {""})])
def test_an_empty_expectation_is_refused(empty):
    verifiers, resource, levels = empty
    with pytest.raises(ValueError, match="expect nothing"):
        ExpectedSummary(frozenset(verifiers), resource, frozenset(levels))


@pytest.mark.parametrize("kind", [CYCLONEDX, SPDX_V2, SPDX_V3, OPENVEX])
def test_a_bill_of_materials_is_there_by_its_exact_type_signer_and_subject(kind):
    data = signed_statement(KEY, predicateType=kind, predicate={"anything": [1, {"at": "all"}]})
    report = verify_attestation(data, SIGNER, Artifact({"sha256": SHA256}), at=AT, predicates=(kind,))
    assert isinstance(report.result, Verified)
    assert report.checks[-1].name is Name.PREDICATE
    for other in (kind + "evil", kind[:-1], kind.upper(), kind + "/"):
        report = verify_attestation(data, SIGNER, Artifact({"sha256": SHA256}), at=AT, predicates=(other,))
        assert isinstance(report.result, Refusal)
        assert report.result.reason == "provenance-predicate"
    report = verify_attestation(data, SIGNER, Artifact({"sha256": "cd" * 32}), at=AT, predicates=(kind,))
    assert isinstance(report.result, Refusal)
    assert report.result.reason == "digest-mismatch"
