"""Signed notes of C2SP signed-note. A note's text means nothing until a known key's signature over it has verified.

The text is split from the signatures at the *last* empty line, and lines are split at newlines only: `str.splitlines` knows others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .cosignature import verify_cosignature
from .errors import BadNoteSignature, MalformedNote
from .signature import (
    COSIGNATURE_V1,
    ED25519,
    NoteSignature,
    VerifierKey,
    cosigner_vkey,
    ed25519_vkey,
    encode_vkey,
    parse_signature_lines,
    parse_vkey,
    signature_line,
)

MAX_NOTE: Final = 64 * 1024
MAX_SIGNATURES: Final = 100


@dataclass(frozen=True)
class Note:
    """A text, with its final newline, and its signatures in the order they stand."""

    text: bytes
    signatures: tuple[NoteSignature, ...]

    def with_signatures(self, more: Iterable[NoteSignature]) -> Note:
        """The note with further lines (cosignatures) below; a line that is there already is not repeated."""
        return Note(self.text, tuple(dict.fromkeys((*self.signatures, *more))))


def parse_note(data: bytes) -> Note:
    """Read at most 64 KiB with 1 to 100 signatures; anything not byte for byte what `encode_note` writes raises `MalformedNote`."""
    if len(data) > MAX_NOTE:
        raise MalformedNote("a note has at most 64 KiB")
    split = data.rfind(b"\n\n")
    if split < 0:
        raise MalformedNote("a note has an empty line between text and signatures")
    note = Note(data[: split + 1], parse_signature_lines(data[split + 2 :], limit=MAX_SIGNATURES))
    if encode_note(note) != data:
        raise MalformedNote("the note is not in its one spelling")
    return note


def encode_note(note: Note) -> bytes:
    """The bytes of a note; raises `MalformedNote` where it would not be one."""
    try:
        text = note.text.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedNote("a note is UTF-8") from None
    if not text.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in text):
        raise MalformedNote("a note's text ends in a newline and has no other control character")
    if not 1 <= len(note.signatures) <= MAX_SIGNATURES:
        raise MalformedNote(f"a note has 1 to {MAX_SIGNATURES} signatures")
    data = note.text + b"\n" + b"".join(signature.line() for signature in note.signatures)
    if len(data) > MAX_NOTE:
        raise MalformedNote("a note has at most 64 KiB")
    return data


def verify_note(note: Note, keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
    """The given keys that signed the note, each once, in the order given.

    Lines by other keys are ignored. A line by one of the keys that does not verify, and a note that none of them signed, raise
    `BadNoteSignature`: so an empty list of keys verifies nothing.
    """
    verified = []
    for key in keys:
        lines = [signature for signature in note.signatures if signature.by(key)]
        for line in lines:
            verify_signature(key, note.text, line)
        if lines:
            verified.append(key)
    if not verified:
        raise BadNoteSignature("no known key signed the note")
    return tuple(verified)


def verify_signature(key: VerifierKey, text: bytes, signature: NoteSignature) -> None:
    """Check one line by that key, in the way of the key's type; raises `BadNoteSignature`."""
    if key.type == COSIGNATURE_V1:
        verify_cosignature(key, text, signature)
    elif signature.by(key) and len(signature.blob) == 64:
        key.verify(text, signature.blob)
    else:
        raise BadNoteSignature(f"not a signature of {key.name}")


__all__ = [
    "COSIGNATURE_V1",
    "ED25519",
    "MAX_NOTE",
    "MAX_SIGNATURES",
    "Note",
    "NoteSignature",
    "VerifierKey",
    "cosigner_vkey",
    "ed25519_vkey",
    "encode_note",
    "encode_vkey",
    "parse_note",
    "parse_signature_lines",
    "parse_vkey",
    "signature_line",
    "verify_note",
    "verify_signature",
]
