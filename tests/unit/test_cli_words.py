"""The command line without a server: usage, help, exit codes, keys, and what is safe to print."""

import json
import os
import stat
import subprocess
import sys

import pytest

from clients.cli import main as cli
from clients.cli.exits import Exit, exit_of_state
from clients.cli.main import build_parser, main
from clients.cli.output import print_json, print_pairs, print_table, safe, say
from gatekeeper.model.ping import State

HOSTILE = "a\x1b[31mb\x07c\u202ed\u2066e\u200bf\x9bg\rh\ni\u2028j"


def ended(*words) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return caught.value.code


# --- usage


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("fly",),
        ("log",),
        ("key",),
        ("ping", "production"),
        ("ping", "production", "hello", "--artifact", "sha256:x", "--commit", "1"),
        ("ping", "production", "hello", "--timeout", "soon"),
        ("ping", "production", "hello", "--timeout", "-1s"),
        ("ping", "production", "hello", "--timeout", "١s"),
        ("status", "--output", "yaml"),
        ("status", "--no-such-flag"),
        ("cancel", "p1"),
        ("vote", "c", "two", "--project", "p", "--revision", "r", "--tree", "t", "--key", "k"),
    ],
    ids=" ".join,
)
def test_a_usage_error_is_exit_1_and_says_where_help_is(words, capsys):
    assert ended(*words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "--help" in err


def test_there_is_no_token_flag_and_no_flag_may_be_cut_short(capsys):
    # --token would be read as --token-file, and a token printed as the name of a file that is missing.
    assert ended("status", "--server", "https://x.example", "--token", "SECRET") == 1
    assert ended("status", "--serv", "https://x.example") == 1
    capsys.readouterr()


def test_variables_are_checked_like_flags(monkeypatch, capsys):
    monkeypatch.setenv("PINGEE_REQUEST_TIMEOUT", "soon")
    assert ended("status", "--server", "https://x.example") == 1
    assert "'soon' is no duration" in capsys.readouterr().err
    monkeypatch.delenv("PINGEE_REQUEST_TIMEOUT")
    monkeypatch.setenv("PINGEE_OUTPUT", "yaml")
    assert main(["status", "--server", "https://x.example"]) == 1
    assert "PINGEE_OUTPUT must be one of table, json" in capsys.readouterr().err


def test_an_unknown_variable_is_a_warning(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PINGEE_SREVER", "x")
    assert main(["key", "new", str(tmp_path / "key")]) == 0
    assert "warning: unknown variable PINGEE_SREVER" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("status",), ("log", "fsck", "--log-policy", "P")])
def test_no_server_named(words, capsys, tmp_path):
    policy = tmp_path / "P"
    policy.write_text("quorum none\n")
    assert main([str(policy) if word == "P" else word for word in words]) == 1
    capsys.readouterr()


@pytest.mark.parametrize("url", ["http://gatekeeper.example", "gatekeeper.example", "ftp://x", ""])
def test_a_token_is_never_sent_in_the_clear(url, capsys, monkeypatch):
    monkeypatch.setenv("PINGEE_TOKEN", "SECRET")
    assert main(["status", "--server", url]) == 1
    err = capsys.readouterr().err
    assert "must begin with https://" in err
    assert "SECRET" not in err


def test_a_url_that_is_none(capsys):
    assert main(["status", "--server", "https://x:port"]) == 1
    assert "is no URL" in capsys.readouterr().err


def test_unreadable_local_files_are_exit_1(capsys, tmp_path):
    server = ["--server", "https://x.example"]
    assert main(["status", *server, "--ca-file", str(tmp_path / "ca")]) == 1
    assert "the CA file" in capsys.readouterr().err
    assert main(["status", *server, "--token-file", str(tmp_path / "token")]) == 1
    assert "the token file" in capsys.readouterr().err


# --- help


def commands(parser):
    (action,) = [action for action in parser._actions if isinstance(action.choices, dict)]
    return action.choices


def test_every_command_has_help_that_says_what_it_does(capsys):
    assert ended("--help") == 0
    whole = capsys.readouterr().out
    assert "exit codes: 0 ok" in whole
    found = commands(build_parser())
    assert {"ping", "status", "watch", "explain", "rollback", "cancel", "running", "provenance", "vote", "key", "log", "demo"} <= set(found)
    for name, parser in found.items():
        assert name in whole
        if name not in ("log", "key", "demo"):
            assert parser.description
            assert len(parser.description) > 10
    for group in ("log", "key"):
        for name in commands(found[group]):
            assert ended(group, name, "--help") == 0
            text = capsys.readouterr().out
            assert text.startswith(f"usage: pingee {group} {name}")


def test_help_says_rollback_and_revert_side_by_side(capsys):
    assert ended("rollback", "--help") == 0
    assert "for git: revert" in " ".join(capsys.readouterr().out.split())


def test_version(capsys):
    assert ended("--version") == 0
    assert capsys.readouterr().out == "pingee 0.1.0 (pingee/v1)\n"


# --- exit codes


def test_the_codes_are_frozen():
    assert {code.name: code.value for code in Exit} == {
        "OK": 0,
        "USAGE": 1,
        "REMOTE": 2,
        "DENIED": 3,
        "AUTHENTICATION": 4,
        "PENDING": 5,
        "UNHEALTHY": 6,
        "INDETERMINATE": 7,
        "INTERNAL": 20,
    }


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("received", 5),
        ("pending", 5),
        ("allowed", 5),
        ("leased", 5),
        ("applying", 5),
        ("observing", 5),
        ("deployed", 0),
        ("denied", 3),
        ("cancelled", 3),
        ("superseded", 3),
        ("failed", 6),
        ("unresponsive", 6),
        ("rolled-back", 6),
        ("indeterminate", 7),
    ],
)
def test_the_exit_code_of_each_state(state, code):
    assert exit_of_state(State(state), ()) == code


def test_every_state_has_an_exit_code_and_a_lease_that_was_refused_is_remote():
    assert len({state: exit_of_state(state, ()) for state in State}) == len(State) == 15
    assert exit_of_state(State.FAILED, ("lease-refused",)) == 2
    assert exit_of_state(State.FAILED, ("apply-failed",)) == 6


def boom(error):
    def run(arguments):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RuntimeError("SECRET"), 20, "internal error"),
        (KeyboardInterrupt(), 130, ""),
        (PermissionError(13, "Permission denied", "/some/file"), 1, "/some/file: Permission denied"),
    ],
)
def test_what_ends_a_command(monkeypatch, capsys, error, code, words):
    monkeypatch.setattr(cli.review, "key_new", boom(error))
    assert main(["key", "new", "x"]) == code
    err = capsys.readouterr().err
    assert words in err
    assert "SECRET" not in err
    assert "Traceback" not in err


def test_a_bug_shows_its_traceback_with_v_alone(monkeypatch):
    monkeypatch.setattr(cli.review, "key_new", boom(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["key", "new", "x", "-v"])


def test_a_failure_in_json_is_one_document_on_stderr(capsys, tmp_path):
    path = tmp_path / "key"
    path.touch()
    assert main(["key", "new", str(path), "-o", "json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "a key is never overwritten" in json.loads(err)["detail"]


def test_a_broken_pipe_ends_quietly_and_is_never_success(tmp_path):
    read, write = os.pipe()
    os.close(read)
    code = f"from clients.cli.main import main; import sys; sys.exit(main(['key', 'new', {str(tmp_path / 'key')!r}]))"
    # Buffered, as it is for everybody: the pipe is found broken only when the interpreter ends.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ran = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, timeout=60, check=False, env=environment)
    os.close(write)
    assert ran.returncode == 141
    assert b"Traceback" not in ran.stderr
    assert b"Exception ignored" not in ran.stderr


# --- keys


def test_a_new_key_is_for_its_owner_alone_and_never_overwrites(capsys, tmp_path):
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        assert main(["key", "new", str(path)]) == 0
    finally:
        os.umask(before)
    out, err = capsys.readouterr()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kind, public = out.split()
    assert (kind, len(public)) == ("ed25519", 44)
    assert "people.toml" in err
    kept = path.read_bytes()
    assert kept.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert main(["key", "new", str(path)]) == 1
    assert path.read_bytes() == kept
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    assert main(["key", "new", str(link)]) == 1
    assert not (tmp_path / "target").exists()
    capsys.readouterr()


def test_a_key_where_nothing_can_be_written(capsys, tmp_path):
    assert main(["key", "new", str(tmp_path / "gone" / "key")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [(b"x", 0o600, "no unencrypted PEM private key"), (None, 0o600, "cannot be read"), (b"x", 0o640, "others can read")],
)
def test_a_vote_with_a_key_that_will_not_do(capsys, tmp_path, content, mode, words):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    words_of_vote = ["vote", "c", "-2", "--project", "p", "--revision", "1" * 40, "--tree", "2" * 40, "--key", str(path)]
    assert main([*words_of_vote, "--server", "https://x.example"]) == 1
    assert words in capsys.readouterr().err


# --- what is printed


def moves(text):
    return [c for c in text if c != "\n" and (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\u200b\u2028")]


def test_text_from_outside_cannot_move_the_cursor(capsys):
    assert safe(HOSTILE) == r"a\x1b[31mb\x07c\u202ed\u2066e\u200bf\x9bg\rh\ni\u2028j"
    assert safe("Grüße, 名前, é") == "Grüße, 名前, é"
    assert safe(None) == ""
    assert safe("\ud800") == r"\ud800"
    print_table(("A", "B"), [(HOSTILE, 1), (None, 2)])
    print_pairs({HOSTILE: HOSTILE})
    say(HOSTILE)
    out, err = capsys.readouterr()
    assert not moves(out + err)
    assert out.count("\n") == 4
    assert err.count("\n") == 1


def test_json_is_the_same_document_and_cannot_move_the_cursor(capsys):
    document = {HOSTILE: [HOSTILE, "Grüße 名前 \U0001f600"]}
    print_json(document)
    out = capsys.readouterr().out
    assert json.loads(out) == document
    assert not moves(out)
    assert "Grüße 名前 \U0001f600" in out


def test_columns_stand_under_their_headings(capsys):
    print_table(("A", "LONGER"), [("wide cell", 1), ("x", "y")])
    assert capsys.readouterr().out == "A          LONGER\nwide cell  1\nx          y\n"
