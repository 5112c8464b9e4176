"""Places of a written skeleton that nobody has filled in yet: values that hold `CHANGE-ME`. They are errors, never values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MARK: Final = "CHANGE-ME"


@dataclass(frozen=True)
class Place:
    """Where the mark stands: line (from 1; 0 where it was not found) and JSON pointer of the key."""

    line: int
    pointer: str

    def __str__(self) -> str:
        return f"line {self.line} {self.pointer}"


def unfilled(document: Mapping[str, object], text: str) -> tuple[Place, ...]:
    """Every value of a parsed TOML document that still holds the mark, in the order of the lines; each key once."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if MARK in line and not line.lstrip().startswith("#")]
    found = []
    for pointer in dict.fromkeys(_pointers(document, "")):
        key = re.compile(rf"""^\s*(?:[\w."'-]+\.)?["']?{re.escape(pointer.rpartition("/")[2])}["']?\s*=""")
        at = next((entry for entry in lines if key.match(entry[1])), None) or next(iter(lines), (0, ""))
        if at in lines:
            lines.remove(at)
        found.append(Place(at[0], pointer))
    return tuple(sorted(found, key=lambda place: place.line))


def sentence(places: Sequence[Place]) -> str:
    """What a reader says of them."""
    return f"{', '.join(map(str, places))}: still {MARK}: fill in what is meant"


def _pointers(value: object, pointer: str) -> Iterator[str]:
    match value:
        case str() if MARK in value:
            yield pointer
        case Mapping():
            for key, inner in value.items():
                # A table that is itself called so has no value to point to: the key is the place.
                if MARK in str(key):
                    yield f"{pointer}/{key}"
                yield from _pointers(inner, f"{pointer}/{key}")
        case list():
            for number, inner in enumerate(value):
                yield from _pointers(inner, f"{pointer}/{number}" if isinstance(inner, Mapping) else pointer)
        case _:
            return
