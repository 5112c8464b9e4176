"""What a target asks of an order and of a rollback bundle before it acts: attack matrix row 142, code by code."""

from dataclasses import replace

import pytest

from clients.doorkeeper import checks
from clients.doorkeeper.bundle import Bundle, check_arriving, check_bundle
from clients.doorkeeper.files import Place, Unreadable
from clients.doorkeeper.keep import forget_all_but, is_kept, keep_artifact, open_kept
from clients.doorkeeper.override import check_order
from clients.doorkeeper.state import (
    MAX_ORDERS,
    NOTHING,
    ComponentMemory,
    KeptRelease,
    Memory,
    Outcome,
    Release,
    Remembered,
    SpentOrder,
    encode_memory,
    parse_memory,
)
from clients.doorkeeper.target import Caps, ComponentSlot, InstalledTarget, Pinned, load_pinned, parse_override_keys, parse_receipt_keys, parse_target
from gatekeeper.model.decision import Mode, Verdict
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.moment import later, parse_moment
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.verify.rollback import BundleMember
from tests.fakes.frames import Gatekeeper, MemoryLog, make_artifact
from tests.fakes.orders import NOBODY, People, payload_of, signed

AT = parse_moment("2026-11-21T10:00:00Z")
COMPONENT = ComponentMemory(
    3, None, NOBODY, Outcome.HEALTHY, "", "— c abc", 4, "2026-11-21T10:00:00Z", Release(NOBODY, NOBODY, "c" * 40, ("a", "{port}"), "/healthz", 5)
)
MEMORY = Memory(Remembered("o.test/log", 4, b"r" * 32, b"note\n"), (("hello", COMPONENT),))
FOUR_HOURS = 4 * 3600


def code(answer):
    assert isinstance(answer, Refusal), answer
    return answer.reason


class Door:
    def __init__(self):
        self.gatekeeper, self.people = Gatekeeper(), People()
        slots = (ComponentSlot("hello", 1, (), None), ComponentSlot("second", 2, (), None))
        target = InstalledTarget("host-1", "production", "production", slots, Caps())
        log_policy = parse_log_policy(self.gatekeeper.log_policy)
        self.pinned = Pinned(target, log_policy, parse_receipt_keys(self.gatekeeper.receipt_keys), None, self.people.keys)
        self.memory = NOTHING

    def order(self, *, keys=None, until=3600, **changes):
        payload = payload_of(not_after=later(AT, seconds=until), **changes)
        return signed(payload, *(keys or (self.people.olga, self.people.omar)))

    def check(self, data, at=AT):
        return check_order(data, self.pinned, self.memory, at)

    def spend(self, data, **changes):
        spent = replace(SPENT, order=self.check(data).digest, **changes)
        self.memory = self.memory.with_order(spent)


SPENT = SpentOrder(
    NOBODY, "hello", NOBODY, ("olga", "omar"), "2026-11-21T11:00:00Z", "2026-11-21T10:00:00Z", Outcome.HEALTHY, "", NOBODY, b"{}", reported=False
)


@pytest.fixture
def door():
    return Door()


def test_an_order_for_this_target_that_holds_now_passes(door):
    found = door.check(door.order())
    assert isinstance(found, Verified)
    assert found.value.signers == ("olga", "omar")


@pytest.mark.parametrize(("until", "expected"), [(1, None), (0, "override-expired"), (-60, "override-expired"), (FOUR_HOURS, None)])
def test_an_order_ends_to_the_second(door, until, expected):
    found = door.check(door.order(until=until))
    assert (found.reason if isinstance(found, Refusal) else None) == expected


def test_an_order_for_more_than_four_hours_is_refused_until_they_are_four(door):
    data = door.order(until=FOUR_HOURS + 1)
    assert code(door.check(data)) == "override-expired"
    assert "more than 4 hours" in door.check(data).detail
    assert isinstance(door.check(data, later(AT, seconds=1)), Verified)


def test_an_order_is_used_once_whoever_signs_it_again(door):
    door.spend(door.order())
    for keys in ((door.people.olga, door.people.omar), (door.people.omar, door.people.olga2)):
        refusal = door.check(door.order(keys=keys))
        assert code(refusal) == "override-expired"
        assert "used here before" in refusal.detail
    assert isinstance(door.check(door.order(incident="INC-2")), Verified)


def test_another_target(door):
    refusal = door.check(door.order(target="host-2"))
    assert code(refusal) == "override-scope"
    assert "host-2" in refusal.detail


def test_the_order_of_checks_is_fixed(door):
    one = (door.people.olga,)
    assert code(door.check(door.order(keys=one, until=-1, target="host-2"))) == "override-signers"
    assert code(door.check(door.order(until=-1, target="host-2"))) == "override-expired"


def test_no_pinned_people_means_no_override(door):
    door.pinned = replace(door.pinned, override_keys={})
    assert code(door.check(door.order())) == "override-signers"


# --- the files


def test_the_file_of_keys(door):
    assert parse_override_keys(door.people.file) == door.people.keys
    assert parse_override_keys(b"") == {}
    lines = door.people.file.decode().splitlines()[2:]
    same_key_twice = lines[0] + "\n" + lines[0].replace("olga", "omar")
    for text, detail in (
        ("olga", "line 1"),
        (lines[0] + " more", "line 1"),
        (lines[0].replace("ed25519", "rsa"), "line 1"),
        ("Olga" + lines[0][4:], "name"),
        (lines[0][:-4], "32 bytes|base64"),
        (same_key_twice, "line 2 holds a key"),
    ):
        with pytest.raises(ValueError, match=detail):
            parse_override_keys(text.encode())


def test_what_may_be_overridden_stands_in_the_target_file():
    text = 'version = 1\ntarget = "host-1"\ninstance = "p"\nenvironment = "p"\n%s\n[components.hello]\nport = 80\n'
    assert parse_target((text % "").encode()).override_any is False
    assert parse_target((text % 'override = "rollback-bundle"').encode()).override_any is False
    assert parse_target((text % 'override = "any"').encode()).override_any is True


def test_a_broken_file_of_keys_is_told_before_the_emergency(tmp_path, door):
    place = Place.below(tmp_path)
    place.etc.mkdir()
    place.target_file.write_text('version = 1\ntarget = "host-1"\ninstance = "p"\nenvironment = "p"\n[components.hello]\nport = 80\n')
    place.log_policy.write_bytes(door.gatekeeper.log_policy)
    place.receipt_keys.write_bytes(door.gatekeeper.receipt_keys)
    assert load_pinned(place).override_keys == {}
    place.override_keys.write_bytes(door.people.file)
    assert load_pinned(place).override_keys == door.people.keys
    place.override_keys.write_bytes(b"olga\n")
    with pytest.raises(Unreadable, match="override-keys: line 1"):
        load_pinned(place)


def test_spent_orders_are_remembered_and_an_older_state_can_be_read():
    kept = replace(COMPONENT, kept=(KeptRelease(NOBODY, NOBODY, "c" * 40), KeptRelease(NOBODY, NOBODY, None)), override=NOBODY)
    memory = Memory(MEMORY.checkpoint, (("hello", kept),)).with_order(SPENT)
    assert parse_memory(encode_memory(memory)) == memory
    older = encode_memory(MEMORY).replace(b',"orders":[]', b"").replace(b',"kept":[],"override":null', b"").replace(b'"kept":[],', b"")
    older = older.replace(b'"override":null,', b"")
    assert b"orders" not in older
    assert b"kept" not in older
    assert parse_memory(older) == MEMORY
    too_many = Memory(None, (), orders=(SPENT,) * (MAX_ORDERS + 1))
    with pytest.raises(ValueError, match="more than 32"):
        parse_memory(encode_memory(too_many))


# --- the bundle


class Deployed(Door):
    """Two deploys, and a third one's frame about to arrive."""

    def __init__(self):
        super().__init__()
        self.artifacts = [make_artifact(str(number)) for number in range(3)]
        self.receipts = [self.gatekeeper.receipt(self.gatekeeper.statement(artifact, at=AT)) for artifact in self.artifacts]
        items = self.gatekeeper.items(self.artifacts[2], self.receipts[2], index=2, old=0)
        offer = checks.Offer(*(items[name] for name in (PartName.RECEIPT, PartName.PROOF, PartName.CONSISTENCY)), opening=False)
        found = checks.check_offer(offer, named=digest_of(self.receipts[2]), pinned=self.pinned, memory=NOTHING, at=AT)
        assert isinstance(found, checks.Acceptable)
        self.found = found

    @property
    def members(self):
        return [(self.receipts[2], 2), (self.receipts[1], 1), (self.receipts[0], 0)]

    def arrive(self, members=None, **changes):
        return check_arriving(self.gatekeeper.bundle(self.members if members is None else members, **changes), self.found, AT)


@pytest.fixture
def deployed():
    return Deployed()


def test_the_gatekeepers_bundle_is_believed_when_it_arrives_and_later(deployed):
    bundle = deployed.arrive(reported=(NOBODY,))
    assert isinstance(bundle, Bundle)
    assert [member.artifact for member in bundle.members] == [artifact.digest for artifact in reversed(deployed.artifacts)]
    assert bundle.reported == (NOBODY,)
    assert bundle.holds(deployed.artifacts[0].digest)
    assert not bundle.holds(NOBODY)
    again = check_bundle(deployed.gatekeeper.bundle(deployed.members, reported=(NOBODY,)), "hello", deployed.pinned, NOTHING)
    assert again == bundle


@pytest.mark.parametrize("change", [{"instance": "test"}, {"environment": "test"}, {"component": "other"}, {"target": "host-2"}])
def test_a_bundle_for_another_place(deployed, change):
    refusal = deployed.arrive(**change)
    assert code(refusal) == "receipt-other-target"
    assert "another target, environment or component" in refusal.detail


def test_a_bundle_by_another_key(deployed):
    assert code(deployed.arrive(key=Gatekeeper().key)) == "bad-signature"


def test_a_bundle_of_another_deploy(deployed):
    for members in (deployed.members[1:], []):
        refusal = deployed.arrive(members)
        assert code(refusal) == "receipt-other-target"
        assert "another deploy" in refusal.detail


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"targets": ("host-2",)}, "receipt-other-target"),
        ({"environment": "test"}, "receipt-other-target"),
        ({"instance": "test"}, "receipt-other-target"),
        ({"component": "other"}, "receipt-other-target"),
        ({"component": "second"}, "receipt-other-target"),
        ({"mode": Mode.SHADOW}, "receipt-other-target"),
        ({"verdict": Verdict.DENY, "reasons": ("votes-missing",), "not_after": None}, "receipt-other-target"),
    ],
)
def test_a_member_that_is_no_allow_for_this_place(changes, expected):
    deployed = Deployed.__new__(Deployed)
    Door.__init__(deployed)
    artifact = make_artifact("0")
    odd = deployed.gatekeeper.receipt(deployed.gatekeeper.statement(artifact, at=AT, **changes))
    own = deployed.gatekeeper.receipt(deployed.gatekeeper.statement(make_artifact("1"), at=AT))
    items = deployed.gatekeeper.items(make_artifact("1"), own, index=1, old=0)
    offer = checks.Offer(*(items[name] for name in (PartName.RECEIPT, PartName.PROOF, PartName.CONSISTENCY)), opening=False)
    deployed.found = checks.check_offer(offer, named=digest_of(own), pinned=deployed.pinned, memory=NOTHING, at=AT)
    data = deployed.gatekeeper.bundle([(own, 1), (odd, 0)])
    assert code(check_arriving(data, deployed.found, AT)) == expected
    assert code(check_bundle(data, "hello", deployed.pinned, NOTHING)) == expected


def test_a_member_of_a_private_tree_or_without_a_proof(deployed):
    """A member that never stood in the log that this target remembers."""
    fork = deployed.gatekeeper.log.fork()
    fork.entries = list(deployed.gatekeeper.log.entries[:2])
    forged = deployed.gatekeeper.receipt(deployed.gatekeeper.statement(make_artifact("x"), at=AT), log=fork)
    refusal = deployed.arrive(deployed.members[:1], others=(BundleMember(forged, fork.proof(2)),))
    assert code(refusal) == "receipt-missing"
    assert "another checkpoint" in refusal.detail
    swapped = deployed.arrive([deployed.members[0], (deployed.receipts[1], 0)])
    assert code(swapped) == "receipt-missing"
    stranger = MemoryLog()
    stranger.entries = list(deployed.gatekeeper.log.entries)
    assert code(deployed.arrive(log=stranger)) == "receipt-missing"


# --- the bytes


@pytest.fixture
def kept(tmp_path):
    place, artifact = Place.below(tmp_path), make_artifact()
    place.var.mkdir()
    (tmp_path / "layer").write_bytes(artifact.layer)
    keep_artifact(place, "hello", artifact.manifest, artifact.config, tmp_path / "layer")
    return place, artifact


def test_kept_bytes_are_hashed_again_from_the_digest_that_people_signed(kept):
    place, artifact = kept
    run, layer = open_kept(place, "hello", artifact.digest)
    assert (run.component, layer.read_bytes()) == ("hello", artifact.layer)
    folder = place.kept("hello", digest_hex(artifact.digest))
    for name, word in (("manifest.json", "manifest"), ("config.json", "config or layer"), ("layer.tar", "config or layer")):
        good = (folder / name).read_bytes()
        (folder / name).write_bytes(good + b" ")
        with pytest.raises(Unreadable, match=word):
            open_kept(place, "hello", artifact.digest)
        (folder / name).write_bytes(good)
    assert folder.stat().st_mode & 0o077 == 0


def test_what_is_kept_stays_and_everything_else_goes(kept):
    place, artifact = kept
    memory = replace(COMPONENT, healthy=None, kept=(KeptRelease(artifact.digest, NOBODY, None),))
    settings = place.settings("hello", digest_hex(NOBODY))
    settings.parent.mkdir(parents=True)
    for file in (settings, settings.with_name("0" * 64)):
        file.write_text("")
    place.release("hello", "0" * 64).mkdir(parents=True)
    forget_all_but(place, "hello", memory, None)
    assert is_kept(place, "hello", artifact.digest)
    assert [file.name for file in settings.parent.iterdir()] == [settings.name]
    assert list(place.release("hello", "x").parent.iterdir()) == []
    forget_all_but(place, "hello", replace(memory, kept=()), None)
    assert not is_kept(place, "hello", artifact.digest)
