"""Installing: what is written and for whom, what is refused before anything is, and what `check` finds wrong afterwards."""

import os
import shutil
import stat
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from clients.doorkeeper.files import Place, Unreadable
from clients.doorkeeper.install import NotInstalled, Order, check, install
from clients.doorkeeper.state import NOTHING, load_memory
from clients.doorkeeper.target import load_pinned
from gatekeeper.model.digest import digest_of
from tests.fakes.frames import Gatekeeper
from tests.fakes.orders import People


@pytest.fixture
def gatekeeper():
    gatekeeper = Gatekeeper()
    gatekeeper.log.append(b"first")
    return gatekeeper


@pytest.fixture
def given(tmp_path, gatekeeper):
    """Whatever an admin may give."""
    folder = tmp_path / "given"
    folder.mkdir()
    files = {
        "log-policy": gatekeeper.log_policy,
        "receipt-keys": gatekeeper.receipt_keys,
        "checkpoint": gatekeeper.log.note(),
        "override-keys": People().file,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    paths = [folder / name for name in files]
    return Order("host-1", "production", "production", (("hello", 8080), ("second", 8081)), *paths)


@pytest.fixture
def place(tmp_path):
    before = os.umask(0o022)
    yield Place.below(tmp_path / "door")
    os.umask(before)


def test_all_that_was_given_is_installed_and_read_back(place, given, gatekeeper):
    key = install(place, given)
    assert key.startswith("production.doorkeeper/host-1+")
    assert check(place) == key
    pinned = load_pinned(place)
    assert [(slot.name, slot.port) for slot in pinned.target.components] == [("hello", 8080), ("second", 8081)]
    assert (pinned.first_checkpoint, set(pinned.override_keys)) == (gatekeeper.log.note(), {"olga", "omar"})
    assert load_memory(place) == NOTHING
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.etc.iterdir()}
    assert modes == {
        "target.toml": 0o644,
        "log-policy": 0o644,
        "receipt-keys": 0o644,
        "override-keys": 0o644,
        "sshd_config.snippet": 0o644,
        "checkpoint": 0o600,
    }
    assert "Match User deploy-production\n" in (place.etc / "sshd_config.snippet").read_text()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (place.etc, place.var, place.cosigner_key)] == [0o700, 0o700, 0o600]


def test_what_was_not_given_is_not_installed(place, given):
    install(place, replace(given, checkpoint=None, override_keys=None))
    pinned = load_pinned(place)
    assert (pinned.first_checkpoint, dict(pinned.override_keys)) == (None, {})
    assert not place.first_checkpoint.exists()
    assert not place.override_keys.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("log_policy", "line 1: not a log, witness"), ("receipt_keys", "PEM"), ("override_keys", "override-keys: line 1")],
)
def test_a_file_that_is_wrong_is_told_before_anything_is_written(place, given, name, message):
    getattr(given, name).write_bytes(b"wrong\n")
    with pytest.raises(NotInstalled, match=message):
        install(place, given)
    assert not place.etc.exists()
    assert not place.var.exists()


def test_a_name_that_is_none_is_told_before_anything_is_written(place, given):
    with pytest.raises(NotInstalled, match="/target"):
        install(place, replace(given, target="../host"))
    assert not place.etc.exists()


@pytest.mark.parametrize("gone", ["state", "target_file"])
def test_half_an_installation_is_one_too_and_its_memory_is_not_lost(place, given, gone):
    install(place, given)
    getattr(place, gone).unlink()
    before = {path: path.read_bytes() for path in (*place.etc.iterdir(), *place.var.iterdir())}
    with pytest.raises(NotInstalled, match=r"there is an installation at .* already; its memory must not be lost"):
        install(place, given)
    assert {path: path.read_bytes() for path in (*place.etc.iterdir(), *place.var.iterdir())} == before


def test_a_checkpoint_of_another_log_is_found(place, given):
    stranger = Gatekeeper()
    stranger.log.append(b"other")
    given.checkpoint.write_bytes(stranger.log.note())
    with pytest.raises(Unreadable, match=r"^checkpoint: "):
        install(place, given)


def test_a_key_that_others_may_read_is_found(place, given):
    install(place, given)
    for mode in (0o640, 0o604):
        place.cosigner_key.chmod(mode)
        with pytest.raises(Unreadable, match=r"cosigner\.key: others may read it"):
            check(place)


def test_a_record_whose_chain_is_broken_is_found(place, given):
    install(place, given)
    (place.var / "record.head").write_text(digest_of(b"other"))
    with pytest.raises(Unreadable, match=r"record\.jsonl: its end is missing"):
        check(place)


def test_a_cosigner_key_that_is_none_is_found(place, given, gatekeeper):
    install(place, given)
    other = gatekeeper.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for key, message in ((b"no key\n", "not a private key"), (other, "not an Ed25519 key")):
        place.cosigner_key.write_bytes(key)
        with pytest.raises(Unreadable, match=rf"cosigner\.key: {message}"):
            check(place)


def test_without_an_installation_there_is_nothing_to_check(place, given):
    install(place, given)
    shutil.rmtree(place.etc)
    with pytest.raises(Unreadable, match=r"target\.toml: No such file or directory"):
        check(place)
