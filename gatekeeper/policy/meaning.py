"""One digest over what a part of the policy says, whatever it is made of: what was concluded from it holds as long as the digest does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest, digest_of


def meaning_of(*values: object) -> Digest:
    """The digest of dataclasses, mappings, sequences, sets and plain values, every member of theirs included. TypeError for anything else."""
    return digest_of(encode_canonical([_plain(value) for value in values]))


def _plain(value: object) -> Json:
    # Each kind is named, so that no two different values are written alike.
    if isinstance(value, Enum):  # first, since a member may be a text or a number as well
        return ["enum", type(value).__name__, value.name]
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, bytes):
        return ["bytes", digest_of(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return ["object", type(value).__name__, {field.name: _plain(getattr(value, field.name)) for field in fields(value)}]
    if isinstance(value, Mapping):
        return ["mapping", _sorted([[_plain(key), _plain(item)] for key, item in value.items()])]
    if isinstance(value, frozenset | set):
        return ["set", _sorted([_plain(item) for item in value])]
    if isinstance(value, tuple | list):
        return ["list", [_plain(item) for item in value]]
    raise TypeError(f"a {type(value).__name__} has no meaning here")


def _sorted(items: list[Json]) -> list[Json]:
    return sorted(items, key=encode_canonical)
