"""A doorkeeper from a frame to an outcome, without a process: every refusal leaves everything as it was, every outcome is stored and recorded."""

import errno
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from clients.doorkeeper import apply as applying
from clients.doorkeeper import checks
from clients.doorkeeper.apply import MAX_DETAIL, MAX_FORKS, ROOM, Applied, Unsettled
from clients.doorkeeper.files import Unreadable
from clients.doorkeeper.origins import Fork
from clients.doorkeeper.state import NOTHING, ClosedOrigin, KeptRelease, Outcome, SpentOrder, save_memory
from clients.doorkeeper.target import Caps
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.frame import MalformedFrame, PartName
from gatekeeper.model.moment import later
from gatekeeper.model.verified import Refusal
from tests.fakes.frames import ORIGIN, Gatekeeper, make_artifact, make_layer
from tests.fakes.quiet_doorkeepers import AT, QuietDoorkeeper

ONE, TWO, THREE = (make_artifact(version) for version in "123")
D = digest_of(b"d")


@pytest.fixture
def quiet(tmp_path, monkeypatch):
    return QuietDoorkeeper(tmp_path, monkeypatch)


def code(found):
    assert isinstance(found, Refusal), found
    return found.reason


# --- a frame that is taken


def test_a_healthy_deploy_is_stored_recorded_and_kept(quiet):
    found = quiet.deploy(ONE, settings=b"GREETING=hi\n")
    assert isinstance(found, Applied)
    component = quiet.component()
    assert (found.exit_code, found.memory, component.outcome, component.index) == (0, component, Outcome.HEALTHY, 0)
    assert quiet.runs["hello"] == component.healthy
    assert component.kept == (KeptRelease(ONE.digest, component.receipt, component.healthy.config),)
    assert quiet.memory.checkpoint.size == 1
    assert [(line["what"], line["receipt"]) for line in quiet.record()] == [("accepted", component.receipt), ("healthy", component.receipt)]
    assert quiet.record()[0]["artifact"] == ONE.digest
    settings = quiet.place.settings("hello", digest_hex(component.receipt))
    assert settings.read_bytes() == b"GREETING=hi\n"
    assert quiet.place.kept("hello", digest_hex(ONE.digest)).is_dir()
    assert (quiet.place.release("hello", digest_hex(ONE.digest)) / "greeter.py").is_file()
    assert quiet.place.rollback_bundle("hello").is_file()
    assert [line["progress"] for line in quiet.said if line["progress"] in ("checked", "restarting")] == ["checked", "restarting"]
    assert list(quiet.place.incoming.iterdir()) == []


def test_grace_and_releases_are_capped_by_the_target(tmp_path, monkeypatch):
    quiet = QuietDoorkeeper(tmp_path, monkeypatch, caps=Caps(grace_s=3, releases=2))
    for artifact in (ONE, TWO, THREE, TWO):
        quiet.deploy(artifact)
    component = quiet.component()
    assert component.healthy.grace_s == 3
    assert [kept.artifact for kept in component.kept] == [TWO.digest, THREE.digest], "newest first, each once"
    assert sorted(path.name for path in quiet.place.kept("hello", "x").parent.iterdir()) == sorted(digest_hex(one.digest) for one in (TWO, THREE))


def test_a_frame_without_the_bytes_runs_those_that_are_kept(quiet):
    quiet.deploy(ONE)
    quiet.deploy(TWO)
    items = quiet.items(ONE)
    for name in (PartName.MANIFEST, PartName.CONFIG, PartName.LAYER):
        del items[name]
    assert quiet.apply(items).exit_code == 0
    assert quiet.runs["hello"].artifact == ONE.digest
    for changes, expected in (({PartName.CONFIGURATION: b"[values]\n"}, "digest-mismatch"),):
        items = {name: data for name, data in quiet.items(ONE).items() if name not in (PartName.MANIFEST, PartName.CONFIG, PartName.LAYER)}
        assert code(quiet.apply(items | changes)) == expected


def test_a_frame_of_a_gatekeeper_from_before_there_were_bundles_is_taken(quiet):
    items = quiet.items(ONE)
    del items[PartName.ROLLBACK_BUNDLE], items[PartName.SETTINGS]
    assert quiet.apply(items).exit_code == 0
    assert not quiet.place.rollback_bundle("hello").exists()


def test_an_origin_that_is_left_is_recorded_before_the_receipt_and_remembered_with_it(quiet, monkeypatch):
    left, check = ClosedOrigin("production.test/log/2025", b"note\n", b"last\n"), checks.check_offer
    monkeypatch.setattr(checks, "check_offer", lambda *offer, **here: replace(check(*offer, **here), left=(left,)))
    assert quiet.deploy(ONE).exit_code == 0
    first, second = quiet.record()[:2]
    assert (first["what"], first["origin"], first["for"], first["receipt"]) == ("origin-left", left.origin, ORIGIN, second["receipt"])
    assert second["what"] == "accepted"
    assert quiet.memory.closed == (left,)


# --- a frame that is refused


def without(name):
    return lambda quiet: {key: data for key, data in quiet.items(TWO).items() if key is not name}


def changed(name, data):
    return lambda quiet: quiet.items(TWO) | {name: data}


def of_another_component(quiet):
    return quiet.items(make_artifact("2", component="second"))


@pytest.mark.parametrize(
    ("attack", "reason", "words"),
    [
        (without(PartName.PROOF), "receipt-missing", "the frame has no proof"),
        (without(PartName.CONSISTENCY), "receipt-missing", "the frame has no consistency"),
        (changed(PartName.MANIFEST, ONE.manifest), "digest-mismatch", "the manifest is not the artifact"),
        (changed(PartName.CONFIG, ONE.config + b" "), "digest-mismatch", "the config is not the one"),
        (changed(PartName.LAYER, ONE.layer), "digest-mismatch", "the layer is not the one"),
        (changed(PartName.CONFIGURATION, b"[values]\n"), "digest-mismatch", "the configuration is not the one"),
        (changed(PartName.SETTINGS, b"A=1\n"), "config-secret-refused", "A came as a secret"),
        (of_another_component, "receipt-other-target", "the artifact is of another component"),
        (lambda quiet: quiet.items(TWO) | {PartName.ROLLBACK_BUNDLE: Gatekeeper().bundle([])}, "bad-signature", ""),
    ],
)
def test_a_refused_frame_leaves_everything_as_it_was(quiet, attack, reason, words):
    quiet.deploy(ONE)
    items, before, did = attack(quiet), quiet.files(), list(quiet.did)
    found = quiet.apply(items)
    assert code(found) == reason
    assert words in found.detail
    assert (quiet.files(), quiet.did) == (before, did)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (without(PartName.MANIFEST), "the frame has no manifest"),
        (without(PartName.CONFIG), "the frame has no config"),
        (without(PartName.LAYER), "the frame has no layer"),
        (without(PartName.CONFIGURATION), "the frame has no configuration"),
    ],
)
def test_a_frame_that_lacks_a_part_is_malformed(quiet, attack, words):
    quiet.deploy(ONE)
    items, before = attack(quiet), quiet.files()
    with pytest.raises(MalformedFrame, match=f"{words}$"):
        quiet.apply(items)
    assert quiet.files() == before


def test_a_frame_for_what_is_not_kept_here_needs_the_bytes(quiet):
    items = {name: data for name, data in quiet.items(ONE).items() if name not in (PartName.MANIFEST, PartName.CONFIG, PartName.LAYER)}
    with pytest.raises(MalformedFrame, match="the frame has no manifest, and nothing is kept here under that digest"):
        quiet.apply(items)


def test_bytes_after_the_last_part_spend_nothing(quiet):
    before = quiet.files()
    with pytest.raises(MalformedFrame, match="bytes stand after the last part"):
        quiet.apply(quiet.items(ONE), after=b"x")
    assert quiet.files() == before


@pytest.mark.parametrize("over", [0, 1])
def test_a_layer_is_as_large_as_the_target_takes(tmp_path, monkeypatch, over):
    quiet = QuietDoorkeeper(tmp_path, monkeypatch, caps=Caps(layer_bytes=len(ONE.layer) - over))
    if over:
        with pytest.raises(MalformedFrame, match="the layer is over this target's bound"):
            quiet.deploy(ONE)
        assert quiet.memory == NOTHING
    else:
        assert quiet.deploy(ONE).exit_code == 0


def test_an_allow_that_ran_out_while_its_layer_was_read_is_not_acted_on(quiet):
    items = quiet.items(ONE)
    times = iter([AT, AT, later(AT, seconds=600)])
    quiet.door = replace(quiet.door, now=lambda: next(times))
    assert code(quiet.apply(items)) == "allow-expired"
    assert (quiet.memory, quiet.did) == (NOTHING, [])


@pytest.mark.parametrize("short", [0, 1])
def test_room_is_demanded_before_the_receipt_is_spent(quiet, monkeypatch, short):
    disk = SimpleNamespace(f_bavail=len(ONE.layer) + ROOM - short, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    if short:
        with pytest.raises(Unreadable, match="there is no room for the release"):
            quiet.deploy(ONE)
        assert quiet.memory == NOTHING
    else:
        assert quiet.deploy(ONE).exit_code == 0


def test_a_refusal_is_recorded_and_of_a_fork_both_notes_are_kept_but_not_without_end(quiet):
    quiet.door.refuse(D, Refusal("receipt-missing", "x" * (MAX_DETAIL + 1)))
    (line,) = quiet.record()
    assert (line["what"], line["receipt"], line["code"], line["detail"]) == ("refused", D, "receipt-missing", "x" * MAX_DETAIL)
    assert not quiet.place.forks.exists()
    for _ in range(MAX_FORKS + 1):
        quiet.door.refuse(D, Fork("log-fork", "two", (b"one\n", b"other\n")))
    kept = list(quiet.place.forks.iterdir())
    assert (len(kept), {file.read_bytes() for file in kept}) == (MAX_FORKS, {b"one\n\nother\n"})
    assert len(quiet.record()) == MAX_FORKS + 2


# --- outcomes


def test_what_is_not_healthy_is_put_back(quiet):
    quiet.deploy(ONE)
    quiet.sick.add(TWO.digest)
    found = quiet.deploy(TWO)
    component = quiet.component()
    assert (found.exit_code, component.outcome, component.detail) == (6, Outcome.ROLLED_BACK, "not healthy within 1 s")
    assert (component.healthy.artifact, quiet.runs["hello"].artifact) == (ONE.digest, ONE.digest)
    assert [kept.artifact for kept in component.kept] == [ONE.digest]
    assert quiet.record()[-1]["what"] == "rolled-back"
    assert {"progress": "restoring", "detail": ""} in quiet.said


def test_what_cannot_be_put_back_is_failed_and_says_both(quiet):
    quiet.deploy(ONE)
    quiet.broken |= {ONE.digest, TWO.digest}
    found = quiet.deploy(TWO)
    component = quiet.component()
    assert (found.exit_code, component.outcome) == (6, Outcome.FAILED)
    assert component.detail == "cannot be started: it is broken; the previous release could not be put back: cannot be started: it is broken"


def test_a_first_release_that_is_not_healthy_leaves_nothing_running(quiet):
    quiet.sick.add(ONE.digest)
    found = quiet.deploy(ONE)
    assert (found.exit_code, quiet.component().outcome) == (6, Outcome.FAILED)
    assert quiet.component().detail == "not healthy within 1 s; there is no previous release to put back"
    assert quiet.runs == {}


def test_an_error_that_is_not_ours_is_told_by_its_name_alone(quiet, monkeypatch):
    def fail(*_):
        raise ValueError("a secret")

    monkeypatch.setattr(applying, "switch_on", fail)
    quiet.deploy(ONE)
    assert quiet.component().detail == "cannot be started: ValueError; there is no previous release to put back"


def test_a_layer_that_is_unsafe_is_spent_and_nothing_is_switched(quiet):
    quiet.deploy(ONE)
    did = list(quiet.did)
    found = quiet.deploy(make_artifact("2", layer=make_layer({"../evil": b"x"})))
    assert (found.exit_code, quiet.component().outcome, quiet.did) == (1, Outcome.FAILED, did)
    assert "climbs" in quiet.component().detail


def test_a_disk_that_fails_while_it_installs_is_spent_and_nothing_is_switched(quiet, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(applying, "unpack_layer", fail)
    found = quiet.deploy(ONE)
    assert (found.exit_code, quiet.component().detail, quiet.did) == (1, "the release cannot be written: No space left on device", [])


def test_a_memory_that_cannot_be_written_is_told_as_unsettled_with_the_receipt(quiet, monkeypatch):
    items = quiet.items(ONE)
    monkeypatch.setattr(applying, "save_memory", lambda *_: (_ for _ in ()).throw(Unreadable("state.json could not be made durable")))
    with pytest.raises(Unsettled, match=r"state\.json could not be made durable") as told:
        quiet.apply(items)
    assert told.value.receipt == digest_of(items[PartName.RECEIPT])
    assert quiet.did == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("write_durably", "rollback-bundle could not be made durable: x"), ("make_private", "the layer could not be written: x")],
)
def test_a_disk_that_fails_before_the_receipt_is_spent_is_our_own_fault(quiet, monkeypatch, name, words):
    def fail(*_, **__):
        raise OSError(errno.EIO, "x")

    items = quiet.items(ONE)
    monkeypatch.setattr(applying, name, fail)
    with pytest.raises(Unreadable, match=words):
        quiet.apply(items)
    assert quiet.memory == NOTHING


# --- after a crash


def interrupted(quiet, *, healthy=True, name="hello"):
    """As a crash in mid-apply leaves it."""
    quiet.deploy(ONE)
    component = replace(quiet.component(), outcome=Outcome.IN_PROGRESS)
    save_memory(quiet.place, quiet.memory.with_component(name, component if healthy else replace(component, healthy=None)))
    quiet.did.clear()


@pytest.mark.parametrize(
    ("healthy", "sick", "outcome", "detail"),
    [
        (True, False, Outcome.INTERRUPTED, "interrupted; the previous release runs"),
        (True, True, Outcome.FAILED, "interrupted; the previous release could not be put back: not healthy within 1 s"),
        (False, False, Outcome.INTERRUPTED, "interrupted; there is no previous release to put back"),
    ],
)
def test_what_was_cut_short_is_put_right_and_never_told_as_healthy(quiet, healthy, sick, outcome, detail):
    interrupted(quiet, healthy=healthy)
    quiet.sick |= {ONE.digest} if sick else set()
    (quiet.place.incoming / "half").write_bytes(b"x")
    quiet.door.recover(quiet.memory)
    assert (quiet.component().outcome, quiet.component().detail) == (outcome, detail)
    assert quiet.record()[-1]["what"] == outcome.value
    assert list(quiet.place.incoming.iterdir()) == []
    before = quiet.files()
    assert quiet.door.recover(quiet.memory) == quiet.memory
    assert quiet.files() == before, "it is put right once"


def test_what_runs_untouched_is_only_asked_for_its_health(quiet):
    interrupted(quiet)
    quiet.door.recover(quiet.memory)
    assert quiet.did == [("wait", "hello", ONE.digest)]
    interrupted(quiet)
    quiet.runs.clear()
    quiet.door.recover(quiet.memory)
    assert quiet.did == [("on", "hello", ONE.digest), ("wait", "hello", ONE.digest)]


def test_a_unit_is_restarted_though_its_link_is_in_place(tmp_path, monkeypatch):
    quiet = QuietDoorkeeper(tmp_path, monkeypatch, restart=("/bin/true",))
    interrupted(quiet)
    quiet.door.recover(quiet.memory)
    assert quiet.did[0] == ("on", "hello", ONE.digest)


def test_a_component_that_no_longer_runs_here_is_left_as_it_is(quiet):
    interrupted(quiet, name="gone")
    before = quiet.files()
    quiet.door.recover(quiet.memory)
    assert (quiet.files(), quiet.did) == (before, [])


def spent(quiet, **changes):
    order = SpentOrder(
        D, "hello", ONE.digest, ("olga", "omar"), "2026-11-21T11:00:00Z", "2026-11-21T10:00:00Z", Outcome.IN_PROGRESS, "", D, b"{}", reported=False
    )
    save_memory(quiet.place, quiet.memory.with_order(replace(order, **changes)))


@pytest.mark.parametrize(
    ("healthy", "sick", "outcome", "detail"),
    [
        (True, False, Outcome.INTERRUPTED, "interrupted; the previous release runs"),
        (True, True, Outcome.FAILED, "interrupted; the previous release could not be put back: not healthy within 1 s"),
        (False, False, Outcome.INTERRUPTED, "interrupted; there is no previous release to put back"),
    ],
)
def test_an_order_that_was_cut_short_stays_spent_and_is_put_right(quiet, healthy, sick, outcome, detail):
    quiet.deploy(ONE)
    if not healthy:
        save_memory(quiet.place, quiet.memory.with_component("hello", replace(quiet.component(), healthy=None)))
    spent(quiet)
    quiet.sick |= {ONE.digest} if sick else set()
    quiet.door.recover(quiet.memory)
    (order,) = quiet.memory.orders
    assert (order.order, order.outcome, order.detail) == (D, outcome, detail)
    assert (quiet.record()[-1]["what"], quiet.record()[-1]["order"]) == (f"override-{outcome.value}", D)
    before = quiet.files()
    quiet.door.recover(quiet.memory)
    assert quiet.files() == before, "it is put right once"


@pytest.mark.parametrize("component", ["gone", "second"])
def test_an_order_for_what_does_not_run_here_is_left_as_it_is(quiet, component):
    quiet.deploy(ONE)
    if component == "gone":
        save_memory(quiet.place, quiet.memory.with_component("gone", quiet.component()))
    spent(quiet, component=component)
    before, did = quiet.files(), list(quiet.did)
    quiet.door.recover(quiet.memory)
    assert (quiet.files(), quiet.did) == (before, did)


def test_orders_that_the_gatekeeper_logged_are_reported_and_stay_so(quiet):
    quiet.deploy(ONE)
    other = digest_of(b"other")
    spent(quiet, outcome=Outcome.HEALTHY)
    spent(quiet, outcome=Outcome.HEALTHY, order=other, reported=True)
    items = quiet.items(TWO)
    members = [(items[PartName.RECEIPT], len(quiet.gatekeeper.log.entries) - 1)]
    for reported, expected in (((), [False, True]), ((D,), [True, True])):
        if reported:
            items = quiet.items(THREE)
            members = [(items[PartName.RECEIPT], len(quiet.gatekeeper.log.entries) - 1)]
        assert quiet.apply(items | {PartName.ROLLBACK_BUNDLE: quiet.gatekeeper.bundle(members, reported=reported)}).exit_code == 0
        assert [order.reported for order in quiet.memory.orders] == expected


def test_a_sign_of_life_is_given_at_once_and_then_every_twenty_seconds(quiet, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(applying, "time", SimpleNamespace(monotonic=lambda: now[0]))
    beat = quiet.door.beat("unpacking")
    for seconds in (0.0, 19.5, 0.5, 0.0, 20.0):
        now[0] += seconds
        beat(f"{now[0]:g}")
    assert quiet.said == [{"progress": "unpacking", "detail": detail} for detail in ("100", "120", "140")]
