"""sigstore's bundles as we read them: nothing unknown at any depth, every bound at its edge, one form for each version."""

import copy
import json
from datetime import UTC, datetime

import pytest

from gatekeeper.verify.errors import MalformedBundle
from gatekeeper.verify.sigstorebundle import MAX_TIMESTAMPS, parse_sigstore_bundle
from tests.fakes.foreign_bundles import bundle, envelope
from tests.fakes.sigstore_instance import Instance, b64, new_key, statement

KEY = new_key()
OLD = "application/vnd.dev.sigstore.bundle+json;version=0.2"
KEYLESS = Instance().bundle()
DIGEST = {"algorithm": "SHA2_256", "digest": b64(b"d" * 32)}
MESSAGE = bundle({"messageSignature": {"signature": b64(b"s"), "messageDigest": DIGEST}})


def chained(*certificates: str) -> dict:
    document = copy.deepcopy(KEYLESS) | {"mediaType": OLD}
    material = document["verificationMaterial"]
    del material["certificate"]
    material["x509CertificateChain"] = {"certificates": [{"rawBytes": one} for one in certificates]}
    return document


DOCUMENTS = {
    "keyless": KEYLESS,
    "chain": chained(b64(b"one"), b64(b"two")),
    "message": MESSAGE,
    "key": bundle({"dsseEnvelope": envelope(KEY, statement())}),
}


def parse(document):
    return parse_sigstore_bundle(json.dumps(document).encode())


def places(node, at=()):
    if isinstance(node, dict):
        yield at
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))


def spoilt(document, place, **members):
    document = copy.deepcopy(document)
    node = document
    for key in place:
        node = node[key]
    node.update(members)
    return document


def refused(document, words):
    with pytest.raises(MalformedBundle) as error:
        parse(document)
    assert words in str(error.value)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_no_object_of_a_bundle_has_a_member_that_nobody_reads(kind):
    parse(DOCUMENTS[kind])
    found = list(places(DOCUMENTS[kind]))
    assert len(found) == {"keyless": 13, "chain": 15, "message": 5, "key": 5}[kind]
    for place in found:
        refused(spoilt(DOCUMENTS[kind], place, more=1), "/".join(["", *map(str, place), "more"]) + ": is not a member")


ENTRY = ("verificationMaterial", "tlogEntries", 0)
PROOF = (*ENTRY, "inclusionProof")


def entry_of(document):
    return parse(document).entry


def test_an_entry_is_promised_and_proven_where_it_says_so_and_not_otherwise():
    assert (entry_of(KEYLESS).promised, entry_of(KEYLESS).proven) == (True, True)
    assert entry_of(MESSAGE) is None
    for gone in ("inclusionProof", "inclusionPromise"):
        less = copy.deepcopy(KEYLESS)
        del less["verificationMaterial"]["tlogEntries"][0][gone]
        assert (entry_of(less).promised, entry_of(less).proven) == (gone == "inclusionProof", gone == "inclusionPromise")
    unsigned = copy.deepcopy(KEYLESS)
    del unsigned["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"]
    assert entry_of(unsigned).proven is False


@pytest.mark.parametrize(
    ("seconds", "read"), [("0", None), (None, None), ("1", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)), ("253402300799", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))]
)
def test_the_time_of_an_entry_is_read_to_the_end_of_the_calendar(seconds, read):
    assert entry_of(spoilt(KEYLESS, ENTRY, integratedTime=seconds)).integrated_at == read


@pytest.mark.parametrize("seconds", ["253402300800", "99999999999999999999"])
def test_a_time_beyond_the_calendar_is_malformed(seconds):
    refused(spoilt(KEYLESS, ENTRY, integratedTime=seconds), "/integratedTime: is after the year 9999")


@pytest.mark.parametrize("text", ["-1", "01", "00", "+1", "1.0", "1e3", " 1", "\u0661", "\u00b2", "0x1"])
@pytest.mark.parametrize(("place", "name"), [(ENTRY, "logIndex"), (ENTRY, "integratedTime"), (PROOF, "logIndex"), (PROOF, "treeSize")])
def test_a_number_has_one_spelling(place, name, text):
    refused(spoilt(KEYLESS, place, **{name: text}), f"/{name}: must be a decimal number")


def test_hashes_of_a_proof_are_base64_each_and_not_endless():
    good = b64(b"h" * 32)
    parse(spoilt(KEYLESS, PROOF, hashes=[good] * 64))
    refused(spoilt(KEYLESS, PROOF, hashes=[good] * 65), "/hashes: has more than 64 items")
    refused(spoilt(KEYLESS, PROOF, hashes=[good, good + "\n"]), "/inclusionProof/hashes/1: ")
    refused(spoilt(KEYLESS, PROOF, hashes=[good, good[:-1]]), "/inclusionProof/hashes/1: ")
    parse(spoilt(KEYLESS, PROOF, hashes=None))


def test_a_checkpoint_is_a_text_of_bounded_length():
    parse(spoilt(KEYLESS, (*PROOF, "checkpoint"), envelope="x" * 65536))
    for text in ("x" * 65537, 1, ["x"], {}):
        refused(spoilt(KEYLESS, (*PROOF, "checkpoint"), envelope=text), "/checkpoint/envelope: must be a string of at most 65536 characters")


@pytest.mark.parametrize("size", [0, 20, 31, 33])
def test_a_claimed_digest_has_32_bytes(size):
    refused(spoilt(MESSAGE, ("messageSignature", "messageDigest"), digest=b64(b"d" * size)), "/digest: ")
    assert parse(MESSAGE).content.digest == b"d" * 32


def test_a_claimed_digest_is_a_sha256():
    refused(spoilt(MESSAGE, ("messageSignature", "messageDigest"), algorithm="SHA2_512"), "/algorithm: must be one of")


def test_each_version_has_its_own_form_of_a_certificate():
    assert parse(DOCUMENTS["chain"]).certificates == (b"one", b"two")
    form = "/verificationMaterial: holds its certificate in the form of another version of the bundle"
    refused(DOCUMENTS["chain"] | {"mediaType": KEYLESS["mediaType"]}, form)
    refused(KEYLESS | {"mediaType": OLD}, form)
    refused(chained(), "/certificates: is empty")
    refused(chained(*[b64(bytes([n])) for n in range(9)]), "/certificates: has more than 8 items")
    assert len(parse(chained(*[b64(bytes([n])) for n in range(8)])).certificates) == 8
    for media_type in (OLD, OLD.replace("0.2", "0.1"), OLD.replace("0.2", "0.3"), KEYLESS["mediaType"]):
        assert parse(DOCUMENTS["key"] | {"mediaType": media_type}).key_hint == "ours"


def test_there_is_one_kind_of_key_material_and_one_content():
    one = "/verificationMaterial: must hold a certificate, a chain or a publicKey, one of them"
    refused(spoilt(KEYLESS, ("verificationMaterial",), publicKey={"hint": "ours"}), one)
    refused(spoilt(KEYLESS, ("verificationMaterial",), certificate=None), one)
    refused(spoilt(KEYLESS, ("verificationMaterial",), x509CertificateChain={"certificates": [{"rawBytes": b64(b"one")}]}), one)
    content = "must hold a dsseEnvelope or a messageSignature, one of them"
    refused(KEYLESS | {"messageSignature": MESSAGE["messageSignature"]}, content)
    refused(KEYLESS | {"dsseEnvelope": None}, content)


def test_timestamps_are_bounded_and_none_stands_twice():
    def stamped(count):
        stamps = [{"signedTimestamp": b64(bytes([n]))} for n in range(count)]
        return spoilt(KEYLESS, ("verificationMaterial", "timestampVerificationData"), rfc3161Timestamps=stamps)

    assert len(parse(stamped(MAX_TIMESTAMPS)).timestamps) == MAX_TIMESTAMPS
    refused(stamped(MAX_TIMESTAMPS + 1), "/rfc3161Timestamps: has more than 32 items")
    twice = spoilt(stamped(1), ("verificationMaterial", "timestampVerificationData"), rfc3161Timestamps=[{"signedTimestamp": b64(b"x")}] * 2)
    refused(twice, "/rfc3161Timestamps: holds one timestamp twice")
    assert parse(stamped(0)).timestamps == ()
    assert parse(spoilt(KEYLESS, ("verificationMaterial",), timestampVerificationData=None)).timestamps == ()
