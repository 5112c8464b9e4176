"""Adopting what runs, without the process: what is kept, linked, recorded and said; tests/integration/test_doorkeeper_adopts.py has the process."""

import errno
import json
import stat
from dataclasses import replace

import pytest

from clients.doorkeeper import adopt as adoption
from clients.doorkeeper.adopt import Adoption, NotAdopted, adopt
from clients.doorkeeper.apply import Doorkeeper
from clients.doorkeeper.cosign import make_cosigner_key
from clients.doorkeeper.files import Place, Unreadable
from clients.doorkeeper.keep import open_kept
from clients.doorkeeper.record import Record
from clients.doorkeeper.state import NOTHING, ComponentMemory, Outcome, load_memory
from clients.doorkeeper.target import Caps, ComponentSlot, InstalledTarget, Pinned, parse_receipt_keys
from gatekeeper.model.digest import digest_hex
from gatekeeper.model.moment import parse_moment
from gatekeeper.tlog.logpolicy import parse_log_policy
from tests.fakes.frames import Gatekeeper

AT = parse_moment("2026-11-21T10:00:00Z")


@pytest.fixture
def unit(tmp_path, monkeypatch):
    """A host whose component is a unit with a restart command, and healthy."""
    monkeypatch.setattr(adoption, "wait_healthy", lambda *_, **__: None)
    gatekeeper, place = Gatekeeper(), Place.below(tmp_path / "door")
    place.var.mkdir(parents=True)
    slots = (ComponentSlot("hello", 1, ("/bin/true",), None),)
    target = InstalledTarget("host-1", "production", "production", slots, Caps())
    make_cosigner_key(place)
    Record(place).begin()
    pinned = Pinned(target, parse_log_policy(gatekeeper.log_policy), parse_receipt_keys(gatekeeper.receipt_keys), None)
    return Doorkeeper.open(place, pinned, say=lambda _: None, now=lambda: AT)


@pytest.fixture
def wanted(tmp_path):
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv" / "run").write_bytes(b"x")
    (tmp_path / "env").write_text("GREETING=legacy\n")
    return Adoption("hello", tmp_path / "srv", ("./run",), "/healthz", 5, None, tmp_path / "env")


def test_a_unit_is_linked_to_the_bytes_and_settings_that_are_kept_of_it(unit, wanted):
    release = adopt(unit, wanted, NOTHING)
    current = unit.place.current("hello")
    assert current.resolve() == unit.place.release("hello", digest_hex(release.artifact)).resolve()
    assert (current / "run").read_bytes() == b"x"
    assert current.with_name("hello.env").read_text() == "GREETING=legacy\n"
    assert stat.S_IMODE(current.parent.stat().st_mode) == 0o700
    assert dict(load_memory(unit.place).adopted) == {"hello": release}
    assert not unit.place.process("hello").exists()


def test_the_record_says_what_was_adopted(unit, wanted):
    release = adopt(unit, wanted, NOTHING)
    (line,) = (unit.place.var / "record.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert (said["what"], said["component"], said["artifact"], said["at"]) == ("adopted", "hello", release.artifact, "2026-11-21T10:00:00Z")


def test_who_ends_the_process_is_said_one_way_only(unit, wanted, tmp_path):
    with pytest.raises(NotAdopted, match="hello: it has a restart command, which ends it: leave --pid-file out"):
        adopt(unit, replace(wanted, pid_file=tmp_path / "pid"), NOTHING)
    alone = replace(unit.pinned.target, components=(ComponentSlot("hello", 1, (), None),))
    with pytest.raises(NotAdopted, match="hello: name the process that runs it with --pid-file"):
        adopt(replace(unit, pinned=replace(unit.pinned, target=alone)), wanted, NOTHING)


@pytest.mark.parametrize(("at_fault", "named"), [("here.txt", "here.txt"), (None, "{srv}")])
def test_a_disk_that_fails_is_told_with_the_file_and_nothing_is_left(unit, wanted, monkeypatch, at_fault, named):
    def fail(_source, layer, _caps):
        layer.write_bytes(b"half")
        raise OSError(errno.EIO, "Input/output error", at_fault)

    monkeypatch.setattr(adoption, "pack_directory", fail)
    with pytest.raises(NotAdopted) as told:
        adopt(unit, wanted, NOTHING)
    assert str(told.value) == f"{named.format(srv=wanted.directory)}: Input/output error"
    assert list(unit.place.incoming.iterdir()) == []
    assert not unit.place.state.exists()


def test_what_was_adopted_or_deployed_is_not_adopted_again(unit, wanted):
    release = adopt(unit, wanted, NOTHING)
    known = replace(NOTHING, adopted=(("hello", release),))
    with pytest.raises(NotAdopted, match="hello was adopted here before"):
        adopt(unit, wanted, known)
    deployed = known.with_component("hello", ComponentMemory(1, None, release.artifact, Outcome.FAILED, "", "c", 1, "", None))
    with pytest.raises(NotAdopted, match="hello was deployed here by receipt"):
        adopt(unit, wanted, deployed)
    with pytest.raises(NotAdopted, match=r"other: no such component in target\.toml"):
        adopt(unit, replace(wanted, component="other"), NOTHING)
    assert load_memory(unit.place).adopted == known.adopted


def test_what_cannot_be_an_artifact_or_its_settings_is_told_and_nothing_is_kept(unit, wanted, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").write_text("no setting\n")
    for changes, message in (
        ({"directory": tmp_path / "empty"}, "the layer is empty"),
        ({"argv": ()}, "config: /run/argv: is empty"),
        ({"settings": tmp_path / "bad"}, "settings: line 1 is not KEY=VALUE"),
        ({"settings": tmp_path / "none"}, "none: No such file or directory"),
    ):
        with pytest.raises(NotAdopted, match=message):
            adopt(unit, replace(wanted, **changes), NOTHING)
    assert not unit.place.state.exists()
    assert not unit.place.kept("hello", "x").parent.exists()


def test_what_is_kept_is_what_was_packed(unit, wanted):
    release = adopt(unit, wanted, NOTHING)
    run, layer = open_kept(unit.place, "hello", release.artifact)
    assert (run.argv, layer.is_file(), list(unit.place.incoming.iterdir())) == (("./run",), True, [])


def test_what_is_not_healthy_is_not_adopted(unit, wanted, monkeypatch):
    monkeypatch.setattr(adoption, "wait_healthy", lambda *_, **__: "not healthy within 5 s")
    with pytest.raises(NotAdopted, match=r"^what runs is not adopted unless it is healthy: not healthy within 5 s$"):
        adopt(unit, wanted, NOTHING)
    assert not unit.place.state.exists()


@pytest.fixture
def by_pid(unit, wanted, tmp_path, monkeypatch):
    """The same for a process that we would run ourselves; the number in the file is put on record."""
    alone = replace(unit.pinned.target, components=(ComponentSlot("hello", 1, (), None),))
    door, file = replace(unit, pinned=replace(unit.pinned, target=alone)), tmp_path / "legacy.pid"
    asked = []

    def adopt_process(place, name, pid, artifact):
        asked.append(pid)
        if pid == 4:
            return "no process 4 runs"
        place.process(name).parent.mkdir(exist_ok=True)
        place.process(name).write_text("on record")
        return None

    monkeypatch.setattr(adoption, "adopt_process", adopt_process)

    def call(text):
        file.write_text(text)
        return adopt(door, replace(wanted, pid_file=file), NOTHING)

    return call, asked, file


@pytest.mark.parametrize("text", ["2", " 77\n"])
def test_the_process_that_a_file_names_is_put_on_record(unit, by_pid, text):
    call, asked, _ = by_pid
    call(text)
    assert (asked, unit.place.process("hello").read_text()) == ([int(text)], "on record")
    assert not unit.place.current("hello").is_symlink()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "legacy.pid: holds no process id"),
        ("-5", "legacy.pid: holds no process id"),
        ("", "legacy.pid: holds no process id"),
        ("12x", "legacy.pid: holds no process id"),
        ("\u0661\u0662", "codec can't decode"),
        ("7" * 65, "legacy.pid: more than 64 bytes"),
        ("4", "no process 4 runs"),
    ],
)
def test_a_file_that_names_no_process_adopts_nothing(unit, by_pid, text, message):
    call, asked, _ = by_pid
    with pytest.raises(NotAdopted, match=message):
        call(text)
    assert asked == ([4] if text == "4" else [])
    assert not unit.place.state.exists()


def test_nothing_stays_on_record_of_what_is_not_adopted_after_all(unit, by_pid, monkeypatch):
    call, _, _ = by_pid

    def fail(*_):
        raise Unreadable("state.json could not be made durable")

    monkeypatch.setattr(adoption, "save_memory", fail)
    with pytest.raises(Unreadable, match="could not be made durable"):
        call("77")
    assert not unit.place.process("hello").exists()
