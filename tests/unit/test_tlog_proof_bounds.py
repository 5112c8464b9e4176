"""A proof file's parts at their bounds: index, path, extra data, and everything in its one spelling."""

import base64

import pytest

from gatekeeper.tlog.errors import MalformedCheckpoint, MalformedNote, MalformedProof
from gatekeeper.tlog.proof import HEADER, MAX_EXTRA, MAX_PROOF, TlogProof, VerifiedInclusion, encode_proof, parse_hashes, parse_proof
from tests.fakes import log_directory

MAX = 2**63 - 1
HASH = b"h" * 32
LINE = base64.b64encode(HASH) + b"\n"
NOTE = log_directory.note(log_directory.entries(7))


@pytest.mark.parametrize("index", [0, 1, MAX])
@pytest.mark.parametrize("length", [0, 1, 63])
@pytest.mark.parametrize("extra", [None, b"x", b"x" * MAX_EXTRA])
def test_a_proof_is_written_and_read(index, length, extra):
    proof = TlogProof(index, (HASH,) * length, NOTE, extra)
    assert parse_proof(encode_proof(proof)) == proof


@pytest.mark.parametrize(
    ("index", "path", "extra", "words"),
    [
        (-1, (), None, "an index lies between"),
        (MAX + 1, (), None, "an index lies between"),
        (0, (HASH,) * 64, None, "a path has at most 63 hashes"),
        (0, (HASH[:-1],), None, "hashes of 32 bytes"),
        (0, (HASH, HASH + b"h"), None, "hashes of 32 bytes"),
        (0, (), b"", "extra data has 1 to 16384 bytes"),
        (0, (), b"x" * (MAX_EXTRA + 1), "extra data has 1 to 16384 bytes"),
    ],
)
def test_there_is_no_proof_beyond_these_bounds(index, path, extra, words):
    with pytest.raises(MalformedProof, match=words):
        TlogProof(index, path, NOTE, extra)


EXTRA = b"extra " + base64.b64encode(b"more") + b"\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"index 1\n" + LINE, "an empty line before its checkpoint"),
        (b"index \n\n" + NOTE, "the index is not in its one spelling"),
        (b"index 01\n\n" + NOTE, "the index is not in its one spelling"),
        (b"index -1\n\n" + NOTE, "the index is not in its one spelling"),
        (b"1\n\n" + NOTE, "the index is not in its one spelling"),
        (LINE + b"index 1\n\n" + NOTE, "the index is not in its one spelling"),
        (b"indexes 1\n\n" + NOTE, "the index is not in its one spelling"),
        (b"extra " + base64.b64encode(b"more") + b"\n\n" + NOTE, "the index is not in its one spelling"),
        (EXTRA + EXTRA + b"index 1\n\n" + NOTE, "the index is not in its one spelling"),
        (b"index 1\n" + EXTRA + b"\n" + NOTE, "a hash is not in its one spelling"),
        (b"extra ?\nindex 1\n\n" + NOTE, "the extra data is not base64"),
        (b"extra \nindex 1\n\n" + NOTE, "extra data has 1 to 16384 bytes"),
        (b"index 1\n" + LINE * 64 + b"\n" + NOTE, "a path has at most 63 hashes"),
        (b"index 1\n" + LINE * 70 + b"\n" + NOTE, "a path has at most 63 hashes"),
        (b"index 1\n" + LINE[:-2] + b"\n\n" + NOTE, "a hash is not in its one spelling"),
        (b"index 1\n\n" + LINE + b"\n" + NOTE, "."),
        (b"index 1\n\n", "."),
    ],
)
def test_what_is_no_proof_in_its_one_spelling_is_refused(body, words):
    with pytest.raises((MalformedProof, MalformedNote, MalformedCheckpoint), match=words):
        parse_proof(HEADER + body)


def test_extra_data_alone_in_its_head_is_no_index():
    with pytest.raises(MalformedProof, match="the index is not in its one spelling"):
        parse_proof(HEADER + b"extra 5\n\n" + NOTE)


def test_a_proof_begins_with_its_header_and_is_bounded_before_it_is_read():
    good = encode_proof(TlogProof(1, (), NOTE))
    for data in (b"", good[1:], b"x" + good, good.replace(b"@v1", b"@v2")):
        with pytest.raises(MalformedProof, match=r"not a c2sp\.org/tlog-proof@v1"):
            parse_proof(data)
    for size, words in ((MAX_PROOF + 1, "of at most 96 KiB"), (MAX_PROOF, "an empty line before its checkpoint")):
        with pytest.raises(MalformedProof, match=words):
            parse_proof(HEADER.ljust(size, b"x"))


def test_lines_of_hashes_are_counted_first():
    assert parse_hashes([LINE.strip()] * 63) == (HASH,) * 63
    with pytest.raises(MalformedProof, match="at most 63"):
        parse_hashes([b"?"] * 64)


def test_a_verified_inclusion_cannot_be_made():
    with pytest.raises(TypeError, match="only verify_proof"):
        VerifiedInclusion()


def test_a_verified_inclusion_does_not_change():
    verified = VerifiedInclusion.__new__(VerifiedInclusion)
    for name in ("index", "leaf", "checkpoint", "other"):
        with pytest.raises(AttributeError, match="verified inclusions do not change"):
            setattr(verified, name, 1)
        assert not hasattr(verified, name)
