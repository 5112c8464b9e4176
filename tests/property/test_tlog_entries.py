"""Every kind of entry: one value, one spelling. Sealed leaves: what is opened is what was sealed, and nothing else opens it."""

import base64
import dataclasses
import json
from datetime import UTC, date, datetime

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatekeeper.model.decision import Mode, Purpose, Verdict
from gatekeeper.model.moment import moment
from gatekeeper.tlog import entry as kinds
from gatekeeper.tlog.entry import Abridged, DoorkeeperMark, Head, Kind, Reference, RolePeople, UnknownEntry, encode_entry, parse_entry
from gatekeeper.tlog.errors import MalformedEntry, OpeningFault, OpeningRefused, TlogError
from gatekeeper.tlog.escrow import encode_escrow, parse_escrow
from gatekeeper.tlog.sealed import (
    Opening,
    SealedBody,
    SealedHead,
    commitment,
    decoy_slots,
    encode_body,
    make_decoy,
    parse_body,
    private_hmac,
    seal_entry,
    seal_leaf,
    verify_slot,
)
from tests.fakes.entries import HELD, LEAF, ORIGIN, SLOTS, TICK, sealed_in

secrets_ = st.binary(min_size=32, max_size=32)
ids = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
origins = st.from_regex(r"[a-z]{1,20}\.example/log/20[0-9]{2}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp"]), min_size=1, max_size=40)
# of the years 1000 to 9990
moments = st.integers(-30_610_224_000, 253_086_000_000).map(lambda seconds: moment(datetime.fromtimestamp(seconds, UTC)))
ticks = moments.filter(lambda at: at.year >= 1970)
commits = st.from_regex(r"[0-9a-f]{40}", fullmatch=True)
digest = secrets_.map(lambda item: "sha256:" + item.hex())
person = st.from_regex(r"p:[0-9a-f]{32}", fullmatch=True)
hidden = secrets_.map(lambda item: base64.b64encode(item).decode())
abridged = st.builds(Abridged, st.integers(1, 2**53 - 1), digest)


def ascending(items, **sizes):
    return st.lists(items, unique=True, **sizes).map(lambda found: tuple(sorted(found)))


def listed(items):
    return st.lists(items, max_size=4).map(tuple)


pair = ascending(person, min_size=2, max_size=2)
people = ascending(person, max_size=3) | abridged
digests = ascending(digest, max_size=3) | abridged
publics = st.builds(Reference, origins, st.integers(0, 2**53 - 1))
slots = st.builds(Reference, origins, st.integers(0, 2**53 - 1), st.integers(0, 3))
references = publics | slots
spans = st.tuples(moments, moments).map(sorted)
COMMON = {"entry_id": ids, "origin": origins, "at": moments, "config": st.none() | commits}


def build(kind, **members):
    return st.builds(kind, **COMMON | members)


def spanning(kind, *, open_ended):
    own = {"who": person, "reason": hidden} | open_ended
    return build(kind, **own).flatmap(
        lambda entry: spans.flatmap(lambda span: st.sampled_from([span[1], None]).map(lambda until: dataclasses.replace(entry, since=span[0], until=until)))
    )


PLACE = {"environment": texts, "component": texts}
SPAN = {
    "change": st.sampled_from(kinds.Change),
    "environment": texts,
    "component": st.none() | texts,
    "since": moments,
    "until": st.none(),
}
NOTE = "x\n\n— x " + base64.b64encode(bytes(68)).decode() + "\n"
heads = st.tuples(*[st.builds(Head, st.integers(0, 2**53 - 1), hidden)] * 2)
ORIGIN_MEMBERS = {"sealed_slots": st.just(4), "tick": st.integers(0, 3600)}
DECISION = {
    "ping_id": ids,
    "landing": st.none() | texts,
    "purpose": st.sampled_from(Purpose),
    "mode": st.sampled_from(Mode),
    "requester": person,
    "on_behalf_of": st.none() | person,
    "people": st.builds(RolePeople, people, people, people),
    **PLACE,
    "artifact": st.none() | digest,
    "candidate_config": st.none() | commits,
    "target": listed(texts) | abridged,
    "subjects": digests,
    "reasons": listed(texts) | abridged,
    "policy": digest,
    "trusted_root": st.none() | digest,
    "evidence": digests,
    "supersedes": st.none() | references,
}
leaves = build(
    kinds.SealedEntry,
    config=st.none(),
    at=ticks,
    commitments=st.tuples(*[secrets_] * 4),
    open_by=st.just(date(9999, 12, 31)),
    escrow=secrets_,
)
ENTRIES = {
    Kind.ORIGIN: build(
        kinds.OriginEntry, cause=st.just(kinds.Cause.FIRST), previous=st.none(), heads=st.none(), who=st.just(()) | pair, reason=st.none(), **ORIGIN_MEMBERS
    )
    | build(
        kinds.OriginEntry, cause=st.just(kinds.Cause.LOSS), previous=st.none() | st.just(NOTE), heads=heads, who=pair, reason=hidden, **ORIGIN_MEMBERS
    ),
    Kind.INTAKE: build(
        kinds.Intake, artifact=digest, manifest=st.none() | digest, builder=texts, certificate=st.none() | digest, subjects=digests
    ),
    Kind.DECISION: build(kinds.DecisionEntry, verdict=st.just(Verdict.ALLOW), statement=digest, not_after=moments, **DECISION)
    | build(kinds.DecisionEntry, verdict=st.just(Verdict.DENY), statement=digest, not_after=st.none(), **DECISION)
    | build(kinds.DecisionEntry, verdict=st.just(Verdict.INDETERMINATE), statement=st.none(), not_after=st.none(), **DECISION),
    Kind.OUTCOME: build(
        kinds.OutcomeEntry,
        of=references,
        state=texts,
        lease=digests,
        applied=digests,
        doorkeeper=listed(st.builds(DoorkeeperMark, texts, st.integers(0, 2**53 - 1), texts)) | abridged,
    ),
    Kind.CONFIG: build(kinds.ConfigEntry, who=people, previous=st.none() | commits, commit=commits, digest=digest),
    Kind.OVERRIDE: build(
        kinds.OverrideEntry, who=pair, target=texts, digest=digest, order=digest, incident=hidden, applied_at=moments, record=digest
    ),
    Kind.ADOPT: build(kinds.AdoptEntry, who=person, running=digests, candidate_config=st.none() | commits, **PLACE),
    Kind.KEY: build(kinds.KeyEntry, who=pair, use=st.sampled_from(kinds.KeyUse), old=texts, new=texts, since=moments, until=moments),
    Kind.WITNESS_CHANGE: build(kinds.WitnessChangeEntry, who=pair, policy=digest, fail_open=st.booleans(), reason=hidden),
    **{
        kind.KIND: spanning(kind, open_ended=SPAN)
        for kind in (kinds.FreezeEntry, kinds.WindowEntry, kinds.HoldEntry, kinds.ReservationEntry, kinds.StopEntry)
    },
    Kind.ACKNOWLEDGEMENT: build(
        kinds.AcknowledgementEntry, who=person, ping_id=ids, of=st.none() | references, code=texts, reason=hidden
    )
    | build(kinds.AcknowledgementEntry, who=person, ping_id=st.none(), of=references, code=texts, reason=hidden),
    Kind.EXEMPTION: build(
        kinds.ExemptionEntry, who=pair, change=st.sampled_from(kinds.Change), rule=texts, until=moments, reason=hidden, **PLACE
    ),
    Kind.BREAKGLASS_OPEN: build(
        kinds.BreakglassOpenEntry,
        who=pair,
        artifact=digest,
        skips=st.lists(texts, min_size=1, max_size=3).map(tuple) | abridged,
        not_after=moments,
        incident=hidden,
        reason=hidden,
        **PLACE,
    ),
    Kind.BREAKGLASS_CLOSE: build(kinds.BreakglassCloseEntry, of=references, who=person, evidence=digests, reason=hidden),
    Kind.REVOCATION: spanning(
        kinds.RevocationEntry,
        open_ended={"what": st.sampled_from(kinds.Revoked), "id": texts, "since": st.none(), "until": st.none()},
    )
    | build(
        kinds.RevocationEntry, who=person, what=st.sampled_from(kinds.Revoked), id=texts, since=st.none(), until=st.none() | moments, reason=hidden
    ),
    Kind.SEALED: leaves,
    Kind.OPEN: build(
        kinds.OpenEntry,
        of=slots,
        commitment=secrets_,
        r=secrets_,
        body=st.binary(min_size=1, max_size=512),
        rp=secrets_,
        private=st.binary(min_size=1, max_size=3500),
    )
    | build(
        kinds.OpenEntry,
        of=slots,
        commitment=secrets_,
        r=secrets_,
        body=st.binary(min_size=1, max_size=512),
        rp=st.none(),
        private=st.none(),
    ),
    Kind.OPEN_DECOYS: build(kinds.OpenDecoysEntry, of_origin=origins, day=st.dates(), seed=secrets_),
    Kind.LIFT: build(
        kinds.LiftEntry,
        who=pair,
        embargo=ids,
        opens=st.lists(slots, max_size=4, unique=True).map(lambda found: tuple(sorted(found, key=dataclasses.astuple))) | abridged,
        reason=hidden,
    ),
}
entries = st.one_of(*ENTRIES.values())


def test_every_kind_is_tried():
    assert set(ENTRIES) == set(Kind)


@pytest.mark.parametrize("kind", Kind)
@settings(max_examples=25)
@given(data=st.data())
def test_an_entry_is_read_as_it_was_written_and_written_as_it_was_read(kind, data):
    entry = data.draw(ENTRIES[kind])
    written = encode_entry(entry)
    parsed = parse_entry(written)
    assert (parsed, parsed.KIND) == (entry, kind)
    assert encode_entry(parsed) == written


def shuffled(members: dict, draw) -> dict:
    return dict(draw(st.permutations(list(members.items()))))


def escaped(text: str, at: int) -> str:
    return text[:at] + f"\\u{ord(text[at]):04x}" + text[at + 1 :]


@given(entries, st.data())
def test_an_entry_in_another_spelling_is_refused(entry, data):
    written = encode_entry(entry)
    text = written.decode()
    members = json.loads(text)
    letters = [at for at, char in enumerate(text) if char.isascii() and char.isalnum() and text[at - 1] == '"']
    commas = [at for at, char in enumerate(text) if char == ","]
    blank = data.draw(st.sampled_from(" \t\n\r"))
    comma = data.draw(st.sampled_from(commas))
    respelled = data.draw(
        st.sampled_from(
            [
                text + blank,
                blank + text,
                text[: comma + 1] + blank + text[comma + 1 :],
                escaped(text, data.draw(st.sampled_from(letters))),
                json.dumps(members, sort_keys=True, separators=(", ", ":"), ensure_ascii=False),
                json.dumps(shuffled(members, data.draw), separators=(",", ":"), ensure_ascii=False),
                text[:-1] + ',"v":1}',
                "\ufeff" + text,
            ]
        )
    ).encode()
    assume(respelled != written)
    with pytest.raises(MalformedEntry):
        parse_entry(respelled)


@given(entries, st.integers(0, 2**32), st.integers(1, 255), st.sampled_from(["flip", "cut", "insert"]))
def test_a_mutated_byte_is_refused_or_is_another_entry_with_that_one_spelling(entry, where, byte, how):
    data = encode_entry(entry)
    at = where % len(data)
    head, tail = data[:at], data[at + (how != "insert") :]
    mutated = head + (b"" if how == "cut" else bytes((data[at] ^ byte,)) if how == "flip" else bytes((byte,))) + tail
    try:
        parsed = parse_entry(mutated)
    except TlogError:
        return
    assert parsed != entry or mutated == data
    assert (parsed.body if isinstance(parsed, UnknownEntry) else encode_entry(parsed)) == mutated


heads_ = st.builds(SealedHead, ids, origins, st.from_regex(r"[a-z-]{1,20}", fullmatch=True), st.none() | st.sampled_from(Verdict), moments)
bodies = st.builds(SealedBody, heads_, secrets_)
openings = st.builds(Opening, secrets_, st.binary(min_size=1, max_size=512), secrets_.filter(any), st.binary(min_size=1, max_size=3500)) | st.builds(
    Opening, secrets_, st.binary(min_size=1, max_size=512), st.none(), st.none()
)
sealable = st.one_of(*(ENTRIES[kind] for kind in (Kind.DECISION, Kind.OUTCOME, Kind.HOLD, Kind.FREEZE, Kind.ADOPT, Kind.REVOCATION)))


@given(bodies)
def test_bodies_round_trip(body):
    data = encode_body(body)
    assert parse_body(data) == body
    with pytest.raises(MalformedEntry):
        parse_body(data.replace(b":", b": ", 1))


@given(st.tuples(*[openings] * 4))
def test_escrows_round_trip(slots):
    data = encode_escrow(slots)
    assert len(data) == 16_384
    assert parse_escrow(data) == slots
    assert encode_escrow(parse_escrow(data)) == data


@given(st.tuples(*[openings] * 4), st.integers(0, 16_383), st.integers(1, 255))
def test_a_mutated_escrow_is_refused_or_is_another_in_its_one_spelling(slots, at, byte):
    data = encode_escrow(slots)
    mutated = data[:at] + bytes((data[at] ^ byte,)) + data[at + 1 :]
    try:
        parsed = parse_escrow(mutated)
    except MalformedEntry:
        return
    assert parsed != slots
    assert encode_escrow(parsed) == mutated


@given(sealable, st.integers(0, 3), secrets_, secrets_, secrets_, ticks)
def test_what_was_sealed_is_what_is_opened(entry, slot, r, rp, seed, at):
    private = encode_entry(entry, cap=kinds.MAX_PRIVATE)
    opening = seal_entry(private, at=at, r=r, rp=rp)
    slots = [opening if other == slot else make_decoy(seed, origin=entry.origin, at=at, slot=other) for other in range(4)]
    leaf = seal_leaf(slots, entry_id="0" * 32, origin=entry.origin, at=at, open_by=date(9999, 12, 31))
    assert parse_entry(encode_entry(leaf)) == leaf
    whole = verify_slot(leaf, slot, opening)
    assert whole.entry == parse_entry(private)
    assert (whole.head.entry_id, whole.head.kind, whole.head.verdict) == (entry.entry_id, entry.KIND, getattr(entry, "verdict", None))
    withdrawn = verify_slot(leaf, slot, dataclasses.replace(opening, rp=None, private=None))
    assert (withdrawn.head, withdrawn.entry) == (whole.head, None)
    assert decoy_slots(leaf, seed) == {0, 1, 2, 3} - {slot}


@given(st.sampled_from([0, 2]), st.sampled_from(["r", "body", "rp", "private"]), st.data())
def test_a_change_of_any_byte_of_an_opening_is_refused(slot, part, data):
    opening = SLOTS[slot]
    whole = getattr(opening, part)
    at, byte = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    how = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    changed = {
        "flip": whole[:at] + bytes((whole[at] ^ byte,)) + whole[at + 1 :],
        "cut": whole[:at] + whole[at + 1 :],
        "insert": whole[:at] + bytes((byte,)) + whole[at:],
    }[how]
    assume(changed != whole)
    with pytest.raises(OpeningRefused) as caught:
        verify_slot(LEAF, slot, dataclasses.replace(opening, **{part: changed}))
    expected = {OpeningFault.NOT_COMMITTED} if part in {"r", "body"} else {OpeningFault.PRIVATE_DIFFERS}
    out_of_bounds = {OpeningFault.BODY_MALFORMED} if part == "r" else {OpeningFault.PRIVATE_MALFORMED} if part == "rp" else set()
    assert caught.value.fault in (out_of_bounds if how != "flip" and out_of_bounds else expected)


@given(st.integers(0, 3), st.integers(0, 2**32), st.integers(1, 255))
def test_a_change_of_any_byte_of_slot_or_origin_is_refused(slot, where, byte):
    held = LEAF.commitments[0]
    at = where % 32
    changed = held[:at] + bytes((held[at] ^ byte,)) + held[at + 1 :]
    for leaf, of in [
        (dataclasses.replace(LEAF, commitments=(changed, *LEAF.commitments[1:])), 0),
        (LEAF, slot),
        (dataclasses.replace(LEAF, origin=ORIGIN[: (cut := where % len(ORIGIN))] + "~" + ORIGIN[cut + 1 :]), 0),
    ]:
        if (leaf, of) == (LEAF, 0):
            continue
        with pytest.raises(OpeningRefused) as caught:
            verify_slot(leaf, of, SLOTS[0])
        assert caught.value.fault is OpeningFault.NOT_COMMITTED


@given(st.tuples(secrets_, origins, st.binary(min_size=1, max_size=60)), st.tuples(secrets_, origins, st.binary(min_size=1, max_size=60)))
def test_two_openings_have_two_commitments(one, other):
    assert (commitment(*one) == commitment(*other)) == (one == other)


@given(secrets_, origins, st.binary(min_size=1, max_size=100), st.integers(1, 20))
def test_bytes_moved_between_origin_and_body_make_another_commitment(r, origin, body, count):
    """The length prefixes: r, origin and body run into each other without them."""
    cut = min(count, len(origin) - 1)
    moved = commitment(r, origin[:-cut], origin[-cut:].encode() + body)
    assert moved != commitment(r, origin, body)
    assert len({commitment(r, origin, body), commitment(r, origin, body + b"\0"), commitment(r, origin, b"\1" + body)}) == 3


@given(secrets_, st.binary(min_size=1, max_size=60), secrets_, st.binary(min_size=1, max_size=60))
def test_two_private_entries_have_two_hmacs_and_no_commitment_is_one(rp, private, r, other):
    assert (private_hmac(rp, private) == private_hmac(r, other)) == ((rp, private) == (r, other))
    assert private_hmac(rp, private) != commitment(rp, ORIGIN, private)


@given(secrets_, secrets_, ticks)
def test_a_slot_with_a_decision_is_never_among_the_decoys(seed, r, at):
    leaf = seal_leaf([sealed_in(HELD, 3, at=at)] * 4, entry_id="0" * 32, origin=ORIGIN, at=at, open_by=date(9999, 12, 31))
    assert decoy_slots(leaf, seed) == frozenset()
    # Even where the operator takes r from the seed.
    made = [make_decoy(seed, origin=ORIGIN, at=at, slot=slot).r for slot in range(4)]
    taken = [seal_entry(encode_entry(HELD), at=at, r=from_seed, rp=r) for from_seed in made]
    assert decoy_slots(seal_leaf(taken, entry_id="0" * 32, origin=ORIGIN, at=at, open_by=date(9999, 12, 31)), seed) == frozenset()
    assert LEAF.at == TICK
