"""Whether a log entry's body is about this content, signature and signer: each member of each kind of body, changed by itself."""

import base64
import copy
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.verify.dsse import UntrustedEnvelope
from gatekeeper.verify.logentry import is_about
from gatekeeper.verify.sigstorebundle import LogEntry, MessageSignature
from tests.fakes.foreign_bundles import pem
from tests.fakes.sigstore_instance import ARTIFACT, IN_TOTO, b64, new_key, spki

KEY, OTHER = new_key(), new_key()
SIGNATURE, PAYLOAD = b"a signature", b"a payload"
ENVELOPE = UntrustedEnvelope(IN_TOTO, PAYLOAD, (("", SIGNATURE),))
MESSAGE = MessageSignature(SIGNATURE, None)
HASHEDREKORD, DSSE, INTOTO = ("hashedrekord", "0.0.1"), ("dsse", "0.0.1"), ("intoto", "0.0.2")


def certificate(key) -> x509.Certificate:
    start = datetime(2026, 11, 21, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).public_key(key.public_key()).serial_number(1)
    return builder.not_valid_before(start).not_valid_after(start + timedelta(minutes=10)).sign(key, hashes.SHA256())


CERTIFICATE = certificate(KEY)


def twice(data: bytes) -> str:
    return b64(b64(data).encode())


def sha256(data: bytes) -> dict:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def good(kind, verifier: bytes) -> dict:
    match kind:
        case ("hashedrekord", _):
            spec = {"data": {"hash": {"algorithm": "sha256", "value": ARTIFACT}}, "signature": {"content": b64(SIGNATURE), "publicKey": {"content": b64(verifier)}}}
        case ("dsse", _):
            spec = {"payloadHash": sha256(PAYLOAD), "signatures": [{"signature": b64(SIGNATURE), "verifier": b64(verifier)}]}
        case _:
            envelope = {"payloadType": IN_TOTO, "payload": twice(PAYLOAD), "signatures": [{"sig": twice(SIGNATURE), "publicKey": b64(verifier)}]}
            spec = {"content": {"envelope": envelope, "payloadHash": sha256(PAYLOAD)}}
    return {"kind": kind[0], "apiVersion": kind[1], "spec": spec}


def about(kind, body, *, content=None, verifier=None, artifact=ARTIFACT) -> bool:
    data = body if isinstance(body, bytes) else encode_canonical(body)
    content = content or (MESSAGE if kind[0] == "hashedrekord" else ENVELOPE)
    return is_about(LogEntry(kind, data, None, False, True), content, spki(KEY) if verifier is None else verifier, artifact=bytes.fromhex(artifact))


KINDS = pytest.mark.parametrize("kind", [HASHEDREKORD, DSSE, INTOTO], ids=["hashedrekord", "dsse", "intoto"])


@KINDS
def test_a_body_about_this_is_about_this_by_a_key_and_by_a_certificate(kind):
    assert about(kind, good(kind, pem(KEY)))
    by_certificate = good(kind, CERTIFICATE.public_bytes(Encoding.PEM))
    assert about(kind, by_certificate, verifier=CERTIFICATE.public_bytes(Encoding.DER))
    assert not about(kind, by_certificate)
    assert not about(kind, good(kind, pem(KEY)), verifier=CERTIFICATE.public_bytes(Encoding.DER))


def _leaves(node, at=()):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, str):
            yield (*at, key)
        else:
            yield from _leaves(value, (*at, key))


def _changed(body, place, value):
    changed = copy.deepcopy(body)
    node = changed
    for key in place[:-1]:
        node = node[key]
    if value is None:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return changed


OTHERS = ["", "sha512", "*", b64(b"another"), twice(b"another"), b64(pem(OTHER)), hashlib.sha256(b"another").hexdigest(), 1, [], {}]


@KINDS
def test_no_member_of_a_body_may_say_anything_else(kind):
    """A payload that an entry of the older type leaves out is the one thing that may be missing: its hash is there."""
    body = good(kind, pem(KEY))
    places = list(_leaves(body))
    assert len(places) == {"hashedrekord": 6, "dsse": 6, "intoto": 8}[kind[0]]
    for place in places:
        for value in OTHERS:
            assert not about(kind, _changed(body, place, value)), (place, value)
        assert about(kind, _changed(body, place, None)) is (place[-1] == "payload"), place
    assert not about(INTOTO, _changed(_changed(good(INTOTO, pem(KEY)), ("spec", "content", "envelope", "payload"), None), ("spec", "content", "payloadHash", "value"), "0" * 64))


@KINDS
def test_the_bundles_own_parts_are_compared_too(kind):
    body = good(kind, pem(KEY))
    if kind is HASHEDREKORD:
        others = [MessageSignature(b"another", None), ENVELOPE]
        assert not about(kind, body, artifact="cd" * 32)
    else:
        others = [
            MESSAGE,
            UntrustedEnvelope(IN_TOTO, b"another", (("", SIGNATURE),)),
            UntrustedEnvelope(IN_TOTO, PAYLOAD, (("", b"another"),)),
            UntrustedEnvelope(IN_TOTO, PAYLOAD, ()),
            UntrustedEnvelope(IN_TOTO, PAYLOAD, (("", SIGNATURE), ("", SIGNATURE))),
            UntrustedEnvelope(IN_TOTO, PAYLOAD, (("", SIGNATURE), ("", b"another"))),
        ]
    if kind is INTOTO:
        others.append(UntrustedEnvelope("text/plain", PAYLOAD, (("", SIGNATURE),)))
    for content in others:
        assert not about(kind, body, content=content)
    assert not about(kind, body, verifier=spki(OTHER))


@pytest.mark.parametrize(("kind", "place"), [(DSSE, ("spec", "signatures")), (INTOTO, ("spec", "content", "envelope", "signatures"))], ids=["dsse", "intoto"])
def test_a_body_names_one_signature(kind, place):
    body = good(kind, pem(KEY))
    node = body
    for key in place:
        node = node[key]
    assert not about(kind, _changed(body, place, node * 2))
    assert not about(kind, _changed(body, place, []))


@KINDS
@pytest.mark.parametrize("version", ["0.0.1", "0.0.2", "0.0.3"])
def test_a_kind_is_read_in_the_one_version_that_is_compared(kind, version):
    said = (kind[0], version)
    body = good(kind, pem(KEY)) | {"apiVersion": version}
    assert about(said, body) is (said == kind)


def test_the_hint_and_the_body_say_the_same_kind():
    for one in (HASHEDREKORD, DSSE, INTOTO):
        for other in (HASHEDREKORD, DSSE, INTOTO):
            for content in (MESSAGE, ENVELOPE):
                right = one == other and isinstance(content, MessageSignature) == (one is HASHEDREKORD)
                assert about(one, good(other, pem(KEY)), content=content) is right


@KINDS
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"kind":1}'])
def test_what_is_no_body_is_about_nothing(kind, body):
    assert not about(kind, body)


def test_base64_of_the_older_type_is_strict():
    place = ("spec", "content", "envelope", "payload")
    for text in (b64(b" " + base64.b64encode(PAYLOAD)), b64(base64.b64encode(PAYLOAD) + b"\n"), twice(PAYLOAD) + "\n"):
        assert not about(INTOTO, _changed(good(INTOTO, pem(KEY)), place, text))
