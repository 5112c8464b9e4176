"""`.tlog-proof` files of C2SP tlog-proof: an inclusion path with the checkpoint it leads to."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final, NoReturn, final

from .checkpoint import VerifiedCheckpoint, parse_checkpoint
from .errors import MalformedProof
from .logpolicy import LogPolicy, open_cosigned
from .merkle import HASH_SIZE, MAX_PATH, leaf_hash, verify_inclusion
from .note import MAX_NOTE, parse_note
from .spelling import MAX_SIZE, parse_base64, parse_decimal, parse_hash

HEADER: Final = b"c2sp.org/tlog-proof@v1\n"
MAX_EXTRA: Final = 16 * 1024
MAX_PROOF: Final = MAX_NOTE + 32 * 1024


@dataclass(frozen=True)
class TlogProof:
    """A parsed proof; nothing is checked but its form. `checkpoint` is a signed note; `extra` is never authenticated."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index <= MAX_SIZE:
            raise MalformedProof("an index lies between 0 and 2^63-1")
        if len(self.path) > MAX_PATH or any(len(item) != HASH_SIZE for item in self.path):
            raise MalformedProof("a path has at most 63 hashes of 32 bytes")
        if self.extra is not None and not 1 <= len(self.extra) <= MAX_EXTRA:
            raise MalformedProof("extra data has 1 to 16384 bytes")


def encode_proof(proof: TlogProof) -> bytes:
    """The file's bytes."""
    extra = b"" if proof.extra is None else b"extra %s\n" % base64.b64encode(proof.extra)
    path = b"".join(base64.b64encode(item) + b"\n" for item in proof.path)
    return HEADER + extra + b"index %d\n" % proof.index + path + b"\n" + proof.checkpoint


def parse_proof(data: bytes) -> TlogProof:
    """Read; raises `MalformedProof`, or `MalformedNote` or `MalformedCheckpoint` for the checkpoint in it."""
    if len(data) > MAX_PROOF or not data.startswith(HEADER):
        raise MalformedProof("not a c2sp.org/tlog-proof@v1 of at most 96 KiB")
    head, blank, checkpoint = data[len(HEADER) :].partition(b"\n\n")
    if not blank:
        raise MalformedProof("a proof has an empty line before its checkpoint")
    first, *lines = head.split(b"\n", MAX_PATH + 2)
    extra = None
    if first.startswith(b"extra ") and lines:
        extra = parse_base64(first.removeprefix(b"extra "))
        if extra is None:
            raise MalformedProof("the extra data is not base64")
        first, *lines = lines
    index = parse_decimal(first.removeprefix(b"index ")) if first.startswith(b"index ") else None
    if index is None:
        raise MalformedProof("the index is not in its one spelling")
    # Without this, a second empty line would make the path part of the note's text.
    parse_checkpoint(parse_note(checkpoint).text)
    return TlogProof(index, parse_hashes(lines), checkpoint, extra)


def parse_hashes(lines: list[bytes]) -> tuple[bytes, ...]:
    """Lines of one base64 hash each, as proofs and `old N` bodies have them; raises `MalformedProof`."""
    if len(lines) > MAX_PATH:
        raise MalformedProof(f"a path has at most {MAX_PATH} hashes")
    hashes = []
    for line in lines:
        item = parse_hash(line)
        if item is None:
            raise MalformedProof("a hash is not in its one spelling")
        hashes.append(item)
    return tuple(hashes)


@final
class VerifiedInclusion:
    """An entry stands at `index` in a tree that its log signed and the policy's quorum cosigned. Made by `verify_proof` alone."""

    __slots__ = ("checkpoint", "index", "leaf")

    index: int
    leaf: bytes
    checkpoint: VerifiedCheckpoint

    def __init__(self) -> None:
        raise TypeError("only verify_proof makes verified inclusions")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("verified inclusions do not change")

    def __repr__(self) -> str:
        return f"VerifiedInclusion({self.index}, {self.checkpoint!r})"


def verify_proof(proof: TlogProof, entry: bytes, policy: LogPolicy) -> VerifiedInclusion:
    """Check that these entry bytes are in the policy's log; raises the errors of each step.

    The order is that of tlog-proof: (1) leaf hash of the bytes as they are, (2) origin and log signature, (3) quorum, (4) path.
    """
    leaf = leaf_hash(entry)
    checkpoint = open_cosigned(proof.checkpoint, policy)
    verify_inclusion(leaf, proof.index, checkpoint.size, proof.path, checkpoint.root)
    verified = VerifiedInclusion.__new__(VerifiedInclusion)
    object.__setattr__(verified, "index", proof.index)
    object.__setattr__(verified, "leaf", leaf)
    object.__setattr__(verified, "checkpoint", checkpoint)
    return verified
