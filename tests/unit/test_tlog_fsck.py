"""The check of a whole log: each kind of damage is found and named, with nothing but a signed checkpoint and an older one."""

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import parse_moment
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint, open_checkpoint
from gatekeeper.tlog.entry import Cause, ConfigEntry, OriginEntry, encode_entry
from gatekeeper.tlog.fsck import Fault, Tail, check_log, fsck
from gatekeeper.tlog.merkle import CompactRange, leaf_hash
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note
from gatekeeper.tlog.tile import TileAddress, TileEdge, encode_bundle, parse_tile_path

ORIGIN = "production.example/log/2026"
AT = parse_moment("2026-11-21T10:04:05Z")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def common(number, origin):
    return {"entry_id": f"{number:032x}", "origin": origin, "at": AT, "config": None}


def entry(number: int, origin: str = ORIGIN) -> bytes:
    if number == 0:
        empty = {"cause": Cause.FIRST, "previous": None, "heads": None, "sealed_slots": 4, "tick": 0, "who": (), "reason": None}
        return encode_entry(OriginEntry(**common(0, origin), **empty))
    return encode_entry(ConfigEntry(**common(number, origin), who=(), previous=None, commit="0" * 40, digest=digest_of(b"x")))


ENTRIES = tuple(entry(n) for n in range(600))


def signed(entries, origin: str = ORIGIN):
    root = CompactRange.empty().extend(map(leaf_hash, entries)).root()
    text = encode_checkpoint(Checkpoint(origin, len(entries), root))
    key = ed25519_vkey(origin, KEY.public_key().public_bytes_raw())
    return open_checkpoint(encode_note(Note(text, (NoteSignature(origin, key.key_id, KEY.sign(text)),))), key)


def published(entries) -> dict[str, bytes]:
    """Every file of a log of these entries."""
    edge, full = TileEdge().extend(map(leaf_hash, entries))
    files = {tile.address.path: tile.data for tile in (*full, *edge.partial_tiles())}
    for n in range(-(-len(entries) // 256)):
        some = entries[n * 256 : (n + 1) * 256]
        files[TileAddress(None, n, len(some)).path] = encode_bundle(some)
    return files


def source(files):
    return lambda address: files.get(address.path)


def found(files, checkpoint, **options):
    fault = fsck(checkpoint, source(files), **options).fault
    return (fault.fault, fault.first, fault.end)


HEAD, OLDER = signed(ENTRIES), signed(ENTRIES[:300])


@pytest.fixture
def files():
    return published(ENTRIES)


def changed(entries, index, data=None):
    return (*entries[:index], *((data,) if data is not None else ()), *entries[index + 1 :])


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def test_a_sound_log_asks_for_every_file_once_and_is_sound(files):
    asked = []

    def fetch(address):
        asked.append(address.path)
        return files.get(address.path)

    report = fsck(HEAD, fetch, older=OLDER)
    assert report.sound
    assert (report.size, report.tail, report.kinds) == (600, Tail.PREFIX_HOLDS, {"origin": 1, "config": 599})
    assert sorted(asked) == sorted(files)


def test_without_an_older_checkpoint_it_cannot_tell(files):
    assert fsck(HEAD, source(files)).tail is Tail.CANNOT_TELL


def test_an_empty_log_is_sound():
    report = fsck(signed(()), source({}))
    assert (report.sound, report.size) == (True, 0)


@pytest.mark.parametrize("index", [0, 255, 256, 511, 512, 599])
def test_one_changed_byte_of_an_entry_is_named(files, index):
    n = index // 256
    some = list(ENTRIES[n * 256 : (n + 1) * 256])
    some[index % 256] = some[index % 256].replace(b"2026-11-21", b"2026-11-22")
    files[TileAddress(None, n, len(some)).path] = encode_bundle(some)
    assert found(files, HEAD) == (Fault.ENTRY_CHANGED, index, index + 1)


def test_each_missing_file_is_named(files):
    for path in files:
        rest = {name: data for name, data in files.items() if name != path}
        report = fsck(HEAD, source(rest))
        address = parse_tile_path(path)
        expected = Fault.BUNDLE_MISSING if address.level is None else Fault.TILE_MISSING
        assert (path, report.fault.fault, report.fault.first) == (path, expected, address.first)


def test_one_changed_byte_of_each_file_is_found(files):
    for path, data in files.items():
        for at in (0, len(data) // 2, len(data) - 1):
            assert not fsck(HEAD, source(files | {path: flipped(data, at)})).sound, (path, at)
        for other in (data[:-1], data + b"\0", b""):
            assert not fsck(HEAD, source(files | {path: other})).sound, path


def test_a_removed_inserted_or_swapped_row_is_named_where_the_tiles_are_as_signed(files):
    swapped = (*ENTRIES[:70], ENTRIES[71], ENTRIES[70], *ENTRIES[72:])
    for entries, index in ((changed(ENTRIES, 70), 70), ((*ENTRIES[:70], entry(9000), *ENTRIES[70:]), 70), (swapped, 70)):
        rows = published(entries[:600])
        mixed = {path: data for path, data in files.items() if "entries" not in path}
        mixed |= {path: data for path, data in rows.items() if "entries" in path}
        assert found(mixed, HEAD)[:2] == (Fault.ENTRY_CHANGED, index)


def test_an_entry_and_its_leaf_tile_changed_together_are_found_by_the_tile_above(files):
    forged = published(changed(ENTRIES, 70, entry(9000)))
    mixed = files | {path: forged[path] for path in ("tile/entries/000", "tile/0/000")}
    assert found(mixed, HEAD) == (Fault.TILE_CHANGED, 0, 256)


def test_a_whole_forged_log_is_found_by_the_signed_roots():
    forged = published(changed(ENTRIES, 70, entry(9000)))
    assert found(forged, HEAD) == (Fault.ROOT_CHANGED, 0, 600)
    marks = [signed(ENTRIES[:size]) for size in (60, 64, 80)]
    assert found(forged, HEAD, marks=marks) == (Fault.ROOT_CHANGED, 64, 80)
    report = fsck(HEAD, source(forged), older=OLDER)
    assert (report.fault.fault, report.fault.first, report.fault.end, report.tail) == (Fault.NOT_PREFIX, 0, 300, Tail.NOT_SHOWN)


def test_a_cut_tail_shows_only_against_an_older_checkpoint():
    short = ENTRIES[:200]
    assert fsck(signed(short), source(published(short))).sound
    assert found(published(short), signed(short), older=OLDER) == (Fault.OLDER_IS_LARGER, 200, 300)


def test_a_rewritten_log_signed_anew_shows_only_against_an_older_checkpoint():
    forged = changed(ENTRIES, 70, entry(9000))
    assert fsck(signed(forged), source(published(forged))).sound
    assert found(published(forged), signed(forged), older=OLDER)[0] is Fault.NOT_PREFIX
    assert found(published(forged), signed(forged), older=HEAD)[0] is Fault.NOT_PREFIX


def test_rows_that_end_early_are_missing(files):
    files["tile/entries/002.p/88"] = encode_bundle(ENTRIES[512:590])
    assert found(files, HEAD) == (Fault.ENTRY_MISSING, 590, 600)


def test_the_checkpoints_must_be_of_one_log(files):
    assert found(files, HEAD, older=signed(ENTRIES[:3], "other.example/log"))[0] is Fault.OTHER_ORIGIN


@pytest.mark.parametrize(
    ("index", "data", "fault"),
    [
        (70, b"{}", Fault.ENTRY_MALFORMED),
        (70, b" " + entry(70), Fault.ENTRY_MALFORMED),
        (70, entry(70, "other.example/log"), Fault.ENTRY_ORIGIN),
        (70, entry(0).replace(b'"entry_id":"00', b'"entry_id":"ff'), Fault.ENTRY_ORIGIN),
        (0, entry(0x9000), Fault.ENTRY_ORIGIN),
        (270, entry(69), Fault.ENTRY_REPEATED),
    ],
)
def test_an_honestly_signed_entry_outside_the_schema_is_named(index, data, fault):
    entries = changed(ENTRIES[:300], index, data)
    assert found(published(entries), signed(entries)) == (fault, index, index + 1)
    assert fsck(signed(entries), source(published(entries)), schema=False).sound


def test_an_entry_of_an_unknown_kind_is_kept_and_counted():
    body = entry(70).replace(b'"kind":"config"', b'"kind":"future"')
    entries = changed(ENTRIES[:80], 70, body)
    assert fsck(signed(entries), source(published(entries))).kinds == {"origin": 1, "config": 78, "unknown": 1}


def test_a_log_that_grew_on_serves_full_tiles_for_partial_ones(files):
    full_only = {path: data for path, data in files.items() if ".p/" not in path}
    assert fsck(signed(ENTRIES[:500]), source(full_only | published(ENTRIES[:500])), older=OLDER).sound
    grown = full_only | {"tile/1/000.p/1": published(ENTRIES[:500])["tile/1/000.p/1"]}
    assert "tile/0/001.p/244" not in grown
    assert fsck(signed(ENTRIES[:500]), source(grown)).sound


def test_a_source_of_rows_may_keep_full_tiles_only(files):
    rows = {path: data for path, data in files.items() if ".p/" not in path or "entries" in path}
    assert fsck(HEAD, source(rows), partials_kept=False).sound
    assert found(rows, HEAD) == (Fault.TILE_MISSING, 512, 600)
    del rows["tile/0/001"]
    assert found(rows, HEAD, partials_kept=False) == (Fault.TILE_MISSING, 256, 512)


def test_the_generator_itself_does_no_io(files):
    check = check_log(HEAD)
    assert next(check) == TileAddress(None, 0, 256)
    assert check.send(files["tile/entries/000"]) == TileAddress(0, 0, 256)


def test_the_report_cannot_be_rewritten(files):
    with pytest.raises(dataclasses.FrozenInstanceError):
        fsck(HEAD, source(files)).fault = None


def test_a_partial_bundle_with_more_entries_than_its_path_says_is_refused():
    short = ENTRIES[:20]
    files = published(short) | {"tile/entries/000.p/20": encode_bundle(ENTRIES[:21])}
    assert found(files, signed(short)) == (Fault.BUNDLE_MALFORMED, 0, 20)
