"""What the schemas of single kinds demand beyond the types of their members."""

import base64
import json

import pytest

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.tlog.entry import Kind, encode_entry, parse_entry
from gatekeeper.tlog.errors import MalformedEntry
from tests.fakes.entries import ALICE, BOB, CAROL, ORIGIN, SAMPLES

BY_KIND = {entry.KIND: entry for entry in SAMPLES}
SPANS = (Kind.FREEZE, Kind.WINDOW, Kind.HOLD, Kind.RESERVATION, Kind.STOP)
BEFORE = "2026-11-21T10:04:04Z"
H32 = base64.b64encode(bytes(32)).decode()
HEAD = {"size": 1, "root": H32}
SLOT = {"origin": ORIGIN, "index": 19, "slot": 0}


def parsed_with(kind, **changes):
    return parse_entry(encode_canonical(json.loads(encode_entry(BY_KIND[kind])) | changes))


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        *((kind, {"change": "extend"}, "/change: must be one of begin, end") for kind in (*SPANS, Kind.EXEMPTION)),
        *((kind, {"until": BEFORE}, "/until: must not come before from") for kind in (*SPANS, Kind.REVOCATION)),
        *((kind, {"from": None}, "/from: must be a time") for kind in SPANS),
        *((kind, {"who": [ALICE, BOB]}, "/who: a pseudonym is") for kind in SPANS),
        (Kind.ACKNOWLEDGEMENT, {"ping_id": None, "of": None}, "/ping_id: an acknowledgement is of a ping"),
        *(
            (kind, {"who": who}, "/who: must name two different people")
            for kind in (Kind.EXEMPTION, Kind.BREAKGLASS_OPEN, Kind.WITNESS_CHANGE, Kind.LIFT)
            for who in ([], [ALICE], [ALICE, BOB, CAROL])
        ),
        (Kind.EXEMPTION, {"who": [ALICE, ALICE]}, "/who: must be ascending"),
        (Kind.EXEMPTION, {"until": None}, "/until: must be a time"),
        (Kind.BREAKGLASS_OPEN, {"skips": []}, "/skips: a breakglass names what it skips"),
        (Kind.REVOCATION, {"what": "person"}, "/what: must be one of"),
        (Kind.WITNESS_CHANGE, {"fail_open": None}, "/fail_open: must be true or false"),
        (Kind.SEALED, {"c": [H32] * 3}, "/c: must have 4 slots"),
        (Kind.SEALED, {"c": [H32] * 5}, "/c: has more than 4 items"),
        (Kind.SEALED, {"c": [H32] * 3 + ["A" * 42 + "B="]}, "/c/3: must be the base64 of 32 bytes"),
        (Kind.SEALED, {"config": "0" * 40}, "/config: must be null in a sealed leaf"),
        (Kind.SEALED, {"open_by": "2027-12-30"}, "/open_by: must be the end of a year"),
        (Kind.SEALED, {"open_by": "2025-12-31"}, "/open_by: must be the end of a year that has not passed"),
        (Kind.SEALED, {"open_by": "2027-W52-5"}, "/open_by: must be a day"),
        (Kind.SEALED, {"open_by": "2027-12-32"}, "/open_by: is no day of the calendar"),
        (Kind.SEALED, {"at": "1969-12-31T23:59:59Z"}, "/at: must not come before 1970"),
        (Kind.SEALED, {"esc": "é" * 44}, "/esc: must be the base64 of 32 bytes"),
        (Kind.OPEN, {"of": SLOT | {"slot": None}}, "/of: must name a slot"),
        (Kind.OPEN, {"rp": None}, "/rp: rp and private are there together or both null"),
        (Kind.OPEN, {"private": None}, "/rp: rp and private are there together or both null"),
        (Kind.OPEN, {"body": base64.b64encode(bytes(513)).decode()}, "/body: must be the base64 of 1 to 512 bytes"),
        (Kind.OPEN, {"body": ""}, "/body: must be the base64 of 1 to 512 bytes"),
        (Kind.OPEN, {"private": base64.b64encode(bytes(3501)).decode()}, "/private: must be the base64 of 1 to 3500 bytes"),
        (Kind.OPEN, {"body": "é" * 4}, "/body: must be the base64 of 1 to 512 bytes"),
        (Kind.OPEN, {"private": "A" * 5 + "B=="}, "/private: must be the base64"),
        (Kind.OPEN_DECOYS, {"of_origin": "two words"}, "/of_origin: must have 1 to 200 bytes"),
        (Kind.OPEN_DECOYS, {"day": "20261121"}, "/day: must be a day"),
        (Kind.LIFT, {"embargo": "CVE-2026-1"}, "/embargo: must be 32 lowercase"),
        (Kind.LIFT, {"opens": [SLOT | {"slot": 1}, SLOT]}, "/opens: must be ascending"),
        (Kind.LIFT, {"opens": [SLOT, SLOT]}, "/opens: must be ascending"),
        (Kind.LIFT, {"opens": [SLOT | {"slot": None}]}, "/opens/0: must name a slot"),
    ],
)
def test_an_entry_out_of_its_schema_is_refused(kind, changes, words):
    with pytest.raises(MalformedEntry, match=words):
        parsed_with(kind, **changes)


def test_what_may_be_null_may_be_null():
    for kind in SPANS:
        assert parsed_with(kind, component=None, until=None).component is None
    assert parsed_with(Kind.ACKNOWLEDGEMENT, ping_id=None).ping_id is None
    assert parsed_with(Kind.ACKNOWLEDGEMENT, of=None).of is None
    assert parsed_with(Kind.REVOCATION, **{"from": None, "until": None}).since is None
    assert parsed_with(Kind.REVOCATION, **{"from": None, "until": BEFORE}).until is not None
    withdrawn = parsed_with(Kind.OPEN, rp=None, private=None)
    assert (withdrawn.rp, withdrawn.private) == (None, None)


def test_the_parts_of_an_opening_may_be_as_long_as_their_bounds():
    fullest = parsed_with(Kind.OPEN, body=base64.b64encode(bytes(512)).decode(), private=base64.b64encode(bytes(3500)).decode())
    assert (len(fullest.body), len(fullest.private)) == (512, 3500)


def test_a_leaf_of_the_last_day_of_its_horizon_is_a_leaf():
    last = parsed_with(Kind.SEALED, at="2027-12-31T23:59:59Z", open_by="2027-12-31")
    assert last.open_by == last.at.date()


@pytest.mark.parametrize(
    ("kind", "changes", "place"),
    [
        (Kind.OUTCOME, {"doorkeeper": [{"target": "web-1", "size": 4, "cosignature": "x", "more": 1}]}, "/doorkeeper/0/more"),
        (Kind.ORIGIN, {"heads": {"database": HEAD, "vault": HEAD, "more": 1}}, "/heads/more"),
        (Kind.ORIGIN, {"heads": {"database": HEAD | {"more": 1}, "vault": HEAD}}, "/heads/database/more"),
        (Kind.ORIGIN, {"heads": {"database": HEAD, "vault": HEAD | {"more": 1}}}, "/heads/vault/more"),
    ],
)
def test_a_part_of_an_entry_has_no_other_members(kind, changes, place):
    with pytest.raises(MalformedEntry, match=f"{place}: is not a member"):
        parsed_with(kind, **changes)


def test_a_sealed_leaf_has_one_size_whatever_is_in_it():
    leaf = encode_entry(BY_KIND[Kind.SEALED])
    assert len(encode_entry(parsed_with(Kind.SEALED, c=[H32] * 4, esc=H32, entry_id="f" * 32))) == len(leaf) < 512
