"""Names, keys, signature lines and notes at their bounds, each refused for its reason."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.tlog.errors import BadNoteSignature, MalformedNote, MalformedVerifierKey
from gatekeeper.tlog.note import MAX_NOTE, MAX_SIGNATURES, Note, encode_note, parse_note, verify_note, verify_signature
from gatekeeper.tlog.signature import (
    MAX_BLOB,
    MAX_VKEY,
    NoteSignature,
    VerifierKey,
    cosigner_vkey,
    ed25519_vkey,
    encode_vkey,
    is_key_name,
    key_id,
    parse_signature_lines,
    parse_vkey,
    signature_line,
)

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = PRIVATE.public_key().public_bytes_raw()
KEY = ed25519_vkey("log.example", PUBLIC)
DASH = "\u2014".encode()


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


@pytest.mark.parametrize("name", ["x", "x" * 200, "\u00e4" * 100, "log.example/2026", "a-b_c:d", "\x7f"])
def test_a_key_name(name):
    assert is_key_name(name)
    assert parse_vkey(encode_vkey(ed25519_vkey(name, PUBLIC))).name == name if name.isprintable() else True


@pytest.mark.parametrize("name", ["", "x" * 201, "\u00e4" * 101, "a b", "a+b", "a\nb", "a\x00b", "a\u00a0b", "a\x1cb", "\ud800"])
def test_what_is_no_key_name(name):
    assert not is_key_name(name)
    with pytest.raises(MalformedVerifierKey, match="a key name has"):
        ed25519_vkey(name, PUBLIC)
    with pytest.raises(MalformedVerifierKey, match="a key name has"):
        VerifierKey(name, b"abcd", 1, PUBLIC)
    with pytest.raises(MalformedNote, match="a signature has a key name"):
        NoteSignature(name, b"abcd", b"x")


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 255])
def test_there_are_keys_of_two_types(kind):
    with pytest.raises(MalformedVerifierKey, match="of type 1 or 4"):
        VerifierKey("x", key_id("x", kind, PUBLIC), kind, PUBLIC)
    assert cosigner_vkey("x", PUBLIC).type == 4
    assert KEY.type == 1


@pytest.mark.parametrize("public", [b"", PUBLIC[:-1], PUBLIC + b"x"])
def test_a_key_has_32_bytes(public):
    with pytest.raises(MalformedVerifierKey, match="with 32 bytes"):
        ed25519_vkey("x", public)


def test_a_key_id_is_of_name_type_and_key():
    for other in (key_id("y", 1, PUBLIC), key_id("x", 4, PUBLIC), key_id("x", 1, bytes(32)), b"", key_id("x", 1, PUBLIC) + b"x"):
        with pytest.raises(MalformedVerifierKey, match="the key id is not that"):
            VerifierKey("x", other, 1, PUBLIC)


def test_a_bare_signature_is_64_bytes_over_exactly_this():
    signature = PRIVATE.sign(b"message")
    KEY.verify(b"message", signature)
    for message, blob in ((b"messagf", signature), (b"message", signature[:-1]), (b"message", signature + b"x"), (b"message", b""), (b"message", bytes(64))):
        with pytest.raises(BadNoteSignature, match=r"signature of log\.example does not verify"):
            KEY.verify(message, blob)


TEXT = encode_vkey(KEY)
HEX, BASE64 = TEXT.split("+", 2)[1:]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is <name>"),
        ("log.example", "is <name>"),
        (f"log.example+{HEX}", "is <name>"),
        (TEXT + "\n", "is <name>"),
        (f"log.example\x7f+{HEX}+{BASE64}", "is <name>"),
        (f"log.example+{HEX}+", "not base64"),
        (f"log.example+{HEX}+{BASE64[:-1]}", "not base64"),
        (f"log.example+{HEX}+?", "not base64"),
        (f"log.example+{HEX.upper()}+{BASE64}", "the key id is not that"),
        (f"log.example+{'0' * 8}+{BASE64}", "the key id is not that"),
        (f"log.example++{BASE64}", "the key id is not that"),
        (f"+{HEX}+{BASE64}", "a key name has"),
        (f"log example+{HEX}+{BASE64}", "a key name has"),
        ("x" * (MAX_VKEY + 1), "at most 512 characters"),
        ("x" * MAX_VKEY, "is <name>"),
    ],
)
def test_what_is_no_verifier_key(text, words):
    with pytest.raises(MalformedVerifierKey, match=words):
        parse_vkey(text)


# --- lines


@pytest.mark.parametrize(("identity", "size"), [(b"abcd", 1), (b"abcd", MAX_BLOB - 4)])
def test_a_line_is_written_and_read(identity, size):
    line = NoteSignature("x", identity, b"b" * size)
    assert parse_signature_lines(line.line()) == (line,)
    assert line.line() == DASH + b" x " + b64(identity + b"b" * size) + b"\n"


@pytest.mark.parametrize(("identity", "blob"), [(b"abc", b"x"), (b"abcde", b"x"), (b"abcd", b""), (b"abcd", b"b" * (MAX_BLOB - 3))])
def test_there_is_no_line_beyond_these_bounds(identity, blob):
    with pytest.raises(MalformedNote, match="a signature has a key name"):
        NoteSignature("x", identity, blob)


def test_a_line_is_by_the_key_of_its_name_and_id():
    line = NoteSignature(KEY.name, KEY.key_id, b"x")
    assert line.by(KEY)
    assert not NoteSignature("other", KEY.key_id, b"x").by(KEY)
    assert not NoteSignature(KEY.name, b"abcd", b"x").by(KEY)
    assert signature_line(KEY, b"x") == line.line()


GOOD = DASH + b" x " + b64(b"abcdblob")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "1 to 100 signature lines"),
        (GOOD, "1 to 100 signature lines"),
        (GOOD + b"\n" + GOOD, "1 to 100 signature lines"),
        ((GOOD + b"\n") * 101, "1 to 100 signature lines"),
        (b"\n", "a signature line is"),
        (GOOD + b"\n\n", "a signature line is"),
        (b"-" + GOOD[3:] + b"\n", "a signature line is"),
        (GOOD[3:] + b"\n", "a signature line is"),
        (GOOD + b" \n", "a signature line is"),
        (GOOD.replace(b" x", b"  x") + b"\n", "a signature line is"),
        (GOOD.replace(b" x ", b" ") + b"\n", "a signature line is"),
        (DASH + b" x " + b"A" * (2 * MAX_BLOB) + b"\n", "a signature line is"),
        (DASH + b" x " + b"A" * (2 * MAX_BLOB - 6) + b"\n", "a signature has a key name|not base64"),
        (GOOD[:-1] + b"\n", "not base64"),
        (DASH + b" x ?\n", "not base64"),
        (DASH + b" x " + b64(b"abcd") + b"\n", "a signature has a key name"),
        (DASH + b" \xff " + b64(b"abcdblob") + b"\n", "not UTF-8"),
        (DASH + b" a+b " + b64(b"abcdblob") + b"\n", "a signature has a key name"),
        (GOOD + b"\r\n", "not base64"),
    ],
)
def test_what_are_no_signature_lines(data, words):
    with pytest.raises(MalformedNote, match=words):
        parse_signature_lines(data)


def test_lines_are_counted_to_their_limit():
    assert len(parse_signature_lines((GOOD + b"\n") * 100)) == 100
    assert len(parse_signature_lines((GOOD + b"\n") * 3, limit=3)) == 3
    with pytest.raises(MalformedNote, match="1 to 2 signature lines"):
        parse_signature_lines((GOOD + b"\n") * 3, limit=2)


# --- notes


LINE = NoteSignature("x", b"abcd", b"blob")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty line between"),
        (b"text\n" + LINE.line(), "an empty line between"),
        (b"\xff\n\n" + LINE.line(), "a note is UTF-8"),
        (b"a\tb\n\n" + LINE.line(), "no other control character"),
        (b"a\x00b\n\n" + LINE.line(), "no other control character"),
        (b"a\x1fb\n\n" + LINE.line(), "no other control character"),
        (b"a\r\n\n" + LINE.line(), "no other control character"),
        (b"text\n\n", "1 to 100 signature lines"),
        (b"text\n\n" + LINE.line() * 101, "1 to 100 signature lines"),
        (b"x" * (MAX_NOTE + 1), "at most 64 KiB"),
        (b"x" * MAX_NOTE, "an empty line between"),
    ],
)
def test_what_is_no_note(data, words):
    with pytest.raises(MalformedNote, match=words):
        parse_note(data)


@pytest.mark.parametrize("text", [b"\n", b"text\n", b"two\n\nparts\n", b"\x7f\n", b"a b\n", "\u00e4\n".encode()])
def test_a_note_is_written_and_read(text):
    note = Note(text, (LINE,) * 1)
    assert parse_note(encode_note(note)) == note


@pytest.mark.parametrize(
    ("text", "lines", "words"),
    [
        (b"text", 1, "ends in a newline"),
        (b"", 1, "ends in a newline"),
        (b"text\n", 0, "1 to 100 signatures"),
        (b"text\n", MAX_SIGNATURES + 1, "1 to 100 signatures"),
        (b"x" * MAX_NOTE + b"\n", 1, "at most 64 KiB"),
    ],
)
def test_no_note_is_written_that_would_be_none(text, lines, words):
    with pytest.raises(MalformedNote, match=words):
        encode_note(Note(text, (LINE,) * lines))


def test_a_note_is_written_up_to_its_last_byte_and_signature():
    room = MAX_NOTE - len(LINE.line()) - 2
    assert len(encode_note(Note(b"x" * room + b"\n", (LINE,)))) == MAX_NOTE
    with pytest.raises(MalformedNote, match="at most 64 KiB"):
        encode_note(Note(b"x" * (room + 1) + b"\n", (LINE,)))
    assert len(parse_note(encode_note(Note(b"x\n", (LINE,) * MAX_SIGNATURES))).signatures) == MAX_SIGNATURES


SIGNED = Note(b"text\n", (LINE, NoteSignature(KEY.name, KEY.key_id, PRIVATE.sign(b"text\n"))))
STRANGER = ed25519_vkey("other.example", PUBLIC)


def test_the_keys_that_signed_are_named_each_once():
    assert verify_note(SIGNED, [KEY]) == (KEY,)
    assert verify_note(SIGNED, [STRANGER, KEY]) == (KEY,)
    twice = SIGNED.with_signatures([*SIGNED.signatures, NoteSignature(KEY.name, KEY.key_id, PRIVATE.sign(b"text\n"))])
    assert twice == SIGNED
    for keys in ((), (STRANGER,)):
        with pytest.raises(BadNoteSignature, match="no known key signed the note"):
            verify_note(SIGNED, keys)


def test_a_bad_line_by_a_known_key_refuses_the_note_though_a_good_one_stands_beside_it():
    for blob in (bytes(64), SIGNED.signatures[1].blob[:-1], SIGNED.signatures[1].blob + b"x"):
        for lines in ((NoteSignature(KEY.name, KEY.key_id, blob), SIGNED.signatures[1]), (SIGNED.signatures[1], NoteSignature(KEY.name, KEY.key_id, blob))):
            with pytest.raises(BadNoteSignature):
                verify_note(Note(SIGNED.text, lines), [KEY])


def test_one_line_is_verified_in_the_way_of_its_keys_type():
    good = SIGNED.signatures[1]
    verify_signature(KEY, b"text\n", good)
    for key, line in ((STRANGER, good), (KEY, NoteSignature(KEY.name, b"abcd", good.blob)), (KEY, NoteSignature(KEY.name, KEY.key_id, good.blob + b"x"))):
        with pytest.raises(BadNoteSignature, match="not a signature of"):
            verify_signature(key, b"text\n", line)
    witness = cosigner_vkey(KEY.name, PUBLIC)
    with pytest.raises(BadNoteSignature, match="not a cosignature of"):
        verify_signature(witness, b"text\n", good)
