"""Tile paths and widths: the examples of C2SP tlog-tiles and of our log format, 1.4."""

import pytest

from gatekeeper.tlog.errors import MalformedTile
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.tile import (
    TileAddress,
    TileEdge,
    encode_bundle,
    entries_path,
    parse_bundle,
    parse_tile_path,
    tile_path,
    tile_root,
    tile_width,
    tiles_of,
)


def test_paths_have_groups_of_three_digits():
    assert tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tile_path(0, 1_234_067, 8) == "tile/0/x001/x234/067.p/8"
    assert tile_path(63, 0, 1) == "tile/63/000.p/1"
    assert entries_path(999) == "tile/entries/999"
    assert entries_path(1000, 255) == "tile/entries/x001/000.p/255"


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/x001/x234/067.p/0",
        "tile/0/x001/x234/067.p/256",
        "tile/0/x001/x234/067.p/08",
        "tile/0/x000/067",
        "tile/0/x001/234/067",
        "tile/0/67",
        "tile/0/x1/067",
        "tile/00/067",
        "tile/64/067",
        "tile/entry/067",
        "tile/0/067/",
        "/tile/0/067",
        "tile/0/067\n",
        "tile/8/0/067",
        "tile/0/" + "x999/" * 6 + "999",
        "tile/0/" + "x999/" * 7 + "999",
        "tile/0/\u0660\u0660\u0660",
    ],
)
def test_other_spellings_of_a_path_are_refused(path):
    with pytest.raises(MalformedTile):
        parse_tile_path(path)


def test_widths_of_a_tree_of_70000():
    full = [sum(tile_width(level, n, 70_000) == 256 for n in range(300)) for level in range(3)]
    assert full == [273, 1, 0]
    assert [a.path for a in tiles_of(70_000)] == ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
    assert tile_width(0, 274, 70_000) == 0


def test_a_tree_of_256_has_a_partial_tile_of_level_1():
    assert tile_width(0, 0, 256) == 256
    assert [a.path for a in tiles_of(256)] == ["tile/1/000.p/1"]
    assert tiles_of(0) == ()


def test_growing_makes_the_full_tiles_once_each():
    edge, tiles = TileEdge().extend(leaf_hash(b"%d" % n) for n in range(600))
    assert [t.address.path for t in tiles] == ["tile/0/000", "tile/0/001"]
    assert edge.partial[1] == tile_root(tiles[0].data) + tile_root(tiles[1].data)
    assert [t.address.width for t in edge.partial_tiles()] == [88, 2]


def test_partial_tiles_that_do_not_fit_the_size_are_refused():
    for size, partial in ((1, ()), (0, (bytes(32),)), (256, (b"",)), (2, (bytes(32),)), (-1, ())):
        with pytest.raises(MalformedTile):
            TileEdge(size, partial)


def test_a_partial_tile_is_never_hashed_upward():
    with pytest.raises(MalformedTile, match="full tile"):
        tile_root(bytes(32 * 128))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "1 to 256"),
        (b"\x00", "within an entry"),
        (b"\x00\x03on", "within an entry"),
        (b"\x00\x03one\x00", "within an entry"),
        (b"\x00\x00" * 257, "1 to 256"),
        (bytes(256 * 65537 + 1), "too long"),
    ],
)
def test_a_bundle_whose_lengths_do_not_add_up_is_refused(data, words):
    with pytest.raises(MalformedTile, match=words):
        parse_bundle(data)


def test_a_bundle_is_entries_behind_their_lengths():
    assert encode_bundle([b"one", b"two"]) == b"\x00\x03one\x00\x03two"
    assert parse_bundle(b"\x00\x03one\x00\x00") == (b"one", b"")
    for entries in ([], [b""] * 257, [bytes(65536)]):
        with pytest.raises(MalformedTile):
            encode_bundle(entries)


def test_an_address_knows_its_first_leaf():
    assert TileAddress(None, 2, 5).first == 512
    assert TileAddress(0, 2, 5).first == 512
    assert TileAddress(1, 1, 5).first == 65536
    assert [TileAddress(level, 7).leaves for level in (None, 0, 1, 2)] == [1, 1, 256, 65536]
