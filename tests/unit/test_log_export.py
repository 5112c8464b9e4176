"""`export-log`: the directory is a valid log at any moment, later runs write what is new, and what contradicts it is refused."""

import fcntl
import os
import stat

import pytest
import trio

from gatekeeper.log_export import export_log
from gatekeeper.ports.log import LogRefused
from gatekeeper.postgres.log_rows import LogRows, NoLog
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.fsck import fsck
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.note import Note, encode_note, parse_note
from tests.fakes import log_directory
from tests.fakes.log_directory import ORIGIN, VKEY
from tests.fakes.witnesses import FakeWitness, policy_of

LOG = log_directory.entries(70_000 // 100)
SIZES = (1, 40, 255, 256, 257, 512, 600, 700)


class Rows:
    """Entries in memory, signed up to `size`."""

    def __init__(self, size, log=LOG):
        self.log, self.size, self.asked = log, size, []

    def newest(self):
        return open_checkpoint(log_directory.note(self.log[: self.size]), VKEY)

    async def bodies(self, start, stop):
        self.asked.append((start, stop))
        return list(self.log[start:stop])


def export(directory, rows):
    return trio.run(export_log, rows.newest(), rows.bodies, directory, VKEY)


def files(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def checked(directory):
    """The size of the valid log that stands there, or None where there is no checkpoint yet."""
    if not (directory / "checkpoint").exists():
        return None
    newest = open_checkpoint((directory / "checkpoint").read_bytes(), VKEY)

    def fetch(address):
        file = directory / address.path
        return file.read_bytes() if file.is_file() else None

    report = fsck(newest, fetch)
    assert report.sound, report.fault
    return report.size


@pytest.mark.parametrize("size", SIZES)
def test_the_directory_is_what_the_gatekeeper_would_serve(tmp_path, size):
    done = export(tmp_path / "log", Rows(size))
    assert files(tmp_path / "log") == {
        path: data for path, data in log_directory.served(LOG[:size]).items() if not path.startswith("proof/")
    }  # fmt: skip
    assert (done.origin, done.before, done.size, done.files) == (ORIGIN, 0, size, len(files(tmp_path / "log")))


def test_a_later_run_writes_and_reads_only_what_is_new(tmp_path):
    export(tmp_path, Rows(600))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    rows = Rows(700)
    done = export(tmp_path, rows)
    assert rows.asked == [(512, 700)]
    assert (done.before, done.size) == (600, 700)
    # checkpoint, bundle, its tile of level 0; the tile of level 1 has two hashes before and after
    assert done.files == 3
    assert checked(tmp_path) == 700
    changed = {str(path.relative_to(tmp_path)) for path, at in times.items() if path.exists() and path.stat().st_mtime_ns != at}
    assert changed == {"checkpoint"}
    again = export(tmp_path, Rows(700))
    assert (again.before, again.size, again.files) == (700, 700, 0)


def test_every_step_of_growth_is_valid_and_filled_partial_tiles_go(tmp_path):
    for size in SIZES:
        export(tmp_path, Rows(size))
        assert checked(tmp_path) == size
    names = files(tmp_path)
    assert not [name for name in names if "/000.p/" in name and name.startswith(("tile/0", "tile/entries"))]
    assert {name for name in names if name.startswith("tile/0")} == {"tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/0/002.p/188"}


def test_a_checkpoint_with_more_cosignatures_replaces_the_one_of_the_same_tree(tmp_path):
    export(tmp_path, Rows(40))
    rows = Rows(40)
    more = open_checkpoint(log_directory.note(LOG[:40]) + "\u2014 w.example AAAAAAAA\n".encode(), VKEY)

    def newest():
        return more

    rows.newest = newest
    assert export(tmp_path, rows).files == 1
    assert (tmp_path / "checkpoint").read_bytes() == more.note


class Crash(Exception):
    pass


@pytest.mark.parametrize(("before", "after"), [(0, 300), (255, 600)])
def test_a_crash_at_any_step_leaves_the_log_of_the_old_checkpoint_and_the_next_run_finishes(tmp_path, monkeypatch, before, after):
    sync, steps, crash_at = os.fsync, 0, 0

    def fsync(descriptor):
        nonlocal steps
        steps += 1
        if steps == crash_at:
            raise Crash
        sync(descriptor)

    sizes, finished = [], False
    while not finished:
        directory = tmp_path / str(len(sizes))
        if before:
            export(directory, Rows(before))
        steps, crash_at, finished = 0, len(sizes) + 1, True
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            try:
                export(directory, Rows(after))
            except Crash:
                sizes.append(checked(directory))
                finished = False
        export(directory, Rows(after))
        assert checked(directory) == after
    assert len(sizes) > 10
    # only the very last sync comes after the checkpoint's rename
    assert sizes == [before or None] * (len(sizes) - 1) + [after]


def test_rows_that_do_not_have_the_signed_root_are_never_shown(tmp_path):
    export(tmp_path, Rows(300))
    before = (tmp_path / "checkpoint").read_bytes()
    rows = Rows(600)
    rows.log = (*LOG[:400], LOG[401], LOG[400], *LOG[402:])

    def newest():
        return open_checkpoint(log_directory.note(LOG[:600]), VKEY)

    rows.newest = newest
    with pytest.raises(LogRefused, match="do not have the root that was signed at size 600"):
        export(tmp_path, rows)
    assert (tmp_path / "checkpoint").read_bytes() == before
    assert checked(tmp_path) == 300
    # what the refused run left above the checkpoint does not stand in the way of the repaired database
    export(tmp_path, Rows(600))
    assert checked(tmp_path) == 600


def test_a_changed_row_below_the_exported_size_a_rewound_database_and_missing_rows_are_refused(tmp_path):
    export(tmp_path, Rows(600))
    other = (*LOG[:590], *log_directory.entries(700, cut="b")[590:])
    with pytest.raises(LogRefused, match="rows below entry 600 are not those that were exported"):
        export(tmp_path, Rows(700, other))
    with pytest.raises(LogRefused, match="a signed checkpoint of 600 entries, the database's newest has 300: it was rewound"):
        export(tmp_path, Rows(300))
    short = Rows(700)
    short.log = LOG[:650]

    def newest():
        return open_checkpoint(log_directory.note(LOG[:700]), VKEY)

    short.newest = newest
    with pytest.raises(LogRefused, match="rows are missing below entry 700"):
        export(tmp_path, short)
    # a row of a bundle that was full already is not read again; only the whole check would find it
    assert checked(tmp_path) == 600


def test_another_tree_of_the_exported_size_is_refused(tmp_path):
    export(tmp_path, Rows(512))
    with pytest.raises(LogRefused, match="do not have the root that was signed at size 512"):
        export(tmp_path, Rows(512, log_directory.entries(600, cut="b")))


def test_a_directory_that_was_meddled_with_is_refused(tmp_path):
    export(tmp_path, Rows(600))
    tile = tmp_path / "tile/1/000.p/2"
    good = tile.read_bytes()
    tile.write_bytes(bytes(64))
    with pytest.raises(LogRefused, match="do not have the root of its checkpoint"):
        export(tmp_path, Rows(700))
    tile.unlink()
    with pytest.raises(LogRefused, match="lacks tiles below its own checkpoint"):
        export(tmp_path, Rows(700))
    tile.write_bytes(good)
    (tmp_path / "checkpoint").write_bytes(b"x")
    with pytest.raises(LogRefused, match="is no checkpoint signed by"):
        export(tmp_path, Rows(700))


def test_two_exports_do_not_write_at_once(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(BlockingIOError) as raised:
            export(tmp_path, Rows(40))
        assert raised.value.strerror == "another export writes there"
        assert not list(tmp_path.iterdir())
    finally:
        os.close(descriptor)


def test_another_user_can_serve_the_files_whatever_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        export(tmp_path / "log", Rows(300))
    finally:
        os.umask(old)
    for path in (tmp_path / "log").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_a_checkpoint_that_waits_for_its_quorum_is_not_exported():
    """It is stored before witnesses see it, and published nowhere until they have cosigned it."""
    witness = FakeWitness("w1")
    policy = policy_of(VKEY, witness)
    older, newer = log_directory.note(LOG[:40]), log_directory.note(LOG[:41])
    signed = parse_note(older)
    cosigned = encode_note(Note(signed.text, (*signed.signatures, witness.sign(signed.text))))
    rows = LogRows(None, 1, (VKEY,))

    async def checkpoints(most):
        assert most >= 2
        return [open_checkpoint(note, VKEY) for note in stored]

    rows.checkpoints = checkpoints
    stored = [newer, cosigned, older]
    assert trio.run(rows.newest_cosigned, policy).note == cosigned
    assert trio.run(rows.newest_cosigned, LogPolicy(VKEY)).note == newer
    stored = [newer, older]
    with pytest.raises(NoLog, match=r"the quorum q cosigned none of the newest"):
        trio.run(rows.newest_cosigned, policy)
