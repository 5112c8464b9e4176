"""`pingee` against a server of scripted answers, over TLS: exit codes, problems, waiting, repeated calls, and bytes that lie."""

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clients.cli import server as cli_server
from clients.cli.main import main
from clients.demo.certificate import make_certificate
from gatekeeper.model.digest import digest_of
from gatekeeper.tlog.tile import encode_bundle
from gatekeeper.verify.vote import verify_vote
from tests.fakes import log_directory

ARTIFACT = digest_of(b"artifact")
LOG = log_directory.entries(12)
FILES = log_directory.served(LOG)
SECRET = "a-token-that-nobody-may-see"


class Scripted:
    """Answers by path; a list is answered one after the other, the last of it for ever."""

    def __init__(self):
        self.answers = {}
        self.calls = []

    def take(self, method, path, headers, body):
        self.calls.append((method, path, headers, body))
        answer = self.answers.get((method, path.split("?")[0]))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return answer or (404, {"code": "not-found", "detail": "no such thing", "status": 404})

    def paths(self):
        return [path for _, path, _, _ in self.calls]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    make_certificate(directory, "a CA of the test")
    return directory


@pytest.fixture
def gatekeeper(certificates, monkeypatch, tmp_path):
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = script.take(self.command, self.path, dict(self.headers), body)
            if answer == "hang up":
                self.close_connection = True
                return
            status, content = answer[:2]
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in answer[2].items() if len(answer) > 2 else ():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "tls.pem", certificates / "tls.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    policy = tmp_path / "log-policy"
    policy.write_bytes(log_directory.POLICY)
    monkeypatch.setenv("PINGEE_SERVER", f"https://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("PINGEE_CA_FILE", str(certificates / "ca.pem"))
    monkeypatch.setenv("PINGEE_LOG_POLICY", str(policy))
    monkeypatch.setattr(cli_server.time, "sleep", lambda seconds: None)
    yield script
    server.shutdown()
    server.server_close()
    thread.join(10)


def ping(state="pending", **changes):
    return {
        "id": "p1",
        "environment": "production",
        "component": "hello",
        "artifact": ARTIFACT,
        "commit": "1" * 40,
        "config": "c" * 40,
        "purpose": "deploy",
        "state": state,
        "reasons": [],
        "log_index": None,
        "detail": "",
        "permalink": "https://x/pings/p1",
        "times": {"created": "2026-11-21T10:00:00Z"},
    } | changes


def problem(status, code="some-code", detail="what is wrong"):
    return status, {"type": "about:blank", "code": code, "detail": detail, "status": status}


# --- exit codes


@pytest.mark.parametrize(("state", "code"), [("received", 0), ("pending", 0), ("indeterminate", 0), ("deployed", 0), ("denied", 3)])
def test_a_ping_without_wait_is_accepted_or_already_denied(gatekeeper, capsys, state, code):
    gatekeeper.answers["POST", "/v1/pings"] = (202, ping(state))
    assert main(["ping", "production", "hello", "--artifact", ARTIFACT, "--reason", "why"]) == code
    (_, _, headers, body) = gatekeeper.calls[0]
    assert json.loads(body) == {"artifact": ARTIFACT, "component": "hello", "environment": "production", "reason": "why"}
    assert len(headers["Idempotency-Key"]) == 32
    assert ["state", state] in [line.split() for line in capsys.readouterr().out.splitlines()]


WAITED = [
    ("deployed", [], 0),
    ("shadow-allowed", [], 0),
    ("denied", ["stage-failed"], 3),
    ("cancelled", ["cancelled"], 3),
    ("superseded", ["superseded"], 3),
    ("failed", ["apply-failed"], 6),
    ("failed", ["lease-refused"], 2),
    ("rolled-back", ["health-failed"], 6),
    ("unresponsive", ["target-unresponsive"], 6),
]


@pytest.mark.parametrize(("state", "reasons", "code"), WAITED)
def test_a_wait_ends_with_the_state(gatekeeper, capsys, state, reasons, code):
    gatekeeper.answers["POST", "/v1/pings"] = (202, ping("received"))
    moves = [ping("pending", reasons=["votes-missing"]), ping("applying"), ping(state, reasons=reasons)]
    gatekeeper.answers["GET", "/v1/pings/p1"] = [(200, move) for move in moves]
    assert main(["ping", "production", "hello", "--artifact", ARTIFACT, "--wait", "--request-timeout", "8s"]) == code
    out, err = capsys.readouterr()
    assert [line.partition(":")[0] for line in err.splitlines()] == ["pending", "applying", state]
    assert "pending: votes-missing" in err
    assert state in out
    waits = [headers.get("Prefer") for method, _, headers, _ in gatekeeper.calls if method == "GET"]
    # Half of one request's time at most, else the answer held back looks like a server that is gone.
    assert waits == [None, "wait=4", "wait=4"]


@pytest.mark.parametrize(("state", "code"), [("pending", 5), ("allowed", 5), ("observing", 5), ("indeterminate", 7), ("deployed", 0)])
def test_a_watch_whose_time_is_over(gatekeeper, capsys, state, code):
    gatekeeper.answers["GET", "/v1/pings/p1"] = (200, ping(state))
    assert main(["watch", "p1", "--timeout", "0s", "-o", "json"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out)["state"] == state
    assert err == ""


def test_a_server_that_holds_no_answer_back_is_not_asked_in_a_tight_loop(gatekeeper, capsys, monkeypatch):
    slept = []
    monkeypatch.setattr(cli_server.time, "sleep", slept.append)
    gatekeeper.answers["GET", "/v1/pings/p1"] = [(200, ping()), (200, ping()), (200, ping()), (200, ping("deployed"))]
    assert main(["watch", "p1"]) == 0
    assert slept == [1.0, 1.0, 1.0]


def test_ctrl_c_stops_watching_only(gatekeeper, capsys, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_server.Server, "get", interrupt)
    assert main(["watch", "p1"]) == 5
    assert "the ping goes on: pingee watch p1" in capsys.readouterr().err
    assert gatekeeper.calls == []


@pytest.mark.parametrize(("status", "code"), [(400, 2), (401, 4), (403, 3), (404, 2), (409, 2), (422, 2), (429, 2), (500, 2)])
def test_a_problem_has_its_exit_code_and_its_words(gatekeeper, capsys, status, code):
    gatekeeper.answers["GET", "/v1/pings/p1"] = problem(status)
    assert main(["status", "p1"]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", "pingee: some-code: what is wrong\n")
    assert main(["status", "p1", "-o", "json"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == problem(status)[1]


def test_a_problem_cannot_move_the_cursor(gatekeeper, capsys):
    gatekeeper.answers["GET", "/v1/pings/p1"] = problem(400, detail="a\x1b[2J\u202eb\nc")
    assert main(["status", "p1"]) == 2
    assert capsys.readouterr().err == "pingee: some-code: a\\x1b[2J\\u202eb\\nc\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, b"<html>"), "internal: HTTP 500 without a problem document"),
        ((302, b"", {"Location": "https://elsewhere.example/"}), "internal: HTTP 302 without a problem document"),
        ((200, b'{"a":1,"a":2}'), "no strict JSON: key 'a' stands twice"),
        ((200, b"[]"), "not an object"),
        ((200, b"<html>"), "no strict JSON"),
        ((200, b""), "no strict JSON"),
    ],
)
def test_an_answer_that_is_none(gatekeeper, capsys, answer, words):
    gatekeeper.answers["GET", "/v1/pings/p1"] = answer
    assert main(["status", "p1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err


def test_an_answer_without_end_is_cut_off(gatekeeper, capsys, monkeypatch):
    monkeypatch.setattr(cli_server, "MAX_ANSWER", 1000)
    gatekeeper.answers["GET", f"/v1/artifacts/{ARTIFACT}/log"] = (200, b"x" * 1001)
    assert main(["build-log", ARTIFACT]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "more than 1000 bytes" in err


# --- reaching it


def test_what_may_be_repeated_is_repeated_and_nothing_else(gatekeeper, capsys):
    busy = problem(503, "rate-limited")
    gatekeeper.answers["GET", "/v1/pings/p1"] = [busy, "hang up", (200, ping())]
    assert main(["status", "p1"]) == 0
    assert len(gatekeeper.calls) == 3
    gatekeeper.calls.clear()
    gatekeeper.answers["POST", "/v1/pings"] = [busy, "hang up", (202, ping())]
    assert main(["ping", "production", "hello", "--artifact", ARTIFACT]) == 0
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in gatekeeper.calls}) == 1
    assert len(gatekeeper.calls) == 3
    gatekeeper.calls.clear()
    gatekeeper.answers["POST", "/v1/pings/p1/cancellation"] = [busy, (200, ping())]
    assert main(["cancel", "p1", "--reason", "x"]) == 2
    assert len(gatekeeper.calls) == 1
    gatekeeper.calls.clear()
    gatekeeper.answers["GET", "/v1/pings/p1"] = "hang up"
    assert main(["status", "p1"]) == 2
    assert len(gatekeeper.calls) == 3
    assert "cannot be reached" in capsys.readouterr().err


def test_a_server_under_another_ca_gets_nothing(gatekeeper, capsys, monkeypatch, tmp_path):
    make_certificate(tmp_path / "other", "another CA")
    monkeypatch.setenv("PINGEE_TOKEN", SECRET)
    assert main(["status", "p1", "--ca-file", str(tmp_path / "other" / "ca.pem")]) == 2
    assert "cannot be reached: ConnectError" in capsys.readouterr().err
    assert gatekeeper.calls == []


def test_the_token_comes_from_variable_or_file_and_is_shown_to_nobody_else(gatekeeper, capsys, monkeypatch, tmp_path):
    gatekeeper.answers["GET", "/v1/pings/p1"] = problem(401, "unauthenticated")
    path = tmp_path / "token"
    path.write_text(SECRET + "-of-a-file\n")
    monkeypatch.setenv("PINGEE_TOKEN", SECRET)
    assert main(["status", "p1"]) == 4
    assert main(["status", "p1", "--token-file", str(path)]) == 4
    monkeypatch.delenv("PINGEE_TOKEN")
    assert main(["status", "p1"]) == 4
    sent = [headers.get("Authorization") for _, _, headers, _ in gatekeeper.calls]
    assert sent == [f"Bearer {SECRET}", f"Bearer {SECRET}-of-a-file", None]
    out, err = capsys.readouterr()
    assert SECRET not in out + err


# --- what is shown


def test_explain_shows_every_rule_and_escapes_what_comes_from_outside(gatekeeper, capsys):
    rows = [
        {"rule": "origin.project", "result": "pass", "reason": None, "actual": "fine", "need": "", "expected": "", "who": ""},
        {"rule": "votes.review", "result": "fail", "reason": "votes-missing", "actual": "none\x1b[1m", "need": "1 more", "expected": "1", "who": "r"},
    ]
    gatekeeper.answers["GET", "/v1/pings/p1/explanation"] = (
        200,
        {
            "headline": "WAITING\x1b[0m",
            "component": "hello",
            "environment": "production",
            "artifact": ARTIFACT,
            "config": "c" * 40,
            "purpose": "deploy\x1b[0m",
            "ping_id": "p1",
            "rules": rows,
            "next_step": {"text": "a reviewer votes\u202e", "who": "reviewers"},
            "detail": "d\x9b",
            "policy": {"revision": "c\x07", "digest": "sha256:0"},
            "evaluated_at": "2026-11-21T10:00:00Z",
            "log_index": 5,
            "permalink": "https://x/\x1b",
        },
    )
    assert main(["explain", "p1"]) == 0
    out = capsys.readouterr().out
    assert "votes.review: votes-missing" in out
    assert "origin.project" in out
    assert not any(c in out for c in "\x1b\u202e\x9b\x07")
    assert main(["explain", "p1", "--missing"]) == 0
    assert "origin.project" not in capsys.readouterr().out


def test_a_build_log_cannot_rewrite_the_screen(gatekeeper, capsys):
    gatekeeper.answers["GET", f"/v1/artifacts/{ARTIFACT}/log"] = (200, b"one\ttab\n\x1b[2Jtwo\r\xff\nlast\n")
    assert main(["build-log", ARTIFACT]) == 0
    assert capsys.readouterr().out == "one\ttab\n\\x1b[2Jtwo\\r\\xff\nlast\n"


def test_lists(gatekeeper, capsys):
    gatekeeper.answers["GET", "/v1/pings"] = (200, {"items": [ping("denied", reasons=["bad-signature"])]})
    assert main(["status"]) == 0
    assert "bad-signature" in capsys.readouterr().out
    row = {"environment": "production", "component": "hello", "commit": "1" * 40, "artifact": ARTIFACT, "since": "2026", "log_index": 3}
    gatekeeper.answers["GET", "/v1/running"] = (200, {"items": [row]})
    assert main(["running", "production", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [row]
    gatekeeper.answers["GET", "/v1/artifacts"] = (200, {"items": []})
    assert main(["ping", "production", "hello", "--commit", "1" * 40]) == 2
    assert "was it built and submitted?" in capsys.readouterr().err


def test_what_was_adopted_is_told_as_not_built_by_ci(gatekeeper, capsys):
    adoption = {"environment": "production", "component": "hello", "artifact": ARTIFACT, "config": "c" * 40, "at": "2026", "log_index": 7}
    gatekeeper.answers["POST", "/v1/adoptions"] = (201, adoption)
    assert main(["adopt", "production", "hello", "--reason", "moved in", "--idempotency-key", "k"]) == 0
    (_, _, headers, body) = gatekeeper.calls[0]
    assert (headers["Idempotency-Key"], json.loads(body)) == ("k", {"component": "hello", "environment": "production", "reason": "moved in"})
    out, err = capsys.readouterr()
    assert "production/hello" in out
    assert ARTIFACT in out
    assert "nothing was deployed" in err
    row = {"environment": "production", "component": "hello", "commit": None, "artifact": ARTIFACT, "config": "c" * 40, "since": "2026", "log_index": 7, "purpose": "adopt"}
    for path, words in (("/v1/running", ["running"]), ("/v1/rollbacks", ["rollback", "production", "hello", "--list"])):
        gatekeeper.answers["GET", path] = (200, {"items": [row]})
        assert main(words) == 0
        assert "adopted, not built by CI" in capsys.readouterr().out
    gatekeeper.answers["GET", f"/v1/artifacts/{ARTIFACT}/provenance"] = (
        200,
        {"artifact": ARTIFACT, "component": "hello", "source": None, "build": None, "adopted": [adoption], "statements": [], "votes": [], "deployments": []},
    )
    assert main(["provenance", ARTIFACT]) == 0
    out = capsys.readouterr().out
    assert "adopted, not built by CI" in out
    assert "production/hello at 2026, log index 7" in out


def test_a_receipt_is_rehashed_before_it_is_written(gatekeeper, capsys, tmp_path):
    data, out = b"the receipt", tmp_path / "receipt"
    gatekeeper.answers["GET", f"/v1/receipts/{digest_of(data)}"] = (200, data)
    assert main(["receipt", digest_of(data), str(out)]) == 0
    assert out.read_bytes() == data
    out.unlink()
    gatekeeper.answers["GET", f"/v1/receipts/{digest_of(data)}"] = (200, b"other bytes")
    assert main(["receipt", digest_of(data), str(out)]) == 3
    assert not out.exists()
    gatekeeper.answers["GET", f"/v1/receipts/{digest_of(data)}"] = (200, data)
    assert main(["receipt", digest_of(data), str(tmp_path / "gone" / "receipt")]) == 1
    assert "No such file" in capsys.readouterr().err


# --- the log


def serve_log(gatekeeper, files=FILES):
    gatekeeper.answers |= {("GET", f"/log/{path}"): (200, data) for path, data in files.items()}


def test_proof_and_entry_are_checked_and_written(gatekeeper, capsys, tmp_path):
    serve_log(gatekeeper)
    out = tmp_path / "seven.tlog-proof"
    assert main(["log", "proof", "7", "--out", str(out)]) == 0
    assert (tmp_path / "seven.entry.json").read_bytes() == LOG[7]
    assert main(["log", "verify", str(out)]) == 0
    assert main(["log", "proof", "12"]) == 2
    assert "12 is none of them yet" in capsys.readouterr().err


LIES = [
    ({"checkpoint": FILES["checkpoint"].replace(b"\n12\n", b"\n13\n")}, "does not verify"),
    ({"checkpoint": b"no note"}, "does not verify"),
    ({"tile/entries/000.p/12": encode_bundle([*LOG[:7], LOG[8], *LOG[8:]])}, "NOT verified"),
    ({"tile/entries/000.p/12": encode_bundle(LOG[:7])}, "keeps back entry 7"),
    ({"tile/entries/000.p/12": b"\xff\xff"}, "no bundle"),
    ({"proof/7": FILES["proof/8"]}, "NOT verified"),
    ({"proof/7": b"no proof"}, "NOT verified"),
]


@pytest.mark.parametrize(("lie", "words"), LIES)
def test_a_server_that_lies_about_its_log_is_exit_3_and_nothing_is_written(gatekeeper, capsys, tmp_path, lie, words):
    serve_log(gatekeeper, FILES | lie)
    out = tmp_path / "seven.tlog-proof"
    assert main(["log", "proof", "7", "--out", str(out)]) == 3
    assert words in capsys.readouterr().err
    assert list(tmp_path.glob("seven*")) == []
    if not any(path.startswith("proof/") for path in lie):  # it asks for none
        assert main(["log", "tail"]) == 3
        assert words in capsys.readouterr().err


def test_tail_checkpoint_and_fsck_over_the_wire(gatekeeper, capsys, tmp_path):
    serve_log(gatekeeper)
    assert main(["log", "tail", "-n", "2"]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["10", "11"]
    kept = tmp_path / "kept"
    assert main(["log", "checkpoint", "--out", str(kept)]) == 0
    assert kept.read_bytes() == FILES["checkpoint"]
    capsys.readouterr()
    assert main(["log", "checkpoint"]) == 0
    assert capsys.readouterr().out.encode() == FILES["checkpoint"]
    assert main(["log", "fsck", "--since", str(kept)]) == 0
    assert "the older checkpoint is a prefix" in capsys.readouterr().out
    del gatekeeper.answers["GET", "/log/tile/0/000.p/12"]
    assert main(["log", "fsck"]) == 3
    assert "tile-missing" in capsys.readouterr().out
    gatekeeper.answers["GET", "/log/tile/0/000.p/12"] = problem(500)
    assert main(["log", "fsck"]) == 2
    serve_log(gatekeeper, log_directory.served(LOG[:9]))
    assert main(["log", "fsck", "--since", str(kept)]) == 3
    assert "older-is-larger" in capsys.readouterr().out


def test_a_vote_is_signed_for_what_was_named(gatekeeper, capsys, tmp_path):
    key = tmp_path / "key"
    assert main(["key", "new", str(key)]) == 0
    public = capsys.readouterr().out.split()[1]
    answer = {"project": "hello", "change": "I1", "revision": "1" * 40, "label": "Code-Review", "value": -2, "voter": "bob"}
    gatekeeper.answers["POST", "/v1/votes"] = (201, answer)
    words = ["vote", "I1", "-2", "--project", "hello", "--revision", "1" * 40, "--tree", "2" * 40, "--key", str(key)]
    assert main(words) == 0
    assert "bob" in capsys.readouterr().out
    checked = verify_vote(gatekeeper.calls[0][3], {"bob": (base64.b64decode(public),)}, person="bob")
    assert (checked.value.value, checked.value.revision, checked.value.tree) == (-2, "1" * 40, "2" * 40)
    assert abs(checked.value.at.timestamp() - time.time()) < 600
