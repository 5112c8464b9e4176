"""`old N`, a consistency path and a checkpoint: the body of C2SP tlog-witness `add-checkpoint`, which a doorkeeper is given too."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from .checkpoint import Checkpoint, VerifiedCheckpoint, parse_checkpoint
from .errors import MalformedProof, ProofMismatch
from .merkle import HASH_SIZE, MAX_PATH, verify_consistency
from .note import parse_note
from .proof import MAX_PROOF, parse_hashes
from .spelling import MAX_SIZE, parse_decimal


@dataclass(frozen=True)
class Growth:
    """From which size the path leads to the checkpoint, a signed note. Nothing is checked but its form."""

    old: int
    path: tuple[bytes, ...]
    checkpoint: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.old <= MAX_SIZE:
            raise MalformedProof("an old size lies between 0 and 2^63-1")
        if len(self.path) > MAX_PATH or any(len(item) != HASH_SIZE for item in self.path):
            raise MalformedProof("a path has at most 63 hashes of 32 bytes")


def encode_growth(growth: Growth) -> bytes:
    """The body's bytes."""
    path = b"".join(base64.b64encode(item) + b"\n" for item in growth.path)
    return b"old %d\n" % growth.old + path + b"\n" + growth.checkpoint


def parse_growth(data: bytes) -> Growth:
    """Read; raises `MalformedProof`, or `MalformedNote` or `MalformedCheckpoint` for the checkpoint in it."""
    if len(data) > MAX_PROOF or not data.startswith(b"old "):
        raise MalformedProof("a body of at most 96 KiB begins with its old size")
    head, blank, checkpoint = data.partition(b"\n\n")
    if not blank:
        raise MalformedProof("an empty line stands before the checkpoint")
    first, *lines = head.split(b"\n", MAX_PATH + 2)
    old = parse_decimal(first.removeprefix(b"old "))
    if old is None:
        raise MalformedProof("the old size is not in its one spelling")
    # Without this, a second empty line would make the path part of the note's text.
    parse_checkpoint(parse_note(checkpoint).text)
    return Growth(old, parse_hashes(lines), checkpoint)


def verify_growth(known: Checkpoint | None, growth: Growth, new: VerifiedCheckpoint) -> None:
    """Check that `new`, opened from the growth's own note, extends what is known; raises `ProofMismatch`.

    Known is None at first contact, or when the log was empty then: the path must be empty. A caller that answers a stale `old` with its
    own size (409, or the doorkeeper's word for it) compares `growth.old` first.
    """
    if new.note != growth.checkpoint:
        raise ProofMismatch("the checkpoint is not the one that came with the path")
    if known is not None and known.origin != new.origin:
        raise ProofMismatch("the checkpoints are of two origins")
    if growth.old != (known.size if known else 0):
        raise ProofMismatch("the path does not start at the size that is known")
    if known is None or known.size == 0:
        if growth.path:
            raise ProofMismatch("nothing can be proven from an empty tree")
        return
    verify_consistency(known.size, known.root, new.size, new.root, growth.path)
