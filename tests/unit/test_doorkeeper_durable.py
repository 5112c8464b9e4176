"""How a doorkeeper writes its files and waits for its lock: names are on the disk when a call returns; the clock is the test's own."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from clients.doorkeeper import files
from clients.doorkeeper.files import Busy, Place, Unreadable, exclusive, read_bounded, switch_link, write_durably


@pytest.fixture
def synced(monkeypatch):
    """What was fsynced, in order: a file's bytes, or a directory's names."""
    done = []

    def fsync(descriptor):
        where = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append(sorted(path.name for path in where.iterdir()) if where.is_dir() else where.read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    return done


def test_bytes_are_on_the_disk_before_their_name_is(tmp_path, synced):
    (tmp_path / "file").write_bytes(b"old")
    write_durably(tmp_path / "file", b"new")
    assert synced == [b"new", ["file"]]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_link_is_on_the_disk_once_it_is_switched(tmp_path, synced):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        switch_link(tmp_path / "link", tmp_path / name)
        assert (tmp_path / "link").readlink().name == name
    assert synced == [["link", "one"], ["link", "one", "two"]]


def test_a_write_that_fails_is_told_and_leaves_the_old_bytes_alone(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        write_durably(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_is_read_up_to_its_bound(tmp_path):
    (tmp_path / "file").write_bytes(b"1234")
    assert read_bounded(tmp_path / "file", 4) == b"1234"
    with pytest.raises(Unreadable, match="file: more than 3 bytes"):
        read_bounded(tmp_path / "file", 3)
    with pytest.raises(Unreadable, match="none: No such file or directory"):
        read_bounded(tmp_path / "none", 3)


class Clock:
    def __init__(self):
        self.now, self.slept = 100.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert len(self.slept) < 100, "it waits for ever"
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(files, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
    return clock


@pytest.mark.parametrize("wait_s", [0.0, 1.0])
def test_the_lock_is_waited_for_as_long_as_was_said_and_no_longer(tmp_path, clock, wait_s):
    place = Place.below(tmp_path)
    place.var.mkdir()
    with exclusive(place, wait_s=0):
        with pytest.raises(Busy, match="another apply is under way"), exclusive(place, wait_s=wait_s):
            pytest.fail("two hold the lock")
        assert wait_s <= sum(clock.slept) < wait_s + 0.1
        assert bool(clock.slept) == bool(wait_s)


def test_a_lock_that_is_given_back_meanwhile_is_taken(tmp_path, clock, monkeypatch):
    place = Place.below(tmp_path)
    place.var.mkdir()
    held = exclusive(place, wait_s=0)
    held.__enter__()

    def sleep(_seconds):
        assert held.__exit__(None, None, None) is False

    monkeypatch.setattr(files.time, "sleep", sleep)
    with exclusive(place, wait_s=1):
        pass


def test_a_lock_that_cannot_be_made_is_told(tmp_path):
    with pytest.raises(Unreadable, match="lock: No such file or directory"), exclusive(Place.below(tmp_path), wait_s=0):
        pytest.fail("there is no lock")


def test_without_a_directory_it_is_the_systems_own():
    assert Place.below(None) == Place(files.ETC, files.VAR)
