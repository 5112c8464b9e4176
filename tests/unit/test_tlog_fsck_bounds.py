"""The check of a whole log at its bounds, and of what came after an older checkpoint alone."""

from collections import Counter, deque

import pytest

from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint, open_checkpoint
from gatekeeper.tlog.fsck import Fault, MemoryIds, Tail, check_growth, drive, fsck, order_of_check
from gatekeeper.tlog.merkle import HASH_SIZE, leaf_hash
from gatekeeper.tlog.note import Note, NoteSignature, encode_note
from gatekeeper.tlog.tile import TileEdge, encode_bundle, tile_root
from tests.fakes import log_directory

LOG = log_directory.entries(600)
FORGED = log_directory.entries(600, cut="b")
FILES = log_directory.served(LOG)


def signed(log):
    return open_checkpoint(log_directory.note(log), log_directory.VKEY)


HEAD, EMPTY = signed(LOG), signed(())


def of_root(size, root):
    text = encode_checkpoint(Checkpoint(log_directory.ORIGIN, size, root))
    line = NoteSignature(log_directory.ORIGIN, log_directory.VKEY.key_id, log_directory.KEY.sign(text))
    return open_checkpoint(encode_note(Note(text, (line,))), log_directory.VKEY)


def spot(report):
    return (report.fault.fault, report.fault.first, report.fault.end)


def grown(older, files=FILES, checkpoint=HEAD, **options):
    return drive(check_growth(checkpoint, older, **options), lambda address: files.get(address.path))


def without(*paths):
    return {path: data for path, data in FILES.items() if path not in paths}


# --- growth


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 300, 512, 599, 600])
def test_growth_is_of_what_came_after_the_older_checkpoint_alone(size):
    asked = Counter()
    report = drive(check_growth(HEAD, signed(LOG[:size])), lambda address: asked.update([address.path]) or FILES.get(address.path))
    assert (report.fault, report.size, report.tail) == (None, 600, Tail.PREFIX_HOLDS)
    assert sum(report.kinds.values()) == 600 - size
    assert ("tile/entries/000" in asked) == (size < 256)
    assert ("tile/entries/001" in asked) == (size < 512)


def test_growth_without_our_schema_counts_no_kinds():
    assert grown(signed(LOG[:300]), schema=False).kinds == {}


def test_an_older_tree_of_another_root_is_no_prefix():
    for size in (1, 255, 256, 300, 600):
        report = grown(signed(FORGED[:size]))
        # Both lists begin with the same entry.
        expected = None if size == 1 else (Fault.NOT_PREFIX, 0, size)
        assert (size, report.fault and spot(report)) == (size, expected)
        assert report.tail is (Tail.PREFIX_HOLDS if expected is None else Tail.NOT_SHOWN)


def test_the_older_checkpoint_is_of_the_same_log_and_has_no_more_entries():
    report = grown(HEAD, checkpoint=signed(LOG[:300]))
    assert (spot(report), report.kinds, report.tail) == ((Fault.OLDER_IS_LARGER, 300, 600), {}, Tail.NOT_SHOWN)


def test_a_tile_that_the_older_tree_needs_is_missing_or_has_another_length():
    report = grown(signed(LOG[:300]), without("tile/0/001"))
    assert (spot(report), report.tail) == ((Fault.TILE_MISSING, 256, 512), Tail.NOT_SHOWN)
    for other in (b"", FILES["tile/0/001"][:-1], FILES["tile/0/001"] + b"\0"):
        assert spot(grown(signed(LOG[:300]), FILES | {"tile/0/001": other})) == (Fault.TILE_CHANGED, 256, 512)
    assert spot(grown(signed(LOG[:300]), without("tile/1/000.p/2"))) == (Fault.TILE_MISSING, 0, 512)


def test_a_fault_above_the_older_tree_leaves_it_a_prefix():
    report = grown(signed(LOG[:300]), without("tile/entries/001"))
    assert (spot(report), report.tail) == ((Fault.BUNDLE_MISSING, 256, 512), Tail.PREFIX_HOLDS)


def test_an_entry_given_otherwise_than_it_was_checked_before_is_named():
    # The older tree is made of the right tile; asked again, the source gives one that fits the entries that it gives.
    lie = log_directory.served((*LOG[:256], *FORGED[256:300], *LOG[300:]))
    met = set()

    def fetch(address):
        again = address.path in met or address.level is None
        met.add(address.path)
        return (lie if again and address.path in {"tile/0/001", "tile/entries/001"} else FILES).get(address.path)

    report = drive(check_growth(HEAD, signed(LOG[:300])), fetch)
    assert spot(report) == (Fault.ENTRY_CHANGED, 256, 300)
    assert report.fault.detail == "an entry is not what was checked before"


# --- the tail


def test_an_empty_older_checkpoint_is_a_prefix_of_a_sound_log_and_shows_nothing_of_another():
    fetch = {path: data for path, data in FILES.items() if path != "tile/entries/000"}.get
    assert fsck(HEAD, lambda address: FILES.get(address.path), older=EMPTY).tail is Tail.PREFIX_HOLDS
    assert fsck(HEAD, lambda address: fetch(address.path), older=EMPTY).tail is Tail.NOT_SHOWN
    assert fsck(EMPTY, lambda address: None, older=EMPTY).tail is Tail.PREFIX_HOLDS


@pytest.mark.parametrize(("path", "tail"), [("tile/entries/002.p/88", Tail.PREFIX_HOLDS), ("tile/entries/001", Tail.NOT_SHOWN)])
@pytest.mark.parametrize("marks", [(), (400,)])
def test_a_fault_after_the_older_checkpoint_was_met_leaves_it_a_prefix(path, tail, marks):
    files = without(path)
    report = fsck(HEAD, lambda address: files.get(address.path), older=signed(LOG[:300]), marks=[signed(LOG[:size]) for size in marks])
    assert (report.fault.fault, report.tail) == (Fault.BUNDLE_MISSING, tail)


# --- the place of a fault, and what is asked for


def test_the_hash_of_a_higher_tile_that_differs_is_named():
    lie = log_directory.served((*LOG[:300], *FORGED[300:301], *LOG[301:]))
    files = FILES | {path: lie[path] for path in ("tile/entries/001", "tile/0/001")}
    assert spot(fsck(HEAD, lambda address: files.get(address.path))) == (Fault.TILE_CHANGED, 256, 512)
    wrong = FILES["tile/1/000.p/2"][:HASH_SIZE] + bytes(HASH_SIZE)
    report = fsck(HEAD, lambda address: (FILES | {"tile/1/000.p/2": wrong}).get(address.path))
    assert spot(report) == (Fault.TILE_CHANGED, 256, 512)
    assert report.fault.detail == "tile/1/000.p/2 is not what the entries hash to"


def test_a_full_tile_above_the_lowest_level_is_compared_too():
    # 65,536 entries that are all alike, so that their tiles are too; the last 256 of them are new.
    leaf = leaf_hash(b"x")
    above = tile_root(leaf * 256)
    files = {"tile/entries/255": encode_bundle([b"x"] * 256), "tile/0/255": leaf * 256, "tile/1/000": above * 256}
    root = tile_root(files["tile/1/000"])
    older, checkpoint = of_root(65_280, TileEdge(65_280, (b"", above * 255)).root()), of_root(65_536, root)
    files["tile/2/000.p/1"] = root
    assert grown(older, files, checkpoint, schema=False).sound
    files["tile/1/000"] = above * 255 + leaf
    assert spot(grown(older, files, checkpoint, schema=False)) == (Fault.TILE_CHANGED, 65_280, 65_536)


@pytest.mark.parametrize("path", ["tile/entries/001", "tile/0/001", "tile/entries/002", "tile/0/002"])
def test_a_missing_file_is_asked_for_as_a_full_one_once(path):
    asked, files = Counter(), without(path, f"{path}.p/88")
    report = fsck(HEAD, lambda address: asked.update([address.path]) or files.get(address.path))
    assert report.fault.fault in {Fault.BUNDLE_MISSING, Fault.TILE_MISSING}
    assert asked[path] == 1


def test_a_full_bundle_gives_the_first_entries_of_a_partial_one_and_of_no_other():
    short = signed(LOG[:20])
    files = log_directory.served(LOG[:20])
    full = files | {"tile/entries/000.p/20": encode_bundle(LOG[:256])}
    assert fsck(short, lambda address: full.get(address.path)).sound
    for count in (21, 255):
        more = files | {"tile/entries/000.p/20": encode_bundle(LOG[:count])}
        report = fsck(short, lambda address, more=more: more.get(address.path))
        assert (spot(report), report.fault.detail) == ((Fault.BUNDLE_MALFORMED, 0, 20), "the bundle has more entries than its path says")


def test_the_first_id_that_is_met_again_is_the_one_named():
    ids = MemoryIds()
    for index, one in enumerate((b"a", b"b", b"b", b"a", b"b")):
        ids.add(index, one * 16)
    assert ids.repeated() == 2


def test_a_partial_tile_is_compared_where_a_source_has_one_though_it_need_not():
    wrong = {"tile/0/002.p/88": bytes(88 * HASH_SIZE), "tile/1/000.p/2": bytes(2 * HASH_SIZE)}
    for path, expected in zip(wrong, ((Fault.ENTRY_CHANGED, 512, 513), (Fault.TILE_CHANGED, 0, 256)), strict=True):
        report = fsck(HEAD, lambda address, path=path: (FILES | {path: wrong[path]}).get(address.path), partials_kept=False)
        assert spot(report) == expected


# --- the order


def paths(size):
    return [address.path for address in order_of_check(size)]


def test_the_order_asks_for_no_higher_tile_before_it_is_full():
    assert paths(65_535)[-4:] == ["tile/0/254", "tile/entries/255.p/255", "tile/0/255.p/255", "tile/1/000.p/255"]
    assert paths(65_536)[-4:] == ["tile/entries/255", "tile/0/255", "tile/1/000", "tile/2/000.p/1"]


def test_the_order_climbs_as_many_levels_as_become_full():
    last = [address.path for address in deque(order_of_check(2**24), maxlen=5)]
    assert last == ["tile/entries/x065/535", "tile/0/x065/535", "tile/1/255", "tile/2/000", "tile/3/000.p/1"]
