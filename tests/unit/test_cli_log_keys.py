"""`pingee log fsck DIR` and `log verify --keys` of a log whose key was replaced, with the policy file of before: attack row 120 for auditors."""

import base64
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.cli.main import main
from gatekeeper.model.moment import Moment
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.note import encode_vkey
from gatekeeper.tlog.tile import TileAddress, TileEdge, encode_bundle
from tests.fakes import log_directory
from tests.fakes.frames import ORIGIN, now
from tests.fakes.rotated import RotatedLog, vkey_of

LONG_AGO = Moment(now() - timedelta(days=30))
UNTIL = Moment(LONG_AGO + timedelta(days=7))


def files_of(log):
    edge, full = TileEdge().extend([leaf_hash(entry) for entry in log.entries])
    files = {"checkpoint": log.note(), **{tile.address.path: tile.data for tile in (*full, *edge.partial_tiles())}}
    return files | {TileAddress(None, 0, len(log.entries)).path: encode_bundle(log.entries), "keys": log.history_bytes()}


@pytest.fixture
def log():
    """A log of three entries under its first key, a rotation whose overlap has ended, and two more entries."""
    log = RotatedLog()
    for entry in log_directory.entries(3):
        log.append(entry.replace(log_directory.ORIGIN.encode(), ORIGIN.encode()))
    log.older = log.note()
    log.old_proof = log.proof(1)
    log.new = Ed25519PrivateKey.generate()
    log.rotate(log.new, since=LONG_AGO, until=UNTIL)
    log.signers = [log.new]
    for entry in log_directory.entries(5)[3:]:
        log.append(entry.replace(log_directory.ORIGIN.encode(), ORIGIN.encode()))
    return log


@pytest.fixture
def run(log, tmp_path, capsys):
    (tmp_path / "log-policy").write_text(f"log {encode_vkey(log.vkey)}\nquorum none\n")

    def run(*words):
        code = main(["log", *map(str, words), "--log-policy", str(tmp_path / "log-policy")])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_fsck_with_the_old_key_and_an_old_checkpoint_reaches_the_new_one(run, log, tmp_path):
    directory = log_directory.write(files_of(log), tmp_path / "log")
    (tmp_path / "older").write_bytes(log.older)
    code, out, err = run("fsck", directory, "--since", tmp_path / "older", "-o", "json")
    assert code == 0
    found = json.loads(out)
    assert (found["size"], found["sound"], found["tail"]) == (6, True, "the older checkpoint is a prefix")
    assert encode_vkey(vkey_of(log.new)) in err


def test_fsck_without_the_history_knows_only_the_old_key(run, log, tmp_path):
    files = files_of(log)
    del files["keys"]
    code, _, err = run("fsck", log_directory.write(files, tmp_path / "log"))
    assert (code, "a key that is trusted here" in err) == (3, True)


def test_fsck_refuses_a_history_that_does_not_hold(run, log, tmp_path):
    fork = log.fork()
    fork.entries[0] = b"other"
    code, _, err = run("fsck", log_directory.write(files_of(log) | {"keys": fork.history_bytes()}, tmp_path / "log"))
    assert (code, "the log's key changes do not hold" in err) == (3, True)


def test_a_checkpoint_by_the_old_key_after_the_overlap_is_refused_where_the_log_shows_its_keys(run, log, tmp_path):
    stolen = log.fork()
    stolen.signers = [log.key]
    code, _, err = run("fsck", log_directory.write(files_of(log) | {"checkpoint": stolen.note()}, tmp_path / "log"))
    assert (code, "a key that is trusted here" in err) == (3, True)


def test_verify_needs_the_history_for_a_new_proof_and_not_for_one_of_before(run, log, tmp_path):
    keys = tmp_path / "keys"
    keys.write_bytes(log.history_bytes())
    for index, data in ((4, log.proof(4)), (1, log.old_proof)):
        path = tmp_path / f"{index}.tlog-proof"
        path.write_bytes(data)
        path.with_suffix(".entry.json").write_bytes(log.entries[index])
    code, _, err = run("verify", tmp_path / "4.tlog-proof")
    assert (code, "a key that is trusted here" in err) == (3, True)
    assert run("verify", tmp_path / "4.tlog-proof", "--keys", keys)[0] == 0
    assert run("verify", tmp_path / "1.tlog-proof")[0] == 0


def test_the_verifier_key_of_a_vaults_public_key(run, log):
    public = base64.b64encode(log.new.public_key().public_bytes_raw()).decode()
    assert run("vkey", "--origin", ORIGIN, "--public", public)[:2] == (0, encode_vkey(vkey_of(log.new)) + "\n")
    for origin, wrong in ((ORIGIN, "AAAA"), (ORIGIN, "no base64"), ("a b", public)):
        assert run("vkey", "--origin", origin, "--public", wrong)[0] == 1
