"""The short ways of reading an entry say what the exact ways say: they may only ever be quicker."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatekeeper.model import strictjson
from gatekeeper.model.canonical import NotCanonical, encode_canonical
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import MalformedMoment, parse_moment
from gatekeeper.model.strictjson import MalformedJson, parse_canonical_object, parse_object
from gatekeeper.tlog import members
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import MalformedEntry
from gatekeeper.tlog.signature import is_key_name

GOLDEN = sorted((Path(__file__).parents[1] / "assets" / "log").glob("*.json"))
DEPTH = 6
# Words that JSON, JCS and our narrowing of them quarrel about.
ODD = st.sampled_from(
    ["-0", "1.0", "1e2", "01", "NaN", "Infinity", "9007199254740991", "9007199254740992", "-9007199254740992", '"\\u0041"', '"\\ud800"', '"\x7f"',
     '"\\/"', '"é"', '"\U0001f600"', '"\ue000"', '"\\n"', '"\t"', "[[[[[[[]]]]]]]", "{}", "[]", '"["', '"\\""', "null", "true", " 1", '""']
)  # fmt: skip
TEXT = st.recursive(
    ODD | st.integers().map(str) | st.text(alphabet='abA"\\é\ue000\U0001f600 ', max_size=3).map(lambda text: json.dumps(text, ensure_ascii=False)),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]")
        | st.lists(st.tuples(st.sampled_from(['"a"', '"b"', '"A"', '"\ue000"', '"\U0001f600"', '"a "']), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=8,
)


def exactly(data):
    """What `parse_canonical_object` says it says, without its short way."""
    value = parse_object(data, max_depth=DEPTH)
    if encode_canonical(value) != data:
        raise NotCanonical("not in its one spelling (RFC 8785)")
    return value


def answer(read, *given):
    try:
        return read(*given)
    except (MalformedJson, NotCanonical, MalformedEntry, FieldError, MalformedMoment) as error:
        return type(error), str(error)


@given(TEXT.map(lambda text: '{"k":' + text + "}") | TEXT)
@example('{"a":1,"a":1}')
@example('{"b":1,"a":1}')
@example('{"a": 1}')
@example('{"a":1} ')
@example('{"a":[[[[[]]]]]}')
@example('{"a":[[[[[[]]]]]]}')
@example('{"a":[[[[[[]]]]]}')
@example('{"\U0001f600":1,"\ue000":1}')
@example('{"\ue000":1,"\U0001f600":1}')
def test_a_canonical_object_is_read_as_by_the_exact_way(text):
    data = text.encode("utf-8", "surrogatepass")
    assert answer(lambda: parse_canonical_object(data, max_depth=DEPTH)) == answer(exactly, data)


@given(st.sampled_from(GOLDEN).map(Path.read_bytes), st.data())
def test_an_entry_with_a_changed_byte_is_answered_as_by_the_exact_ways(entry, data):
    at = data.draw(st.integers(0, len(entry)))
    with_what = data.draw(st.sampled_from([b"", b" ", b'"', b"\\", b"[", b"]", b",", b"0", b"f", b"g", b"\n", b"\xc3\xa9", b"\x00"]))
    changed = entry[:at] + with_what + entry[at + data.draw(st.integers(0, 2)) :]
    quick = answer(parse_entry, changed)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(strictjson, "_plain", lambda *_: None)
        patched.setattr(members, "_plain", lambda *_: None)
        assert quick == answer(parse_entry, changed)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_golden_entries_take_the_short_way(path):
    assert strictjson._plain(path.read_bytes(), DEPTH) == json.loads(path.read_bytes())


def test_a_list_of_plain_items_takes_the_short_way():
    for form, items in ((members._TEXTS, ["b", "a"]), (members._DIGESTS, ["sha256:" + "0" * 64]), (members._PEOPLE, ["p:" + "0" * 32])):
        assert members._plain(form, items) == tuple(items)


ITEM = st.sampled_from(["sha256:" + "0" * 64, "sha256:" + "f" * 64, "sha256:" + "0" * 63, "p:" + "0" * 32, "p:" + "1" * 32, "x", "", "a\nb", "é", 1, None, [],
                        "a" * 256, "a" * 257, "\u202e", "é" * 128, "é" * 129, "sha256:" + "0" * 64 + "\nsha256:" + "f" * 64])  # fmt: skip


@given(st.sampled_from([members.read_digests, members.read_people, members.read_texts, members.read_pair]), st.lists(ITEM, max_size=4))
def test_a_list_is_read_as_item_by_item(read, items):
    quick = answer(read, Fields({"k": items}), "k")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(members, "_plain", lambda *_: None)
        assert quick == answer(read, Fields({"k": items}), "k")


@given(st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", fullmatch=True))
@example("0000-01-01T00:00:00Z")
@example("2024-02-29T23:59:59Z")
@example("2026-02-29T00:00:00Z")
@example("2026-11-21T24:00:00Z")
@example("2026-11-21T23:59:60Z")
@example("2026-11-21T23:59:61Z")
def test_a_moment_is_what_the_calendar_of_the_library_says(text):
    try:
        expected = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        expected = (MalformedMoment, "is not a date and time of the calendar")
    assert answer(parse_moment, text) == expected


@given(st.text(max_size=4) | st.text(alphabet="a+ \x1c\x1f\x85\u2028\x00\n", max_size=4) | st.sampled_from(["a" * 200, "a" * 201, "\ud800"]))
def test_a_key_name_is_what_its_characters_say(name):
    plain = re.search("[\ud800-\udfff]", name) is None and 0 < len(name.encode()) <= 200
    assert is_key_name(name) == (plain and not any(c.isspace() or c == "+" or ord(c) < 0x20 for c in name))
