"""golang.org/x/mod and transparency-dev/formats on our notes, proofs, cosignatures and policy files, and ours on theirs."""

from __future__ import annotations

import base64
import itertools
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint, open_checkpoint
from gatekeeper.tlog.cosignature import cosigned_message, encode_cosignature, verify_cosignature
from gatekeeper.tlog.errors import BadNoteSignature, MalformedNote, ProofMismatch, QuorumNotMet, UnknownLog
from gatekeeper.tlog.logpolicy import Group, LogPolicy, Witness, encode_log_policy, open_cosigned
from gatekeeper.tlog.merkle import CompactRange, leaf_hash, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion
from gatekeeper.tlog.note import Note, encode_note, parse_note, verify_note
from gatekeeper.tlog.proof import TlogProof, encode_proof, parse_proof, verify_proof
from gatekeeper.tlog.signature import NoteSignature, cosigner_vkey, ed25519_vkey, encode_vkey, is_key_name, parse_vkey
from tests.fakes import log_directory
from tests.fakes.log_directory import KEY, ORIGIN, VKEY
from tests.fakes.log_peers import PeerRefused, ask_notes

pytestmark = pytest.mark.peer
TIME = 1_795_255_445


class Cosigner:
    """A key of ours that cosigns, as a doorkeeper's or a witness's does."""

    def __init__(self, name, seed):
        self.key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.vkey = cosigner_vkey(name, self.key.public_key().public_bytes_raw())

    def line(self, text, at=TIME):
        return encode_cosignature(self.vkey, at, self.key.sign(cosigned_message(text, at)))


WITNESSES = [Cosigner(f"witness-{n}.example", n) for n in (1, 2, 3)]
LOG = log_directory.entries(7)
NOTE = log_directory.note(LOG)
TEXT = parse_note(NOTE).text


def root_of(log):
    return CompactRange.empty().extend([leaf_hash(entry) for entry in log]).root()


def nodes(log):
    """The hash of each complete subtree, as the paths of proofs are made from."""
    return lambda level, n: root_of(log[n << level : (n + 1) << level])


def signed(*keys, text=TEXT):
    """A note with a line by each of these (verifier key, private key)."""
    return encode_note(Note(text, tuple(NoteSignature(vkey.name, vkey.key_id, key.sign(text)) for vkey, key in keys)))


def cosigned(*cosigners, at=TIME):
    return encode_note(parse_note(NOTE).with_signatures(one.line(TEXT, at) for one in cosigners))


def names(lines):
    return [line["name"] for line in lines]


def test_xmod_opens_our_notes_by_one_key_and_by_two():
    new = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    second = ed25519_vkey(ORIGIN, new.public_key().public_bytes_raw())
    found = ask_notes("open", Keys=[encode_vkey(VKEY)], Note=NOTE)
    assert (base64.b64decode(found["text"]), names(found["signed"]), found["unknown"]) == (TEXT, [ORIGIN], [])
    # As while the log's key rotates: two lines under one name, by the old key and the new one.
    both = signed((VKEY, KEY), (second, new))
    for keys, verified, unknown in (([VKEY, second], 2, 0), ([VKEY], 1, 1), ([second], 1, 1)):
        found = ask_notes("open", Keys=[encode_vkey(key) for key in keys], Note=both)
        assert (names(found["signed"]), names(found["unknown"])) == ([ORIGIN] * verified, [ORIGIN] * unknown)
    assert names(ask_notes("open", Keys=[encode_vkey(VKEY)], Note=cosigned(*WITNESSES))["unknown"]) == [one.vkey.name for one in WITNESSES]


def test_what_xmod_refuses_of_a_note_we_refuse_too():
    flipped = bytearray(NOTE)
    flipped[len(ORIGIN) + 1] ^= 1
    line = NOTE[len(TEXT) + 1 :]
    for data, theirs, ours in (
        (bytes(flipped), "invalid signature for key", BadNoteSignature),
        (NOTE.replace(line, line[:-9] + b"AAAAAAA=\n"), "invalid signature for key", BadNoteSignature),
        (NOTE[:-1], "malformed note", MalformedNote),
        (TEXT, "malformed note", MalformedNote),
        (TEXT + line, "malformed note", MalformedNote),
        (NOTE + b"\n", "malformed note", MalformedNote),
        (NOTE.replace(b"\n", b"\r\n"), "malformed note", MalformedNote),
        (NOTE.replace(b"production", b"produc\xfftion", 1), "malformed note", MalformedNote),
        (NOTE.replace(b"production", b"produc\ttion", 1), "malformed note", MalformedNote),
        (TEXT + b"\n" + line.replace("—".encode(), b"-"), "malformed note", MalformedNote),
        (TEXT + b"\n" + line.replace(b"=\n", b"\n"), "malformed note", MalformedNote),
    ):
        with pytest.raises(PeerRefused, match=theirs):
            ask_notes("open", Keys=[encode_vkey(VKEY)], Note=data)
        with pytest.raises(ours):
            verify_note(parse_note(data), (VKEY,))
    stranger = ask_notes("key", Name=ORIGIN)["public"]
    with pytest.raises(PeerRefused, match="note has no verifiable signatures"):
        ask_notes("open", Keys=[stranger], Note=NOTE)
    with pytest.raises(UnknownLog, match="did not sign"):
        open_checkpoint(NOTE, parse_vkey(stranger))


def test_ours_opens_what_xmod_wrote():
    keys = [ask_notes("key", Name=name) for name in ("log.example/log/2026", "zweiter-schlüssel.example")]
    verifiers = [parse_vkey(key["public"]) for key in keys]
    assert [encode_vkey(key) for key in verifiers] == [key["public"] for key in keys]
    text = "log.example/log/2026\n\nthis text has empty lines,\n\nand a sign: ✓\n".encode()
    note = base64.b64decode(ask_notes("sign", Signers=[key["private"] for key in keys], Text=text)["note"])
    parsed = parse_note(note)
    assert (parsed.text, encode_note(parsed)) == (text, note)
    assert verify_note(parsed, verifiers) == tuple(verifiers)
    checkpoint = Checkpoint("log.example/log/2026", 5, bytes(range(32)))
    note = base64.b64decode(ask_notes("sign", Signers=[keys[0]["private"]], Text=encode_checkpoint(checkpoint))["note"])
    assert open_checkpoint(note, verifiers[0]).checkpoint == checkpoint


@pytest.mark.parametrize("name", ["a", "log.example/log/2026", "ü.example", "", "a b", "a+b", "a\u00a0b", "a\u2028b", "a\tb", "a\nb"])
def test_a_key_may_have_the_name_that_xmod_lets_it_have(name):
    assert is_key_name(name) == _xmod_takes(name)


def _xmod_takes(name):
    try:
        ask_notes("key", Name=name)
    except PeerRefused as refused:
        if "malformed verifier id" not in str(refused):
            raise
        return False
    return True


SIZES = (1, 2, 3, 7, 8, 64, 70, 256, 257, 1000)


@pytest.mark.parametrize("size", SIZES)
def test_xmod_checks_our_inclusion_paths(size):
    log = [b"entry %d" % number for number in range(size)]
    tree, root = nodes(log), root_of(log)
    for index in sorted({0, 1, size // 2, size - 2, size - 1} & set(range(size))):
        path = prove_inclusion(index, size, tree)
        ask_notes("record", Path=path, Size=size, Root=root, Index=index, Entry=log[index])
        with pytest.raises(PeerRefused, match="invalid transparency proof"):
            ask_notes("record", Path=path, Size=size, Root=root, Index=index, Entry=b"another")
        with pytest.raises(ProofMismatch):
            verify_inclusion(leaf_hash(b"another"), index, size, path, root)


@pytest.mark.parametrize("size", SIZES[1:])
def test_xmod_checks_our_consistency_paths(size):
    log = [b"entry %d" % number for number in range(size)]
    tree, root = nodes(log), root_of(log)
    for old in sorted({1, 2, size // 2, size - 1, size} & set(range(1, size + 1))):
        path, old_root = prove_consistency(old, size, tree), root_of(log[:old])
        ask_notes("tree", Path=path, Size=size, Root=root, Old=old, OldRoot=old_root)
        forked = root_of([*log[: old - 1], b"another"])
        with pytest.raises(PeerRefused, match="invalid transparency proof"):
            ask_notes("tree", Path=path, Size=size, Root=root, Old=old, OldRoot=forked)
        with pytest.raises(ProofMismatch):
            verify_consistency(old, forked, size, root, path)


@pytest.mark.parametrize("extra", [None, b"\x00anything"])
def test_a_tlog_proof_of_ours_is_read_and_written_by_formats_and_checked_with_three_cosignatures(extra):
    path = parse_proof(log_directory.proof(LOG, 5)).path
    proof = encode_proof(TlogProof(5, path, cosigned(*WITNESSES), extra))
    asked = {"Keys": [encode_vkey(VKEY)], "Cosigners": [encode_vkey(one.vkey) for one in WITNESSES]}
    found = ask_notes("proof", Proof=proof, Entry=LOG[5], **asked)
    assert (found["index"], found["size"], base64.b64decode(found["again"])) == (5, 7, proof)
    assert verify_proof(parse_proof(proof), LOG[5], LogPolicy(VKEY)).index == 5
    with pytest.raises(PeerRefused, match="invalid transparency proof"):
        ask_notes("proof", Proof=proof, Entry=LOG[4], **asked)
    with pytest.raises(PeerRefused, match="missing required index"):
        ask_notes("proof", Proof=proof.replace(b"index 5\n", b""), Entry=LOG[5], **asked)


def test_formats_reads_our_cosignatures_and_their_time():
    found = ask_notes("checkpoint", Keys=[encode_vkey(VKEY)], Cosigners=[encode_vkey(one.vkey) for one in WITNESSES[:2]], Note=cosigned(*WITNESSES))
    assert (found["origin"], found["size"], base64.b64decode(found["root"])) == (ORIGIN, 7, root_of(LOG))
    assert found["signed"] == [{"name": ORIGIN}, *({"name": one.vkey.name, "time": TIME} for one in WITNESSES[:2])]
    assert names(found["unknown"]) == [WITNESSES[2].vkey.name]
    # A cosignature of another second than the one it says, under a known key, spoils the note there as here.
    line = WITNESSES[0].line(TEXT, TIME)
    later = NoteSignature(line.name, line.key_id, (TIME + 1).to_bytes(8, "big") + line.blob[8:])
    bad = encode_note(parse_note(NOTE).with_signatures([later]))
    with pytest.raises(PeerRefused, match="invalid signature for key"):
        ask_notes("checkpoint", Keys=[encode_vkey(VKEY)], Cosigners=[encode_vkey(WITNESSES[0].vkey)], Note=bad)
    with pytest.raises(BadNoteSignature):
        open_cosigned(bad, LogPolicy(VKEY, witnesses=(Witness("w", WITNESSES[0].vkey),)))


def test_ours_verifies_a_cosignature_that_formats_made():
    key = ask_notes("key", Name="foreign.example")
    vkey = parse_vkey(key["cosigner"])
    assert vkey == cosigner_vkey("foreign.example", parse_vkey(key["public"]).public)
    note = base64.b64decode(ask_notes("sign", Keys=[encode_vkey(VKEY)], Note=NOTE, Cosigners=[key["private"]])["note"])
    *_, line = parse_note(note).signatures
    assert verify_cosignature(vkey, TEXT, line) > TIME - 10**8
    policy = LogPolicy(VKEY, witnesses=(Witness("foreign", vkey),), quorum="foreign")
    assert open_cosigned(note, policy).size == 7
    with pytest.raises(QuorumNotMet):
        open_cosigned(NOTE, policy)


def test_formats_reads_our_policy_file_and_counts_as_we_do():
    witnesses = tuple(Witness(f"w{n}", one.vkey, f"https://witness-{n}.example/") for n, one in enumerate(WITNESSES, 1))
    for groups, quorum in (
        ((Group("two", 2, ("w1", "w2", "w3")),), "two"),
        ((Group("pair", 2, ("w1", "w2")), Group("either", 1, ("pair", "w3"))), "either"),
        ((), "w2"),
        ((), "none"),
    ):
        policy = LogPolicy(VKEY, "https://production.example/log", witnesses, groups, quorum)
        for some in itertools.chain.from_iterable(itertools.combinations(WITNESSES, count) for count in range(4)):
            note = cosigned(*some)
            found = ask_notes("policy", Policy=encode_log_policy(policy), Note=note)
            assert found["satisfied"] == _met(note, policy), (quorum, [one.vkey.name for one in some])
        assert all(re.fullmatch(r"https://witness-\d\.example/add-checkpoint", url) for url in found["urls"].values())


def _met(note, policy):
    try:
        open_cosigned(note, policy)
    except QuorumNotMet:
        return False
    return True
