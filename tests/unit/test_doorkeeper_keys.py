"""Attack row 120, at the target: which log and receipt keys a doorkeeper follows, what it remembers of that, and every refusal by its code."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.doorkeeper import checks
from clients.doorkeeper.bundle import Bundle, check_arriving, check_bundle
from clients.doorkeeper.keys import believe
from clients.doorkeeper.origins import Fork
from clients.doorkeeper.state import NOTHING, Remembered, encode_memory, parse_memory
from clients.doorkeeper.target import Caps, ComponentSlot, InstalledTarget, Pinned, parse_receipt_keys
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.moment import Moment, parse_moment
from gatekeeper.model.verified import Refusal
from gatekeeper.tlog.errors import MalformedHistory
from gatekeeper.tlog.keyhistory import encode_history
from gatekeeper.tlog.kinds import KeyUse
from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.tlog.note import encode_vkey
from tests.fakes.frames import ORIGIN, Gatekeeper, make_artifact
from tests.fakes.rotated import RotatedLog, key_entry, spki_of, vkey_of

AT = parse_moment("2026-11-21T10:00:00Z")
UNTIL = Moment(AT + timedelta(days=7))
LATE = Moment(AT + timedelta(days=8))
OLD, NEXT = make_artifact("1"), make_artifact("2")


def new_receipt_key():
    return ec.generate_private_key(ec.SECP256R1())


class World:
    """A gatekeeper whose keys are rotated, and a target that was installed before that."""

    def __init__(self):
        self.log = RotatedLog()
        self.gatekeeper = Gatekeeper(log=self.log)
        self.first = self.gatekeeper.key
        target = InstalledTarget("host-1", "production", "production", (ComponentSlot("hello", 1, (), None),), Caps())
        self.pinned = Pinned(target, parse_log_policy(self.gatekeeper.log_policy), parse_receipt_keys(self.gatekeeper.receipt_keys), None)
        self.memory = NOTHING
        self.log.append(b"before")

    def remember(self, found):
        note = found.checkpoint
        self.memory = replace(self.memory, checkpoint=Remembered(ORIGIN, note.size, note.root, note.note), keys=found.believed.keys)
        assert parse_memory(encode_memory(self.memory)) == self.memory

    def rotate_receipts(self, *, endorser=None, **changes):
        new = new_receipt_key()
        entry = key_entry(KeyUse.RECEIPT, spki_of(self.gatekeeper.key), spki_of(new), **{"since": AT, "until": UNTIL} | changes)
        self.log.log_entry(entry, endorser or self.gatekeeper.key)
        self.gatekeeper.key = new
        return entry

    def offer(self, *, at=AT, with_keys=True, log=None, artifact=NEXT, **changes):
        log = log or self.log
        receipt = self.gatekeeper.receipt(self.gatekeeper.statement(artifact, at=at), log=log)
        old = 0 if self.memory.checkpoint is None else self.memory.checkpoint.size
        items = self.gatekeeper.items(artifact, receipt, index=len(log.entries) - 1, old=old, log=log)
        if with_keys and log.changes:
            items[PartName.KEYS] = log.history_bytes()
        return items | changes

    def check(self, items, *, at=AT):
        parts = (items.get(name) for name in (PartName.RECEIPT, PartName.PROOF, PartName.CONSISTENCY))
        offer = checks.Offer(*parts, opening=False, keys=items.get(PartName.KEYS))
        return checks.check_offer(offer, named=digest_of(items[PartName.RECEIPT]), pinned=self.pinned, memory=self.memory, at=at)

    def accept(self, *, at=AT, **changes):
        found = self.check(self.offer(at=at, **changes), at=at)
        assert isinstance(found, checks.Acceptable), found
        self.remember(found)
        return found

    def refusal(self, *, at=AT, **changes):
        found = self.check(self.offer(at=at, **changes), at=at)
        assert isinstance(found, Refusal), found
        return found


@pytest.fixture
def world():
    return World()


def test_both_keys_are_followed_and_stay_followed_from_memory_alone(world):
    world.accept()
    new = Ed25519PrivateKey.generate()
    world.log.rotate(new, since=AT, until=UNTIL)
    world.rotate_receipts()
    world.accept()
    world.log.signers = [new]
    # Later frames need not show the history again: what was followed is remembered, and is verified from the installed files.
    found = world.accept(at=LATE, with_keys=False)
    ring = believe(world.pinned, world.memory, LATE).pinned.ring()
    assert ring.in_force(KeyUse.LOG, LATE) == (encode_vkey(vkey_of(new)),)
    assert ring.in_force(KeyUse.RECEIPT, LATE) == (spki_of(world.gatekeeper.key),)
    assert found.believed.keys == world.memory.keys
    assert len(world.memory.keys) == 1


def test_a_target_that_was_away_follows_every_rotation_at_once(world):
    world.accept()
    at = AT
    for _ in range(3):
        new = Ed25519PrivateKey.generate()
        until = Moment(at + timedelta(days=7))
        world.log.rotate(new, since=at, until=until)
        world.rotate_receipts(since=at, until=until)
        world.log.signers, at = [new], Moment(at + timedelta(days=30))
    assert world.refusal(at=at, with_keys=False).reason == "bad-signature"
    world.accept(at=at)
    assert len(believe(world.pinned, world.memory, at).pinned.ring().log) == 4


def test_a_receipt_by_a_new_key_without_its_key_entry_is_refused(world):
    world.rotate_receipts()
    refusal = world.refusal(with_keys=False)
    assert (refusal.reason, "a pinned receipt key" in refusal.detail) == ("bad-signature", True)


def test_a_receipt_by_the_old_key_after_the_overlap_is_refused_whatever_its_date(world):
    world.rotate_receipts()
    world.accept()
    world.gatekeeper.key = world.first
    world.accept()
    for dated in (LATE, AT):
        refusal = world.check(world.offer(at=dated), at=LATE)
        assert (refusal.reason, "a pinned receipt key" in refusal.detail) == ("bad-signature", True)


def test_a_checkpoint_by_the_old_log_key_alone_after_the_overlap_is_refused(world):
    world.log.rotate(Ed25519PrivateKey.generate(), since=AT, until=UNTIL)
    world.accept()
    world.log.signers = [world.log.key]
    world.accept()
    refusal = world.refusal(at=LATE)
    assert (refusal.reason, "a key that is trusted here" in refusal.detail) == ("receipt-missing", True)


def test_a_new_log_key_without_its_key_entry_is_refused(world):
    new = Ed25519PrivateKey.generate()
    world.log.rotate(new, since=AT, until=UNTIL)
    world.log.signers = [new]
    refusal = world.refusal(with_keys=False)
    assert (refusal.reason, "a key that is trusted here" in refusal.detail) == ("receipt-missing", True)


def test_a_key_entry_that_the_replaced_key_did_not_sign_makes_nobody_trusted(world):
    """A database administrator can write rows, and has them covered by an honest checkpoint; he cannot sign."""
    world.rotate_receipts(endorser=new_receipt_key())
    assert world.refusal().reason == "bad-signature"


def test_a_key_entry_in_a_forked_tree_is_a_fork_and_both_notes_are_kept(world):
    world.accept()
    fork = world.log.fork()
    fork.append(b"other")
    world.log.append(b"this")
    entry = key_entry(KeyUse.RECEIPT, spki_of(world.gatekeeper.key), spki_of(new_receipt_key()), since=AT, until=UNTIL)
    fork.log_entry(entry, world.gatekeeper.key)
    for _ in range(3):
        world.log.append(b"more")
    items = world.offer(with_keys=False)
    history = replace(world.log.history(), changes=(replace(fork.shown(0), growth=(bytes(32), bytes(32))),))
    found = world.check({**items, PartName.KEYS: encode_history(history)})
    assert isinstance(found, Fork)
    assert (found.reason, found.notes) == ("log-fork", (fork.changes[0][3], world.log.note()))


def test_a_key_entry_proven_by_the_new_key_alone_is_refused(world):
    new = Ed25519PrivateKey.generate()
    world.log.signers = [new]
    entry = key_entry(KeyUse.LOG, encode_vkey(world.log.vkey), encode_vkey(vkey_of(new)), since=AT, until=UNTIL)
    world.log.log_entry(entry, world.log.key)
    refusal = world.refusal()
    assert (refusal.reason, "a key change does not hold" in refusal.detail) == ("bad-signature", True)


def test_a_second_successor_of_one_key_is_passed_over(world):
    world.rotate_receipts()
    first = world.gatekeeper.key
    world.gatekeeper.key = world.first
    world.rotate_receipts()
    assert world.refusal().reason == "bad-signature"
    world.gatekeeper.key = first
    world.accept()


def test_a_history_of_another_checkpoint_than_the_proofs_is_refused(world):
    world.rotate_receipts()
    shown = world.log.history_bytes()
    refusal = world.check({**world.offer(), PartName.KEYS: shown})
    assert (refusal.reason, "another checkpoint" in refusal.detail) == ("receipt-missing", True)


def test_bytes_that_are_no_history_are_malformed(world):
    with pytest.raises(MalformedHistory):
        world.check({**world.offer(), PartName.KEYS: b"{}"})


def test_nothing_is_remembered_of_a_frame_that_is_refused(world):
    world.rotate_receipts()
    assert isinstance(world.check(world.offer(at=AT), at=Moment(AT + timedelta(hours=1))), Refusal)
    assert world.memory.keys == ()


def test_a_history_that_leaves_out_what_was_followed_before_is_refused(world):
    """What is remembered is verified again from the installed files: a later change alone could not be."""
    world.rotate_receipts()
    world.accept()
    world.rotate_receipts(since=UNTIL, until=LATE)
    items = world.offer(at=LATE)
    later = replace(world.log.history(), changes=world.log.history().changes[1:])
    refusal = world.check({**items, PartName.KEYS: encode_history(later)}, at=LATE)
    assert (refusal.reason, "from the first on" in refusal.detail) == ("bad-signature", True)
    assert isinstance(world.check(items, at=LATE), checks.Acceptable)


def test_more_history_than_there_is_room_for_is_refused(world, monkeypatch):
    world.rotate_receipts()
    items = world.offer()
    length = len(items[PartName.KEYS])
    monkeypatch.setattr("clients.doorkeeper.keys.MAX_KEYS", length - 1)
    refusal = world.check(items)
    assert (refusal.reason, "install the verifiers' files anew" in refusal.detail) == ("bad-signature", True)
    monkeypatch.setattr("clients.doorkeeper.keys.MAX_KEYS", length)
    assert world.check(items).believed.keys == (items[PartName.KEYS],)


def test_what_was_followed_before_is_not_remembered_anew(world):
    """The first showing stays: it is evidence, and a later one of the same changes says no more."""
    world.rotate_receipts()
    world.accept()
    remembered = world.memory.keys
    items = world.offer()
    assert items[PartName.KEYS] != remembered[0]
    found = world.check(items)
    assert isinstance(found, checks.Acceptable), found
    assert found.believed.keys == remembered


def test_installed_files_that_people_replaced_are_the_last_word(world):
    world.rotate_receipts()
    world.accept()
    stranger = Gatekeeper()
    world.pinned = replace(world.pinned, receipt_keys=parse_receipt_keys(stranger.receipt_keys))
    assert world.refusal().reason == "bad-signature"
    ring = believe(world.pinned, world.memory, AT).pinned.ring()
    assert ring.in_force(KeyUse.RECEIPT, AT) == (spki_of(stranger.key),)


def test_members_of_a_bundle_stay_what_they_were_after_their_key_was_replaced(world):
    long_ago = world.gatekeeper.receipt(world.gatekeeper.statement(OLD, at=AT))
    index = len(world.log.entries) - 1
    world.rotate_receipts()
    items = world.offer(at=LATE)
    found = world.check(items, at=LATE)
    assert isinstance(found, checks.Acceptable)
    members = [(items[PartName.RECEIPT], found.index), (long_ago, index)]
    data = world.gatekeeper.bundle(members)
    arrived = check_arriving(data, found, LATE)
    assert isinstance(arrived, Bundle)
    assert [member.artifact for member in arrived.members] == [NEXT.digest, OLD.digest]
    # Once more, when the key that signed the bundle itself has been replaced too.
    world.remember(found)
    world.rotate_receipts(since=LATE, until=Moment(LATE + timedelta(days=7)))
    later = Moment(LATE + timedelta(days=30))
    pinned = world.check(world.offer(at=later), at=later).believed.pinned
    assert isinstance(check_bundle(data, "hello", pinned, NOTHING), Bundle)
    assert check_arriving(data, replace(found, believed=replace(found.believed, pinned=pinned)), later).reason == "bad-signature"


def test_a_member_dated_after_its_keys_overlap_is_refused(world):
    world.rotate_receipts()
    new, world.gatekeeper.key = world.gatekeeper.key, world.first
    late = world.gatekeeper.receipt(world.gatekeeper.statement(OLD, at=LATE), entry_changes={"at": LATE})
    index, world.gatekeeper.key = len(world.log.entries) - 1, new
    items = world.offer(at=LATE)
    found = world.check(items, at=LATE)
    assert isinstance(found, checks.Acceptable), found
    refusal = check_arriving(world.gatekeeper.bundle([(items[PartName.RECEIPT], found.index), (late, index)]), found, LATE)
    assert (refusal.reason, "rollback bundle" in refusal.detail) == ("bad-signature", True)
