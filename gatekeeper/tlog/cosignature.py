"""cosignature/v1 of C2SP tlog-cosignature: a witness's or doorkeeper's word that it saw a checkpoint, and when.

The signed message does not name the cosigner, so each cosigner has a key of its own, and a key that signs notes (0x01) never cosigns.
"""

from __future__ import annotations

from typing import Final

from .errors import BadNoteSignature, MalformedNote
from .signature import COSIGNATURE_V1, NoteSignature, VerifierKey
from .spelling import MAX_SIZE

BLOB_BYTES: Final = 8 + 64


def cosigned_message(note_text: bytes, timestamp: int) -> bytes:
    """The bytes to sign: note text with its final newline, timestamp in POSIX seconds."""
    _bound(timestamp)
    if not note_text.endswith(b"\n"):
        raise MalformedNote("a note text ends in a newline")
    return b"cosignature/v1\ntime %d\n" % timestamp + note_text


def encode_cosignature(key: VerifierKey, timestamp: int, signature: bytes) -> NoteSignature:
    """The signature line of 64 Ed25519 bytes over `cosigned_message`."""
    _bound(timestamp)
    if key.type != COSIGNATURE_V1 or len(signature) != 64:
        raise MalformedNote("a cosignature has 64 bytes and a key of type 4")
    return NoteSignature(key.name, key.key_id, timestamp.to_bytes(8, "big") + signature)


def verify_cosignature(key: VerifierKey, note_text: bytes, signature: NoteSignature) -> int:
    """Check one line by that key over the note text; returns its POSIX seconds. Raises `BadNoteSignature`."""
    if key.type != COSIGNATURE_V1 or not signature.by(key):
        raise BadNoteSignature(f"not a cosignature of {key.name}")
    timestamp = int.from_bytes(signature.blob[:8], "big")
    # Timestamp 0 makes no statement of time (subtree cosignatures have it); no witness of ours may send it.
    if len(signature.blob) != BLOB_BYTES or not 0 < timestamp <= MAX_SIZE:
        raise BadNoteSignature(f"the cosignature of {key.name} is not a time and 64 bytes")
    key.verify(cosigned_message(note_text, timestamp), signature.blob[8:])
    return timestamp


def _bound(timestamp: int) -> None:
    if not 0 < timestamp <= MAX_SIZE:
        raise MalformedNote("a cosignature's time is positive and at most 2^63-1")
