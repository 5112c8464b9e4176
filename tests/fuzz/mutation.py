"""Bytes that are almost good: seeds changed where readers differ, by strategies that know JSON, base64 inside JSON, tokens, and lines.

Every choice is drawn from Hypothesis, so that what breaks a target is shrunk and replayed. Nothing here knows what a target accepts.
"""

from __future__ import annotations

import base64
import binascii
import json

from hypothesis import strategies as st

MAX_EDITS = 3

SPELLINGS = [
    *("null", "true", "false", "0", "-0", "1", "-1", "1.0", "1e3", "1E400", "9007199254740991", "9007199254740992", "1" + "0" * 400, "01", "+1"),
    *("NaN", "-Infinity", "undefined", "'x'", "", "[]", "{}", "[[]]", '{"a":{}}', '[{"a":1},{"a":2}]', '{"a":1,"a":2}', "[" * 40 + "]" * 40),
    *('""', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\u202e"', '"\x00"', '"\\q"', '"é"', '"e\\u0301"', '"\u2028"', '"a\\nb"'),
    *('"' + "A" * 300 + '"', '"AA=="', '"AB=="', '"AA="', '"A-_="', '"sha256:' + "a" * 64 + '"', '"' + "a" * 64 + '"', '"' + "A" * 40 + '"'),
    *('"https://in-toto.io/Statement/v1"', '"2026-11-21T10:00:00Z"', '"9999-12-31T23:59:60Z"', '"0000-00-00T00:00:00Z"', '"../../etc/passwd"'),
]
"""How a value may be written: right, nearly right, or right only for some reader."""

NAMES = ["", "a", "__proto__", "digest", "sha256", "payload", "signatures", "kid", "alg", "aud", "exp", "iss", "\ud83d\ude00", "\x7f", "predicate"]
CHUNKS = [
    *(b"\n", b"\n\n", b"\r\n", b" ", b"\t", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", "—".encode(), "— a AA==\n".encode()),
    *(b"0", b"-1", b"18446744073709551616", b"9223372036854775807", b"{", b"}", b"[", b'"', b"\\", b",", b":", b"=", b"==", b".", b"+", b"A" * 64),
    *(b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x02\x01\x00", b"\x00" * 32, b"\xff" * 32),
]


class _Pairs(list):
    """An object as its members stand: `[name, value]` each, so that one may stand twice."""


class _Raw(str):
    """Text that is written as it is."""


@st.composite
def changed_json(draw, seeds: list[bytes]):
    """A document with up to `MAX_EDITS` changes of its tree, spelled in one of several ways, now and then with a byte changed."""
    tree = json.loads(draw(st.sampled_from(seeds)), object_pairs_hook=lambda pairs: _Pairs([list(pair) for pair in pairs]))
    top = [tree]
    for _ in range(draw(st.integers(0, MAX_EDITS))):
        _edit(draw, top)
    text = _write(top[0], draw(st.sampled_from(["", "", "", " ", "\n\t"])), ascii_only=draw(st.booleans()))
    data = text.encode("utf-8", "surrogatepass")
    return draw(_changed(data, [data])) if draw(st.integers(0, 4)) == 0 else data


@st.composite
def changed_bytes(draw, seeds: list[bytes]):
    """Bytes with up to `MAX_EDITS` changes: single ones, runs, lines, and pieces of another seed."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, MAX_EDITS))):
        data = draw(_changed(data, seeds))
    return data


@st.composite
def changed_token(draw, seeds: list[bytes]):
    """A compact JWS: its header or claims changed as JSON, or its text as bytes. The signature stays what it was."""
    token = draw(st.sampled_from(seeds))
    if draw(st.integers(0, 2)) == 0:
        return draw(changed_bytes([token]))
    parts = token.split(b".")
    place = draw(st.integers(0, 1))
    padded = parts[place] + b"=" * (-len(parts[place]) % 4)
    parts[place] = base64.urlsafe_b64encode(draw(changed_json([base64.urlsafe_b64decode(padded)]))).rstrip(b"=")
    return b".".join(parts)


@st.composite
def _changed(draw, data: bytes, seeds: list[bytes]):
    start = draw(st.integers(0, len(data)))
    end = min(len(data), start + draw(st.sampled_from([0, 1, 1, 2, 4, 16, 64])))
    match draw(st.sampled_from(["byte", "bit", "cut", "insert", "repeat", "end", "line", "other"])):
        case "byte":
            return data[:start] + bytes([draw(st.integers(0, 255))]) + data[start + 1 :]
        case "bit" if start < len(data):
            return data[:start] + bytes([data[start] ^ 1 << draw(st.integers(0, 7))]) + data[start + 1 :]
        case "cut":
            return data[:start] + data[end:]
        case "repeat":
            return data[:end] + data[start:end] * draw(st.sampled_from([1, 2, 300])) + data[end:]
        case "end":
            return data[:start]
        case "line":
            lines = data.split(b"\n")
            one, two = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
            lines[one], lines[two] = lines[two], lines[one]
            return b"\n".join(lines)
        case "other":
            return data[:start] + draw(st.sampled_from(seeds))[start:]
    return data[:start] + draw(st.sampled_from(CHUNKS)) + data[start:]


def _edit(draw, top: list) -> None:
    places = list(_places(top))
    holder, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(["spell", "spell", "inside", "copy", "delete", "twice", "name", "add"])):
        case "copy":
            other, place = draw(st.sampled_from(places))
            holder[key] = json_copy(other[place])
        case "inside" if isinstance(holder[key], str) and not isinstance(holder[key], _Raw):
            holder[key] = _inside(draw, holder[key])
        case "delete" if holder is not top:
            _item(top, holder, key, lambda items, place: items.pop(place))
        case "twice" if holder is not top:
            _item(top, holder, key, lambda items, place: items.insert(place, json_copy(items[place])))
        case "name":
            holder[key] = _Pairs([[draw(st.sampled_from(NAMES)), holder[key]]])
        case "add" if isinstance(holder[key], _Pairs):
            holder[key].append([draw(st.sampled_from(NAMES)), _Raw(draw(st.sampled_from(SPELLINGS)))])
        case _:
            holder[key] = _Raw(draw(st.sampled_from(SPELLINGS)))


def _inside(draw, text: str) -> str:
    """Where the text is base64, what it holds changed; else its own characters."""
    try:
        inner = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        inner = b""
    if len(inner) < 8:
        return draw(changed_bytes([text.encode("utf-8", "surrogatepass")])).decode("latin-1")
    try:
        json.loads(inner)
    except ValueError:
        return base64.b64encode(draw(changed_bytes([inner]))).decode()
    return base64.b64encode(draw(changed_json([inner]))).decode()


def _places(value: list):
    """Every value of the tree as (the list that holds it, its place)."""
    for place, item in enumerate(value):
        if isinstance(value, _Pairs):
            yield item, 1
            item = item[1]
        else:
            yield value, place
        if isinstance(item, list):
            yield from _places(item)


def _item(value: list, holder: list, key: int, act) -> bool:
    """Find whose item the place is, and change the list of items."""
    for place, item in enumerate(value):
        if (item is holder) if isinstance(value, _Pairs) else (value is holder and place == key):
            act(value, place)
            return True
        inner = item[1] if isinstance(value, _Pairs) else item
        if isinstance(inner, list) and _item(inner, holder, key, act):
            return True
    return False


def json_copy(value):
    """A deep copy that keeps what is an object and what an array."""
    if isinstance(value, _Pairs):
        return _Pairs([json_copy(item) for item in value])
    return [json_copy(item) for item in value] if isinstance(value, list) else value


def _write(value, space: str, *, ascii_only: bool) -> str:
    if isinstance(value, _Raw):
        return str(value)
    if isinstance(value, _Pairs):
        members = (f"{json.dumps(name, ensure_ascii=ascii_only)}{space}:{_write(item, space, ascii_only=ascii_only)}" for name, item in value)
        return "{" + space + f",{space}".join(members) + "}"
    if isinstance(value, list):
        return "[" + f",{space}".join(_write(item, space, ascii_only=ascii_only) for item in value) + space + "]"
    return json.dumps(value, ensure_ascii=ascii_only)
