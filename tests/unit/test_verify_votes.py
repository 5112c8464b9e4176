"""Votes under a reviewer's own key: attack matrix rows 1-5, 34 (Ed25519), 36, 65 and 67 as far as a signature decides them."""

import base64
import json

import pytest

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import digest_of
from gatekeeper.model.uris import VOTE
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.bundle import encode_bundle, parse_bundle
from gatekeeper.verify.errors import MalformedBundle, MalformedKey, MalformedStatement
from gatekeeper.verify.vote import parse_vote_key, verify_vote
from tests.fakes.signing import COMMIT, PROJECT, RECEIVED, TREE, FakeCa, FakeReviewer

BOB, CAROL = FakeReviewer(), FakeReviewer()
KEYS = {"bob": (FakeReviewer().public, BOB.public), "carol": (CAROL.public,), "dave": ()}
GOOD = BOB.vote()
PAYLOAD = parse_bundle(GOOD).envelope.payload


def verify(data, person="bob", keys=KEYS):
    return verify_vote(data, keys, person=person)


def edited(member, value):
    document = json.loads(PAYLOAD)
    document["predicate"][member] = value
    return BOB.sign(encode_canonical(document))


def test_a_good_vote_is_its_signers():
    checked = verify(GOOD)
    assert isinstance(checked, Verified)
    vote = checked.value
    assert (vote.project, vote.change, vote.revision, vote.tree) == (PROJECT, "I" + COMMIT, COMMIT, TREE)
    assert (vote.label, vote.value, vote.at, vote.voter) == ("Code-Review", 2, RECEIVED, "bob")
    assert checked.digest == digest_of(GOOD)


def test_nobody_votes_for_another():
    assert verify(GOOD, person="carol").reason == "bad-signature"


@pytest.mark.parametrize("person", ["dave", "nobody", ""])
def test_without_a_pinned_key_there_is_no_vote(person):
    assert verify(GOOD, person=person) == Refusal("votes-ineligible", "no key is pinned for this person")


def test_a_vote_is_not_signed_under_a_certificate():
    bundle = parse_bundle(GOOD)
    data = encode_bundle(PAYLOAD, bundle.envelope.signatures[0][1], certificate=FakeCa().run().certificate)
    assert verify(data) == Refusal("bad-signature", "a vote is signed by a reviewer's own key, not under a certificate")


def test_a_key_is_hinted_at_and_nothing_else():
    bundle = json.loads(GOOD)
    bundle["verificationMaterial"]["publicKey"]["rawBytes"] = "AAAA"
    with pytest.raises(MalformedBundle, match="/publicKey/rawBytes: is not a member"):
        verify(json.dumps(bundle).encode())


def test_a_run_does_not_vote():
    assert verify(FakeCa().run().sign(PAYLOAD)).reason == "bad-signature"


def test_changed_after_signing():
    bundle = parse_bundle(GOOD)
    data = encode_bundle(bundle.envelope.payload.replace(b'"value":2', b'"value":1'), bundle.envelope.signatures[0][1], key_hint="reviewer")
    assert verify(data).reason == "bad-signature"


def test_two_signatures():
    bundle = json.loads(GOOD)
    bundle["dsseEnvelope"]["signatures"] *= 2
    assert verify(json.dumps(bundle).encode()).reason == "bad-signature"


def test_another_payload_type():
    assert verify(BOB.sign(PAYLOAD, payload_type="application/json")).reason == "provenance-predicate"


def test_another_predicate_type():
    document = json.loads(PAYLOAD) | {"predicateType": VOTE + "evil"}
    assert verify(BOB.sign(encode_canonical(document))).reason == "provenance-predicate"


@pytest.mark.parametrize(
    "subject",
    [
        [{"digest": {"gitCommit": "3" * 40}}],
        [{"digest": {"gitCommit": COMMIT, "gitTree": TREE}}],
        [{"digest": {"gitCommit": COMMIT}}, {"digest": {"gitCommit": "3" * 40}}],
        [{"digest": {"sha256": "1" * 64}}],
    ],
    ids=["other", "two digests", "two", "artifact"],
)
def test_the_subject_is_the_revision_and_nothing_else(subject):
    assert verify(BOB.sign(encode_canonical(json.loads(PAYLOAD) | {"subject": subject}))).reason == "votes-stale"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("value", 3),
        ("value", -3),
        ("value", True),
        ("value", "2"),
        ("revision", COMMIT[:7]),
        ("tree", "HEAD"),
        ("at", "2026-11-21T10:01:00+00:00"),
        ("label", ""),
        ("project", "a\nb"),
        ("change", 1),
        ("voter", "carol"),
    ],
)
def test_members_of_another_form(member, value):
    with pytest.raises(MalformedStatement, match=f"/predicate/{member}"):
        verify(edited(member, value))


@pytest.mark.parametrize("member", ["project", "change", "revision", "tree", "label", "value", "at"])
def test_every_member_is_needed(member):
    document = json.loads(PAYLOAD)
    del document["predicate"][member]
    with pytest.raises(MalformedStatement, match=f"/predicate/{member}: is missing"):
        verify(BOB.sign(encode_canonical(document)))


def test_keys_as_the_policy_holds_them():
    assert parse_vote_key(base64.b64encode(BOB.public).decode()) == BOB.public


@pytest.mark.parametrize("raw", [b"", b"\x07" * 31, b"\x07" * 33])
def test_keys_of_another_length(raw):
    with pytest.raises(MalformedKey, match="has 32 bytes"):
        parse_vote_key(base64.b64encode(raw).decode())


@pytest.mark.parametrize("text", ["AAA", base64.urlsafe_b64encode(b"\xff" * 32).decode(), "é"])
def test_keys_of_another_spelling(text):
    with pytest.raises(MalformedKey, match="base64"):
        parse_vote_key(text)


SMALL = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]


@pytest.mark.parametrize("point", SMALL)
def test_points_of_small_order_are_nobodys_key(point):  # row 34
    raw = bytes.fromhex(point)
    with pytest.raises(MalformedKey, match="small order"):
        parse_vote_key(base64.b64encode(raw).decode())
    with pytest.raises(MalformedKey, match="small order"):
        verify(GOOD, keys={"bob": (raw,)})
