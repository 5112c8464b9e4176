"""Merkle proofs at their bounds: the largest tree, hashes of other lengths, and paths that stop at somebody else's root."""

from functools import reduce

import pytest

from gatekeeper.tlog.errors import MalformedProof, ProofMismatch
from gatekeeper.tlog.merkle import CompactRange, leaf_hash, node_hash, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion

MAX = 2**63 - 1
A, B, C, D = (leaf_hash(bytes([n])) for n in range(4))
HASH = b"h" * 32


def test_a_compact_range_of_the_largest_tree():
    largest = CompactRange(MAX, (HASH,) * 63)
    assert CompactRange.parse(largest.encode()) == largest
    assert CompactRange.parse(CompactRange.empty().encode()) == CompactRange(0, ())


@pytest.mark.parametrize(
    ("size", "edge", "words"),
    [
        (-1, (HASH,), "one hash for every bit"),
        (MAX + 1, (HASH,), "one hash for every bit"),
        (1, (), "one hash for every bit"),
        (1, (HASH, HASH), "one hash for every bit"),
        (0, (HASH,), "one hash for every bit"),
        (2, (HASH, HASH), "one hash for every bit"),
        (1, (HASH[:-1],), "a hash has 32 bytes"),
        (3, (HASH, HASH + b"h"), "a hash has 32 bytes"),
    ],
)
def test_there_is_no_other_compact_range(size, edge, words):
    with pytest.raises(MalformedProof, match=words):
        CompactRange(size, edge)


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(9), (1).to_bytes(8) + HASH[:-1], (1).to_bytes(8) + HASH + b"h", (3).to_bytes(8) + HASH, (MAX + 1).to_bytes(8) + HASH])
def test_what_is_no_compact_range(data):
    if data == b"":
        assert CompactRange.parse(bytes(8)).size == 0
    with pytest.raises(MalformedProof, match="one hash for every bit"):
        CompactRange.parse(data)


PATH = tuple(leaf_hash(b"%d" % n) for n in range(63))
HIGH = reduce(node_hash, PATH, A)


def test_the_first_entry_of_the_largest_tree_is_proven_and_of_a_larger_one_not():
    verify_inclusion(A, 0, MAX, PATH, HIGH)
    verify_consistency(1, A, MAX, HIGH, PATH)
    with pytest.raises(ProofMismatch, match="not below the tree size"):
        verify_inclusion(A, 0, MAX + 1, PATH, HIGH)
    with pytest.raises(ProofMismatch, match="is 0 or above the new one"):
        verify_consistency(1, A, MAX + 1, HIGH, PATH)
    for proves in (lambda: verify_inclusion(A, 0, MAX, (*PATH, B), HIGH), lambda: verify_consistency(1, A, MAX, HIGH, (*PATH, B))):
        with pytest.raises(ProofMismatch, match="at most 63 hashes"):
            proves()


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (1, 1), (0, 0), (2, 1)])
def test_an_index_lies_below_the_size(index, size):
    with pytest.raises(ProofMismatch, match="not below the tree size"):
        verify_inclusion(A, index, size, (), A)
    with pytest.raises(ProofMismatch, match="not below the tree size"):
        prove_inclusion(index, size, lambda level, n: A)


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 1), (-1, 1), (2, 1)])
def test_an_old_size_is_neither_0_nor_above_the_new_one(old, new):
    with pytest.raises(ProofMismatch, match="is 0 or above the new one"):
        verify_consistency(old, A, new, A, ())
    if old:
        with pytest.raises(ProofMismatch, match="above the new one"):
            prove_consistency(old, new, lambda level, n: A)
    else:
        assert prove_consistency(old, new, lambda level, n: A) == ()


def test_hashes_of_other_lengths_prove_nothing_though_they_lead_to_the_root():
    with pytest.raises(ProofMismatch, match="a leaf hash has 32 bytes"):
        verify_inclusion(A[:-1], 0, 1, (), A[:-1])
    with pytest.raises(ProofMismatch, match="a path consists of hashes of 32 bytes"):
        verify_inclusion(A, 0, 2, (B + b"x",), node_hash(A, B + b"x"))
    with pytest.raises(ProofMismatch, match="a path consists of hashes of 32 bytes"):
        verify_consistency(1, A, 2, node_hash(A, B + b"x"), (B + b"x",))


def test_a_path_that_stops_below_the_top_is_too_short_though_somebody_signed_what_it_leads_to():
    with pytest.raises(ProofMismatch, match="the inclusion path is too short"):
        verify_inclusion(A, 0, 2, (), A)
    with pytest.raises(ProofMismatch, match="the inclusion path is too short"):
        verify_inclusion(A, 0, 4, (B,), node_hash(A, B))
    with pytest.raises(ProofMismatch, match="the consistency path is too short"):
        verify_consistency(1, A, 4, node_hash(A, B), (B,))
    with pytest.raises(ProofMismatch, match="the consistency path is too short"):
        verify_consistency(1, A, 2, A, ())
    with pytest.raises(ProofMismatch, match="the consistency path is too short"):
        verify_consistency(3, node_hash(node_hash(A, B), C), 4, A, ())


def test_equal_sizes_need_one_root_and_no_path():
    verify_consistency(2, node_hash(A, B), 2, node_hash(A, B), ())
    with pytest.raises(ProofMismatch, match="two roots of one size differ"):
        verify_consistency(2, node_hash(A, B), 2, node_hash(B, A), ())
    with pytest.raises(ProofMismatch, match="equal sizes need no consistency path"):
        verify_consistency(2, node_hash(A, B), 2, node_hash(A, B), (C,))


def test_a_path_leads_to_both_roots():
    old, new = node_hash(A, B), node_hash(node_hash(A, B), C)
    verify_consistency(2, old, 3, new, (C,))
    three = node_hash(node_hash(A, B), C)
    four = node_hash(node_hash(A, B), node_hash(C, D))
    verify_consistency(3, three, 4, four, (C, D, node_hash(A, B)))
    for one, other in ((three, four[::-1]), (three[::-1], four)):
        with pytest.raises(ProofMismatch, match="leads to other roots"):
            verify_consistency(3, one, 4, other, (C, D, node_hash(A, B)))
    with pytest.raises(ProofMismatch, match="leads to another root"):
        verify_inclusion(A, 0, 2, (B,), node_hash(B, A))
