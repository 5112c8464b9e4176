"""From one origin of a log to the next (log format, 3 and 6): how a verifier that remembers the old one comes to believe the new one.

A log that lost entries, or whose year is over, signs nothing more under its origin. Its next origin begins with an `origin` entry that holds
the last signed note known of the old one. A *crossing* is that entry with what shows, to somebody who remembers a checkpoint of the old origin:

* `growth`: that the remembered tree is a prefix of the one in `previous`: nothing that this verifier has seen was rewritten;
* `proof`: that the entry is entry 0 of the new origin, under a checkpoint signed by the *same* Ed25519 key under the new name.

The key's name in a note is its origin, so the new origin has another vkey, and no file that a verifier was installed with names it. The verifier
derives it: the public key that it trusts already, under the name that entry 0 has. Whoever holds that key could sign anything under the old name;
under a new one they gain nothing but a name, and only where entry 0 carries on from what the verifier remembers. A *stolen* key is what people
answer with new files, never a crossing.

In a frame crossings are RFC 8785: `{"crossings": [{"entry", "growth", "proof"}], "v": 1}`, each the base64 of its bytes, oldest first.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .checkpoint import Checkpoint, VerifiedCheckpoint, open_checkpoint, parse_checkpoint
from .consistency import parse_growth, verify_growth
from .entry import parse_entry
from .errors import MalformedProof, ProofMismatch
from .kinds import OriginEntry
from .logpolicy import LogPolicy
from .merkle import HASH_SIZE
from .note import parse_note
from .proof import parse_proof, verify_proof
from .signature import VerifierKey, ed25519_vkey, is_key_name
from .tile import TILE_WIDTH, TileEdge

MAX_CROSSINGS: Final = 4
MAX_CROSSINGS_BYTES: Final = 256 * 1024
_MAX_ITEM: Final = 128 * 1024
_SHARD: Final = re.compile(r"(.+/log/)([0-9]{4})([a-z]?)")
_TAIL: Final = re.compile(r"[0-9a-z][0-9a-z.-]{0,31}")
_SERVED: Final = frozenset({"tile", "proof", "checkpoint"})
"""What stands behind `/log/` for the open origin."""


@dataclass(frozen=True)
class Crossing:
    """What shows one step from an origin to the next. Nothing is checked."""

    entry: bytes
    """entry 0 of the new origin"""
    growth: bytes
    """`old N`, path, and the note in the entry's `previous`"""
    proof: bytes
    """a `.tlog-proof` of index 0 in the new origin"""


@dataclass(frozen=True)
class Crossed:
    """A crossing that holds. `previous` closed the old origin; `opened` is the checkpoint of the new one that includes its entry 0."""

    entry: OriginEntry
    previous: VerifiedCheckpoint
    opened: VerifiedCheckpoint
    policy: LogPolicy
    """the verifier's own, with the log's key under its new name"""


def next_origin(origin: str) -> str | None:
    """The name after this one: `HOST/log/2026` -> `HOST/log/2026b` -> ... -> `HOST/log/2026z`; None where only people can name one."""
    match = _SHARD.fullmatch(origin)
    if match is None or match[3] == "z":
        return None
    return f"{match[1]}{match[2]}{chr(ord(match[3] or 'a') + 1)}"


def origin_tail(origin: str) -> str | None:
    """What names the origin among those of one host: the part after `/log/`. None for an origin of another form."""
    prefix, _, tail = origin.rpartition("/log/")
    return tail if prefix and _TAIL.fullmatch(tail) and tail not in _SERVED else None


def may_follow(origin: str, following: str) -> bool:
    """Whether `following` may be the next origin: the same host and path, another last part, and a name that a key can have."""
    prefix, _, _ = origin.rpartition("/log/")
    return is_key_name(following) and following != origin and origin_tail(following) is not None and following.rpartition("/log/")[0] == prefix


def origin_of_note(note: bytes) -> str:
    """The origin that a signed note is of, whoever signed it. Raises `MalformedNote` or `MalformedCheckpoint`."""
    return parse_checkpoint(parse_note(note).text).origin


def encode_crossings(crossings: Sequence[Crossing]) -> bytes:
    """The part of a frame. Raises ValueError for more than `MAX_CROSSINGS`."""
    if not 1 <= len(crossings) <= MAX_CROSSINGS:
        raise ValueError(f"one to {MAX_CROSSINGS} crossings travel together")
    items: list[Json] = [{"entry": _text(one.entry), "growth": _text(one.growth), "proof": _text(one.proof)} for one in crossings]
    return encode_canonical({"v": 1, "crossings": items})


def parse_crossings(data: bytes) -> tuple[Crossing, ...]:
    """Read; raises `MalformedProof`."""
    try:
        fields = Fields(parse_object(data, max_bytes=MAX_CROSSINGS_BYTES))
        fields.integer("v", minimum=1, maximum=1)
        found = tuple(_crossing(item) for item in fields.objects("crossings", max_items=MAX_CROSSINGS))
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedProof(f"crossings: {error}") from error
    if not found or encode_crossings(found) != data:
        raise MalformedProof("crossings are not in their one spelling, or there is none")
    return found


def verify_crossing(known: Checkpoint, policy: LogPolicy, crossing: Crossing) -> Crossed:
    """Check one step from what is remembered; `policy` names the key of the origin that `known` is of, and the quorum that both need.

    Raises `ProofMismatch` where the entry does not carry on from `known`, and the errors of each part.
    """
    if policy.log.name != known.origin:
        raise ProofMismatch("the key is of another origin than the checkpoint remembered")
    entry = parse_entry(crossing.entry)
    if not isinstance(entry, OriginEntry) or entry.previous is None:  # a first origin has none before it
        raise ProofMismatch("the entry opens no origin after another")
    if not may_follow(known.origin, entry.origin):
        raise ProofMismatch("the entry opens no origin that could follow the one remembered")
    growth = parse_growth(crossing.growth)
    if growth.checkpoint != entry.previous.encode():
        raise ProofMismatch("the consistency proof leads elsewhere than to the note that the entry holds")
    previous = open_checkpoint(growth.checkpoint, policy.log, *policy.also)
    if previous.size < known.size:
        raise ProofMismatch("the last note of the old origin is behind what is remembered")
    verify_growth(known, growth, previous)
    following = policy_under(policy, entry.origin)
    inclusion = verify_proof(parse_proof(crossing.proof), crossing.entry, following)
    if inclusion.index != 0:
        raise ProofMismatch("the entry is not entry 0 of its origin")
    return Crossed(entry, previous, inclusion.checkpoint, following)


def policy_under(policy: LogPolicy, origin: str) -> LogPolicy:
    """The same public keys and the same quorum for another origin."""
    return replace(policy, log=key_under(policy.log, origin), also=tuple(key_under(key, origin) for key in policy.also))


def key_under(key: VerifierKey, origin: str) -> VerifierKey:
    """The same public key as the log key of another origin."""
    return ed25519_vkey(origin, key.public)


def encode_edge(edge: TileEdge) -> bytes:
    """u64be size, then the partial tiles, bottom first: at most 8 KiB for each 256-fold of the size."""
    return edge.size.to_bytes(8, "big") + b"".join(edge.partial)


def parse_edge(data: bytes) -> TileEdge:
    """Read what `encode_edge` wrote. Raises `MalformedProof`."""
    size, at, levels = int.from_bytes(data[:8], "big"), 8, []
    for level in range(8):
        if not size >> (8 * level):
            break
        width = (size >> (8 * level)) % TILE_WIDTH * HASH_SIZE
        levels.append(data[at : at + width])
        at += width
    if at != len(data):
        raise MalformedProof("these are no partial tiles of a tree")
    return TileEdge(size, tuple(levels))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _crossing(fields: Fields) -> Crossing:
    crossing = Crossing(_bytes(fields, "entry"), _bytes(fields, "growth"), _bytes(fields, "proof"))
    fields.done()
    return crossing


def _bytes(fields: Fields, key: str) -> bytes:
    try:
        return base64.b64decode(fields.text(key, max_length=_MAX_ITEM), validate=True)
    except ValueError:
        raise fields.error(key, "is not base64") from None
