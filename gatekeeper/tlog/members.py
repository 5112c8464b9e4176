"""Reading and writing the members of entries: the types X, T, D, P, H, R and S of our log format, and lists that were cut to a digest.

Every reader raises `FieldError`, every list of people or digests stands strictly ascending, so each value has one spelling.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest, MalformedDigest, digest_of, parse_digest
from gatekeeper.model.fields import FieldError, Fields

from .errors import MalformedEntry
from .person import HiddenText, Pseudonym, parse_hidden_text, parse_pseudonym
from .signature import is_key_name
from .spelling import parse_hash

T = TypeVar("T")
S = TypeVar("S", bound=str)

MAX_TEXT: Final = 256
MAX_ITEMS: Final = 1000
SEALED_SLOTS: Final = 4
MAX_SEALED_HEAD: Final = 512
"""Bytes of the body B that a slot commits to."""
MAX_PRIVATE: Final = 3_500
"""Bytes of the private body M, which is an entry of its kind."""
# Lists, one item a line. Texts: those alone of which no character needs a look.
_TEXTS = re.compile(r"[ -~]{1,256}(?:\n[ -~]{1,256})*")
_DIGESTS = re.compile(r"sha256:[0-9a-f]{64}(?:\nsha256:[0-9a-f]{64})*", re.ASCII)
_PEOPLE = re.compile(r"p:[0-9a-f]{32}(?:\np:[0-9a-f]{32})*", re.ASCII)
_HEX_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True)
class Abridged:
    """A list too long for its entry: how many items, and the sha256 of the list's RFC 8785 bytes, which are kept with the receipt."""

    n: int
    sha256: Digest


@dataclass(frozen=True)
class Reference:
    """Another entry. `slot` is None for a public one."""

    origin: str
    index: int
    slot: int | None = None


Texts: TypeAlias = tuple[str, ...] | Abridged
Digests: TypeAlias = tuple[Digest, ...] | Abridged
People: TypeAlias = tuple[Pseudonym, ...] | Abridged
Members: TypeAlias = dict[str, Json]


def abridge(items: Sequence[Json]) -> Members:
    """What stands in an entry instead of a list that is too long for it."""
    return {"n": len(items), "sha256": digest_of(encode_canonical(items))}


def write(value: object) -> Json:
    """A member's value as JSON."""
    match value:
        case None | bool() | int() | str():
            return value
        case Abridged():
            return {"n": value.n, "sha256": value.sha256}
        case Reference():
            return {"origin": value.origin, "index": value.index, "slot": value.slot}
        case tuple():
            return [write(item) for item in value]
        case _:
            raise MalformedEntry(f"a {type(value).__name__} is no member of an entry")


def write_members(value: object, *names: str) -> Members:
    """The members of these names, each the attribute of its name."""
    return {name: write(getattr(value, name)) for name in names}


def read_id(fields: Fields, key: str) -> str:
    """X: 32 hex digits."""
    value = fields.raw(key)
    if not isinstance(value, str) or _HEX_ID.fullmatch(value) is None:
        raise fields.error(key, "must be 32 lowercase hexadecimal digits")
    return value


def read_text(fields: Fields, key: str, *, max_bytes: int = MAX_TEXT) -> str:
    """S: 1 to 256 bytes without control characters."""
    value = fields.text(key, max_length=max_bytes)
    if len(value.encode("utf-8")) > max_bytes:
        raise fields.error(key, f"must have at most {max_bytes} bytes")
    return value


def read_person(fields: Fields, key: str) -> Pseudonym:
    """P: a pseudonym."""
    return _translated(fields, key, parse_pseudonym)


def read_hidden(fields: Fields, key: str) -> HiddenText:
    """H: a hidden text."""
    return _translated(fields, key, parse_hidden_text)


def read_reference(fields: Fields, key: str) -> Reference:
    """R: origin, index, slot."""
    inner = fields.nested(key)
    inner.raw("slot")
    reference = Reference(
        read_text(inner, "origin"),
        inner.integer("index"),
        inner.optional("slot", lambda slot: inner.integer(slot, maximum=SEALED_SLOTS - 1)),
    )
    inner.done()
    return reference


def read_origin(fields: Fields, key: str) -> str:
    """O: a log's origin."""
    value = fields.raw(key)
    if not isinstance(value, str) or not is_key_name(value):
        raise fields.error(key, "must have 1 to 200 bytes, no space and no '+'")
    return value


def read_hash(fields: Fields, key: str) -> bytes:
    """The base64 of 32 bytes."""
    value = fields.raw(key)
    data = parse_hash(value.encode("ascii")) if isinstance(value, str) and value.isascii() else None
    if data is None:
        raise fields.error(key, "must be the base64 of 32 bytes")
    return data


def read_root(fields: Fields, key: str) -> str:
    """The base64 of a root hash."""
    return b64encode(read_hash(fields, key)).decode("ascii")


def read_nullable(fields: Fields, key: str, read: Callable[[Fields, str], T]) -> T | None:
    """The member, which must be there, or None where it is null."""
    return None if fields.raw(key) is None else read(fields, key)


def read_list(fields: Fields, key: str, read: Callable[[Fields, str], T]) -> tuple[T, ...] | Abridged:
    """At most 1000 items, each read as said, or the list's count and digest."""
    if isinstance(fields.raw(key), dict):
        inner = fields.nested(key)
        abridged = Abridged(inner.integer("n", minimum=1), inner.digest("sha256"))
        inner.done()
        return abridged
    items = fields.array(key, max_items=MAX_ITEMS)
    inner = Fields({str(number): item for number, item in enumerate(items)}, fields.at(key))
    return tuple(read(inner, str(number)) for number in range(len(items)))


def read_texts(fields: Fields, key: str) -> Texts:
    """[S], in the order given."""
    plain = _plain(_TEXTS, fields.raw(key))
    return read_list(fields, key, read_text) if plain is None else plain


def read_digests(fields: Fields, key: str) -> Digests:
    """[D], strictly ascending."""
    plain = _plain(_DIGESTS, fields.raw(key))
    return _ascending(fields, key, read_list(fields, key, _read_digest) if plain is None else plain)


def read_people(fields: Fields, key: str) -> People:
    """[P], strictly ascending."""
    plain = _plain(_PEOPLE, fields.raw(key))
    return _ascending(fields, key, read_list(fields, key, read_person) if plain is None else plain)


def read_pair(fields: Fields, key: str) -> tuple[Pseudonym, ...]:
    """[P,P]: two different people, ascending. Never abridged."""
    people = read_people(fields, key)
    if isinstance(people, Abridged) or len(people) != 2:
        raise fields.error(key, "must name two different people")
    return people


def _plain(form: re.Pattern[str], items: object) -> tuple[Any, ...] | None:
    """The items, where they are a list of that form: one match for all of them. None leaves it to the exact way to say what is wrong."""
    if not isinstance(items, list) or len(items) > MAX_ITEMS:
        return None
    try:
        joined = "\n".join(items)
    except TypeError:  # an item that is no string
        return None
    # An item with a newline in it must not pass for two.
    fits = joined.count("\n") == len(items) - 1 and form.fullmatch(joined) is not None
    return tuple(items) if fits else None


def _read_digest(fields: Fields, key: str) -> Digest:
    try:
        return parse_digest(fields.raw(key))
    except MalformedDigest as error:
        raise fields.error(key, str(error)) from error


def _ascending(fields: Fields, key: str, items: tuple[S, ...] | Abridged) -> tuple[S, ...] | Abridged:
    if not isinstance(items, Abridged) and tuple(sorted(set(items))) != items:
        raise fields.error(key, "must be ascending, without repetition")
    return items


def _translated(fields: Fields, key: str, parse: Callable[[object], T]) -> T:
    try:
        return parse(fields.raw(key))
    except MalformedEntry as error:
        raise FieldError(fields.at(key), str(error)) from error
