"""Every leaf of a good provenance, changed on its own: refused for the reason that the table of docs/verification.md gives, or listed there
as not compared. The table is read from the document, so neither can be right without the other."""

import json
import re
from pathlib import Path

import pytest

from gatekeeper.model.decision import Verdict
from gatekeeper.policy.decide import decide
from gatekeeper.verify.errors import MalformedStatement
from tests.fakes import signing
from tests.fakes.foreign_builds import case_of, older_component, older_statement, workflow_component, workflow_statement

DOCUMENT = Path(__file__).parents[2] / "docs" / "verification.md"
DOCUMENTS = {
    "Our own builds": (json.loads(signing.provenance_statement()), None),
    "Workflows of GitHub": (workflow_statement(), workflow_component()),
    "Version 0.2": (older_statement(), older_component()),
}


def leaves(value, path=()):
    """Every value that is no object and no list, as a path; and every empty one."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path


def place(path):
    return ".".join(str(step) for step in path)


def tables():
    """Field and end of each row, by the heading above."""
    found, heading = {}, ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if heading in DOCUMENTS and line.startswith("| `") and len(cells) == 3:
            for field in re.findall(r"`([^`]+)`", cells[0]):
                found.setdefault(heading, {})[field] = cells[2].strip("`")
    return found


TABLES = tables()


def other(value):
    """A value of the same form that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, dict):
        return {"unheard": "x"}
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", value):
        return ("0" if value[0] != "0" else "1") + value[1:]
    if re.fullmatch(r"2026-.*Z", value):
        return value.replace("2026-11-21T", "2026-11-20T") if "09:59" in value else value.replace("2026-11-21T", "2026-11-22T")
    return value + "x"


def changed(document, path):
    document = json.loads(json.dumps(document))  # no part is shared
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = other(inner[path[-1]])
    return json.dumps(document).encode()


def end(payload, files):
    """How a decision about this provenance ends: the reason, `malformed`, or `not compared`."""
    try:
        decision = decide(case_of(payload, files))
    except MalformedStatement:
        return "malformed"
    if decision.verdict is Verdict.ALLOW:
        return "not compared"
    assert len(decision.reasons) == 1
    return decision.reasons[0]


@pytest.mark.parametrize("heading", DOCUMENTS)
def test_the_good_one_is_allowed(heading):
    document, files = DOCUMENTS[heading]
    assert decide(case_of(json.dumps(document).encode(), files)).verdict is Verdict.ALLOW


@pytest.mark.parametrize("heading", DOCUMENTS)
def test_the_document_lists_every_field_and_no_other(heading):
    document, _ = DOCUMENTS[heading]
    assert set(TABLES[heading]) == {place(path) for path in leaves(document)}


CASES = [(heading, path) for heading, (document, _) in DOCUMENTS.items() for path in leaves(document)]


@pytest.mark.parametrize(("heading", "path"), CASES, ids=lambda value: value if isinstance(value, str) else place(value))
def test_a_changed_field_ends_as_the_document_says(heading, path):
    document, files = DOCUMENTS[heading]
    assert end(changed(document, path), files) == TABLES[heading][place(path)]
