"""`pingee init`: what it finds, what it writes, what it refuses; the builder's own reader judges the result. LIMITBOILERPLATE."""

from __future__ import annotations

import json
import re

import pytest

from builder.languages import LANGUAGES
from builder.pipeline import parse_document
from builder.plan import make_plan
from clients.cli.init import render_document
from clients.cli.main import main

FILE = ".pipeline/config.yaml"

SIGNS = {
    "python": ["pyproject.toml"],
    "ruby": ["Gemfile"],
    "maven": ["pom.xml", "src/main/java/Main.java"],
    "gradle": ["build.gradle.kts", "src/main/java/Main.java"],
    "java": ["src/main/java/Main.java", "run.sh"],
    "php": ["composer.json", "Makefile"],
    "go": ["go.mod", "Makefile", "build.sh"],
    "node": ["package.json"],
    "make": ["Makefile", "helper.sh"],
    "c": ["Makefile", "main.c"],
    "shell": ["main.sh"],
}


def put(directory, names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()


def plan_of(data):
    return make_plan(parse_document(data), repository="elsewhere", enforced=(), most_s=3600)


@pytest.fixture
def greet(tmp_path):
    (tmp_path / "greet").mkdir()
    return tmp_path / "greet"


@pytest.mark.parametrize("kind", sorted(SIGNS))
def test_each_type_is_found_by_its_files_and_gets_a_document_that_parses(greet, capsys, kind):
    """PROGLANGS."""
    put(greet, SIGNS[kind])
    assert main(["init", str(greet)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{greet / FILE}\n"
    assert f"wrote {greet / FILE}: type {kind}, because of " in said.err
    assert "next: read it, commit it, and try it here: pingee-builder run " in said.err
    plan = plan_of((greet / FILE).read_bytes())
    assert (plan.type, plan.component) == (kind, "greet")
    assert main(["init", str(greet), "--check"]) == 0


def test_every_type_can_be_found():
    assert set(SIGNS) == set(LANGUAGES)


@pytest.mark.parametrize("kind", [*sorted(LANGUAGES), "python-3.12"])
def test_what_stands_in_comments_is_what_the_type_does(kind):
    text = render_document(kind, "greet")
    written = re.sub(r"^#(?! \S)", "", text, flags=re.MULTILINE)
    assert written != text
    assert plan_of(written.encode()) == plan_of(text.encode())
    assert len(text.splitlines()) < 20


@pytest.mark.parametrize("name", ["yes", "1", "1e3", "0x1f", "no", "null", "greet-2", "1.5"])
def test_a_name_that_yaml_takes_for_something_else_is_quoted(name):
    assert plan_of(render_document("make", name).encode()).component == name


def test_a_document_that_is_there_stays_as_it_is(greet, capsys):
    put(greet, ["go.mod", FILE])
    (greet / FILE).write_text("mine")
    assert main(["init", str(greet)]) == 1
    assert f"is there already and stays as it is; check it with: pingee init --check {greet}" in capsys.readouterr().err
    assert (greet / FILE).read_text() == "mine"


def test_a_dangling_link_is_not_written_through(greet, capsys):
    put(greet, ["go.mod"])
    (greet / ".pipeline").mkdir()
    (greet / FILE).symlink_to(greet / "elsewhere")
    assert main(["init", str(greet)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert not (greet / "elsewhere").exists()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["pyproject.toml", "package.json"], "looks like python (pyproject.toml), node (package.json); say which one builds it with --type"),
        (["notes.txt"], "says what it is; say it with --type, one of c, go, gradle, java"),
    ],
)
def test_where_the_files_do_not_say_it_it_asks(greet, capsys, names, words):
    put(greet, names)
    assert main(["init", str(greet)]) == 1
    assert words in capsys.readouterr().err
    assert not (greet / ".pipeline").exists()
    assert main(["init", str(greet), "--type", "python-3.12", "--component", "hello", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["component"] == "hello"
    assert plan_of((greet / FILE).read_bytes()).type == "python-3.12"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--type", "cobol"], "--type 'cobol' must be one of"),
        (["--type", "go", "--component", "Not A Name"], "is no name"),
        (["--check", "--type", "go"], "--type and --component are for writing one"),
        (["--check"], "; write one with: pingee init "),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(greet, capsys, arguments, words):
    put(greet, ["go.mod"])
    assert main(["init", str(greet), *arguments]) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert not (greet / ".pipeline").exists()
    assert main(["init", str(greet / "nowhere")]) == 1


@pytest.mark.parametrize(
    ("document", "line", "key", "right"),
    [
        ("version: 1\ntype: go\ncolour: red\n", 3, "colour", "is not a key of this document"),
        ("version: 1\n\ntype: fortran\n", 3, "type", "must be one of"),
        ("version: 1\ntype: go\ncommit:\n  timeout: soon\n", 4, "commit.timeout", "must be a duration"),
        ("version: 1\ncomponent: x\n", 1, "artifact", "is missing"),
        ("type: go\n", 1, "version", "the first key must be 'version: 1'"),
    ],
)
def test_check_names_file_line_key_and_remedy(greet, capsys, document, line, key, right):
    put(greet, [FILE])
    (greet / FILE).write_text(document)
    assert main(["init", str(greet), "--check", "-o", "json"]) == 1
    said = capsys.readouterr()
    problem = json.loads(said.err)
    assert said.out == ""
    assert (problem["code"], problem["file"], problem["line"], problem["key"]) == ("config-invalid", str(greet / FILE), line, key)
    assert right in problem["right"]
    assert main(["init", str(greet), "--check"]) == 1
    assert f".pipeline/config.yaml line {line}, {key}: " in capsys.readouterr().err


def test_check_says_what_a_builder_would_do(greet, capsys):
    put(greet, [FILE])
    (greet / FILE).write_text('version: 1\ntype: make\nacceptance:\n  test: ["make acceptance"]\n')
    assert main(["init", str(greet), "--check", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["build"], found["test"], found["acceptance"]) == (True, ["make"], ["make test"], ["make acceptance"])
    assert (found["run"], found["artifact"]) == (["out/greet", "{port}"], ["out"])


def test_check_reads_no_link_and_no_giant(greet, capsys):
    put(greet, ["real", ".pipeline/x"])
    (greet / FILE).symlink_to("../real")
    assert main(["init", str(greet), "--check"]) == 1
    assert "is a link" in capsys.readouterr().err
    (greet / FILE).unlink()
    (greet / FILE).write_bytes(b"#" * (64 * 1024 + 2))
    assert main(["init", str(greet), "--check"]) == 1
    assert "is larger than 65536 bytes" in capsys.readouterr().err


