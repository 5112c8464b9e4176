"""What leads a workload: it waits for its word, and keeps the output bounded; tests/integration has the real one."""

import os
import signal
from types import SimpleNamespace

import pytest

from clients.doorkeeper import supervise


@pytest.fixture
def output():
    """A pipe's reading end, with what was written to its other end, which is closed."""
    opened = []

    def write(data):
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        opened.append(reading)
        return reading

    yield write
    for descriptor in opened:
        os.close(descriptor)


@pytest.fixture
def started(monkeypatch, output):
    """Instead of a workload: its output is there already, and its status is 300."""
    started = []

    def popen(argv, **options):
        started.append(argv)
        if argv == ["broken"]:
            raise OSError(2, "No such file or directory")
        return SimpleNamespace(stdout=SimpleNamespace(fileno=lambda: output(b"up\n")), wait=lambda: 300)

    monkeypatch.setattr(supervise.subprocess, "Popen", popen)
    monkeypatch.setattr(supervise.signal, "signal", lambda number, action: started.append((number, action)))
    return started


def said(monkeypatch, data):
    """What stands on its standard input."""
    read = os.read
    monkeypatch.setattr(supervise.os, "read", lambda descriptor, most: data[:most] if descriptor == 0 else read(descriptor, most))


@pytest.mark.parametrize("word", [b"", b"0"])
def test_without_its_word_it_starts_nothing(tmp_path, monkeypatch, started, word):
    said(monkeypatch, word)
    assert supervise.main([str(tmp_path / "log"), "99", "run"]) == 1
    assert (started, list(tmp_path.iterdir())) == ([], [])


def test_it_runs_copies_and_ends_as_the_workload_does(tmp_path, monkeypatch, started):
    said(monkeypatch, b"1")
    assert supervise.main([str(tmp_path / "log"), "99", "run", "x"]) == 300 & 0xFF
    assert started == [(signal.SIGTERM, signal.SIG_IGN), ["run", "x"]]
    assert (tmp_path / "log").read_bytes() == b"up\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_started_says_so_in_its_log(tmp_path, monkeypatch, started):
    said(monkeypatch, b"1")
    assert supervise.main([str(tmp_path / "log"), "99", "broken"]) == 127
    assert (tmp_path / "log").read_bytes() == b"cannot be started: No such file or directory\n"


def test_past_its_bound_the_log_goes_on_in_a_new_file(tmp_path, output):
    log = tmp_path / "log"
    log.write_bytes(b"123")
    supervise._copy(output(b"45"), str(log), 5)
    assert (log.read_bytes(), log.with_name("log.1").exists()) == (b"12345", False)
    supervise._copy(output(b"6"), str(log), 5)
    assert (log.read_bytes(), log.with_name("log.1").read_bytes()) == (b"6", b"12345")


def test_what_was_written_counts(tmp_path, monkeypatch):
    chunks = [b"12", b"34", b"5", b""]
    monkeypatch.setattr(supervise.os, "read", lambda *_: chunks.pop(0))
    supervise._copy(0, str(tmp_path / "log"), 4)
    assert ((tmp_path / "log").read_bytes(), (tmp_path / "log.1").read_bytes()) == (b"5", b"1234")
