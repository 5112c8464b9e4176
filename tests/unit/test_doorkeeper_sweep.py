"""What a crash may leave half-done at a target is put away, and what is whole stays."""

import pytest

from clients.doorkeeper import sweep as sweeping
from clients.doorkeeper.files import Place, Unreadable
from clients.doorkeeper.sweep import sweep

WHOLE = ("state.json", "record.jsonl", "lock", "cosigner.key", "settings/hello/aa", "processes/hello.json", "forks/1-ab", "releases/hello/aa/out")
HALF = (".state.json.0a", ".record.head.0a", "settings/hello/.bb.0a", "processes/.hello.json.0a", "forks/.2-cd.0a", "incoming/f00")


def make(place, names):
    for name in names:
        path = place.var / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def files(place):
    return {str(path.relative_to(place.var)) for path in place.var.rglob("*") if path.is_file() or path.is_symlink()}


def test_half_written_files_go_and_whole_ones_stay(tmp_path):
    place = Place.below(tmp_path)
    make(place, WHOLE + HALF)
    (place.var / "current").mkdir()
    (place.var / "current" / "hello").symlink_to("../releases/hello/aa")
    (place.var / "current" / ".hello.0a").symlink_to("../releases/hello/bb")
    sweep(place)
    assert files(place) == {*WHOLE, "current/hello"}
    sweep(place)


def test_a_release_that_was_being_written_goes(tmp_path):
    place = Place.below(tmp_path)
    make(place, (f"{folder}/hello/{name}" for folder in ("releases", "artifacts") for name in (".bb.new/out", "aa/out")))
    sweep(place)
    for folder in ("releases", "artifacts"):
        assert [path.name for path in (place.var / folder / "hello").iterdir()] == ["aa"]


@pytest.mark.parametrize(("there", "kept"), [(("aa", ".aa.old"), "aa"), ((".aa.old", ".aa.new"), ".aa.old"), ((".aa.old",), ".aa.old")])
def test_of_a_release_that_was_being_replaced_one_is_kept(tmp_path, there, kept):
    place = Place.below(tmp_path)
    make(place, [f"releases/hello/{name}/out" for name in there])
    sweep(place)
    assert files(place) == {"releases/hello/aa/out"}
    assert (place.var / "releases/hello/aa/out").read_text() == f"releases/hello/{kept}/out"


def test_what_cannot_be_put_away_is_said(tmp_path):
    place = Place.below(tmp_path)
    (place.incoming / "a-directory").mkdir(parents=True)
    with pytest.raises(Unreadable, match="left behind cannot be put away"):
        sweep(place)


def test_a_doorkeeper_that_never_ran_has_nothing_to_sweep(tmp_path):
    sweep(Place.below(tmp_path))


def test_a_release_that_gets_its_name_back_has_it_on_the_disk(tmp_path, monkeypatch):
    place, synced = Place.below(tmp_path), []
    monkeypatch.setattr(sweeping, "sync_directory", lambda folder: synced.append((folder.name, sorted(path.name for path in folder.iterdir()))))
    make(place, ["releases/hello/.aa.old/out", "releases/second/aa/out"])
    sweep(place)
    assert synced == [("hello", ["aa"])]
