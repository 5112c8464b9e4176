"""Attack row 120, for every verifier: which log keys are followed, by what proof, and which are not (log format, section 5)."""

import base64
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.moment import Moment
from gatekeeper.tlog.entry import encode_entry, parse_entry
from gatekeeper.tlog.errors import (
    BadNoteSignature,
    MalformedCheckpoint,
    MalformedEntry,
    MalformedHistory,
    MalformedNote,
    MalformedProof,
    ProofMismatch,
    UnknownLog,
)
from gatekeeper.tlog.keyhistory import KeyHistory, encode_history, follow_history, open_followed, parse_history
from gatekeeper.tlog.keyring import MAX_KEYS, Keyring, TrustedKey, Unfollowed, advance, installed_keys
from gatekeeper.tlog.kinds import KeyUse
from gatekeeper.tlog.logpolicy import LogPolicy, open_cosigned
from gatekeeper.tlog.note import Note, NoteSignature, cosigner_vkey, ed25519_vkey, encode_note, encode_vkey, parse_note
from tests.fakes import log_directory
from tests.fakes.frames import now
from tests.fakes.rotated import RotatedLog, endorse, key_entry, spki_of, vkey_of

START = now()
SOON = Moment(START + timedelta(days=7))
AFTER = Moment(START + timedelta(days=8))


def new_key():
    return Ed25519PrivateKey.generate()


def text_of(key):
    return encode_vkey(vkey_of(key))


def log_with(*entries):
    log = RotatedLog()
    for entry in entries:
        log.append(entry)
    return log


def policy_of(key):
    return LogPolicy(log=vkey_of(key))


def opened(log, policy, at, history=None):
    return open_followed(log.note(), installed_keys(policy), policy, history, at=at)


def change(old, new, **changes):
    return key_entry(KeyUse.LOG, text_of(old), text_of(new), **{"since": START, "until": SOON} | changes)


def after_one(old, new):
    ring = advance(installed_keys(policy_of(old)), change(old, new), at=START)
    assert isinstance(ring, Keyring)
    return ring


def test_during_the_overlap_a_checkpoint_opens_under_the_old_key_the_new_key_and_both():
    log, new = log_with(b"one"), new_key()
    log.rotate(new, since=START)
    both = replace(policy_of(log.key), also=(vkey_of(new),))
    for policy in (policy_of(log.key), policy_of(new), both):
        assert open_cosigned(log.note(), policy).size == 2


def test_a_known_keys_bad_line_refuses_the_note_and_an_unknown_keys_line_is_passed_over():
    log, new = log_with(b"one"), new_key()
    log.rotate(new, since=START)
    note = parse_note(log.note())
    spoilt = encode_note(Note(note.text, (note.signatures[0], replace(note.signatures[1], blob=bytes(64)))))
    assert open_cosigned(spoilt, policy_of(log.key)).size == 2
    with pytest.raises(BadNoteSignature, match="does not verify"):
        open_cosigned(spoilt, replace(policy_of(log.key), also=(vkey_of(new),)))


def test_after_the_overlap_the_old_file_follows_and_opens_what_only_the_new_key_signed():
    log, new = log_with(b"one", b"two"), new_key()
    log.rotate(new, since=START)
    log.signers = [new]
    log.append(b"three")
    policy = policy_of(log.key)
    with pytest.raises(UnknownLog, match="with a key that is trusted here"):
        opened(log, policy, AFTER)
    checkpoint, followed = opened(log, policy, AFTER, log.history())
    assert (checkpoint.size, followed.unfollowed) == (4, ())
    assert followed.keys.in_force(KeyUse.LOG, AFTER) == (text_of(new),)
    assert followed.keys.in_force(KeyUse.LOG, START) == (text_of(new), text_of(log.key))


def test_a_chain_of_rotations_while_the_verifier_was_away_is_followed_in_order():
    log, keys, at = log_with(b"one"), [], START
    for _ in range(5):
        keys.append(new_key())
        log.rotate(keys[-1], since=at, until=Moment(at + timedelta(days=7)))
        log.append(b"between")
        at = Moment(at + timedelta(days=30))
        log.signers = [keys[-1]]
    log.append(b"newest")
    policy = policy_of(log.key)
    checkpoint, followed = opened(log, policy, at, parse_history(log.history_bytes()))
    assert checkpoint.size == 12
    assert [key.text for key in followed.keys.log] == [text_of(log.key), *map(text_of, keys)]
    # A verifier that was installed in between passes over what came before it.
    checkpoint, followed = opened(log, policy_of(keys[1]), at, log.history())
    assert [why for _, why in followed.unfollowed] == [Unfollowed.UNKNOWN, Unfollowed.BEFORE]
    assert checkpoint.size == 12


def test_a_thief_with_the_old_key_after_the_overlap_is_refused():
    log, new = log_with(b"one"), new_key()
    log.rotate(new, since=START)
    policy = policy_of(log.key)
    keys = after_one(log.key, new)
    stolen = log.fork()
    stolen.signers = [log.key]
    assert open_cosigned(stolen.note(), keys.policy(policy, START)).size == 2
    with pytest.raises(UnknownLog, match="with a key that is trusted here"):
        open_cosigned(stolen.note(), keys.policy(policy, SOON))
    # With a change of his own making, of now or backdated into the overlap, he gets no further.
    for since in (START, AFTER):
        thief, fork = new_key(), stolen.fork()
        fork.signers = [log.key]
        fork.log_entry(change(log.key, thief, since=since, until=Moment(since + timedelta(days=7))), log.key)
        fork.signers = [thief]
        with pytest.raises(UnknownLog):
            open_followed(fork.note(), keys, policy, fork.history(), at=AFTER)


def test_a_key_entry_of_one_person_is_no_entry():
    log = log_with(b"one")
    with pytest.raises(MalformedEntry, match="two different people"):
        encode_entry(replace(change(log.key, new_key()), who=("p:" + "1" * 32,)))
    entry = encode_entry(change(log.key, new_key())).replace(b'"p:22222222222222222222222222222222"', b'"p:11111111111111111111111111111111"')
    log.log_entry(entry, log.key)
    with pytest.raises(MalformedEntry, match="/who"):
        follow_history(installed_keys(policy_of(log.key)), policy_of(log.key), log.history(), at=START)


def test_a_key_entry_in_a_fork_is_refused():
    log, new = log_with(b"one", b"two"), new_key()
    fork = log_with(b"one", b"other")
    fork.key, fork.signers = log.key, [log.key]
    fork.rotate(new, since=START)
    log.signers = [log.key, new]
    log.append(b"three")
    log.append(b"four")
    history = KeyHistory(log.note(), (replace(fork.shown(0), growth=(bytes(32), bytes(32))),))
    with pytest.raises(ProofMismatch):
        follow_history(installed_keys(policy_of(log.key)), policy_of(log.key), history, at=START)


def test_a_key_entry_whose_checkpoint_the_new_key_alone_signed_is_refused():
    log, new = log_with(b"one"), new_key()
    log.signers = [new]
    log.log_entry(change(log.key, new), log.key)
    with pytest.raises(UnknownLog, match="with a key that is trusted here"):
        follow_history(installed_keys(policy_of(log.key)), policy_of(log.key), log.history(), at=START)


def test_a_history_whose_own_checkpoint_nobody_trusted_signed_teaches_nothing():
    log, new = log_with(b"one"), new_key()
    log.rotate(new, since=START)
    history, honest = log.history(), log.note()
    log.signers = [new_key()]
    with pytest.raises(UnknownLog, match="with a key that is trusted here"):
        open_followed(honest, installed_keys(policy_of(log.key)), policy_of(log.key), replace(history, checkpoint=log.note()), at=START)


def test_a_replayed_rotation_changes_nothing():
    a, b, c = new_key(), new_key(), new_key()
    first = change(a, b)
    second = change(b, c, since=SOON, until=AFTER)
    ring = advance(after_one(a, b), second, at=AFTER)
    assert isinstance(ring, Keyring)
    assert advance(ring, first, at=AFTER) is Unfollowed.ALREADY
    assert advance(ring, change(b, a, since=AFTER, until=Moment(AFTER + timedelta(days=1))), at=AFTER) is Unfollowed.SUPERSEDED
    assert advance(ring, change(c, a, since=AFTER, until=Moment(AFTER + timedelta(days=1))), at=AFTER) is Unfollowed.RETIRED


A, B, C = new_key(), new_key(), new_key()


@pytest.mark.parametrize(
    ("entry", "at", "why"),
    [
        (change(A, C), START, Unfollowed.SUPERSEDED),
        (change(A, B, until=AFTER), START, Unfollowed.SUPERSEDED),
        (change(A, B), START, Unfollowed.ALREADY),
        (change(new_key(), C), START, Unfollowed.UNKNOWN),
        (change(C, B), START, Unfollowed.BEFORE),
        (change(B, C), START, Unfollowed.OVERLAPS),
        (change(B, C, since=SOON, until=AFTER), START, Unfollowed.NOT_YET),
        (change(B, B, since=SOON, until=AFTER), AFTER, Unfollowed.MALFORMED),
        (change(B, C, since=AFTER, until=AFTER), AFTER, Unfollowed.MALFORMED),
        (replace(change(B, C, since=SOON, until=AFTER), new="no key"), AFTER, Unfollowed.MALFORMED),
        (replace(change(B, C, since=SOON, until=AFTER), new=encode_vkey(ed25519_vkey("staging.test/log/2026", vkey_of(C).public))), AFTER, Unfollowed.MALFORMED),
    ],
)
def test_an_entry_that_changes_nothing_says_why(entry, at, why):
    assert advance(after_one(A, B), entry, at=at) is why


def test_a_later_change_is_proven_by_a_key_that_is_good_at_its_date():
    """A retired log key proves no new receipt key, although its old proofs are good for ever."""
    log, new, signing, other = log_with(b"one"), new_key(), ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    log.rotate(new, since=START, until=SOON)
    later = Moment(AFTER + timedelta(days=7))
    for signer, at, holds in ((log.key, START, True), (log.key, AFTER, False), (new, AFTER, True)):
        log.signers = [signer]
        log.log_entry(key_entry(KeyUse.RECEIPT, spki_of(signing), spki_of(other), since=at, until=later), signing)
        log.signers, policy = [new], policy_of(log.key)
        if holds:
            assert open_followed(log.note(), installed_keys(policy, [spki_of(signing)]), policy, log.history(), at=AFTER)[1].unfollowed == ()
        else:
            with pytest.raises(UnknownLog, match="with a key that is trusted here"):
                follow_history(installed_keys(policy, [spki_of(signing)]), policy, log.history(), at=AFTER)
        log.changes.pop()


def test_a_row_that_the_replaced_key_did_not_sign_is_not_followed_and_keeps_nobody_from_the_honest_ones():
    """Whoever writes rows but signs nothing: his entry stands in the tree, under an honest checkpoint, and makes nobody trust his key."""
    log, new, thief = log_with(b"one"), new_key(), new_key()
    forged = change(log.key, thief)
    log.log_entry(forged, thief)
    assert follow_history(installed_keys(policy_of(log.key)), policy_of(log.key), log.history(), at=START).unfollowed == ((1, Unfollowed.UNENDORSED),)
    log.rotate(new, since=START)
    log.log_entry(change(log.key, new_key()), log.key)
    log.signers = [new]
    log.append(b"more")
    _, followed = opened(log, policy_of(log.key), AFTER, log.history())
    assert followed.unfollowed == ((1, Unfollowed.UNENDORSED), (3, Unfollowed.SUPERSEDED))
    assert followed.keys.in_force(KeyUse.LOG, AFTER) == (text_of(new),)


def test_receipt_keys_are_followed_where_some_are_installed():
    log, signing, other = log_with(b"one"), ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    old, new = spki_of(signing), spki_of(other)
    log.log_entry(key_entry(KeyUse.RECEIPT, old, new, since=START, until=SOON), other)
    unendorsed = follow_history(installed_keys(policy_of(log.key), [old]), policy_of(log.key), log.history(), at=START)
    assert unendorsed.unfollowed == ((1, Unfollowed.UNENDORSED),)
    log.changes.clear()
    log.log_entry(key_entry(KeyUse.RECEIPT, old, new, since=START, until=SOON), signing)
    policy = policy_of(log.key)
    ring = follow_history(installed_keys(policy, [old]), policy, log.history(), at=START).keys
    assert ring.receipt == (TrustedKey(old, new, SOON), TrustedKey(new))
    assert (ring.in_force(KeyUse.RECEIPT, START), ring.in_force(KeyUse.RECEIPT, SOON)) == ((new, old), (new,))
    both = follow_history(installed_keys(policy, [old, new]), policy, log.history(), at=START).keys
    assert both.receipt == ring.receipt
    nothing = follow_history(installed_keys(policy), policy, log.history(), at=START)
    assert (nothing.keys.receipt, nothing.unfollowed) == ((), ((2, Unfollowed.UNKNOWN),))


def test_a_history_has_one_spelling_and_bounds():
    log = log_with(b"one")
    log.rotate(new_key(), since=START)
    data = log.history_bytes()
    assert encode_history(parse_history(data)) == data
    for wrong in (data + b"\n", data.replace(b'"v":1', b'"v":2'), b"{}", data.replace(b'"growth":[]', b'"growth":["AA=="]'), b" " * (256 * 1024 + 1)):
        with pytest.raises(MalformedHistory):
            parse_history(wrong)
    with pytest.raises(MalformedHistory, match="order of the log"):
        encode_history(replace(log.history(), changes=log.history().changes * 2))
    many = replace(log.history(), changes=log.history().changes * 65)
    with pytest.raises(MalformedHistory, match="more than 64 items"):
        encode_history(many)


def test_an_entry_of_another_kind_is_no_key_entry():
    log = log_with(b"one")
    log.rotate(new_key(), since=START)
    other = replace(log.shown(0), entry=encode_entry(replace(change(log.key, new_key()), origin="staging.test/log/2026")))
    with pytest.raises(ProofMismatch, match="no key entry of this log"):
        follow_history(installed_keys(policy_of(log.key)), policy_of(log.key), KeyHistory(log.note(), (other,)), at=START)
    body = encode_entry(change(log.key, new_key()))
    swapped = replace(log.shown(0), entry=body, endorsement=endorse(log.key, body))
    with pytest.raises(ProofMismatch):
        follow_history(installed_keys(policy_of(log.key)), policy_of(log.key), KeyHistory(log.note(), (swapped,)), at=START)


def test_a_signature_line_of_the_right_name_and_another_id_is_passed_over():
    log, new = log_with(b"one"), new_key()
    text = parse_note(log.note()).text
    strange = NoteSignature(vkey_of(new).name, b"\0\0\0\0", new.sign(text))
    note = encode_note(Note(text, (*parse_note(log.note()).signatures, strange)))
    assert open_cosigned(note, policy_of(log.key)).size == 1


def receipt_change(old, new, **changes):
    return key_entry(KeyUse.RECEIPT, old, new, **{"since": START, "until": SOON} | changes)


def receipt_ring(*keys):
    return Keyring((TrustedKey(text_of(A)),), tuple(TrustedKey(spki_of(key)) for key in keys))


R, S, T = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))


def other_spki(key) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        "AAAA",
        spki_of(S)[:-1],
        other_spki(ec.generate_private_key(ec.SECP384R1())),
        other_spki(ec.generate_private_key(ec.SECP256K1())),
        other_spki(Ed25519PrivateKey.generate()),
        text_of(A),
    ],
    ids=["empty", "no base64", "no key", "cut", "P-384", "secp256k1", "Ed25519", "a log's"],
)
def test_a_receipt_key_is_p256_and_nothing_else_follows_one(text):
    entry = replace(receipt_change(spki_of(R), spki_of(S)), new=text)
    assert advance(receipt_ring(R), entry, at=START) is Unfollowed.MALFORMED
    assert isinstance(advance(receipt_ring(R), receipt_change(spki_of(R), spki_of(S)), at=START), Keyring)


def test_a_witness_key_of_the_logs_name_is_no_log_key():
    witness = encode_vkey(cosigner_vkey(vkey_of(C).name, vkey_of(C).public))
    assert advance(installed_keys(policy_of(A)), replace(change(A, C), new=witness), at=START) is Unfollowed.MALFORMED


def test_only_the_change_before_in_the_same_chain_is_overlapped():
    ring = advance(receipt_ring(R, T), receipt_change(spki_of(R), spki_of(S)), at=START)
    assert isinstance(ring, Keyring)
    new = ec.generate_private_key(ec.SECP256R1())
    assert isinstance(advance(ring, receipt_change(spki_of(T), spki_of(new)), at=START), Keyring)
    assert advance(ring, receipt_change(spki_of(S), spki_of(new)), at=START) is Unfollowed.OVERLAPS
    assert isinstance(advance(ring, receipt_change(spki_of(S), spki_of(new), since=SOON, until=AFTER), at=SOON), Keyring)


def test_a_ring_holds_so_many_keys_and_no_more():
    others = tuple(TrustedKey(f"key {number}") for number in range(MAX_KEYS - 2))
    ring = Keyring((TrustedKey(text_of(A)), *others))
    full = advance(ring, change(A, B), at=START)
    assert isinstance(full, Keyring)
    assert len(full.log) == MAX_KEYS
    assert advance(full, change(B, C, since=SOON, until=AFTER), at=SOON) is Unfollowed.TOO_MANY


def test_why_an_entry_changes_nothing_is_told_though_nobody_endorsed_it():
    log, thief = log_with(b"one"), new_key()
    log.log_entry(change(new_key(), new_key()), thief)
    log.log_entry(change(new_key(), log.key), thief)
    log.log_entry(change(log.key, new_key()), thief)
    followed = follow_history(installed_keys(policy_of(log.key)), policy_of(log.key), log.history(), at=START)
    assert [why for _, why in followed.unfollowed] == [Unfollowed.UNKNOWN, Unfollowed.BEFORE, Unfollowed.UNENDORSED]


def test_an_entry_of_another_kind_in_a_history_is_refused():
    log = log_with(b"one")
    log.rotate(new_key(), since=START)
    opening = replace(parse_entry(log_directory.entries(1)[0]), origin=policy_of(log.key).log.name)
    other = replace(log.shown(0), entry=encode_entry(opening))
    with pytest.raises(ProofMismatch, match="no key entry of this log"):
        follow_history(installed_keys(policy_of(log.key)), policy_of(log.key), KeyHistory(log.note(), (other,)), at=START)


def test_a_history_that_ends_before_its_own_change_or_in_another_log_is_no_fork_but_refused():
    log = log_with(b"one")
    log.rotate(new_key(), since=START)
    policy, change_of_it = policy_of(log.key), log.shown(0)
    elsewhere = ed25519_vkey("staging.test/log/2026", vkey_of(log.key).public)
    text = parse_note(log.note()).text.replace(vkey_of(log.key).name.encode(), elsewhere.name.encode())
    foreign = encode_note(Note(text, (NoteSignature(elsewhere.name, elsewhere.key_id, log.key.sign(text)),)))
    for checkpoint in (log.note(1), foreign):
        with pytest.raises(ProofMismatch, match="in another log than the history's checkpoint, or in a larger tree"):
            follow_history(installed_keys(policy), policy, KeyHistory(checkpoint, (change_of_it,)), at=START)
    assert follow_history(installed_keys(policy), policy, KeyHistory(log.note(), (change_of_it,)), at=START).unfollowed == ()


def history_with(change=None, **members) -> bytes:
    log = log_with(b"one")
    log.rotate(new_key(), since=START)
    document = json.loads(log.history_bytes())
    document["keys"][0] |= change or {}
    return encode_canonical(document | members)


BIG = base64.b64encode(b"e" * 4097).decode()
FULL = base64.b64encode(b"e" * 4096).decode()
ONE = base64.b64encode(b"h" * 32).decode()
OVER_BOUND = "is not base64 in its one spelling, or over its bound"


@pytest.mark.parametrize(
    ("change_of_it", "members", "words"),
    [
        ({}, {"more": 1}, "/more: is not a member"),
        ({"more": 1}, {}, "/keys/0/more: is not a member"),
        ({"entry": BIG}, {}, OVER_BOUND),
        ({"entry": "?"}, {}, OVER_BOUND),
        ({"endorsement": "?"}, {}, OVER_BOUND),
        ({"endorsement": "AB=="}, {}, OVER_BOUND),
        ({"growth": [ONE, ONE[:-1]]}, {}, OVER_BOUND),
        ({"growth": [ONE[:-2] + "J="]}, {}, OVER_BOUND),
        ({"growth": [ONE] * 64}, {}, "/growth: has more than 63 items"),
        ({"proof": 1}, {}, "/keys/0/proof: must be a text of at most"),
        ({}, {"checkpoint": 1}, "/checkpoint: must be a text of at most 65536"),
        ({}, {"checkpoint": "x" * 65537}, "/checkpoint: must be a text of at most 65536"),
        ({}, {"v": 2}, "/v: "),
    ],
)
def test_what_is_no_history(change_of_it, members, words):
    with pytest.raises(MalformedHistory, match=words):
        parse_history(history_with(change_of_it, **members))


def test_a_history_is_read_up_to_its_bounds():
    assert len(parse_history(history_with({"entry": FULL, "growth": [ONE] * 63})).changes[0].entry) == 4096
    with pytest.raises(MalformedNote):
        parse_history(history_with(checkpoint="x" * 65536))
    with pytest.raises(MalformedCheckpoint):
        parse_history(history_with(checkpoint=encode_note(Note(b"no checkpoint\n", (NoteSignature("x", b"abcd", b"blob"),))).decode()))
    with pytest.raises(MalformedProof):
        parse_history(history_with({"proof": "no proof"}))
