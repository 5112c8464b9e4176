"""Overrides and status without a process: what may be brought back, what becomes of an order, how long it is remembered, what is told of it."""

import errno
from dataclasses import replace

import pytest

from clients.doorkeeper import override as overriding
from clients.doorkeeper.files import Unreadable
from clients.doorkeeper.override import Overridden, may_bring_back, override
from clients.doorkeeper.state import MAX_ORDERS, NOTHING, KeptRelease, Outcome, SpentOrder, save_memory
from clients.doorkeeper.status import render_status
from clients.doorkeeper.target import Caps
from clients.doorkeeper.unpack import UnsafeArchive
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.moment import later, render_moment
from gatekeeper.model.verified import Refusal
from tests.fakes.frames import Gatekeeper, make_artifact
from tests.fakes.orders import payload_of, signed
from tests.fakes.quiet_doorkeepers import AT, QuietDoorkeeper

ONE, TWO, THREE = (make_artifact(version) for version in "123")
D = digest_of(b"d")
ORDER = SpentOrder(
    D, "hello", ONE.digest, ("olga", "omar"), "2026-11-21T11:00:00Z", "2026-11-21T10:00:00Z", Outcome.HEALTHY, "", D, b"{}", reported=False
)


class Site(QuietDoorkeeper):
    """Version 1, then version 2 were deployed, each with the bundle of all that were."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.members = []
        for artifact in (ONE, TWO):
            self.bundled(artifact)
        self.did.clear()

    def bundled(self, artifact, **changes):
        items = self.items(artifact)
        self.members.insert(0, (items[PartName.RECEIPT], len(self.gatekeeper.log.entries) - 1))
        assert self.apply(items | {PartName.ROLLBACK_BUNDLE: self.gatekeeper.bundle(self.members, **changes)}).exit_code == 0

    def order(self, digest, *, incident="INC-1", until=3600):
        payload = payload_of(digest, incident=incident, not_after=later(AT, seconds=until))
        return override(self.door, signed(payload, self.people.olga, self.people.omar), self.memory)

    def any(self):
        self.door = replace(self.door, pinned=replace(self.door.pinned, target=replace(self.door.pinned.target, override_any=True)))

    def without_slot(self):
        target = self.door.pinned.target
        alone = replace(target, components=tuple(slot for slot in target.components if slot.name != "hello"))
        self.door = replace(self.door, pinned=replace(self.door.pinned, target=alone))

    def may(self):
        return [kept.artifact for _, kept in may_bring_back(self.place, self.door.believed(self.memory), self.memory)]

    def status(self):
        return render_status(self.door, self.memory)


@pytest.fixture
def site(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch)


def refused(found):
    assert isinstance(found, Refusal), found
    return found.reason, found.detail


# --- what becomes of an order


def test_an_order_that_holds_brings_the_release_back_and_is_spent(site):
    found = site.order(ONE.digest)
    assert isinstance(found, Overridden)
    assert (found.exit_code, found.restored, found.spent.outcome) == (0, None, Outcome.HEALTHY)
    component = site.component()
    assert (component.healthy.artifact, component.override) == (ONE.digest, found.spent.order)
    assert site.runs["hello"] == component.healthy
    assert component.healthy.receipt == component.kept[1].receipt, "with the settings it was deployed with"
    assert site.memory.orders == (found.spent,)
    record = site.record()[-2:]
    assert [(line["what"], line["order"]) for line in record] == [("override", found.spent.order), ("override-healthy", found.spent.order)]
    assert (record[0]["digest"], record[0]["signers"], record[0]["incident"]) == (ONE.digest, ["olga", "omar"], "INC-1")
    assert {"progress": "checked", "detail": "ordered by olga and omar"} in site.said
    assert refused(site.order(ONE.digest))[0] == "override-expired"


def test_bytes_that_nothing_names_any_more_go_once_it_is_healthy(site):
    stray = site.place.release("hello", "0" * 64)
    stray.mkdir()
    site.sick.add(ONE.digest)
    site.order(ONE.digest)
    assert stray.is_dir()
    site.sick.clear()
    assert site.order(ONE.digest, incident="INC-2").exit_code == 0
    assert not stray.exists()


def test_what_is_not_healthy_is_put_back_and_told(site):
    site.sick.add(ONE.digest)
    found = site.order(ONE.digest)
    assert (found.exit_code, found.restored, found.spent.outcome) == (6, TWO.digest, Outcome.ROLLED_BACK)
    assert found.spent.detail == "not healthy within 1 s; the previous release runs again"
    assert (site.component().healthy.artifact, site.component().override, site.runs["hello"].artifact) == (TWO.digest, None, TWO.digest)
    assert site.memory.orders == (found.spent,)


def test_what_cannot_be_put_back_is_failed(site):
    site.broken |= {ONE.digest, TWO.digest}
    found = site.order(ONE.digest)
    assert (found.exit_code, found.restored, found.spent.outcome) == (6, None, Outcome.FAILED)
    broken = "cannot be started: it is broken"
    assert found.spent.detail == f"{broken}; the previous release could not be put back: {broken}"


def test_where_nothing_was_healthy_nothing_is_put_back(site):
    save_memory(site.place, site.memory.with_component("hello", replace(site.component(), healthy=None)))
    site.sick.add(ONE.digest)
    found = site.order(ONE.digest)
    assert (found.exit_code, found.restored, found.spent.outcome) == (6, None, Outcome.FAILED)
    assert found.spent.detail == "not healthy within 1 s; there is no previous release to put back"


@pytest.mark.parametrize(
    ("error", "detail"),
    [(OSError(errno.ENOSPC, "No space left on device"), "the release cannot be written: No space left on device"), (UnsafeArchive("layer: x"), "layer: x")],
)
def test_what_cannot_be_unpacked_is_spent_and_nothing_is_switched(site, monkeypatch, error, detail):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(overriding, "unpack_layer", fail)
    found = site.order(ONE.digest)
    assert (found.exit_code, found.spent.outcome, found.spent.detail, site.did) == (1, Outcome.FAILED, detail, [])


def test_an_order_is_stored_as_spent_before_anything_is_unpacked(site, monkeypatch):
    seen = []
    monkeypatch.setattr(overriding, "unpack_layer", lambda *_, **__: seen.extend(site.memory.orders))
    site.order(ONE.digest)
    assert [order.outcome for order in seen] == [Outcome.IN_PROGRESS]


def test_a_release_directory_that_the_workload_changed_is_unpacked_anew(site):
    file = site.place.release("hello", digest_hex(ONE.digest)) / "greeter.py"
    file.write_bytes(b"evil")
    site.order(ONE.digest)
    assert file.read_bytes() != b"evil"


def test_grace_is_capped_by_the_target(tmp_path, monkeypatch):
    site = Site(tmp_path, monkeypatch, caps=Caps(grace_s=3))
    site.order(ONE.digest)
    assert site.component().healthy.grace_s == 3


# --- what may be brought back


def test_what_the_bundle_holds_was_healthy_here_and_is_kept(site):
    assert site.may() == [TWO.digest, ONE.digest]
    site.members.pop()
    site.bundled(TWO)
    assert site.may() == [TWO.digest]
    before = site.files()
    reason, detail = refused(site.order(ONE.digest))
    assert (reason, detail.startswith("the digest is not in the rollback bundle, or was never healthy here")) == ("override-scope", True)
    assert site.files() == before
    site.any()
    assert site.may() == [TWO.digest, ONE.digest]
    reason, detail = refused(site.order(THREE.digest))
    assert (reason, detail.startswith("the digest is not in what is kept here")) == ("override-scope", True)


def test_what_is_no_longer_kept_is_not_brought_back(site):
    site.place.kept("hello", digest_hex(ONE.digest)).rename(site.place.var / "away")
    assert site.may() == [TWO.digest]
    assert refused(site.order(ONE.digest))[0] == "override-scope"


def test_a_component_that_no_longer_runs_here_has_nothing_to_bring_back(site):
    site.without_slot()
    assert site.may() == []
    assert refused(site.order(ONE.digest))[0] == "override-scope"
    site.any()
    assert site.may() == []
    assert refused(site.order(ONE.digest))[0] == "override-scope"


def test_without_a_bundle_nothing_is_listed(site):
    site.place.rollback_bundle("hello").unlink()
    assert site.may() == []
    assert "see rollback_set of" in refused(site.order(ONE.digest))[1]


def test_a_bundle_that_does_not_hold_is_the_reason_and_one_that_is_none_is_damage(site):
    path = site.place.rollback_bundle("hello")
    path.write_bytes(Gatekeeper().bundle([]))
    assert site.may() == []
    reason, detail = refused(site.order(ONE.digest))
    assert (reason, detail.startswith("the rollback bundle of hello does not hold: ")) == ("override-scope", True)
    path.write_bytes(b"{")
    with pytest.raises(Unreadable, match=r"^rollback-bundle: "):
        site.order(ONE.digest)
    assert site.status()["rollback_set"] == []
    site.any()
    assert site.may() == [TWO.digest, ONE.digest], "where any may be named nobody reads the bundle"


# --- how long orders are remembered


def remember(site, *orders):
    save_memory(site.place, replace(site.memory, orders=tuple(replace(ORDER, order=digest_of(b"%d" % number), **one) for number, one in enumerate(orders))))


@pytest.mark.parametrize(
    ("seconds", "reported", "stays"),
    [(1, True, True), (0, True, False), (-1, True, False), (1, False, True), (-1, False, True)],
)
def test_an_order_is_forgotten_once_it_is_reported_and_cannot_be_used_again(site, seconds, reported, stays):
    remember(site, {"not_after": render_moment(later(AT, seconds=seconds)), "reported": reported})
    site.order(ONE.digest)
    assert len(site.memory.orders) == 1 + stays


def test_where_there_is_no_room_the_oldest_that_cannot_be_used_again_go(site):
    old, new = render_moment(AT), render_moment(later(AT, seconds=1))
    remember(site, *({"not_after": new if number in (0, 2) else old} for number in range(MAX_ORDERS)))
    site.order(ONE.digest)
    kept = [order.order for order in site.memory.orders]
    assert len(kept) == MAX_ORDERS
    assert kept[:2] == [digest_of(b"0"), digest_of(b"2")], "1 was the oldest that had passed"


def test_with_one_place_left_nothing_that_was_not_reported_is_forgotten(site):
    remember(site, *({"not_after": render_moment(AT)} for _ in range(MAX_ORDERS - 1)))
    site.order(ONE.digest)
    assert len(site.memory.orders) == MAX_ORDERS


def test_an_order_that_could_still_be_used_is_never_forgotten_for_another(site):
    remember(site, *({"not_after": render_moment(later(AT, seconds=1))} for _ in range(MAX_ORDERS)))
    before = site.files()
    with pytest.raises(Unreadable, match="32 orders were used here within 4 hours: no more can be remembered"):
        site.order(ONE.digest)
    assert site.files() == before


# --- what is told


def test_status_of_what_runs(site):
    status, component = site.status(), site.component()
    assert (status["origin"], status["size"], status["closed_origins"]) == ("production.test/log/2026", 2, [])
    assert status["record"] == "intact, 4 lines"
    (told,) = status["components"]
    assert (told["component"], told["receipt"], told["outcome"]) == ("hello", component.receipt, "healthy")
    assert (told["running"], told["config"]) == (TWO.digest, component.healthy.config)
    assert [one["artifact"] for one in status["rollback_set"]] == [TWO.digest, ONE.digest]


def test_status_of_what_does_not_run(site):
    site.runs.clear()
    (told,) = site.status()["components"]
    assert (told["running"], told["config"]) == (None, None)


def test_status_where_nothing_is_remembered(site):
    status = render_status(site.door, NOTHING)
    assert (status["origin"], status["size"], status["components"], status["rollback_set"]) == (None, 0, [], [])


def test_status_of_what_was_never_healthy_and_of_what_no_longer_has_a_place(site):
    never = replace(site.component(), healthy=None)
    save_memory(site.place, site.memory.with_component("hello", never))
    assert site.status()["components"][0]["running"] is None
    save_memory(site.place, site.memory.with_component("hello", replace(never, healthy=site.runs["hello"])))
    assert site.status()["components"][0]["running"] == TWO.digest
    site.without_slot()
    assert site.status()["components"][0]["running"] is None


@pytest.mark.parametrize(("restart", "outcome", "told"), [((), "in-progress", True), (("/bin/true",), "in-progress", False), (("/bin/true",), "healthy", True)])
def test_of_a_unit_that_may_be_switched_already_nothing_is_told(tmp_path, monkeypatch, restart, outcome, told):
    site = Site(tmp_path, monkeypatch, restart=restart)
    save_memory(site.place, site.memory.with_component("hello", replace(site.component(), outcome=Outcome(outcome))))
    assert (site.status()["components"][0]["running"] is not None) == told


def test_status_of_what_was_adopted(site):
    release = site.runs["hello"]
    save_memory(site.place, replace(site.memory, adopted=(("hello", release),)))
    assert site.status()["adopted"] == [{"component": "hello", "artifact": TWO.digest, "runs": True}]
    site.runs.clear()
    assert site.status()["adopted"][0]["runs"] is False
    site.runs["hello"] = release
    site.without_slot()
    assert site.status()["adopted"][0]["runs"] is False


def test_orders_are_told_until_they_are_reported_and_not_before_they_are_settled(site):
    remember(site, {"reported": True}, {"outcome": Outcome.IN_PROGRESS}, {"outcome": Outcome.FAILED})
    assert [(one["order"], one["outcome"], one["envelope"]) for one in site.status()["overrides"]] == [(digest_of(b"2"), "failed", "e30=")]


def test_a_record_that_does_not_hold_is_told(site):
    (site.place.var / "record.head").write_text(digest_of(b"other"))
    assert site.status()["record"] == "damaged: record.jsonl: its end is missing or was changed"


def test_a_release_that_was_kept_of_another_component_is_found_under_its_own(site):
    kept = KeptRelease(ONE.digest, D, None)
    save_memory(site.place, site.memory.with_component("second", replace(site.component(), kept=(kept,), healthy=None)))
    site.any()
    assert [name for name, _ in may_bring_back(site.place, site.door.believed(site.memory), site.memory)] == ["hello", "hello"]
