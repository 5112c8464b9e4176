"""The list of checks is part of the answer: what a report says, line by line, of what is verified and of what is refused."""

import base64
import hashlib
import json
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import Encoding

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.moment import later
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.attestation import Artifact, Keyless, Pinned, verify_attestation, verify_keyless_envelope
from gatekeeper.verify.checks import Check, Checks, Name, Outcome, Refused
from gatekeeper.verify.dsse import pae
from gatekeeper.verify.foreignprovenance import ExpectedProvenance
from gatekeeper.verify.fulciocertificate import read_keyless_certificate
from gatekeeper.verify.keyless import claimed_times, verify_keyless
from gatekeeper.verify.managedkey import parse_managed_key
from gatekeeper.verify.sigstorebundle import parse_sigstore_bundle
from gatekeeper.verify.sigstoreroot import parse_sigstore_root
from tests.fakes import foreign_bundles
from tests.fakes.sigstore_instance import ARTIFACT, IDENTITY, IN_TOTO, ISSUER, NOW, SIGNED, Instance, b64, log_of, new_key, statement

HONEST = Instance()
ROOT = parse_sigstore_root(json.dumps(HONEST.root()).encode())
KEYLESS = Keyless(IDENTITY, ISSUER, ROOT)
KEY = new_key()
MANAGED = parse_managed_key(foreign_bundles.pem(KEY))
ABOUT = Artifact({"sha256": ARTIFACT})
ANY = "https://example.org/any/v1"

NO_CERTIFICATE = "a pinned key has no certificate"
NO_STATEMENT = "the artifact itself is signed, no statement about it"
LOGGED = [
    "inclusion passed: the entry is in the log whose checkpoint the trusted root's key signed",
    "promise passed: the log's key signed the time of the entry",
]
ENVELOPE = ["content passed: an envelope with a statement", "artifact skipped: an envelope names the artifact in its statement: see subject"]
ABOUT_IT = [f"payload-type passed: {IN_TOTO}", f"statement passed: in-toto, {ANY}", "subject passed: by sha256, the only one"]
SIGNER_OF_KEYLESS = [
    f"identity passed: {IDENTITY}",
    f"issuer passed: {ISSUER}",
    "usage passed: for code signing, no authority",
]
UNDER_A_ROOT = [
    "validity passed: the certificate was valid at the time of signing",
    "authorities passed: each authority of the trusted root that is used was valid at the time of signing",
    "timestamps passed: each of 1 is by an authority of the trusted root, over this signature",
    "path passed: the certificate leads to an authority of the trusted root",
    "transparency passed: a certificate transparency log of the trusted root signed for the certificate",
]
TWICE = "time passed: 2026-11-21T10:00:00+00:00, 2026-11-21T10:00:00+00:00"
BY_THE_CERTIFICATE = ["signature passed: by the certificate's key", "entry passed: the log entry is about this content, signature and signer"]


def verify(bundle, signer=KEYLESS, artifact=ABOUT, *, at=NOW, **options):
    return verify_attestation(json.dumps(bundle).encode(), signer, artifact, at=at, **options)


def lines(report) -> list[str]:
    return [f"{check.name.value} {check.outcome.value}: {check.detail}" for check in report.checks]


def unreached(report) -> list[str]:
    """Names of the checks that a failure kept from being made; each says so, and no other check does."""
    (failed,) = [check.name.value for check in report.checks if check.outcome is Outcome.FAILED]
    return [check.name.value for check in report.checks if check.detail == f"not reached: {failed} failed"]


def hashedrekord(signature: bytes, verifier: bytes) -> bytes:
    signed = {"content": b64(signature), "publicKey": {"content": b64(verifier)}}
    spec = {"data": {"hash": {"algorithm": "sha256", "value": ARTIFACT}}, "signature": signed}
    return encode_canonical({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec})


def signed_artifact(key, **said) -> dict:
    """A message signature over the artifact by a key that somebody pinned."""
    signature = key.sign(bytes.fromhex(ARTIFACT), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    return foreign_bundles.bundle({"messageSignature": {"signature": b64(signature), **said}})


def keyless_artifact(**said) -> dict:
    """A keyless message signature over the artifact."""
    key = new_key()
    bundle = HONEST.bundle(key=key)
    signature = key.sign(bytes.fromhex(ARTIFACT), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    del bundle["dsseEnvelope"]
    bundle["messageSignature"] = {"signature": b64(signature), **said}
    material = bundle["verificationMaterial"]
    body = hashedrekord(signature, pem_certificate(material["certificate"]["rawBytes"]))
    material["tlogEntries"] = [HONEST.entry(body, "hashedrekord")]
    material["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": HONEST.timestamp(signature)}]}
    return bundle


def pem_certificate(raw: str) -> bytes:
    return x509.load_der_x509_certificate(base64.b64decode(raw)).public_bytes(Encoding.PEM)


def logged_key(**changes) -> dict:
    """A pinned key's message signature with an entry in the honest log."""
    bundle = signed_artifact(KEY)
    signature = base64.b64decode(bundle["messageSignature"]["signature"])
    bundle["verificationMaterial"]["tlogEntries"] = [HONEST.entry(hashedrekord(signature, foreign_bundles.pem(KEY)), "hashedrekord", **changes)]
    return bundle


def test_a_keyless_statement_line_by_line():
    report = verify(HONEST.bundle())
    assert lines(report) == ["signer passed: keyless, as expected", *ENVELOPE, *SIGNER_OF_KEYLESS, TWICE, *UNDER_A_ROOT, *LOGGED, *BY_THE_CERTIFICATE, *ABOUT_IT]
    assert (report.result.value.identity, report.result.value.issuer, report.result.value.times) == (IDENTITY, ISSUER, (SIGNED, SIGNED))


@pytest.mark.parametrize("claimed", [True, False])
def test_a_keyless_signature_over_the_artifact_line_by_line(claimed):
    said = {"messageDigest": {"algorithm": "SHA2_256", "digest": b64(bytes.fromhex(ARTIFACT))}} if claimed else {}
    report = verify(keyless_artifact(**said))
    assert lines(report) == [
        "signer passed: keyless, as expected",
        "content passed: a signature over the artifact itself",
        "artifact passed: the bundle names this artifact's sha256" if claimed else "artifact skipped: the bundle names no digest of its own: see signature",
        *SIGNER_OF_KEYLESS,
        TWICE,
        *UNDER_A_ROOT,
        *LOGGED,
        *BY_THE_CERTIFICATE,
        *(f"{name} skipped: {NO_STATEMENT}" for name in ("payload-type", "statement", "subject")),
    ]
    assert report.result.value.statement is None


def test_a_keyless_signature_over_another_artifact_is_none_over_this():
    report = verify(keyless_artifact(), artifact=Artifact({"sha256": "cd" * 32}))
    assert report.result == Refusal("bad-signature", "the signature is not by the certificate's key over this artifact")


def of_a_pinned_key(log: str | list[str], *content: str) -> list[str]:
    """The lines under a pinned key: `log` is what is said of the log, or why nothing is."""
    skipped = [f"{name} skipped: {NO_CERTIFICATE}" for name in ("identity", "issuer", "usage")]
    before, inclusion, entry = ([f"authorities skipped: {log}"], [f"inclusion skipped: {log}", f"promise skipped: {log}"], f"entry skipped: {log}")
    if isinstance(log, list):
        before, inclusion, entry = log[:1], log[1:3], log[3]
    return [
        f"signer passed: the pinned key, {MANAGED.digest}",
        *content,
        *skipped,
        "time passed: none lies in the future",
        f"validity skipped: {NO_CERTIFICATE}",
        *before,
        "timestamps skipped: a pinned key is trusted at any time",
        *(f"{name} skipped: {NO_CERTIFICATE}" for name in ("path", "transparency")),
        *inclusion,
        "signature passed: by the pinned key",
        entry,
    ]


def test_a_pinned_keys_statement_line_by_line():
    bundle = foreign_bundles.bundle({"dsseEnvelope": foreign_bundles.envelope(KEY, statement())})
    for root in (None, ROOT):
        assert lines(verify(bundle, Pinned(MANAGED, root))) == [*of_a_pinned_key("the bundle has no log entry", *ENVELOPE), *ABOUT_IT]


ARTIFACT_ALONE = ("content passed: a signature over the artifact itself", "artifact skipped: the bundle names no digest of its own: see signature")
ALONE = [f"{name} skipped: {NO_STATEMENT}" for name in ("payload-type", "statement", "subject")]


def test_a_pinned_keys_log_entry_is_verified_where_a_root_is_given_and_skipped_by_name_where_none_is():
    checked = ["authorities passed: the log was valid then", *LOGGED, BY_THE_CERTIFICATE[1]]
    assert lines(verify(logged_key(), Pinned(MANAGED, ROOT))) == [*of_a_pinned_key(checked, *ARTIFACT_ALONE), *ALONE]
    checked[2] = "promise skipped: the entry has none"
    assert lines(verify(logged_key(promised=False), Pinned(MANAGED, ROOT))) == [*of_a_pinned_key(checked, *ARTIFACT_ALONE), *ALONE]
    why = "no trusted root was given that would answer for the log"
    assert lines(verify(logged_key(), Pinned(MANAGED, None))) == [*of_a_pinned_key(why, *ARTIFACT_ALONE), *ALONE]


def test_a_pinned_keys_entry_in_a_strangers_log_is_none():
    report = verify(logged_key(), Pinned(MANAGED, parse_sigstore_root(json.dumps(Instance().root()).encode())))
    assert [check.name.value for check in report.checks if check.outcome is Outcome.FAILED] == ["inclusion"]
    assert report.result.reason == "bad-signature"


def test_a_pinned_keys_entry_about_another_signature_is_none():
    bundle, other = logged_key(), logged_key()
    bundle["verificationMaterial"] = other["verificationMaterial"]
    report = verify(bundle, Pinned(MANAGED, ROOT))
    assert report.result == Refusal("bad-signature", "the log entry is about another content, signature or signer, or of a kind that is not compared")


@pytest.mark.parametrize(("promised", "end", "good"), [(True, 0, True), (True, -1, False), (False, 7200, True), (False, 7199, False)])
def test_a_pinned_keys_log_was_valid_when_it_promised_or_is_at_the_moment_of_checking(promised, end, good):
    window = {"start": "2026-01-01T00:00:00Z", "end": later(SIGNED, seconds=end).strftime("%Y-%m-%dT%H:%M:%SZ")}
    root = parse_sigstore_root(json.dumps(HONEST.root(tlogs=[log_of(HONEST.log, validFor=window)])).encode())
    result = verify(logged_key(promised=promised), Pinned(MANAGED, root)).result
    assert isinstance(result, Verified) if good else result == Refusal("unknown-builder", "no log of the trusted root was valid then")


@pytest.mark.parametrize("second", [0, 1])
def test_a_pinned_keys_entry_promised_after_the_moment_of_checking_is_refused_to_the_second(second):
    result = verify(logged_key(seconds=30), Pinned(MANAGED, ROOT), at=later(SIGNED, seconds=30 - second)).result
    assert isinstance(result, Verified) if second == 0 else result == Refusal("certificate-expired", "signed in the future")


def test_what_a_failure_kept_from_being_made_is_named_in_its_place():
    wrong = verify(HONEST.bundle(statement(subject=[{"name": "x", "digest": {"sha256": "cd" * 32}}])))
    assert lines(wrong)[:-1] == [*lines(verify(HONEST.bundle()))[:-2], "statement passed: in-toto"]
    assert lines(wrong)[-1].startswith("subject failed: ")
    assert unreached(wrong) == []
    typed = verify(foreign_bundles.bundle({"dsseEnvelope": foreign_bundles.envelope(KEY, statement(), "application/json")}), Pinned(MANAGED, None))
    assert unreached(typed) == ["statement", "subject"]
    assert [check.name for check in typed.checks if check.outcome is Outcome.FAILED] == [Name.PAYLOAD_TYPE]
    other = verify(HONEST.bundle(), predicates=("https://example.org/another/v1",))
    assert f"payload-type passed: {IN_TOTO}" in lines(other)
    assert unreached(other) == ["statement", "subject"]
    assert other.result.reason == "provenance-predicate"
    assert [check.name for check in other.checks if check.outcome is Outcome.FAILED] == [Name.PREDICATE]


def test_every_check_of_a_demand_is_named_though_the_first_of_all_failed():
    expected = ExpectedProvenance("https://ci.example/builder", "https://git.example/hello", None)
    bundle = foreign_bundles.bundle({"dsseEnvelope": foreign_bundles.envelope(KEY, statement())})
    report = verify(bundle, KEYLESS, demand=expected.demand)
    assert unreached(report) == [name.value for name in Name if name.value not in {"signer", "content", "artifact", "verifier", "resource", "result", "levels"}]
    assert len(report.checks) == len({check.name for check in report.checks})
    assert unreached(verify(bundle, KEYLESS, predicates=(ANY,)))[-1] == "predicate"
    assert unreached(verify(bundle, KEYLESS))[-1] == "subject"


def test_a_list_that_nothing_failed_on_holds_what_was_made_and_nothing_else():
    checks = Checks(beyond=(Name.PREDICATE,))
    checks.passed(Name.SUBJECT, "second")
    checks.skipped(Name.SIGNER, "first")
    assert checks.listed() == (Check(Name.SIGNER, Outcome.SKIPPED, "first"), Check(Name.SUBJECT, Outcome.PASSED, "second"))
    with pytest.raises(Refused):
        checks.demand(False, Name.CONTENT, "holds", "does not", reason="bad-signature")
    assert [check.name for check in checks.listed()] == [name for name in Name if name.value not in {"builder", "source", "ref", "verifier", "resource", "result", "levels"}]
    assert checks.listed()[2].detail == "not reached: content failed"


@pytest.mark.parametrize("options", [{"predicates": (ANY,)}, {"predicates": ()}, {"demand": lambda _statement, _checks: None}])
def test_a_signature_over_the_artifact_is_not_the_statement_that_is_needed(options):
    for bundle, signer in ((keyless_artifact(), KEYLESS), (signed_artifact(KEY), Pinned(MANAGED, None))):
        report = verify(bundle, signer, **options)
        assert report.result == Refusal("provenance-predicate", "a statement is needed; the bundle signs the artifact's bytes and says nothing about them")


def test_who_signed_an_envelope_is_not_asked_of_a_signature_over_an_artifact():
    found = verify_keyless_envelope(parse_sigstore_bundle(json.dumps(HONEST.bundle()).encode()), KEYLESS, at=NOW)
    assert isinstance(found, Verified)
    assert found.value.identity == IDENTITY
    bare = verify_keyless_envelope(parse_sigstore_bundle(json.dumps(keyless_artifact()).encode()), KEYLESS, at=NOW)
    assert bare == Refusal("provenance-predicate", "a statement is needed; the bundle signs the artifact's bytes and says nothing about them")


def test_a_timestamp_that_cannot_be_read_is_refused_before_all_else():
    bundle = HONEST.bundle()
    bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]}
    report = verify(bundle)
    assert report.result == Refusal("bad-signature", "a timestamp cannot be read")
    assert [check.name for check in report.checks if check.outcome is Outcome.FAILED] == [Name.TIMESTAMPS]


def test_a_key_that_signs_bytes_and_no_digest_signs_no_artifact_by_its_digest():
    key = ed25519.Ed25519PrivateKey.generate()
    bundle = foreign_bundles.bundle({"messageSignature": {"signature": b64(key.sign(bytes.fromhex(ARTIFACT)))}})
    report = verify(bundle, Pinned(parse_managed_key(foreign_bundles.pem(key)), None), ABOUT)
    assert report.result == Refusal("bad-signature", "this kind of key signs more than the sha256; give the artifact's file")


def without_time(bundle: dict) -> dict:
    """The same with a promise that promises no time, which is none: 0 is protobuf's word for a number that is not there."""
    bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "0"
    return bundle


def test_a_promise_without_a_time_is_no_promise():
    report = verify(without_time(HONEST.bundle()))
    assert report.result.value.times == (SIGNED,)
    assert "promise skipped: the entry has none" in lines(report)
    bare = without_time(HONEST.bundle())
    del bare["verificationMaterial"]["timestampVerificationData"]
    assert verify(bare).result == Refusal("certificate-expired", "no trusted time: neither a timestamp nor a time that the log promised")
    keyed = verify(without_time(logged_key()), Pinned(MANAGED, ROOT))
    assert isinstance(keyed.result, Verified)
    assert "promise skipped: the entry has none" in lines(keyed)


@pytest.mark.parametrize("gone", ["entry", "inclusionProof", "checkpoint"])
def test_a_keyless_signature_without_a_proven_entry_is_refused(gone):
    bundle = HONEST.bundle()
    entries = bundle["verificationMaterial"]["tlogEntries"]
    if gone == "entry":
        entries.clear()
    else:
        (entries[0] if gone == "inclusionProof" else entries[0]["inclusionProof"]).pop(gone)
    assert verify(bundle).result == Refusal("bad-signature", "a keyless signature needs an entry in a log with a proof and a signed checkpoint")


@pytest.mark.parametrize("spoil", [lambda entry: entry.pop("inclusionProof"), lambda entry: entry["inclusionProof"].pop("checkpoint"), lambda entry: entry.update(logIndex="9" * 20)])
def test_a_pinned_keys_entry_that_the_library_cannot_read_is_refused(spoil):
    bundle = logged_key()
    spoil(bundle["verificationMaterial"]["tlogEntries"][0])
    report = verify(bundle, Pinned(MANAGED, ROOT))
    assert report.result.reason == "bad-signature"
    assert report.result.detail.startswith("the log entry cannot be read (")
    assert [check.name for check in report.checks if check.outcome is Outcome.FAILED] == [Name.INCLUSION]


def test_two_readers_that_find_two_certificates_believe_neither():
    """The certificate whose names were compared is the one whose path and signature are verified, however a bundle is read."""
    bundle = parse_sigstore_bundle(json.dumps(HONEST.bundle()).encode())
    other = read_keyless_certificate(parse_sigstore_bundle(json.dumps(HONEST.bundle()).encode()).certificates[0])
    own = read_keyless_certificate(bundle.certificates[0])
    verify_keyless(bundle, own, ROOT, claimed_times(bundle), bytes.fromhex(ARTIFACT), Checks(beyond=()))
    checks = Checks(beyond=())
    with pytest.raises(Refused) as refused:
        verify_keyless(bundle, other, ROOT, claimed_times(bundle), bytes.fromhex(ARTIFACT), checks)
    assert refused.value.refusal.reason == "bad-signature"
    assert [check.name for check in checks.listed() if check.outcome is Outcome.FAILED] == [Name.ENTRY]


def test_two_readers_that_find_two_payloads_believe_neither():
    bundle = parse_sigstore_bundle(json.dumps(HONEST.bundle()).encode())
    signer = read_keyless_certificate(bundle.certificates[0])
    for content in (replace(bundle.content, payload=b"{}"), replace(bundle.content, payload_type="text/plain")):
        with pytest.raises(Refused) as refused:
            verify_keyless(replace(bundle, content=content), signer, ROOT, claimed_times(bundle), bytes.fromhex(ARTIFACT), Checks(beyond=()))
        assert refused.value.refusal.reason == "bad-signature"


def intoto(key, *, signed: bytes | None = None, signatures: int = 1, **changes) -> dict:
    """A keyless envelope whose log entry is of rekor's older type, which encodes payload and signature twice; `signed`: what is signed instead."""
    bundle = HONEST.bundle(key=key)
    content, payload = bundle["dsseEnvelope"], statement()
    signature = key.sign(pae(IN_TOTO, payload) if signed is None else signed, ec.ECDSA(hashes.SHA256()))
    content["signatures"] = [{"sig": b64(signature)}] * signatures
    logged = {
        "payloadType": IN_TOTO,
        "payload": b64(b64(payload).encode()),
        "signatures": [{"sig": b64(b64(signature).encode()), "publicKey": b64(pem_certificate(bundle["verificationMaterial"]["certificate"]["rawBytes"]))}],
    }
    said = {"envelope": logged | changes, "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}}
    entry = HONEST.entry(encode_canonical({"apiVersion": "0.0.2", "kind": "intoto", "spec": {"content": said}}), "intoto")
    entry["kindVersion"]["version"] = "0.0.2"
    bundle["verificationMaterial"]["tlogEntries"] = [entry]
    bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": HONEST.timestamp(signature)}]}
    return bundle


PAST = {"start": "2026-01-01T00:00:00Z", "end": "2026-11-21T09:59:59Z"}
LAST = {"start": "2026-01-01T00:00:00Z", "end": "2026-11-21T10:00:00Z"}


def until(kind: str, window: dict) -> Keyless:
    """The signer under a root of which one kind of authority holds for this time."""
    document = HONEST.root()
    for authority in document[kind]:
        authority.get("publicKey", authority)["validFor"] = window
    return Keyless(IDENTITY, ISSUER, parse_sigstore_root(json.dumps(document).encode()))


@pytest.mark.parametrize(
    ("kind", "called"),
    [
        ("tlogs", "transparency log"),
        ("certificateAuthorities", "certificate authority"),
        ("timestampAuthorities", "timestamp authority"),
    ],
)
def test_an_authority_holds_to_the_last_second_of_its_validity_and_no_longer(kind, called):
    assert isinstance(verify(HONEST.bundle(), until(kind, LAST)).result, Verified)
    report = verify(HONEST.bundle(), until(kind, PAST))
    assert report.result == Refusal("unknown-builder", f"no {called} of the trusted root was valid at the time of signing")
    assert [check.name for check in report.checks if check.outcome is Outcome.FAILED] == [Name.AUTHORITIES]


def test_a_log_of_certificates_holds_when_it_signed_for_the_certificate():
    logged = {"start": "2026-01-01T00:00:00Z", "end": "2026-11-21T09:59:00Z"}
    assert isinstance(verify(HONEST.bundle(), until("ctlogs", logged)).result, Verified)
    report = verify(HONEST.bundle(), until("ctlogs", logged | {"end": "2026-11-21T09:58:59Z"}))
    assert report.result == Refusal("unknown-builder", "no certificate transparency log of the trusted root was valid at the time of signing")
    assert [check.name for check in report.checks if check.outcome is Outcome.FAILED] == [Name.AUTHORITIES]


def test_a_bundle_without_timestamps_needs_no_authority_for_them_and_says_so():
    bundle = HONEST.bundle()
    del bundle["verificationMaterial"]["timestampVerificationData"]
    report = verify(bundle, until("timestampAuthorities", PAST))
    assert isinstance(report.result, Verified)
    assert "timestamps skipped: the bundle has none" in lines(report)


def test_an_entry_of_the_older_type_is_compared_by_us_and_so_is_the_signature():
    key = new_key()
    assert lines(verify(intoto(key))) == lines(verify(HONEST.bundle()))
    unsigned = Refusal("bad-signature", "the envelope needs exactly one signature, by the certificate's key, over these bytes")
    assert verify(intoto(key, signed=statement())).result == unsigned
    report = verify(intoto(key, signed=pae("text/plain", statement())))
    assert report.result == unsigned
    assert [check.name for check in report.checks if check.outcome is Outcome.FAILED] == [Name.SIGNATURE]
    other = verify(intoto(key, payloadType="text/plain"))
    assert other.result == Refusal("bad-signature", "the log entry is about another content, signature or signer, or of a kind that is not compared")
    assert [check.name for check in other.checks if check.outcome is Outcome.FAILED] == [Name.ENTRY]


def test_an_entry_of_the_older_type_does_not_make_up_for_a_certificate_of_a_stranger():
    mixed = intoto(new_key())
    mixed["verificationMaterial"]["certificate"] = Instance().bundle()["verificationMaterial"]["certificate"]
    assert verify(mixed).result.reason == "unknown-builder"
