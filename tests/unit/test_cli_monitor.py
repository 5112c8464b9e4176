"""`pingee log monitor`: growth is proven, contradictions are kept with both notes, and nothing is forgotten by itself."""

import json
import shutil
import stat
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.cli import monitor as cli_monitor
from clients.cli.main import main
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.cosignature import cosigned_message, encode_cosignature
from gatekeeper.tlog.logpolicy import LogPolicy, Witness, encode_log_policy
from gatekeeper.tlog.note import cosigner_vkey, encode_note, parse_note
from gatekeeper.tlog.tile import encode_bundle
from tests.fakes import log_directory
from tests.fakes.log_directory import VKEY

LOG = log_directory.entries(700)
FORK = (*LOG[:30], *log_directory.entries(700, cut="b")[30:])
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x09")
WITNESS_KEY = cosigner_vkey("w.example", WITNESS.public_key().public_bytes_raw())


@pytest.fixture
def looks(tmp_path, capsys):
    """Show a log and look at it; returns exit code, the look, and what was said."""
    policy = tmp_path / "policy"
    policy.write_bytes(log_directory.POLICY)
    served = tmp_path / "log"

    def look(files, *words, policy_bytes=None):
        if policy_bytes is not None:
            policy.write_bytes(policy_bytes)
        shutil.rmtree(served, ignore_errors=True)
        log_directory.write(files, served)
        code = main(["log", "monitor", str(served), "--state", str(tmp_path / "state"), "--log-policy", str(policy), "-o", "json", *words])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return look


def served(count, log=LOG):
    return log_directory.served(log[:count])


def state(tmp_path):
    return json.loads((tmp_path / "state/state.json").read_text())


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "state").glob("contradiction-*"))


def test_growth_through_every_width_is_followed(looks, tmp_path):
    code, look, _ = looks(served(20), "--first-look")
    assert (code, look["alarm"], look["size"], look["grown"], look["age_s"]) == (0, None, 20, 20, None)
    before = 20
    for size in (20, 21, 255, 256, 257, 511, 512, 700):
        code, look, _ = looks(served(size))
        assert (code, look["alarm"], look["size"], look["grown"]) == (0, None, size, size - before)
        before = size
    assert open_checkpoint(state(tmp_path)["note"].encode(), VKEY).size == 700
    assert stat.S_IMODE((tmp_path / "state/state.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert kept(tmp_path) == []


def test_only_what_is_new_is_read(looks, monkeypatch):
    looks(served(600), "--first-look")
    asked = []
    fetch = cli_monitor.drive

    def drive(check, source):
        return fetch(check, lambda address: asked.append(address.path) or source(address))

    monkeypatch.setattr(cli_monitor, "drive", drive)
    assert looks(served(700))[0] == 0
    assert sorted(asked) == ["tile/0/002.p/188", "tile/0/002.p/188", "tile/1/000.p/2", "tile/1/000.p/2", "tile/entries/002.p/188"]


@pytest.mark.parametrize(
    ("files", "alarm", "words"),
    [
        (served(40), "rewound", "the log shows 40 entries and has shown 300 before"),
        (served(300, FORK), "split-view", "the log has signed two roots of size 300"),
        (served(400, FORK), "inconsistent", "the 300 entries shown before are not shown to be the beginning of these 400"),
    ],
)
def test_a_contradiction_keeps_both_notes_and_stays_an_alarm_until_a_person_moves_it_away(looks, tmp_path, files, alarm, words):
    looks(served(300), "--first-look")
    code, look, _ = looks(files)
    assert (code, look["alarm"]) == (3, alarm)
    assert words in look["detail"]
    assert "ask its operator" in look["detail"]
    [name] = kept(tmp_path)
    place = tmp_path / "state" / name
    assert look["kept"] == str(place)
    held, shown = (open_checkpoint((place / file).read_bytes(), VKEY) for file in ("held.note", "shown.note"))
    assert (held.size, shown.note) == (300, files["checkpoint"])
    assert (place / "why.txt").read_text().startswith(alarm)
    assert stat.S_IMODE((place / "held.note").stat().st_mode) == 0o644
    # the memory is still that of the log that was seen first, and the alarm does not go away when the log shows its good face again
    assert open_checkpoint(state(tmp_path)["note"].encode(), VKEY).size == 300
    code, look, _ = looks(served(310))
    assert (code, look["alarm"], look["kept"]) == (3, "contradiction", str(place))
    shutil.move(place, tmp_path / "dealt-with")
    assert looks(served(320))[0] == 0


def test_a_consistent_log_whose_new_entry_is_not_as_signed_is_named(looks, tmp_path):
    looks(served(20), "--first-look")
    files = served(40)
    entries = [*LOG[:33], LOG[34], *LOG[34:40]]
    bad = files | {"tile/entries/000.p/40": encode_bundle(entries)}
    assert looks(bad, "--no-rehash")[0] == 0
    state_file = tmp_path / "state/state.json"
    state_file.unlink()
    looks(served(20), "--first-look")
    code, look, _ = looks(bad)
    assert (code, look["alarm"]) == (3, "not-sound")
    assert look["detail"].startswith("entry 33: entry-changed")


@pytest.mark.parametrize("path", ["tile/0/000.p/40", "tile/entries/000.p/40"])
def test_what_is_withheld_is_an_alarm_without_evidence(looks, tmp_path, path):
    looks(served(20), "--first-look")
    code, look, _ = looks({name: data for name, data in served(40).items() if name != path})
    assert (code, look["alarm"], look["kept"]) == (3, "withheld", None)
    assert "missing" in look["detail"]
    assert kept(tmp_path) == []
    assert looks(served(40))[0] == 0


def test_a_checkpoint_of_another_key_is_forged(looks, tmp_path):
    looks(served(20), "--first-look")
    code, look, err = looks(served(40) | {"checkpoint": served(40)["checkpoint"].replace(b"\n40\n", b"\n41\n")})
    assert (code, look) == (3, None)
    assert "forged: what is served as checkpoint is not signed by the log's key" in err


def test_the_first_look_is_a_decision_and_a_spoilt_state_no_fresh_start(looks, tmp_path):
    code, _, err = looks(served(20))
    assert (code, "give --first-look" in err) == (1, True)
    assert looks(served(20), "--first-look")[0] == 0
    code, _, err = looks(served(20), "--first-look")
    assert (code, "--first-look would forget it" in err) == (1, True)
    file = tmp_path / "state/state.json"
    good = file.read_bytes()
    forged = json.dumps(json.loads(good) | {"note": log_directory.note(LOG[:5]).decode().replace("\n5\n", "\n6\n")}).encode()
    for spoilt in (b"", good[:-20], good.replace(b'"v": 1', b'"v": 2'), forged):
        file.write_bytes(spoilt)
        for words in ((), ("--first-look",)):
            code, look, err = looks(served(21), *words)
            assert (code, look) == (1, None)
            assert "cannot be used" in err or "would forget" in err
        assert file.read_bytes() == spoilt
    file.write_bytes(good)
    assert looks(served(21))[0] == 0


def test_a_first_look_at_a_log_that_is_not_sound_remembers_nothing(looks, tmp_path):
    files = served(40)
    code, look, _ = looks(files | {"tile/entries/000.p/40": encode_bundle(FORK[:40])}, "--first-look")
    assert (code, look["alarm"], look["kept"]) == (3, "not-sound", None)
    assert not (tmp_path / "state/state.json").exists()


def cosigned(files, at):
    note = parse_note(files["checkpoint"])
    line = encode_cosignature(WITNESS_KEY, at, WITNESS.sign(cosigned_message(note.text, at)))
    return files | {"checkpoint": encode_note(note.with_signatures([line]))}


def test_quorum_and_age_are_looked_at(looks):
    policy = encode_log_policy(LogPolicy(VKEY, witnesses=(Witness("w", WITNESS_KEY),), quorum="w"))
    code, look, _ = looks(served(20), "--first-look", policy_bytes=policy)
    assert (code, look["alarm"]) == (3, "quorum")
    now = int(time.time())
    code, look, _ = looks(cosigned(served(21), now))
    assert (code, look["alarm"]) == (0, None)
    assert 0 <= look["age_s"] < 60
    code, look, _ = looks(cosigned(served(22), now - 4000))
    assert (code, look["alarm"]) == (3, "old")
    assert "more than 1800 is too old" in look["detail"]
    assert looks(cosigned(served(23), now - 4000), "--max-age", "2h")[0] == 0
    bad = cosigned(served(24), now)
    right = parse_note(bad["checkpoint"]).signatures[-1]
    broken = replace(right, blob=right.blob[:-1] + bytes([right.blob[-1] ^ 1]))
    code, look, _ = looks(bad | {"checkpoint": encode_note(parse_note(served(24)["checkpoint"]).with_signatures([broken]))})
    assert (code, look["alarm"]) == (3, "bad-cosignature")


def test_words_for_people_and_a_loop_that_ends_at_a_contradiction(tmp_path, capsys, monkeypatch):
    (tmp_path / "policy").write_bytes(log_directory.POLICY)
    shown = [served(20), served(30), served(300), served(300, FORK)]

    def show():
        shutil.rmtree(tmp_path / "log", ignore_errors=True)
        log_directory.write(shown.pop(0), tmp_path / "log")

    slept = []
    monkeypatch.setattr(cli_monitor.time, "sleep", lambda seconds: slept.append(seconds) or show())
    show()
    arguments = ["log", "monitor", str(tmp_path / "log"), "--state", str(tmp_path / "state"), "--log-policy", str(tmp_path / "policy")]
    assert main([*arguments, "--first-look", "--every", "10m"]) == 3
    first, second, third, last = capsys.readouterr().out.splitlines()
    assert first.startswith("production.example/log/2026: 20 entries, 20 of them new, consistent with what was shown since 20")
    assert "; no witness dates it" in first
    assert ": 30 entries, 10 of them new" in second
    assert ": 300 entries, 270 of them new" in third
    assert last.startswith("ALARM split-view: the log has signed two roots of size 300. Both notes are signed by the log and are kept in ")
    assert slept == [600, 600, 600]
