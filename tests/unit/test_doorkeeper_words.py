"""`pingee-doorkeeper`, word by word and in this process: exit codes, the last line that is said, and what is recorded. Only the workload is pretended."""

import argparse
import json
from dataclasses import replace

import pytest

from clients.doorkeeper import cli
from clients.doorkeeper.adopt import NotAdopted
from clients.doorkeeper.apply import Applied, Doorkeeper, Unsettled
from clients.doorkeeper.checks import Behind
from clients.doorkeeper.cli import main
from clients.doorkeeper.files import Place, Unreadable, exclusive
from clients.doorkeeper.state import ComponentMemory, Outcome, Release, save_memory
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.moment import later
from gatekeeper.model.receipt import receipt_id
from tests.fakes.frames import Gatekeeper, frame_of, make_artifact, parts_of
from tests.fakes.orders import payload_of, signed
from tests.fakes.quiet_doorkeepers import AT, QuietDoorkeeper

ONE, TWO = make_artifact("1"), make_artifact("2")
D = digest_of(b"d")


class Called(QuietDoorkeeper):
    def __init__(self, directory, monkeypatch, capsys):
        super().__init__(directory, monkeypatch)
        self.patch, self.capsys, self.hidden, self.directory = monkeypatch, capsys, [], directory
        monkeypatch.setattr(cli, "load_pinned", lambda _: self.door.pinned)
        monkeypatch.setattr(cli, "_now", lambda: AT)
        monkeypatch.setattr(cli, "hide_memory", lambda: self.hidden.append(True))
        monkeypatch.setattr(cli, "LOCK_S", 0.0)
        monkeypatch.delenv("SSH_ORIGINAL_COMMAND", raising=False)

    def call(self, *words):
        """Exit code and the last line."""
        code = main(["--dir", str(self.directory), *words])
        return code, json.loads(self.capsys.readouterr().out.splitlines()[-1])

    def serve(self, items, word="apply", named=None):
        file = self.write("frame", frame_of(parts_of(items)))
        self.patch.setenv("SSH_ORIGINAL_COMMAND", word)
        with file.open("rb") as source:
            self.patch.setattr(cli.sys, "stdin", source)
            return self.call("serve", digest_hex(named or digest_of(items[PartName.RECEIPT])))

    def write(self, name, data):
        (self.directory / name).write_bytes(data)
        return self.directory / name

    def order(self, digest, *keys, until=3600):
        payload = payload_of(digest, not_after=later(AT, seconds=until))
        return self.write("order", signed(payload, *(keys or (self.people.olga, self.people.omar))))


@pytest.fixture
def called(tmp_path, monkeypatch, capsys):
    return Called(tmp_path, monkeypatch, capsys)


# --- which words there are


def test_as_a_login_shell_it_takes_a_forced_command_and_nothing_else(called, monkeypatch):
    monkeypatch.setattr(Place, "below", classmethod(lambda cls, directory: called.place))
    assert main(["-c", "pingee-doorkeeper status"]) == 0
    assert json.loads(called.capsys.readouterr().out)["target"] == "host-1"
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", "status")
    assert main(["-c", f"pingee-doorkeeper serve {'0' * 64}"]) == 0
    assert json.loads(called.capsys.readouterr().out)["target"] == "host-1"
    for words in (["-c"], ["-c", "sh"], ["-c", "pingee-doorkeeper status", "x"], ["-c", "pingee-doorkeeper status "]):
        called.hidden.clear()
        assert main(words) == 1
        assert json.loads(called.capsys.readouterr().out)["error"].startswith("only 'pingee-doorkeeper serve <64 hex>' and")
        assert called.hidden == []


def test_without_arguments_of_its_own_it_takes_the_programs(called, monkeypatch):
    monkeypatch.setattr(cli.sys, "argv", ["pingee-doorkeeper", "--dir", str(called.directory), "status"])
    assert main() == 0
    assert json.loads(called.capsys.readouterr().out)["target"] == "host-1"
    assert called.hidden == [True], "nobody may read its memory from the first word on"


@pytest.mark.parametrize("word", ["", "sh", "apply ", "status x"])
def test_who_is_forced_says_one_of_two_words(called, word):
    code, answer = called.serve(called.items(ONE), word=word)
    assert (code, answer) == (1, {"error": "the request is one word: apply or status"})
    assert called.serve(called.items(ONE), word="status")[1]["target"] == "host-1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "0" * 63], "must be 64 hexadecimal digits"),
        (["serve", "A" * 64], "must be 64 hexadecimal digits"),
        (["install", "--component", "=1"], "must be NAME=PORT"),
        (["install", "--component", "a=b"], "must be NAME=PORT"),
        (["install", "--component", "a"], "must be NAME=PORT"),
        (["nothing"], "invalid choice"),
        *((["adopt", "a", "--from", ".", "--health", "/", "--grace", grace, "x"], "must be 1 to 3600 seconds") for grace in ("0", "3601", "x", "\u0661", "-1")),
    ],
)
def test_words_that_are_none_are_told_in_json(called, words, message):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 1
    assert message in json.loads(called.capsys.readouterr().out)["error"]


@pytest.mark.parametrize("grace", ["1", "3600"])
def test_grace_has_its_bounds(grace):
    assert cli._parser().parse_args(["adopt", "a", "--from", ".", "--health", "/", "--grace", grace, "x"]).grace == int(grace)


def test_a_word_that_nobody_carries_out_is_a_bug():
    with pytest.raises(AssertionError, match="other"):
        cli._run(argparse.Namespace(command="other", dir=None))


# --- a frame


def test_what_is_applied_is_told(called):
    code, answer = called.serve(called.items(ONE))
    component = called.component()
    assert code == 0
    assert answer == {
        "outcome": "healthy",
        "receipt": component.receipt,
        "applied": ONE.digest,
        "restored": None,
        "detail": "",
        "cosignature": component.cosignature,
        "size": 1,
    }
    called.sick.add(TWO.digest)
    code, answer = called.serve(called.items(TWO))
    assert (code, answer["outcome"], answer["applied"], answer["restored"]) == (6, "rolled-back", None, ONE.digest)


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("healthy", [True, False])
def test_only_what_is_healthy_is_applied_and_only_what_runs_again_restored(outcome, healthy):
    release = Release(D, D, None, ("x",), "/", 1) if healthy else None
    told = cli._outcome(Applied(ComponentMemory(1, None, D, outcome, "", "c", 1, "", release), 0))
    assert told["applied"] == (D if healthy and outcome is Outcome.HEALTHY else None)
    assert told["restored"] == (D if healthy and outcome is Outcome.ROLLED_BACK else None)


def test_what_is_refused_is_told_and_recorded(called):
    code, answer = called.serve(called.items(ONE, environment="staging"))
    assert (code, answer["refused"]) == (3, "receipt-other-target")
    assert (called.record()[-1]["what"], called.record()[-1]["detail"]) == ("refused", answer["detail"])


def test_what_is_malformed_is_told_and_recorded(called):
    code, answer = called.serve({PartName.RECEIPT: b"x", PartName.PROOF: b"x", PartName.CONSISTENCY: b"x"})
    assert (code, list(answer)) == (1, ["error"])
    assert (called.record()[-1]["code"], called.record()[-1]["receipt"]) == ("malformed", digest_of(b"x"))


@pytest.mark.parametrize(("behind", "told"), [(Behind(4), {"stale": 4}), (Behind(4, "o.test/log"), {"stale": 4, "origin": "o.test/log"})])
def test_what_is_stale_is_told_with_what_is_remembered(called, behind, told):
    called.patch.setattr(Doorkeeper, "apply", lambda *_: behind)
    assert called.serve(called.items(ONE)) == (5, told)
    assert called.record() == []


def test_what_is_unsettled_names_the_receipt_and_other_damage_does_not(called):
    for error, told in ((Unsettled(D, "x"), {"error": "x", "receipt": D}), (Unreadable("x"), {"error": "x"})):
        called.patch.setattr(Doorkeeper, "apply", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert called.serve(called.items(ONE)) == (7, told)


def test_a_bug_is_told_by_a_number_alone(called):
    called.patch.setattr(Doorkeeper, "apply", lambda *_: (_ for _ in ()).throw(RuntimeError("a secret")))
    code, answer = called.serve(called.items(ONE))
    assert (code, answer["error"].startswith("internal error, report "), "secret" in answer["error"]) == (20, True, False)


def test_one_at_a_time(called):
    with exclusive(called.place, wait_s=0):
        assert called.serve(called.items(ONE)) == (1, {"error": "another apply is under way at this target"})
    assert called.component() is None


def test_a_frame_from_a_file_names_its_own_receipt(called):
    items = called.items(ONE)
    code, answer = called.call("apply", str(called.write("f", frame_of(parts_of(items)))))
    assert (code, answer["receipt"]) == (0, digest_of(items[PartName.RECEIPT]))
    without = {name: data for name, data in called.items(TWO).items() if name is not PartName.RECEIPT}
    code, answer = called.call("apply", str(called.write("f", frame_of(parts_of(without)))))
    assert (code, answer["refused"]) == (3, "receipt-missing")
    assert called.record()[-1]["receipt"] == receipt_id(b"")
    assert called.call("apply", str(called.directory / "none")) == (1, {"error": "none: No such file or directory"})
    code, answer = called.call("apply", str(called.write("f", b"no frame\n")))
    assert (code, answer["error"].startswith("f: ")) == (1, True)


# --- an order


def bundled(called):
    members = []
    for artifact in (ONE, TWO):
        items = called.items(artifact)
        members.insert(0, (items[PartName.RECEIPT], len(called.gatekeeper.log.entries) - 1))
        assert called.apply(items | {PartName.ROLLBACK_BUNDLE: called.gatekeeper.bundle(members)}).exit_code == 0


def test_what_is_overridden_is_told(called):
    bundled(called)
    code, answer = called.call("override", str(called.order(ONE.digest)))
    assert (code, answer["outcome"], answer["applied"], answer["restored"], answer["component"]) == (0, "healthy", ONE.digest, None, "hello")
    assert set(answer) == {"outcome", "order", "component", "applied", "restored", "detail", "record"}
    called.sick.add(TWO.digest)
    code, answer = called.call("override", str(called.order(TWO.digest)))
    assert (code, answer["outcome"], answer["applied"], answer["restored"]) == (6, "rolled-back", None, ONE.digest)


def test_an_order_that_is_refused_is_recorded_by_its_files_digest(called):
    bundled(called)
    file = called.order(ONE.digest, called.people.olga)
    code, answer = called.call("override", str(file))
    assert (code, answer["refused"]) == (3, "override-signers")
    said = called.record()[-1]
    assert (said["what"], said["code"], said["order_file"], said["detail"]) == ("refused", "override-signers", digest_of(file.read_bytes()), answer["detail"])


def test_what_is_no_order_is_malformed(called):
    code, answer = called.call("override", str(called.write("order", b"{}")))
    assert (code, answer["error"].startswith("order: ")) == (1, True)
    assert called.call("override", str(called.directory / "none")) == (1, {"error": "none: No such file or directory"})


# --- status, install, adopt


def test_status_puts_right_what_was_cut_short_unless_somebody_is_at_work(called):
    called.deploy(ONE)
    save_memory(called.place, called.memory.with_component("hello", replace(called.component(), outcome=Outcome.IN_PROGRESS)))
    with exclusive(called.place, wait_s=0):
        assert called.call("status")[1]["components"][0]["outcome"] == "in-progress"
    assert called.call("status")[1]["components"][0]["outcome"] == "interrupted"
    assert called.component().outcome is Outcome.INTERRUPTED


def test_install_says_what_it_lacks_and_then_its_key(called, tmp_path):
    gatekeeper = Gatekeeper()
    files = {"log-policy": gatekeeper.log_policy, "receipt-keys": gatekeeper.receipt_keys}
    words = [word for name, data in files.items() for word in (f"--{name}", str(called.write(name, data)))]
    words += ["--target", "host-1", "--instance", "production", "--environment", "production"]
    elsewhere = ["--dir", str(tmp_path / "new"), "install"]
    assert main([*elsewhere, *words]) == 1
    assert json.loads(called.capsys.readouterr().out) == {"error": "install needs --component"}
    assert main([*elsewhere, *words, "--component", "hello=1"]) == 0
    key = called.capsys.readouterr().out
    assert key.startswith("production.doorkeeper/host-1+")
    assert main([*elsewhere, "--check"]) == 0
    assert called.capsys.readouterr().out == key
    assert main([*elsewhere, *words, "--component", "hello=1"]) == 1
    assert "nothing is overwritten" in json.loads(called.capsys.readouterr().out)["error"]


def test_what_is_adopted_is_told_and_what_is_not_says_why(called, monkeypatch):
    release = Release(D, D, None, ("x",), "/", 1)
    monkeypatch.setattr(cli, "adopt", lambda door, wanted, memory: release)
    words = ("adopt", "hello", "--from", ".", "--health", "/", "--", "x")
    assert called.call(*words) == (0, {"adopted": D, "component": "hello"})

    def refuse(*_):
        raise NotAdopted("it is not healthy")

    monkeypatch.setattr(cli, "adopt", refuse)
    assert called.call(*words) == (1, {"error": "it is not healthy"})
