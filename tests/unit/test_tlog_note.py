"""Notes and verifier keys: the examples of Go's note package and of C2SP, then every way of being not quite a note."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.tlog.errors import BadNoteSignature, MalformedNote, MalformedVerifierKey
from gatekeeper.tlog.note import (
    Note,
    NoteSignature,
    VerifierKey,
    cosigner_vkey,
    ed25519_vkey,
    encode_note,
    encode_vkey,
    parse_note,
    parse_vkey,
    signature_line,
    verify_note,
)
from gatekeeper.tlog.spelling import parse_base64, parse_decimal

# The example of golang.org/x/mod/sumdb/note.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n".encode()
NOTE = TEXT + b"\n" + LINE
# The example of C2SP signed-note: its text has an empty line of its own.
QUASIMODO = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
).encode()


def test_the_go_example_verifies():
    note = parse_note(NOTE)
    assert note.text == TEXT
    assert verify_note(note, [parse_vkey(NEUMANN)]) == (parse_vkey(NEUMANN),)


def test_a_verifier_key_has_one_spelling():
    key = parse_vkey(NEUMANN)
    assert (key.name, key.key_id.hex(), key.type, len(key.public)) == ("PeterNeumann", "c74f20a3", 1, 32)
    assert encode_vkey(key) == NEUMANN


def test_the_same_key_as_cosigner_has_another_id():
    public = parse_vkey(NEUMANN).public
    assert cosigner_vkey("PeterNeumann", public).key_id != ed25519_vkey("PeterNeumann", public).key_id


def test_the_c2sp_example_splits_at_the_last_empty_line():
    note = parse_note(QUASIMODO)
    assert note.text.endswith("sole:\n\ned è subito sera.\n".encode())
    assert [s.name for s in note.signatures] == ["quasimodo.example/salvatore"]
    assert encode_note(note) == QUASIMODO


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "key id"),
        ("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "key id"),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq_LDE4izWy10TW", "base64"),
        ("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "key name"),
        ("PeterNeumann+c74f20a3", "<name>"),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "key name"),
        ("PeterNeumann+c74f20a3+", "base64"),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n", "<name>"),
        ("P" * 600, "512"),
    ],
)
def test_a_verifier_key_spelled_otherwise_is_refused(text, words):
    with pytest.raises(MalformedVerifierKey, match=words):
        parse_vkey(text)


@pytest.mark.parametrize("kind", [0, 2, 5, 6, 255])
def test_other_key_types_are_refused(kind):
    key = base64.b64encode(bytes((kind,)) + bytes(32)).decode()
    with pytest.raises(MalformedVerifierKey, match="type 1 or 4"):
        parse_vkey(f"name+00000000+{key}")


def test_a_key_of_31_bytes_is_refused():
    with pytest.raises(MalformedVerifierKey, match="32 bytes"):
        ed25519_vkey("name", bytes(31))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (TEXT + b"\n", "signature lines"),
        (TEXT + LINE, "empty line"),
        (NOTE[:-1], "newline"),
        (NOTE + b"\n", "signature lines"),
        (NOTE.replace(b"\n", b"\r\n"), "empty line"),
        (b"\r\n" + NOTE, "control character"),
        (b"\x00" + NOTE, "control character"),
        (b"\xff" + NOTE, "UTF-8"),
        (b"\xef\xbb\xbf"[:2] + NOTE, "UTF-8"),
        (NOTE.replace(b"BwJnAM=", b"BwJnAN="), "base64"),  # bits that carry nothing
        (NOTE.replace(b"BwJnAM=", b"BwJnAM"), "base64"),
        (NOTE.replace(b"/ZJkuBS", b"_ZJkuBS"), "base64"),
        (NOTE.replace("— ".encode(), "—\t".encode()), "—"),
        (NOTE.replace("— ".encode(), b"- "), "—"),
        (NOTE.replace(b"PeterNeumann", b"Peter+Neumann"), "key name"),
        (NOTE.replace(b"PeterNeumann", "Peter\u00a0Neumann".encode()), "key name"),
        (NOTE.replace(b"PeterNeumann", "Peter\u2028Neumann".encode()), "key name"),
        (NOTE.replace(b"PeterNeumann", b""), "key name"),
        (NOTE.replace(b"PeterNeumann", b"Peter\xffNeumann"), "UTF-8"),
        (TEXT + b"\n" + "— PeterNeumann x08gow==\n".encode(), "key id"),
        (TEXT + b"\n" + LINE * 101, "1 to 100"),
        (b"x" * 65536 + b"\n" + NOTE, "64 KiB"),
    ],
)
def test_what_is_not_quite_a_note_is_refused(data, words):
    with pytest.raises(MalformedNote, match=words):
        parse_note(data)


def test_a_line_separator_within_the_text_does_not_split_it():
    data = b"one\xe2\x80\xa8two\n\n" + LINE
    assert parse_note(data).text == "one\u2028two\n".encode()


def test_sixteen_signatures_and_more_are_accepted():
    assert len(parse_note(TEXT + b"\n" + LINE * 40).signatures) == 40


def test_lines_of_unknown_keys_are_ignored():
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    unknown = signature_line(ed25519_vkey("PeterNeumann", other), bytes(64))
    foreign = NoteSignature("mldsa.example", b"1234", bytes(2428)).line()
    note = parse_note(TEXT + b"\n" + unknown + foreign + LINE)
    assert verify_note(note, [parse_vkey(NEUMANN)])


def test_a_known_keys_bad_signature_refuses_the_whole_note():
    key = parse_vkey(NEUMANN)
    note = parse_note(NOTE + signature_line(key, bytes(64)))
    with pytest.raises(BadNoteSignature, match="PeterNeumann does not verify"):
        verify_note(note, [key])


def test_a_changed_text_is_refused():
    note = parse_note(NOTE.replace(b"answer", b"Answer"))
    with pytest.raises(BadNoteSignature, match="does not verify"):
        verify_note(note, [parse_vkey(NEUMANN)])


def test_no_known_key_and_no_keys_at_all_verify_nothing():
    for keys in ([], [ed25519_vkey("PeterNeumann", bytes(32))]):
        with pytest.raises(BadNoteSignature, match="no known key"):
            verify_note(parse_note(NOTE), keys)


def test_a_signature_of_another_length_is_bad_not_ignored():
    key = parse_vkey(NEUMANN)
    with pytest.raises(BadNoteSignature):
        verify_note(Note(TEXT, (NoteSignature(key.name, key.key_id, bytes(63)),)), [key])


def test_adding_a_line_that_is_there_changes_nothing():
    note = parse_note(NOTE)
    assert encode_note(note.with_signatures(note.signatures)) == NOTE


def test_a_key_cannot_be_made_with_another_keys_id():
    with pytest.raises(MalformedVerifierKey, match="key id"):
        VerifierKey("name", b"\0\0\0\0", 1, bytes(32))


def test_decimals_and_base64_have_one_spelling():
    assert [parse_decimal(text) for text in (b"0", b"10", b"9223372036854775807")] == [0, 10, 2**63 - 1]
    assert [parse_decimal(text) for text in (b"", b"00", b"01", b"+1", b"1 ", b"1\n", b"9223372036854775808")] == [None] * 7
    assert [parse_base64(text) for text in (b"", b"eA==", b"eHk=")] == [b"", b"x", b"xy"]
    assert [parse_base64(text) for text in (b"eB==", b"eA=", b"eA", b"eA==\n", b"e_==", b"eHl=", b"eA==eA==")] == [None] * 7
