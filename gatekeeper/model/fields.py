"""Reading a parsed JSON or TOML object member by member, strictly.

Every member is asked for by name and type; `done` refuses what nobody asked for. Errors carry a JSON pointer (RFC 6901), so that the
sender sees where, and never the value, which may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from .digest import Digest, MalformedDigest, is_commit, parse_digest
from .moment import MalformedMoment, Moment, parse_moment

T = TypeVar("T")

# Line and paragraph separators, and the directional overrides, embeddings and isolates that make a text read as another (UTR 36, 2.10).
_MOVING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


_OBJECT = (dict, Mapping)
"""dict first: asking an abstract class takes ten times as long"""


class FieldError(ValueError):
    """A member is missing, of another type, out of bounds or unknown."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer or '/'}: {detail}")
        self.pointer = pointer
        self.detail = detail


class Fields:
    """One object being read. `pointer` is where it stands in its document."""

    __slots__ = ("_asked", "_members", "pointer")

    def __init__(self, value: object, pointer: str = "") -> None:
        if not isinstance(value, _OBJECT):
            raise FieldError(pointer, "must be an object")
        self._members: Mapping[str, object] = value
        self._asked: set[str] = set()
        self.pointer = pointer

    def at(self, key: str) -> str:
        """The pointer of a member."""
        if "~" in key or "/" in key:
            key = key.replace("~", "~0").replace("/", "~1")
        return f"{self.pointer}/{key}"

    def has(self, key: str) -> bool:
        """Whether the member is there and not null."""
        return self._members.get(key) is not None

    def error(self, key: str, detail: str) -> FieldError:
        """An error about one member, for checks that the caller makes."""
        return FieldError(self.at(key), detail)

    def raw(self, key: str) -> object:
        """The member as it is; missing is an error."""
        self._asked.add(key)
        try:
            return self._members[key]
        except KeyError:
            raise self.error(key, "is missing") from None

    def optional(self, key: str, read: Callable[[str], T]) -> T | None:
        """`read(key)` if the member is there and not null, else None."""
        self._asked.add(key)
        return read(key) if self.has(key) else None

    def text(self, key: str, *, max_length: int = 256, min_length: int = 1) -> str:
        """A string without control or direction characters, bounded in characters."""
        value = self.raw(key)
        if not isinstance(value, str):
            raise self.error(key, "must be a string")
        if not min_length <= len(value) <= max_length:
            raise self.error(key, f"must have {min_length} to {max_length} characters")
        if not (value.isascii() and value.isprintable()) and _MOVING.search(value) is not None:
            raise self.error(key, "holds a control character")
        return value

    def name(self, key: str) -> str:
        """A name of ours: lowercase letters, digits, dot, underscore and dash, at most 64."""
        value = self.text(key, max_length=64)
        if _NAME.fullmatch(value) is None or ".." in value:
            raise self.error(key, "is not a name (lowercase letters, digits, '.', '_', '-', at most 64)")
        return value

    def integer(self, key: str, *, minimum: int = 0, maximum: int = 2**53 - 1) -> int:
        """An integer within bounds; true and false are not integers."""
        value = self.raw(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, "must be an integer")
        if not minimum <= value <= maximum:
            raise self.error(key, f"must lie between {minimum} and {maximum}")
        return value

    def boolean(self, key: str) -> bool:
        """True or false."""
        value = self.raw(key)
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def digest(self, key: str) -> Digest:
        """A `sha256:` digest."""
        try:
            return parse_digest(self.raw(key))
        except MalformedDigest as error:
            raise self.error(key, str(error)) from error

    def commit(self, key: str) -> str:
        """A full git object id."""
        value = self.raw(key)
        if not isinstance(value, str) or not is_commit(value):
            raise self.error(key, "must be a full lowercase git object id (40 or 64 hexadecimal digits)")
        return value

    def moment(self, key: str) -> Moment:
        """RFC 3339 UTC, whole seconds."""
        try:
            return parse_moment(self.raw(key))
        except MalformedMoment as error:
            raise self.error(key, str(error)) from error

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of a closed set of strings."""
        value = self.raw(key)
        if not isinstance(value, str) or value not in choices:
            raise self.error(key, "must be one of " + ", ".join(choices))
        return value

    def nested(self, key: str) -> Fields:
        """A nested object."""
        return Fields(self.raw(key), self.at(key))

    def array(self, key: str, *, max_items: int = 1000) -> list[object]:
        """A list, bounded in length."""
        value = self.raw(key)
        if not isinstance(value, list):
            raise self.error(key, "must be an array")
        if len(value) > max_items:
            raise self.error(key, f"has more than {max_items} items")
        return value

    def objects(self, key: str, *, max_items: int = 1000) -> Iterator[Fields]:
        """A list of objects."""
        for number, item in enumerate(self.array(key, max_items=max_items)):
            yield Fields(item, f"{self.at(key)}/{number}")

    def texts(self, key: str, *, max_items: int = 1000, max_length: int = 256) -> tuple[str, ...]:
        """A list of strings."""
        items = self.array(key, max_items=max_items)
        inner = Fields({str(number): item for number, item in enumerate(items)}, self.at(key))
        return tuple(inner.text(str(number), max_length=max_length) for number in range(len(items)))

    def names(self) -> tuple[str, ...]:
        """The names of all members; marks them as asked for."""
        self._asked.update(self._members)
        return tuple(self._members)

    def done(self) -> None:
        """Refuse members that nobody asked for."""
        if self._asked.issuperset(self._members):
            return
        for key in self._members:
            if key not in self._asked:
                known = ", ".join(sorted(self._asked))
                raise FieldError(self.at(key[:64]), f"is not a member of this object (known: {known})")
