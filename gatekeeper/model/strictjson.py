"""The one loader for JSON that was signed or comes from outside.

`json.loads` takes the last of two duplicate keys, accepts NaN and raises RecursionError on deep nesting; each of these has been
an exploit elsewhere. Refused here, all with `MalformedJson`: more bytes than the caller allows, invalid UTF-8, a byte order mark,
duplicate keys, NaN and Infinity, floats, integers beyond 2^53-1, lone surrogates, nesting deeper than the bound, trailing data.

A whole log is read in one go, so canonical text has a short way (`_plain`). It only ever says yes: whatever it does not take goes through
the exact way, whose answer counts.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, TypeAlias

from .canonical import MAX_INTEGER, NotCanonical, encode_canonical

JsonValue: TypeAlias = "bool | int | str | list[JsonValue] | dict[str, JsonValue] | None"

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32

_BEYOND_SURROGATES = re.compile(rb"[\xee-\xff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS_ALONE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_BRACKET_OR_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


class MalformedJson(ValueError):
    """Not strict JSON; the message says what is wrong in words for the sender."""


def parse_json(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> JsonValue:
    """Parse; raise `MalformedJson` for anything that two parsers could read in two ways."""
    return _parse(data, max_bytes, max_depth, _DECODER)


def _parse(data: bytes, max_bytes: int, max_depth: int, decoder: json.JSONDecoder) -> JsonValue:
    if len(data) > max_bytes:
        raise MalformedJson(f"more than {max_bytes} bytes")
    if data.startswith(b"\xef\xbb\xbf"):
        raise MalformedJson("a byte order mark stands at the beginning")
    _bound_depth(data, max_depth)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedJson(f"invalid UTF-8 at byte {error.start}") from error
    try:
        # Strict UTF-8 holds no surrogate: one can only come in as an escape.
        value: JsonValue = (_WITHOUT_ESCAPES if decoder is _DECODER and "\\u" not in text else decoder).decode(text)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"{error.msg} at line {error.lineno} column {error.colno}") from error
    return value


def parse_object(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> dict[str, JsonValue]:
    """As `parse_json`, for documents whose top level is an object."""
    return _object(parse_json(data, max_bytes=max_bytes, max_depth=max_depth))


def _object(value: JsonValue) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise MalformedJson("the document is not an object")
    return value


def parse_foreign_object(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> dict[str, JsonValue]:
    """As `parse_object`, for the unsigned answer of a product that writes fractions where we never would; each is given as its text."""
    return _object(_parse(data, max_bytes, max_depth, _FOREIGN_DECODER))


def parse_canonical_object(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> dict[str, JsonValue]:
    """As `parse_object`, for a document that must stand in its one spelling (RFC 8785); raises `NotCanonical` for every other."""
    if len(data) <= max_bytes and (members := _plain(data, max_depth)) is not None:
        return members
    value = parse_object(data, max_bytes=max_bytes, max_depth=max_depth)
    if encode_canonical(value) != data:
        raise NotCanonical("not in its one spelling (RFC 8785)")
    return value


def _plain(data: bytes, max_depth: int) -> dict[str, JsonValue] | None:
    """The object, where the bytes are what the standard library writes for the value that it reads from them.

    That leaves nothing of what the exact way refuses: a second key of the same name, a space, an odd spelling of a number or character
    would not be written again; a lone surrogate has no UTF-8 and its escape would not be written again; and where no character is beyond
    the surrogates, key order by code point is that by UTF-16 unit.
    """
    if not data.isascii() and _BEYOND_SURROGATES.search(data) is not None:
        return None
    # Without escapes, every second part between quotation marks stands outside strings.
    outside = _STRING.sub(b"", data) if b"\\" in data else b"".join(data.split(b'"')[::2])
    if not _is_shallow(outside, max_depth):
        return None
    try:
        text = data.decode("utf-8")
        value = _PLAIN_DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _PLAIN_ENCODER.encode(value) == text else None


def _is_shallow(outside: bytes, limit: int) -> bool:
    brackets = outside.translate(_BRACKETS_ALONE, _NO_BRACKET)
    for _ in range(limit):
        # Each turn takes away the innermost pairs; what is left of unpaired ones is for the exact way.
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return True
    return False


def _bound_depth(data: bytes, limit: int) -> None:
    # Before json's recursive decoder sees the text; brackets inside strings do not count.
    if data.count(b"[") + data.count(b"{") <= limit:
        return
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(data):
        match token.group()[:1]:
            case b"[" | b"{":
                depth += 1
                if depth > limit:
                    raise MalformedJson(f"nested deeper than {limit}")
            case b"]" | b"}":
                depth -= 1


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise MalformedJson(f"key {key[:64]!r} stands twice in one object")
            seen.add(key)
    return members


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = _distinct(pairs)
    for key, value in pairs:
        _no_surrogate(key)
        _check_strings(value)
    return members


def _check_strings(value: object) -> None:
    # Objects were checked when they were made; only strings and arrays directly below are left.
    if isinstance(value, str):
        _no_surrogate(value)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)


def _no_surrogate(text: str) -> None:
    if not text.isascii() and _SURROGATE.search(text) is not None:
        raise MalformedJson("a string holds a lone surrogate")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(number := int(text)) > MAX_INTEGER:
        raise MalformedJson("an integer is beyond 2^53-1")
    if text.startswith("-0"):
        raise MalformedJson("minus zero is not an integer of ours")
    return number


def _no_float(_text: str) -> NoReturn:
    raise MalformedJson("a number has a fraction or an exponent")


def _no_constant(text: str) -> NoReturn:
    raise MalformedJson(f"{text} is not JSON")


class _Decoder(json.JSONDecoder):
    def decode(self, s: str, *args: Any) -> Any:
        value = super().decode(s, *args)
        _check_strings(value)
        return value


_PLAIN_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_no_float, parse_constant=_no_constant)
_PLAIN_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
_WITHOUT_ESCAPES = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=_integer, parse_float=_no_float, parse_constant=_no_constant)
_DECODER = _Decoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_no_float, parse_constant=_no_constant)
_FOREIGN_DECODER = _Decoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=str, parse_constant=_no_constant)
