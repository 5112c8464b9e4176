"""Run certificates: attack matrix rows 23-25, 27, 34, 36, 37, 39, and every boundary of time by one second."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from gatekeeper.model.digest import digest_of
from gatekeeper.model.facts import RunIdentity
from gatekeeper.model.moment import later
from gatekeeper.model.uris import IN_TOTO_PAYLOAD
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.builder import (
    BuilderRoot,
    UnfitCertificate,
    encode_run_urn,
    parse_builder_root,
    read_run_certificate,
    verify_builder_statement,
)
from gatekeeper.verify.bundle import encode_bundle, parse_bundle
from gatekeeper.verify.dsse import pae
from gatekeeper.verify.errors import MalformedKey
from tests.fakes.signing import (
    BUILDER_ID,
    COMMIT,
    DIGITAL_SIGNATURE,
    ISSUED,
    LIFE,
    PROJECT,
    RECEIVED,
    RUN,
    FakeCa,
    FakeReviewer,
    FakeRun,
    manifest_statement,
)

CA = FakeCa()
URN = f"urn:pingee:run:{PROJECT}:{COMMIT}:{RUN}"
PAYLOAD = manifest_statement()
URI = x509.UniformResourceIdentifier


def verify(run, *, roots=None, at=RECEIVED, payload=PAYLOAD):
    return verify_builder_statement(parse_bundle(run.sign(payload)), [CA.root()] if roots is None else roots, received_at=at)


def names(*uris):
    return tuple(URI(uri) for uri in uris)


def test_a_good_run_is_named_by_its_certificate():
    run = CA.run()
    checked = verify(run)
    assert isinstance(checked, Verified)
    assert checked.value.payload == PAYLOAD
    assert checked.value.signer == RunIdentity(BUILDER_ID, PROJECT, COMMIT, RUN, digest_of(run.certificate), "builder-ca")


def test_the_order_of_the_two_names_does_not_matter():
    assert verify(CA.run(names=names(URN, BUILDER_ID))).value.signer.builder_id == BUILDER_ID


def test_the_root_that_issued_is_named():
    other = FakeCa(name="other")
    assert verify(CA.run(), roots=[other.root(), CA.root()]).value.signer.root == "builder-ca"


UNFIT = {
    "no names": ({"names": ()}, "exactly two names"),
    "one name": ({"names": names(BUILDER_ID)}, "exactly two names"),
    "run alone": ({"names": names(URN)}, "exactly two names"),
    "three names": ({"names": names(BUILDER_ID, URN, "https://ci.demo/other")}, "exactly two names"),  # row 39
    "two builders": ({"names": names(BUILDER_ID, "https://ci.demo/other")}, "exactly two names"),
    "two runs": ({"names": names(URN, URN + "2")}, "exactly two names"),
    "dns name too": ({"names": (*names(BUILDER_ID, URN), x509.DNSName("ci.demo"))}, "exactly two names"),
    "dns name instead": ({"names": (x509.DNSName("ci.demo"), URI(URN))}, "exactly two names"),
    "other name": ({"names": (*names(URN), x509.OtherName(ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x0c\x01a"))}, "exactly two names"),
    "http builder": ({"names": names("http://ci.demo/builder", URN)}, "plain https URL"),
    "builder without path": ({"names": names("https://ci.demo", URN)}, "plain https URL"),
    "user in builder": ({"names": names("https://ci.demo@evil/builder", URN)}, "plain https URL"),  # row 40
    "dot segments": ({"names": names("https://ci.demo/builder/../evil", URN)}, "plain https URL"),  # row 40
    "builder in capitals": ({"names": names("https://CI.demo/builder", URN)}, "plain https URL"),
    "query in builder": ({"names": names("https://ci.demo/builder?x", URN)}, "plain https URL"),
    "fragment in builder": ({"names": names("https://ci.demo/builder#x", URN)}, "plain https URL"),
    "escape in builder": ({"names": names("https://ci.demo/%62uilder", URN)}, "plain https URL"),
    "trailing slash": ({"names": names("https://ci.demo/builder/", URN)}, "plain https URL"),
    "newline in builder": ({"names": names("https://ci.demo/builder\n", URN)}, "plain https URL"),
    "other urn": ({"names": names(BUILDER_ID, "urn:evil:run:a:b:c")}, "urn:pingee:run"),
    "short commit": ({"names": names(BUILDER_ID, f"urn:pingee:run:{PROJECT}:abc1234:{RUN}")}, "urn:pingee:run"),
    "commit in capitals": ({"names": names(BUILDER_ID, f"urn:pingee:run:{PROJECT}:{'A' * 40}:{RUN}")}, "urn:pingee:run"),
    "no run": ({"names": names(BUILDER_ID, f"urn:pingee:run:{PROJECT}:{COMMIT}:")}, "urn:pingee:run"),
    "fifth part": ({"names": names(BUILDER_ID, URN + ":x")}, "urn:pingee:run"),
    "no extended usage": ({"extended": None}, "codeSigning alone"),  # row 25
    "server usage": ({"extended": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "codeSigning alone"),
    "client usage too": ({"extended": (ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.CLIENT_AUTH)}, "codeSigning alone"),
    "any usage": ({"extended": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)}, "codeSigning alone"),
    "authority": ({"ca": True}, "signs no statements"),  # row 25
    "no key usage": ({"usage": None}, "digitalSignature alone"),
    "signs certificates": ({"usage": x509.KeyUsage(True, False, False, False, False, True, False, False, False)}, "digitalSignature alone"),
    "agrees keys": ({"usage": x509.KeyUsage(True, False, False, False, True, False, False, False, False)}, "digitalSignature alone"),
    "lives too long": ({"life": timedelta(hours=1, seconds=1)}, "lives longer"),
    "unknown critical": ({"extra": ((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)}, "not understood"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_certificate_that_is_not_a_runs(case):
    changes, message = UNFIT[case]
    refusal = verify(CA.run(**changes))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "unknown-builder"
    assert message in refusal.detail


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256K1())], ids=["P-384", "secp256k1"])
def test_other_curves(key):  # row 34
    assert verify(CA.run(key=key)) == Refusal("unknown-builder", "the key must be ECDSA on P-256")


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), Ed25519PrivateKey.generate()], ids=["rsa", "ed25519"])
def test_other_kinds_of_key(key):  # row 35
    run = FakeRun(CA.run().key, CA.run(key=key).certificate)
    assert verify(run) == Refusal("unknown-builder", "the key must be ECDSA on P-256")


def test_an_unknown_extension_that_is_not_critical_is_harmless():
    extra = ((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), False),)
    assert isinstance(verify(CA.run(extra=extra)), Verified)


@pytest.mark.parametrize(
    ("second", "reason"),
    [(-1, "certificate-expired"), (0, None), (1, None), (599, None), (600, None), (601, "certificate-expired"), (86400, "certificate-expired")],
)
def test_validity_holds_at_both_ends_and_not_a_second_more(second, reason):  # row 27
    checked = verify(CA.run(), at=later(ISSUED, seconds=second))
    assert (checked.reason if isinstance(checked, Refusal) else None) == reason


@pytest.mark.parametrize("payload_type", ["application/json", IN_TOTO_PAYLOAD + ";x=1", IN_TOTO_PAYLOAD.upper()])
def test_another_payload_type_is_refused_though_its_signature_holds(payload_type):
    bundle = parse_bundle(CA.run().sign(PAYLOAD, payload_type=payload_type))
    refusal = verify_builder_statement(bundle, [CA.root()], received_at=RECEIVED)
    assert refusal == Refusal("provenance-predicate", f"the payload type must be {IN_TOTO_PAYLOAD}")


def test_a_root_without_certificates_issued_nothing_and_is_in_nobodys_way():
    empty = BuilderRoot("empty", ())
    assert verify(CA.run(), roots=[empty]) == Refusal("unknown-builder", "no trusted builder root issued the certificate")
    assert verify(CA.run(), roots=[empty, CA.root()]).value.signer.root == "builder-ca"


def test_the_roots_own_validity_counts():  # class 4: an expired issuer
    day = timedelta(days=366)
    start = later(ISSUED, seconds=int(day.total_seconds()))
    for second in (0, 60, 600):
        refusal = verify(CA.run(start=start), at=later(start, seconds=second))
        assert refusal == Refusal("unknown-builder", "the certificate's path to its root does not hold")


def test_no_roots_no_builder():
    assert verify(CA.run(), roots=[]) == Refusal("unknown-builder", "no trusted builder root issued the certificate")


def test_another_ca_of_the_same_name():  # rows 24 and 37: right name, wrong instance
    assert verify(FakeCa().run()) == Refusal("unknown-builder", "no trusted builder root issued the certificate")


def test_another_ca_of_another_name_with_our_key():
    assert verify(replace(CA, subject="Another").run()).reason == "unknown-builder"


def test_self_signed():  # row 24
    key = ec.generate_private_key(ec.SECP256R1())
    assert verify(FakeCa(key=key).run(key=key)).reason == "unknown-builder"


def test_the_root_itself_signs_no_statement():  # row 24
    run = FakeRun(CA.key, CA.authority.public_bytes(Encoding.DER))
    assert verify(run).reason == "unknown-builder"


def test_a_run_issues_no_run():
    run = CA.run()
    issuer = FakeCa(key=run.key)
    assert verify(issuer.run(), roots=[CA.root()]).reason == "unknown-builder"


def test_a_bare_key_is_no_builder():  # row 36
    bundle = parse_bundle(FakeReviewer().sign(PAYLOAD))
    assert verify_builder_statement(bundle, [CA.root()], received_at=RECEIVED).reason == "unknown-builder"


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"junk", CA.run().certificate + b"\x00", CA.run().certificate[:-1]])
def test_bytes_that_are_no_certificate(der):
    bundle = replace(parse_bundle(CA.run().sign(PAYLOAD)), certificate=der)
    refusal = verify_builder_statement(bundle, [CA.root()], received_at=RECEIVED)
    assert refusal == Refusal("unknown-builder", "not an X.509 certificate")


def test_splices_of_two_good_bundles():  # row 23, as far as our bundles have parts: certificate, signature, payload
    one = CA.run().sign(PAYLOAD)
    other = CA.run(run="run-2").sign(manifest_statement(run="run-2"))
    parts = [
        (bundle.certificate, bundle.envelope.signatures[0][1], bundle.envelope.payload) for bundle in (parse_bundle(one), parse_bundle(other))
    ]
    for certificate in (0, 1):
        for signature in (0, 1):
            for payload in (0, 1):
                data = encode_bundle(parts[payload][2], parts[signature][1], certificate=parts[certificate][0])
                checked = verify_builder_statement(parse_bundle(data), [CA.root()], received_at=RECEIVED)
                if certificate == signature == payload:
                    assert isinstance(checked, Verified)
                else:
                    assert checked.reason == "bad-signature"


N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def forged(signature):
    run = CA.run()
    r, s = utils.decode_dss_signature(run.key.sign(pae(IN_TOTO_PAYLOAD, PAYLOAD), ec.ECDSA(hashes.SHA256())))
    return encode_bundle(PAYLOAD, signature(r, s), certificate=run.certificate)


FORGED = {
    "zero r": lambda r, s: utils.encode_dss_signature(0, s),
    "zero s": lambda r, s: utils.encode_dss_signature(r, 0),
    "both zero": lambda r, s: utils.encode_dss_signature(0, 0),
    "r is n": lambda r, s: utils.encode_dss_signature(N, s),
    "s is n": lambda r, s: utils.encode_dss_signature(r, N),
    "r beyond n": lambda r, s: utils.encode_dss_signature(r + N, s),
    "s beyond n": lambda r, s: utils.encode_dss_signature(r, s + N),
    "raw": lambda r, s: r.to_bytes(32) + s.to_bytes(32),
    "trailing byte": lambda r, s: utils.encode_dss_signature(r, s) + b"\x00",
    "cut": lambda r, s: utils.encode_dss_signature(r, s)[:-1],
    "long length": lambda r, s: b"\x30\x81" + utils.encode_dss_signature(r, s)[1:],
    "not DER": lambda r, s: b"junk",
}


@pytest.mark.parametrize("case", FORGED)
def test_signatures_at_the_edges(case):  # row 34
    checked = verify_builder_statement(parse_bundle(forged(FORGED[case])), [CA.root()], received_at=RECEIVED)
    assert checked.reason == "bad-signature"


def test_the_true_signature_is_believed_when_built_the_same_way():
    checked = verify_builder_statement(parse_bundle(forged(utils.encode_dss_signature)), [CA.root()], received_at=RECEIVED)
    assert isinstance(checked, Verified)


def test_sha384_over_the_same_key():
    run = CA.run()
    signature = run.key.sign(pae(IN_TOTO_PAYLOAD, PAYLOAD), ec.ECDSA(hashes.SHA384()))
    bundle = parse_bundle(encode_bundle(PAYLOAD, signature, certificate=run.certificate))
    assert verify_builder_statement(bundle, [CA.root()], received_at=RECEIVED).reason == "bad-signature"


def test_root_from_pem():
    assert parse_builder_root("builder-ca", CA.pem() + FakeCa().pem()).certificates[0] == CA.root().certificates[0]


def test_root_must_be_an_authority():
    pem = x509.load_der_x509_certificate(CA.run().certificate).public_bytes(Encoding.PEM)
    with pytest.raises(MalformedKey, match="not a certificate authority's"):
        parse_builder_root("builder-ca", CA.pem() + pem)


@pytest.mark.parametrize("pem", [b"", b"junk"])
def test_root_must_be_there(pem):
    with pytest.raises(MalformedKey, match="not PEM certificates"):
        parse_builder_root("builder-ca", pem)


def test_too_many_roots():
    with pytest.raises(MalformedKey, match="more than 16"):
        parse_builder_root("builder-ca", CA.pem() * 17)


def test_urn_is_written_as_it_is_read():
    assert encode_run_urn(PROJECT, COMMIT, RUN) == URN
    with pytest.raises(UnfitCertificate):
        encode_run_urn("a:b", COMMIT, RUN)


def test_reading_a_certificate_for_the_relay():
    assert read_run_certificate(CA.run().certificate).run == RUN
    with pytest.raises(UnfitCertificate, match="exactly two names"):
        read_run_certificate(CA.run(names=names(URN)).certificate)


def test_life_and_usage_of_the_fake_are_those_of_a_run():
    certificate = x509.load_der_x509_certificate(CA.run().certificate)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == LIFE
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value == DIGITAL_SIGNATURE
