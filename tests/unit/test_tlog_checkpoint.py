"""A checkpoint's three lines: one spelling, every bound at its edge, and whose signature opens it."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.tlog.checkpoint import Checkpoint, VerifiedCheckpoint, encode_checkpoint, open_checkpoint, parse_checkpoint
from gatekeeper.tlog.errors import MalformedCheckpoint, UnknownLog
from gatekeeper.tlog.note import encode_note, parse_note
from gatekeeper.tlog.signature import NoteSignature, cosigner_vkey, ed25519_vkey
from tests.fakes import log_directory

ORIGIN = "production.example/log/2026"
ROOT = b"r" * 32
EMPTY = hashlib.sha256(b"").digest()
MAX = 2**63 - 1


ENCODED = base64.b64encode(ROOT)


def text(origin=b"production.example/log/2026", size=b"7", root=ENCODED, end=b"\n") -> bytes:
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


ENTRIES = log_directory.entries(7)
KEY = log_directory.VKEY
STRANGER = ed25519_vkey(ORIGIN, Ed25519PrivateKey.generate().public_key().public_bytes_raw())


def opened(size: int, *also) -> VerifiedCheckpoint:
    return open_checkpoint(log_directory.note(ENTRIES[:size]), KEY, *also)


def test_two_verified_checkpoints_are_one_where_text_and_signatures_are():
    assert opened(7) == opened(7)
    assert hash(opened(7)) == hash(opened(7))
    assert opened(7) != opened(6)
    assert opened(7) != opened(7).checkpoint
    note = log_directory.note(ENTRIES)
    longer = encode_note(parse_note(note).with_signatures([NoteSignature("somebody.example", b"abcd", b"blob")]))
    assert open_checkpoint(longer, KEY).checkpoint == opened(7).checkpoint
    assert open_checkpoint(longer, KEY) != opened(7)


def test_a_verified_checkpoint_cannot_be_made_or_changed():
    with pytest.raises(TypeError, match="only open_checkpoint"):
        VerifiedCheckpoint()
    with pytest.raises(AttributeError, match="do not change"):
        opened(7).checkpoint = Checkpoint(ORIGIN, 1, ROOT)


def test_any_key_that_is_given_suffices_and_none_else_does():
    assert opened(7, STRANGER).size == 7
    assert open_checkpoint(log_directory.note(ENTRIES), STRANGER, KEY).root == opened(7).root
    with pytest.raises(UnknownLog, match="did not sign the checkpoint with a key that is trusted here"):
        open_checkpoint(log_directory.note(ENTRIES), STRANGER)


@pytest.mark.parametrize("place", [0, 1])
def test_every_key_that_is_given_is_a_logs_and_of_the_origin(place):
    public = log_directory.KEY.public_key().public_bytes_raw()
    cosigner = cosigner_vkey(ORIGIN, public)
    keys = [KEY, cosigner] if place else [cosigner, KEY]
    with pytest.raises(UnknownLog, match="a log's key has type 1"):
        open_checkpoint(log_directory.note(ENTRIES), *keys)
    other = ed25519_vkey("another.example/log", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    keys = [KEY, other] if place else [other, KEY]
    with pytest.raises(UnknownLog, match="of another origin than the key that signed it"):
        open_checkpoint(log_directory.note(ENTRIES), *keys)
