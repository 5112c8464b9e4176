"""The signer of a builder, of each kind the policy may name: what is believed, and every refusal by its reason (rows 4, 5, 23 to 27, 36, 37, 39)."""

import base64
import itertools
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from gatekeeper.model.digest import digest_of
from gatekeeper.model.facts import ArtifactManifest, StandingIdentity
from gatekeeper.model.moment import later
from gatekeeper.model.signer import ExpectedSigner, SignerKind
from gatekeeper.model.uris import IN_TOTO_PAYLOAD
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.errors import MalformedBundle, MalformedKey
from gatekeeper.verify.signers import NOBODY, authorities_of, parse_signer, verify_signed
from gatekeeper.verify.source import run_of
from gatekeeper.verify.submission import verify_submission
from gatekeeper.verify.svid import SvidAuthority, parse_svid_authority
from tests.fakes.foreign_signers import SPIFFE_ID, FakeAuthority, FakeKey, FakeWorkload
from tests.fakes.signing import (
    ARTIFACT,
    BUILDER_ID,
    COMMIT,
    ISSUED,
    PROJECT,
    RECEIVED,
    REPOSITORY,
    RUN,
    FakeCa,
    manifest_statement,
    provenance_statement,
    result_statement,
)
from tests.fakes.sigstore_instance import IDENTITY, ISSUER, Instance, new_key, spki

SECOND = timedelta(seconds=1)
OTHER_COMMIT = "3" * 40
URI, DNS = x509.UniformResourceIdentifier, x509.DNSName
CA, SIGSTORE, DOMAIN, KEY = FakeCa(), Instance(), FakeAuthority("spire.demo"), FakeKey()
MIDDLE = FakeAuthority("spire.demo middle", issuer=DOMAIN)
WORKLOAD = FakeWorkload(DOMAIN)
RULES = {
    "x509": parse_signer(BUILDER_ID, ExpectedSigner(SignerKind.X509, CA.pem())),
    "spiffe": parse_signer(BUILDER_ID, ExpectedSigner(SignerKind.SPIFFE, DOMAIN.pem, SPIFFE_ID)),
    "sigstore": parse_signer(BUILDER_ID, ExpectedSigner(SignerKind.SIGSTORE, SIGSTORE.pinned, IDENTITY, ISSUER)),
    "key": parse_signer(BUILDER_ID, ExpectedSigner(SignerKind.KEY, KEY.pem)),
}
SIGN = {"x509": CA.run().sign, "spiffe": WORKLOAD.sign, "sigstore": SIGSTORE.sign, "key": KEY.sign}
STANDING = ("spiffe", "sigstore", "key")


def refused(data, rule, reason, words, *, at=RECEIVED):
    checked = verify_submission(data, rule, received_at=at)
    assert isinstance(checked, Refusal)
    assert checked.reason == reason, checked
    assert words in checked.detail


def opened(data):
    return json.loads(data)


def closed(bundle):
    return json.dumps(bundle).encode()


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("statement", [manifest_statement, provenance_statement, result_statement])
def test_the_expected_signer_is_believed(kind, statement):
    checked = verify_submission(SIGN[kind](statement()), RULES[kind], received_at=RECEIVED)
    assert isinstance(checked, Verified)
    assert (checked.value.artifact, checked.value.signer.builder_id, checked.value.signer.root) == (ARTIFACT, BUILDER_ID, BUILDER_ID)


@pytest.mark.parametrize("kind", STANDING)
def test_a_standing_signers_run_is_what_the_statement_says_and_a_result_says_none(kind):
    def signer(payload):
        return verify_submission(SIGN[kind](payload), RULES[kind], received_at=RECEIVED).value.signer

    made = signer(manifest_statement())
    assert isinstance(made, StandingIdentity)
    assert (made.project, made.repository, made.commit, made.run) == (PROJECT, REPOSITORY, COMMIT, RUN)
    traced = signer(provenance_statement())
    assert (traced.project, traced.repository, traced.commit, traced.run) == (None, REPOSITORY, COMMIT, RUN)
    found = signer(result_statement())
    assert (found.project, found.repository, found.commit, found.run) == (None, None, None, None)


def test_the_pinned_keys_digest_and_the_certificates_digest_name_the_signer():
    by_key = verify_submission(KEY.sign(manifest_statement()), RULES["key"], received_at=RECEIVED).value.signer
    assert by_key.certificate == digest_of(spki(KEY.key))
    by_svid = verify_signed(data := WORKLOAD.sign(manifest_statement()), RULES["spiffe"], received_at=RECEIVED).value.signer
    assert by_svid.certificate == digest_of(base64.b64decode(opened(data)["verificationMaterial"]["certificate"]["rawBytes"]))


WRONG_KIND = {
    ("x509", "spiffe"): "codeSigning alone",
    ("x509", "sigstore"): "a run's own certificate is expected",
    ("x509", "key"): "names a bare key",
    ("spiffe", "x509"): "extended key usage of an SVID",
    ("spiffe", "sigstore"): "extended key usage of an SVID",
    ("spiffe", "key"): "signed by a bare key",
    ("sigstore", "x509"): "it must have exactly one",
    ("sigstore", "spiffe"): "names no issuer",
    ("sigstore", "key"): "signed by a bare key",
    ("key", "x509"): "signed under a certificate",
    ("key", "spiffe"): "signed under a certificate",
    ("key", "sigstore"): "signed under a certificate",
}


@pytest.mark.parametrize(("expected", "given"), WRONG_KIND)
def test_a_bundle_of_another_kind_than_the_policys_is_refused(expected, given):  # row 36
    refused(SIGN[given](manifest_statement()), RULES[expected], "unknown-builder", WRONG_KIND[expected, given])
    assert set(WRONG_KIND) == set(itertools.permutations(RULES, 2))


def test_a_builder_that_the_policy_does_not_know_has_no_signer():
    for sign in SIGN.values():
        refused(sign(manifest_statement()), NOBODY, "unknown-builder", "")


@pytest.mark.parametrize(
    ("kind", "other", "reason", "words"),
    [
        ("x509", FakeCa().run().sign, "unknown-builder", "no trusted builder root"),
        ("spiffe", FakeWorkload(FakeAuthority("spire.demo")).sign, "unknown-builder", "leads to no CA"),
        ("sigstore", Instance().sign, "unknown-builder", "leads to no authority of the trusted root"),
        ("sigstore", replace(SIGSTORE, ct=new_key()).sign, "unknown-builder", "certificate transparency log"),
        ("sigstore", replace(SIGSTORE, log=new_key()).sign, "bad-signature", "not shown to be in a log"),
        ("key", FakeKey().sign, "bad-signature", "by the expected key"),
    ],
)
def test_another_root_or_key_of_the_same_kind_is_refused(kind, other, reason, words):
    refused(other(manifest_statement()), RULES[kind], reason, words)


@pytest.mark.parametrize("kind", RULES)
def test_the_payload_of_one_bundle_under_the_signature_of_another_is_refused(kind):  # row 2
    bundle, other = opened(SIGN[kind](manifest_statement())), opened(SIGN[kind](result_statement()))
    bundle["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]
    refused(closed(bundle), RULES[kind], "bad-signature", "")


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_signature_counts(kind, count):  # rows 4 and 5
    bundle = opened(SIGN[kind](manifest_statement()))
    bundle["dsseEnvelope"]["signatures"] *= count
    refused(closed(bundle), RULES[kind], "bad-signature", "")


@pytest.mark.parametrize("kind", RULES)
def test_another_payload_type_is_refused(kind):  # row 1
    refused(SIGN[kind](manifest_statement(), payload_type="application/json"), RULES[kind], "provenance-predicate", "payload type")


@pytest.mark.parametrize("kind", RULES)
def test_another_payload_type_is_refused_before_anybody_reads_the_payload(kind):
    signed = SIGN[kind](manifest_statement(), payload_type="application/json")
    assert verify_signed(signed, RULES[kind], received_at=RECEIVED) == Refusal("provenance-predicate", f"the payload type must be {IN_TOTO_PAYLOAD}")


def test_a_chain_is_of_another_kind_than_a_runs_own_certificate():
    bundle = opened(CA.run().sign(manifest_statement()))
    raw = bundle["verificationMaterial"].pop("certificate")
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2"
    bundle["verificationMaterial"]["x509CertificateChain"] = {"certificates": [raw, raw]}
    refused(closed(bundle), RULES["x509"], "unknown-builder", "a chain")
    bundle["verificationMaterial"]["x509CertificateChain"] = {"certificates": [raw]}
    with pytest.raises(MalformedBundle):
        verify_signed(closed(bundle), RULES["x509"], received_at=RECEIVED)


@pytest.mark.parametrize("kind", ["x509", "spiffe", "key"])
def test_a_timestamp_that_nobody_answers_for_is_not_half_believed(kind):
    bundle = opened(SIGN[kind](manifest_statement()))
    bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]}
    refused(closed(bundle), RULES[kind], "unknown-builder", "foreign log entry")


@pytest.mark.parametrize("kind", ["x509", "spiffe", "sigstore"])
def test_the_key_material_of_one_bundle_under_the_envelope_of_another_is_refused(kind):  # row 23
    others = {"x509": CA.run().sign, "spiffe": FakeWorkload(DOMAIN).sign, "sigstore": SIGSTORE.sign}
    ours, theirs = SIGN[kind](manifest_statement()), others[kind](result_statement())
    spliced = opened(ours) | {"verificationMaterial": opened(theirs)["verificationMaterial"]}
    refused(closed(spliced), RULES[kind], "bad-signature", "")


@pytest.mark.parametrize("kind", ["spiffe", "key"])
def test_a_log_entry_that_nobody_answers_for_is_not_half_believed(kind):
    bundle = opened(SIGN[kind](manifest_statement()))
    bundle["verificationMaterial"]["tlogEntries"] = opened(SIGSTORE.sign(manifest_statement()))["verificationMaterial"]["tlogEntries"]
    refused(closed(bundle), RULES[kind], "unknown-builder", "foreign log entry")


@pytest.mark.parametrize("kind", STANDING)
def test_a_signature_over_bytes_is_no_statement(kind):  # row 8
    bundle = opened(SIGN[kind](manifest_statement()))
    bundle["messageSignature"] = {"signature": bundle.pop("dsseEnvelope")["signatures"][0]["sig"]}
    refused(closed(bundle), RULES[kind], "provenance-predicate", "a statement is needed")


@pytest.mark.parametrize("kind", RULES)
def test_a_bare_envelope_never_counts_for_a_decision(kind):
    with pytest.raises(MalformedBundle):
        verify_submission(closed(opened(SIGN[kind](manifest_statement()))["dsseEnvelope"]), RULES[kind], received_at=RECEIVED)


# SPIFFE


@pytest.mark.parametrize("trust", [DOMAIN.pem, DOMAIN.spiffe_bundle()])
@pytest.mark.parametrize(
    "workload",
    [
        WORKLOAD,
        replace(WORKLOAD, extended=None),
        replace(WORKLOAD, names=(URI(SPIFFE_ID), DNS("builder.house.demo"))),
        replace(WORKLOAD, key=ec.generate_private_key(ec.SECP256R1())),
        FakeWorkload(MIDDLE, intermediates=(MIDDLE,)),
        FakeWorkload(MIDDLE, intermediates=(MIDDLE, *(FakeAuthority(f"unused {n}", issuer=DOMAIN) for n in range(3)))),
        replace(WORKLOAD, extra=((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\5\0"), False),)),
    ],
)
def test_an_svid_of_the_trust_domain_is_believed(trust, workload):
    rule = parse_signer(BUILDER_ID, ExpectedSigner(SignerKind.SPIFFE, trust, SPIFFE_ID))
    assert isinstance(verify_submission(workload.sign(manifest_statement()), rule, received_at=RECEIVED), Verified)


def test_a_trust_domain_expects_a_workload_under_a_ca_and_not_just_anybody():
    for identity, authorities in (("spiffe://house.demo", (DOMAIN.der,)), (SPIFFE_ID, ())):
        with pytest.raises(ValueError, match="would expect nobody"):
            SvidAuthority(identity, authorities)
    assert SvidAuthority(SPIFFE_ID, (DOMAIN.der,)).identity == SPIFFE_ID


def test_a_trust_domain_has_at_most_32_authorities_each_of_which_says_that_it_is_one():
    assert len(parse_svid_authority(SPIFFE_ID, DOMAIN.pem * 32).authorities) == 32
    with pytest.raises(MalformedKey, match="needs 1 to 32 CA certificates"):
        parse_svid_authority(SPIFFE_ID, DOMAIN.pem * 33)
    silent = x509.load_der_x509_certificate(CA.certificate(names=(), ca=None).certificate).public_bytes(Encoding.PEM)
    for pem in (silent, FakeAuthority("leaf", ca=False).pem):
        with pytest.raises(MalformedKey, match="not a certificate authority's"):
            parse_svid_authority(SPIFFE_ID, DOMAIN.pem + pem)


def key_usage(*, digital_signature=True, key_cert_sign=False, crl_sign=False):
    return x509.KeyUsage(digital_signature, False, False, False, False, key_cert_sign, crl_sign, False, False)


UNFIT = {
    "authority": ({"ca": True}, "a certificate authority signs no statements"),  # row 25
    "no key usage": ({"usage": None}, "key usage"),
    "key usage not critical": ({"usage_critical": False}, "key usage must be critical"),
    "no digital signature": ({"usage": x509.KeyUsage(False, False, False, False, True, False, False, False, False)}, "key usage"),
    "signs certificates": ({"usage": key_usage(key_cert_sign=True)}, "key usage"),
    "signs revocations": ({"usage": key_usage(crl_sign=True)}, "key usage"),
    "code signing alone": ({"extended": (ExtendedKeyUsageOID.CODE_SIGNING,)}, "extended key usage"),
    "server alone": ({"extended": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "extended key usage"),
    "any": ({"extended": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)}, "extended key usage"),
    "unknown critical": ({"extra": ((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\5\0"), True),)}, "critical extension"),
    "no name": ({"names": ()}, "exactly one URI"),
    "two URIs": ({"names": (URI(SPIFFE_ID), URI("spiffe://house.demo/ci/other"))}, "exactly one URI"),  # row 39
    "the same URI twice": ({"names": (URI(SPIFFE_ID), URI(SPIFFE_ID))}, "exactly one URI"),
    "DNS name alone": ({"names": (DNS("house.demo"),)}, "exactly one URI"),
    "e-mail beside": ({"names": (URI(SPIFFE_ID), x509.RFC822Name("a@house.demo"))}, "exactly one URI"),
    "RSA of 1024 bits": ({"key": rsa.generate_private_key(65537, 1024)}, "2048 bits"),  # row 35
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_certificate_that_is_no_workloads_is_refused(case):
    changes, words = UNFIT[case]
    data = opened(WORKLOAD.sign(manifest_statement()))
    data["verificationMaterial"]["certificate"]["rawBytes"] = base64.b64encode(replace(WORKLOAD, **changes).der).decode()
    refused(closed(data), RULES["spiffe"], "unknown-builder", words)


def mutations(text):
    """Twelve ways of nearly being somebody."""
    scheme, _, rest = text.partition("://")
    host, _, path = rest.partition("/")
    return {
        "prefix": text[:-1],
        "suffix": text + "x",
        "case of the host": f"{scheme}://{host.upper()}/{path}",
        "case of the path": f"{scheme}://{host}/{path.upper()}",
        "port": f"{scheme}://{host}:443/{path}",
        "user": f"{scheme}://{host}@evil.demo/{path}",
        "slash at the end": text + "/",
        "two slashes": f"{scheme}://{host}//{path}",
        "dot segment": f"{scheme}://{host}/x/../{path}",
        "escape": f"{scheme}://{host}/%{ord(path[0]):x}{path[1:]}",
        "another domain": f"{scheme}://evil-{host}/{path}",
        "query": text + "?x",
    }


@pytest.mark.parametrize("case", mutations(SPIFFE_ID))
def test_nearly_the_spiffe_id_is_another(case):
    name = mutations(SPIFFE_ID)[case]
    assert name != SPIFFE_ID
    refused(replace(WORKLOAD, names=(URI(name),)).sign(manifest_statement()), RULES["spiffe"], "unknown-builder", "another SPIFFE ID")


@pytest.mark.parametrize("case", mutations(IDENTITY))
def test_nearly_the_keyless_identity_is_another(case):  # row 37
    name = mutations(IDENTITY)[case]
    refused(SIGSTORE.sign(manifest_statement(), identity=name), RULES["sigstore"], "unknown-builder", "not by " + IDENTITY)


@pytest.mark.parametrize("issuer", [ISSUER + "/", ISSUER[:-1], ISSUER.upper(), ISSUER + "@evil.demo", ISSUER + ":443", ISSUER.replace("https", "http")])
def test_nearly_the_keyless_issuer_is_another(issuer):  # row 38
    refused(SIGSTORE.sign(manifest_statement(), issuer=issuer), RULES["sigstore"], "unknown-builder", "vouched for by")


def test_an_authority_of_another_trust_domain_is_refused():
    elsewhere = FakeAuthority("spire.demo middle", issuer=DOMAIN, names=(URI("spiffe://evil.demo"),))
    refused(FakeWorkload(elsewhere, intermediates=(elsewhere,)).sign(manifest_statement()), RULES["spiffe"], "unknown-builder", "trust domain house.demo")
    with pytest.raises(MalformedKey, match=r"trust domain house\.demo"):
        parse_signer(BUILDER_ID, ExpectedSigner(SignerKind.SPIFFE, FakeAuthority("x", names=(URI("spiffe://evil.demo"),)).pem, SPIFFE_ID))


CHAINS = {
    "intermediate left out": (FakeWorkload(MIDDLE), "leads to no CA"),
    "root brought along": (FakeWorkload(MIDDLE, intermediates=(MIDDLE, DOMAIN)), "root certificate of its own"),
    "own root": (FakeWorkload(other := FakeAuthority("o"), intermediates=(other,)), "root certificate of its own"),
    "intermediate that is no authority": (
        FakeWorkload(leafy := FakeAuthority("leafy", issuer=DOMAIN, ca=False), intermediates=(leafy,)),
        "leads to no CA",
    ),
    "intermediate that has ended": (
        FakeWorkload(ended := FakeAuthority("ended", issuer=DOMAIN, start=ISSUED - 2 * SECOND, life=SECOND), intermediates=(ended,)),
        "leads to no CA",
    ),
    "five intermediates": (FakeWorkload(MIDDLE, intermediates=(MIDDLE,) * 5), "more than 4 intermediates"),
}


@pytest.mark.parametrize("case", CHAINS)
def test_a_chain_that_does_not_hold_is_refused(case):  # row 24
    workload, words = CHAINS[case]
    refused(workload.sign(manifest_statement()), RULES["spiffe"], "unknown-builder", words)


@pytest.mark.parametrize(("place", "name"), [(0, b"\x0c\x06leaf 7"), (1, b"\x0c\x06ca no7")])
def test_a_name_that_the_library_cannot_read_is_refused(place, name):
    own = x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leaf 7")]))
    middle = FakeAuthority("ca no7", issuer=DOMAIN)
    bundle = opened(FakeWorkload(middle, names=(URI(SPIFFE_ID), own), intermediates=(middle,)).sign(manifest_statement()))
    slot = bundle["verificationMaterial"]["x509CertificateChain"]["certificates"][place]
    der = base64.b64decode(slot["rawBytes"])
    assert name in der
    bits = b"\x03" + name[1:2] + b"\x00" + name[3:]  # a bit string of the same length
    slot["rawBytes"] = base64.b64encode(der.replace(name, bits)).decode()
    if place:  # else the leaf's own name is what stops it
        plain = opened(FakeWorkload(middle, intermediates=(middle,)).sign(manifest_statement()))
        bundle["verificationMaterial"]["x509CertificateChain"]["certificates"][0] = plain["verificationMaterial"]["x509CertificateChain"]["certificates"][0]
    refused(closed(bundle), RULES["spiffe"], "unknown-builder", "cannot be read")


def test_an_svid_holds_at_the_intake_entrys_time_both_ends_included():  # row 27
    data = WORKLOAD.sign(manifest_statement())
    end = later(ISSUED, seconds=3600)
    for at in (ISSUED, end):
        assert isinstance(verify_submission(data, RULES["spiffe"], received_at=at), Verified)
    for at in (ISSUED - SECOND, end + SECOND):
        refused(data, RULES["spiffe"], "certificate-expired", "outside the certificate's validity", at=at)


def test_a_keyless_signature_lies_within_its_certificate_and_not_after_the_intake():  # rows 27 and 29
    late = later(ISSUED, seconds=601)
    year = later(ISSUED, seconds=365 * 86400)
    data = SIGSTORE.sign(manifest_statement())
    assert isinstance(verify_submission(data, RULES["sigstore"], received_at=year), Verified)
    refused(SIGSTORE.sign(manifest_statement(), at=late, start=ISSUED), RULES["sigstore"], "certificate-expired", "outside the certificate's validity", at=year)
    refused(data, RULES["sigstore"], "certificate-expired", "signed in the future", at=ISSUED - SECOND)


def test_a_root_that_ended_before_the_intake_is_refused():
    old = FakeAuthority("spire.demo", key=DOMAIN.key, start=ISSUED - 2 * SECOND, life=SECOND)
    rule = parse_signer(BUILDER_ID, ExpectedSigner(SignerKind.SPIFFE, old.pem, SPIFFE_ID))
    refused(WORKLOAD.sign(manifest_statement()), rule, "unknown-builder", "leads to no CA of the trust domain that was valid then")


# sigstore's source


INVOCATIONS = {RUN: RUN, f"{REPOSITORY}/actions/runs/17/attempts/2": "17-2", f"{REPOSITORY}/-/jobs/302": "302"}


@pytest.mark.parametrize(("repository", "invocation"), [("", "/-/jobs/302"), ("https://a.demo/x", "https://b.demo/x/-/jobs/302")])
def test_a_runs_uri_is_read_below_its_own_repository_alone(repository, invocation):
    assert run_of(repository, invocation) == invocation
    assert run_of("https://b.demo/x", "https://b.demo/x/-/jobs/302") == "302"


@pytest.mark.parametrize("invocation", INVOCATIONS)
def test_the_certificates_source_and_run_are_the_statements(invocation):
    source = {"repository": REPOSITORY, "commit": COMMIT, "invocation": invocation}
    run = INVOCATIONS[invocation]
    checked = verify_submission(SIGSTORE.sign(manifest_statement(run=run), source=source), RULES["sigstore"], received_at=RECEIVED)
    assert isinstance(checked, Verified)
    assert isinstance(checked.value, ArtifactManifest)
    result = verify_submission(SIGSTORE.sign(result_statement(), source=source), RULES["sigstore"], received_at=RECEIVED).value.signer
    assert (result.project, result.repository, result.commit, result.run) == (None, REPOSITORY, COMMIT, run)


@pytest.mark.parametrize("statement", [manifest_statement, provenance_statement])
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"commit": OTHER_COMMIT}, "provenance-commit"),
        ({"commit": COMMIT.upper() + "x"}, "provenance-commit"),
        ({"commit": ""}, "provenance-commit"),
        ({"invocation": "run-2"}, "provenance-commit"),
        ({"invocation": f"{REPOSITORY}/actions/runs/1/attempts/1"}, "provenance-commit"),
        ({"repository": REPOSITORY, "invocation": "https://evil.demo/-/jobs/1"}, "provenance-commit"),
        ({"repository": REPOSITORY + "-fork"}, "provenance-project"),
        ({"repository": REPOSITORY.upper()}, "provenance-project"),
        ({"repository": ""}, "provenance-project"),
    ],
)
def test_a_certificate_for_another_source_or_run_is_refused(statement, source, reason):  # rows 41 and 45
    refused(SIGSTORE.sign(statement(), source=source), RULES["sigstore"], reason, "than its certificate")


def test_an_extension_that_is_no_text_is_refused():
    broken = SIGSTORE.sign(manifest_statement(), source={"commit": b"\x0c\x02\xff\xff"})
    refused(broken, RULES["sigstore"], "unknown-builder", "not a DER string")


@pytest.mark.parametrize("kind", STANDING)
def test_a_statement_of_another_builder_is_refused(kind):
    refused(SIGN[kind](manifest_statement(builder={"id": "https://ci.demo/other"})), RULES[kind], "unknown-builder", "another builder")


# files of the policy


def test_the_authorities_whose_end_is_watched():
    assert authorities_of(RULES["x509"]) == (CA.root().certificates[0],)
    assert len(authorities_of(RULES["spiffe"])) == 1
    assert authorities_of(RULES["key"]) == authorities_of(RULES["sigstore"]) == ()


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (SignerKind.X509, KEY.pem, "not PEM certificates"),
        (SignerKind.KEY, CA.pem(), "not one PEM public key"),
        (SignerKind.KEY, b"", "not one PEM public key"),
        (SignerKind.SIGSTORE, b"{}", "trusted root"),
        (SignerKind.SIGSTORE, DOMAIN.spiffe_bundle(), "trusted root"),
        (SignerKind.SPIFFE, KEY.pem, "neither PEM certificates nor"),
        (SignerKind.SPIFFE, SIGSTORE.pinned, "SPIFFE trust bundle"),
        (SignerKind.SPIFFE, b'{"keys":[]}', "1 to 32 CA certificates"),
        (SignerKind.SPIFFE, DOMAIN.spiffe_bundle(use="jwt-svid"), "1 to 32 CA certificates"),
        (SignerKind.SPIFFE, DOMAIN.spiffe_bundle(use=None), "1 to 32 CA certificates"),
        (SignerKind.SPIFFE, DOMAIN.spiffe_bundle(x5c=[]), "exactly one certificate"),
        (SignerKind.SPIFFE, DOMAIN.spiffe_bundle(x5c=["AAAA", "AAAA"]), "x5c"),
        (SignerKind.SPIFFE, DOMAIN.spiffe_bundle(x5c=["!"]), "not base64"),
        (SignerKind.SPIFFE, DOMAIN.spiffe_bundle(x5c=["AAAA"]), "cannot be read"),
        (SignerKind.SPIFFE, DOMAIN.spiffe_bundle(x5c=[base64.b64encode(WORKLOAD.der).decode()]), "not a certificate authority's"),
    ],
)
def test_a_file_that_holds_no_such_trust_is_refused(kind, data, words):
    with pytest.raises(MalformedKey, match=words):
        parse_signer(BUILDER_ID, ExpectedSigner(kind, data, SPIFFE_ID, ISSUER))
