"""Attack matrix 112: patterns are ours, constant, and read any text in time that grows with its length; policies hold no pattern at all."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
LONG = 20_000


def files():
    for room in ("gatekeeper", "builder", "clients"):
        yield from sorted((ROOT / room).rglob("*.py"))


def calls():
    """Every call of the module `re`: file, line, the pattern's expression."""
    for file in files():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FUNCTIONS:
                of = node.func.value
                if isinstance(of, ast.Name) and of.id == "re":
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node.args[0]


def constant(expression):
    """The pattern, or None where it is put together at run time."""
    match expression:
        case ast.Constant(value=str() | bytes() as text):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = constant(left), constant(right)
            return None if first is None or second is None else first + second
    return None


def test_policies_hold_no_patterns():
    for file in (ROOT / "gatekeeper" / "policy").rglob("*.py"):
        names = {alias.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
        assert not names & {"re", "fnmatch", "glob"}, file


PATTERNS = {where: constant(pattern) for where, pattern in calls()}


def test_there_are_patterns_and_all_but_these_are_constant():
    assert len(PATTERNS) > 20
    made = {where.partition(":")[0] for where, pattern in PATTERNS.items() if pattern is None}
    # Each joins constants of its own file, or escapes what it puts in.
    assert made <= MADE, made


MADE = {"gatekeeper/verify/builder.py", "gatekeeper/model/privatekey.py", "gatekeeper/model/unfilled.py"}


@pytest.mark.parametrize("where", [where for where, pattern in PATTERNS.items() if pattern is not None])
def test_a_pattern_reads_a_long_text_in_linear_time(where):
    pattern = re.compile(PATTERNS[where])
    atoms = ["a", "0", "-", ".", "/", " ", '"', "\\", "a.", "a-", "\\a", "ab/", "\r\n ", "[", "aA0", "sha256:"]
    texts = [atom * (LONG // len(atom)) + "\x00" for atom in atoms]
    began = time.process_time()
    for text in texts:
        subject = text.encode() if isinstance(pattern.pattern, bytes) else text
        pattern.match(subject)
        pattern.fullmatch(subject)
    assert time.process_time() - began < 2, pattern.pattern
