"""`pingee doctor`: a sentence and a remedy for everything that can be said, three ways to end, and never a secret."""

import base64
import json
import ssl
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx2
import pytest

from clients.cli import doctor, main, reach
from clients.cli.check import Check, document, render, verdict
from clients.cli.doctor import Asked, examine
from clients.cli.exits import Exit
from clients.cli.findings import FINDINGS
from clients.cli.server import Access
from gatekeeper.model.readiness import Part, Word, parse_readiness
from gatekeeper.tlog.logpolicy import LogPolicy, encode_log_policy
from tests.fakes import log_directory

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
URL, OPERATOR = "https://gate.example", "http://127.0.0.1:8444"
LOG = log_directory.entries(5)
NOTE = log_directory.note(LOG)
SAID = {
    Part.DATABASE: (Word.UNREACHABLE, Word.SLOW),
    Part.SCHEMA: (Word.MIGRATION_NEEDED, Word.CANNOT_TELL),
    Part.DATABASE_CLOCK: (Word.AHEAD, Word.BEHIND, Word.CANNOT_TELL),
    Part.VAULT: (Word.SEALED, Word.UNREACHABLE, Word.UNTRUSTED, Word.SLOW),
    Part.VAULT_CLOCK: (Word.AHEAD, Word.BEHIND, Word.CANNOT_TELL),
    Part.VAULT_LOG: (Word.REFUSED, Word.KEY_DIFFERS, Word.CANNOT_TELL),
    Part.VAULT_DECIDE: (Word.REFUSED, Word.KEY_DIFFERS, Word.CANNOT_TELL),
    Part.VAULT_ACT: (Word.REFUSED, Word.CANNOT_TELL),
    Part.LOG: (Word.BEHIND, Word.STOPPED, Word.UNPUBLISHED),
    Part.WITNESSES: (Word.NO_QUORUM, Word.OPEN, Word.UNLOGGED, Word.UNREACHABLE),
    Part.POLICY: (Word.REWOUND, Word.UNREVIEWED, Word.INVALID, Word.UNAVAILABLE),
    Part.CERTIFICATE: (Word.EXPIRING, Word.EXPIRED, Word.CANNOT_TELL),
    Part.BUILDER_CA: (Word.EXPIRING, Word.EXPIRED),
    Part.TARGET: (Word.UNREACHABLE, Word.UNTRUSTED, Word.SLOW),
}


def token(**claims):
    claims = {"aud": "pingee:production", "exp": int(NOW.timestamp()) + 600} | claims
    middle = base64.urlsafe_b64encode(json.dumps({k: v for k, v in claims.items() if v is not None}).encode()).rstrip(b"=").decode()
    return f"e30.{middle}.canary-signature"


def asked(*, url=URL, log_policy=None, operator=None, vault=None, **access):
    return Asked(Access(url, None, access.get("token_file"), access.get("token"), 5.0), log_policy, access.get("trusted_root"), operator, vault, None)


def answer(content=b"", status=200, *, date=NOW):
    return httpx2.Response(status, headers={} if date is None else {"date": format_datetime(date, usegmt=True)}, content=content)


@pytest.fixture
def world(monkeypatch):
    """A server whose every answer a test may change: path -> response or exception."""
    answers = {"/v1/whoami": answer(b"{}", 401), "/log/checkpoint": answer(NOTE), "/readyz?verbose": answer(b"database ok\nready\n")}
    answers["/v1/sys/seal-status"] = answer(b'{"sealed":false}')

    def get(_url, path, _access):
        found = answers[path]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(reach, "get", get)
    monkeypatch.setattr(doctor, "get", get)
    monkeypatch.setattr(reach, "_handshake", lambda *_: Check("tls", True, "certificate", "trusted"))
    return answers


@pytest.fixture
def policy(tmp_path):
    file = tmp_path / "log-policy"
    file.write_bytes(encode_log_policy(LogPolicy(log=log_directory.VKEY)))
    return file


def found(asked_for, now=NOW):
    return {check.name: check for check in examine(asked_for, now=now)}


def test_all_is_well(world, policy):
    world["/v1/whoami"] = answer(b"{}")
    checks = found(asked(token=token(), log_policy=policy, operator=OPERATOR, vault="https://vault.example"))
    assert {name for name, check in checks.items() if not check.ok} == set()
    assert set(checks) == {"token", "tls", "server", "login", "clock", "log-policy", "vault-seal", "operator-clock", "database"}
    assert verdict(tuple(checks.values())) is Exit.OK


@pytest.mark.parametrize("part", Part)
def test_every_word_of_every_part_has_a_sentence_and_what_to_do(world, part):
    assert {word for known, word in FINDINGS if known is part} == set(SAID[part])
    for word in SAID[part]:
        name = f"{part}:web-1" if part is Part.TARGET else part.value
        world["/readyz?verbose"] = answer(f"{name} {word}\nnot ready\n".encode(), 503)
        check = found(asked(operator=OPERATOR))[name]
        if word is Word.CANNOT_TELL:
            assert (check.ok, check.code) == (None, "cannot-tell")
            assert check.sentence
        else:
            assert check.ok is False
            assert check.code == (word if word.startswith("config-") else f"{part}-{word}")
            assert check.sentence
            assert check.remedy
            assert "{" not in check.sentence + check.remedy
            assert ("web-1" in check.sentence) == (part is Part.TARGET)
            assert len(check.sentence) < 160


def test_a_word_without_a_sentence_is_told_as_it_is(world):
    world["/readyz?verbose"] = answer(b"policy failing\nwhatever ok\nlog unheard-of\nnot ready\n", 503)
    checks = found(asked(operator=OPERATOR))
    assert checks["policy"].sentence == "the gatekeeper says of its policy: failing"
    assert {"whatever", "log"} & set(checks) == set()


def test_a_readiness_answer_is_read_leniently_and_bounded_to_known_words():
    assert parse_readiness("vault sealed\ntarget:web-1 ok\ntarget ok\nx y\n\nready\nvault <b>\n") == (
        ("vault", Part.VAULT, Word.SEALED), ("target:web-1", Part.TARGET, Word.OK), ("target", Part.TARGET, Word.OK),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("claims", "code", "words"),
    [
        ({"exp": int(NOW.timestamp()) - 1}, "token-expired", "expired at 2026-05-01T11:59:59Z"),
        ({"nbf": int(NOW.timestamp()) + 120}, "token-not-yet", "valid only from 2026-05-01T12:02:00Z"),
        ({"aud": "pingee:certificates:production"}, "token-audience", "'pingee:certificates:production', and a gatekeeper takes pingee:<instance>"),
        ({"aud": "https://other.example"}, "token-audience", "https://other.example"),
        ({"aud": ["pingee:production", "x"]}, "token-audience", "pingee:<instance>"),
        ({"exp": None}, "token-malformed", "no JSON Web Token"),
        ({"exp": "soon"}, "token-malformed", "no JSON Web Token"),
        ({"exp": 10**18}, "token-malformed", "no JSON Web Token"),
    ],
)
def test_ones_own_token_is_looked_at_first(world, policy, claims, code, words):
    check = found(asked(token=token(**claims), log_policy=policy))["token"]
    assert (check.ok, check.code) == (False, code)
    assert words in check.sentence
    assert "canary" not in check.sentence + str(check.remedy)


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "\udcff\udcfe.x", "a." + "A" * 100_000 + ".c"])
def test_what_is_no_token_is_said_so(world, text):
    assert found(asked(token=text))["token"].code == "token-malformed"


def test_a_token_file_that_others_read_is_named(world, tmp_path):
    file = tmp_path / "token"
    file.write_text(token())
    file.chmod(0o644)
    checks = found(asked(token_file=file))
    assert checks["token-file"].sentence == f"others can read the token file {file}"
    assert checks["token"].ok
    file.chmod(0o600)
    assert "token-file" not in found(asked(token_file=file))
    assert found(asked(token_file=tmp_path / "none"))["token"].code == "token-file"


def test_the_server_refuses_the_token_in_its_own_words(world):
    world["/v1/whoami"] = answer(json.dumps({"detail": "the token has expired; get a new token for audience pingee:test"}).encode(), 401)
    check = found(asked(token=token()))["login"]
    assert (check.ok, check.code) == (False, "unauthenticated")
    assert "for audience pingee:test" in check.sentence
    world["/v1/whoami"] = answer(b"{}", 503)
    assert found(asked(token=token()))["login"].ok is None


@pytest.mark.parametrize(("seconds", "words"), [(11, "11 s ahead of"), (-3600, "3600 s behind"), (10, None), (-10, None)])
def test_a_clock_that_differs_is_said_with_its_way(world, seconds, words):
    world["/v1/whoami"] = answer(b"{}", 401, date=NOW + timedelta(seconds=seconds))
    check = found(asked())["clock"]
    if words is None:
        assert check.ok
    else:
        assert (check.ok, check.code) == (False, "clock-skew")
        assert words in check.sentence
    world["/v1/whoami"] = answer(b"{}", 401, date=None)
    assert found(asked())["clock"].code == "cannot-tell"


def test_a_log_policy_is_absent_malformed_anothers_or_contradicted(world, policy, tmp_path):
    assert found(asked())["log-policy"].code == "log-policy-absent"
    assert found(asked(log_policy=tmp_path / "none"))["log-policy"].code == "log-policy-absent"
    (tmp_path / "bad").write_text("nonsense")
    assert found(asked(log_policy=tmp_path / "bad"))["log-policy"].code == "log-policy-malformed"
    world["/log/checkpoint"] = answer(b"other.example/log\n1\nAAAA\n")
    check = found(asked(log_policy=policy))["log-policy"]
    assert (check.ok, check.code) == (False, "log-policy-other")
    assert "the server's is other.example/log" in check.sentence
    world["/log/checkpoint"] = answer(NOTE.replace(b"\n5\n", b"\n6\n"))
    assert found(asked(log_policy=policy))["log"].code == "bad-signature"
    world["/log/checkpoint"] = answer(b"", 404)
    assert found(asked(log_policy=policy))["log"].code == "cannot-tell"
    world["/v1/whoami"] = httpx2.ConnectError("gone")
    assert found(asked(log_policy=policy))["log-policy"].code == "cannot-tell"


def test_a_trusted_root_that_is_named_must_be_there(world, tmp_path):
    assert "trusted-root" not in found(asked())
    assert found(asked(trusted_root=tmp_path / "none"))["trusted-root"].code == "trusted-root-absent"
    (tmp_path / "root").write_text("x")
    assert found(asked(trusted_root=tmp_path / "root"))["trusted-root"].ok


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (answer(b'{"sealed":true}'), "vault-sealed"),
        (answer(b'{"errors":[]}', 503), "vault-sealed"),
        (httpx2.ConnectError("refused"), "vault-unreachable"),
        (httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] whatever"), "vault-untrusted"),
        (ssl.SSLError("x"), "vault-untrusted"),
        (answer(b"<html>"), "vault-unreachable"),
    ],
)
def test_a_vault_is_asked_whether_it_is_sealed(world, said, code):
    world["/v1/sys/seal-status"] = said
    assert found(asked(vault="https://vault.example"))["vault-seal"].code == code


def test_an_operators_listener_that_is_away_or_is_none(world):
    world["/readyz?verbose"] = httpx2.ConnectTimeout("x")
    checks = found(asked(operator=OPERATOR))
    assert (checks["operator"].code, checks["parts"].code) == ("operator-unreachable", "cannot-tell")
    world["/readyz?verbose"] = answer(b"", 404)
    assert found(asked(operator=OPERATOR))["operator"].code == "operator-other"
    assert found(asked(operator="gate:8444"))["operator"].code == "operator-url"


@pytest.mark.parametrize(
    ("code", "said"), [(10, "certificate-expired"), (9, "certificate-not-yet"), (62, "certificate-name"), (64, "certificate-name"), (20, "certificate-untrusted")]
)
def test_why_a_certificate_is_not_trusted(code, said):
    error = ssl.SSLCertVerificationError("x")
    error.verify_code, error.verify_message = code, "words of the library"
    check = reach._untrusted(error)
    assert (check.name, check.ok, check.code) == ("tls", False, said)


def test_no_server_named_or_none_that_is_one(world):
    assert found(asked(url=None))["server"].code == "server-unnamed"
    assert found(asked(url="http://gate.example"))["server"].code == "server-url"
    world["/v1/whoami"] = httpx2.ReadTimeout("x")
    assert found(asked())["server"].code == "server-silent"


def test_three_ways_to_end():
    well, wrong, untold = Check("a", True, "a", "a"), Check("b", False, "b", "b", "mend"), Check("c", None, "cannot-tell", "c")
    assert verdict((well,)) is Exit.OK
    assert verdict((well, untold)) is Exit.INDETERMINATE
    assert verdict((untold, wrong, well)) is Exit.DENIED
    assert document((well, wrong))["ok"] is False
    assert document((wrong,))["checks"] == [{"name": "b", "ok": False, "code": "b", "sentence": "b", "remedy": "mend"}]
    assert render((untold, wrong, well)).splitlines() == [
        "WRONG        b: b", "             do: mend", "cannot tell  c: c", "1 wrong, 1 cannot be told, 1 well: a",
    ]  # fmt: skip


def test_what_a_server_says_moves_no_cursor(world):
    world["/v1/whoami"] = answer(json.dumps({"detail": "\x1b[2Jall is well"}).encode(), 401)
    assert "\x1b" not in render(tuple(examine(asked(token=token()), now=NOW)))


def test_the_command_passes_on_what_it_was_told(monkeypatch):
    seen = {}
    monkeypatch.setattr(doctor, "doctor", lambda asked, arguments: seen.update(asked=asked) or Exit.OK)
    assert main.main(["doctor", "--server", URL, "--operator", OPERATOR, "--vault", "https://v", "--vault-ca-file", "ca", "--log-policy", "p"]) == 0
    assert seen["asked"] == Asked(Access(URL, None, None, None, 30.0), Path("p"), None, OPERATOR, "https://v", Path("ca"))


def test_nothing_named_is_told_and_not_a_traceback(capsys):
    assert doctor.doctor(asked(url=None), Namespace(output="table", verbose=False)) is Exit.DENIED
    told = capsys.readouterr().out
    assert "WRONG        server: no server is named" in told
    assert told.endswith("2 wrong, 0 cannot be told, 1 well: token\n")
