"""`make bench` says the truth: bars are judged, a missed one is the exit status, names are what was promised."""

import json

import pytest

from tests.bench import registry, run
from tests.bench.registry import Bar, Bench, Figure, Measured

FAST = Figure("log.append", 9000.0, "entries/s", 12000.0, Bar(Measured.RATIO, at_least=0.5))
SLOW = Figure("log.latency", 80.0, "ms", None, Bar(Measured.VALUE, at_most=50))


@pytest.mark.parametrize(
    ("figure", "ok"),
    [
        (FAST, True),
        (Figure("b", 5.0, "x", 12.0, Bar(Measured.RATIO, at_least=0.5)), False),
        (Figure("b", 5.0, "x", None, Bar(Measured.RATIO, at_least=0.5)), False),
        (Figure("b", 5.0, "x", 0.0, Bar(Measured.RATIO, at_least=0.5)), False),
        (Figure("b", 5.0, "x", 12.0, Bar(Measured.RATIO, at_least=0.5, otherwise=Bar(Measured.VALUE, at_least=5))), True),
        (Figure("b", 6.0, "x", 12.0, Bar(Measured.RATIO, at_least=0.5, otherwise=Bar(Measured.VALUE, at_least=9))), True),
        (Figure("b", 4.0, "x", 12.0, Bar(Measured.RATIO, at_least=0.5, otherwise=Bar(Measured.VALUE, at_least=5))), False),
        (SLOW, False),
        (Figure("b", 50.0, "ms", None, Bar(Measured.VALUE, at_most=50)), True),
        (Figure("b", 5.0, "x"), True),
    ],
)
def test_a_bar_is_judged(figure, ok):
    assert figure.ok is ok


@pytest.mark.parametrize("bounds", [{}, {"at_least": 1.0, "at_most": 2.0}])
def test_a_bar_has_one_bound(bounds):
    with pytest.raises(ValueError, match="one bound"):
        Bar(Measured.VALUE, **bounds)


def test_the_document_has_the_agreed_members(monkeypatch, capsys):
    monkeypatch.setattr(run, "load_benches", lambda: [Bench(("log.append",), lambda: [FAST])])
    assert run.main(["-o", "json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document == {
        "bench": "log.append",
        "value": 9000.0,
        "unit": "entries/s",
        "baseline": 12000.0,
        "ratio": 0.75,
        "bar": "ratio >= 0.5",
        "ok": True,
    }


def test_a_missed_bar_is_seen_in_table_and_exit_status(monkeypatch, capsys):
    monkeypatch.setattr(run, "load_benches", lambda: [Bench(("log.latency",), lambda: [SLOW])])
    assert run.main([]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("value <= 50  MISSED")


def test_a_prefix_chooses_before_anything_runs(monkeypatch, capsys):
    def never():
        raise AssertionError("not chosen")

    monkeypatch.setattr(run, "load_benches", lambda: [Bench(("log.append",), lambda: [FAST]), Bench(("ping.rate",), never)])
    assert run.main(["--only", "log"]) == 0
    assert run.main(["--only", "nothing"]) == 1
    assert "there are: log.append ping.rate" in capsys.readouterr().err


def test_a_bench_gives_what_it_promised():
    with pytest.raises(RuntimeError, match="promised"):
        run.measured(Bench(("log.append", "log.latency"), lambda: [FAST]))


def test_a_name_is_registered_once(monkeypatch):
    monkeypatch.setattr(registry, "_registered", [])
    registry.bench("a.b")(list)
    with pytest.raises(ValueError, match="taken"):
        registry.bench("a.b")(list)
