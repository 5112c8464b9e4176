"""Sealed leaves: the bytes are those of the log format, and each check of an opening refuses what it is about."""

import base64
import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.decision import Verdict
from gatekeeper.model.moment import later
from gatekeeper.tlog.entry import MAX_PRIVATE, Reference, UnknownEntry, encode_entry, parse_entry
from gatekeeper.tlog.errors import MalformedEntry, OpeningFault, OpeningRefused
from gatekeeper.tlog.escrow import ESCROW_BYTES, SLOT_BYTES, encode_escrow, parse_escrow
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.sealed import (
    NO_ESCROW,
    Opening,
    SealedBody,
    SealedHead,
    commitment,
    decoy_slots,
    encode_body,
    make_decoy,
    parse_body,
    private_hmac,
    seal_entry,
    verify_opening,
    verify_slot,
)
from tests.fakes.entries import DECISION, HELD, HIDDEN, LEAF, ORIGIN, SEED, SLOTS, TICK, decoy, fixed, leaf_of, opened

GOLDEN = Path(__file__).resolve().parents[1] / "assets" / "sealed" / "leaf-v1.json"
AT = Reference(ORIGIN, 20)
LEAF_AT = Reference(ORIGIN, 19)
OPENED = opened(SLOTS[0], Reference(ORIGIN, 19, 0), number=20)
PRIVATE = encode_entry(HIDDEN, cap=MAX_PRIVATE)


def b64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104, word for word."""
    key = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()


def refused(fault, leaf, slot, opening):
    with pytest.raises(OpeningRefused) as caught:
        verify_slot(leaf, slot, opening)
    assert caught.value.fault is fault


def committed(body: SealedBody, *, rp=None, private=None, r=None):
    """A leaf that holds this body in slot 0, whatever it says, and its opening: what a lying operator can do."""
    opening = Opening(r or fixed(9), encode_body(body), rp, private)
    commitments = (commitment(opening.r, LEAF.origin, opening.body), *LEAF.commitments[1:])
    return dataclasses.replace(LEAF, commitments=commitments), opening


def body_with(private: bytes = PRIVATE, rp: bytes = fixed(3), **changes) -> SealedBody:
    head = SealedHead(**vars(parse_body(SLOTS[0].body).head) | changes)
    return SealedBody(head, private_hmac(rp, private))


def test_the_golden_leaf_and_its_openings_never_change():
    golden = json.loads(GOLDEN.read_bytes())
    assert golden["leaf"] == encode_entry(LEAF).decode()
    assert golden["leaf_hash"] == leaf_hash(encode_entry(LEAF)).hex()
    assert golden["decoy_seed"] == SEED.hex()
    written = [{"r": b64(slot.r), "body": slot.body.decode(), "rp": b64(slot.rp), "private": slot.private and slot.private.decode()} for slot in SLOTS]
    assert [{key: slot[key] for key in ("r", "body", "rp", "private")} for slot in golden["slots"]] == written
    assert [slot["c"] for slot in golden["slots"]] == [b64(item) for item in LEAF.commitments]
    escrow = encode_escrow(SLOTS)
    assert golden["escrow_sha256"] == hashlib.sha256(escrow).hexdigest()


def test_the_golden_bytes_are_what_the_log_format_says():
    golden = json.loads(GOLDEN.read_bytes())
    origin = ORIGIN.encode()
    tick = int(TICK.timestamp())
    for number, slot in enumerate(golden["slots"]):
        r, body = base64.b64decode(slot["r"]), slot["body"].encode()
        said = json.loads(body)
        message = r + len(origin).to_bytes(2, "big") + origin + len(body).to_bytes(4, "big") + body
        assert base64.b64decode(slot["c"]) == hmac_sha256(b"deploylog.sealed/v1", message)
        assert said["head"]["at"] == "2026-11-21T10:04:06Z"
        if slot["private"]:
            mac = hmac_sha256(b"deploylog.sealed-private/v1", base64.b64decode(slot["rp"]) + slot["private"].encode())
            assert base64.b64decode(said["private"]) == mac
            private = json.loads(slot["private"])
            assert all(said["head"][key] == private.get(key) for key in ("entry_id", "origin", "kind", "verdict"))
        else:
            seed, m = bytes.fromhex(golden["decoy_seed"]), tick.to_bytes(8, "big") + bytes((number,))
            assert r == hmac_sha256(seed, b"r" + m)
            assert said["head"]["entry_id"] == hmac_sha256(seed, b"i" + m)[:16].hex()
            assert base64.b64decode(said["private"]) == hmac_sha256(seed, b"p" + m)
            assert (said["head"]["kind"], said["head"]["verdict"]) == ("decoy", None)
    assert NO_ESCROW.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_an_opening_shows_the_decision_it_sealed():
    whole = verify_slot(LEAF, 0, SLOTS[0])
    assert whole.entry == parse_entry(PRIVATE)
    assert (whole.head.kind, whole.head.verdict, whole.head.at) == ("decision", Verdict.ALLOW, TICK)
    held = verify_slot(LEAF, 2, SLOTS[2])
    assert (held.head.kind, held.head.verdict, held.entry) == ("hold", None, HELD)


def test_a_withdrawn_opening_shows_the_head_alone():
    slot = verify_slot(LEAF, 0, dataclasses.replace(SLOTS[0], rp=None, private=None))
    assert slot.entry is None
    assert slot.head == verify_slot(LEAF, 0, SLOTS[0]).head


def test_an_opening_of_a_slot_that_is_not_there_is_refused():
    for slot in (-1, 4):
        refused(OpeningFault.NO_SLOT, LEAF, slot, SLOTS[0])


def test_an_opening_that_the_slot_does_not_commit_to_is_refused():
    refused(OpeningFault.NOT_COMMITTED, LEAF, 1, SLOTS[0])
    refused(OpeningFault.NOT_COMMITTED, LEAF, 0, dataclasses.replace(SLOTS[0], r=fixed(99)))
    refused(OpeningFault.NOT_COMMITTED, LEAF, 0, dataclasses.replace(SLOTS[0], body=SLOTS[2].body))
    refused(OpeningFault.NOT_COMMITTED, dataclasses.replace(LEAF, origin=ORIGIN + "b"), 0, SLOTS[0])


def test_an_opening_out_of_bounds_is_refused():
    for origin in ("", "x" * 0x10000):
        refused(OpeningFault.BODY_MALFORMED, dataclasses.replace(LEAF, origin=origin), 0, SLOTS[0])
    refused(OpeningFault.BODY_MALFORMED, LEAF, 0, dataclasses.replace(SLOTS[0], r=fixed(2)[:31]))
    refused(OpeningFault.BODY_MALFORMED, LEAF, 0, dataclasses.replace(SLOTS[0], body=bytes(513)))
    refused(OpeningFault.BODY_MALFORMED, LEAF, 0, dataclasses.replace(SLOTS[0], body=b""))


def test_a_body_that_was_committed_to_but_is_none_is_refused():
    opening = Opening(fixed(9), SLOTS[0].body + b" ", None, None)
    leaf = dataclasses.replace(LEAF, commitments=(commitment(opening.r, ORIGIN, opening.body), *LEAF.commitments[1:]))
    refused(OpeningFault.BODY_MALFORMED, leaf, 0, opening)


def test_a_body_of_another_origin_is_refused():
    refused(OpeningFault.OTHER_ORIGIN, *_at_slot_0(committed(body_with(origin=ORIGIN + "b"))))


def test_a_body_of_another_time_is_refused():
    refused(OpeningFault.OTHER_TIME, *_at_slot_0(committed(body_with(at=later(TICK, seconds=2)))))


def test_a_decision_that_calls_itself_a_decoy_is_refused():
    leaf, opening = committed(body_with(kind="decoy", verdict=None))
    refused(OpeningFault.DECOY, leaf, 0, opening)
    # A decoy itself is opened by its seed and not by an entry of its own.
    refused(OpeningFault.DECOY, LEAF, 1, SLOTS[1])


def test_rp_without_the_private_entry_and_the_other_way_round_are_refused():
    refused(OpeningFault.HALF_OPEN, LEAF, 0, dataclasses.replace(SLOTS[0], private=None))
    refused(OpeningFault.HALF_OPEN, LEAF, 0, dataclasses.replace(SLOTS[0], rp=None))


def test_a_private_entry_that_the_body_does_not_commit_to_is_refused():
    refused(OpeningFault.PRIVATE_DIFFERS, LEAF, 0, dataclasses.replace(SLOTS[0], private=SLOTS[2].private))
    refused(OpeningFault.PRIVATE_DIFFERS, LEAF, 0, dataclasses.replace(SLOTS[0], rp=fixed(99)))


def test_a_private_entry_out_of_bounds_or_in_another_spelling_is_refused():
    refused(OpeningFault.PRIVATE_MALFORMED, LEAF, 0, dataclasses.replace(SLOTS[0], private=bytes(3501)))
    refused(OpeningFault.PRIVATE_MALFORMED, LEAF, 0, dataclasses.replace(SLOTS[0], rp=b""))
    respelled = PRIVATE.replace(b'"at":', b'"at": ', 1)
    refused(OpeningFault.PRIVATE_MALFORMED, *_at_slot_0(committed(body_with(respelled), rp=fixed(3), private=respelled)))


@pytest.mark.parametrize(
    "changes",
    [{"entry_id": "a" * 32}, {"kind": "outcome"}, {"verdict": Verdict.DENY}, {"verdict": None}],
    ids=lambda changes: "".join(map(str, changes.items())),
)
def test_a_head_that_says_another_thing_than_its_private_entry_is_refused(changes):
    refused(OpeningFault.HEAD_DIFFERS, *_at_slot_0(committed(body_with(**changes), rp=fixed(3), private=PRIVATE)))


def test_a_private_entry_of_another_origin_is_refused():
    private = encode_entry(dataclasses.replace(HIDDEN, origin=ORIGIN + "b"), cap=MAX_PRIVATE)
    refused(OpeningFault.HEAD_DIFFERS, *_at_slot_0(committed(body_with(private), rp=fixed(3), private=private)))


def _at_slot_0(made):
    leaf, opening = made
    return leaf, 0, opening


def opening_fault(entry=OPENED, *, at=AT, leaf=LEAF, leaf_at=LEAF_AT, origins=(ORIGIN,)):
    try:
        verify_opening(entry, at=at, leaf=leaf, leaf_at=leaf_at, origins=origins)
    except OpeningRefused as error:
        return error.fault
    return None


def test_an_open_entry_is_checked_against_its_leaf():
    assert opening_fault() is None
    slot = Reference(ORIGIN, 19, 0)
    assert opening_fault(dataclasses.replace(OPENED, commitment=LEAF.commitments[1])) is OpeningFault.OTHER_COMMITMENT
    assert opening_fault(dataclasses.replace(OPENED, of=dataclasses.replace(slot, slot=1))) is OpeningFault.OTHER_COMMITMENT
    assert opening_fault(dataclasses.replace(OPENED, of=dataclasses.replace(slot, slot=None))) is OpeningFault.NO_SLOT
    assert opening_fault(dataclasses.replace(OPENED, of=dataclasses.replace(slot, slot=4))) is OpeningFault.NO_SLOT
    assert opening_fault(dataclasses.replace(OPENED, of=dataclasses.replace(slot, index=18))) is OpeningFault.OTHER_LEAF
    assert opening_fault(dataclasses.replace(OPENED, of=dataclasses.replace(slot, origin=ORIGIN + "b"))) is OpeningFault.OTHER_LEAF
    assert opening_fault(leaf=dataclasses.replace(LEAF, origin=ORIGIN + "b")) is OpeningFault.OTHER_LEAF
    assert opening_fault(dataclasses.replace(OPENED, origin=ORIGIN + "b")) is OpeningFault.OTHER_LEAF
    assert opening_fault(dataclasses.replace(OPENED, rp=fixed(99))) is OpeningFault.PRIVATE_DIFFERS


def test_an_opening_stands_after_its_leaf_or_in_a_later_origin():
    new, old = ORIGIN + "b", ORIGIN + "a"
    assert opening_fault(at=Reference(ORIGIN, 19)) is OpeningFault.NOT_LATER
    assert opening_fault(at=Reference(ORIGIN, 18)) is OpeningFault.NOT_LATER
    for origin, origins, fault in [
        (new, (old, ORIGIN, new), None),
        (old, (old, ORIGIN, new), OpeningFault.NOT_LATER),
        (new, (ORIGIN,), OpeningFault.NOT_LATER),
        (new, (new,), OpeningFault.NOT_LATER),
    ]:
        entry = dataclasses.replace(OPENED, origin=origin)
        assert opening_fault(entry, at=Reference(origin, 1), origins=origins) is fault


def test_a_seed_opens_the_decoys_of_its_day_and_never_a_decision():
    assert decoy_slots(LEAF, SEED) == {1, 3}
    assert decoy_slots(LEAF, fixed(1)) == frozenset()
    assert decoy_slots(leaf_of(*map(decoy, range(4))), SEED) == {0, 1, 2, 3}
    # Of another time, slot or origin it is another decoy.
    assert decoy_slots(dataclasses.replace(LEAF, at=later(TICK, seconds=2)), SEED) == frozenset()
    assert decoy_slots(leaf_of(decoy(1), decoy(0), decoy(3), decoy(2)), SEED) == frozenset()
    assert decoy_slots(dataclasses.replace(LEAF, origin=ORIGIN + "b"), SEED) == frozenset()


def test_a_decision_under_the_r_of_a_decoy_is_not_opened_by_the_seed():
    leaf, _ = committed(body_with(), r=decoy(0).r)
    assert 0 not in decoy_slots(leaf, SEED)


def test_a_kind_of_a_later_release_can_be_sealed_and_opened():
    members = {"v": 1, "kind": "continued", "entry_id": "c" * 32, "origin": ORIGIN, "at": "2026-11-21T10:04:05Z", "config": None, "verdict": "Deny"}
    opening = seal_entry(encode_canonical(members), at=TICK, r=fixed(1), rp=fixed(2))
    slot = verify_slot(leaf_of(opening, *map(decoy, (1, 2, 3))), 0, opening)
    assert isinstance(slot.entry, UnknownEntry)
    assert (slot.head.kind, slot.head.verdict) == ("continued", Verdict.DENY)


@pytest.mark.parametrize("said", ["allow", "Maybe", "", None, True, 1, ["Allow"], {}])
def test_what_a_later_release_says_that_is_no_verdict_of_ours_is_none_in_its_head(said):
    members = {"v": 1, "kind": "continued", "entry_id": "c" * 32, "origin": ORIGIN, "at": "2026-11-21T10:04:05Z", "config": None, "verdict": said}
    opening = seal_entry(encode_canonical(members), at=TICK, r=fixed(1), rp=fixed(2))
    assert verify_slot(leaf_of(opening, *map(decoy, (1, 2, 3))), 0, opening).head.verdict is None


def test_a_commitment_is_to_an_origin_and_a_body_within_their_bounds():
    assert len({commitment(fixed(1), "x" * 0xFFFF, b"x"), commitment(fixed(1), "x", b"x" * 512), commitment(fixed(1), "x", b"x")}) == 3
    for origin, body in (("", b"x"), ("x" * 0x10000, b"x"), ("\u00e4" * 0x8000, b"x"), ("x", b""), ("x", b"x" * 513)):
        with pytest.raises(MalformedEntry, match="an origin and a body of 1 to 512 bytes"):
            commitment(fixed(1), origin, body)


def test_a_private_entry_is_bound_within_its_bounds():
    assert private_hmac(fixed(1), b"x") != private_hmac(fixed(1), b"x" * MAX_PRIVATE)
    for private in (b"", b"x" * (MAX_PRIVATE + 1)):
        with pytest.raises(MalformedEntry, match="a private entry has 1 to 3500 bytes"):
            private_hmac(fixed(1), private)


def test_what_would_not_open_is_not_sealed():
    with pytest.raises(MalformedEntry, match="4 slots"):
        leaf_of(*SLOTS[:3])
    with pytest.raises(MalformedEntry, match="another origin or time"):
        leaf_of(*SLOTS[:3], decoy(3, at=later(TICK, seconds=2)))
    with pytest.raises(MalformedEntry, match="another origin or time"):
        leaf_of(*SLOTS[:3], decoy(3, origin=ORIGIN + "b"))
    with pytest.raises(MalformedEntry, match="32 bytes"):
        seal_entry(PRIVATE, at=TICK, r=b"short", rp=fixed(1))
    with pytest.raises(MalformedEntry, match="32 bytes"):
        seal_entry(PRIVATE, at=TICK, r=fixed(1), rp=b"short")
    with pytest.raises(MalformedEntry, match="32 bytes"):
        make_decoy(b"short", origin=ORIGIN, at=TICK, slot=0)
    whole = encode_entry(dataclasses.replace(DECISION, reasons=tuple(f"reason-{n:03}" * 8 for n in range(60))))
    assert len(whole) > MAX_PRIVATE
    with pytest.raises(MalformedEntry, match="3500"):
        seal_entry(whole, at=TICK, r=fixed(1), rp=fixed(2))
    called_decoy = encode_canonical({"v": 1, "kind": "decoy", "entry_id": "c" * 32, "origin": ORIGIN, "at": "2026-11-21T10:04:05Z", "config": None})
    with pytest.raises(MalformedEntry, match="kind of a decoy"):
        seal_entry(called_decoy, at=TICK, r=fixed(1), rp=fixed(2))
    with pytest.raises(MalformedEntry, match="512"):
        encode_body(body_with(origin='"' * 200))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"private": "AAAA"}, "/private"),
        ({"more": 1}, "/more"),
        ({"head": {}}, "entry_id"),
        ({"head": {"more": 1}}, "/head/more"),
        ({"head": {"verdict": "allow"}}, "/head/verdict"),
        ({"head": {"verdict": 1}}, "/head/verdict"),
        ({"head": {"entry_id": "x"}}, "/head/entry_id"),
        ({"head": {"origin": "two words"}}, "/head/origin"),
        ({"head": {"kind": ""}}, "/head/kind"),
        ({"head": {"at": "now"}}, "/head/at"),
    ],
)
def test_a_body_out_of_its_schema_is_refused(changes, words):
    body = json.loads(SLOTS[0].body)
    head = changes.get("head", body["head"])
    with pytest.raises(MalformedEntry, match=words):
        parse_body(encode_canonical(body | changes | {"head": body["head"] | head if head else {}}))


def test_an_escrow_has_one_length_and_gives_the_openings_back():
    data = encode_escrow(SLOTS)
    assert (len(data), SLOT_BYTES) == (ESCROW_BYTES, 4096)
    assert len(encode_escrow([decoy(slot) for slot in range(4)])) == 16_384
    assert parse_escrow(data) == SLOTS
    fullest = Opening(fixed(1), bytes(512), fixed(2), b"x" * MAX_PRIVATE)
    assert parse_escrow(encode_escrow([fullest] * 4)) == (fullest,) * 4


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        (SLOTS[:3], "16384"),
        ((*SLOTS, SLOTS[0]), "16384"),
        ((*SLOTS[:3], dataclasses.replace(SLOTS[0], private=None)), "rp and a private entry, or neither"),
        ((*SLOTS[:3], dataclasses.replace(SLOTS[0], rp=None)), "rp and a private entry, or neither"),
        ((*SLOTS[:3], dataclasses.replace(SLOTS[0], body=b"")), "has a body"),
        ((*SLOTS[:3], dataclasses.replace(SLOTS[0], body=bytes(513))), "too long"),
        ((*SLOTS[:3], dataclasses.replace(SLOTS[0], private=bytes(3501))), "too long"),
        ((*SLOTS[:3], dataclasses.replace(SLOTS[0], private=b"")), "rp and a private entry, or neither"),
        ((*SLOTS[:3], dataclasses.replace(SLOTS[0], r=fixed(0)[:31])), "more than"),
    ],
)
def test_an_opening_without_a_place_in_an_escrow_is_refused(slots, words):
    with pytest.raises(MalformedEntry, match=words):
        encode_escrow(slots)


def test_a_byte_after_an_opening_in_an_escrow_is_refused():
    data = encode_escrow(SLOTS)
    for at in (SLOT_BYTES - 1, ESCROW_BYTES - 1):
        with pytest.raises(MalformedEntry, match="zeros to its end"):
            parse_escrow(data[:at] + b"\1" + data[at + 1 :])
