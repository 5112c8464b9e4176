"""Checkpoints of C2SP tlog-checkpoint: what a log signs. Extension lines are refused, as nobody audits them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import NoReturn, final

from .errors import MalformedCheckpoint, UnknownLog
from .merkle import EMPTY_ROOT, HASH_SIZE
from .note import Note, parse_note, verify_note
from .signature import ED25519, VerifierKey, is_key_name
from .spelling import MAX_SIZE, parse_decimal, parse_hash


@dataclass(frozen=True)
class Checkpoint:
    """Which log, how many entries, and the root hash over them."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not is_key_name(self.origin):
            raise MalformedCheckpoint("an origin has 1 to 200 bytes, no space and no '+'")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_SIZE:
            raise MalformedCheckpoint("a checkpoint has a size of at most 2^63-1 and a root of 32 bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise MalformedCheckpoint("the empty tree has another root")


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The note text."""
    return b"%s\n%d\n%s\n" % (checkpoint.origin.encode("utf-8"), checkpoint.size, base64.b64encode(checkpoint.root))


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Read a note text of exactly three lines; raises `MalformedCheckpoint`."""
    lines = text.split(b"\n")
    if len(text) > 512 or len(lines) != 4 or lines[3]:
        raise MalformedCheckpoint("a checkpoint is three lines: origin, size, root")
    size, root = parse_decimal(lines[1]), parse_hash(lines[2])
    if size is None or root is None:
        raise MalformedCheckpoint("size or root is not in its one spelling")
    try:
        return Checkpoint(lines[0].decode("utf-8"), size, root)
    except UnicodeDecodeError:
        raise MalformedCheckpoint("an origin is UTF-8") from None


@final
class VerifiedCheckpoint:
    """A checkpoint whose log signature verified. Made by `open_checkpoint` alone; `note` is the whole signed note."""

    __slots__ = ("checkpoint", "note")

    checkpoint: Checkpoint
    note: bytes

    def __init__(self) -> None:
        raise TypeError("only open_checkpoint makes verified checkpoints")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("verified checkpoints do not change")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifiedCheckpoint) and (self.checkpoint, self.note) == (other.checkpoint, other.note)

    def __hash__(self) -> int:
        return hash((self.checkpoint, self.note))

    def __repr__(self) -> str:
        return f"VerifiedCheckpoint({self.checkpoint!r})"

    @property
    def origin(self) -> str:
        """Which log."""
        return self.checkpoint.origin

    @property
    def size(self) -> int:
        """How many entries."""
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        """The root hash."""
        return self.checkpoint.root


def open_checkpoint(note_bytes: bytes, key: VerifierKey, *also: VerifierKey) -> VerifiedCheckpoint:
    """Verify the log's signature, then read the checkpoint. `also` are keys that followed, or were followed by, the first; any one suffices.

    As `golang.org/x/mod/sumdb/note` has it: lines by keys not given are ignored, and a bad signature by a given one refuses the whole note.
    Raises `MalformedNote`, `BadNoteSignature`, `MalformedCheckpoint`, and `UnknownLog` where a key is no log's key, none of them signed, or
    the origin is not the keys' name.
    """
    note = parse_note(note_bytes)
    return _opened(note, note_bytes, (key, *also))


def _opened(note: Note, note_bytes: bytes, keys: tuple[VerifierKey, ...]) -> VerifiedCheckpoint:
    name = keys[0].name
    if any(key.type != ED25519 for key in keys):
        raise UnknownLog("a log's key has type 1")
    if not any(signature.by(key) for signature in note.signatures for key in keys):
        raise UnknownLog(f"{name} did not sign the checkpoint with a key that is trusted here")
    verify_note(note, keys)
    checkpoint = parse_checkpoint(note.text)
    if any(checkpoint.origin != key.name for key in keys):
        raise UnknownLog("the checkpoint is of another origin than the key that signed it")
    opened = VerifiedCheckpoint.__new__(VerifiedCheckpoint)
    object.__setattr__(opened, "checkpoint", checkpoint)
    object.__setattr__(opened, "note", note_bytes)
    return opened
