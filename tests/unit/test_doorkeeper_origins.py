"""A doorkeeper and the origins of a log: what it follows, what it has left, and that nothing of one is taken for the other's."""

from dataclasses import replace

import pytest

from clients.doorkeeper import checks
from clients.doorkeeper.origins import Fork, leave, policies, standing
from clients.doorkeeper.state import ClosedOrigin, ComponentMemory, Memory, Outcome, Remembered, encode_memory, parse_memory
from clients.doorkeeper.target import Caps, ComponentSlot, InstalledTarget, Pinned, parse_receipt_keys
from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import parse_moment
from gatekeeper.model.receipt import encode_receipt, parse_receipt
from gatekeeper.model.verified import Refusal
from gatekeeper.tlog.entry import encode_entry
from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.tlog.note import encode_vkey
from gatekeeper.tlog.origins import Crossing, encode_crossings
from tests.fakes.frames import ORIGIN, Gatekeeper, MemoryLog, make_artifact
from tests.fakes.origins import OriginLog, opening_after

NEXT = ORIGIN + "b"
AT = parse_moment("2026-11-21T10:00:00Z")


class World:
    """A doorkeeper that remembers four entries of the old origin, whose last note is of six; and the next origin, with one Allow."""

    def __init__(self, *, key=None, lost_from=None):
        self.gatekeeper = Gatekeeper()
        self.old = self.gatekeeper.log
        for number in range(6):
            self.old.append(bytes([number]))
        target = InstalledTarget("host-1", "production", "production", (ComponentSlot("hello", 1, (), None),), Caps())
        self.pinned = Pinned(target, parse_log_policy(self.gatekeeper.log_policy), parse_receipt_keys(self.gatekeeper.receipt_keys), None)
        self.closing = (lost_from or self.old).note()
        self.opening = encode_entry(opening_after(self.closing, NEXT))
        self.new = OriginLog(NEXT, key or self.old.key)
        self.new.append(self.opening)
        artifact = make_artifact()
        made = parse_receipt(self.gatekeeper.receipt(self.gatekeeper.statement(artifact, at=AT), log=self.new, entry_changes={"origin": NEXT}))
        self.receipt = encode_receipt(statement=made.statement, entry=made.entry, index=1, origin=NEXT, evidence=())

    def memory(self, size=4, *, index=None, origin=None, **changes):
        memory = Memory(Remembered(ORIGIN, size, self.old.root(size), self.old.note(size)), (), **changes)
        last = ComponentMemory(3 if index is None else index, None, digest_of(b"r"), Outcome.HEALTHY, "", "c", size, "2026-11-21T10:00:00Z", None)
        return memory.with_component("hello", replace(last, origin=origin))

    def crossing(self, old=4, log=None):
        return encode_crossings([Crossing(self.opening, (log or self.old).growth(old), self.new.proof(0))])

    def check(self, memory, *, origins=None, pinned=None, receipt=None, growth=None):
        receipt = receipt or self.receipt
        offer = checks.Offer(receipt, self.new.proof(1), growth or self.new.growth(0), opening=False, origins=origins)
        return checks.check_offer(offer, named=digest_of(receipt), pinned=pinned or self.pinned, memory=memory, at=AT)


@pytest.fixture
def world():
    return World()


def after(found, memory):
    """The memory that accepting leaves."""
    checkpoint = found.checkpoint
    remembered = Remembered(checkpoint.origin, checkpoint.size, checkpoint.root, checkpoint.note)
    return leave(replace(memory, checkpoint=remembered), found.left)


def refused(found):
    assert isinstance(found, Refusal), found
    return found.reason


def test_without_a_crossing_it_says_what_it_remembers(world):
    assert world.check(world.memory()) == checks.Behind(4, ORIGIN)


def test_where_nothing_is_remembered_the_next_origin_is_nobodys(world):
    """First contact follows the installed files' origin and no other, and says so without a word about what it remembers."""
    found = world.check(Memory(None, ()))
    assert isinstance(found, Refusal)
    assert found.reason == "receipt-missing"


def test_an_origin_that_could_not_follow_is_no_fork_but_no_receipt_of_this_log(world):
    made = parse_receipt(world.receipt)
    strange = encode_receipt(statement=made.statement, entry=made.entry, index=1, origin="elsewhere.test/log/2026", evidence=())
    assert refused(world.check(world.memory(), receipt=strange)) == "receipt-missing"


def test_a_crossing_that_holds_is_followed_and_leaves_the_old_origin(world):
    memory = world.memory()
    found = world.check(memory, origins=world.crossing())
    assert isinstance(found, checks.Acceptable), found
    assert (found.checkpoint.origin, found.index) == (NEXT, 1)  # 1 is below the 3 of the old origin, and nothing was replayed
    assert found.left == (ClosedOrigin(ORIGIN, world.old.note(4), world.closing),)
    memory = after(found, memory)
    assert memory.component("hello").origin == ORIGIN
    assert parse_memory(encode_memory(memory)) == memory
    # What is pinned still names the old origin; what is followed is the new one, under the same key.
    assert standing(world.pinned, memory).policy.log == world.new.vkey
    assert set(policies(world.pinned, memory)) == {ORIGIN, NEXT}


def test_the_closed_origin_has_no_further_receipts(world):
    memory = world.memory()
    memory = after(world.check(memory, origins=world.crossing()), memory)
    parsed = parse_receipt(world.receipt)
    old = encode_receipt(statement=parsed.statement, entry=parsed.entry, index=1, origin=ORIGIN, evidence=())
    for origins in (None, world.crossing()):
        assert refused(world.check(memory, origins=origins, receipt=old)) == "origin-closed"


def test_an_index_is_replayed_within_its_own_origin_alone(world):
    found = world.check(world.memory(index=3), origins=world.crossing())
    memory = after(found, world.memory(index=3))
    growth = world.new.growth(2)
    for origin, index, expected in ((NEXT, 1, "receipt-replayed"), (None, 1, "receipt-replayed"), (NEXT, 0, None), (ORIGIN, 5, None)):
        last = replace(memory.component("hello"), origin=origin, index=index)
        answer = world.check(memory.with_component("hello", last), growth=growth)
        assert (answer.reason if isinstance(answer, Refusal) else None) == expected


def test_what_the_target_remembers_must_be_in_the_closing_note(world):
    fork = world.old.fork()
    for _ in range(6):
        fork.append(b"other")
    lying = World(key=world.old.key, lost_from=fork)
    lying.pinned, lying.old = replace(lying.pinned, log_policy=world.pinned.log_policy), world.old
    for growth in (fork, world.old):
        found = lying.check(world.memory(), origins=lying.crossing(log=growth))
        assert isinstance(found, Fork), found
        assert found.reason == "log-fork"
        assert world.old.note(4) in found.notes
        assert growth.note() in found.notes
        assert lying.new.note() in found.notes
    # A note behind what is remembered: the tail that this target saw is missing.
    assert refused(world.check(world.memory(6), origins=encode_crossings([Crossing(world.opening, world.old.growth(4), world.new.proof(0))]))) == "log-fork"


def test_another_key_speaks_for_no_next_name(world):
    stranger = World(key=MemoryLog().key)
    stranger.old, stranger.pinned = world.old, replace(stranger.pinned, log_policy=world.pinned.log_policy)
    stranger.opening = world.opening
    found = stranger.check(world.memory(), origins=encode_crossings([Crossing(stranger.opening, world.old.growth(4), stranger.new.proof(0))]))
    assert refused(found) == "log-fork"


def test_the_crossing_ends_at_the_frames_own_checkpoint(world):
    short = encode_crossings([Crossing(world.opening, world.old.growth(4), world.new.proof(0, 1))])
    assert refused(world.check(world.memory(), origins=short)) == "receipt-missing"
    assert refused(world.check(world.memory(), origins=world.crossing(), growth=world.new.growth(1))) == "receipt-missing"


def test_a_crossing_needs_something_to_leave(world):
    nothing = Memory(None, ())
    assert refused(world.check(nothing, origins=world.crossing())) == "log-fork"


def test_files_for_the_next_origin_with_its_checkpoint_are_a_persons_word(world):
    policy = parse_log_policy(f"log {encode_vkey(world.new.vkey)}\nquorum none\n".encode())
    alone = replace(world.pinned, log_policy=policy)
    assert world.check(world.memory(), pinned=alone) == checks.Behind(4, ORIGIN)  # a policy alone makes it forget nothing
    found = world.check(world.memory(), pinned=replace(alone, first_checkpoint=world.new.note(1)), growth=world.new.growth(1))
    assert isinstance(found, checks.Acceptable), found
    assert found.left == (ClosedOrigin(ORIGIN, world.old.note(4), b""),)
    assert parse_memory(encode_memory(after(found, world.memory()))).checkpoint.origin == NEXT


def test_a_state_from_before_there_were_origins_is_read(world):
    memory = world.memory()
    data = encode_memory(memory)
    older = data.replace(b'"closed":[],', b"").replace(b',"origin":null', b"").replace(b'"origin":null,', b"")
    assert older != data
    assert parse_memory(older) == memory


def test_an_installed_checkpoint_takes_nothing_back_of_what_is_remembered_of_its_origin(world):
    installed = replace(world.pinned, first_checkpoint=world.old.note(2))
    assert standing(installed, Memory(None, ())).known[0].size == 2
    here = standing(installed, world.memory(4))
    assert (here.known[0].size, here.known[1], here.left) == (4, world.old.note(4), ())


def test_what_is_known_of_a_component_stays_of_the_origin_that_it_was_known_of(world):
    memory = world.memory()
    assert leave(memory, ()) == memory
    older = memory.with_component("older", replace(memory.component("hello"), origin="o.test/older"))
    left = (ClosedOrigin(ORIGIN, b"note\n", b"last\n"), ClosedOrigin(NEXT, b"note\n", b"last\n"))
    after = leave(older, left)
    assert (after.component("hello").origin, after.component("older").origin) == (ORIGIN, "o.test/older")
    assert after.closed == left


def test_what_is_no_note_is_no_evidence_of_a_fork(world):
    memory, note = world.memory(), world.old.note(4)
    for growth in (b"x\n\nno note\n", b"no note"):
        found = world.check(memory, origins=encode_crossings([Crossing(world.opening, growth, world.new.proof(0))]))
        assert isinstance(found, Fork), found
        assert found.notes == (note, world.new.note())
