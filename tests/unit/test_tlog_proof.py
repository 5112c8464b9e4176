"""Checkpoints, cosignatures, policies and proofs: what is refused, and why."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.tlog.checkpoint import Checkpoint, VerifiedCheckpoint, encode_checkpoint, open_checkpoint, parse_checkpoint
from gatekeeper.tlog.consistency import Growth, encode_growth, parse_growth, verify_growth
from gatekeeper.tlog.cosignature import cosigned_message, encode_cosignature, verify_cosignature
from gatekeeper.tlog.errors import (
    BadNoteSignature,
    MalformedCheckpoint,
    MalformedNote,
    MalformedPolicy,
    MalformedProof,
    ProofMismatch,
    QuorumNotMet,
    UnknownLog,
)
from gatekeeper.tlog.logpolicy import LogPolicy, encode_log_policy, open_cosigned, parse_log_policy
from gatekeeper.tlog.merkle import (
    EMPTY_ROOT,
    CompactRange,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from gatekeeper.tlog.note import Note, NoteSignature, cosigner_vkey, ed25519_vkey, encode_note, encode_vkey, parse_note
from gatekeeper.tlog.proof import TlogProof, VerifiedInclusion, encode_proof, parse_proof, verify_proof
from gatekeeper.tlog.tile import TileEdge, node_from_tile

ORIGIN = "production.example/log/2026"


def private(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes((seed,)) * 32)


def public(seed: int) -> bytes:
    return private(seed).public_key().public_bytes_raw()


LOG = ed25519_vkey(ORIGIN, public(1))
W = {name: cosigner_vkey(f"{name}.witness.example", public(seed)) for seed, name in enumerate(("x1", "x2", "x3", "y1"), 2)}
SEED = {name: seed for seed, name in enumerate(W, 2)}
ENTRIES = [b"entry %d" % n for n in range(7)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
TILE = TileEdge().extend(LEAVES)[0].partial[0]


def node(level, n):
    return node_from_tile(TILE, level, n)


def signed(size: int, *, origin: str = ORIGIN, seed: int = 1, cosigners=()) -> bytes:
    text = encode_checkpoint(Checkpoint(origin, size, CompactRange.empty().extend(LEAVES[:size]).root()))
    key = ed25519_vkey(origin, public(seed))
    note = Note(text, (NoteSignature(key.name, key.key_id, private(seed).sign(text)),))
    marks = (encode_cosignature(W[name], 1_700_000_000, private(SEED[name]).sign(cosigned_message(text, 1_700_000_000))) for name in cosigners)
    return encode_note(note.with_signatures(marks))


def test_the_empty_checkpoint():
    text = b"production.example/log/2026\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert parse_checkpoint(text) == Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert encode_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT)) == text


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"o\n01\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n1_0\n{ROOT}\n",
        f"o\n\u0661\n{ROOT}\n",
        f"o\n9223372036854775808\n{ROOT}\n",
        f"o\n99999999999999999999999\n{ROOT}\n",
        f"o\n0\n{ROOT}\n",
        f"o\n1\n{ROOT}",
        f"o\n1\n{ROOT}\nextension\n",
        f"o\n1\n{ROOT}\n\n",
        f"\n1\n{ROOT}\n",
        f"two words\n1\n{ROOT}\n",
        f"a+b\n1\n{ROOT}\n",
        f"{'o' * 201}\n1\n{ROOT}\n",
        f"o\n1\n{ROOT[:-2]}B=\n",
        f"o\n1\n{base64.b64encode(bytes(31)).decode()}\n",
        f"o\r\n1\n{ROOT}\n",
        "",
    ],
)
def test_a_checkpoint_spelled_otherwise_is_refused(text):
    with pytest.raises(MalformedCheckpoint):
        parse_checkpoint(text.encode())


def test_opening_needs_the_log_key_and_its_origin():
    opened = open_checkpoint(signed(7), LOG)
    assert (opened.origin, opened.size, opened.note) == (ORIGIN, 7, signed(7))
    with pytest.raises(UnknownLog, match="did not sign"):
        open_checkpoint(signed(7), ed25519_vkey(ORIGIN, public(9)))
    with pytest.raises(UnknownLog, match="type 1"):
        open_checkpoint(signed(7), cosigner_vkey(ORIGIN, public(1)))
    with pytest.raises(BadNoteSignature):
        open_checkpoint(signed(7).replace(b"\n7\n", b"\n8\n"), LOG)
    other = ed25519_vkey("other.example/log", public(1))
    text = parse_note(signed(7)).text
    renamed = encode_note(Note(text, (NoteSignature(other.name, other.key_id, private(1).sign(text)),)))
    with pytest.raises(UnknownLog, match="another origin"):
        open_checkpoint(renamed, other)


def test_verified_values_have_no_other_door():
    for kind in (VerifiedCheckpoint, VerifiedInclusion):
        with pytest.raises(TypeError):
            kind()
    with pytest.raises(AttributeError):
        open_checkpoint(signed(7), LOG).note = b""


def test_the_cosigned_message():
    assert cosigned_message(b"o\n1\nroot\n", 1679315147) == b"cosignature/v1\ntime 1679315147\no\n1\nroot\n"
    for text, time in ((b"o", 1), (b"o\n", 0), (b"o\n", -1), (b"o\n", 2**63)):
        with pytest.raises(MalformedNote):
            cosigned_message(text, time)


def test_a_cosignature_is_by_its_key_over_its_time():
    text, key = parse_note(signed(7)).text, W["x1"]
    good = encode_cosignature(key, 5, private(2).sign(cosigned_message(text, 5)))
    assert verify_cosignature(key, text, good) == 5
    assert len(good.blob) == 72
    later = NoteSignature(good.name, good.key_id, (6).to_bytes(8, "big") + good.blob[8:])
    timeless = NoteSignature(good.name, good.key_id, bytes(8) + private(2).sign(b"cosignature/v1\ntime 0\n" + text))
    plain = NoteSignature(good.name, good.key_id, private(2).sign(text))
    for bad in (later, timeless, plain):
        with pytest.raises(BadNoteSignature):
            verify_cosignature(key, text, bad)
    with pytest.raises(BadNoteSignature, match="not a cosignature"):
        verify_cosignature(W["x2"], text, good)
    with pytest.raises(MalformedNote, match="type 4"):
        encode_cosignature(LOG, 5, bytes(64))


EXAMPLE = "\n".join(
    [
        "# the example of C2SP tlog-policy, with tabs",
        f"log {encode_vkey(LOG)} https://production.example/log/2026",
        "",
        *(f"  witness\t{name.upper()} {encode_vkey(key)}" for name, key in W.items()),
        "group X-witnesses 2 X1 X2 X3",
        "group Y-witnesses any Y1",
        "group X-and-Y all X-witnesses Y-witnesses",
        "quorum X-and-Y",
        "",
    ]
)


def test_the_example_policy_and_its_quorum():
    policy = parse_log_policy(EXAMPLE.encode())
    assert [group.threshold for group in policy.groups] == [2, 1, 2]
    assert parse_log_policy(encode_log_policy(policy)) == policy
    assert policy.quorum_met(parse_note(signed(7, cosigners=("x1", "x3", "y1")))) == {"X1", "X3", "Y1"}
    for few in ((), ("x1", "x2", "x3"), ("x1", "y1")):
        with pytest.raises(QuorumNotMet, match="X-and-Y"):
            open_cosigned(signed(7, cosigners=few), policy)


def test_the_same_witness_twice_counts_once():
    note = parse_note(signed(7, cosigners=("x1", "y1")))
    again = encode_cosignature(W["x1"], 9, private(2).sign(cosigned_message(note.text, 9)))
    with pytest.raises(QuorumNotMet):
        parse_log_policy(EXAMPLE.encode()).quorum_met(note.with_signatures([again]))


def test_a_bad_cosignature_refuses_the_checkpoint_even_without_need():
    note = parse_note(signed(7))
    bad = encode_cosignature(W["x1"], 9, bytes(64))
    policy = parse_log_policy(EXAMPLE.replace("quorum X-and-Y", "quorum none").encode())
    assert open_cosigned(signed(7), policy).size == 7
    with pytest.raises(BadNoteSignature, match="x1"):
        open_cosigned(encode_note(note.with_signatures([bad])), policy)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("quorum X-and-Y", "", "one quorum line"),
        ("quorum X-and-Y", "quorum X-and-Y\nquorum none", "second quorum"),
        ("quorum X-and-Y", "quorum Z", "line 11: a name is used before"),
        (f"log {encode_vkey(LOG)}", f"# {encode_vkey(LOG)}", "one log line"),
        (f"log {encode_vkey(LOG)}", f"log {encode_vkey(W['x1'])}", "type 1"),
        ("", f"log {encode_vkey(LOG)}\n", "second log"),
        ("group X-witnesses 2", "group X-witnesses 4", "threshold"),
        ("group X-witnesses 2", "group X-witnesses 0", "threshold"),
        ("group X-witnesses 2", "group X-witnesses 02", "threshold"),
        ("group X-witnesses 2", "group none 2", "taken"),
        ("group X-witnesses 2", "group X1 2", "taken"),
        ("group Y-witnesses any Y1", "group Y-witnesses any Y1 X1", "two groups"),
        ("group Y-witnesses any Y1", "group Y-witnesses any Y1 Y1", "two groups"),
        ("group Y-witnesses any Y1", "group Y-witnesses any", "not a log, witness"),
        ("group Y-witnesses any Y1", "group Y-witnesses any none", "before it is defined"),
        ("group X-and-Y all", "group X-and-Y all X-and-Y", "before it is defined"),
        (encode_vkey(W["x2"]), encode_vkey(W["x1"]), "one key"),
        (encode_vkey(W["x2"]), encode_vkey(LOG), "type 4"),
        (encode_vkey(W["x2"]), encode_vkey(cosigner_vkey("w", public(1))), "never cosigns"),
        (encode_vkey(W["x2"]), "x+00000000+AA==", "line 5"),
        ("# the", "\x0b# the", "control"),
        ("quorum X-and-Y\n", "quorum X-and-Y", "newline"),
        ("quorum X-and-Y", "quorum X-and-Y X1", "not a log, witness"),
        ("quorum", "Quorum", "not a log, witness"),
    ],
)
def test_a_policy_with_a_fault_is_refused(old, new, words):
    with pytest.raises(MalformedPolicy, match=words):
        parse_log_policy(EXAMPLE.replace(old, new, 1).encode())


def test_an_empty_policy_is_no_policy():
    with pytest.raises(MalformedPolicy):
        parse_log_policy(b"")


def proof(index: int = 3, size: int = 7, **changes) -> TlogProof:
    return TlogProof(**({"index": index, "path": prove_inclusion(index, size, node), "checkpoint": signed(size)} | changes))


def test_a_proof_proves_its_entry_and_no_other():
    verified = verify_proof(proof(), ENTRIES[3], LogPolicy(LOG))
    assert (verified.index, verified.leaf, verified.checkpoint.size) == (3, LEAVES[3], 7)
    for wrong, entry in ((proof(), ENTRIES[2]), (proof(2), ENTRIES[3]), (proof(path=()), ENTRIES[3]), (TlogProof(7, (), signed(7)), ENTRIES[3])):
        with pytest.raises(ProofMismatch):
            verify_proof(wrong, entry, LogPolicy(LOG))
    with pytest.raises(UnknownLog):
        verify_proof(proof(), ENTRIES[3], LogPolicy(ed25519_vkey(ORIGIN, public(9))))
    with pytest.raises(QuorumNotMet):
        verify_proof(proof(), ENTRIES[3], parse_log_policy(EXAMPLE.encode()))


def test_a_proof_file_has_one_spelling():
    data = encode_proof(proof(extra=b"x"))
    assert data.startswith(b"c2sp.org/tlog-proof@v1\nextra eA==\nindex 3\n")
    assert parse_proof(data) == proof(extra=b"x")
    for old, new in [
        (b"@v1", b"@v2"),
        (b"index 3", b"index 03"),
        (b"index 3\n", b""),
        (b"extra eA==", b"extra eB=="),
        (b"extra eA==", b"extra "),
        (b"extra eA==\nindex 3", b"index 3\nextra eA=="),
        (b"extra eA==\n", b"extra eA==\nextra eA==\n"),
        (b"index 3\n", b"index 3\n\n"),
        (b"index 3\n", b"index 3\n" + b"A" * 43 + b"=\n" * 1 + (b"A" * 43 + b"=\n") * 63),
        (b"index 3\n", b"index 3\r\n"),
        (b"\n\nproduction", b"\nproduction"),
    ]:
        assert old in data
        with pytest.raises((MalformedProof, MalformedNote, MalformedCheckpoint)):
            parse_proof(data.replace(old, new, 1))
    with pytest.raises(MalformedProof, match="96 KiB"):
        parse_proof(data + b"x" * 100_000)


def growth(old: int, new: int = 7) -> Growth:
    return Growth(old, prove_consistency(old, new, node), signed(new))


def known(size: int) -> Checkpoint:
    return open_checkpoint(signed(size), LOG).checkpoint


def test_growth_from_every_size_verifies():
    for old in range(1, 8):
        grown = parse_growth(encode_growth(growth(old)))
        assert grown == growth(old)
        verify_growth(known(old), grown, open_checkpoint(grown.checkpoint, LOG))
    verify_growth(None, growth(0), open_checkpoint(signed(7), LOG))
    verify_growth(known(0), growth(0), open_checkpoint(signed(7), LOG))


def test_growth_that_does_not_follow_is_refused():
    new = open_checkpoint(signed(7), LOG)
    other = Checkpoint("other.example/log", 3, known(3).root)
    forked = Checkpoint(ORIGIN, 3, bytes(32))
    hash_too_many = Growth(0, (bytes(32),), signed(7))
    for memory, grown, words in [
        (known(3), growth(4), "size that is known"),
        (None, growth(3), "size that is known"),
        (other, growth(3), "two origins"),
        (forked, growth(3), "other roots"),
        (None, hash_too_many, "empty tree"),
        (known(0), hash_too_many, "empty tree"),
        (known(3), growth(3, 6), "not the one that came"),
        (Checkpoint(ORIGIN, 7, bytes(32)), growth(7), "differ"),
    ]:
        with pytest.raises(ProofMismatch, match=words):
            verify_growth(memory, grown, new)
    with pytest.raises(ProofMismatch, match="above the new one"):
        verify_growth(known(7), Growth(7, (), signed(3)), open_checkpoint(signed(3), LOG))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"old 3", b"old 03"), (b"old 3", b"old -3"), (b"old 3", b"Old 3"), (b"\n\n", b"\n"), (b"old 3\n", b"old 3\n\n")],
)
def test_a_growth_body_has_one_spelling(old, new):
    with pytest.raises((MalformedProof, MalformedNote, MalformedCheckpoint)):
        parse_growth(encode_growth(growth(3)).replace(old, new, 1))


def test_a_path_higher_than_the_tree_is_refused_even_where_its_hashes_fit():
    # A signer could put the root of a higher tree under a smaller size; the sizes must bind the height.
    a, b, c = LEAVES[:3]
    for root, path in ((node_hash(b, a), (b,)), (node_hash(a, b), (b,))):
        with pytest.raises(ProofMismatch, match="too long"):
            verify_inclusion(a, 0, 1, path, root)
    with pytest.raises(ProofMismatch, match="too long"):
        verify_consistency(1, node_hash(c, a), 2, node_hash(c, node_hash(a, b)), (b, c))
