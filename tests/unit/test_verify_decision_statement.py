"""The decision statement: its bytes follow from its value, and nothing but a pinned receipt key makes it believed."""

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.decision import EvidenceItem, Mode, Purpose, Verdict
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.moment import later
from gatekeeper.model.statement import DecisionStatement, encode_decision_statement, parse_decision_statement
from gatekeeper.model.uris import DECISION
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.errors import MalformedEnvelope, MalformedKey, MalformedStatement
from gatekeeper.verify.receipt import parse_receipt_key, verify_decision_statement
from tests.fakes.signing import ARTIFACT, COMMIT, RECEIVED, FakeReceiptSigner

SIGNER = FakeReceiptSigner()
KEYS = [parse_receipt_key(FakeReceiptSigner().pem), parse_receipt_key(SIGNER.pem)]
MANIFEST = digest_of(b"manifest bundle")
ALLOW = DecisionStatement(
    instance="production",
    environment="production",
    component="hello",
    subject=ARTIFACT,
    policy=digest_of(b"policy"),
    trusted_root=digest_of(b"roots"),
    candidate_config=COMMIT,
    verdict=Verdict.ALLOW,
    reasons=(),
    mode=Mode.ENFORCE,
    purpose=Purpose.DEPLOY,
    targets=("host-1",),
    evidence=(EvidenceItem("manifest", "present", MANIFEST), EvidenceItem("freeze", "absent")),
    evaluated_at=RECEIVED,
    not_after=later(RECEIVED, seconds=600),
)
DENY = replace(ALLOW, verdict=Verdict.DENY, reasons=("stage-failed",), not_after=None)


@pytest.mark.parametrize("statement", [ALLOW, DENY], ids=["Allow", "Deny"])
def test_round_trip_to_the_byte(statement):
    payload = encode_decision_statement(statement)
    assert parse_decision_statement(payload) == statement
    assert encode_decision_statement(parse_decision_statement(payload)) == payload


def test_what_others_read_in_it():
    statement = json.loads(encode_decision_statement(ALLOW))
    predicate = statement["predicate"]
    assert statement["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert statement["subject"] == [{"digest": {"sha256": digest_hex(ARTIFACT)}}]
    assert predicate["verifier"] == {"id": "https://pingee.internal/production"}
    assert predicate["resourceUri"] == "pingee://production/production/hello"
    assert predicate["inputAttestations"] == [{"digest": {"sha256": digest_hex(MANIFEST)}}]
    assert (predicate["timeVerified"], predicate["verificationResult"]) == ("2026-11-21T10:01:00Z", "PASSED")
    denied = json.loads(encode_decision_statement(DENY))["predicate"]
    assert (denied["verificationResult"], denied["verifiedLevels"], denied[DECISION]["not_after"]) == ("FAILED", ["FAILED"], None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": Verdict.INDETERMINATE, "not_after": None}, "entry of the log alone"),
        ({"not_after": None}, "an Allow has not_after"),
        ({"not_after": RECEIVED}, "lies after the evaluation"),
        ({"verdict": Verdict.DENY, "reasons": ("stopped",)}, "a Deny has none"),
        ({"verdict": Verdict.DENY, "not_after": None}, "a Deny has a reason"),
        ({"targets": ()}, "at least one target"),
        ({"environment": "a/b"}, "are names"),
        ({"evidence": (EvidenceItem("manifest", "present"),)}, "evidence that is present"),
        ({"evidence": (EvidenceItem("manifest", "absent", MANIFEST),)}, "evidence that is present"),
    ],
)
def test_decisions_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(ALLOW, **changes)


def test_a_pinned_key_makes_it_believed():
    payload = encode_decision_statement(ALLOW)
    checked = verify_decision_statement(SIGNER.sign(payload), KEYS)
    assert isinstance(checked, Verified)
    assert (checked.value, checked.digest) == (ALLOW, digest_of(payload))
    assert verify_decision_statement(json.dumps(SIGNER.sign(payload)).encode(), KEYS) == checked


@pytest.mark.parametrize("keys", [[], KEYS[:1]], ids=["none", "another"])
def test_no_other_key_does(keys):
    assert verify_decision_statement(SIGNER.sign(encode_decision_statement(ALLOW)), keys).reason == "bad-signature"


def test_the_verdict_cannot_be_turned():
    envelope = SIGNER.sign(encode_decision_statement(DENY))
    envelope["payload"] = SIGNER.sign(encode_decision_statement(ALLOW))["payload"]
    assert verify_decision_statement(envelope, KEYS).reason == "bad-signature"


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_signature(count):
    envelope = SIGNER.sign(encode_decision_statement(ALLOW))
    envelope["signatures"] *= count
    assert verify_decision_statement(envelope, KEYS).reason == "bad-signature"


def test_another_payload_type():
    checked = verify_decision_statement(SIGNER.sign(encode_decision_statement(ALLOW), payload_type="application/json"), KEYS)
    assert checked == Refusal("provenance-predicate", "the payload type must be application/vnd.in-toto+json")


def members(document, path=()):
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*path, key)
            yield from members(value, (*path, key))
    if isinstance(document, list):
        for number, value in enumerate(document):
            yield from members(value, (*path, number))


@pytest.mark.parametrize("path", list(members(json.loads(encode_decision_statement(ALLOW)))), ids=str)
def test_signed_members_that_do_not_follow_from_the_others(path):
    """Each member renamed: either it is needed, or it is not of the canonical form."""
    document = json.loads(encode_decision_statement(ALLOW))
    place = document
    for step in path[:-1]:
        place = place[step]
    place["unheard"] = place.pop(path[-1])
    with pytest.raises(MalformedStatement):
        verify_decision_statement(SIGNER.sign(encode_canonical(document)), KEYS)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("predicate", "verifier", "id"), "https://pingee.internal/test"),  # row 16: another instance's verifier
        (("predicate", "resourceUri"), "pingee://test/production/hello"),
        (("predicate", "resourceUri"), "https://evil/production/hello"),
        (("subject",), []),
        (("predicate", "verificationResult"), "FAILED"),
        (("predicate", "verifiedLevels"), ["SLSA_BUILD_LEVEL_3"]),
        (("predicate", "timeVerified"), "2026-11-21T10:01:01Z"),
        (("predicate", "inputAttestations"), []),
        (("predicate", DECISION, "verdict"), "Deny"),
        (("predicate", DECISION, "mode"), "Enforce"),
        (("predicate", DECISION, "targets"), []),
    ],
    ids=str,
)
def test_signed_members_that_contradict_each_other(path, value):
    document = json.loads(encode_decision_statement(ALLOW))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(MalformedStatement):
        verify_decision_statement(SIGNER.sign(encode_canonical(document)), KEYS)


def test_signed_bytes_of_another_spelling():
    spaced = json.dumps(json.loads(encode_decision_statement(ALLOW)), sort_keys=True).encode()
    with pytest.raises(MalformedStatement, match="canonical"):
        verify_decision_statement(SIGNER.sign(spaced), KEYS)


def test_no_envelope():
    with pytest.raises(MalformedEnvelope, match="/payloadType: is missing"):
        verify_decision_statement({}, KEYS)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), Ed25519PrivateKey.generate()], ids=["P-384", "Ed25519"])
def test_receipt_keys_are_p256(key):
    with pytest.raises(MalformedKey, match="ECDSA on P-256"):
        parse_receipt_key(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_receipt_keys_are_pem():
    assert parse_receipt_key(SIGNER.pem.decode()).public.public_numbers() == SIGNER.key.public_key().public_numbers()
    with pytest.raises(MalformedKey, match="PEM"):
        parse_receipt_key(b"junk")
