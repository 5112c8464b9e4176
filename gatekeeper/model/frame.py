"""The frame to a doorkeeper: one strict JSON header line, then the parts' bytes in order, no padding (`formats.md` 6).

`keys` is there where the log has `key` entries: the document of `tlog.keyhistory` against the checkpoint of `proof` and `consistency`.

Only the header is handled here. Who reads the parts hashes them while reading and stops at the first difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from .canonical import Json, encode_canonical
from .digest import Digest
from .fields import FieldError, Fields
from .strictjson import MalformedJson, parse_object

MAX_HEADER: Final = 64 * 1024
"""bytes of the header line, its newline included"""


class MalformedFrame(ValueError):
    """The header is not of this format, or a part is out of order or bounds."""


@unique
class PartName(StrEnum):
    """Every part there is, in the one order in which parts may stand. What the first checks need comes first."""

    RECEIPT = "receipt"
    PROOF = "proof"
    CONSISTENCY = "consistency"
    KEYS = "keys"
    ORIGINS = "origins"
    """crossings to the open origin (`tlog.origins`), where the target remembers an older one"""
    OPENING = "opening"
    ROLLBACK_BUNDLE = "rollback-bundle"
    MANIFEST = "manifest"
    CONFIG = "config"
    CONFIGURATION = "configuration"
    LAYER = "layer"
    SETTINGS = "settings"


_KIB: Final = 1024
_MIB: Final = 1024 * 1024

MAX_PART: Final = MappingProxyType(
    {
        PartName.RECEIPT: 256 * _KIB,
        PartName.PROOF: 256 * _KIB,
        PartName.CONSISTENCY: 256 * _KIB,
        PartName.KEYS: 256 * _KIB,
        PartName.ORIGINS: 256 * _KIB,
        PartName.OPENING: 64 * _KIB,
        PartName.ROLLBACK_BUNDLE: 4 * _MIB,
        PartName.MANIFEST: 1 * _MIB,
        PartName.CONFIG: 64 * _KIB,
        PartName.CONFIGURATION: 256 * _KIB,
        PartName.LAYER: 2048 * _MIB,
        PartName.SETTINGS: 256 * _KIB,
    }
)
"""bytes of each part at most; a target's own file may set the layer's lower"""

_ORDER: Final = tuple(PartName)
_NAMES: Final = tuple(name.value for name in PartName)


@dataclass(frozen=True)
class PartSpec:
    """A part as the header announces it: `size` in bytes, `sha256` of exactly these bytes."""

    name: PartName
    size: int
    sha256: Digest


def encode_header(parts: Sequence[PartSpec]) -> bytes:
    """The header line with its newline. Raises `MalformedFrame` where `parse_header` would."""
    _check(parts)
    document: dict[str, Json] = {"v": 1, "word": "apply", "parts": [{"name": p.name.value, "size": p.size, "sha256": p.sha256} for p in parts]}
    return encode_canonical(document) + b"\n"


def parse_header(line: bytes) -> tuple[PartSpec, ...]:
    """Read a header line, its newline included.

    Which parts are there is the doorkeeper's question, not the format's: a frame without a receipt is well formed and refused.
    """
    if len(line) > MAX_HEADER or not line.endswith(b"\n"):
        raise MalformedFrame(f"the header is no line of at most {MAX_HEADER} bytes")
    try:
        fields = Fields(parse_object(line[:-1], max_bytes=MAX_HEADER, max_depth=4))
        fields.integer("v", minimum=1, maximum=1)
        fields.choice("word", ("apply",))
        parts = tuple(_part(item) for item in fields.objects("parts", max_items=len(_ORDER)))
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedFrame(f"header: {error}") from error
    _check(parts)
    return parts


def _part(item: Fields) -> PartSpec:
    part = PartSpec(PartName(item.choice("name", _NAMES)), item.integer("size"), item.digest("sha256"))
    item.done()
    return part


def _check(parts: Sequence[PartSpec]) -> None:
    places = [_ORDER.index(part.name) for part in parts]
    if any(here >= following for here, following in itertools.pairwise(places)):
        raise MalformedFrame("parts stand twice or out of order; the order is " + ", ".join(_NAMES))
    for part in parts:
        if not 0 <= part.size <= MAX_PART[part.name]:
            raise MalformedFrame(f"part {part.name.value} is over {MAX_PART[part.name]} bytes")
