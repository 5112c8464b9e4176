"""Bundles of a pinned key, and what must be true of an envelope and a statement under any signer (attack matrix, rows 1 to 22, 34 to 36)."""

import base64
import hashlib
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper.model.moment import moment
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.attestation import Artifact, Keyless, Pinned, verify_attestation
from gatekeeper.verify.checks import PROVENANCE_CHECKS, Name, Outcome
from gatekeeper.verify.dsse import pae
from gatekeeper.verify.errors import Malformed, MalformedBundle, MalformedKey, MalformedStatement
from gatekeeper.verify.managedkey import MAX_PEM, message_algorithm, parse_managed_key, signs_bytes, signs_message
from gatekeeper.verify.sigstoreroot import parse_sigstore_root
from gatekeeper.verify.summary import SUMMARY_CHECKS
from tests.fakes.foreign_bundles import IN_TOTO, SHA256, bundle, envelope, pem, signed_statement, statement

AT = moment(datetime(2026, 11, 21, 12, tzinfo=UTC))
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
ARTIFACT = Artifact({"sha256": SHA256})
EMPTY_ROOT = parse_sigstore_root(b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}')


def verify(data, key=KEY, artifact=ARTIFACT, root=None):
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return verify_attestation(data, Pinned(parse_managed_key(pem(key)), root), artifact, at=AT)


def failed(report) -> tuple[str, str]:
    """The check that failed and the reason code; the last check of a refused report is never passed over."""
    assert isinstance(report.result, Refusal)
    (check,) = [check for check in report.checks if check.outcome is Outcome.FAILED]
    return check.name.value, report.result.reason


def test_a_statement_by_the_pinned_key_is_verified_and_every_check_is_named():
    report = verify(signed_statement(KEY))
    assert isinstance(report.result, Verified)
    assert report.result.value.statement.predicate_type == "https://example.org/any/v1"
    assert {check.name for check in report.checks} == set(Name) - {*PROVENANCE_CHECKS, *SUMMARY_CHECKS}
    assert all(check.detail for check in report.checks)


def test_another_key_is_refused():
    assert failed(verify(signed_statement(OTHER))) == ("signature", "bad-signature")


def test_a_failure_leaves_the_later_checks_skipped_for_that_reason():
    report = verify(signed_statement(OTHER))
    (subject,) = [check for check in report.checks if check.name is Name.SUBJECT]
    assert (subject.outcome, subject.detail) == (Outcome.SKIPPED, "not reached: signature failed")


@pytest.mark.parametrize("payload_type", ["application/json", IN_TOTO + ";x=1", IN_TOTO.upper(), "application/vnd.in-toto+jsonx"])
def test_row_1_another_payload_type_is_refused_though_its_signature_holds(payload_type):
    data = bundle({"dsseEnvelope": envelope(KEY, json.dumps(statement()).encode(), payload_type)})
    assert failed(verify(data)) == ("payload-type", "provenance-predicate")


def test_row_2_a_swapped_payload_is_refused():
    content = envelope(KEY, json.dumps(statement()).encode())
    content["payload"] = base64.b64encode(json.dumps(statement(predicateType="https://example.org/other")).encode()).decode()
    assert failed(verify(bundle({"dsseEnvelope": content}))) == ("signature", "bad-signature")


def test_row_3_a_signature_over_the_payload_alone_is_refused():
    payload = json.dumps(statement()).encode()
    assert failed(verify(bundle({"dsseEnvelope": envelope(KEY, payload, signed=payload)}))) == ("signature", "bad-signature")


def test_rows_4_and_5_exactly_one_signature_is_demanded():
    content = envelope(KEY, json.dumps(statement()).encode())
    good = content["signatures"]
    for signatures in ([], good * 2, [*good, {"sig": "AAAA"}], [{"sig": "AAAA"}, *good]):
        assert failed(verify(bundle({"dsseEnvelope": {**content, "signatures": signatures}}))) == ("signature", "bad-signature")


@pytest.mark.parametrize("spoil", [lambda t: t.replace("=", ""), lambda t: t + "\n", lambda t: " " + t, lambda t: t[:-2] + "B="])
def test_row_6_base64_has_one_spelling(spoil):
    content = envelope(KEY, json.dumps(statement()).encode() + b"  "[: (1 - len(json.dumps(statement()))) % 3])
    text = content["payload"]
    assert text.endswith("=")
    with pytest.raises(MalformedBundle, match="payload: is not"):
        verify(bundle({"dsseEnvelope": {**content, "payload": spoil(text)}}))


def test_row_7_two_contents_or_none_are_malformed():
    both = {"dsseEnvelope": envelope(KEY, b"{}"), "messageSignature": {"signature": "AAAA"}}
    for content in (both, {}):
        with pytest.raises(MalformedBundle, match="one of them"):
            verify(bundle(content))


def test_row_8_a_message_signature_is_refused_where_a_statement_is_needed():
    digest = bytes.fromhex(SHA256)
    report = verify_attestation(
        json.dumps(bundle({"messageSignature": message(KEY, digest)})).encode(),
        Pinned(parse_managed_key(pem(KEY)), None),
        ARTIFACT,
        at=AT,
        demand=lambda _statement, _checks: None,
    )
    assert failed(report) == ("content", "provenance-predicate")


@pytest.mark.parametrize("kind", ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"])
def test_row_9_both_known_versions_of_a_statement_are_read(kind):
    assert isinstance(verify(signed_statement(KEY, _type=kind)).result, Verified)


@pytest.mark.parametrize("kind", ["https://in-toto.io/Statement/v2", "https://in-toto.io/Statement/v1/", "", None])
def test_row_9_an_unknown_version_is_malformed(kind):
    with pytest.raises(MalformedStatement, match="/_type"):
        verify(signed_statement(KEY, _type=kind))


def test_row_11_an_empty_subject_list_is_malformed():
    with pytest.raises(MalformedStatement, match="names nothing"):
        verify(signed_statement(KEY, subject=[]))


def subject(**digests) -> list[dict]:
    return [{"name": "greeter", "digest": digests}]


def test_row_12_another_subject_is_refused():
    assert failed(verify(signed_statement(KEY, subject=subject(sha256="cd" * 32)))) == ("subject", "digest-mismatch")


def test_row_13_a_subject_by_a_weak_digest_alone_is_malformed():
    with pytest.raises(MalformedStatement, match="must hold sha256"):
        verify(signed_statement(KEY, subject=subject(sha1="ab" * 20, md5="ab" * 16)))


def test_row_14_every_digest_that_we_can_compute_must_match():
    artifact = Artifact({"sha256": SHA256, "sha512": "ab" * 64})
    assert isinstance(verify(signed_statement(KEY, subject=subject(sha256=SHA256, sha512="ab" * 64)), artifact=artifact).result, Verified)
    wrong = signed_statement(KEY, subject=subject(sha256=SHA256, sha512="cd" * 64))
    assert failed(verify(wrong, artifact=artifact)) == ("subject", "digest-mismatch")
    (check,) = [check for check in verify(wrong).checks if check.name is Name.SUBJECT]
    assert check.detail.endswith("not compared: sha512")


@pytest.mark.parametrize("text", [SHA256.upper(), "0x" + SHA256[2:], SHA256[:-2], "ab" * 64, ""])
def test_row_15_a_digest_has_one_spelling(text):
    with pytest.raises(MalformedStatement, match="digest/sha256"):
        verify(signed_statement(KEY, subject=subject(sha256=text)))


def test_row_17_the_right_subject_may_stand_last_of_a_thousand_and_no_more_are_read():
    others = [{"name": f"n{n}", "digest": {"sha256": hashlib.sha256(str(n).encode()).hexdigest()}} for n in range(1000)]
    assert isinstance(verify(signed_statement(KEY, subject=[*others[:999], *subject(sha256=SHA256)])).result, Verified)
    with pytest.raises(MalformedStatement, match="subject"):
        verify(signed_statement(KEY, subject=[*others, *subject(sha256=SHA256)]))


def test_row_18_a_key_that_stands_twice_is_malformed():
    text = json.dumps(statement())
    for member in ('"subject": [],', '"predicateType": "x",'):
        with pytest.raises(MalformedStatement, match="stands twice"):
            verify(signed_statement(KEY, ("{" + member + text[1:]).encode()))
    with pytest.raises(MalformedBundle, match="stands twice"):
        verify(b'{"mediaType": "x",' + signed_statement(KEY)[1:])


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "1" * 5000, "1.5", "[" * 100_000 + "]" * 100_000, '"\\ud800"'])
def test_rows_19_to_22_numbers_depth_and_surrogates_are_bounded(value):
    text = json.dumps(statement(predicate={"x": 0})).replace('{"x": 0}', '{"x": ' + value + "}")
    with pytest.raises(MalformedStatement):
        verify(signed_statement(KEY, text.encode()))


@pytest.mark.parametrize("spoil", [lambda b: b"\xef\xbb\xbf" + b, lambda b: b + b"{}", lambda b: b + b"\n" + b, lambda b: b + b"\0", lambda b: b"\xff" + b])
def test_row_21_nothing_stands_before_or_behind_a_document(spoil):
    with pytest.raises(MalformedStatement):
        verify(signed_statement(KEY, spoil(json.dumps(statement()).encode())))
    with pytest.raises(MalformedBundle):
        verify(spoil(signed_statement(KEY)))


@pytest.mark.parametrize("field", ["x509CertificateChain", "certificate"])
def test_a_certificate_is_refused_where_a_key_is_pinned(field):
    raw = {"rawBytes": "AAAA"}
    old = field == "x509CertificateChain"
    material = {field: {"certificates": [raw]} if old else raw, "tlogEntries": []}
    version = {"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1"} if old else {}
    data = bundle({"dsseEnvelope": envelope(KEY, json.dumps(statement()).encode())}, verificationMaterial=material, **version)
    assert failed(verify(data)) == ("signer", "unknown-builder")


def test_row_36_a_bare_key_is_refused_where_an_identity_is_expected():
    report = verify_attestation(signed_statement(KEY), Keyless("https://ci.demo/builder", "https://ci.demo", EMPTY_ROOT), ARTIFACT, at=AT)
    assert failed(report) == ("signer", "unknown-builder")


@pytest.mark.parametrize(("identity", "issuer"), [("", "https://ci.demo"), ("https://ci.demo/builder", "")])
def test_an_empty_expectation_is_refused(identity, issuer):
    with pytest.raises(ValueError, match="expect nobody"):
        Keyless(identity, issuer, EMPTY_ROOT)


def test_an_artifact_without_a_sha256_is_nobodys_name():
    with pytest.raises(ValueError, match="sha256"):
        Artifact({"sha1": "ab" * 20})


def message(key, digest: bytes, claimed: bytes | None = None) -> dict:
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    signature = key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    said = {"messageDigest": {"algorithm": "SHA2_256", "digest": base64.b64encode(claimed).decode()}} if claimed else {}
    return {"signature": base64.b64encode(signature).decode(), **said}


def test_a_signature_over_the_artifact_is_verified_by_its_digest():
    digest = bytes.fromhex(SHA256)
    assert isinstance(verify(bundle({"messageSignature": message(KEY, digest)})).result, Verified)
    assert failed(verify(bundle({"messageSignature": message(OTHER, digest)}))) == ("signature", "bad-signature")
    assert failed(verify(bundle({"messageSignature": message(KEY, b"\0" * 32)}))) == ("signature", "bad-signature")


def test_a_claimed_digest_of_another_artifact_is_refused_though_the_signature_holds():
    data = bundle({"messageSignature": message(KEY, bytes.fromhex(SHA256), b"\0" * 32)})
    assert failed(verify(data)) == ("artifact", "digest-mismatch")


def test_every_scheme_of_a_managed_key_signs_envelopes():
    payload = json.dumps(statement()).encode()
    data = pae(IN_TOTO, payload)
    p384, p521, ed, rsa_key = (ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048))
    signatures = {
        p384: p384.sign(data, ec.ECDSA(hashes.SHA384())),
        p521: p521.sign(data, ec.ECDSA(hashes.SHA512())),
        ed: ed.sign(data),
        rsa_key: rsa_key.sign(data, padding.PKCS1v15(), hashes.SHA256()),
    }
    content = {"payloadType": IN_TOTO, "payload": base64.b64encode(payload).decode()}
    for key, signature in signatures.items():
        for made, outcome in ((signature, Verified), (signature[:-1] + bytes([signature[-1] ^ 1]), Refusal)):
            report = verify(bundle({"dsseEnvelope": {**content, "signatures": [{"sig": base64.b64encode(made).decode()}]}}), key)
            assert isinstance(report.result, outcome)
    # Row 34: the curve decides the hash.
    weak = p384.sign(data, ec.ECDSA(hashes.SHA256()))
    assert failed(verify(bundle({"dsseEnvelope": {**content, "signatures": [{"sig": base64.b64encode(weak).decode()}]}}), p384)) == ("signature", "bad-signature")


def test_a_p384_signature_over_an_artifact_needs_its_file():
    key = ec.generate_private_key(ec.SECP384R1())
    signature = base64.b64encode(key.sign(b"bytes", ec.ECDSA(hashes.SHA384()))).decode()
    data = bundle({"messageSignature": {"signature": signature}})
    by_digest = Artifact({"sha256": hashlib.sha256(b"bytes").hexdigest()})
    by_file = Artifact({**by_digest.digests, "sha384": hashlib.sha384(b"bytes").hexdigest()})
    assert failed(verify(data, key, by_digest)) == ("signature", "bad-signature")
    assert isinstance(verify(data, key, by_file).result, Verified)


def test_row_35_weak_and_unknown_keys_are_nobodys():
    small, exchange = rsa.generate_private_key(65537, 1024), x25519.X25519PrivateKey.generate()
    koblitz = ec.generate_private_key(ec.SECP256K1())
    for text in (pem(small), pem(koblitz), pem(exchange), b"", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", b"\0" * 20_000):
        with pytest.raises(MalformedKey):
            parse_managed_key(text)


def test_an_ed25519_key_signs_bytes_and_never_a_digest():
    key = ed25519.Ed25519PrivateKey.generate()
    managed, digest = parse_managed_key(pem(key)), bytes.fromhex(SHA256)
    assert message_algorithm(managed) is None
    assert signs_bytes(managed, key.sign(digest), digest)
    assert not signs_bytes(managed, key.sign(digest), digest + b"x")
    assert not signs_message(managed, key.sign(digest), digest)


@pytest.mark.parametrize(("curve", "algorithm", "size"), [(ec.SECP256R1(), "sha256", 32), (ec.SECP384R1(), "sha384", 48), (ec.SECP521R1(), "sha512", 64)])
def test_a_message_signature_is_over_a_digest_of_the_keys_own_hash(curve, algorithm, size):
    key = ec.generate_private_key(curve)
    managed, digest = parse_managed_key(pem(key)), b"d" * size
    signature = key.sign(digest, ec.ECDSA(utils.Prehashed(getattr(hashes, algorithm.upper())())))
    assert message_algorithm(managed) == algorithm
    assert signs_message(managed, signature, digest)
    for other in (digest[:-1], digest + b"d", b"e" * size, b""):
        assert not signs_message(managed, signature, other)
    assert not signs_message(managed, signature[:-1], digest)


def test_a_key_file_is_bounded():
    text = pem(KEY)
    assert parse_managed_key(text + b"\n" * (MAX_PEM - len(text))).der == parse_managed_key(text).der
    with pytest.raises(MalformedKey, match=f"more than {MAX_PEM} bytes"):
        parse_managed_key(text + b"\n" * (MAX_PEM - len(text) + 1))


def test_row_34_a_point_of_small_order_is_nobodys_key():
    order_one = ed25519.Ed25519PublicKey.from_public_bytes(b"\1" + b"\0" * 31).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(MalformedKey, match="small order"):
        parse_managed_key(order_one)


@pytest.mark.parametrize(
    "spoil",
    [
        {"mediaType": "application/vnd.dev.sigstore.bundle.v0.4+json"},
        {"extra": 1},
        {"dsse_envelope": {}},
        {"verificationMaterial": {"publicKey": {"hint": "x"}, "certificate": {"rawBytes": "AAAA"}}},
        {"verificationMaterial": {}},
        {"verificationMaterial": {"publicKey": {"hint": "x"}, "tlogEntries": [{}, {}]}},
        {"verificationMaterial": {"x509CertificateChain": {"certificates": [{"rawBytes": "AAAA"}]}}},
    ],
)
def test_a_bundle_of_another_form_is_malformed(spoil):
    with pytest.raises(MalformedBundle):
        verify(bundle({"dsseEnvelope": envelope(KEY, json.dumps(statement()).encode())}, **spoil))


def test_row_28_one_timestamp_twice_and_thirty_three_of_them_are_malformed():
    for stamps in (["AAAA", "AAAA"], [base64.b64encode(bytes([n])).decode() for n in range(33)]):
        material = {"publicKey": {"hint": "x"}, "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": text} for text in stamps]}}
        with pytest.raises(Malformed, match="rfc3161Timestamps"):
            verify(bundle({"dsseEnvelope": envelope(KEY, b"{}")}, verificationMaterial=material))
