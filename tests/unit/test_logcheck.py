"""Around the check of a log: ids in flat memory, files that are no plain files, fetching ahead, progress, the order of the check."""

import os
import threading
from pathlib import Path

import pytest

from clients.cli.main import main
from gatekeeper.logcheck import ids as ids_module
from gatekeeper.logcheck.ahead import fetched_ahead
from gatekeeper.logcheck.directory import BadDirectory, LogDirectory
from gatekeeper.logcheck.ids import SpillingIds
from gatekeeper.logcheck.progress import Progress
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.fsck import MemoryIds, fsck, order_of_check
from gatekeeper.tlog.tile import TileAddress
from tests.fakes import log_directory

LOG = log_directory.entries(700)
FILES = log_directory.served(LOG)
HEAD = open_checkpoint(FILES["checkpoint"], log_directory.VKEY)


def made(number):
    return number.to_bytes(16, "big")


@pytest.mark.parametrize("repeats", [(), ((900, 3),), ((500, 499), (700, 3)), ((5, 4), (6, 4), (7, 4))])
def test_spilt_ids_find_the_first_second_occurrence_as_those_in_memory_do(repeats):
    with SpillingIds(held=64) as spilt:
        memory = MemoryIds()
        for index in range(1000):
            entry_id = made(dict(repeats).get(index, index))
            spilt.add(index, entry_id)
            memory.add(index, entry_id)
        assert spilt.repeated() == memory.repeated() == (min(index for index, _ in repeats) if repeats else None)


def test_spilt_ids_leave_no_file_behind_and_few_ids_make_none(tmp_path, monkeypatch):
    monkeypatch.setattr(ids_module.tempfile, "tempdir", str(tmp_path))
    with SpillingIds(held=64) as ids:
        for index in range(63):
            ids.add(index, made(index))
        assert list(tmp_path.iterdir()) == []
        ids.add(63, made(63))
        [directory] = tmp_path.iterdir()
        assert directory.stat().st_mode & 0o077 == 0
        assert sum(part.stat().st_size for part in directory.iterdir()) == 64 * 24
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 700])
def test_the_order_of_the_check_is_foreseen(size):
    asked = []
    files = log_directory.served(LOG[:size]) if size else {}
    checkpoint = open_checkpoint(log_directory.note(LOG[:size]), log_directory.VKEY)
    assert fsck(checkpoint, lambda address: asked.append(address) or files.get(address.path)).sound
    assert asked == list(order_of_check(size))


def test_the_order_climbs_through_the_levels():
    order = [address.path for address in order_of_check(65_536 + 1)]
    at = order.index("tile/1/000")
    assert order[at - 2 : at + 4] == ["tile/entries/255", "tile/0/255", "tile/1/000", "tile/entries/256.p/1", "tile/0/256.p/1", "tile/2/000.p/1"]


def test_fetching_ahead_asks_from_several_threads_and_answers_in_order():
    together, met = threading.Barrier(4, timeout=20), threading.Event()

    def fetch(address):
        if not met.is_set():
            together.wait()
            met.set()
        return FILES.get(address.path)

    with fetched_ahead(700, fetch) as source:
        assert fsck(HEAD, source).sound


def test_fetching_ahead_falls_back_where_partial_tiles_are_gone_and_passes_errors_on():
    grown = {path: data for path, data in FILES.items() if ".p/" not in path} | log_directory.served(LOG[:500])
    gone = {path: data for path, data in grown.items() if path not in {"tile/0/001.p/244", "tile/entries/001.p/244"}}
    checkpoint = open_checkpoint(log_directory.note(LOG[:500]), log_directory.VKEY)
    with fetched_ahead(500, lambda address: gone.get(address.path)) as source:
        assert fsck(checkpoint, source).sound

    def failing(address):
        if address == TileAddress(None, 1):
            raise ConnectionError("lost")
        return FILES.get(address.path)

    with fetched_ahead(700, failing) as source, pytest.raises(ConnectionError, match="lost"):
        fsck(HEAD, source)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def link(path):
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def linked_directory(path):
    elsewhere = path.parent.with_name("elsewhere")
    path.parent.rename(elsewhere)
    path.parent.symlink_to(elsewhere)


def directory_instead(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [pipe, link, linked_directory, directory_instead])
@pytest.mark.parametrize("path", ["tile/0/000", "tile/entries/002.p/188"])
def test_nothing_but_plain_files_is_read(tmp_path, capsys, spoil, path):
    directory = log_directory.write(FILES, tmp_path / "log")
    (tmp_path / "policy").write_bytes(log_directory.POLICY)
    spoil(directory / path)
    code = main(["log", "fsck", str(directory), "--log-policy", str(tmp_path / "policy")])
    assert code == 1
    assert "no plain file" in capsys.readouterr().err


def test_of_a_giant_file_little_more_than_its_kind_can_have_is_read(tmp_path):
    directory = log_directory.write(FILES, tmp_path / "log")
    for path, most in (("tile/0/000", 8192), ("tile/entries/000", 256 * 65_537), ("checkpoint", 65_536)):
        with (directory / path).open("r+b") as file:
            file.truncate(1 << 40)
        with LogDirectory(directory) as log:
            assert len(log.read(path, most)) == most + 1
    with LogDirectory(directory) as log:
        report = fsck(HEAD, log.fetch)
    assert (report.fault.fault.value, report.fault.first) == ("bundle-malformed", 0)
    assert "too long" in report.fault.detail


def test_a_directory_reader_leaves_no_descriptor_open(tmp_path):
    directory = log_directory.write(FILES, tmp_path / "log")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with LogDirectory(directory) as log:
        for _ in range(5):
            log.fetch(TileAddress(0, 0))
            assert log.fetch(TileAddress(0, 77)) is None
            with pytest.raises(BadDirectory):
                log.read("checkpoint/x", 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


class Paper:
    def __init__(self, terminal):
        self.terminal, self.text = terminal, ""

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_progress_is_one_line_a_second_with_rate_and_what_is_left():
    now, paper = [100.0], Paper(terminal=False)
    progress = Progress(1000, paper, clock=lambda: now[0])
    for done in range(0, 1000, 10):
        now[0] += 0.0625
        progress.at(done)
    lines = paper.text.splitlines()
    assert lines[:2] == ["150 of 1000 entries, 150 a second, 6 s left", "310 of 1000 entries, 155 a second, 4 s left"]
    assert len(lines) == 6
    progress.done()
    assert paper.text.endswith("left\n")


def test_on_a_terminal_the_line_is_written_over_and_taken_away():
    now, paper = [0.0], Paper(terminal=True)
    progress = Progress(100, paper, clock=lambda: now[0])
    now[0] = 2.0
    progress.at(50)
    progress.done()
    assert paper.text.startswith("\r50 of 100 entries, 25 a second, 2 s left")
    assert "\n" not in paper.text
    assert paper.text.endswith(" \r")


def test_the_command_streams_json_and_says_how_far_it_is_when_asked(tmp_path, capsys, monkeypatch):
    directory = log_directory.write(FILES, tmp_path / "log")
    (tmp_path / "policy").write_bytes(log_directory.POLICY)
    monkeypatch.setattr("gatekeeper.logcheck.progress.EVERY_S", 0.0)
    arguments = ["log", "fsck", str(directory), "--log-policy", str(tmp_path / "policy")]
    assert main([*arguments, "-o", "jsonl", "--progress"]) == 0
    out, err = capsys.readouterr()
    import json

    first, *_, last = map(json.loads, out.splitlines())
    assert first == {"apiVersion": "pingee/v1", "kind": "Stream"}
    assert (last["kind"], last["sound"], last["size"]) == ("Report", True, 700)
    assert "512 of 700 entries" in err
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
