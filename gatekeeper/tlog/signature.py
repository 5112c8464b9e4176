"""Verifier keys and signature lines of C2SP signed-note.

Types 0x01 (Ed25519 over the note text) and 0x04 (cosignature/v1) are verified; a line of any other type is parsed and ignored.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import BadNoteSignature, MalformedNote, MalformedVerifierKey
from .spelling import parse_base64

ED25519: Final = 0x01
COSIGNATURE_V1: Final = 0x04
MAX_NAME: Final = 200
"""Bytes of a key name; also of an origin, which is a key name."""
MAX_VKEY: Final = 512
MAX_BLOB: Final = 8192
"""Bytes of a key id and signature; an ML-DSA-44 cosignature has 2432."""


# Every control character below 0x20 that `str.isspace` does not know, and every space that it does: `\s` of a str pattern is `isspace`.
_NO_NAME = re.compile(r"[\s+\x00-\x1f]")


def is_key_name(name: str) -> bool:
    """Whether a note's key may be called so: 1 to 200 bytes, no Unicode space, no control character, no '+'."""
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return 0 < len(encoded) <= MAX_NAME and _NO_NAME.search(name) is None


def key_id(name: str, signature_type: int, public: bytes) -> bytes:
    """The four bytes that, with the name, identify a key."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + bytes((signature_type,)) + public).digest()[:4]


@dataclass(frozen=True)
class VerifierKey:
    """A public key under a name. `type` is ED25519 or COSIGNATURE_V1; `public` has 32 bytes; `key_id` is computed from the three."""

    name: str
    key_id: bytes
    type: int
    public: bytes

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise MalformedVerifierKey("a key name has 1 to 200 bytes, no space and no '+'")
        if self.type not in {ED25519, COSIGNATURE_V1} or len(self.public) != 32:
            raise MalformedVerifierKey("only Ed25519 keys of type 1 or 4, with 32 bytes, are verifier keys here")
        if self.key_id != key_id(self.name, self.type, self.public):
            raise MalformedVerifierKey("the key id is not that of this name, type and key")

    def verify(self, message: bytes, signature: bytes) -> None:
        """Check a bare Ed25519 signature of 64 bytes (RFC 8032, no prehash); raises `BadNoteSignature`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise BadNoteSignature(f"the signature of {self.name} does not verify") from None


def ed25519_vkey(name: str, public: bytes) -> VerifierKey:
    """The key of a log: signs note texts."""
    return _key(name, ED25519, public)


def cosigner_vkey(name: str, public: bytes) -> VerifierKey:
    """The key of a witness or doorkeeper: signs cosignature/v1 messages and nothing else."""
    return _key(name, COSIGNATURE_V1, public)


def parse_vkey(text: str) -> VerifierKey:
    """Read `<name>+<hex key id>+<base64(type || key)>`; raises `MalformedVerifierKey`."""
    if len(text) > MAX_VKEY:
        raise MalformedVerifierKey(f"a verifier key has at most {MAX_VKEY} characters")
    parts = text.split("+", 2)
    if len(parts) != 3 or not (parts[0] + parts[1] + parts[2]).isprintable():
        raise MalformedVerifierKey("a verifier key is <name>+<hex key id>+<base64>")
    data = parse_base64(parts[2].encode("utf-8"))
    if not data:
        raise MalformedVerifierKey("the key is not base64")
    key = _key(parts[0], data[0], data[1:])
    if key.key_id.hex() != parts[1]:
        raise MalformedVerifierKey("the key id is not that of this name, type and key")
    return key


def encode_vkey(key: VerifierKey) -> str:
    """The text that `parse_vkey` reads."""
    return f"{key.name}+{key.key_id.hex()}+{_base64(bytes((key.type,)) + key.public)}"


@dataclass(frozen=True)
class NoteSignature:
    """One signature line. `blob` is what follows the key id; nothing about it is checked yet."""

    name: str
    key_id: bytes
    blob: bytes

    def __post_init__(self) -> None:
        if not is_key_name(self.name) or len(self.key_id) != 4 or not 1 <= len(self.blob) <= MAX_BLOB - 4:
            raise MalformedNote("a signature has a key name, a key id of four bytes and up to 8188 bytes more")

    def by(self, key: VerifierKey) -> bool:
        """Whether the line claims to be by that key: both name and id."""
        return self.name == key.name and self.key_id == key.key_id

    def line(self) -> bytes:
        """The line as it stands in a note, with its newline."""
        return f"— {self.name} {_base64(self.key_id + self.blob)}\n".encode()


def signature_line(key: VerifierKey, blob: bytes) -> bytes:
    """The line of a signature just made by that key, with its newline."""
    return NoteSignature(key.name, key.key_id, blob).line()


def parse_signature_lines(data: bytes, *, limit: int = 100) -> tuple[NoteSignature, ...]:
    """Read 1 to `limit` lines: the end of a note, or a witness's answer. Raises `MalformedNote`."""
    lines = data.split(b"\n")
    if lines.pop() or not 1 <= len(lines) <= limit:
        raise MalformedNote(f"1 to {limit} signature lines, each ending in a newline, are needed")
    return tuple(_parse_line(line) for line in lines)


def _parse_line(line: bytes) -> NoteSignature:
    parts = line.split(b" ")
    if len(line) > 2 * MAX_BLOB or len(parts) != 3 or parts[0] != "—".encode():
        raise MalformedNote("a signature line is '— <key name> <base64>'")
    data = parse_base64(parts[2])
    if data is None:
        raise MalformedNote("a signature is not base64")
    try:
        return NoteSignature(parts[1].decode("utf-8"), data[:4], data[4:])
    except UnicodeDecodeError:
        raise MalformedNote("a key name is not UTF-8") from None


def _key(name: str, signature_type: int, public: bytes) -> VerifierKey:
    if not is_key_name(name):
        raise MalformedVerifierKey("a key name has 1 to 200 bytes, no space and no '+'")
    return VerifierKey(name, key_id(name, signature_type, public), signature_type, public)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
