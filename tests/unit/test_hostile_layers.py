"""Attack matrix 60: layers that climb, link, swell or only look like a tar, at everything of ours that opens one. Nothing is ever decompressed."""

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc

import pytest

from builder.outputs import Blob
from clients.cli.exits import Failure
from clients.cli.ocilayout import _outputs
from clients.doorkeeper.target import Caps
from clients.doorkeeper.unpack import MAX_HEADER, UnsafeArchive, unpack_layer
from gatekeeper.model.digest import digest_of

FILE, LINK, HARD, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
# "hello" in a frame of Zstandard (RFC 8878): magic, a header of one segment with its size, one raw block that is the last.
ZSTD = bytes.fromhex("28b52ffd2005290000") + b"hello"


def tar_of(*members, form=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, kind, link, data in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def header(kind, size, name="x"):
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")


def padded(data):
    return data + b"\0" * (-len(data) % 512)


def record(name, value):
    """One record of a PAX header (POSIX pax, 3.3): its own length stands in front."""
    text = f" {name}={value}\n"
    length = len(text) + len(str(len(text) + 2))
    return f"{length}{text}".encode()


def pax(*records):
    data = b"".join(record(name, value) for name, value in records)
    return header(tarfile.XHDTYPE, len(data)) + padded(data)


def refused(tmp_path, layer, reason, caps=Caps()):  # noqa: B008
    """Nothing is written anywhere, also not beside the release."""
    inner = tmp_path / "target" / "releases"
    (tmp_path / "layer").write_bytes(layer)
    with pytest.raises(UnsafeArchive, match=reason):
        unpack_layer(tmp_path / "layer", inner / "x", caps, beat=lambda _: None)
    assert list(inner.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer", "target"]


def no_layer_to_submit(tmp_path, layer):
    (tmp_path / "layer").write_bytes(layer)
    with pytest.raises(Failure, match="no plain tar file"):
        _outputs(Blob(digest_of(layer), len(layer), tmp_path / "layer"))


CLIMBING = {
    "up": "../evil",
    "up in the middle": "a/../../evil",
    "up at the end": "a/..",
    "absolute": "/tmp/evil",
    "a sibling with our prefix": "../x-evil/a",
    "a sibling with our prefix, by its whole name": "../../releases/x.old/a",
    "the new directory's own": "../.x.new/a",
    "backslashes": "..\\evil",
    "no name": ".",
}


@pytest.mark.parametrize("name", CLIMBING)
@pytest.mark.parametrize("kind", [FILE, DIR], ids=["file", "directory"])
def test_a_name_that_leaves_its_directory(tmp_path, name, kind):
    refused(tmp_path, tar_of((CLIMBING[name], kind, "", b"")), "climbs")


def test_a_name_that_climbs_only_in_its_extended_header(tmp_path):
    plain = tar_of(("innocent", FILE, "", b"x"))
    refused(tmp_path, pax(("path", "../evil")) + plain, "climbs")
    refused(tmp_path, header(tarfile.GNUTYPE_LONGNAME, 8, "././@LongLink") + padded(b"../evil\0") + plain, "climbs")


@pytest.mark.parametrize(
    "members",
    [
        [("a", LINK, "/etc", b""), ("a/passwd", FILE, "", b"x")],
        [("a", LINK, "..", b""), ("a/x-evil", FILE, "", b"x")],
        [("a", LINK, ".", b"")],
        [("a", FILE, "", b"x"), ("b", HARD, "a", b"")],
        [("b", HARD, "/etc/passwd", b"")],
        [("b", HARD, "../../layer", b"")],
    ],
    ids=["symlink out", "symlink up", "symlink here", "hardlink", "hardlink out", "hardlink to a sibling"],
)
def test_a_link_of_any_kind(tmp_path, members):
    refused(tmp_path, tar_of(*members), "something other than regular files and directories")


def test_a_file_that_an_extended_header_makes_a_link(tmp_path):
    # `linkpath` of an ordinary file is not followed by anybody: the file is written as what it is.
    (tmp_path / "layer").write_bytes(pax(("linkpath", "/etc/passwd")) + tar_of(("a", FILE, "", b"x")))
    unpack_layer(tmp_path / "layer", tmp_path / "releases" / "x", Caps(), beat=lambda _: None)
    assert (tmp_path / "releases" / "x" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress, lambda _: ZSTD], ids=["gzip", "bzip2", "xz", "zstd"])
def test_a_bomb_is_no_tar_and_does_not_go_off(tmp_path, packed):
    bomb = packed(tar_of(("a", FILE, "", b"\0" * (8 << 20))))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        refused(tmp_path, bomb, "layer: ")
        no_layer_to_submit(tmp_path, bomb)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_more_bytes_than_the_target_takes_are_refused_before_they_are_written(tmp_path):
    refused(tmp_path, tar_of(("a", FILE, "", b"x" * 60), ("b", FILE, "", b"x" * 60)), "more than 100 bytes unpacked", Caps(unpacked_bytes=100))
    refused(tmp_path, pax(("size", str(1 << 40))) + tar_of(("a", FILE, "", b"x")), "bytes unpacked")


def test_a_million_empty_files_are_too_many(tmp_path):
    refused(tmp_path, tar_of(*((f"f{number}", FILE, "", b"") for number in range(51))), "more than 50 entries", Caps(entries=50))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_an_extended_header_is_bounded_before_it_is_read(tmp_path, kind):
    size = 16 << 20
    tracemalloc.start()
    try:
        refused(tmp_path, header(kind, size) + b"\0" * size + tar_of(("a", FILE, "", b"x")), f"an extended header of more than {MAX_HEADER} bytes")
        assert tracemalloc.get_traced_memory()[1] < 3 * size, "the layer itself is made in this memory, and nothing is added to it"
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_extended_headers_of_extended_headers(tmp_path, kind):
    refused(tmp_path, (header(kind, 2) + padded(b"a\0" if kind == tarfile.GNUTYPE_LONGNAME else b"")) * 3000, "layer: ")


@pytest.mark.parametrize("name", ["a\0b", "d/e\0f"])
def test_a_name_that_ends_before_its_end(tmp_path, name):
    refused(tmp_path, pax(("path", name)) + tar_of(("a", FILE, "", b"x"), form=tarfile.GNU_FORMAT), "a name is absolute, climbs")


def test_a_sparse_file_of_each_form(tmp_path):
    plain = tar_of(("a", FILE, "", b"1\n0\n1\n" + b"\0" * 600))
    first = pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", str(1 << 50)), ("GNU.sparse.name", "a"))
    refused(tmp_path, first + plain, "holds a sparse file")
    older = pax(("GNU.sparse.map", "0,1"), ("GNU.sparse.size", str(1 << 50)), ("GNU.sparse.numblocks", "1"))
    refused(tmp_path, older + plain, "bytes unpacked|something other than regular")
    # The two forms whose map stands in the extended header are small enough for every other bound.
    for numbers in ((("GNU.sparse.map", "0,1"), ("GNU.sparse.size", "1")), (("GNU.sparse.size", "1"), ("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "1"))):
        refused(tmp_path, pax(*numbers, ("GNU.sparse.numblocks", "1")) + plain, "something other than regular")
    refused(tmp_path, header(tarfile.GNUTYPE_SPARSE, 0) + b"\0" * 1024, "holds a sparse file")


@pytest.mark.parametrize("blocks", [1, 10_000])
def test_a_sparse_map_that_goes_on_without_end_is_not_read(tmp_path, blocks):
    first = bytearray(header(tarfile.GNUTYPE_SPARSE, 0))
    first[482] = 1  # isextended: a further block of the map follows (GNU tar manual, "Basic Tar Format")
    first[148:156] = b"%06o\0 " % sum(first[:148] + b" " * 8 + first[156:])
    further = b"".join(b"%011o\0%011o\0" % (number, 1) for number in range(1, 22)) + b"\1" + b"\0" * 7
    tracemalloc.start()
    try:
        refused(tmp_path, bytes(first) + further * blocks, "holds a sparse file")
        if blocks == 1:
            no_layer_to_submit(tmp_path, bytes(first) + further)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20, "the layer is made in this memory twice, and nothing is added to it"
    finally:
        tracemalloc.stop()


def test_a_name_that_is_no_text_is_not_submitted(tmp_path):
    no_layer_to_submit(tmp_path, header(FILE, 0, name="caf\udce9") + b"\0" * 1024)


def test_long_names_of_our_own_builder_are_taken(tmp_path):
    name = "/".join(["d" * 60] * 10)
    (tmp_path / "layer").write_bytes(tar_of((name, FILE, "", b"x")))
    unpack_layer(tmp_path / "layer", tmp_path / "releases" / "x", Caps(), beat=lambda _: None)
    assert (tmp_path / "releases" / "x" / name).read_bytes() == b"x"
