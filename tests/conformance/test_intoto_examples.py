"""The examples of in-toto's attestation specification and the constants of its unit tests; the one vector of the DSSE protocol.

What is strict JSON and a whole statement is read. The specification shortens digests for the eye ("4faeb1b2..."): such an example is refused for
its digest, and read once the digest has its length. What is only an illustration (comments, ellipses) is no JSON.
"""

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from gatekeeper.model.uris import STATEMENT_V01, STATEMENT_V1
from gatekeeper.verify.dsse import pae, parse_envelope
from gatekeeper.verify.errors import MalformedStatement
from gatekeeper.verify.signature import signature_by, signed_by
from gatekeeper.verify.statement import MAX_SUBJECTS, parse_statement

CORPORA = Path(os.environ.get("PINGEE_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
TYPES = (STATEMENT_V1, STATEMENT_V01)
SHORT = "/subject/0/digest/sha256: must be 64 lowercase hexadecimal digits"


def corpus(*parts: str) -> Path:
    place = CORPORA.joinpath(*parts)
    if not place.exists():
        message = f"PUBLIC EXAMPLES MISSING: {'/'.join(parts)} is not in the corpora (set PINGEE_CORPORA or run make corpora)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return place


def examples() -> dict[str, tuple[str, bytes]]:
    """Name to (what the index says it is, bytes)."""
    index = json.loads(corpus("in-toto-attestation", "index.json").read_bytes())
    return {item["file"].removesuffix(".json"): (item["kind"], corpus("in-toto-attestation", "spec-examples", item["file"]).read_bytes()) for item in index}


def refusal(data: bytes) -> str:
    try:
        parse_statement(data, types=TYPES)
    except MalformedStatement as error:
        return str(error)
    return ""


READ = {
    "spec__predicates__reference__1": "https://in-toto.io/attestation/reference/v0.1",
    "spec__predicates__reference__2": "https://in-toto.io/attestation/reference/v0.1",
    "spec__predicates__test-result__1": "https://in-toto.io/attestation/test-result/v0.1",
}
# A whole statement with a shortened SHA-512. `make corpora` extracts it; the corpora that lie beside the checkout have the others only.
NOT_EVERYWHERE = "spec__predicates__release__4"
SHORTENED = ["release__1", "release__3", "svr__1", "svr__2", "svr__3"]


def test_every_example_that_is_a_whole_statement_is_read_and_no_other():
    found = examples()
    assert len(found.keys() - {NOT_EVERYWHERE}) == 53
    if NOT_EVERYWHERE in found:
        assert refusal(found[NOT_EVERYWHERE][1]) == "/subject/0/digest/sha512: must be 128 lowercase hexadecimal digits"
    taken = {name: parse_statement(data, types=TYPES).predicate_type for name, (_, data) in found.items() if not refusal(data)}
    assert taken == READ


def test_what_is_only_an_illustration_is_no_json():
    illustrations = {name: data for name, (kind, data) in examples().items() if kind.startswith("illustrative")}
    assert len(illustrations) == 28
    for name, data in illustrations.items():
        assert refusal(data).startswith(("Expecting", "Extra data")), name


@pytest.mark.parametrize("name", SHORTENED)
def test_a_shortened_digest_is_refused_and_the_example_is_read_with_a_whole_one(name):
    _, data = examples()[f"spec__predicates__{name}"]
    assert refusal(data) == SHORT
    document = json.loads(data)
    for subject in document["subject"]:
        subject["digest"]["sha256"] = "ab" * 32
    assert refusal(json.dumps(document).encode()) == ""


def statement(subject: dict) -> bytes:
    document = {"_type": STATEMENT_V1, "subject": [subject], "predicateType": "thePredicate", "predicate": {"keyObj": {"subKey": "subVal"}}}
    return json.dumps(document).encode()


# Upstream's names begin with what it thinks of them. Two that it wants are refused here: nobody could compare such a digest with anything.
CONSTANTS = {
    "go_v1_statement_test_go__wantSt": "/digest/alg1: is no digest algorithm known here",
    "go_v1_statement_test_go__badStType": "/_type: must be one of",
    "go_v1_statement_test_go__stStringTemplate": "/_type: must be one of",
    "go_v1_resource_descriptor_test_go__wantFullRd": "/digest/alg1: is no digest algorithm known here",
    "go_v1_resource_descriptor_test_go__supportedRdDigest": "/digest/custom: is no digest algorithm known here",
    "go_v1_resource_descriptor_test_go__badRd": "/digest: is missing",
    "go_v1_resource_descriptor_test_go__badRdDigestEncoding": "/digest/sha256: must be 64 lowercase hexadecimal digits",
    "go_v1_resource_descriptor_test_go__badRdDigestLength": "/digest/sha256: must be 64 lowercase hexadecimal digits",
    "go_v1_resource_descriptor_test_go__gitCommitSha1Rd": "",
    "go_v1_resource_descriptor_test_go__gitCommitSha256Rd": "",
    "go_v1_resource_descriptor_test_go__badGitCommitLengthRd": "/digest/gitCommit: must be 40 or 64 lowercase hexadecimal digits",
}


def test_the_constants_of_upstreams_unit_tests():
    constants = {name.removeprefix("unit__"): data for name, (_, data) in examples().items() if name.startswith("unit__")}
    assert set(constants) == set(CONSTANTS)
    for name, why in CONSTANTS.items():
        data = constants[name] if "statement" in name else statement(json.loads(constants[name]))
        assert (why in refusal(data)) if why else refusal(data) == "", name


@pytest.mark.parametrize(("version", "taken"), [("1", True), ("0.1", True), ("0.2", False), ("2", False), ("", False), ("1.0", False)])
def test_row_9_the_template_of_a_statement_in_every_version(version, taken):
    _, template = examples()["unit__go_v1_statement_test_go__stStringTemplate"]
    data = template.replace(b"%s", version.encode()).replace(b'"alg1":"abc123"', b'"sha256":"' + b"ab" * 32 + b'"')
    assert refusal(data) == ("" if taken else f"/_type: must be one of {STATEMENT_V1}, {STATEMENT_V01}")


def test_row_17_a_thousand_subjects_are_read_to_the_last_and_one_more_is_refused():
    document = json.loads(statement({"name": "a", "digest": {"sha256": "00" * 32}}))
    document["subject"] = [{"name": str(n), "digest": {"sha256": f"{n:064x}"}} for n in range(MAX_SUBJECTS)]
    read = parse_statement(json.dumps(document).encode())
    assert read.subjects[-1].digests["sha256"] == f"{MAX_SUBJECTS - 1:064x}"
    document["subject"].append({"name": "one more", "digest": {"sha256": "ab" * 32}})
    assert refusal(json.dumps(document).encode()) == f"/subject: has more than {MAX_SUBJECTS} items"
    document["subject"] = [{"digest": {"sha256": "ab" * 32}}] * 1_000_000
    assert refusal(json.dumps(document).encode()) == "more than 524288 bytes"


def test_the_vector_of_the_dsse_protocol():
    """Rows 1 to 3. The protocol leaves the signature's form open: the vector has r and s side by side, ours is DER."""
    vector = json.loads(corpus("dsse", "vector.json").read_bytes())
    envelope = parse_envelope(json.dumps(vector["envelope"]).encode())
    assert pae(envelope.payload_type, envelope.payload) == vector["pae_utf8"].encode()
    assert envelope.payload == vector["payload_utf8"].encode()
    key = ec.EllipticCurvePublicNumbers(int(vector["public_x"]), int(vector["public_y"]), ec.SECP256R1()).public_key()
    ((_, raw),) = envelope.signatures
    der = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    key.verify(der, pae(envelope.payload_type, envelope.payload), ec.ECDSA(hashes.SHA256()))
    assert signature_by(der, pae(envelope.payload_type, envelope.payload), key)
    assert not signed_by(envelope, key)
    for payload_type, payload in ((envelope.payload_type, b"hello worle"), (envelope.payload_type + "x", envelope.payload), ("", envelope.payload)):
        assert not signature_by(der, pae(payload_type, payload), key)
