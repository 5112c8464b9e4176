"""One target for each reader of bytes from outside: what goes in, which exceptions may come out, and what must hold of what is taken.

A target returns whether the bytes were taken. Whatever else it raises is a fault: an exception that its reader does not document, an assertion
about a value that was taken, or more than `MAX_SECONDS` of processor time. Keys are the same in every process, so that bytes printed by one
are refused or taken alike by the next.
"""

from __future__ import annotations

import base64
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis.strategies import SearchStrategy

from clients.doorkeeper import artifact as door
from gatekeeper.deploy import stored
from gatekeeper.model import uris
from gatekeeper.model.caller import CallerKind
from gatekeeper.model.canonical import NotCanonical, encode_canonical
from gatekeeper.model.decision import EvidenceItem, Mode, Purpose, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.fields import FieldError
from gatekeeper.model.frame import MalformedFrame, PartName, PartSpec, encode_header, parse_header
from gatekeeper.model.moment import parse_moment
from gatekeeper.model.receipt import encode_receipt, parse_receipt
from gatekeeper.model.statement import DecisionStatement, encode_decision_statement
from gatekeeper.model.strictjson import MalformedJson, parse_canonical_object, parse_json, parse_object
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint, parse_checkpoint
from gatekeeper.tlog.consistency import Growth, encode_growth, parse_growth
from gatekeeper.tlog.cosignature import cosigned_message, encode_cosignature
from gatekeeper.tlog.entry import encode_entry, parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.kinds import UnknownEntry
from gatekeeper.tlog.merkle import EMPTY_ROOT
from gatekeeper.tlog.note import Note, NoteSignature, cosigner_vkey, ed25519_vkey, encode_note, encode_vkey, parse_note, parse_vkey
from gatekeeper.tlog.origins import Crossing, encode_crossings, parse_crossings
from gatekeeper.tlog.proof import TlogProof, encode_proof, parse_proof
from gatekeeper.tlog.tile import encode_bundle as encode_entries
from gatekeeper.tlog.tile import parse_bundle as parse_entries
from gatekeeper.verify.attestation import Artifact, Keyless, Pinned, verify_attestation
from gatekeeper.verify.builder import UnfitCertificate, read_run_certificate
from gatekeeper.verify.bundle import encode_bundle, parse_bundle
from gatekeeper.verify.dsse import envelope_json, parse_envelope
from gatekeeper.verify.errors import Malformed, MalformedBundle, MalformedEnvelope, MalformedKey, MalformedStatement
from gatekeeper.verify.fulciocertificate import UnreadableCertificate, is_self_issued, read_keyless_certificate
from gatekeeper.verify.managedkey import parse_managed_key
from gatekeeper.verify.override import parse_override_order, verify_override_order
from gatekeeper.verify.receipt import parse_receipt_key, verify_decision_statement
from gatekeeper.verify.sigstoreroot import SigstoreRoot, parse_sigstore_root
from gatekeeper.verify.statement import parse_statement
from gatekeeper.verify.submission import verify_submission
from gatekeeper.verify.token import Issuer, Unauthenticated, parse_key_set, verify_token
from gatekeeper.verify.vote import verify_vote
from tests.fakes import foreign_bundles, orders, signing, sigstore_instance
from tests.fuzz.mutation import changed_bytes, changed_json, changed_token

MAX_SECONDS = 2.0
"""of processor time, for one reading of at most some ten thousand bytes: the longest takes some milliseconds"""

ASSETS = Path(__file__).parents[1] / "assets"


def p256(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(number, ec.SECP256R1())


CA = signing.FakeCa(key=p256(101))
RUN = CA.run(key=p256(102))
ROOTS = [CA.root()]
CI = signing.FakeIssuer(key=p256(103))
RECEIPTS = signing.FakeReceiptSigner(key=p256(104))
FOREIGN = p256(105)
REVIEWER = signing.FakeReviewer(key=Ed25519PrivateKey.from_private_bytes(b"r" * 32))
LOG = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
NOW = 1_795_255_260
TABLE = [Issuer("ci", CI.url, CallerKind.RUN, frozenset({"pingee:test"}), parse_key_set(CI.jwks(), algorithms=["ES256"]))]
ROOT = b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[{"publicKey":{"validFor":{"start":"2020-01-01T00:00:00Z"}}}]}'
AT = parse_moment("2026-11-21T12:00:00Z")


@dataclass(frozen=True)
class Target:
    """`read` says whether it took the bytes; `raises` are the exceptions that its reader documents for bytes that it does not take."""

    read: Callable[[bytes], bool]
    raises: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]
    """good bytes: every one is taken"""
    change: Callable[[list[bytes]], SearchStrategy[bytes]]


class Fault(AssertionError):
    """A target that did what it must not. The message has the bytes, and the command that gives them to it again."""


def check(name: str, data: bytes) -> bool:
    """Give the bytes to a target; raises `Fault`. Returns whether they were taken."""
    target = TARGETS[name]
    began = time.thread_time()
    try:
        with warnings.catch_warnings():
            # Of certificates that it will refuse one day; what is done with them today is what is asked here.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            taken = target.read(data)
    except target.raises:
        taken = False
    except BaseException as error:  # a panic of a Rust library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise Fault(f"{type(error).__name__}: {error}\n{reproduce(name, data)}") from error
    if (spent := time.thread_time() - began) > MAX_SECONDS:
        raise Fault(f"{spent:.1f} s of processor time\n{reproduce(name, data)}")
    return taken


def reproduce(name: str, data: bytes) -> str:
    """How to give the bytes to the target again."""
    return f"bytes: {data!r}\nagain: python -m tests.fuzz.run {name} --bytes {base64.b64encode(data).decode()}"


# JSON


def read_json(data: bytes) -> bool:
    value = parse_json(data)
    assert json.loads(data) == value, "two readers read two things"
    again = encode_canonical(value)
    assert encode_canonical(parse_json(again)) == again
    return True


def read_canonical(data: bytes) -> bool:
    value = parse_canonical_object(data)
    assert encode_canonical(value) == data
    assert parse_object(data) == value, "the short way and the exact way read two things"
    return True


# in-toto and bundles


def read_statement(data: bytes) -> bool:
    statement = parse_statement(data, types=(uris.STATEMENT_V1, uris.STATEMENT_V01))
    assert [dict(subject.digests) for subject in statement.subjects] == [item["digest"] for item in json.loads(data)["subject"]]
    return True


def read_signed(data: bytes) -> bool:
    """A good builder made to sign anything: a statement is taken for what it says or not at all."""
    checked = verify_submission(RUN.sign(data), ROOTS, received_at=signing.RECEIVED)
    if isinstance(checked, Refusal):
        return False
    said = json.loads(data)
    assert isinstance(checked, Verified)
    assert checked.value.artifact == "sha256:" + said["subject"][0]["digest"]["sha256"]
    assert checked.value.signer.commit == signing.COMMIT
    assert said["predicateType"] in {uris.MANIFEST, uris.PROVENANCE_V1, uris.TEST_RESULT}
    return True


def read_bundle(data: bytes) -> bool:
    bundle = parse_bundle(data)
    if len(bundle.envelope.signatures) == 1:
        ((keyid, signature),) = bundle.envelope.signatures
        again = encode_bundle(
            bundle.envelope.payload, signature, certificate=bundle.certificate, key_hint=bundle.key_hint, payload_type=bundle.envelope.payload_type
        )
        assert replace(parse_bundle(again).envelope, signatures=((keyid, signature),)) == bundle.envelope
    checked = verify_submission(data, ROOTS, received_at=signing.RECEIVED)
    if isinstance(checked, Refusal):
        return False
    assert bundle.envelope.payload in STATEMENTS, "a payload that nobody signed"
    return True


def read_foreign_bundle(data: bytes) -> bool:
    signer = Pinned(parse_managed_key(foreign_bundles.pem(FOREIGN)), None)
    report = verify_attestation(data, signer, Artifact({"sha256": foreign_bundles.SHA256}), at=AT)
    if isinstance(report.result, Refusal):
        return False
    statement = report.result.value.statement
    assert statement is not None
    assert statement.predicate_type == "https://example.org/any/v1"
    return True


def read_keyless_bundle(data: bytes) -> bool:
    signer = Keyless(sigstore_instance.IDENTITY, sigstore_instance.ISSUER, instance_root())
    report = verify_attestation(data, signer, Artifact({"sha256": sigstore_instance.ARTIFACT}), at=AT)
    if isinstance(report.result, Refusal):
        return False
    assert json.loads(data)["dsseEnvelope"]["payload"] == keyless_bundle()["dsseEnvelope"]["payload"], "a payload that nobody signed"
    return True


def read_envelope(data: bytes) -> bool:
    envelope = parse_envelope(data)
    assert parse_envelope(encode_canonical(envelope_json(envelope.payload_type, envelope.payload, envelope.signatures))) == envelope
    return True


def read_vote(data: bytes) -> bool:
    checked = verify_vote(data, {"bob": (REVIEWER.public,)}, person="bob")
    assert isinstance(checked, Refusal) or (checked.value.value, checked.value.revision) == (2, signing.COMMIT)
    return isinstance(checked, Verified)


def read_order(data: bytes) -> bool:
    parse_override_order(parse_envelope(data))
    return isinstance(verify_override_order(data, PEOPLE), Verified)


def read_decision(data: bytes) -> bool:
    """The receipt key made to sign anything."""
    checked = verify_decision_statement(RECEIPTS.sign(data), [parse_receipt_key(RECEIPTS.pem)])
    assert isinstance(checked, Verified)
    assert encode_decision_statement(checked.value) == data
    return True


def read_receipt(data: bytes) -> bool:
    receipt = parse_receipt(data)
    again = encode_receipt(
        statement=receipt.statement, entry=receipt.entry, index=receipt.index, origin=receipt.origin, evidence=receipt.evidence
    )
    assert parse_receipt(again) == receipt
    return True


def read_frame(data: bytes) -> bool:
    parts = parse_header(data)
    assert parse_header(encode_header(parts)) == parts
    return True


# manifests of artifacts, at both doors


def read_manifest(data: bytes) -> bool:
    """The gatekeeper may be narrower than the doorkeeper, never the other way round, and both find the same blobs."""
    try:
        there = door.parse_manifest(data)
    except door.MalformedArtifact:
        there = None
    here = stored.parse_oci_manifest(data)
    assert there is not None, "the gatekeeper takes what the doorkeeper refuses"
    assert (here.config.digest, here.layer.digest) == (there.config.digest, there.layer.digest)
    return True


# tokens and keys


def read_token(data: bytes) -> bool:
    caller = verify_token(data.decode("latin-1"), TABLE, audience="pingee:test", now=NOW)
    signed = data.rpartition(b".")[0]
    assert signed in {token.rpartition(b".")[0] for token in tokens()}, "a token that nobody signed"
    assert caller.subject == "project:hello:run:run-1"
    return True


def read_claims(data: bytes) -> bool:
    """A good issuer made to sign anything: the caller is who the claims name, and the claims are for this door and this hour."""
    caller = verify_token(CI.token(data), TABLE, audience="pingee:test", now=NOW)
    said = json.loads(data)
    assert (caller.subject, caller.commit, caller.actor) == (said["sub"], said["commit"], said["actor"])
    assert said["iss"] == CI.url
    assert said["aud"] in ("pingee:test", ["pingee:test"])
    assert said["exp"] > NOW - 60
    return True


def read_keys(data: bytes) -> bool:
    keys = parse_key_set(data, algorithms=["ES256", "RS256", "EdDSA"])
    assert set(keys) <= {key["kid"] for key in json.loads(data)["keys"]}
    return True


def read_pem(data: bytes) -> bool:
    key = parse_managed_key(data)
    return len(key.der) > 40


def read_certificate(data: bytes) -> bool:
    """A run's certificate, read as one of ours and as a keyless one; it is the second only by its form."""
    for read in (read_keyless_certificate, is_self_issued):
        try:
            read(data)
        except UnreadableCertificate:
            continue
    return read_run_certificate(data).commit == signing.COMMIT


def read_root(data: bytes) -> bool:
    parse_sigstore_root(data)
    return True


# the log's formats: all of them have one spelling


def one_spelling(parse: Callable[[bytes], object], encode: Callable[..., bytes]) -> Callable[[bytes], bool]:
    def read(data: bytes) -> bool:
        assert encode(parse(data)) == data
        return True

    return read


def read_note(data: bytes) -> bool:
    note = parse_note(data)
    assert encode_note(note) == data
    checkpoint = parse_checkpoint(note.text)
    assert encode_checkpoint(checkpoint) == note.text
    return True


def read_entry(data: bytes) -> bool:
    entry = parse_entry(data)
    if isinstance(entry, UnknownEntry):
        return False
    assert encode_entry(entry) == data
    return True


def read_vkey(data: bytes) -> bool:
    text = data.decode("latin-1")
    return encode_vkey(parse_vkey(text)) == text


# good bytes

STATEMENTS = [signing.manifest_statement(), signing.provenance_statement(), signing.result_statement(), signing.result_statement("acceptance")]
PEOPLE = {name: (key.public_key().public_bytes_raw(),) for name, key in (("olga", LOG), ("omar", REVIEWER.key))}


@cache
def instance() -> sigstore_instance.Instance:
    return sigstore_instance.Instance(*(p256(number) for number in range(111, 116)))


@cache
def instance_root() -> SigstoreRoot:
    return parse_sigstore_root(instance().pinned)


@cache
def keyless_bundle() -> dict[str, Any]:
    return instance().bundle(key=p256(120))


@cache
def tokens() -> list[bytes]:
    return [CI.token(signing.run_claims(NOW)).encode()]


def note() -> bytes:
    text = encode_checkpoint(Checkpoint("production.example/log/2026", 0, EMPTY_ROOT))
    key = ed25519_vkey("production.example/log/2026", LOG.public_key().public_bytes_raw())
    witness = cosigner_vkey("witness.example/w1", REVIEWER.public)
    signed = encode_cosignature(witness, NOW, REVIEWER.key.sign(cosigned_message(text, NOW)))
    return encode_note(Note(text, (NoteSignature(key.name, key.key_id, LOG.sign(text)), signed)))


def entries() -> list[bytes]:
    return [file.read_bytes().removesuffix(b"\n") for file in sorted((ASSETS / "log").glob("*.json"))]


def order() -> bytes:
    return orders.signed(orders.payload_of(not_after=AT), LOG, REVIEWER.key)


def decision() -> bytes:
    return encode_decision_statement(
        DecisionStatement(
            instance="production",
            environment="production",
            component="hello",
            subject=signing.ARTIFACT,
            policy=digest_of(b"policy"),
            trusted_root=digest_of(b"roots"),
            candidate_config=signing.COMMIT,
            verdict=Verdict.DENY,
            reasons=("stage-failed",),
            mode=Mode.ENFORCE,
            purpose=Purpose.DEPLOY,
            targets=("host-1",),
            evidence=(EvidenceItem("manifest", "present", digest_of(b"bundle")), EvidenceItem("freeze", "absent")),
            evaluated_at=AT,
            not_after=None,
        )
    )


def oci_manifest() -> bytes:
    blob = {"digest": digest_of(b"x"), "size": 1}
    config, layer = {"mediaType": uris.ARTIFACT_CONFIG, **blob}, {"mediaType": uris.OCI_LAYER_TAR, **blob}
    return encode_canonical(
        {"schemaVersion": 2, "mediaType": uris.OCI_MANIFEST, "artifactType": uris.ARTIFACT_TYPE, "config": config, "layers": [layer]}
    )


def json_seeds() -> list[bytes]:
    return [*STATEMENTS, *entries(), b'{"a":[1,-2,true,false,null,"x\\u00e9\\n"],"b":{"c":"\xf0\x9f\x98\x80"}}', encode_bundle(b"{}", b"x", key_hint="k")]


def proof() -> bytes:
    return encode_proof(TlogProof(3, (b"p" * 32, b"q" * 32), note(), b"extra"))


_JSON, _BYTES = changed_json, changed_bytes

TARGETS = {
    "json": Target(read_json, (MalformedJson,), json_seeds, _JSON),
    "canonical": Target(read_canonical, (MalformedJson, NotCanonical), lambda: [encode_canonical(json.loads(seed)) for seed in json_seeds()], _JSON),
    "statement": Target(read_statement, (MalformedStatement,), lambda: STATEMENTS, _JSON),
    "signed-statement": Target(read_signed, (MalformedStatement,), lambda: STATEMENTS, _JSON),
    "bundle": Target(read_bundle, (MalformedBundle, MalformedStatement), lambda: [RUN.sign(payload) for payload in STATEMENTS], _JSON),
    "foreign-bundle": Target(read_foreign_bundle, (Malformed,), lambda: [foreign_bundles.signed_statement(FOREIGN)], _JSON),
    "keyless-bundle": Target(read_keyless_bundle, (Malformed,), lambda: [json.dumps(keyless_bundle()).encode()], _JSON),
    "envelope": Target(read_envelope, (MalformedEnvelope,), lambda: [order(), encode_canonical(RECEIPTS.sign(STATEMENTS[0]))], _JSON),
    "vote": Target(read_vote, (MalformedBundle, MalformedStatement), lambda: [REVIEWER.vote()], _JSON),
    "order": Target(read_order, (MalformedEnvelope, MalformedStatement), lambda: [order()], _JSON),
    "decision": Target(read_decision, (MalformedStatement,), lambda: [decision()], _JSON),
    "receipt": Target(
        read_receipt,
        (MalformedJson, FieldError),
        lambda: [encode_receipt(statement={"a": 1}, entry=b"entry", index=1, origin="a.example/log", evidence=(digest_of(b"e"),))],
        _JSON,
    ),
    "frame": Target(
        read_frame, (MalformedFrame,), lambda: [encode_header([PartSpec(name, 1, digest_of(b"p")) for name in PartName])], _BYTES
    ),
    "manifest": Target(read_manifest, (stored.MalformedArtifact,), lambda: [oci_manifest()], _JSON),
    "token": Target(read_token, (Unauthenticated,), tokens, changed_token),
    "claims": Target(read_claims, (Unauthenticated,), lambda: [json.dumps(signing.run_claims(NOW)).encode()], _JSON),
    "key-set": Target(
        read_keys, (MalformedKey,), lambda: [CI.jwks(), (json.dumps(json.loads((ASSETS / "tokens" / "gitlab.json").read_bytes())["jwks"])).encode()], _JSON
    ),
    "pem": Target(read_pem, (MalformedKey,), lambda: [foreign_bundles.pem(FOREIGN), foreign_bundles.pem(LOG)], _BYTES),
    "certificate": Target(read_certificate, (UnfitCertificate,), lambda: [RUN.certificate], _BYTES),
    "trusted-root": Target(read_root, (MalformedKey,), lambda: [ROOT], _JSON),
    "note": Target(read_note, (TlogError,), lambda: [note()], _BYTES),
    "proof": Target(one_spelling(parse_proof, encode_proof), (TlogError,), lambda: [proof()], _BYTES),
    "growth": Target(one_spelling(parse_growth, encode_growth), (TlogError,), lambda: [encode_growth(Growth(7, (b"h" * 32,), note()))], _BYTES),
    "entry": Target(read_entry, (TlogError,), entries, _JSON),
    "entries": Target(one_spelling(parse_entries, encode_entries), (TlogError,), lambda: [encode_entries(entries())], _BYTES),
    "crossings": Target(
        one_spelling(parse_crossings, encode_crossings), (TlogError,), lambda: [encode_crossings((Crossing(b"entry", b"growth", b"proof"),))], _JSON
    ),
    "vkey": Target(
        read_vkey, (TlogError,), lambda: [encode_vkey(ed25519_vkey("a.example/log", LOG.public_key().public_bytes_raw())).encode()], _BYTES
    ),
}
