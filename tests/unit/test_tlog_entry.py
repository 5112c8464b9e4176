"""Log entries: one golden file per kind, whose bytes never change, and a tree over all of them; then the schema and the cap."""

import base64
import dataclasses
import json
from pathlib import Path

import pytest

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.decision import Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.tlog.entry import (
    MAX_ENTRY,
    Abridged,
    Head,
    Kind,
    RolePeople,
    UnknownEntry,
    encode_entry,
    hidden_text,
    parse_entry,
    pseudonym,
)
from gatekeeper.tlog.errors import MalformedEntry
from gatekeeper.tlog.members import MAX_ITEMS, read_texts
from gatekeeper.tlog.merkle import CompactRange, leaf_hash
from tests.fakes.entries import ALICE, AT, BOB, CAROL, DECISION, ORIGIN, REASON, SAMPLES, D, digests

GOLDEN = Path(__file__).resolve().parents[1] / "assets" / "log"


def members(entry) -> dict:
    return json.loads(encode_entry(entry))


def parsed_with(entry, **changes):
    return parse_entry(encode_canonical(members(entry) | changes))


def test_there_is_a_golden_file_for_every_kind():
    assert sorted(entry.KIND for entry in SAMPLES) == sorted(Kind)
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == sorted(kind.value for kind in Kind)


@pytest.mark.parametrize("entry", SAMPLES, ids=lambda entry: entry.KIND.value)
def test_the_golden_bytes_of_a_kind_never_change(entry):
    data = (GOLDEN / f"{entry.KIND.value}.json").read_bytes()
    assert encode_entry(entry) == data
    assert parse_entry(data) == entry


def test_the_golden_leaf_hashes_and_their_tree_never_change():
    lines = (GOLDEN / "leaf-hashes.txt").read_text().splitlines()
    leaves = [leaf_hash((GOLDEN / f"{entry.KIND.value}.json").read_bytes()) for entry in SAMPLES]
    expected = [f"{entry.KIND.value} {leaf.hex()}" for entry, leaf in zip(SAMPLES, leaves, strict=True)]
    assert lines == [*expected, f"root {CompactRange.empty().extend(leaves).root().hex()}"]


@pytest.mark.parametrize("entry", SAMPLES, ids=lambda entry: entry.KIND.value)
def test_every_member_must_be_there_and_no_other(entry):
    whole = members(entry)
    for name in whole:
        with pytest.raises(MalformedEntry, match="is missing"):
            parse_entry(encode_canonical({key: value for key, value in whole.items() if key != name}))
    with pytest.raises(MalformedEntry, match="/fence: is not a member"):
        parsed_with(entry, fence=1)


@pytest.mark.parametrize("entry", SAMPLES, ids=lambda entry: entry.KIND.value)
def test_a_member_of_another_type_is_refused(entry):
    for name in members(entry):
        with pytest.raises(MalformedEntry):
            parsed_with(entry, **{name: [[]]})


def test_a_kind_not_known_keeps_its_bytes():
    own = {"v": 1, "kind": "later", "entry_id": "a" * 32, "origin": ORIGIN, "at": "2026-11-21T10:04:05Z", "config": None}
    body = encode_canonical(own | {"x": [1]})
    assert parse_entry(body) == UnknownEntry(entry_id="a" * 32, origin=ORIGIN, at=AT, config=None, kind="later", body=body)


def test_another_version_is_refused():
    with pytest.raises(MalformedEntry, match="/v: must lie between 1 and 1"):
        parsed_with(DECISION, v=2)


@pytest.mark.parametrize(
    "respell",
    [
        lambda data: data.replace(b'":', b'": ', 1),
        lambda data: data + b"\n",
        lambda data: data.replace(b"hello", b"\\u0068ello"),
        lambda data: b'{"v":1,' + data[1:].replace(b',"v":1', b""),
        lambda data: json.dumps(json.loads(data), separators=(",", ":")).encode().replace(b'"at"', b'"\\u0061t"'),
    ],
)
def test_a_second_spelling_is_refused(respell):
    data = encode_entry(DECISION)
    with pytest.raises(MalformedEntry, match="one spelling"):
        parse_entry(respell(data))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"statement": None}, "statement"),
        ({"not_after": None}, "not_after"),
        ({"verdict": "Deny"}, "not_after"),
        ({"verdict": "Indeterminate", "not_after": None}, "statement"),
        ({"verdict": "allow"}, "verdict"),
        ({"subjects": list(reversed(digests("a", "b")))}, "ascending"),
        ({"evidence": [D("a"), D("a")]}, "ascending"),
        ({"requester": "alice@example.com"}, "pseudonym"),
        ({"requester": ALICE.upper()}, "pseudonym"),
        ({"entry_id": "A" * 32}, "32 lowercase"),
        ({"ping_id": "a" * 31}, "32 lowercase"),
        ({"component": ""}, "characters"),
        ({"component": "é" * 129}, "256 bytes"),
        ({"component": "a\nb"}, "control"),
        ({"origin": "two words"}, "origin"),
        ({"config": "0123456"}, "git object id"),
        ({"at": "2026-11-21T10:04:05+00:00"}, "/at"),
        ({"supersedes": {"origin": ORIGIN, "index": 1}}, "slot"),
        ({"supersedes": {"origin": ORIGIN, "index": -1, "slot": None}}, "index"),
        ({"supersedes": {"origin": ORIGIN, "index": 1, "slot": 4}}, "slot"),
        ({"people": {"owner": [], "uploader": []}}, "voter"),
        ({"people": {"owner": [], "uploader": [], "voter": [], "author": []}}, "author"),
        ({"target": {"n": 0, "sha256": D("x")}}, "target/n"),
        ({"target": {"n": 3, "sha256": D("x"), "more": 1}}, "more"),
    ],
)
def test_a_decision_out_of_its_schema_is_refused(changes, words):
    with pytest.raises(MalformedEntry, match=words):
        parsed_with(DECISION, **changes)


def test_an_override_is_always_late_and_by_two_different_people():
    override = SAMPLES[5]
    with pytest.raises(MalformedEntry, match="late"):
        parsed_with(override, late=False)
    for who in ([ALICE], [ALICE, ALICE], [ALICE, BOB, CAROL], []):
        with pytest.raises(MalformedEntry, match="/who"):
            parsed_with(override, who=who)


def test_hidden_text_is_the_base64_of_32_bytes():
    for text in ("INC-1", base64.b64encode(bytes(31)).decode(), "A" * 42 + "B=", "é" * 44):
        with pytest.raises(MalformedEntry, match="hidden text"):
            parsed_with(SAMPLES[5], incident=text)


def test_what_an_origin_entry_says_must_fit_its_cause():
    note = "x\n\n— x " + base64.b64encode(bytes(68)).decode() + "\n"
    heads = {name: {"size": 1, "root": base64.b64encode(bytes(32)).decode()} for name in ("database", "vault")}
    two = [ALICE, BOB]
    for changes, words in [
        ({"previous": note}, "none before"),
        ({"cause": "year"}, "last note"),
        ({"cause": "year", "previous": "no note"}, "empty line"),
        ({"cause": "loss", "who": two, "reason": REASON}, "heads"),
        ({"heads": heads}, "heads"),
        ({"cause": "loss", "heads": heads, "reason": REASON}, "two people"),
        ({"cause": "loss", "heads": heads, "who": two}, "two people"),
        ({"sealed_slots": 5}, "sealed_slots"),
        ({"who": [ALICE]}, "two different"),
    ]:
        with pytest.raises(MalformedEntry, match=words):
            parsed_with(SAMPLES[0], **changes)
    assert parsed_with(SAMPLES[0], cause="year", previous=note).previous == note
    loss = parsed_with(SAMPLES[0], cause="loss", previous=note, heads=heads, who=two, reason=REASON)
    assert loss.heads == (Head(1, heads["vault"]["root"]),) * 2
    assert parse_entry(encode_entry(loss)) == loss


def test_over_the_cap_the_longest_list_becomes_its_digest():
    subjects = digests(*(f"file{n}" for n in range(300)))
    evidence = digests(*(f"evidence{n}" for n in range(100)))
    entry = dataclasses.replace(DECISION, subjects=subjects, evidence=evidence)
    data = encode_entry(entry)
    assert len(data) <= MAX_ENTRY
    expected = Abridged(300, digest_of(encode_canonical(list(subjects))))
    assert parse_entry(data) == dataclasses.replace(entry, subjects=expected)


def test_the_next_longest_follows_until_it_fits():
    lists = {name: digests(*(f"{name}{n}" for n in range(count))) for name, count in (("subjects", 300), ("evidence", 250))}
    people = tuple(pseudonym(n.to_bytes(32, "big"), "i", "s") for n in range(30))
    entry = dataclasses.replace(DECISION, **lists, people=RolePeople((ALICE,), (ALICE,), tuple(sorted(people))))
    whole = parse_entry(encode_entry(entry))
    assert (whole.subjects.n, whole.evidence.n, len(whole.people.voter)) == (300, 250, 30)
    sealed = parse_entry(encode_entry(entry, cap=1900))
    assert sealed.people.voter == Abridged(30, digest_of(encode_canonical(sorted(people))))


def test_an_entry_of_exactly_its_cap_is_left_whole():
    entry = dataclasses.replace(DECISION, subjects=digests(*(f"file{n}" for n in range(20))))
    data = encode_entry(entry)
    assert encode_entry(entry, cap=len(data)) == data
    assert isinstance(parse_entry(encode_entry(entry, cap=len(data) - 1)).subjects, Abridged)


def test_of_two_lists_that_are_as_long_the_first_is_shortened():
    lists = {name: digests(*(f"{name}{n}" for n in range(20))) for name in ("subjects", "evidence")}
    entry = dataclasses.replace(DECISION, **lists)
    shortened = parse_entry(encode_entry(entry, cap=len(encode_entry(entry)) - 1))
    assert isinstance(shortened.evidence, Abridged)
    assert shortened.subjects == lists["subjects"]


def test_what_is_no_json_of_ours_is_no_entry():
    with pytest.raises(MalformedEntry):
        encode_entry(dataclasses.replace(DECISION, component="\ud800"))


def test_a_value_of_a_kind_that_no_member_has_is_no_entry():
    for value in (1.5, [], {}, object()):
        with pytest.raises(MalformedEntry, match="is no member of an entry"):
            encode_entry(dataclasses.replace(DECISION, component=value))


def test_a_texts_bound_is_of_its_bytes():
    environment = members(DECISION)["environment"]
    assert parsed_with(DECISION, environment="\u00e4" * 128).environment == "\u00e4" * 128
    for text, words in (("\u00e4" * 129, "at most 256 bytes"), ("e" * 257, "must have 1 to 256 characters")):
        with pytest.raises(MalformedEntry, match=words):
            parsed_with(DECISION, environment=text)
    assert parsed_with(DECISION, environment="e" * 256).environment != environment


def test_two_people_are_never_a_count():
    key = next(entry for entry in SAMPLES if entry.KIND is Kind.KEY)
    with pytest.raises(MalformedEntry, match="two different people"):
        parsed_with(key, who={"n": 2, "sha256": "sha256:" + "0" * 64})


def test_a_list_is_bounded():
    texts = sorted(f"t{number}" for number in range(MAX_ITEMS + 1))
    assert len(read_texts(Fields({"x": texts[:-1]}), "x")) == MAX_ITEMS
    with pytest.raises(FieldError, match=f"/x: has more than {MAX_ITEMS} items"):
        read_texts(Fields({"x": texts}), "x")


def test_a_reference_has_three_members():
    outcome = next(entry for entry in SAMPLES if entry.KIND is Kind.OUTCOME)
    with pytest.raises(MalformedEntry, match="/of/more: is not a member"):
        parsed_with(outcome, of=members(outcome)["of"] | {"more": 1})


def test_an_entry_that_no_shortening_brings_under_its_cap_is_refused():
    with pytest.raises(MalformedEntry, match="no list to shorten"):
        encode_entry(DECISION, cap=1000)


def test_an_entry_at_its_cap_is_read_and_one_byte_more_is_not():
    frame = {"v": 1, "kind": "later", "entry_id": "a" * 32, "origin": ORIGIN, "at": "2026-11-21T10:04:05Z", "config": None, "x": ""}
    frame["x"] = "x" * (MAX_ENTRY - len(encode_canonical(frame)))
    assert isinstance(parse_entry(encode_canonical(frame)), UnknownEntry)
    frame["x"] += "x"
    with pytest.raises(MalformedEntry, match="16384"):
        parse_entry(encode_canonical(frame))


def test_what_the_reader_refuses_is_not_written_either():
    for wrong in ({"verdict": Verdict.DENY}, {"component": "x" * 257}, {"requester": "alice"}, {"subjects": list(DECISION.subjects)}):
        with pytest.raises(MalformedEntry):
            encode_entry(dataclasses.replace(DECISION, **wrong))


def test_a_pseudonym_depends_on_key_issuer_and_subject():
    key = bytes(range(32))
    # HMAC-SHA256(key, "pingee.person/v1" 00 "https://id.example" 00 "alice"), computed by openssl
    assert pseudonym(key, "https://id.example", "alice") == "p:5162e1f4501e8c966cc92a164afbfc2e"
    others = {pseudonym(k, i, s) for k, i, s in ((key, "a", "bc"), (key, "ab", "c"), (bytes(32), "a", "bc"))}
    assert len(others) == 3
    for k, i, s in ((key[:31], "a", "b"), (key, "", "b"), (key, "a", ""), (key, "a\0b", "c"), (key, "a", "b\0c")):
        with pytest.raises(MalformedEntry):
            pseudonym(k, i, s)


def test_hidden_text_depends_on_its_salt():
    assert hidden_text(bytes(32), "x") != hidden_text(bytes(31) + b"\1", "x")
    with pytest.raises(MalformedEntry, match="32 bytes"):
        hidden_text(b"", "x")
