"""`pingee log verify` and `log fsck DIR`: no server, only files and the log's policy; what is wrong is exit 3 and is named."""

import json

import pytest

from clients.cli.main import main
from gatekeeper.tlog.tile import encode_bundle
from tests.fakes import log_directory

LOG = log_directory.entries(40)
FILES = log_directory.served(LOG)
BUNDLE = "tile/entries/000.p/40"


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "log-policy"
    path.write_bytes(log_directory.POLICY)
    return str(path)


@pytest.fixture
def run(policy, capsys):
    def run(*words):
        code = main(["log", *map(str, words), "--log-policy", policy])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def directory(tmp_path, files=FILES):
    return log_directory.write(files, tmp_path / "log")


def proof_files(tmp_path, index=7, *, data=None, entry=None):
    path = tmp_path / f"{index}.tlog-proof"
    path.write_bytes(log_directory.proof(LOG, index) if data is None else data)
    path.with_suffix(".entry.json").write_bytes(LOG[index] if entry is None else entry)
    return path


# --- fsck


def test_a_sound_directory(run, tmp_path):
    code, out, err = run("fsck", directory(tmp_path))
    assert (code, err) == (0, "")
    assert "sound: every entry and tile below the signed checkpoint is as signed" in out
    assert "entries   40" in out
    assert "cannot tell: no older checkpoint" in out


def test_a_changed_entry_is_named(run, tmp_path):
    entries = [*LOG[:23], LOG[23].replace(b"0" * 40, b"1" * 40), *LOG[24:]]
    code, out, _ = run("fsck", directory(tmp_path, FILES | {BUNDLE: encode_bundle(entries)}))
    assert code == 3
    assert "NOT SOUND: entry 23: entry-changed" in out


def test_a_changed_entry_is_named_in_json(run, tmp_path):
    entries = [*LOG[:23], LOG[24], *LOG[24:]]
    code, out, _ = run("fsck", directory(tmp_path, FILES | {BUNDLE: encode_bundle(entries)}), "-o", "json")
    document = json.loads(out)
    assert (code, document["sound"], document["size"], document["fault"]["first"], document["fault"]["end"]) == (3, False, 40, 23, 24)


def test_a_cut_tail_shows_against_an_older_checkpoint_alone(run, tmp_path):
    older = tmp_path / "older"
    older.write_bytes(FILES["checkpoint"])
    cut = directory(tmp_path, log_directory.served(LOG[:30]))
    code, out, _ = run("fsck", cut)
    assert code == 0
    assert "cannot tell" in out
    code, out, _ = run("fsck", cut, "--since", older)
    assert code == 3
    assert "NOT SOUND" in out
    assert "older-is-larger" in out


def test_a_rewritten_log_is_no_continuation(run, tmp_path):
    older = tmp_path / "older"
    older.write_bytes(log_directory.note(LOG[:30]))
    assert run("fsck", directory(tmp_path), "--since", older)[0] == 0
    other = log_directory.write(log_directory.served((LOG[0], *log_directory.entries(40, cut="b")[1:])), tmp_path / "other")
    code, out, _ = run("fsck", other, "--since", older)
    assert code == 3
    assert "not-prefix" in out


def test_a_checkpoint_of_another_key_or_changed(run, tmp_path):
    bad = FILES["checkpoint"].replace(b"\n40\n", b"\n39\n")
    code, out, err = run("fsck", directory(tmp_path, FILES | {"checkpoint": bad}))
    assert (code, out) == (3, "")
    assert "the checkpoint does not verify" in err
    older = tmp_path / "older"
    older.write_bytes(bad)
    assert run("fsck", directory(tmp_path), "--since", older)[0] == 3


@pytest.mark.parametrize("path", [BUNDLE, "tile/0/000.p/40"])
def test_a_missing_file_is_a_fault(run, tmp_path, path):
    code, out, _ = run("fsck", directory(tmp_path, {name: data for name, data in FILES.items() if name != path}))
    assert code == 3
    assert "is missing" in out


def test_what_is_no_log_is_a_usage_error(run, tmp_path):
    code, _, err = run("fsck", tmp_path / "nowhere")
    assert code == 1
    assert "neither a directory nor an https:// URL" in err
    code, _, err = run("fsck", "http://log.example")
    assert code == 1
    assert "neither a directory nor an https:// URL" in err
    (tmp_path / "empty").mkdir()
    code, _, err = run("fsck", tmp_path / "empty")
    assert code == 1
    assert "no checkpoint" in err
    code, _, err = run("fsck", directory(tmp_path), "--since", tmp_path / "gone")
    assert code == 1
    assert "gone cannot be read" in err


# --- verify


def test_a_good_proof(run, tmp_path):
    code, out, err = run("verify", proof_files(tmp_path))
    assert (code, err) == (0, "")
    assert out == "verified: entry 7 (ConfigEntry) is in the tree of 40 entries signed by production.example/log/2026; no server was asked\n"
    code, out, _ = run("verify", proof_files(tmp_path), "-o", "json")
    assert (code, json.loads(out)) == (0, {"verified": True, "index": 7, "size": 40, "origin": log_directory.ORIGIN, "kind": "ConfigEntry"})


@pytest.mark.parametrize(
    "files",
    [
        {"entry": LOG[8]},
        {"entry": LOG[7] + b"\n"},
        {"entry": b""},
        {"data": log_directory.proof(LOG, 8)},
        {"data": log_directory.proof(LOG, 7).replace(b"\n40\n", b"\n41\n")},
        {"data": b"no proof"},
        {"data": b""},
    ],
)
def test_a_proof_that_proves_something_else(run, tmp_path, files):
    code, out, err = run("verify", proof_files(tmp_path, **files))
    assert (code, out) == (3, "")
    assert "NOT verified" in err


def test_an_entry_in_the_log_that_is_no_entry(run, tmp_path):
    odd = (*LOG[:2], b'{"kind":"config"}')
    path = proof_files(tmp_path, 2, data=log_directory.proof(odd, 2), entry=odd[2])
    code, out, err = run("verify", path)
    assert (code, out) == (3, "")
    assert "is in the log and is no entry of this format" in err


def test_a_proof_with_its_entry_elsewhere_or_nowhere(run, tmp_path):
    path = proof_files(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    path.with_suffix(".entry.json").rename(elsewhere)
    assert run("verify", path, "--entry", elsewhere)[0] == 0
    code, _, err = run("verify", path)
    assert code == 1
    assert "7.entry.json cannot be read" in err


# --- the policy file


def test_no_policy_no_belief(capsys, tmp_path):
    assert main(["log", "fsck", str(directory(tmp_path))]) == 1
    assert "no log policy" in capsys.readouterr().err
    assert main(["log", "fsck", str(tmp_path), "--log-policy", str(tmp_path / "gone")]) == 1
    assert "gone cannot be read" in capsys.readouterr().err
    bad = tmp_path / "bad"
    bad.write_text("log nothing\n")
    assert main(["log", "fsck", str(tmp_path), "--log-policy", str(bad)]) == 1
    assert "line 1" in capsys.readouterr().err


def test_the_policy_comes_from_its_variable(monkeypatch, policy, tmp_path):
    monkeypatch.setenv("PINGEE_LOG_POLICY", policy)
    assert main(["log", "verify", str(proof_files(tmp_path))]) == 0
