"""`tests/requirements.toml` is whole: every promise is shown by tests that exist, or names the issue that will bring them."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.registry import known_benches
from tests.requirement_ids import ATTACKS, BENCH, REQUIREMENTS, RequirementTable, read_attacks, read_table

ROOT = Path(__file__).parents[2]


def collected(files: set[str]) -> set[str]:
    """Node ids, without parameters, of what pytest finds in `files`, peers included."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", "", *sorted(files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in {0, pytest.ExitCode.NO_TESTS_COLLECTED}, done.stdout + done.stderr
    return {line.split("[")[0] for line in done.stdout.splitlines() if "::" in line}


def test_the_table_is_whole():
    table = read_table(REQUIREMENTS)
    assert table.faults() == []
    assert Counter(table.levels.values()) == {"VERY HARD": 7, "HARD": 42, "SOFTER": 4, "NICE": 9}


def test_every_row_of_the_attack_matrix_is_shown_or_planned():
    table = read_attacks(ATTACKS, read_table(REQUIREMENTS).resolved)
    assert table.faults() == []
    assert len(table.levels) == 149


def test_every_listed_test_exists_and_is_collected():
    tables = (read_table(REQUIREMENTS), read_attacks(ATTACKS, []))
    listed = [node for table in tables for nodes in table.shown.values() for node in nodes]
    tests = {node for node in listed if not node.startswith(BENCH)}
    files = {node.split("::")[0] for node in tests}
    missing_files = {name for name in files if not (ROOT / name).is_file()}
    assert missing_files == set()
    assert tests - collected(files) == set()
    assert {node.removeprefix(BENCH) for node in listed if node.startswith(BENCH)} - known_benches() == set()


LEVELS = {"ROLLBACK": "HARD", "MOBILE": "NICE", "EMBARGO": "NICE"}
WHOLE = RequirementTable(LEVELS, {"ROLLBACK": ["tests/a.py::test_b"]}, {"MOBILE": "later", "EMBARGO": "embargo"}, ["path"])


def test_a_whole_table_has_no_fault():
    assert WHOLE.faults() == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"shown": {"ROLLBACK": ["x"], "ROLBACK": ["x"]}}, "ROLBACK: unknown"),
        ({"shown": {"ROLLBACK": ["x"], "MOBILE": ["x"]}}, "MOBILE: both shown and planned"),
        ({"shown": {}}, "ROLLBACK: neither shown nor planned"),
        ({"shown": {"ROLLBACK": []}}, "ROLLBACK: shown by nothing"),
        ({"planned": {"MOBILE": "someday", "EMBARGO": "embargo"}}, "MOBILE: planned for 'someday', which is no issue"),
        ({"planned": {"MOBILE": "path", "EMBARGO": "embargo"}}, "MOBILE: still planned for path, which is resolved"),
        ({"planned": {"MOBILE": "later", "EMBARGO": "later"}}, "EMBARGO: a mandatory promise cannot wait for later"),
    ],
)
def test_each_fault_of_a_table_is_named(change, fault):
    assert replace(WHOLE, **change).faults() == [fault]


def test_the_summary_counts_what_is_hard_and_planned():
    assert WHOLE.summary() == "requirements: 3 ids, 1 shown by tests, 2 planned, 1 of these HARD"
