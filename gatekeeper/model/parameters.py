"""External parameters as a closed set of leaves, so that what a build was given and what the policy allows are compared leaf by leaf.

A leaf is named by its JSON pointer (RFC 6901) without the first slash and holds its value as canonical JSON: the number 1 and the string "1"
are two values, and a member whose name has a slash is not a nested one. Lists are leaves. An empty object and null hold nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from .canonical import encode_canonical

Parameters: TypeAlias = tuple[tuple[str, str], ...]
"""Sorted pairs of leaf and canonical JSON."""

MAX_PARAMETERS = 200


class TooManyParameters(ValueError):
    """More leaves than `MAX_PARAMETERS`."""


def flatten_parameters(members: Mapping[str, object], *, without: frozenset[str] = frozenset()) -> Parameters:
    """The leaves of an object, but for those named by `without`. Raises `TooManyParameters`, and `NotCanonical` for what is no JSON of ours."""
    found = [pair for pair in _leaves(members, "") if pair[0] not in without]
    if len(found) > MAX_PARAMETERS:
        raise TooManyParameters(f"more than {MAX_PARAMETERS} parameters")
    return tuple(sorted(found))


def _leaves(members: Mapping[str, object], above: str) -> Iterator[tuple[str, str]]:
    for name, value in members.items():
        pointer = above + name.replace("~", "~0").replace("/", "~1")
        if isinstance(value, Mapping):
            yield from _leaves(value, pointer + "/")
        elif value is not None:
            yield pointer, encode_canonical(value).decode()  # type: ignore[arg-type]  # refuses what is no JSON
