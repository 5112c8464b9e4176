"""Every refusal of the doorkeeper's checks, by its own code, and that the honest frame passes."""

from dataclasses import replace

import pytest

from clients.doorkeeper import checks
from clients.doorkeeper.artifact import parse_manifest
from clients.doorkeeper.state import NOTHING, ComponentMemory, Memory, Outcome, Remembered
from clients.doorkeeper.target import Caps, ComponentSlot, InstalledTarget, Pinned, parse_receipt_keys
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.decision import Mode, Purpose, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.moment import later, parse_moment
from gatekeeper.model.receipt import encode_receipt, parse_receipt
from gatekeeper.model.verified import Refusal
from gatekeeper.tlog.entry import encode_entry
from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.tlog.note import cosigner_vkey, encode_vkey
from tests.fakes.entries import decoy, leaf_of
from tests.fakes.frames import ORIGIN, Gatekeeper, MemoryLog, make_artifact

AT = parse_moment("2026-11-21T10:00:00Z")
OTHER_COMMIT = "a" * 40


class World:
    def __init__(self, *, quorum=False):
        self.gatekeeper = Gatekeeper()
        self.artifact = make_artifact()
        policy = self.gatekeeper.log_policy
        if quorum:
            witness = encode_vkey(cosigner_vkey("w.test/w", MemoryLog().key.public_key().public_bytes_raw()))
            policy = policy.replace(b"quorum none", f"witness w {witness}\nquorum w".encode())
        target = InstalledTarget("host-1", "production", "production", (ComponentSlot("hello", 1, (), None),), Caps())
        self.pinned = Pinned(target, parse_log_policy(policy), parse_receipt_keys(self.gatekeeper.receipt_keys), None)
        self.memory = NOTHING

    def items(self, *, entry_changes=None, sign_other=False, old=0, **changes):
        statement = self.gatekeeper.statement(self.artifact, at=AT, **changes)
        receipt = self.gatekeeper.receipt(statement, entry_changes=entry_changes, sign_other=sign_other)
        return self.gatekeeper.items(self.artifact, receipt, index=len(self.gatekeeper.log.entries) - 1, old=old)

    def check(self, items, *, named=None, at=AT, opening=False, memory=None):
        receipt = items.get(PartName.RECEIPT)
        offer = checks.Offer(receipt, items.get(PartName.PROOF), items.get(PartName.CONSISTENCY), opening)
        named = named or digest_of(receipt or b"")
        return checks.check_offer(offer, named=named, pinned=self.pinned, memory=memory or self.memory, at=at)

    def remember(self, size=None, *, index=None, origin=ORIGIN):
        log = self.gatekeeper.log
        size = len(log.entries) if size is None else size
        memory = Memory(Remembered(origin, size, log.root(size), log.note(size)), ())
        if index is not None:
            last = ComponentMemory(index, None, digest_of(b"r"), Outcome.HEALTHY, "", "c", size, "2026-11-21T10:00:00Z", None)
            memory = memory.with_component("hello", last)
        return memory


@pytest.fixture
def world():
    return World()


def code(answer):
    assert isinstance(answer, Refusal), answer
    return answer.reason


def test_the_honest_frame_passes_at_first_contact_and_later(world):
    found = world.check(world.items())
    assert isinstance(found, checks.Acceptable)
    assert (found.index, found.checkpoint.size) == (0, 1)
    assert isinstance(world.check(world.items(old=1), memory=world.remember(1, index=0)), checks.Acceptable)


@pytest.mark.parametrize("missing", [PartName.RECEIPT, PartName.PROOF, PartName.CONSISTENCY])
def test_nothing_may_be_missing(world, missing):
    items = world.items()
    del items[missing]
    assert code(world.check(items)) == "receipt-missing"


def test_another_receipt_than_the_credential_names(world):
    assert code(world.check(world.items(), named=digest_of(b"other"))) == "receipt-missing"


def test_signature_over_other_bytes_or_by_another_key(world):
    assert code(world.check(world.items(sign_other=True))) == "bad-signature"
    items = world.items()
    world.pinned = replace(world.pinned, receipt_keys=parse_receipt_keys(Gatekeeper().receipt_keys))
    assert code(world.check(items)) == "bad-signature"
    world.pinned = replace(world.pinned, receipt_keys=())
    assert code(world.check(items)) == "bad-signature"


def test_inclusion_by_another_log_key_or_of_another_entry(world):
    items = world.items()
    stranger = MemoryLog()
    stranger.entries = list(world.gatekeeper.log.entries)
    assert code(world.check({**items, PartName.PROOF: stranger.proof(0), PartName.CONSISTENCY: stranger.growth(0)})) == "receipt-missing"
    world.items()
    wrong = {**items, PartName.PROOF: world.gatekeeper.log.proof(1), PartName.CONSISTENCY: world.gatekeeper.log.growth(0)}
    assert code(world.check(wrong)) == "receipt-missing"
    assert code(world.check({**items, PartName.PROOF: b"no proof"})) == "receipt-missing"


def test_a_consistency_proof_to_a_strangers_note_is_none_though_the_receipts_own_proof_holds(world):
    items = world.items()
    stranger = MemoryLog()
    stranger.entries = list(world.gatekeeper.log.entries)
    refusal = world.check({**items, PartName.CONSISTENCY: stranger.growth(0)})
    assert code(refusal) == "receipt-missing"
    assert "the consistency proof leads to no checkpoint of the log" in refusal.detail


def test_a_decision_without_an_end_has_ended(world):
    allow = world.gatekeeper.statement(world.artifact, at=AT)
    assert checks.check_expiry(allow, AT) is None
    denied = world.gatekeeper.statement(world.artifact, at=AT, verdict=Verdict.DENY, not_after=None, reasons=("votes-veto",))
    assert checks.check_expiry(denied, AT).reason == "allow-expired"


def test_witness_quorum_not_met():
    world = World(quorum=True)
    answer = world.check(world.items())
    assert code(answer) == "receipt-missing"
    assert "quorum" in answer.detail


def test_receipt_and_proof_name_one_place(world):
    world.items()
    items = world.items()
    same_entry_twice = world.gatekeeper.log.append(world.gatekeeper.log.entries[1])
    moved = {**items, PartName.PROOF: world.gatekeeper.log.proof(same_entry_twice), PartName.CONSISTENCY: world.gatekeeper.log.growth(0)}
    answer = world.check(moved)
    assert code(answer) == "receipt-missing"
    assert "another place" in answer.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"statement": digest_of(b"other")},
        {"artifact": digest_of(b"other")},
        {"environment": "staging"},
        {"component": "other"},
        {"target": ("host-2",)},
        {"mode": Mode.WARN},
        {"purpose": Purpose.ROLLBACK},
        {"not_after": later(AT, seconds=9999)},
        {"candidate_config": OTHER_COMMIT},
        {"policy": digest_of(b"other")},
    ],
)
def test_an_entry_that_says_otherwise_is_no_entry_of_the_statement(world, changes):
    answer = world.check(world.items(entry_changes=changes))
    assert code(answer) == "receipt-missing"
    assert "another decision" in answer.detail


def test_an_entry_that_is_no_decision_or_sealed(world):
    log = world.gatekeeper.log
    future = {"v": 1, "kind": "future", "entry_id": "0" * 32, "origin": ORIGIN, "at": "2026-11-21T10:00:00Z", "config": None}
    sealed = encode_entry(leaf_of(*(decoy(slot, origin=ORIGIN) for slot in range(4)), origin=ORIGIN))
    for entry, expected in ((sealed, "sealed-not-allowed"), (encode_canonical(future), "receipt-missing")):
        items = world.items()
        index = log.append(entry)
        receipt = encode_receipt(statement=parse_receipt(items[PartName.RECEIPT]).statement, entry=entry, index=index, origin=ORIGIN, evidence=())
        frame = {PartName.RECEIPT: receipt, PartName.PROOF: log.proof(index), PartName.CONSISTENCY: log.growth(0)}
        assert code(world.check(frame)) == expected


def test_stale_old_and_smaller_checkpoint(world):
    items = world.items(old=0)
    world.items()
    assert world.check(items, memory=world.remember(2)) == checks.Behind(2)
    smaller = {**items, PartName.CONSISTENCY: items[PartName.CONSISTENCY].replace(b"old 0", b"old 2")}
    assert world.check(smaller, memory=world.remember(2)) == checks.Behind(2)
    assert world.check(world.items(old=2)) == checks.Behind(0)


def test_fork_at_the_same_size_at_a_larger_one_and_another_origin(world):
    world.items()
    memory = world.remember(1)
    honest = world.gatekeeper.log
    world.gatekeeper.log = honest.fork()
    same = world.check(world.items(old=1), memory=memory)
    assert code(same) == "log-fork"
    assert same.notes == (honest.note(1), world.gatekeeper.log.note(1))
    assert code(world.check(world.items(old=1), memory=memory)) == "log-fork"
    world.gatekeeper.log = honest
    for old in (0, 1):  # never "stale": another origin cannot be caught up with
        assert code(world.check(world.items(old=old), memory=world.remember(1, origin="other.test/log/2026"))) == "log-fork"


def test_installed_checkpoint_is_the_first_memory(world):
    world.items()
    world.pinned = replace(world.pinned, first_checkpoint=world.gatekeeper.log.note(1))
    assert world.check(world.items(old=0)) == checks.Behind(1)
    assert isinstance(world.check(world.items(old=1)), checks.Acceptable)


def test_proof_and_consistency_lead_to_one_checkpoint(world):
    items = world.items()
    world.items()
    items[PartName.CONSISTENCY] = world.gatekeeper.log.growth(0)
    answer = world.check(items)
    assert code(answer) == "receipt-missing"
    assert "two checkpoints" in answer.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": ("host-2",)},
        {"environment": "staging"},
        {"component": "other"},
        {"instance": "test"},
        {"mode": Mode.SHADOW},
        {"verdict": Verdict.DENY, "not_after": None, "reasons": ("votes-veto",)},
    ],
)
def test_a_decision_for_others_or_none_to_act_on(world, changes):
    assert code(world.check(world.items(**changes))) == "receipt-other-target"


def test_warn_is_acted_on_and_one_of_several_targets_is_enough(world):
    assert isinstance(world.check(world.items(mode=Mode.WARN, targets=("host-0", "host-1"))), checks.Acceptable)


@pytest.mark.parametrize(("seconds", "expired"), [(599, False), (600, True), (601, True)])
def test_expiry_to_the_second(world, seconds, expired):
    answer = world.check(world.items(), at=later(AT, seconds=seconds))
    assert (code(answer) == "allow-expired") if expired else isinstance(answer, checks.Acceptable)


@pytest.mark.parametrize("last", [1, 2])
def test_replay(world, last):
    world.items()
    answer = world.check(world.items(old=1), memory=world.remember(1, index=last))
    assert code(answer) == "receipt-replayed"


def test_an_opening_is_not_taken(world):
    assert code(world.check(world.items(), opening=True)) == "sealed-not-allowed"


def test_bytes_of_the_artifact(world):
    statement, artifact = world.gatekeeper.statement(world.artifact, at=AT), world.artifact
    other = make_artifact("2")
    contents = parse_manifest(artifact.manifest)
    layer, size = digest_of(artifact.layer), len(artifact.layer)
    assert checks.check_manifest(artifact.manifest, statement) is None
    assert code(checks.check_manifest(other.manifest, statement)) == "digest-mismatch"
    assert checks.check_config(artifact.config, contents, layer, size) is None
    assert code(checks.check_config(artifact.config + b" ", contents, layer, size)) == "digest-mismatch"
    assert code(checks.check_config(artifact.config, contents, digest_of(other.layer), size)) == "digest-mismatch"
    assert code(checks.check_config(artifact.config, contents, layer, size + 1)) == "digest-mismatch"
