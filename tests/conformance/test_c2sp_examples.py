"""The examples printed in the C2SP specifications. Their keys are not published: what can be checked is their form, their key and their time."""

import base64

import pytest

from gatekeeper.tlog.checkpoint import encode_checkpoint, parse_checkpoint
from gatekeeper.tlog.consistency import encode_growth, parse_growth
from gatekeeper.tlog.cosignature import BLOB_BYTES, cosigned_message
from gatekeeper.tlog.errors import MalformedNote, MalformedProof
from gatekeeper.tlog.note import encode_note, parse_note
from gatekeeper.tlog.signature import key_id, parse_signature_lines, parse_vkey

# tlog-checkpoint and tlog-cosignature
SOFA = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
BY_LOG = "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
BY_WITNESS = (
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
MESSAGE = "cosignature/v1\ntime 1679315147\n" + SOFA
# tlog-witness: a request, and the lines of an answer
REQUEST = (
    "old 20852014\n"
    "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
    "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
    "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n"
    "/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n"
    "\n"
    + SOFA
    + "\n"
    + BY_LOG
    + "— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n"
).encode()
ANSWER = (
    "— witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw==\n"
    "— witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64vWhO+DlkL0+UfzuOBMh9ChdMkP1vi/lCAsmlw==\n"
    "— witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7nC3HNJhm/kWl7oJlqU3rXXvpysAdyP3wQ==\n"
).encode()


def test_the_checkpoint_example_is_read_and_written():
    note = parse_note((SOFA + "\n" + BY_LOG).encode())
    checkpoint = parse_checkpoint(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert encode_checkpoint(checkpoint) == SOFA.encode()
    assert [(line.name, line.key_id.hex(), len(line.blob)) for line in note.signatures] == [("example.com/behind-the-sofa", "033de0ae", 64)]


def test_the_cosignature_example_has_its_time_and_signs_its_message():
    note = parse_note((SOFA + "\n" + BY_LOG + BY_WITNESS).encode())
    assert encode_note(note) == (SOFA + "\n" + BY_LOG + BY_WITNESS).encode()
    line = note.signatures[1]
    assert (line.name, line.key_id.hex(), len(line.blob)) == ("witness.example.com/w1", "8d66cf3f", BLOB_BYTES)
    assert int.from_bytes(line.blob[:8], "big") == 1679315147
    assert cosigned_message(note.text, 1679315147) == MESSAGE.encode()


def test_the_witness_request_example_is_read_and_written():
    growth = parse_growth(REQUEST)
    assert (growth.old, len(growth.path), len(parse_note(growth.checkpoint).signatures)) == (20852014, 4, 2)
    assert encode_growth(growth) == REQUEST
    for wrong, error in [
        (REQUEST.replace(b"old 2", b"old 02", 1), MalformedProof),
        (REQUEST.replace(b"kaw=", b"kax=", 1), MalformedProof),
        (REQUEST.replace(b"\n\nexample", b"\n\n\nexample", 1), ValueError),
        (REQUEST.removesuffix(b"\n"), MalformedNote),
    ]:
        with pytest.raises(error):
            parse_growth(wrong)


def test_the_witness_answer_example_is_three_cosignatures():
    lines = parse_signature_lines(ANSWER)
    assert [line.name for line in lines] == ["witness.example/w1", "witness.example/w1", "witness.example/w2"]
    assert {len(line.blob) for line in lines} == {BLOB_BYTES}
    assert b"".join(line.line() for line in lines) == ANSWER


def test_the_key_id_of_a_vkey_is_that_of_its_name_type_and_key():
    """signed-note: SHA-256(name || 0x0A || type || key)[:4]. Two vkeys that other programs publish: Go's example and tessera's test log."""
    for text in (
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx",
    ):
        key = parse_vkey(text)
        assert key_id(key.name, 1, key.public) == key.key_id == bytes.fromhex(text.split("+")[1])
        assert base64.b64decode(text.split("+", 2)[2]) == b"\x01" + key.public
