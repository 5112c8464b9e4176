"""`pingee-doorkeeper override` with a real doorkeeper and real workloads: attack matrix row 142, and what a crash or a bad release leaves."""

import json
import os
import signal
import subprocess

import pytest

from gatekeeper.adapters.ssh import _read_status
from gatekeeper.model.fields import Fields
from gatekeeper.model.frame import PartName
from gatekeeper.ports.target import LastOutcome
from tests.fakes.doorkeepers import installed
from tests.fakes.frames import Gatekeeper, frame_of, make_artifact, parts_of
from tests.fakes.orders import NOBODY, People, payload_of, signed


class Site:
    """A target where version 1, then version 2 were deployed, each with its rollback bundle."""

    def __init__(self, door, people):
        self.door, self.people, self.number = door, people, 0
        self.one, self.two = make_artifact("1"), make_artifact("2")
        self.past = []

    def deploy(self, artifact, *, bundle=True, code=0, reported=(), settings=None, **changes):
        settings = f"GREETING=hi{len(self.past)}\n" if settings is None else settings
        receipt, items = self.door.gatekeeper.deploy(artifact, old=self.door.status()["size"], settings=settings.encode())
        index = len(self.door.gatekeeper.log.entries) - 1
        members = [(items[PartName.RECEIPT], index), *(one for _, one in reversed(self.past))]
        if bundle:
            items[PartName.ROLLBACK_BUNDLE] = self.door.gatekeeper.bundle(members, reported=reported, **changes)
        answer = self.door.apply(receipt, items)
        assert answer[0] == code, answer
        self.past = [past for past in self.past if past[0] != artifact.digest] + [(artifact.digest, (items[PartName.RECEIPT], index))]
        return answer[1]

    def deploy_fickle(self, *, grace_s):
        """A release that was healthy once, and never will be again; then version 2 once more."""
        flag = self.door.directory / "flag"
        flag.write_text("")
        argv = ["/bin/sh", "-c", 'test -e "$FLAG" && exec python3 greeter.py $PORT; exec sleep 60']
        fickle = make_artifact("3", argv=argv, grace_s=grace_s)
        self.deploy(fickle, settings=f"FLAG={flag}\n")
        self.deploy(self.two)
        flag.unlink()
        return fickle

    def order(self, digest, *keys, **changes):
        self.number += 1
        file = self.door.directory / f"order-{self.number}"
        file.write_bytes(signed(payload_of(digest, incident=f"INC-{self.number}", **changes), *(keys or (self.people.olga, self.people.omar))))
        return file

    def override(self, file):
        done = subprocess.run(
            self.door.command("override", str(file)), env=self.door.environment(""), capture_output=True, timeout=60, check=False
        )
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    def record(self):
        return [json.loads(line) for line in (self.door.place.var / "record.jsonl").read_bytes().splitlines()]


@pytest.fixture
def site(tmp_path):
    people = People()
    with installed(tmp_path, Gatekeeper(), people.file) as door:
        site = Site(door, people)
        site.deploy(site.one)
        site.deploy(site.two)
        yield site


def test_two_people_bring_back_the_release_before_and_then_the_one_after(site):
    door = site.door
    assert [one["artifact"] for one in door.status()["rollback_set"]] == [site.two.digest, site.one.digest]
    assert door.page() == "hi1 2"
    file = site.order(site.one.digest)
    code, answer = site.override(file)
    assert (code, answer["outcome"], answer["applied"], answer["restored"]) == (0, "healthy", site.one.digest, None)
    assert door.page() == "hi0 1"  # its own configuration came back with it
    status = door.status()
    (component,) = status["components"]
    assert (component["running"], component["override"], component["outcome"]) == (site.one.digest, answer["order"], "healthy")
    (report,) = status["overrides"]
    assert (report["order"], report["signers"], report["outcome"]) == (answer["order"], ["olga", "omar"], "healthy")
    assert status["record"].startswith("intact")

    said = [line for line in site.record() if line["what"].startswith("override")]
    assert [line["what"] for line in said] == ["override", "override-healthy"]
    assert {name: said[0][name] for name in ("digest", "signers", "reason", "incident", "order")} == {
        "digest": site.one.digest, "signers": ["olga", "omar"], "reason": "it burns", "incident": "INC-1", "order": answer["order"],
    }  # fmt: skip

    parsed = _read_status(Fields(status))
    assert (parsed.overrides[0].order, parsed.overrides[0].outcome) == (answer["order"], LastOutcome.HEALTHY)
    assert parsed.overrides[0].envelope == file.read_bytes()
    assert parsed.component("hello").override == answer["order"]

    code, again = site.override(site.order(site.two.digest))
    assert (code, again["applied"]) == (0, site.two.digest)
    assert door.page() == "hi1 2"


def test_every_order_that_is_refused_changes_nothing(site):
    olga, olga2, stranger = site.people.olga, site.people.olga2, site.people.stranger
    healthy = make_artifact("never deployed here")
    good = site.order(site.one.digest)
    assert site.override(good)[0] == 0
    before, page = site.door.state(), site.door.page()
    cases = [
        (site.order(site.one.digest, olga), "override-signers"),
        (site.order(site.one.digest, olga, olga), "override-signers"),
        (site.order(site.one.digest, olga, olga2), "override-signers"),
        (site.order(site.one.digest, olga, stranger), "override-signers"),
        (site.order(site.one.digest, seconds=-1), "override-expired"),
        (site.order(site.one.digest, seconds=4 * 3600 + 60), "override-expired"),
        (good, "override-expired"),
        (site.order(site.one.digest, target="host-2"), "override-scope"),
        (site.order(NOBODY), "override-scope"),
        (site.order(healthy.digest), "override-scope"),
    ]
    for file, expected in cases:
        code, answer = site.override(file)
        assert (code, answer["refused"]) == (3, expected)
        assert answer["detail"]
        assert site.record()[-1]["code"] == expected
    assert (site.door.state(), site.door.page()) == (before, page)
    assert site.door.status()["record"].startswith("intact")


def test_what_is_no_order_is_malformed_and_without_pinned_people_nobody_overrides(site):
    file = site.door.directory / "order"
    before = site.door.state()
    for data in (None, b"", b"{}", b"x" * 5000, signed(b"{}", site.people.olga)):
        if data is not None:
            file.write_bytes(data)
        code, answer = site.override(file)
        assert (code, list(answer)) == (1, ["error"])
    assert site.door.state() == before
    site.door.place.override_keys.unlink()
    code, answer = site.override(site.order(site.one.digest))
    assert (code, answer["refused"]) == (3, "override-signers")


def test_an_order_is_spent_though_the_doorkeeper_was_killed(site):
    slow = site.deploy_fickle(grace_s=50)
    file = site.order(slow.digest)
    with subprocess.Popen(site.door.command("override", str(file)), stdout=subprocess.PIPE, env=site.door.environment("")) as child:
        while b"health" not in child.stdout.readline():
            pass
        os.kill(child.pid, signal.SIGKILL)
    status = site.door.status()  # whoever opens the doorkeeper next puts right what was cut short
    assert status["components"][0]["running"] == site.two.digest
    assert [(report["outcome"], report["digest"]) for report in status["overrides"]] == [("interrupted", slow.digest)]
    assert status["record"].startswith("intact")
    code, answer = site.override(file)
    assert (code, answer["refused"]) == (3, "override-expired")
    assert "used here before" in answer["detail"]


def test_a_release_that_is_no_longer_healthy_is_not_kept_and_what_ran_is_put_back(site):
    fickle = site.deploy_fickle(grace_s=1)
    code, answer = site.override(site.order(fickle.digest))
    assert (code, answer["outcome"], answer["applied"], answer["restored"]) == (6, "rolled-back", None, site.two.digest)
    assert "not healthy within 1 s" in answer["detail"]
    assert "the previous release runs again" in answer["detail"]
    component = site.door.component()
    assert (component["running"], component["override"], component["outcome"]) == (site.two.digest, None, "healthy")
    assert site.door.page().endswith(" 2")


def test_only_what_the_bundle_holds_unless_the_target_says_any(site):
    # A bundle that leaves version 1 out, as one does when it must not come back.
    site.past = [past for past in site.past if past[0] == site.two.digest]
    site.deploy(site.two)
    code, answer = site.override(site.order(site.one.digest))
    assert (code, answer["refused"]) == (3, "override-scope")
    target = site.door.place.target_file
    target.write_text('override = "any"\n' + target.read_text())
    assert site.override(site.order(site.one.digest))[0] == 0
    code, answer = site.override(site.order(NOBODY))
    assert (code, answer["refused"]) == (3, "override-scope")
    assert "kept here" in answer["detail"]


def test_a_release_that_was_never_healthy_is_not_brought_back_though_the_bundle_holds_it(site):
    bad = make_artifact("bad", argv=["python3", "-c", "raise SystemExit(1)"])
    site.deploy(bad, code=6)
    code, answer = site.override(site.order(bad.digest))
    assert (code, answer["refused"]) == (3, "override-scope")
    assert site.override(site.order(site.one.digest))[0] == 0


def test_a_frame_without_a_bundle_is_taken_and_the_last_bundle_stands(site):
    three = make_artifact("3")
    site.deploy(three, bundle=False)
    assert [one["artifact"] for one in site.door.status()["rollback_set"]] == [site.two.digest, site.one.digest]
    assert site.override(site.order(site.one.digest))[0] == 0


def test_a_bad_bundle_refuses_the_frame_and_spends_nothing(site):
    three = make_artifact("3")
    bundle = site.door.place.rollback_bundle("hello").read_bytes()
    before = site.door.state()
    assert site.deploy(three, code=3, key=Gatekeeper().key)["refused"] == "bad-signature"
    assert site.deploy(three, code=3, target="host-2")["refused"] == "receipt-other-target"
    assert site.door.state() == before
    assert site.door.place.rollback_bundle("hello").read_bytes() == bundle


def test_a_bundle_that_was_edited_here_brings_nothing_back(site):
    path = site.door.place.rollback_bundle("hello")
    path.write_bytes(site.door.gatekeeper.bundle([], key=Gatekeeper().key))
    code, answer = site.override(site.order(site.one.digest))
    assert (code, answer["refused"]) == (3, "override-scope")
    assert "does not hold" in answer["detail"]
    path.write_bytes(b"{")
    assert site.override(site.order(site.one.digest))[0] == 7


def test_kept_bytes_that_were_altered_are_not_started(site):
    folder = site.door.place.kept("hello", site.one.digest.removeprefix("sha256:"))
    (folder / "layer.tar").write_bytes(b"other bytes")
    before = site.door.state()
    code, answer = site.override(site.order(site.one.digest))
    assert code == 7
    assert "not the one that the manifest names" in answer["error"]
    assert site.door.state() == before
    # A release directory is the workload's to write into: an override unpacks the kept bytes anew.
    (folder / "layer.tar").write_bytes(site.one.layer)
    released = site.door.place.release("hello", site.one.digest.removeprefix("sha256:")) / "greeter.py"
    released.write_bytes(b"raise SystemExit(1)")
    assert site.override(site.order(site.one.digest))[0] == 0
    assert released.read_bytes() != b"raise SystemExit(1)"


@pytest.mark.parametrize("how", ["cut", "edited"])
def test_a_record_that_was_cut_or_edited_shows_it_and_stops_the_next_override(site, how):
    assert site.override(site.order(site.one.digest))[0] == 0
    path = site.door.place.var / "record.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]) if how == "cut" else b"".join(lines).replace(b'"incident":"INC-1"', b'"incident":"INC-0"'))
    status = site.door.status()
    assert status["record"].startswith("damaged")
    check = subprocess.run(site.door.command("install", "--check"), env=site.door.environment(""), capture_output=True, timeout=60, check=False)
    assert check.returncode == 7
    assert b"record.jsonl" in check.stdout
    if how == "cut":
        assert site.override(site.order(site.two.digest))[0] == 7


def test_once_the_gatekeeper_says_that_it_logged_an_order_it_is_no_longer_told(site):
    _, answer = site.override(site.order(site.one.digest))
    assert len(site.door.status()["overrides"]) == 1
    site.deploy(site.two, reported=(answer["order"],))
    status = site.door.status()
    assert status["overrides"] == []
    assert status["components"][0]["override"] is None
    assert site.door.page().endswith(" 2")


def test_frames_and_orders_exclude_each_other(site):
    slow = make_artifact("3", argv=["python3", "-c", "import time; time.sleep(60)"], grace_s=50)
    receipt, items = site.door.gatekeeper.deploy(slow, old=site.door.status()["size"])
    with subprocess.Popen(
        site.door.command("serve", receipt.removeprefix("sha256:")), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=site.door.environment("apply")
    ) as child:
        child.stdin.write(frame_of(parts_of(items)))
        child.stdin.close()
        while b"health" not in child.stdout.readline():
            pass
        code, answer = site.override(site.order(site.one.digest))
        child.kill()
    assert (code, answer) == (1, {"error": "another apply is under way at this target"})
