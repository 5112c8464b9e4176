"""JUnit result files of a foreign CI as one verdict: names that passed and failed. What was skipped proves nothing and is left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from builder.statement import StageName, StageResult, Verdict
from gatekeeper.verify.testresult import MAX_TESTS

from .exits import Exit, Failure

MAX_FILES: Final = 1000
MAX_FILE: Final = 16 * 1024 * 1024
_BAD: Final = ("failure", "error")


def read_results(directory: Path) -> StageResult:
    """Every `*.xml` below a directory, in order of name. Raises `Failure` where there is no test at all: nothing tested is nothing passed."""
    files = sorted(directory.rglob("*.xml"))
    if len(files) > MAX_FILES:
        raise Failure(Exit.USAGE, f"{directory} holds more than {MAX_FILES} result files")
    passed: list[str] = []
    failed: list[str] = []
    for file in files:
        for name, good in _cases(file):
            (passed if good else failed).append(name)
            if len(passed) + len(failed) > MAX_TESTS:
                raise Failure(Exit.USAGE, f"{directory} holds more than {MAX_TESTS} tests")
    if not passed and not failed:
        raise Failure(Exit.USAGE, f"{directory} holds no test that ran: *.xml files in JUnit's form are read")
    return StageResult(StageName.COMMIT, Verdict.FAILED if failed else Verdict.PASSED, tuple(passed), tuple(failed))


def _cases(file: Path) -> Iterator[tuple[str, bool]]:
    with file.open("rb") as stream:
        data = stream.read(MAX_FILE + 1)
    # Entities, inner and outer, need a document type; JUnit's files have none. A NUL is another encoding's, in which it could hide.
    if len(data) > MAX_FILE or b"<!" in data.replace(b"<![CDATA[", b"").replace(b"<!--", b"") or b"\0" in data:
        raise Failure(Exit.USAGE, f"{file} has more than {MAX_FILE} bytes, a document type, or an encoding that is not read")
    try:
        root = ET.fromstring(data)  # noqa: S314 -- no document type reaches it, and so no entity
    except (ET.ParseError, LookupError, ValueError) as error:  # the latter two of an encoding
        raise Failure(Exit.USAGE, f"{file} is no XML: {error}") from None
    for case in root.iter("testcase"):
        if case.find("skipped") is None:
            name = ".".join(part for part in (case.get("classname"), case.get("name")) if part) or "unnamed"
            yield _printable(name), _is_good(case)
    for suite in (*root.iter("testsuites"), *root.iter("testsuite")):
        # One that could not even be loaded has no case of its own, and only counts it.
        counted = any(suite.get(f"{bad}s", "0").strip("0 ") for bad in _BAD)
        if (counted or not _is_good(suite)) and all(map(_is_good, suite.iter("testcase"))):
            yield _printable(suite.get("name") or "unnamed"), False


def _is_good(element: ET.Element) -> bool:
    return all(element.find(bad) is None for bad in _BAD)


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)
