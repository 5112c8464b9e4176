"""One good JSON object, spoilt in every way that two readers could read in two ways (attack matrix 18-22)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Spoilt:
    """Bytes, and what the loader or the reader of members says of them."""

    name: str
    data: bytes
    words: str


def spoil(good: bytes, *, integer: str | None = None, depth: int = 100_000) -> Iterator[Spoilt]:
    """`integer` names a member, anywhere, that holds one. The good bytes may be spelled in any way."""
    yield from _spoil_text(good, depth)
    if integer is not None:
        member = re.compile(rb'("%b": ?)(\d+)' % integer.encode())
        assert member.search(good), integer
        for name, spelling, words in (
            ("a float for an integer", rb"\g<1>\g<2>.0", "fraction or an exponent"),
            ("an exponent for an integer", rb"\g<1>\g<2>e0", "fraction or an exponent"),
            ("a string for an integer", rb'\g<1>"\g<2>"', "must be an integer"),
            ("true for an integer", rb"\g<1>true", "must be an integer"),
            ("minus zero", rb"\g<1>-0", "minus zero"),
        ):
            yield Spoilt(name, member.sub(spelling, good, count=1), words)


def _spoil_text(good: bytes, depth: int) -> Iterator[Spoilt]:
    first = next(iter(json.loads(good)))
    evil = json.dumps({first: "evil"}).encode()[1:-1]
    escaped = b'"' + "".join(f"\\u{ord(c):04x}" for c in first).encode() + b'":"evil"'
    yield Spoilt("a duplicate key, first", b"{" + evil + b"," + good[1:], "stands twice")
    yield Spoilt("a duplicate key, last", good[:-1] + b"," + evil + b"}", "stands twice")
    yield Spoilt("a duplicate key, escaped", good[:-1] + b"," + escaped + b"}", "stands twice")
    for name, value, words in (
        ("NaN", b"NaN", "is not JSON"),
        ("Infinity", b"Infinity", "is not JSON"),
        ("minus Infinity", b"-Infinity", "is not JSON"),
        ("1e400", b"1e400", "fraction or an exponent"),
        ("2^53", b"9007199254740992", "beyond 2"),
        ("10^5000", b"1" + b"0" * 5000, "beyond 2|more than"),
        ("nested arrays", b"[" * depth + b"]" * depth, "nested deeper|more than|at most"),
        ("nested objects", b'{"a":' * depth + b"1" + b"}" * depth, "nested deeper|more than|at most"),
        ("a lone surrogate", b'"\\ud800"', "lone surrogate"),
        ("two surrogates the wrong way round", b'"\\udc00\\ud800"', "lone surrogate"),
        ("invalid UTF-8", b'"\xff"', "invalid UTF-8"),
        ("a surrogate in UTF-8", b'"\xed\xa0\x80"', "invalid UTF-8"),
        ("a NUL in a string", b'"\x00"', "Invalid control character"),
        ("a comment", b"1/**/", "delimiter"),
    ):
        yield Spoilt(name, good[:-1] + b',"zz":' + value + b"}", words)
    yield Spoilt("a byte order mark", b"\xef\xbb\xbf" + good, "byte order mark")
    yield Spoilt("UTF-16", good.decode().encode("utf-16"), "invalid UTF-8")
    yield Spoilt("trailing bytes", good + b"x", "Extra data")
    yield Spoilt("a trailing NUL", good + b"\x00", "Extra data")
    yield Spoilt("two documents, one a line", good + b"\n" + good, "Extra data")
    yield Spoilt("another type", b"[" + good + b"]", "not an object|must be an object")
    yield Spoilt("cut", good[:-1], "delimiter|Expecting")
    yield Spoilt("nothing", b"", "Expecting value")
