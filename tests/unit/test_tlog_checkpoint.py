"""A checkpoint's three lines: one spelling, every bound at its edge, and whose signature opens it."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.tlog.checkpoint import Checkpoint, VerifiedCheckpoint, encode_checkpoint, open_checkpoint, parse_checkpoint
from gatekeeper.tlog.errors import MalformedCheckpoint, UnknownLog
from gatekeeper.tlog.note import parse_note, verifier_key
from tests.fakes import log_directory

ORIGIN = "production.example/log/2026"
ROOT = b"r" * 32
EMPTY = hashlib.sha256(b"").digest()
MAX = 2**63 - 1


def text(origin=ORIGIN.encode(), size=b"7", root=base64.b64encode(ROOT), end=b"\n") -> bytes:
    return origin + b"\n" + size + b"\n" + root + end


@pytest.mark.parametrize("size", [1, 7, 10, MAX])
def test_three_lines_are_read_as_they_are_written(size):
    checkpoint = Checkpoint(ORIGIN, size, ROOT)
    assert parse_checkpoint(encode_checkpoint(checkpoint)) == checkpoint
    assert encode_checkpoint(checkpoint) == text(size=str(size).encode())
    assert parse_checkpoint(text(origin="häuser.example/log".encode())).origin == "häuser.example/log"
    assert parse_checkpoint(text(size=b"0", root=base64.b64encode(EMPTY))) == Checkpoint(ORIGIN, 0, EMPTY)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", "three lines"),
        (text()[:-1], "three lines"),
        (text(end=b""), "three lines"),
        (text(end=b"\n\n"), "three lines"),
        (text(end=b"\nmore\n"), "three lines"),
        (text(end=b"\nmore"), "three lines"),
        (b"\n" + text(), "three lines"),
        (text(origin=b"x" * (512 - len(text(origin=b"")) + 1)), "three lines"),
        (text(origin=b"x" * (512 - len(text(origin=b"")))), "an origin has 1 to 200 bytes"),
        (text(origin=b"x" * 201), "an origin has 1 to 200 bytes"),
        (text(origin=b""), "an origin has 1 to 200 bytes"),
        (text(origin=b"a b"), "an origin has 1 to 200 bytes"),
        (text(origin=b"a+b"), "an origin has 1 to 200 bytes"),
        (text(origin=b"\xff"), "an origin is UTF-8"),
        (text(size=b"07"), "one spelling"),
        (text(size=b"-7"), "one spelling"),
        (text(size=b"+7"), "one spelling"),
        (text(size=b"7 "), "one spelling"),
        (text(size=b""), "one spelling"),
        (text(size="\u0667".encode()), "one spelling"),
        (text(root=base64.b64encode(ROOT).rstrip(b"=")), "one spelling"),
        (text(root=base64.b64encode(ROOT[:31])), "one spelling"),
        (text(root=base64.b64encode(ROOT + b"r")), "one spelling"),
        (text(root=base64.b64encode(ROOT)[:-2] + b"J="), "one spelling"),
        (text(size=b"0"), "the empty tree has another root"),
    ],
)
def test_what_is_not_three_lines_in_their_one_spelling_is_refused(given, words):
    with pytest.raises(MalformedCheckpoint, match=words):
        parse_checkpoint(given)


def test_a_size_beyond_the_last_is_none():
    with pytest.raises(MalformedCheckpoint):
        parse_checkpoint(text(size=str(MAX + 1).encode()))


@pytest.mark.parametrize(
    ("origin", "size", "root", "words"),
    [
        (ORIGIN, -1, ROOT, "size of at most"),
        (ORIGIN, MAX + 1, ROOT, "size of at most"),
        (ORIGIN, 1, ROOT[:-1], "root of 32 bytes"),
        (ORIGIN, 1, ROOT + b"r", "root of 32 bytes"),
        (ORIGIN, 0, ROOT, "empty tree has another root"),
        ("", 1, ROOT, "an origin has"),
        ("x" * 201, 1, ROOT, "an origin has"),
    ],
)
def test_there_is_no_checkpoint_of_any_other_size_or_root(origin, size, root, words):
    with pytest.raises(MalformedCheckpoint, match=words):
        Checkpoint(origin, size, root)


def test_sizes_from_none_to_the_last_are_sizes_and_a_root_of_entries_may_be_the_empty_ones():
    for size, root in ((0, EMPTY), (1, EMPTY), (1, ROOT), (MAX, ROOT)):
        assert Checkpoint("x" * 200, size, root).size == size


# --- opened


FILES = log_directory.files(log_directory.entries(7)) if hasattr(log_directory, "files") else None


def opened(size: int) -> VerifiedCheckpoint:
    return open_checkpoint(log_directory.note(ENTRIES[:size]), KEY)


KEY = log_directory.KEY if hasattr(log_directory, "KEY") else None
