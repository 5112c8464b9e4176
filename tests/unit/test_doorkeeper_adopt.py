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
from clients.doorkeeper.files import Place
from clients.doorkeeper.record import Record
from clients.doorkeeper.state import NOTHING, load_memory
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
