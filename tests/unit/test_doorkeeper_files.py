"""What a doorkeeper reads and writes: frames, archives, settings, memory, record, installed files. All refusals by their reason."""

import io
import json
import os
import stat
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.doorkeeper.artifact import MalformedArtifact, parse_config, parse_manifest
from clients.doorkeeper.files import Busy, Place, Unreadable, exclusive
from clients.doorkeeper.incoming import Incoming, WrongBytes
from clients.doorkeeper.record import Record
from clients.doorkeeper.settings import MalformedSettings, parse_settings
from clients.doorkeeper.state import (
    NOTHING,
    ComponentMemory,
    Memory,
    Outcome,
    Release,
    Remembered,
    encode_memory,
    load_memory,
    parse_memory,
    save_memory,
)
from clients.doorkeeper.target import Caps, parse_receipt_keys, parse_target
from clients.doorkeeper.unpack import UnsafeArchive, unpack_layer
from gatekeeper.adapters.ssh import parse_answer
from gatekeeper.model.digest import digest_of
from gatekeeper.model.fields import FieldError
from gatekeeper.model.frame import MAX_HEADER, MAX_PART, MalformedFrame, PartName, PartSpec, encode_header, parse_header
from gatekeeper.model.moment import parse_moment
from gatekeeper.ports.target import Applied, ApplyFailed, Refused, RolledBack, Stale
from tests.fakes.frames import Gatekeeper, make_artifact, make_layer

AT = parse_moment("2026-11-21T10:00:00Z")
D = digest_of(b"d")


@given(st.sets(st.sampled_from(list(PartName))), st.integers(0, MAX_PART[PartName.CONFIG]))
def test_header_round_trip(names, size):
    parts = tuple(PartSpec(name, size, D) for name in PartName if name in names)
    assert parse_header(encode_header(parts)) == parts


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"v":1,"word":"apply","parts":[]}', "no line"),
        (b" " * MAX_HEADER + b"{}\n", "no line"),
        (b'{"v":2,"word":"apply","parts":[]}\n', "/v"),
        (b'{"v":1,"word":"status","parts":[]}\n', "/word"),
        (b'{"v":1,"word":"apply","parts":[],"x":1}\n', "/x"),
        (b'{"v":1,"v":1,"word":"apply","parts":[]}\n', "twice"),
        (b'{"v":1,"word":"apply","parts":[{"name":"shell","size":0,"sha256":"%s"}]}\n' % D.encode(), "must be one of"),
        (b'{"v":1,"word":"apply","parts":[{"name":"layer","size":-1,"sha256":"%s"}]}\n' % D.encode(), "size"),
        (b'{"v":1,"word":"apply","parts":[{"name":"proof","size":9999999,"sha256":"%s"}]}\n' % D.encode(), "over"),
    ],
)
def test_headers_refused(line, reason):
    with pytest.raises(MalformedFrame, match=reason):
        parse_header(line)


@pytest.mark.parametrize("names", [(PartName.PROOF, PartName.RECEIPT), (PartName.LAYER, PartName.LAYER)])
def test_parts_out_of_order_or_twice(names):
    with pytest.raises(MalformedFrame, match="out of order"):
        encode_header([PartSpec(name, 1, D) for name in names])


def incoming(data, **limits):
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading, Incoming(reading, **limits)


def read_whole(frame):
    data = frame.part(frame.header()[0])
    frame.end()
    return data


def test_incoming_hashes_and_bounds():
    spec = PartSpec(PartName.CONFIG, 3, digest_of(b"abc"))
    for body, error, reason in (
        (b"abd", WrongBytes, "config"),
        (b"ab", MalformedFrame, "ends before"),
        (b"abcd", MalformedFrame, "after the last part"),
    ):
        descriptor, frame = incoming(encode_header([spec]) + body)
        with os.fdopen(descriptor), pytest.raises(error, match=reason):
            read_whole(frame)
    descriptor, frame = incoming(encode_header([spec]) + b"abc")
    with os.fdopen(descriptor):
        assert read_whole(frame) == b"abc"


def from_file(path, data):
    """More than a pipe holds."""
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    return descriptor, Incoming(descriptor)


def test_a_header_is_a_line_within_its_bound(tmp_path):
    good = encode_header([PartSpec(PartName.CONFIG, 3, digest_of(b"abc"))])
    padded = good[:-2] + b" " * (MAX_HEADER - len(good)) + good[-2:]
    assert len(padded) == MAX_HEADER
    descriptor, frame = from_file(tmp_path / "frame", padded + b"abc")
    with os.fdopen(descriptor):
        assert read_whole(frame) == b"abc"
    for data in (good[:-1] + b" " * MAX_HEADER, b" " * MAX_HEADER + b"\n"):
        descriptor, frame = from_file(tmp_path / "frame", data)
        with os.fdopen(descriptor), pytest.raises(MalformedFrame, match=f"the header is no line of at most {MAX_HEADER} bytes"):
            frame.header()


def test_a_part_goes_to_a_new_file_and_says_how_far_it_is(tmp_path):
    body = bytes(range(256)) * 100
    descriptor, frame = from_file(tmp_path / "frame", encode_header([PartSpec(PartName.LAYER, len(body), digest_of(body))]) + body)
    said = []
    with os.fdopen(descriptor):
        frame.part_to_file(frame.header()[0], tmp_path / "layer", beat=said.append)
    assert (tmp_path / "layer").read_bytes() == body
    assert stat.S_IMODE((tmp_path / "layer").stat().st_mode) == 0o600
    assert said[-1] == f"{len(body)} of {len(body)} bytes"
    descriptor, frame = from_file(tmp_path / "frame", encode_header([PartSpec(PartName.LAYER, 1, digest_of(b"x"))]) + b"x")
    with os.fdopen(descriptor), pytest.raises(FileExistsError):
        frame.part_to_file(frame.header()[0], tmp_path / "layer", beat=said.append)


def test_incoming_does_not_wait_for_ever():
    reading, writing = os.pipe()
    try:
        with pytest.raises(MalformedFrame, match="in time"):
            Incoming(reading, idle_s=0.01).header()
    finally:
        os.close(reading)
        os.close(writing)


def tar_of(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, link, data in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size, member.mode = kind, link, len(data), 0o6755
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def unpack(tmp_path, data, caps=Caps()):  # noqa: B008
    (tmp_path / "layer").write_bytes(data)
    unpack_layer(tmp_path / "layer", tmp_path / "releases" / "x", caps, beat=lambda _: None)
    return tmp_path / "releases" / "x"


FILE, LINK, HARD, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("../evil", FILE, "", b"x")], "climbs"),
        ([("a/../../evil", FILE, "", b"x")], "climbs"),
        ([("/evil", FILE, "", b"x")], "absolute"),
        ([("../x-sibling/evil", FILE, "", b"x")], "climbs"),
        ([("a", LINK, "/etc/passwd", b"")], "other than regular"),
        ([("a", FILE, "", b"x"), ("b", HARD, "a", b"")], "other than regular"),
        ([("a", tarfile.CHRTYPE, "", b"")], "other than regular"),
        ([("a", tarfile.FIFOTYPE, "", b"")], "other than regular"),
        ([("a", FILE, "", b"x"), ("a", FILE, "", b"y")], "twice"),
        ([("A", FILE, "", b"x"), ("a", FILE, "", b"y")], "twice"),
        ([("a/" * 40 + "b", FILE, "", b"x")], "deep"),
        ([("a", FILE, "", b"x"), ("b", FILE, "", b"y"), ("c", FILE, "", b"z")], "more than 2 entries"),
        ([("a", FILE, "", b"x" * 101)], "more than 100 bytes"),
    ],
)
def test_hostile_archives(tmp_path, members, reason):
    with pytest.raises(UnsafeArchive, match=reason):
        unpack(tmp_path, tar_of(*members), Caps(entries=2, unpacked_bytes=100))
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["layer"]
    assert list((tmp_path / "releases").iterdir()) == []


@pytest.mark.parametrize("data", [b"no tar at all" * 100, make_layer({"a": b"x" * 2000})[:1500], b"\x1f\x8b" + b"0" * 600])
def test_bytes_that_are_no_tar(tmp_path, data):
    with pytest.raises(UnsafeArchive):
        unpack(tmp_path, data)
    assert list((tmp_path / "releases").iterdir()) == []


def test_an_entry_of_negative_size_does_not_lower_the_count(tmp_path):
    member = tarfile.TarInfo("b")
    member.size = -1
    header = member.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(UnsafeArchive, match="more than 100 bytes unpacked"):
        unpack(tmp_path, header + make_layer({"a": b"x" * 101}), Caps(unpacked_bytes=100))


def test_unpack_replaces_what_the_workload_changed(tmp_path):
    data = tar_of(("d", DIR, "", b""), ("d/a", FILE, "", b"good"))
    release = unpack(tmp_path, data)
    (release / "d" / "a").chmod(0o600)
    (release / "d" / "a").write_bytes(b"evil")
    (release / "planted").write_bytes(b"evil")
    release = unpack(tmp_path, data)
    assert (release / "d" / "a").read_bytes() == b"good"
    assert not (release / "planted").exists()
    assert (release / "d" / "a").stat().st_mode & 0o7022 == 0
    assert [p.name for p in release.parent.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"A=1", "no end"),
        (b"a=1\n", "not the name of a setting"),
        (b"A\n", "not KEY=VALUE"),
        (b"A=1\nA=2\n", "again"),
        (b"A=\x001\n", "control"),
        (b"LD_PRELOAD=x\n", "not the configuration's"),
        (b"PYTHONPATH=x\n", "not the configuration's"),
        (b"PATH=x\n", "not the configuration's"),
        (b"PORT=1\n", "not the configuration's"),
        (b"NODE_OPTIONS=x\n", "not the configuration's"),
        (b"A=\xff\n", "UTF-8"),
        (b"A=1\n" * 1001, "more than"),
    ],
)
def test_settings_refused_without_their_values(data, reason):
    with pytest.raises(MalformedSettings, match=reason):
        parse_settings(data)


def test_settings():
    assert parse_settings(b"") == {}
    assert parse_settings(b"A=1=2\nB=\nNODE_ENV=x\n") == {"A": "1=2", "B": "", "NODE_ENV": "x"}


RELEASE = Release(D, D, "c" * 40, ("a", "{port}"), "/healthz", 5)
COMPONENT = ComponentMemory(3, None, D, Outcome.HEALTHY, "", "— c abc", 4, "2026-11-21T10:00:00Z", RELEASE)
MEMORY = Memory(Remembered("o.test/log", 4, b"r" * 32, b"note\n"), (("hello", COMPONENT),))


def test_memory_round_trip_and_strictness(tmp_path):
    place = Place.below(tmp_path)
    place.var.mkdir()
    for memory in (NOTHING, MEMORY):
        save_memory(place, memory)
        assert load_memory(place) == memory
        assert place.state.stat().st_mode & 0o777 == 0o600
    good = encode_memory(MEMORY)
    for bad in (b"", good[:-1], good.replace(b'"v":1', b'"v":2')):
        with pytest.raises(ValueError):
            parse_memory(bad)
    for bad in (good.replace(b'"healthy"', b'"great"', 1), good.replace(b'"index":3', b'"index":-3')):
        with pytest.raises(ValueError):
            parse_memory(bad)


def test_memory_that_cannot_be_made_durable(tmp_path, monkeypatch):
    place = Place.below(tmp_path)
    place.var.mkdir()
    save_memory(place, NOTHING)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(Unreadable, match="durable"):
        save_memory(place, MEMORY)
    assert load_memory(place) == NOTHING
    assert [p.name for p in place.var.iterdir()] == ["state.json"]


@pytest.fixture
def record(tmp_path):
    place = Place.below(tmp_path)
    place.var.mkdir()
    record = Record(place)
    record.begin()
    for number in range(3):
        record.append(AT, "refused", {"code": f"c{number}"})
    return record, place.var / "record.jsonl", place.var / "record.head"


def test_record_is_a_chain(record):
    record, path, _ = record
    assert record.verify() == 3
    lines = path.read_bytes().splitlines(keepends=True)
    first, second, third = lines
    for bad in (lines[:2], lines[1:], [first, third], [first.replace(b"c0", b"cX"), second, third], [first, second, third.replace(b"c2", b"cX")]):
        path.write_bytes(b"".join(bad))
        with pytest.raises(Unreadable, match="record"):
            record.verify()
    path.write_bytes(b"".join(lines[:2]))
    with pytest.raises(Unreadable, match="end is missing"):
        record.append(AT, "refused", {})


def test_record_mends_a_torn_line_and_a_head_left_behind(record):
    record, path, head = record
    old_head = head.read_bytes()
    record.append(AT, "x", {})
    head.write_bytes(old_head)  # crash between line and head
    record.append(AT, "y", {})
    assert record.verify() == 5
    with path.open("ab") as file:
        file.write(b'{"torn')  # crash within a line
    record.append(AT, "z", {})
    assert record.verify() == 6


def test_lock_excludes(tmp_path):
    place = Place.below(tmp_path)
    place.var.mkdir()
    with exclusive(place, wait_s=0), pytest.raises(Busy), exclusive(place, wait_s=0):
        pass
    with exclusive(place, wait_s=0):
        pass


TARGET = 'version = 1\ntarget = "host-1"\ninstance = "production"\nenvironment = "production"\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TARGET, "/components"),
        (TARGET + "[components]\n", "no component"),
        (TARGET + "[components.hello]\n", "port"),
        (TARGET + '[components."../x"]\nport = 1\n', "not a name"),
        (TARGET + "[components.hello]\nport = 80\nx = 1\n", "/x"),
        (TARGET + '[components.hello]\nrestart = ["systemctl"]\nhealth_port = 1\n', "absolute"),
        (TARGET + '[components.hello]\nrestart = ["/bin/systemctl"]\n', "health_port"),
        (TARGET + 'sealed = "allowed"\n[components.hello]\nport = 80\n', "/sealed"),
        (TARGET + 'override = "all"\n[components.hello]\nport = 80\n', "/override"),
    ],
)
def test_target_file_refused(text, reason):
    with pytest.raises(FieldError, match=reason):
        parse_target(text.encode())


def test_target_file_and_receipt_keys():
    target = parse_target((TARGET + '[caps]\nreleases = 2\n[components.hello]\nrestart = ["/bin/x"]\nhealth_port = 8\nhealth = "/h"\n').encode())
    slot = target.component("hello")
    assert (slot.port, slot.restart, slot.health, target.caps.releases) == (8, ("/bin/x",), "/h", 2)
    one, two = Gatekeeper().receipt_keys, Gatekeeper().receipt_keys
    assert len(parse_receipt_keys(one + two)) == 2
    for bad in (b"", b"x", one + b"x", one.replace(b"M", b"!", 1)):
        with pytest.raises(ValueError):
            parse_receipt_keys(bad)


def test_artifact_types_and_shape():
    artifact = make_artifact()
    assert parse_config(artifact.config).argv[-1] == "{port}"
    for old, new in ((b"artifact.v1", b"other.v1"), (b'"layers":[', b'"layers":[{},'), (b'"schemaVersion":2', b'"schemaVersion":1')):
        assert old in artifact.manifest
        with pytest.raises(MalformedArtifact):
            parse_manifest(artifact.manifest.replace(old, new))
    for old, new in ((b'"/healthz"', b'"healthz"'), (b'"grace_s":5', b'"grace_s":0'), (b'["python3","greeter.py","{port}"]', b"[]")):
        assert old in artifact.config
        with pytest.raises(MalformedArtifact):
            parse_config(artifact.config.replace(old, new))


def outcome(kind, **more):
    members = {"outcome": kind, "receipt": D, "applied": None, "restored": None, "detail": "d", "cosignature": "c", "size": 4, **more}
    return json.dumps(members).encode()


def test_answers_are_believed_with_their_exit_status_only():
    assert parse_answer(outcome("healthy", applied=D), 0, D) == Applied(D, "c", 4)
    assert parse_answer(outcome("rolled-back", restored=D), 6, D) == RolledBack("d", D, "c", 4)
    assert parse_answer(outcome("failed"), 1, D) == ApplyFailed("d", spent=True, cosignature="c", size=4)
    assert parse_answer(b'{"stale":7}', 5, D) == Stale(7)
    assert parse_answer(b'{"refused":"log-fork","detail":"x"}', 3, D) == Refused("log-fork", "x")
    assert parse_answer(b'{"error":"x"}', 7, D) == ApplyFailed("x", spent=False)
    for line, status in (
        (outcome("healthy", applied=D), 6),
        (outcome("rolled-back", restored=D), 0),
        (outcome("failed"), 0),
        (outcome("in-progress"), 0),
        (outcome("healthy", applied=D, receipt=digest_of(b"other")), 0),
        (b'{"stale":7}', 0),
        (b'{"refused":"log-fork","detail":"x"}', 0),
        (b'{"refused":"votes-missing","detail":"x"}', 3),
        (b'{"error":"bug"}', 20),
        (b'{"error":"full","receipt":"%s"}' % D.encode(), 7),  # accepted perhaps: only the status can tell
        (b'{"error":"x"}', 0),
    ):
        with pytest.raises(FieldError):
            parse_answer(line, status, D)
