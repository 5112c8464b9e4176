"""RFC 8785 (JCS) bytes of plain JSON values.

Our documents hold objects, arrays, strings, booleans, null and integers only, so the hard part of RFC 8785 (ECMAScript's
number formatting) never arises: floats are refused, as are integers beyond 2^53-1 and lone surrogates (section 3.2.2).
What remains is key order by UTF-16 code units and Python's own minimal string escapes, which are those of section 3.2.2.2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "bool | int | str | Sequence[Json] | Mapping[str, Json] | None"

MAX_INTEGER = 2**53 - 1


class NotCanonical(ValueError):
    """The value cannot be written as RFC 8785 JSON by us: a float, a huge integer, a lone surrogate, or no JSON at all."""


def encode_canonical(value: Json) -> bytes:
    """Encode; raise `NotCanonical` where RFC 8785, or our narrowing of it, does not allow the value."""
    try:
        return json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise NotCanonical("a string holds a lone surrogate") from error


def _ordered(value: object) -> object:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise NotCanonical("an integer is beyond 2^53-1")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise NotCanonical("an object has a key that is not a string")
        # surrogatepass: the sort must not raise, the final encode() refuses the surrogate with its own words
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return {key: _ordered(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    raise NotCanonical(f"a {type(value).__name__} is not JSON of ours")
