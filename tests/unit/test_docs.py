"""The pages for readers: what they name exists. The tutorial's commands are run in tests/acceptance/test_tutorial.py."""

import argparse
import re
from pathlib import Path

import pytest

from gatekeeper.model.reason import REASONS
from tests.requirement_ids import ISSUES, REQUIREMENTS, read_table

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
TABLE = read_table(REQUIREMENTS)
OPEN = set(ISSUES) - set(TABLE.resolved) - {"later"}


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
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text(ROOT / "SECURITY.md") + text(ROOT / "docs" / "log.md"))
    assert [f"{file}::{test}" for file, test in named if not re.search(rf"^(async )?def {test}\(", text(ROOT / file), re.MULTILINE)] == []
    promised = text(ROOT / "SECURITY.md").partition("## Promised now")[2].partition("\n## ")[0]
    rows = [line for line in promised.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 20
    assert [row for row in rows if "::test_" not in row] == []


def test_what_is_not_built_names_the_issue_that_brings_it():
    rows = re.findall(r"^\|.*\| (\w+) \|$", text(ROOT / "SECURITY.md").partition("## Not yet")[2].partition("\n## ")[0], re.MULTILINE)
    assert set(rows) == OPEN | {"issue"}


def test_decisions_are_numbered_without_a_gap_and_name_what_was_rejected():
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    assert [page.name for page in pages if not re.match(rf"# {int(page.name[:4])}\. ", text(page)) or "Rejected" not in text(page)] == []


COMMANDS = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "examples" / "production" / "README.md", ROOT / "README.md"])
PROGRAMS = ("pingee", "pingee-gatekeeper", "pingee-builder", "pingee-doorkeeper", "pingee-witness")


def parsers():
    from builder.cli import _parser as builder
    from clients.cli.main import build_parser
    from clients.demo.main import _parser as demo
    from clients.doorkeeper.cli import _parser as doorkeeper
    from clients.witness.cli import _parser as witness
    from gatekeeper.command import _parser as gatekeeper

    return dict(zip(PROGRAMS, (build_parser(), gatekeeper(), builder(), doorkeeper(), witness()), strict=True)), demo()


def inner(parser):
    """The subcommands of a parser by name."""
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return found[0] if found else {}


def shown_commands(page):
    """Every command line in code: fenced, indented, or between backticks."""
    body = text(page)
    fenced = re.findall(r"^```sh\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
    body = re.sub(r"^```.*?^```", "", body, flags=re.MULTILINE | re.DOTALL)
    code = [*fenced, *re.findall(r"^    (.+)$", body, re.MULTILINE), *re.findall(r"`([^`]+)`", body)]
    lines = "\n".join(code).replace("\\\n", " ").splitlines()
    pattern = rf"(?:^|[\s/(;&]|\b=)({'|'.join(sorted(PROGRAMS, key=len, reverse=True))})((?: [^\s#|;&)]+)+)"
    return [(program, rest.split()) for line in lines for program, rest in re.findall(pattern, line)]


def unknown_words(program, words, known, demo):
    """What of a shown command line its own parser does not know: the command, or a flag."""
    parser = known[program]
    while (below := inner(parser)) and words and not words[0].startswith("-"):
        if words[0] not in below:
            # `log`, `key` and the like are shown without their own command where prose speaks of all of them; a word in capitals is a place.
            return [] if words[0].isupper() else [f"{parser.prog} {words[0]}"]
        parser, words = (demo if (program, words[0]) == ("pingee", "demo") else below[words[0]]), words[1:]
    flags = [word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word)]
    options = {option for action in parser._actions for option in action.option_strings}
    return [f"{parser.prog} {flag}" for flag in flags if flag not in options and flag not in ("--version", "--help")]


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_flag_that_is_shown_exists(page):
    known, demo = parsers()
    shown = shown_commands(page)
    assert shown or page.name == "README.md" or "pingee" not in text(page)
    assert sorted({fault for program, words in shown for fault in unknown_words(program, words, known, demo)}) == []


def test_the_check_of_commands_sees_what_is_wrong(tmp_path):
    known, demo = parsers()
    (tmp_path / "page.md").write_text("`pingee pong`, `pingee ping A B --speed 1`\n\n    pingee-gatekeeper initialise DIR\n\n```sh\npingee demo --keepit\n```\n")
    assert [fault for program, words in shown_commands(tmp_path / "page.md") for fault in unknown_words(program, words, known, demo)] == [
        "pingee demo --keepit", "pingee-gatekeeper initialise", "pingee pong", "pingee ping --speed",
    ]  # fmt: skip


@pytest.mark.parametrize("page", ["first-ten-minutes.md", "transition.md"])
def test_every_code_that_is_named_stands_in_the_table(page):
    codes = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", text(ROOT / "docs" / page))) - {"allowed_signers", *PROGRAMS}
    assert codes
    assert codes - set(REASONS) == set()


def test_later_names_the_issue_that_brings_it():
    for page in ("first-ten-minutes.md", "transition.md"):
        for sentence in re.findall(r"come[s]? later[^.]*", text(ROOT / "docs" / page)):
            assert re.search(rf"\b({'|'.join(OPEN)})\b", sentence), sentence


@pytest.mark.parametrize("program", ["pingee", "pingee-gatekeeper"])
def test_the_help_begins_with_three_commands_that_exist(program, tmp_path):
    known, demo = parsers()
    first = known[program].format_help().partition("begin here:\n")[2].partition("\n\n")[0].splitlines()
    assert len(first) == 3
    (tmp_path / "help.md").write_text("\n".join(f"    {re.split(r'  +', line.strip())[0]}" for line in first))
    shown = shown_commands(tmp_path / "help.md")
    assert len(shown) == 3
    assert [fault for name, words in shown for fault in unknown_words(name, words, known, demo)] == []
