"""`pingee log order new` and `sign`: without a server, a vault or a log, and believed where it is used."""

import base64
import json
import socket
from datetime import UTC, datetime

import pytest

from clients.cli.main import main
from gatekeeper.model.moment import moment
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.order import Asked, OrderAction, verify_log_order

ORIGIN, NEXT = "production.example/log/2026", "production.example/log/2026b"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("an order needs nobody")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.fixture
def keys(tmp_path, capsys):
    pinned = {}
    for name in ("olga", "omar"):
        assert main(["key", "new", str(tmp_path / name)]) == 0
        pinned[name] = (base64.b64decode(capsys.readouterr().out.split()[1]),)
    return pinned


def new(*more, action="reopen", life="4h", parameters=(f"next={NEXT}",)):
    words = ["log", "order", "new", action, "--instance", "production", "--origin", ORIGIN, "--reason", "restored", "--for", life]
    return main([*words, *(word for text in parameters for word in ("--set", text)), *more])


def sign(order, key, *more):
    return main(["log", "order", "sign", str(order), "--key", str(key), *more])


def checked(order, keys):
    return verify_log_order(order.read_bytes(), keys, Asked(OrderAction.REOPEN, "production", ORIGIN, moment(datetime.now(UTC))))


def test_two_people_sign_what_one_of_them_wrote(tmp_path, keys, capsys):
    order = tmp_path / "order"
    assert new("--out", str(order)) == 0
    assert "two different people sign it" in capsys.readouterr().err
    assert sign(order, tmp_path / "olga") == 0
    told = capsys.readouterr()
    assert all(word in told.out for word in ("reopen", ORIGIN, NEXT, "restored"))
    assert "one more person" in told.err
    refusal = checked(order, keys)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "order-signers"
    assert sign(order, tmp_path / "olga") == 1
    assert "a second person is needed" in capsys.readouterr().err
    assert sign(order, tmp_path / "omar", "-o", "json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["signatures"] == 2
    assert "--order order" in told.err
    believed = checked(order, keys)
    assert isinstance(believed, Verified)
    assert believed.value.order.parameters == {"next": NEXT}


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({"life": "5h"}, "between 1s and 4h"),
        ({"action": "rotate-log-key", "parameters": ()}, "/parameters/new"),
        ({"parameters": ("next",)}, "not NAME=VALUE"),
        ({"parameters": ("next=a", "next=b")}, "given twice"),
        ({"action": "witnesses"}, "/parameters/fail_open"),
    ],
)
def test_an_order_that_would_be_refused_is_not_written(more, detail, tmp_path, capsys):
    out = tmp_path / "order"
    assert new("--out", str(out), **more) == 1
    assert detail in capsys.readouterr().err
    assert not out.exists()


def test_the_next_origin_is_the_name_after_it_where_none_is_given(tmp_path, keys, capsys):
    order = tmp_path / "order"
    assert new("--out", str(order), parameters=()) == 0
    assert sign(order, tmp_path / "olga", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["next"] == NEXT


def test_an_override_is_no_order_about_a_log(tmp_path, keys, capsys):
    order = tmp_path / "order"
    order.write_text("{}")
    assert sign(order, tmp_path / "olga") == 1
    assert "is no order about a log" in capsys.readouterr().err
