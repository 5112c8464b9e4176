"""`pingee-gatekeeper`: exit codes, one sentence for each error; what an alarm of the log shows; a login that is lost stops the replica."""

import io
import signal
import sys
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from gatekeeper import command, readiness
from gatekeeper.api.listen import CannotListen
from gatekeeper.bootstrap import BootstrapRefused
from gatekeeper.command import main
from gatekeeper.deploy.measure import Metrics
from gatekeeper.exits import Exit, Failure
from gatekeeper.layout_file import BadLayout
from gatekeeper.model.readiness import Word
from gatekeeper.policy.load import PolicyError
from gatekeeper.ports.errors import Denied, Unavailable
from gatekeeper.ports.log import LogRefused
from gatekeeper.serve import LoginLost, until_told
from gatekeeper.settings import BadSettings
from tests.fakes import log_directory


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Failure(Exit.LOGIN, "no token"), 4, "no token"),
        (BadSettings("f: /x: is missing"), 1, "f: /x: is missing"),
        (BadLayout("l: /x: is missing"), 1, "l: /x: is missing"),
        (CannotListen("port 1 is in use"), 1, "port 1 is in use"),
        (FileNotFoundError(2, "No such file or directory", "/x"), 1, "/x: No such file or directory"),
        (Unavailable("vault-down", "the vault is sealed"), 2, "vault-down: the vault is sealed"),
        (LoginLost("login-lost", "start anew"), 2, "login-lost: start anew"),
        (BootstrapRefused("no audit device"), 2, "no audit device"),
        (PolicyError("policy.toml", "is for another", "config-invalid"), 3, "the policy is refused (config-invalid): policy.toml: is for another"),
        (LogRefused("log-refused", "a note is ahead"), 3, "log-refused: a note is ahead; nothing was signed. After a restored backup: pingee-gatekeeper log reopen --help"),
        (Denied("secret-spent", "used before"), 4, "secret-spent: used before"),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_every_error_is_one_sentence_and_a_code(monkeypatch, capsys, tmp_path, error, code, words, grouped):
    raised = ExceptionGroup("nursery", [ExceptionGroup("inner", [error])]) if grouped else error

    def read(_file):
        raise raised

    monkeypatch.setattr(command, "read_settings", read)
    assert main(["migrate", "--config", str(tmp_path / "x")]) == code
    assert capsys.readouterr() == ("", f"pingee-gatekeeper: {words}\n")


def test_a_bug_prints_an_id_and_no_traceback_unless_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(command, "read_settings", lambda _file: {}["secret-word"])
    assert main(["migrate", "--config", "x"]) == 20
    told = capsys.readouterr().err
    assert told.startswith("pingee-gatekeeper: internal error ")
    assert "secret-word" not in told
    assert "Traceback" not in told
    assert main(["migrate", "-v", "--config", "x"]) == 20
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["serve"], ["serve", "--conf", "x"], ["log"], ["log", "fsck"], ["bootstrap", "--plan"], ["nonsense"]])
def test_usage_errors_end_with_1(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 1
    assert "see pingee-gatekeeper" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["serve"], ["migrate"], ["check-config"], ["log", "fsck"], ["bootstrap"], ["init"], ["logins"]])
def test_help_teaches(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert "exit codes: 0 ok" in told
    example = {"check-config": "[targets.web-1]", "bootstrap": "[instances.production.targets.web-1]"}
    assert example.get(arguments[0], "exit codes") in told


@pytest.mark.parametrize(("line", "code", "words"), [("", 4, "no secrets on standard input"), ("\n", 4, "no secrets on"), ("{}\n", 1, "wrapped logins")])
def test_serve_without_secrets_starts_nothing(monkeypatch, capsys, line, code, words):
    settings = SimpleNamespace(vault=SimpleNamespace(log_vkey=_vkey()))
    monkeypatch.setattr(command, "read_settings", lambda _file: settings)
    monkeypatch.setattr(command, "serve", lambda *_: pytest.fail("it started"))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(line.encode()), isatty=lambda: False))
    assert main(["serve", "--config", "x"]) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.0.0.1:8200", "https://user:canary@host", "https://host/?token=canary", "https:///x", "127.0.0.1"])
def test_a_vault_is_an_https_url_without_credentials(capsys, url):
    assert main(["bootstrap", "--vault", url, "--ca-file", "x", "--layout", "x", "--out", "x"]) == 1
    told = capsys.readouterr().err
    assert "--vault must be an https:// URL" in told
    assert "canary" not in told


def _vkey():
    from gatekeeper.tlog.note import encode_vkey

    return encode_vkey(log_directory.VKEY)


@pytest.mark.anyio
async def test_the_first_login_that_is_lost_ends_the_wait_and_is_named():
    sessions = {name: SimpleNamespace(lost=trio.Event()) for name in ("log", "decide", "act")}
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            told = []

            async def wait():
                told.append(await until_told(sessions))

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert told == []
            sessions["decide"].lost.set()
    (lost,) = told
    assert lost.cause_code == "login-lost"
    assert "the login decide" in lost.detail


@pytest.mark.anyio
async def test_who_is_told_that_it_serves_may_end_it_at_once():
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # so that a signal that comes too early is lost, and ends no test run
    try:
        with trio.fail_after(5):
            assert await until_told({}, lambda: signal.raise_signal(signal.SIGTERM)) is None
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.anyio
async def test_a_signal_ends_the_wait_and_nothing_is_lost():
    sessions = {"log": SimpleNamespace(lost=trio.Event())}
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            told = []

            async def wait():
                told.append(await until_told(sessions))

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)
    assert told == [None]


@pytest.mark.anyio
@pytest.mark.parametrize(("alarm", "number"), [(None, 0), ("the newest checkpoint is older than 60 seconds", 1)])
async def test_an_alarm_of_the_log_shows_in_readiness_and_metrics(alarm, number):
    sequencer = SimpleNamespace(published=lambda: SimpleNamespace(size=1), alarm=lambda: alarm, late=lambda: alarm is not None)
    assert await readiness._log(sequencer) == (Word.OK if alarm is None else Word.BEHIND)
    parts = SimpleNamespace(policy=SimpleNamespace(current=lambda: SimpleNamespace(environments={})))
    witnesses = {"witness_fail_open": alarm is not None}
    text = await Metrics(parts, lambda: None, "test", alarm=sequencer.alarm, witnesses=lambda: witnesses).render()
    assert f"\npingee_log_witness_fail_open {number}\n" in text
    assert f"\npingee_log_alarm {number}\n" in text
