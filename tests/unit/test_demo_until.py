"""`pingee demo --until STEP`: the steps behind it are left out, and a step that there is not fails the demo."""

from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path

import pytest

from clients.demo import main
from clients.demo.telling import Telling

STEPS = ("build", "deploy", "rollback")


@pytest.fixture
def shown(tmp_path, monkeypatch, capsys):
    """Runs the demo with steps that do nothing; its exit code, the steps, and what it said."""

    @contextmanager
    def standing(*_, **__):
        yield Namespace(instances=[Namespace(log_file=tmp_path / "log")])

    def show(_, telling):
        for name in STEPS:
            with telling.step(name, "a step"):
                pass
        return dict.fromkeys(("push_to_running_s", "yours_s", "pingee_s", "refusals", "leases_for_refusals", "entries_checked_offline", "page"), 1)

    (tmp_path / "log").touch()
    monkeypatch.setattr(main, "_house", standing)
    monkeypatch.setattr(main, "_repository", lambda *_: tmp_path)
    monkeypatch.setattr(main, "make_example", lambda *_: Path())
    monkeypatch.setattr(main, "diagnosis", lambda _: "")
    monkeypatch.setattr(main, "show", show)

    def run(until):
        telling = Telling(as_json=False, until=until)
        code = main._demo(Namespace(component=None, repo=None, keep=False, until=until), tmp_path, telling)
        told = capsys.readouterr()
        return code, tuple(step["name"] for step in telling.steps), told.out + told.err

    return run


@pytest.mark.parametrize(("until", "last"), [("deploy", 2), ("rollback", 3)])
def test_it_ends_after_the_step_and_says_that_it_left_something_out(shown, until, last):
    code, steps, told = shown(until)
    assert (code, steps) == (0, STEPS[:last])
    assert f"ended after {until}, as --until says" in told
    assert "push to running" not in told, "figures of steps that were not shown"


def test_a_step_that_there_is_not_is_a_failure(shown):
    code, steps, told = shown("deplo")
    assert (code, steps) == (1, STEPS)
    assert "pingee demo: --until deplo: there is no such step, so all were shown" in told


def test_without_it_all_is_shown(shown):
    code, steps, told = shown(None)
    assert (code, steps) == (0, STEPS)
    assert "push to running 1 s" in told
