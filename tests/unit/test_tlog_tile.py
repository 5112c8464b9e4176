"""Tile paths and widths: the examples of C2SP tlog-tiles and of our log format, 1.4."""

import pytest

from gatekeeper.tlog.errors import MalformedTile
from gatekeeper.tlog.merkle import leaf_hash, node_hash
from gatekeeper.tlog.tile import (
    TileAddress,
    TileEdge,
    encode_bundle,
    entries_path,
    node_from_tile,
    parse_bundle,
    parse_tile_path,
    tile_of_node,
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
        "tile/0/x001/x234/067.p/257",
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


@pytest.mark.parametrize(
    ("level", "n", "width", "words"),
    [
        (-1, 0, 1, "level lies between 0 and 63"),
        (64, 0, 1, "level lies between 0 and 63"),
        (0, -1, 1, "number is not negative"),
        (0, 2**63, 1, "number is not negative"),
        (None, 0, 0, "width lies between 1 and 256"),
        (0, 0, 257, "width lies between 1 and 256"),
    ],
)
def test_there_is_no_address_beyond_these_bounds(level, n, width, words):
    with pytest.raises(MalformedTile, match=words):
        TileAddress(level, n, width)


def test_an_address_lies_within_its_bounds():
    for level, n, width in ((0, 0, 1), (63, 2**63 - 1, 256), (None, 2**63 - 1, 1)):
        assert parse_tile_path(TileAddress(level, n, width).path) == TileAddress(level, n, width)


def test_a_node_is_read_from_a_tile_that_has_it_whole():
    hashes = [bytes((n,)) * 32 for n in range(8)]
    tile = b"".join(hashes)
    assert node_from_tile(tile, 0, 7) == hashes[7]
    assert node_from_tile(tile, 1, 3) == node_hash(hashes[6], hashes[7])
    for part, level, n in ((tile, 0, 8), (tile[:-1], 0, 7), (tile[:-32], 1, 3), (tile[:-32], 3, 0), (b"", 0, 0)):
        with pytest.raises(MalformedTile, match="the tile is too short for this node"):
            node_from_tile(part, level, n)


def test_a_tree_has_no_node_beyond_its_size():
    assert tile_of_node(0, 6, 7) == TileAddress(0, 0, 7)
    for level, n, size in ((0, 0, 0), (0, 256, 256), (8, 0, 255)):
        with pytest.raises(MalformedTile, match="the tree has no such node"):
            tile_of_node(level, n, size)


def test_the_fullest_bundle_is_written_and_read():
    fullest = [bytes(65_535)] * 256
    data = encode_bundle(fullest)
    assert len(data) == 256 * 65_537
    # Told of a difference in 16 MiB, pytest would take gigabytes to show it.
    same = parse_bundle(data) == tuple(fullest)
    assert same
    with pytest.raises(MalformedTile, match="an entry has at most 65535 bytes"):
        encode_bundle([bytes(65_536)])


def test_an_address_knows_its_first_leaf():
    assert TileAddress(None, 2, 5).first == 512
    assert TileAddress(0, 2, 5).first == 512
    assert TileAddress(1, 1, 5).first == 65536
    assert [TileAddress(level, 7).leaves for level in (None, 0, 1, 2)] == [1, 1, 256, 65536]
