"""Crossings from one origin to the next: what holds, and everything that does not, each by its reason."""

import json
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.moment import parse_moment
from gatekeeper.tlog.checkpoint import Checkpoint, open_checkpoint
from gatekeeper.tlog.entry import encode_entry, parse_entry
from gatekeeper.tlog.errors import BadNoteSignature, MalformedProof, ProofMismatch, QuorumNotMet, UnknownLog
from gatekeeper.tlog.kinds import Cause
from gatekeeper.tlog.logpolicy import LogPolicy, parse_log_policy
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.note import cosigner_vkey, encode_vkey
from gatekeeper.tlog.origins import (
    MAX_CROSSINGS,
    Crossing,
    encode_crossings,
    encode_edge,
    key_under,
    may_follow,
    next_origin,
    origin_tail,
    parse_crossings,
    parse_edge,
    verify_crossing,
)
from gatekeeper.tlog.tile import TileEdge
from tests.fakes import log_directory
from tests.fakes.frames import ORIGIN, MemoryLog
from tests.fakes.origins import OriginLog, crossing_of, opening_after

NEXT = ORIGIN + "b"
AT = parse_moment("2026-11-21T10:00:00Z")


@pytest.fixture
def old():
    log = MemoryLog()
    for _ in range(9):
        log.append(secrets.token_bytes(9))
    return log


def known(log, size):
    return Checkpoint(ORIGIN, size, log.root(size))


def crossed(old, remembered, *, policy=None, **changes):
    return verify_crossing(known(old, remembered), policy or LogPolicy(old.vkey), crossing_of(old, remembered, **changes))


@pytest.mark.parametrize("remembered", [1, 4, 8, 9])
def test_a_crossing_from_any_size_below_the_last_note_holds(old, remembered):
    found = crossed(old, remembered)
    assert found.previous.checkpoint == known(old, 9)
    assert (found.opened.origin, found.opened.size) == (NEXT, 3)
    assert found.policy.log == key_under(old.vkey, NEXT)
    assert encode_vkey(found.policy.log) != encode_vkey(old.vkey)


def forked(old):
    fork = old.fork()
    for _ in range(9):
        fork.append(secrets.token_bytes(9))
    return fork


def test_what_does_not_carry_on_from_what_is_remembered_is_refused(old):
    fork = forked(old)
    with pytest.raises(ProofMismatch):  # the closing note is of another tree
        verify_crossing(known(old, 4), LogPolicy(old.vkey), crossing_of(fork, 4))
    with pytest.raises(ProofMismatch, match="behind what is remembered"):
        verify_crossing(known(old, 9), LogPolicy(old.vkey), crossing_of(old, 4, closing=6))
    with pytest.raises(ProofMismatch, match="does not start at the size"):
        verify_crossing(known(old, 5), LogPolicy(old.vkey), crossing_of(old, 4))
    other = replace(known(old, 4), origin="production.test/log/2025")
    with pytest.raises(ProofMismatch, match="another origin"):
        verify_crossing(other, LogPolicy(old.vkey), crossing_of(old, 4))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cause": Cause.FIRST, "previous": None, "heads": None}, "opens no origin after another"),
        ({"previous": None}, "opens no origin after another"),
        ({"origin": "elsewhere.test/log/2026b"}, "could follow"),
        ({"origin": "production.test/log/tile"}, "could follow"),
        ({"origin": ORIGIN}, "could follow"),
    ],
)
def test_an_entry_that_opens_no_next_origin_is_refused(old, changes, words):
    with pytest.raises(ProofMismatch, match=words):
        crossed(old, 4, entry_changes=changes)


def test_the_note_in_the_entry_is_the_one_that_the_proof_leads_to(old):
    good, other = crossing_of(old, 4), crossing_of(old, 4, closing=8)
    with pytest.raises(ProofMismatch, match="leads elsewhere"):
        verify_crossing(known(old, 4), LogPolicy(old.vkey), replace(good, growth=other.growth))


def test_only_the_same_key_speaks_for_the_next_name(old):
    with pytest.raises(UnknownLog):
        crossed(old, 4, key=Ed25519PrivateKey.generate())
    with pytest.raises(UnknownLog):  # signed, but under the old name
        crossed(old, 4, signed_as=ORIGIN)
    stranger = MemoryLog()
    stranger.entries = old.entries
    with pytest.raises(UnknownLog):
        verify_crossing(known(old, 4), LogPolicy(old.vkey), crossing_of(stranger, 4))


def test_the_entry_is_entry_0_and_included(old):
    with pytest.raises(ProofMismatch, match="not entry 0"):
        crossed(old, 4, at=1)
    good = crossing_of(old, 4)
    with pytest.raises(ProofMismatch):
        verify_crossing(known(old, 4), LogPolicy(old.vkey), replace(good, entry=encode_entry(opening_after(old.note(), NEXT))))


def test_the_quorum_that_the_policy_asks_for_is_asked_of_the_new_origin_too(old):
    witness = encode_vkey(cosigner_vkey("w.test/w", MemoryLog().key.public_key().public_bytes_raw()))
    policy = parse_log_policy(f"log {encode_vkey(old.vkey)}\nwitness w {witness}\nquorum w\n".encode())
    with pytest.raises(QuorumNotMet):
        crossed(old, 4, policy=policy)


def test_crossings_have_one_spelling_and_bounds(old):
    good = crossing_of(old, 4)
    data = encode_crossings([good])
    assert parse_crossings(data) == (good,)
    for bad in (b"", b"{}", data + b" ", data.replace(b'"v":1', b'"v":2'), data.replace(b'"v":1', b'"v":1,"x":1'), b'{"crossings":[],"v":1}'):
        with pytest.raises(MalformedProof):
            parse_crossings(bad)
    for count in (0, MAX_CROSSINGS + 1):
        with pytest.raises(ValueError, match="crossings travel"):
            encode_crossings([good] * count)


def test_an_entry_of_another_kind_opens_nothing(old):
    good, assets = crossing_of(old, 4), Path(__file__).parents[1] / "assets" / "log"
    config = encode_entry(replace(parse_entry(log_directory.entries(2)[1]), previous="1" * 40))
    for entry in (config, (assets / "intake.json").read_bytes()):
        with pytest.raises(ProofMismatch, match="opens no origin after another"):
            verify_crossing(known(old, 4), LogPolicy(old.vkey), replace(good, entry=entry))


def test_as_many_crossings_travel_together_as_may(old):
    good = crossing_of(old, 4)
    assert parse_crossings(encode_crossings([good] * MAX_CROSSINGS)) == (good,) * MAX_CROSSINGS


def test_crossings_have_no_members_that_nobody_reads(old):
    document = json.loads(encode_crossings([crossing_of(old, 4)]))
    for spoilt, words in (
        (document | {"more": 1}, "crossings: /more: is not a member"),
        ({**document, "crossings": [document["crossings"][0] | {"more": 1}]}, "crossings: /crossings/0/more: is not a member"),
        ({**document, "crossings": [document["crossings"][0] | {"proof": "?"}]}, "crossings: /crossings/0/proof: is not base64"),
        ({**document, "crossings": document["crossings"] * (MAX_CROSSINGS + 1)}, "has more than 4 items"),
    ):
        with pytest.raises(MalformedProof, match=words):
            parse_crossings(encode_canonical(spoilt))


def test_a_name_that_no_key_can_have_follows_nothing():
    host = "h" * (200 - len("/log/2026b"))
    assert may_follow(f"{host}/log/2026", f"{host}/log/2026b")
    assert not may_follow(f"h{host}/log/2026", f"h{host}/log/2026b")


@pytest.mark.parametrize("data", [b"", bytes(7), b"\x01" * 7, bytes(9), (1).to_bytes(8) + bytes(31), (1).to_bytes(8) + bytes(33), (256).to_bytes(8) + bytes(31)])
def test_what_is_no_edge(data):
    with pytest.raises(MalformedProof, match="no partial tiles of a tree"):
        parse_edge(data)


def test_names_of_origins():
    assert next_origin("h/log/2026") == "h/log/2026b"
    assert next_origin("h/log/2026b") == "h/log/2026c"
    assert next_origin("h/log/2026z") is None
    assert next_origin("h/elsewhere") is None
    assert origin_tail("h.example/log/2026b") == "2026b"
    for bad in ("h/log/", "/log/2026", "h/2026", "h/log/tile", "h/log/proof", "h/log/checkpoint", "h/log/A", "h/log/2026/x", "h/log/" + "9" * 40):
        assert origin_tail(bad) is None
    assert may_follow("h/log/2026", "h/log/2027")
    for bad in ("h/log/2026", "i/log/2026b", "h/log/x+y", "h/log/a b", "h/log/tile"):
        assert not may_follow("h/log/2026", bad)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600, 65_536 + 300])
def test_an_edge_has_one_encoding(size):
    edge, _ = TileEdge().extend([leaf_hash(number.to_bytes(4)) for number in range(size)])
    data = encode_edge(edge)
    assert parse_edge(data) == edge
    for bad in (data[:-1], data + b"x", data[:7]):
        with pytest.raises(MalformedProof):
            parse_edge(bad)


def test_a_tampered_note_is_refused(old):
    good = crossing_of(old, 4)
    log = OriginLog(NEXT, old.key)
    log.append(good.entry)
    note = bytearray(log.note())
    note[-3] ^= 1
    proof = log.proof(0).replace(log.note(), bytes(note))
    with pytest.raises((BadNoteSignature, ProofMismatch, UnknownLog, ValueError)):
        verify_crossing(known(old, 4), LogPolicy(old.vkey), Crossing(good.entry, good.growth, proof))
    assert open_checkpoint(log.note(), key_under(old.vkey, NEXT)).size == 1
