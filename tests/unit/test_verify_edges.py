"""Exactly at each bound, and one beyond; what is left out; and what a check answers where it is given something of another kind."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.receipt import parse_receipt
from gatekeeper.model.uris import ROLLBACK_BUNDLE
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.tlog.members import Abridged, abridge
from gatekeeper.tlog.proof import VerifiedInclusion
from gatekeeper.verify.base64text import read_base64
from gatekeeper.verify.builder import MAX_CERTIFICATE_LIFE, UnfitCertificate, parse_builder_root, read_run_certificate
from gatekeeper.verify.errors import MalformedKey, MalformedStatement
from gatekeeper.verify.inclusion import check_inclusion
from gatekeeper.verify.receipt import parse_receipt_key, parse_receipt_keys, verify_decision_statement
from gatekeeper.verify.rollback import verify_rollback_bundle
from gatekeeper.verify.signature import signature_by
from gatekeeper.verify.statement import parse_statement
from tests.fakes.frames import Gatekeeper, make_artifact, now
from tests.fakes.signing import BUILDER_ID, ISSUED, FakeCa, FakeReceiptSigner, manifest_statement

CA = FakeCa()
UNREADABLE = x509.UnrecognizedExtension(ExtensionOID.AUTHORITY_INFORMATION_ACCESS, b"\x04\x00")
"""known by its number, and not of its form: the library raises when the extensions are looked at"""


def test_base64_of_a_member_is_bounded_in_characters():
    assert read_base64(Fields({"a": "AAAA"}), "a", max_length=4) == b"\0\0\0"
    for value in ("AAAAAAAA", "AAAAA", 1, None, ["AAAA"]):
        with pytest.raises(FieldError, match="must be a base64 string of at most 4 characters"):
            read_base64(Fields({"a": value}), "a", max_length=4)


def authority(*extensions):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(CA.key.public_key()).serial_number(1)
        .not_valid_before(ISSUED).not_valid_after(ISSUED + timedelta(days=1))
    )  # fmt: skip
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(CA.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_sixteen_roots_are_not_too_many():
    assert len(parse_builder_root("ca", CA.pem() * 16).certificates) == 16


@pytest.mark.parametrize("extensions", [(), (x509.BasicConstraints(ca=True, path_length=0), UNREADABLE)], ids=["says nothing", "unreadable"])
def test_a_root_that_does_not_say_that_it_is_an_authority_is_none(extensions):
    with pytest.raises(MalformedKey, match="not a certificate authority's"):
        parse_builder_root("ca", authority(*extensions))


def test_a_run_may_last_as_long_as_a_run_may():
    assert read_run_certificate(CA.run(life=MAX_CERTIFICATE_LIFE).certificate).builder_id == BUILDER_ID


def test_a_run_that_does_not_say_whether_it_is_an_authority_is_none():
    assert read_run_certificate(CA.run(ca=None).certificate).builder_id == BUILDER_ID


def test_extensions_that_cannot_be_read_make_a_certificate_unfit():
    with pytest.raises(UnfitCertificate, match="key or extensions cannot be read"):
        read_run_certificate(CA.run(extra=((UNREADABLE, False),)).certificate)


def test_a_builder_without_a_run_is_not_named_by_a_host():
    names = (x509.UniformResourceIdentifier(BUILDER_ID), x509.DNSName("ci.demo"))
    with pytest.raises(UnfitCertificate, match="exactly two names"):
        read_run_certificate(CA.run(names=names).certificate)


def test_a_signature_is_by_a_key_of_the_two_kinds_or_by_none():
    good, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    assert signature_by(good.sign(b"m", ec.ECDSA(hashes.SHA256())), b"m", good.public_key()) is True
    assert signature_by(other.sign(b"m", ec.ECDSA(hashes.SHA256())), b"m", other.public_key()) is False
    for key in (rsa.generate_private_key(65537, 2048).public_key(), None, "a key"):
        assert signature_by(b"s", b"m", key) is False


def logged(targets, entry_target):
    gatekeeper, artifact = Gatekeeper(), make_artifact()
    statement = gatekeeper.statement(artifact, at=now(), targets=targets)
    receipt = parse_receipt(gatekeeper.receipt(statement, entry_changes={"target": entry_target}))
    signed = verify_decision_statement(receipt.statement, parse_receipt_keys(gatekeeper.receipt_keys))
    return check_inclusion(receipt, gatekeeper.log.proof(0), signed, parse_log_policy(gatekeeper.log_policy))


def abridged(targets):
    return Abridged(**abridge(list(targets)))


TARGETS = ("host-2", "host-1")


@pytest.mark.parametrize("target", [abridged(TARGETS), abridged(sorted(TARGETS)), tuple(sorted(TARGETS))], ids=["as asked", "sorted", "whole"])
def test_an_entry_may_abridge_its_targets(target):
    assert isinstance(logged(TARGETS, target), VerifiedInclusion)


@pytest.mark.parametrize("target", [abridged(("host-1",)), abridged(("host-1", "host-3")), Abridged(2, digest_of(b"")), ("host-1",)], ids=str)
def test_an_entry_that_abridges_other_targets_is_that_of_another_decision(target):
    answer = logged(TARGETS, target)
    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.detail) == ("receipt-missing", "the entry is that of another decision")


def test_a_member_of_a_rollback_bundle_holds_receipt_and_proof_alone():
    signer = FakeReceiptSigner()
    member = {"receipt": "AAAA", "proof": "AAAA"}
    whole = {"v": 1, "instance": "p", "environment": "p", "component": "c", "target": "t", "members": [member], "reported": []}
    keys = [parse_receipt_key(signer.pem)]

    def verify(document):
        return verify_rollback_bundle(json.dumps(signer.sign(encode_canonical(document), payload_type=ROLLBACK_BUNDLE)).encode(), keys)

    assert isinstance(verify(whole), Verified)
    with pytest.raises(MalformedStatement, match="/members/0/x"):
        verify(whole | {"members": [member | {"x": 1}]})


def test_a_subject_without_a_name_has_the_empty_one():
    document = json.loads(manifest_statement())
    named = parse_statement(encode_canonical(document)).subjects[0]
    del document["subject"][0]["name"]
    assert parse_statement(encode_canonical(document)).subjects[0] == replace(named, name="")
