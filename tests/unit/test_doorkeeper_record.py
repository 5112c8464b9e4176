"""The record's bounds, and every way in which its end, its beginning or its head can be wrong."""

import pytest

from clients.doorkeeper import record as recording
from clients.doorkeeper.files import Place, Unreadable
from clients.doorkeeper.record import FIRST, MAX_LINE, Record
from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import parse_moment

AT = parse_moment("2026-11-21T10:00:00Z")


@pytest.fixture
def place(tmp_path):
    place = Place.below(tmp_path)
    place.var.mkdir()
    Record(place).begin()
    return place


def written(place):
    return (place.var / "record.jsonl").read_bytes()


def head(place):
    return (place.var / "record.head").read_bytes()


def filler(place, length):
    """A member that makes the next line exactly that long."""
    Record(place).append(AT, "x", {"m": ""})
    return {"m": "a" * (length - len(written(place).splitlines()[-1]))}


def test_it_begins_empty_and_its_head_says_so(place):
    assert (written(place), head(place), Record(place).verify()) == (b"", FIRST.encode(), 0)


def test_a_line_has_a_bound_and_a_longer_one_is_not_written(place):
    longest = filler(place, MAX_LINE)
    Record(place).append(AT, "x", longest)
    before = written(place), head(place)
    with pytest.raises(ValueError, match=f"a line of the record has more than {MAX_LINE} bytes"):
        Record(place).append(AT, "x", {"m": longest["m"] + "a"})
    assert (written(place), head(place)) == before
    assert Record(place).verify() == 2


def test_past_its_bound_the_chain_goes_on_in_a_new_file(place, monkeypatch):
    Record(place).append(AT, "x", {})
    Record(place).append(AT, "x", {})
    first = written(place)
    monkeypatch.setattr(recording, "MAX_RECORD", len(first))
    Record(place).append(AT, "y", {})
    assert written(place).startswith(first), "a file of exactly the bound is not past it"
    full = written(place)
    Record(place).append(AT, "z", {})
    assert (place.var / "record.1.jsonl").read_bytes() == full
    assert len(written(place).splitlines()) == 1
    assert Record(place).verify() == 1
    (place.var / "record.1.jsonl").unlink()
    with pytest.raises(Unreadable, match=r"record\.jsonl: its beginning is missing"):
        Record(place).verify()


def test_a_crash_between_the_old_file_and_the_new_one_is_mended(place):
    Record(place).append(AT, "x", {})
    (place.var / "record.jsonl").rename(place.var / "record.1.jsonl")
    Record(place).append(AT, "y", {})
    assert Record(place).verify() == 1
    assert digest_of((place.var / "record.1.jsonl").read_bytes()[:-1]).encode() in written(place)


def test_a_record_that_was_emptied_is_not_gone_on_with(place):
    Record(place).append(AT, "x", {})
    for emptied in (b"", b"\n"):
        (place.var / "record.jsonl").write_bytes(emptied)
        with pytest.raises(Unreadable, match=r"record\.jsonl: its end is missing or was changed"):
            Record(place).append(AT, "y", {})
        assert written(place) == emptied


def test_a_record_of_which_an_older_file_exists_is_not_gone_on_with_once_its_lines_are_changed(place):
    (place.var / "record.1.jsonl").write_bytes(b"")
    Record(place).append(AT, "x", {})
    Record(place).append(AT, "x", {})
    (place.var / "record.jsonl").write_bytes(written(place).splitlines(keepends=True)[0])
    with pytest.raises(Unreadable, match=r"record\.jsonl: its end is missing or was changed"):
        Record(place).append(AT, "y", {})


def test_a_head_that_is_a_line_behind_follows_on_the_disk(place):
    Record(place).append(AT, "x", {})
    old = head(place)
    Record(place).append(AT, "y", {})
    (place.var / "record.head").write_bytes(old)
    assert Record(place).verify() == 2
    with pytest.raises(ValueError, match="a line of the record has more than"):
        Record(place).append(AT, "z", {"m": "a" * MAX_LINE})
    assert head(place) == digest_of(written(place).splitlines()[-1]).encode()


def test_a_first_line_that_was_torn_is_cut_off(place):
    (place.var / "record.jsonl").write_bytes(b'{"torn')
    Record(place).append(AT, "x", {})
    assert Record(place).verify() == 1


def test_what_is_no_head_and_what_is_no_line_is_told(place):
    (place.var / "record.head").write_bytes(b"x")
    for broken in (Record(place).verify, lambda: Record(place).append(AT, "x", {})):
        with pytest.raises(Unreadable, match=r"^record\.head: not a digest$"):
            broken()
    (place.var / "record.jsonl").write_bytes(b"{}\n")
    with pytest.raises(Unreadable, match=r"^record\.jsonl: line 1 is damaged: /previous"):
        Record(place).verify()


def test_a_record_that_cannot_be_written_is_told_with_the_disks_word(place):
    (place.var / "record.jsonl").unlink()
    (place.var / "record.jsonl").mkdir()
    with pytest.raises(Unreadable, match=r"^record\.jsonl could not be made durable: Is a directory$"):
        Record(place).append(AT, "x", {})
