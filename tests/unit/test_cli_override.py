"""`pingee override new` and `sign`: without a server, a vault or a log, and believed by what a target runs."""

import base64
import json
import socket
from datetime import UTC, datetime, timedelta

import pytest

from clients.cli.main import main
from gatekeeper.model.digest import digest_of
from gatekeeper.model.verified import Verified
from gatekeeper.verify.override import verify_override_order

DIGEST = digest_of(b"an artifact")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("an order needs nobody")

    monkeypatch.setattr(socket, "socket", refuse)
    for name in ("PINGEE_SERVER", "PINGEE_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def keys(tmp_path, capsys):
    """Public halves by name, as a target pins them."""
    pinned = {}
    for name in ("olga", "omar", "third"):
        assert main(["key", "new", str(tmp_path / name)]) == 0
        pinned[name] = (base64.b64decode(capsys.readouterr().out.split()[1]),)
    return pinned


def new(*more, digest=DIGEST, life="4h"):
    words = ["override", "new", "--target", "host-1", "--digest", digest, "--reason", "it burns", "--incident", "INC-1", "--for", life]
    return main([*words, *more])


def sign(order, key, *more):
    return main(["override", "sign", str(order), "--key", str(key), *more])


def test_two_people_sign_what_one_of_them_wrote(tmp_path, keys, capsys):
    order = tmp_path / "order"
    assert new("--out", str(order)) == 0
    assert "two different people sign it" in capsys.readouterr().err
    assert sign(order, tmp_path / "olga") == 0
    told = capsys.readouterr()
    assert all(word in told.out for word in ("host-1", DIGEST, "it burns", "INC-1"))
    assert "one more person" in told.err
    assert sign(order, tmp_path / "omar", "-o", "json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["signatures"] == 2
    assert "pingee-doorkeeper override order" in told.err
    checked = verify_override_order(order.read_bytes(), keys)
    assert isinstance(checked, Verified)
    assert checked.value.signers == ("olga", "omar")
    assert checked.digest == json.loads(told.out)["order"]
    left = checked.value.order.not_after - datetime.now(UTC)
    assert timedelta(hours=3, minutes=59) < left <= timedelta(hours=4)


def test_an_order_on_standard_output_is_nothing_else(tmp_path, capsys):
    assert new() == 0
    assert json.loads(capsys.readouterr().out)["signatures"] == []


def test_nobody_signs_twice_and_nobody_signs_third(tmp_path, keys, capsys):
    order = tmp_path / "order"
    new("--out", str(order))
    assert sign(order, tmp_path / "olga") == 0
    before = order.read_bytes()
    assert sign(order, tmp_path / "olga") == 1
    assert "a second person" in capsys.readouterr().err
    assert order.read_bytes() == before
    assert sign(order, tmp_path / "omar") == 0
    assert sign(order, tmp_path / "third") == 1
    assert "2 signatures already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"life": "0s"}, "between 1s and 4h"),
        ({"life": "14401s"}, "between 1s and 4h"),
        ({"digest": "sha256:x"}, "sha256"),
    ],
)
def test_an_order_that_a_target_would_refuse_is_not_written(tmp_path, options, sentence, capsys):
    assert new("--out", str(tmp_path / "order"), **options) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "order").exists()


def test_other_words_that_a_target_would_refuse(tmp_path, capsys):
    for words, sentence in ((("--target", "Host 1"), "/target"), (("--reason", "x" * 201), "/reason"), (("--incident", ""), "/incident")):
        assert new(*words, "--out", str(tmp_path / "order")) == 1
        assert sentence in capsys.readouterr().err


def test_an_order_is_never_overwritten_and_other_files_are_not_signed(tmp_path, keys, capsys):
    order = tmp_path / "order"
    order.write_text("mine")
    assert new("--out", str(order)) == 1
    assert order.read_text() == "mine"
    for text, sentence in (("mine", "no override order"), ("{}", "no override order"), ("x" * 5000, "more than 4096"), (None, "cannot be read")):
        order.unlink() if text is None else order.write_text(text)
        assert sign(order, tmp_path / "olga") == 1
        assert sentence in capsys.readouterr().err


def test_a_key_that_others_can_read_signs_nothing(tmp_path, keys, capsys):
    order = tmp_path / "order"
    new("--out", str(order))
    before = order.read_bytes()
    (tmp_path / "olga").chmod(0o644)
    assert sign(order, tmp_path / "olga") == 1
    assert "chmod 600" in capsys.readouterr().err
    assert order.read_bytes() == before
