"""Canonical JSON against an independent encoder, the strict loader, labels, moments, and the moves of a ping."""

import json
from datetime import UTC, datetime

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatekeeper.model.canonical import MAX_INTEGER, NotCanonical, encode_canonical
from gatekeeper.model.label import PUBLIC, MalformedLabel, Viewer, join, parse_label
from gatekeeper.model.moment import MalformedMoment, moment, parse_moment, render_moment
from gatekeeper.model.ping import ENDED, HOLDING, MOVES, STEP_CODES, WAITING, State, may_move
from gatekeeper.model.strictjson import MAX_BYTES, MAX_DEPTH, MalformedJson, parse_json, parse_object

# Astral characters sort before U+E000 by UTF-16 and after it by code point.
ODD = st.sampled_from(["\U0001f600", "\uffff", "\ue000", "\u20ac", "\x7f", "\u2028", "\\", '"', "/", "\x00", "\x1f", "\b", "é", ""])
TEXTS = st.one_of(ODD, st.text(st.characters(codec="utf-8"), max_size=8), st.lists(ODD, max_size=3).map("".join))
INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
LEAVES = st.one_of(st.none(), st.booleans(), INTEGERS, TEXTS)
VALUES = st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)), max_leaves=20)


# --- RFC 8785


@given(VALUES)
@example({"\U0001f600": 1, "\ue000": 2, "\ufb33": 3, "1": 4, "\r": 5, "\x80": 6, "ö": 7, "€": 8, "": 9})
@settings(deadline=None)
def test_the_canonical_bytes_are_those_of_another_encoder(value):
    assert encode_canonical(value) == rfc8785.dumps(value)


@given(VALUES)
@settings(deadline=None)
def test_what_is_encoded_loads_as_the_same_value_and_encodes_to_the_same_bytes(value):
    data = encode_canonical(value)
    loaded = parse_json(data)
    assert loaded == value
    assert repr(loaded) == repr(parse_json(encode_canonical(loaded)))
    assert encode_canonical(loaded) == data


def test_keys_are_ordered_by_utf16():
    assert encode_canonical({"\ue000": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ue000":1}'.encode()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.0, "a float is not JSON of ours"),
        (float("nan"), "a float"),
        (float("inf"), "a float"),
        (MAX_INTEGER + 1, "beyond 2^53-1"),
        (-MAX_INTEGER - 1, "beyond 2^53-1"),
        ("\ud800", "lone surrogate"),
        ("a\udfffb", "lone surrogate"),
        ({"\udc00": 1}, "lone surrogate"),
        ({1: 2}, "a key that is not a string"),
        ({None: 2}, "a key that is not a string"),
        (b"bytes", "a bytes is not JSON of ours"),
        ({1, 2}, "a set is not JSON of ours"),
        (object(), "a object is not JSON of ours"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isprintable() else type(value).__name__,
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value], lambda value: {"a": value}], ids=["bare", "list", "object"])
def test_what_is_not_canonical_is_refused_at_any_place(value, words, wrap):
    with pytest.raises(NotCanonical, match=words.replace("^", r"\^")):
        encode_canonical(wrap(value))


def test_the_largest_integers_are_written():
    assert encode_canonical([MAX_INTEGER, -MAX_INTEGER, True, 0]) == b"[9007199254740991,-9007199254740991,true,0]"


# --- the strict loader

DEEP = "nested deeper than 32"
REFUSED = [
    (b"", "Expecting value"),
    (b'{"a":1,"a":2}', "key 'a' stands twice"),
    (b'[{"b":{"a":1,"\\u0061":2}}]', "key 'a' stands twice"),
    (b"NaN", "NaN is not JSON"),
    (b"[Infinity]", "Infinity is not JSON"),
    (b'{"a":-Infinity}', "-Infinity is not JSON"),
    (b"1.0", "a fraction or an exponent"),
    (b"1e3", "a fraction or an exponent"),
    (b"1E-3", "a fraction or an exponent"),
    (b"-0.0", "a fraction or an exponent"),
    (b"-0", "minus zero"),
    (b"[-0]", "minus zero"),
    (b"9007199254740992", "beyond 2^53-1"),
    (b"-9007199254740992", "beyond 2^53-1"),
    (b"1" * 5000, "beyond 2^53-1"),
    (b"01", "Extra data"),
    (b"+1", "Expecting value"),
    (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), DEEP),
    (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), DEEP),
    (b"[" * 60_000, DEEP),
    (b"\xef\xbb\xbf{}", "byte order mark"),
    ("\ufeff{}".encode("utf-16-le"), "invalid UTF-8"),
    (b"{} {}", "Extra data"),
    (b"{}x", "Extra data"),
    (b"{}\x00", "Extra data"),
    (b'"\\ud800"', "lone surrogate"),
    (b'"\\udc00\\ud800"', "lone surrogate"),
    (b'{"\\udfff":1}', "lone surrogate"),
    (b'{"a":["\\ud800"]}', "lone surrogate"),
    (b'[[["\\ud800"]]]', "lone surrogate"),
    (b'"\xed\xa0\x80"', "invalid UTF-8 at byte 1"),
    (b'"\xc0\xaf"', "invalid UTF-8"),
    (b'"\xff"', "invalid UTF-8"),
    (b'"a\nb"', "Invalid control character"),
    (b"'a'", "Expecting value"),
    (b"[1,]", "at line 1"),
    (b'{"a":1,}', "at line 1"),
    (b"/* c */ 1", "Expecting value"),
    (b'"open', "Unterminated string"),
    (b'"' + b"a" * MAX_BYTES, f"more than {MAX_BYTES} bytes"),
]


@pytest.mark.parametrize(("data", "words"), REFUSED, ids=[repr(data[:24]) for data, _ in REFUSED])
def test_the_loader_refuses(data, words):
    with pytest.raises(MalformedJson) as caught:
        parse_json(data)
    assert words in str(caught.value)


def test_what_stands_just_inside_the_bounds_loads():
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert parse_json(b'"' + b"[" * 100 + b'"') == "[" * 100
    assert parse_json(b'"\\"' + b"{" * 100 + b'"') == '"' + "{" * 100
    assert parse_json(b'"' + b"a" * (MAX_BYTES - 2) + b'"') == "a" * (MAX_BYTES - 2)
    assert parse_json(b"[9007199254740991,-9007199254740991,0]") == [MAX_INTEGER, -MAX_INTEGER, 0]
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"
    assert parse_json(b" \t\r\n{ } \n") == {}


@pytest.mark.parametrize("data", [b"[]", b"null", b'"{}"', b"1"])
def test_a_document_that_is_no_object(data):
    with pytest.raises(MalformedJson, match="not an object"):
        parse_object(data)


def loads(data: bytes):
    """The standard library's answer, or None."""
    try:
        return (json.loads(data.decode("utf-8")),)
    except (ValueError, RecursionError):
        return None


JSONISH = st.lists(
    st.sampled_from(
        [*'{}[],:" \\\n', '"a"', '"\\u0061"', '"\\ud800"', "1", "-0", "0", "1.0", "1e3", "NaN", "true", "null", "\ufeff"]
    ),
    max_size=12,
).map(lambda parts: "".join(parts).encode())  # fmt: skip


@given(st.one_of(JSONISH, VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=30)))
@settings(deadline=None, max_examples=300)
def test_the_loader_accepts_nothing_that_json_loads_rejects_and_reads_it_alike(data):
    try:
        value = parse_json(data)
    except MalformedJson:
        return
    assert loads(data) == (value,)
    # and nothing that two readers could read in two ways: no float, no lone surrogate
    encode_canonical(value)


@given(VALUES, st.sampled_from([None, 1, "\t"]), st.booleans())
@settings(deadline=None)
def test_any_spelling_of_a_value_of_ours_loads(value, indent, ascii_only):
    assert parse_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()) == value


# --- labels

LABELS = st.frozensets(st.sampled_from(["embargo:a", "embargo:b", "project:a", "project:b"])).map(parse_label)


@given(st.lists(LABELS, max_size=4), LABELS)
def test_a_join_is_the_union_and_who_may_read_it_may_read_every_part(labels, clearances):
    joined = join(labels)
    assert joined == frozenset(name for label in labels for name in label)
    viewer = Viewer("v", clearances)
    assert viewer.may_read(joined) == all(viewer.may_read(label) for label in labels)
    assert join([joined, joined]) == joined == join(reversed(labels))


@given(LABELS, LABELS, LABELS)
def test_reading_is_being_a_subset_and_grows_with_clearance_alone(label, clearances, more):
    assert Viewer("v", clearances).may_read(label) == (not label - clearances)
    assert Viewer("v", clearances).may_read(PUBLIC)
    if Viewer("v", clearances).may_read(label):
        assert Viewer("v", join([clearances, more])).may_read(label)
    if not Viewer("v", clearances).may_read(label):
        assert not Viewer("v", clearances).may_read(join([label, more]))
    assert Viewer("").may_read(label) == (label == PUBLIC)


@pytest.mark.parametrize(
    "name", ["", "embargo:", "embargo", "project:A", "other:a", "embargo:a\n", "embargo:-a", "embargo:" + "a" * 64, "embargo:a b", "Embargo:a"]
)
def test_a_compartment_of_an_unknown_form_is_an_error_and_never_public(name):
    with pytest.raises(MalformedLabel):
        parse_label(["embargo:fine", name])


# --- moments


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_is_written_the_one_way_it_is_read(when):
    at = moment(when)
    text = render_moment(at)
    assert parse_moment(text) == at
    assert len(text) == 20


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21t10:04:05z",
        "2026-11-21T10:04:05+00:00",
        "2026-11-21T10:04:05.0Z",
        "2026-11-21 10:04:05Z",
        "2026-11-21T10:04:05Z\n",
        "2026-13-21T10:04:05Z",
        "2026-02-30T10:04:05Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T10:04:61Z",
        "0000-01-01T00:00:00Z",
        "２０２６-11-21T10:04:05Z",
        "2026-11-21T10:04:0٥Z",
        None,
        5,
    ],
)
def test_any_other_spelling_of_a_moment_is_refused(text):
    with pytest.raises(MalformedMoment):
        parse_moment(text)


def test_a_time_without_a_zone_is_no_moment():
    with pytest.raises(MalformedMoment, match="without a zone"):
        moment(datetime(2026, 11, 21))  # noqa: DTZ001 -- the case


# --- moves of a ping


@given(st.sampled_from(State), st.sampled_from(State))
def test_nothing_moves_out_of_an_end_and_every_other_state_may_stay(old, new):
    if old.ended:
        assert not may_move(old, new)
    if old is new:
        assert may_move(old, new) == (not old.ended)


def test_every_state_is_one_of_three_and_has_a_step_code():
    assert set(State) == ENDED | HOLDING | WAITING
    assert len(State) == len(ENDED) + len(HOLDING) + len(WAITING)
    assert set(STEP_CODES) == set(State)
    assert {state for state, code in STEP_CODES.items() if code in (999, 1000)} == ENDED
    assert {state for state, code in STEP_CODES.items() if code == 1000} == {State.DEPLOYED, State.SHADOW_ALLOWED}
    assert not [state for state in State if State.SHADOW_ALLOWED in MOVES.get(state, ()) and state.holds_lock]
    assert set(MOVES) == set(State) - ENDED


def reach(start):
    seen, todo = {start}, [start]
    while todo:
        for new in MOVES.get(todo.pop(), frozenset()) - seen:
            seen.add(new)
            todo.append(new)
    return seen


def test_every_state_can_be_reached_and_every_ping_can_end():
    assert reach(State.RECEIVED) == set(State)
    for state in State:
        assert reach(state) & ENDED


def test_nothing_is_applied_but_by_way_of_an_allow_and_a_lease():
    for old, moves in MOVES.items():
        assert (State.ALLOWED in moves) == (old in WAITING)
        assert State.LEASED not in moves or old is State.ALLOWED
        assert State.APPLYING not in moves or old is State.LEASED
        assert State.OBSERVING not in moves or old is State.APPLYING
        assert State.DEPLOYED not in moves or old in {State.APPLYING, State.OBSERVING}
    assert State.DENIED not in MOVES[State.ALLOWED]
    assert State.CANCELLED not in MOVES[State.LEASED] | MOVES[State.APPLYING] | MOVES[State.OBSERVING]
