"""What `pingee verify` says line by line of a run of our own and of cosign's simple signing."""

import json

import pytest

from gatekeeper.model.digest import digest_of
from gatekeeper.model.verified import Refusal
from gatekeeper.verify.attestation import Artifact, artifact_of_digest
from gatekeeper.verify.checks import Name, Outcome
from gatekeeper.verify.errors import MalformedBundle
from gatekeeper.verify.managedkey import parse_managed_key
from gatekeeper.verify.offlineforms import OwnRun, verify_own_run, verify_simple_signing
from tests.fakes.foreign_bundles import pem
from tests.fakes.foreign_signers import FakeKey
from tests.fakes.signing import ARTIFACT, BUILDER_ID, COMMIT, ISSUED, PROJECT, RECEIVED, RUN, FakeCa, manifest_statement
from tests.fakes.sigstore_instance import SHA256, Instance, new_key

CA = FakeCa()
BUNDLE = CA.run().sign(manifest_statement())
MANIFEST = json.loads(manifest_statement())["predicateType"]
OWN_LOG = "our own log's intake entry stands for it, which is not read here (pingee log)"
FOREIGN = ("authorities", "timestamps", "transparency", "inclusion", "promise", "entry")


def verify(data=BUNDLE, received_at=RECEIVED, *, at=RECEIVED, builder_id=BUILDER_ID, **options):
    return verify_own_run(data, OwnRun(builder_id, CA.root(), received_at), artifact_of_digest(ARTIFACT), at=at, **options)


def in_order(said: dict[str, str]) -> list[str]:
    return [f"{name.value} {said[name.value]}" for name in Name if name.value in said]


def lines(report) -> list[str]:
    return [f"{check.name.value} {check.outcome.value}: {check.detail}" for check in report.checks]


def whole(time: str) -> dict[str, str]:
    return {
        "signer": "passed: a run's own certificate, as expected",
        "content": "passed: an envelope with a statement",
        "artifact": "skipped: an envelope names the artifact in its statement: see subject",
        "identity": f"passed: {BUILDER_ID}, urn:pingee:run:{PROJECT}:{COMMIT}:{RUN}",
        "issuer": "skipped: a run's certificate names no OIDC issuer: the vault checked the run's token before it signed",
        "usage": "passed: for code signing by one run, no authority",
        "time": time,
        "validity": "passed: the certificate was valid at that time",
        "path": "passed: issued by the given builder CA",
        **dict.fromkeys(FOREIGN, f"skipped: {OWN_LOG}"),
        "signature": "passed: by the certificate's key",
        "payload-type": "passed: application/vnd.in-toto+json",
        "statement": f"passed: in-toto, {MANIFEST}",
        "subject": "passed: by sha256, the only one",
    }


def test_a_run_line_by_line():
    received = whole("passed: received at 2026-11-21T10:01:00Z, as given: not looked up in the log")
    report = verify()
    assert lines(report) == in_order(received)
    assert (report.result.value.identity, report.result.value.issuer, report.result.value.times) == (BUILDER_ID, None, ())
    assert report.result.digest == digest_of(BUNDLE)
    assert lines(verify(BUNDLE, None)) == in_order(whole("skipped: no time of receipt was given: the certificate is judged now"))


def test_a_predicate_that_is_named_is_a_line_too_and_so_is_what_a_failure_kept_from_being_looked_at():
    assert lines(verify(predicates=(MANIFEST,)))[-1] == f"predicate passed: {MANIFEST}"
    refused = verify(builder_id="https://ci.demo/other", predicates=(MANIFEST,))
    assert refused.result == Refusal("unknown-builder", f"signed by {BUILDER_ID}, not by https://ci.demo/other")
    assert lines(refused)[-1] == "predicate skipped: not reached: identity failed"
    assert "path skipped: not reached: identity failed" in lines(refused)
    unnamed = verify(builder_id="https://ci.demo/other")
    assert lines(unnamed)[-1] == "subject skipped: not reached: identity failed"
    demanded = verify(builder_id="https://ci.demo/other", predicates=(MANIFEST,), demand=lambda _statement, _checks: None, demanded=(Name.SOURCE,))
    assert lines(demanded)[-1] == "source skipped: not reached: identity failed"


def test_a_demand_is_made_of_the_statement_and_may_refuse():
    seen = []

    def demand(statement, checks):
        seen.append(statement.predicate_type)
        checks.refuse(Name.SOURCE, "from elsewhere", reason="provenance-project")

    report = verify(demand=demand)
    assert seen == [MANIFEST]
    assert report.result == Refusal("provenance-project", "from elsewhere")


@pytest.mark.parametrize("received_at", [ISSUED.replace(hour=9), ISSUED.replace(hour=11)])
def test_a_time_outside_the_certificates_life_is_told_as_what_it_is(received_at):
    assert verify(received_at=received_at).result == Refusal("certificate-expired", "received outside the certificate's validity")
    unknown = verify(received_at=None, at=received_at)
    assert unknown.result == Refusal("certificate-expired", "the certificate is not valid now; give the time of the statement's intake entry")
    assert verify(FakeCa().run().sign(manifest_statement()), None, at=received_at).result.detail == "no trusted builder root issued the certificate"


def test_bundles_of_other_kinds_are_no_runs():
    bare = verify(FakeKey().sign(manifest_statement()))
    assert bare.result == Refusal("unknown-builder", "a run's own certificate is expected; the bundle is signed by a bare key")
    foreign = verify(Instance().sign(manifest_statement()))
    assert foreign.result.reason == "unknown-builder"
    assert foreign.result.detail.startswith("a run's own certificate is expected; this is a bundle of another kind: ")
    assert [check.name for check in foreign.checks if check.outcome is Outcome.FAILED] == [Name.SIGNER]
    with pytest.raises(MalformedBundle):
        verify(b"{}")


def test_an_empty_builder_would_expect_nobody():
    with pytest.raises(ValueError, match="expect nobody"):
        OwnRun("", CA.root(), RECEIVED)


KEY = new_key()
MANAGED = parse_managed_key(pem(KEY))


def simple(digest=ARTIFACT) -> bytes:
    image = {"docker-manifest-digest": digest}
    critical = {"identity": {"docker-reference": "registry.demo/hello"}, "image": image, "type": "cosign container image signature"}
    return json.dumps({"critical": critical, "optional": None}).encode()


def test_simple_signing_line_by_line():
    payload = simple()
    report = verify_simple_signing(payload, KEY.sign(payload, SHA256), MANAGED, artifact_of_digest(ARTIFACT))
    no_certificate = "skipped: a pinned key has no certificate, and this form no log entry that is read"
    no_statement = "skipped: not a statement: see artifact"
    said = {
        **dict.fromkeys(("identity", "issuer", "usage", "time", "validity", "path", *FOREIGN), no_certificate),
        "signer": f"passed: the pinned key, {MANAGED.digest}",
        "content": "passed: cosign's simple signing: it names a digest and says nothing else that is compared",
        "artifact": "passed: the document names this artifact's sha256",
        "signature": "passed: by the pinned key",
        **dict.fromkeys(("payload-type", "statement", "subject"), no_statement),
    }
    assert lines(report) == in_order(said)
    assert report.result.digest == digest_of(payload)


def test_simple_signing_by_another_key_or_of_another_image_is_refused():
    payload = simple()
    forged = verify_simple_signing(payload, new_key().sign(payload, SHA256), MANAGED, artifact_of_digest(ARTIFACT))
    assert forged.result == Refusal("bad-signature", "the signature is not by the pinned key over these bytes")
    assert [check.name for check in forged.checks if check.outcome is Outcome.FAILED] == [Name.SIGNATURE]
    other = verify_simple_signing(payload, KEY.sign(payload, SHA256), MANAGED, Artifact({"sha256": "cd" * 32}))
    assert other.result == Refusal("digest-mismatch", f"the document names {ARTIFACT}")
    assert [check.name for check in other.checks if check.outcome is Outcome.FAILED] == [Name.ARTIFACT]


@pytest.mark.parametrize("place", [(), ("critical",), ("critical", "image"), ("critical", "identity")])
def test_simple_signing_has_no_members_that_nobody_reads(place):
    document = json.loads(simple())
    inner = document
    for name in place:
        inner = inner[name]
    inner["more"] = "x"
    payload = json.dumps(document).encode()
    with pytest.raises(MalformedBundle, match="more"):
        verify_simple_signing(payload, KEY.sign(payload, SHA256), MANAGED, artifact_of_digest(ARTIFACT))
