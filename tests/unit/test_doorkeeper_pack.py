"""A directory as an artifact: what is packed, to the byte and the bit, and what refuses the whole directory."""

import os
import tarfile

import pytest

from clients.doorkeeper.pack import NotPacked, pack_directory
from clients.doorkeeper.target import Caps
from gatekeeper.model.digest import digest_of


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "srv"
    (folder / "d" / "empty").mkdir(parents=True)
    (folder / "d" / "b").write_bytes(b"bb")
    (folder / "a").write_bytes(b"a")
    (folder / "a").chmod(0o640)
    (folder / "d" / "b").chmod(0o701)
    return folder


def pack(source, **caps):
    layer = source.parent / "layer"
    layer.unlink(missing_ok=True)
    return pack_directory(source, layer, Caps(**caps)), layer


def test_names_bytes_and_the_one_bit_that_counts(source):
    packed, layer = pack(source)
    with tarfile.open(layer) as tar:
        found = [(one.name, one.type, one.mode, b"" if one.isdir() else tar.extractfile(one).read(), one.mtime, one.uid) for one in tar]
    assert found == [
        ("a", tarfile.REGTYPE, 0o644, b"a", 0, 0),
        ("d", tarfile.DIRTYPE, 0o755, b"", 0, 0),
        ("d/b", tarfile.REGTYPE, 0o755, b"bb", 0, 0),
        ("d/empty", tarfile.DIRTYPE, 0o755, b"", 0, 0),
    ]
    assert (packed.digest, packed.size) == (digest_of(layer.read_bytes()), layer.stat().st_size)


def test_its_bounds_are_the_targets_to_the_entry_and_the_byte(source):
    (source / "a").write_bytes(b"a" * 20_000)
    size = pack(source)[0].size
    assert pack(source, entries=4, unpacked_bytes=20_002, layer_bytes=size)[0].size == size
    for caps, why in (
        ({"entries": 3}, "more than this target takes: 3 entries"),
        ({"unpacked_bytes": 20_001}, "more than this target takes"),
        ({"layer_bytes": 20_001}, "more than this target takes: 20000 entries, 20001 bytes"),
        ({"layer_bytes": size - 1}, "the layer is empty, or over this target's bound"),
    ):
        with pytest.raises(NotPacked, match=why):
            pack(source, **caps)


def test_directories_alone_are_no_artifact(source):
    for file in ("a", "d/b"):
        (source / file).unlink()
    with pytest.raises(NotPacked, match="the layer is empty"):
        pack(source)


def test_a_link_to_the_directory_and_a_file_in_its_place_are_no_directory(source):
    link, file = source.with_name("link"), source / "a"
    link.symlink_to(source)
    for other in (link, file, source / "none"):
        with pytest.raises(NotPacked, match=f"{other.name}: is no directory"):
            pack_directory(other, source.parent / "layer", Caps())


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("b"), lambda path: path.symlink_to("."), os.mkfifo])
def test_what_could_not_be_put_back_as_it_is_refuses_the_directory(source, make):
    make(source / "d" / "odd")
    with pytest.raises(NotPacked, match=r"^d/odd: is a link, a socket or a device"):
        pack(source)
