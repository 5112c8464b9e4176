"""`python -m clients.offline`: files alone, nothing but the standard library and cryptography, and the same answers as `pingee`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients.offline.main import main
from gatekeeper.model.frame import PartName
from gatekeeper.model.moment import parse_moment
from gatekeeper.tlog.tile import encode_bundle
from tests.fakes import log_directory
from tests.fakes.frames import Gatekeeper, make_artifact

ROOT = Path(__file__).resolve().parents[2]
LOG = log_directory.entries(40)
FILES = log_directory.served(LOG)
AT = parse_moment("2026-11-21T10:00:00Z")

# Runs a command where every import of anything else than the standard library, cryptography and our own pure code fails.
HOOK = """
import sys
OURS = {"clients", "clients.offline", "gatekeeper"}
BELOW = ("clients.offline.", "gatekeeper.model", "gatekeeper.tlog", "gatekeeper.verify", "gatekeeper.policy", "gatekeeper.logcheck")
class Narrow:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        # cryptography's own binding needs cffi and typing_extensions on some interpreters
        if top in sys.stdlib_module_names or top in {"cryptography", "_cffi_backend", "cffi", "pycparser", "typing_extensions"}:
            return None
        if name in OURS or name.startswith(BELOW):
            return None
        raise ImportError(f"{name} is neither the standard library, cryptography nor pure")
sys.meta_path.insert(0, Narrow())
import socket
def none(*_):
    raise OSError("no network")
socket.socket.connect = socket.create_connection = none
from clients.offline.main import main
raise SystemExit(main(sys.argv[1:]))
"""


def narrow(*words):
    done = subprocess.run(
        [sys.executable, "-c", HOOK, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def policy(tmp_path):
    (tmp_path / "log-policy").write_bytes(log_directory.POLICY)
    return tmp_path / "log-policy"


@pytest.fixture
def proof(tmp_path):
    path = tmp_path / "7.tlog-proof"
    path.write_bytes(log_directory.proof(LOG, 7))
    path.with_suffix(".entry.json").write_bytes(LOG[7])
    return path


class Decided:
    """An Allow as files: receipt, proof, policy and receipt keys."""

    def __init__(self, directory):
        gatekeeper, artifact = Gatekeeper(), make_artifact()
        receipt = gatekeeper.receipt(gatekeeper.statement(artifact, at=AT))
        items = gatekeeper.items(artifact, receipt, index=len(gatekeeper.log.entries) - 1, old=0)
        self.receipt, self.proof, self.policy, self.keys = (directory / name for name in ("r.json", "r.tlog-proof", "policy-r", "keys"))
        for path, data in ((self.receipt, items[PartName.RECEIPT]), (self.proof, items[PartName.PROOF]), (self.policy, gatekeeper.log_policy)):
            path.write_bytes(data)
        self.keys.write_bytes(gatekeeper.receipt_keys)
        self.words = ("receipt", self.receipt, "--log-policy", self.policy, "--receipt-keys", self.keys)


def test_each_command_needs_the_standard_library_and_cryptography_alone(tmp_path, policy, proof):
    code, out, err = narrow("verify", proof, "--log-policy", policy)
    assert (code, err) == (0, "")
    assert out == "verified: entry 7 (ConfigEntry) is in the tree of 40 entries signed by production.example/log/2026\n"
    log = log_directory.write(FILES, tmp_path / "log")
    code, out, err = narrow("fsck", log, "--log-policy", policy)
    assert (code, err) == (0, "")
    assert "sound: every entry and tile" in out
    code, out, err = narrow(*Decided(tmp_path).words)
    assert (code, err) == (0, "")
    assert out.startswith("verified: Allow (enforce, deploy) of sha256:")


def test_the_hook_would_see_another_import():
    done = subprocess.run([sys.executable, "-c", HOOK.replace("from clients.offline.main", "import httpx2\nfrom clients.offline.main")],
                          cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert "ImportError: httpx2 is neither the standard library, cryptography nor pure" in done.stderr


def test_the_module_itself_is_a_command(policy, proof):
    done = subprocess.run([sys.executable, "-m", "clients.offline", "verify", str(proof), "--log-policy", str(policy)],
                          cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("verified: entry 7")


def test_an_entry_that_is_another_is_refused(tmp_path, policy, proof, capsys):
    other = tmp_path / "other"
    other.write_bytes(LOG[8])
    assert main(["verify", str(proof), "--entry", str(other), "--log-policy", str(policy)]) == 3
    assert "NOT verified: the inclusion path leads to another root" in capsys.readouterr().err
    assert main(["verify", str(proof), "--entry", str(tmp_path / "none"), "--log-policy", str(policy)]) == 1
    assert "none cannot be read: No such file" in capsys.readouterr().err


def test_a_directory_that_is_not_as_signed_is_named(tmp_path, policy, capsys):
    entries = [*LOG[:23], LOG[24], *LOG[24:]]
    log = log_directory.write(FILES | {"tile/entries/000.p/40": encode_bundle(entries)}, tmp_path / "log")
    assert main(["fsck", str(log), "--log-policy", str(policy)]) == 3
    assert "NOT SOUND: entry 23: entry-changed" in capsys.readouterr().out
    older = tmp_path / "older"
    older.write_bytes(log_directory.note(log_directory.entries(50)))
    assert main(["fsck", str(log_directory.write(FILES, tmp_path / "good")), "--log-policy", str(policy), "--since", str(older)]) == 3
    assert "NOT SOUND: entries 40 to 49: older-is-larger" in capsys.readouterr().out
    (log / "checkpoint").unlink()
    assert main(["fsck", str(log), "--log-policy", str(policy)]) == 1
    assert main(["fsck", str(tmp_path / "nowhere"), "--log-policy", str(policy)]) == 1


def test_a_receipt_is_held_against_its_key_its_proof_and_its_log(tmp_path, capsys, policy):
    decided, other = Decided(tmp_path), tmp_path / "other"
    other.mkdir()
    stranger = Decided(other)
    words = [str(word) for word in decided.words]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "for production/hello of production, targets host-1" in out
    assert "signed by a given receipt key; entry " in out
    assert main([*words[:-1], str(stranger.keys)]) == 3
    assert "NOT verified (bad-signature)" in capsys.readouterr().err
    assert main([*words, "--proof", str(stranger.proof)]) == 3
    assert "NOT verified (receipt-missing): no proof that satisfies the log policy" in capsys.readouterr().err
    decided.keys.write_bytes(b"")
    assert main(words) == 1
    assert "no PEM public key" in capsys.readouterr().err
    stranger.receipt.write_bytes(b"{}")
    assert main([str(word) for word in stranger.words]) == 1
    assert "is no receipt: /v: is missing" in capsys.readouterr().err


def test_usage_is_1_and_no_traceback(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["verify"])
    assert ended.value.code == 1
    assert "required" in capsys.readouterr().err
