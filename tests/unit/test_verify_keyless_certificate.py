"""What a keyless certificate says, where it says it in one way (attack matrix, rows 25, 38, 39); windows of validity, both ends included."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import moment
from gatekeeper.verify.attestation import Artifact, Keyless, verify_attestation
from gatekeeper.verify.checks import Outcome
from gatekeeper.verify.errors import MalformedKey
from gatekeeper.verify.fulciocertificate import KeylessSource, UnreadableCertificate, is_self_issued, read_keyless_certificate, read_source
from gatekeeper.verify.sigstoreroot import holding, parse_sigstore_root
from gatekeeper.verify.window import Window, read_window
from tests.fakes.foreign_bundles import SHA256, bundle, envelope

KEY = ec.generate_private_key(ec.SECP256R1())
START = datetime(2026, 11, 21, 12, tzinfo=UTC)
ID, ISSUER = "https://ci.example/builder", "https://issuer.example"
V1, V2 = "1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8"
OTHER_NAME = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")


def utf8(text: str) -> bytes:
    return bytes([0x0C, len(text.encode())]) + text.encode()


NAMES = (x509.UniformResourceIdentifier(ID),)
ISSUERS = ((V1, ISSUER.encode()), (V2, utf8(ISSUER)))


def certificate(names=NAMES, issuers=ISSUERS, usage=ExtendedKeyUsageOID.CODE_SIGNING, ca=False, signing=True, certifies=None) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(minutes=10))
        .add_extension(x509.KeyUsage(signing, False, False, False, False, bool(ca) if certifies is None else certifies, False, False, False), critical=True)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    for oid, value in issuers:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("milliseconds", [253_402_300_800_000, 2**63, 2**64 - 1])
def test_an_sct_of_a_year_that_there_is_not_is_unreadable(milliseconds):
    signature = b"\x04\x03\x00\x08\x30\x06\x02\x01\x01\x02\x01\x01"
    sct = b"\0" + b"\1" * 32 + milliseconds.to_bytes(8) + b"\0\0" + signature
    listed = len(sct).to_bytes(2) + sct
    octets = (len(listed) + 2).to_bytes(1) + len(listed).to_bytes(2) + listed
    with pytest.raises(UnreadableCertificate, match="year"):
        read_keyless_certificate(certificate(issuers=(*ISSUERS, ("1.3.6.1.4.1.11129.2.4.2", b"\x04" + octets))))


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        (x509.UniformResourceIdentifier(ID), ID),
        (x509.RFC822Name("a@b.example"), "a@b.example"),
        (x509.OtherName(OTHER_NAME, utf8("robot")), "robot"),
    ],
)
def test_the_one_name_is_the_identity(name, identity):
    read = read_keyless_certificate(certificate(names=(name,)))
    assert (read.identity, read.issuer, read.signs_code) == (identity, ISSUER, True)


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.UniformResourceIdentifier(ID), x509.UniformResourceIdentifier("https://evil.example")),
        (x509.UniformResourceIdentifier(ID), x509.RFC822Name("a@b.example")),
    ],
)
def test_row_39_a_certificate_has_exactly_one_name(names):
    with pytest.raises(UnreadableCertificate, match=f"has {len(names)} names"):
        read_keyless_certificate(certificate(names=names))


@pytest.mark.parametrize("name", [x509.DNSName("ci.example"), x509.OtherName(x509.ObjectIdentifier("1.2.3"), utf8("robot"))])
def test_row_39_a_name_of_another_kind_names_no_signer(name):
    with pytest.raises(UnreadableCertificate, match="of no kind"):
        read_keyless_certificate(certificate(names=(name,)))


def test_row_38_two_issuer_extensions_that_disagree_are_no_issuer():
    with pytest.raises(UnreadableCertificate, match="disagree"):
        read_keyless_certificate(certificate(issuers=((V1, ISSUER.encode()), (V2, utf8("https://issuer.example.evil")))))


def test_either_issuer_extension_alone_is_enough_and_none_is_not():
    for issuers in (((V1, ISSUER.encode()),), ((V2, utf8(ISSUER)),)):
        assert read_keyless_certificate(certificate(issuers=issuers)).issuer == ISSUER
    with pytest.raises(UnreadableCertificate, match="names no issuer"):
        read_keyless_certificate(certificate(issuers=()))


@pytest.mark.parametrize("issuers", [((V1, b"\xff"),), ((V2, ISSUER.encode()),)])
def test_an_issuer_that_cannot_be_read_is_none(issuers):
    with pytest.raises(UnreadableCertificate):
        read_keyless_certificate(certificate(issuers=issuers))


@pytest.mark.parametrize("change", [{"usage": None}, {"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, {"ca": True}, {"ca": True, "certifies": False}, {"certifies": True}, {"ca": None, "certifies": True}, {"signing": False}])
def test_row_25_a_certificate_that_may_not_sign_code_says_so(change):
    assert not read_keyless_certificate(certificate(**change)).signs_code


def test_a_certificate_that_does_not_say_whether_it_is_an_authority_is_none():
    assert read_keyless_certificate(certificate(ca=None)).signs_code


REPOSITORY = "https://github.com/acme/hello"


def source(**said):
    """What the source extensions of a certificate say."""
    oids = {"repository": "12", "commit": "13", "invocation": "21"}
    extensions = tuple((f"1.3.6.1.4.1.57264.1.{oids[name]}", utf8(text)) for name, text in said.items())
    return read_source(x509.load_der_x509_certificate(certificate(issuers=(*ISSUERS, *extensions))))


def test_the_source_is_what_the_extensions_say_and_nothing_where_there_are_none():
    assert source() == KeylessSource(None, None, None)
    said = source(repository=REPOSITORY, commit="1" * 40, invocation=f"{REPOSITORY}/actions/runs/77/attempts/2")
    assert said == KeylessSource(REPOSITORY, "1" * 40, "77-2")
    assert source(repository="https://gitlab.example/a/b", invocation="https://gitlab.example/a/b/-/jobs/88").run == "88"


@pytest.mark.parametrize(
    ("repository", "invocation"),
    [
        (None, f"{REPOSITORY}/actions/runs/77/attempts/2"),
        (None, "/actions/runs/77/attempts/2"),
        ("", "/actions/runs/77/attempts/2"),
        (REPOSITORY, "https://github.com/acme/jelly/actions/runs/77/attempts/2"),
        (REPOSITORY, "https://gitlab.com/acme/jelly/-/jobs/88"),
        (REPOSITORY, f"{REPOSITORY}/actions/runs/77/attempts/2/x"),
        (REPOSITORY, f"{REPOSITORY}/actions/runs/077/attempts/2"),
        (REPOSITORY, f"{REPOSITORY}/runs/77"),
    ],
)
def test_an_invocation_that_is_not_below_the_very_repository_is_no_run_of_a_platform(repository, invocation):
    """It stays a whole URI, which equals no token's run."""
    said = {} if repository is None else {"repository": repository}
    assert source(**said, invocation=invocation).run == invocation


def test_what_is_no_certificate_is_unreadable():
    for data in (b"", b"\x30\x00", certificate()[:-1]):
        with pytest.raises(UnreadableCertificate):
            read_keyless_certificate(data)
        with pytest.raises(UnreadableCertificate):
            is_self_issued(data)


SECOND = timedelta(seconds=1)


def test_a_window_is_closed_at_both_ends():
    window = Window(START, START + SECOND)
    assert [window.holds(START + n * SECOND) for n in (-1, 0, 1, 2)] == [False, True, True, False]
    assert Window(START, None).holds(START + timedelta(days=10_000))


@pytest.mark.parametrize(
    "text",
    [{}, {"end": "2026-01-01T00:00:00Z"}, {"start": "yesterday"}, {"start": "2026-13-01T00:00:00Z"}, {"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}],
)
def test_a_window_without_a_start_or_with_no_sense_is_an_error(text):
    with pytest.raises(FieldError):
        read_window(Fields(text))


def test_a_window_may_end_where_it_starts_and_has_two_members():
    moment_of_birth = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}
    window = read_window(Fields(moment_of_birth))
    assert window.holds(window.start)
    with pytest.raises(FieldError, match="/more: is not a member"):
        read_window(Fields(moment_of_birth | {"more": 1}))


def test_fractions_of_a_second_are_read():
    window = read_window(Fields({"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00.999Z"}))
    assert window.end.microsecond == 999_000


def test_no_time_means_no_authority_holds():
    root = parse_sigstore_root(
        b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[{"publicKey":{"validFor":{"start":"2020-01-01T00:00:00Z"}}}]}'
    )
    assert holding(root.logs, (START,)) == (0,)
    assert holding(root.logs, ()) == ()


@pytest.mark.parametrize("data", [b"", b"[]", b'{"mediaType":"other"}', b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","roots":[]}'])
def test_a_trusted_root_of_another_form_is_refused(data):
    with pytest.raises(MalformedKey, match="trusted root"):
        parse_sigstore_root(data)


@pytest.mark.parametrize("change", [{"usage": None}, {"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, {"ca": True}, {"signing": False}])
def test_row_25_a_bundle_under_such_a_certificate_is_refused(change):
    raw = {"rawBytes": base64.b64encode(certificate(**change)).decode()}
    data = bundle({"dsseEnvelope": envelope(KEY, b"{}")}, verificationMaterial={"certificate": raw})
    root = parse_sigstore_root(b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}')
    report = verify_attestation(json.dumps(data).encode(), Keyless(ID, ISSUER, root), Artifact({"sha256": SHA256}), at=moment(START))
    assert [check.name.value for check in report.checks if check.outcome is Outcome.FAILED] == ["usage"]
    assert report.result.reason == "unknown-builder"
