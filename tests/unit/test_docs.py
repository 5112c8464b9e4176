"""The pages for readers: what they name exists. The tutorial's commands are run in tests/acceptance/test_tutorial.py."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
ISSUES = {"promises", "log", "evidence", "decisions", "deploys", "embargo"}


def text(page):
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_into_the_repository_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text(page))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_shown_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    shown = re.findall(r"(?:`|^    |^)make ((?:[a-z-]+ ?)+)", text(page), re.MULTILINE)
    assert {target for line in shown for target in line.split()} - targets == set()


def test_each_promised_control_names_a_test_that_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text(ROOT / "SECURITY.md"))
    assert [f"{file}::{test}" for file, test in named if not re.search(rf"^(async )?def {test}\(", text(ROOT / file), re.MULTILINE)] == []
    promised = text(ROOT / "SECURITY.md").partition("## Promised now")[2].partition("\n## ")[0]
    rows = [line for line in promised.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 20
    assert [row for row in rows if "::test_" not in row] == []


def test_what_is_not_built_names_the_issue_that_brings_it():
    rows = re.findall(r"^\|.*\| (\w+) \|$", text(ROOT / "SECURITY.md").partition("## Not yet")[2].partition("\n## ")[0], re.MULTILINE)
    assert set(rows) == ISSUES | {"issue"}


def test_decisions_are_numbered_without_a_gap_and_name_what_was_rejected():
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    assert [page.name for page in pages if not re.match(rf"# {int(page.name[:4])}\. ", text(page)) or "Rejected" not in text(page)] == []
