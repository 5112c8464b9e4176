"""Envelope and bundle: attack matrix rows 1-8 and 18-22, each with the reason."""

import base64
import json

import pytest

from gatekeeper.model.digest import digest_of
from gatekeeper.model.uris import BUNDLE_V03, IN_TOTO_PAYLOAD
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.bundle import encode_bundle, parse_bundle
from gatekeeper.verify.dsse import envelope_json, pae, parse_envelope
from gatekeeper.verify.errors import MalformedBundle, MalformedEnvelope
from gatekeeper.verify.manifest import verify_manifest
from gatekeeper.verify.statement import MAX_STATEMENT
from tests.fakes.signing import RECEIVED, FakeCa, manifest_statement

CA = FakeCa()
RUN = CA.run()
ROOTS = [CA.root()]
PAYLOAD = manifest_statement()
GOOD = RUN.sign(PAYLOAD)


def verify(bundle):
    data = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    return verify_manifest(data, ROOTS, received_at=RECEIVED)


def changed(**envelope):
    bundle = json.loads(GOOD)
    bundle["dsseEnvelope"] |= envelope
    return bundle


def b64(data):
    return base64.b64encode(data).decode()


def test_pae_is_the_specifications_example():
    assert pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_pae_counts_bytes_not_characters():
    assert pae("é", "é".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xa9"


def test_a_good_bundle_names_its_exact_bytes():
    checked = verify(GOOD)
    assert isinstance(checked, Verified)
    assert checked.digest == digest_of(GOOD)


def test_bundle_round_trip():
    bundle = parse_bundle(GOOD)
    assert (bundle.certificate, bundle.key_hint, bundle.envelope.payload) == (RUN.certificate, None, PAYLOAD)
    assert encode_bundle(PAYLOAD, bundle.envelope.signatures[0][1], certificate=RUN.certificate) == GOOD


def test_a_bundle_is_made_with_one_material():
    with pytest.raises(ValueError, match="a certificate or a key"):
        encode_bundle(b"", b"")
    with pytest.raises(ValueError, match="a certificate or a key"):
        encode_bundle(b"", b"", certificate=b"x", key_hint="y")


@pytest.mark.parametrize("payload_type", ["application/json", IN_TOTO_PAYLOAD + ";x=1", "application/vnd.in-toto+JSON"])
def test_another_payload_type_well_signed_is_no_statement(payload_type):  # row 1
    refusal = verify(RUN.sign(PAYLOAD, payload_type=payload_type))
    assert refusal == Refusal("provenance-predicate", f"the payload type must be {IN_TOTO_PAYLOAD}")


def test_payload_type_changed_after_signing():  # row 1
    assert verify(changed(payloadType="application/json")).reason == "bad-signature"


def test_payload_swapped_signature_kept():  # row 2
    assert verify(changed(payload=b64(manifest_statement(component="evil")))).reason == "bad-signature"


def test_signature_without_pae():  # row 3
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    bare = RUN.key.sign(PAYLOAD, ec.ECDSA(hashes.SHA256()))
    assert verify(encode_bundle(PAYLOAD, bare, certificate=RUN.certificate)).reason == "bad-signature"


@pytest.mark.parametrize("order", [("good", "bad"), ("bad", "good"), ("good", "good")])
def test_two_signatures_are_ambiguous(order):  # row 4
    good = parse_bundle(GOOD).envelope.signatures[0][1]
    signatures = [{"sig": b64(good if which == "good" else b"x")} for which in order]
    assert verify(changed(signatures=signatures)).reason == "bad-signature"


def test_no_signature():  # row 5
    assert verify(changed(signatures=[])).reason == "bad-signature"


def test_empty_signature():
    assert verify(changed(signatures=[{"sig": ""}])).reason == "bad-signature"


def test_too_many_signatures_are_not_looked_at():
    with pytest.raises(MalformedBundle, match="/dsseEnvelope/signatures: has more than 16"):
        verify(changed(signatures=[{"sig": ""}] * 17))


def test_keyid_is_a_hint_that_decides_nothing():
    good = parse_bundle(GOOD).envelope.signatures[0][1]
    assert isinstance(verify(changed(signatures=[{"sig": b64(good), "keyid": "somebody else"}])), Verified)


SPELLINGS = {
    "url alphabet": lambda text: text.replace("+", "-").replace("/", "_"),
    "newline": lambda text: text[:4] + "\n" + text[4:],
    "space": lambda text: text + " ",
    "no padding": lambda text: text.rstrip("="),
    "spare padding": lambda text: text + "====",
    "trailing bits": lambda text: text.replace("YWI=", "YWJ="),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_base64_has_one_spelling(spelling):  # row 6
    payload = b"\xff\xfb\xff?>~ab"  # "//v/Pz5+YWI=": both letters of the alphabet that differ, one padding, two spare bits
    text = SPELLINGS[spelling](b64(payload))
    assert text != b64(payload)
    with pytest.raises(MalformedBundle, match=r"/dsseEnvelope/payload: is not (canonical )?base64"):
        verify(changed(payload=text))


def test_message_signature_beside_an_envelope():  # row 7
    bundle = json.loads(GOOD) | {"messageSignature": {"messageDigest": {}, "signature": ""}}
    with pytest.raises(MalformedBundle, match="/messageSignature: signs no statement"):
        verify(bundle)


def test_message_signature_instead_of_an_envelope():  # row 8
    bundle = json.loads(GOOD)
    bundle["messageSignature"] = {"signature": bundle.pop("dsseEnvelope")["signatures"][0]["sig"]}
    with pytest.raises(MalformedBundle, match="/messageSignature: signs no statement"):
        verify(bundle)


def test_no_envelope_at_all():
    bundle = json.loads(GOOD)
    del bundle["dsseEnvelope"]
    with pytest.raises(MalformedBundle, match="/dsseEnvelope: is missing"):
        verify(bundle)


def test_log_entries_must_be_there():
    bundle = json.loads(GOOD)
    del bundle["verificationMaterial"]["tlogEntries"]
    with pytest.raises(MalformedBundle, match="tlogEntries: is missing"):
        verify(bundle)


def test_foreign_log_entries_are_not_half_believed():
    bundle = json.loads(GOOD)
    bundle["verificationMaterial"]["tlogEntries"] = [{"logIndex": "1"}]
    with pytest.raises(MalformedBundle, match="nobody answers"):
        verify(bundle)


@pytest.mark.parametrize(
    ("where", "member"),
    [
        ((), "x"),
        (("verificationMaterial",), "timestampVerificationData"),
        (("verificationMaterial", "certificate"), "x"),
        (("dsseEnvelope",), "x"),
        (("dsseEnvelope", "signatures", 0), "x"),
    ],
)
def test_unknown_members_are_refused(where, member):
    bundle = json.loads(GOOD)
    place = bundle
    for key in where:
        place = place[key]
    place[member] = {}
    with pytest.raises(MalformedBundle, match=f"/{member}: is not a member"):
        verify(bundle)


def test_certificate_and_key_at_once():
    bundle = json.loads(GOOD)
    bundle["verificationMaterial"]["publicKey"] = {"hint": "k"}
    with pytest.raises(MalformedBundle, match="a certificate or a publicKey"):
        verify(bundle)


def test_neither_certificate_nor_key():
    bundle = json.loads(GOOD)
    del bundle["verificationMaterial"]["certificate"]
    with pytest.raises(MalformedBundle, match="a certificate or a publicKey"):
        verify(bundle)


@pytest.mark.parametrize("media_type", [BUNDLE_V03.replace("v0.3", "v0.2"), BUNDLE_V03 + ";x=1", BUNDLE_V03.upper(), ""])
def test_other_bundle_versions(media_type):
    with pytest.raises(MalformedBundle, match="/mediaType"):
        verify(json.loads(GOOD) | {"mediaType": media_type})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD.replace(b'{"certificate"', b'{"tlogEntries":[],"certificate"', 1), "stands twice"),  # row 18
        (GOOD.replace(b'"tlogEntries":[]', b'"tlogEntries":[NaN]'), "NaN is not JSON"),  # row 19
        (GOOD.replace(b'"tlogEntries":[]', b'"tlogEntries":[1e400]'), "fraction or an exponent"),
        (GOOD.replace(b'"tlogEntries":[]', b'"tlogEntries":[' + b"9" * 5000 + b"]"), "beyond 2\\^53-1"),
        (b"[" * 100_000, "nested deeper"),  # row 20
        (b"\xef\xbb\xbf" + GOOD, "byte order mark"),  # row 21
        (GOOD + b"\n" + GOOD, "Extra data"),
        (GOOD + b"\x00", "Extra data"),
        (GOOD.replace(b"mediaType", b"media\xffType"), "invalid UTF-8"),
        (GOOD.replace(b'"mediaType"', b'"\\ud800"'), "lone surrogate"),
        (b"[]", "not an object"),
        (b"", "Expecting value"),
        (b" " * (1024 * 1024 + 1), "more than 1048576 bytes"),
    ],
    ids=["duplicate", "nan", "1e400", "huge", "deep", "bom", "two documents", "nul", "utf-8", "surrogate", "array", "empty", "large"],
)
def test_bundle_is_strict_json(data, message):
    assert data != GOOD
    with pytest.raises(MalformedBundle, match=message):
        verify(data)


def test_envelope_from_bytes_and_from_an_object():
    envelope = envelope_json("t", b"p", [("k", b"s"), ("", b"r")])
    assert parse_envelope(json.dumps(envelope).encode()) == parse_envelope(envelope)
    assert parse_envelope(envelope).signatures == (("k", b"s"), ("", b"r"))


def test_malformed_envelope_says_where():
    with pytest.raises(MalformedEnvelope, match="/signatures/0/sig: must be a base64 string"):
        parse_envelope({"payloadType": "t", "payload": "", "signatures": [{"sig": 1}]})


def test_statement_larger_than_its_bound_is_refused_after_the_signature():
    from gatekeeper.verify.errors import MalformedStatement

    with pytest.raises(MalformedStatement, match=f"more than {MAX_STATEMENT} bytes"):
        verify(RUN.sign(b" " * (MAX_STATEMENT + 1)))
