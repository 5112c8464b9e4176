"""The bounds of a layer, to the entry, the byte, the name and the mode, and that what was unpacked is on the disk before it has its name."""

import io
import tarfile

import pytest

from clients.doorkeeper import unpack
from clients.doorkeeper.target import Caps
from clients.doorkeeper.unpack import MAX_DEPTH, MAX_HEADER, UnsafeArchive, unpack_layer

FILE, DIR = tarfile.REGTYPE, tarfile.DIRTYPE


def tar_of(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, mode, data in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.size = kind, mode, len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def unpacked(tmp_path, layer, *, said=None, **caps):
    (tmp_path / "layer").write_bytes(layer)
    destination = tmp_path / "releases" / "x"
    unpack_layer(tmp_path / "layer", destination, Caps(**caps), beat=(said if said is not None else []).append)
    return destination


def test_files_and_directories_get_the_modes_that_they_may_have(tmp_path):
    layer = tar_of(("d", DIR, 0o700, b""), ("d/run", FILE, 0o4711, b"r"), ("plain", FILE, 0o677, b"p"), ("new/deep", FILE, 0o400, b"n"), ("empty", DIR, 0o0, b""))
    release = unpacked(tmp_path, layer)
    modes = {str(path.relative_to(release)): path.stat().st_mode & 0o7777 for path in release.rglob("*") if path.is_file()}
    assert modes == {"d/run": 0o755, "plain": 0o644, "new/deep": 0o644}
    assert (release / "empty").is_dir()
    assert release.stat().st_mode & 0o777 == 0o700


def test_the_targets_bounds_are_met_to_the_entry_and_the_byte(tmp_path):
    layer = tar_of(("a", FILE, 0o644, b"12"), ("b", FILE, 0o644, b"345"))
    assert (unpacked(tmp_path, layer, entries=2, unpacked_bytes=5) / "b").read_bytes() == b"345"
    with pytest.raises(UnsafeArchive, match="more than 1 entries"):
        unpacked(tmp_path, layer, entries=1, unpacked_bytes=5)
    with pytest.raises(UnsafeArchive, match="more than 4 bytes unpacked"):
        unpacked(tmp_path, layer, entries=2, unpacked_bytes=4)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("/".join(["d"] * MAX_DEPTH), True),
        ("/".join(["d"] * (MAX_DEPTH + 1)), False),
        ("/".join(["d" * 204] * 5), True),
        ("/".join(["d" * 204] * 5) + "d", False),
        ("a\\b", False),
        (".", False),
        ("a..b", True),
    ],
)
def test_a_name_is_as_long_and_as_deep_as_it_may_be(tmp_path, name, taken):
    layer = tar_of((name, FILE, 0o644, b"x"))
    if taken:
        assert (unpacked(tmp_path, layer) / name).read_bytes() == b"x"
    else:
        with pytest.raises(UnsafeArchive, match="a name is absolute, climbs, or is too long or too deep"):
            unpacked(tmp_path, layer)


def padded(data):
    return data + b"\0" * (-len(data) % 512)


@pytest.mark.parametrize("over", [0, 1])
def test_an_extended_header_is_as_long_as_it_may_be(tmp_path, over):
    length = MAX_HEADER + over
    text = f"{length} comment=".encode()
    text += b"c" * (length - len(text) - 1) + b"\n"
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, length
    layer = extended.tobuf(tarfile.GNU_FORMAT) + padded(text) + tar_of(("a", FILE, 0o644, b"x"))
    if over:
        with pytest.raises(UnsafeArchive, match=f"an extended header of more than {MAX_HEADER} bytes"):
            unpacked(tmp_path, layer)
    else:
        assert (unpacked(tmp_path, layer) / "a").read_bytes() == b"x"


def test_a_sign_of_life_is_given_as_it_goes_on(tmp_path):
    said = []
    unpacked(tmp_path, tar_of(*((f"f{number}", FILE, 0o644, b"") for number in range(201))), said=said)
    assert said == ["0 entries", "100 entries", "200 entries"]


def test_all_of_a_release_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(unpack, "sync_directory", lambda folder: synced.append((folder.name, sorted(path.name for path in folder.iterdir()))))
    layer = tar_of(("d/a", FILE, 0o644, b"x"))
    for _ in range(2):
        synced.clear()
        unpacked(tmp_path, layer)
        assert synced[:2] == [(".x.new", ["d"]), ("d", ["a"])]
        assert "x" in synced[2][1]
    assert [path.name for path in (tmp_path / "releases").iterdir()] == ["x"]


def test_a_disk_that_fails_is_the_disks_own_word_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(_folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpack, "sync_directory", fail)
    with pytest.raises(OSError, match="No space left on device"):
        unpacked(tmp_path, tar_of(("a", FILE, 0o644, b"x")))
    assert list((tmp_path / "releases").iterdir()) == []


def test_a_file_may_be_longer_than_an_extended_header(tmp_path):
    data = b"x" * (MAX_HEADER + 1)
    assert (unpacked(tmp_path, tar_of(("a", FILE, 0o644, data))) / "a").read_bytes() == data


def test_an_extended_header_may_be_empty(tmp_path):
    empty = tarfile.TarInfo("x")
    empty.type = tarfile.XHDTYPE
    layer = empty.tobuf(tarfile.GNU_FORMAT) + tar_of(("a", FILE, 0o644, b"x"))
    assert (unpacked(tmp_path, layer) / "a").read_bytes() == b"x"
