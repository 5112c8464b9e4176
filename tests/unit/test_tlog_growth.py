"""Growth and cosignatures at their bounds: the numbers and lengths that their forms allow, and one more or less."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.tlog.consistency import MAX_PROOF, Growth, encode_growth, parse_growth
from gatekeeper.tlog.cosignature import cosigned_message, encode_cosignature, verify_cosignature
from gatekeeper.tlog.errors import BadNoteSignature, MalformedCheckpoint, MalformedNote, MalformedProof
from gatekeeper.tlog.signature import NoteSignature, cosigner_vkey, ed25519_vkey
from tests.fakes import log_directory

MAX = 2**63 - 1
HASH = b"h" * 32
NOTE = log_directory.note(log_directory.entries(7))
LINE = base64.b64encode(HASH) + b"\n"


@pytest.mark.parametrize("old", [0, 1, MAX])
@pytest.mark.parametrize("length", [0, 1, 63])
def test_growth_of_any_size_and_path_is_written_and_read(old, length):
    growth = Growth(old, (HASH,) * length, NOTE)
    assert parse_growth(encode_growth(growth)) == growth


@pytest.mark.parametrize(
    ("old", "path", "words"),
    [
        (-1, (), "an old size lies between"),
        (MAX + 1, (), "an old size lies between"),
        (1, (HASH,) * 64, "a path has at most 63 hashes"),
        (1, (HASH, HASH[:-1]), "hashes of 32 bytes"),
        (1, (HASH + b"h", HASH), "hashes of 32 bytes"),
    ],
)
def test_there_is_no_growth_beyond_these_bounds(old, path, words):
    with pytest.raises(MalformedProof, match=words):
        Growth(old, path, NOTE)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "begins with its old size"),
        (b"new 1\n\n" + NOTE, "begins with its old size"),
        (b"old 1\n" + LINE, "an empty line stands before the checkpoint"),
        (b"old \n\n" + NOTE, "the old size is not in its one spelling"),
        (b"old 01\n\n" + NOTE, "the old size is not in its one spelling"),
        (b"old 1 \n\n" + NOTE, "the old size is not in its one spelling"),
        (b"old old 1\n\n" + NOTE, "the old size is not in its one spelling"),
        (b"old 1\n" + LINE * 64 + b"\n" + NOTE, "."),
        (b"old 1\n" + LINE * 70 + b"\n" + NOTE, "."),
        (b"old 1\n" + LINE[:-2] + b"\n\n" + NOTE, "."),
        (b"old 1\n" + LINE + b" \n\n" + NOTE, "."),
        (b"old 1\n\n" + LINE + b"\n" + NOTE, "."),
    ],
)
def test_what_is_no_growth_in_its_one_spelling_is_refused(data, words):
    with pytest.raises((MalformedProof, MalformedNote, MalformedCheckpoint), match=words):
        parse_growth(data)


def test_a_body_is_bounded_before_it_is_read():
    for size, words in ((MAX_PROOF + 1, "a body of at most 96 KiB"), (MAX_PROOF, "an empty line stands before the checkpoint")):
        with pytest.raises(MalformedProof, match=words):
            parse_growth(b"old ".ljust(size, b"x"))


# --- cosignatures


PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = PRIVATE.public_key().public_bytes_raw()
WITNESS = cosigner_vkey("w.example", PUBLIC)
TEXT = b"a text\n"


def cosigned(at: int) -> NoteSignature:
    return encode_cosignature(WITNESS, at, PRIVATE.sign(cosigned_message(TEXT, at)))


@pytest.mark.parametrize("at", [1, 1_700_000_000, MAX])
def test_a_cosignature_says_its_time(at):
    assert cosigned_message(TEXT, at) == b"cosignature/v1\ntime %d\n" % at + TEXT
    assert verify_cosignature(WITNESS, TEXT, cosigned(at)) == at


@pytest.mark.parametrize("at", [0, -1, MAX + 1])
def test_a_time_is_positive_and_no_longer_than_its_eight_bytes(at):
    with pytest.raises(MalformedNote, match="time is positive"):
        cosigned_message(TEXT, at)
    with pytest.raises(MalformedNote, match="time is positive"):
        encode_cosignature(WITNESS, at, b"s" * 64)


def test_what_is_cosigned_ends_in_a_newline():
    with pytest.raises(MalformedNote, match="ends in a newline"):
        cosigned_message(TEXT[:-1], 1)


@pytest.mark.parametrize(("key", "size"), [(WITNESS, 63), (WITNESS, 65), (ed25519_vkey("w.example", PUBLIC), 64)])
def test_a_cosignature_has_64_bytes_by_a_cosigners_key(key, size):
    with pytest.raises(MalformedNote, match="64 bytes and a key of type 4"):
        encode_cosignature(key, 1, b"s" * size)


def test_a_line_is_a_cosignature_of_that_key_with_a_time_and_64_bytes():
    good = cosigned(7)
    log, other = ed25519_vkey("w.example", PUBLIC), cosigner_vkey("v.example", PUBLIC)
    for key, line in ((log, good), (log, NoteSignature(log.name, log.key_id, good.blob)), (other, good)):
        with pytest.raises(BadNoteSignature, match="not a cosignature of"):
            verify_cosignature(key, TEXT, line)
    for blob in (good.blob[:-1], good.blob + b"x", bytes(8) + good.blob[8:], b"\x80" + bytes(7) + good.blob[8:]):
        with pytest.raises(BadNoteSignature, match="is not a time and 64 bytes"):
            verify_cosignature(WITNESS, TEXT, NoteSignature(good.name, good.key_id, blob))
    for text, blob in ((TEXT + b"\n", good.blob), (TEXT, (8).to_bytes(8) + good.blob[8:]), (TEXT, good.blob[:-1] + bytes([good.blob[-1] ^ 1]))):
        with pytest.raises(BadNoteSignature):
            verify_cosignature(WITNESS, text, NoteSignature(good.name, good.key_id, blob))
