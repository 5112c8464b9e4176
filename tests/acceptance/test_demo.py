"""Every step of `pingee demo`, read again through the public commands by somebody who believes nothing the demo said of itself."""

from __future__ import annotations

import base64
import json
import re
import ssl
import stat
import subprocess
import urllib.request
from pathlib import Path

import pytest

from clients.demo.git import git
from gatekeeper.model.digest import digest_of
from tests.fakes.shown_demo import run_demo

STEPS = [
    "vault", "vault-bootstrap", "database", "policy", "witness", "target", "gatekeeper", "build", "submit", "test-environment", "acceptance", "ping-pending",
    "vote", "deploy", "running", "provenance", "log-verify", "tamper-detected", "deny-unsigned", "deny-tampered", "deny-self-vote",
    "deny-stale-vote", "deny-wrong-bytes", "second-version", "rollback",
    "hostile-build", "promote-same-digest", "secrets-per-environment", "config-only", "config-rollback", "deny-unreviewed-config",
    "deny-direct-deploy", "deny-replay", "deny-other-target", "deny-late", "deny-fork", "deny-wrong-builder", "deny-stolen-token",
    "health-rollback", "restart-mid-deploy", "override", "shadow-adopt",
    "witnessed", "deny-unwitnessed", "witness-away", "log-monitor", "log-export", "log-query", "audit-leases",
]  # fmt: skip


def production(demo):
    return demo.world.instance("production")


def ask(demo, *arguments):
    return demo.stage.pingee(production(demo), *arguments, "-o", "json").document()


def entries(demo):
    """Every entry of production's log, read and proven one by one."""
    lines = demo.stage.pingee(production(demo), "log", "tail", "-n", "1000").out.splitlines()
    return [json.loads(line.split("\t", 1)[1]) for line in lines]


def test_every_step_is_told_and_holds(demo):
    assert demo.document["ok"] is True
    assert [step["name"] for step in demo.document["steps"]] == STEPS
    assert all(step["ok"] and step["seconds"] >= 0 for step in demo.document["steps"])


def test_the_vault_is_not_in_dev_mode_and_the_root_token_is_gone(demo):
    directory = Path(demo.world.directory)
    configuration = (directory / "vault" / "bao.hcl").read_text()
    assert all(word in configuration for word in ('storage "raft"', 'seal "static"', 'audit "file"', "tls_cert_file"))
    operator = directory / "operator"
    assert stat.S_IMODE(operator.stat().st_mode) == 0o700
    assert (operator / "recovery.key").is_file()
    assert not list(operator.glob("*root*"))


def test_build_names_a_commit_that_git_knows(demo):
    """GITSUPPORT."""
    detail = demo.step("build")
    bare = Path(demo.world.repository_path)
    chain = ask(demo, "provenance", detail["artifact"])
    assert git("cat-file", "-t", chain["source"]["commit"], cwd=bare) == "commit"
    assert git("cat-file", "-t", chain["source"]["tree"], cwd=bare) == "tree"
    assert git("rev-parse", f"{detail['commit']}^{{tree}}", cwd=bare) == chain["source"]["tree"]


def test_submit_logged_one_intake_for_each_statement(demo):
    artifact = demo.step("build")["artifact"]
    intakes = [e for e in entries(demo) if e["kind"] == "intake" and e["artifact"] == artifact]
    assert len(intakes) == 4  # manifest, provenance, commit result, acceptance result
    assert {e["builder"] for e in intakes} == {"https://ci.demo/builder"}


def test_test_environment_ran_the_same_digest(demo):
    test = demo.world.instance("test")
    row = demo.stage.pingee(test, "status", demo.step("test-environment")["ping"], "-o", "json").document()
    assert row["artifact"] == demo.step("build")["artifact"]
    assert row["state"] == "deployed"
    assert row["purpose"] == "test"


def test_acceptance_result_names_the_test_deployments_receipt(demo):
    artifact = demo.step("build")["artifact"]
    stages = {s["stage"]: s for s in ask(demo, "provenance", artifact)["statements"] if s["kind"] == "test-result"}
    assert set(stages) == {"commit", "acceptance"}
    assert {s["status"] for s in stages.values()} == {"verified"}


def test_ping_waited_for_votes_and_said_so_in_the_log(demo):
    detail = demo.step("ping-pending")
    entry = entries(demo)[detail["log_index"]]
    assert (entry["kind"], entry["verdict"], entry["reasons"]) == ("decision", "Deny", ["votes-missing"])
    assert entry["ping_id"] == detail["ping"]


def test_deploy_was_decided_logged_and_then_done(demo):
    detail = demo.step("deploy")
    log = entries(demo)
    decision, outcome = log[detail["log_index"]], log[detail["outcome_index"]]
    assert (decision["verdict"], decision["purpose"], decision["mode"]) == ("Allow", "deploy", "enforce")
    assert decision["artifact"] == demo.step("build")["artifact"]
    assert (outcome["kind"], outcome["state"], outcome["of"]["index"]) == ("outcome", "deployed", detail["log_index"])
    assert len(outcome["lease"]) == 1
    assert outcome["doorkeeper"][0]["target"] == "production-1"
    assert "version 1" in detail["http_body"]


def test_people_stand_in_the_log_under_pseudonyms_only(demo):
    text = json.dumps(entries(demo))
    assert not re.search(r"alice|bob|olga|@demo\.example", text)
    allow = entries(demo)[demo.step("deploy")["log_index"]]
    assert allow["people"]["voter"] != allow["people"]["uploader"]
    assert all(re.fullmatch(r"p:[0-9a-f]{32}", p) for p in allow["people"]["voter"] + allow["people"]["uploader"])


def test_the_receipt_is_its_digest_and_holds_the_logged_statement(demo, tmp_path):
    detail = demo.step("deploy")
    demo.stage.pingee(production(demo), "receipt", detail["receipt"], str(tmp_path / "receipt"))
    data = (tmp_path / "receipt").read_bytes()
    assert digest_of(data) == detail["receipt"]
    receipt = json.loads(data)
    entry = json.loads(base64.b64decode(receipt["entry"]))
    assert entry == entries(demo)[detail["log_index"]]
    assert digest_of(base64.b64decode(receipt["statement"]["payload"])) == entry["statement"]


def test_provenance_leads_from_what_runs_to_commit_vote_and_build(demo):
    """TRANSPARENT, OUTPUTLINKS."""
    chain = ask(demo, "provenance", f"production/{demo.world.component}")
    (running,) = [row for row in ask(demo, "running") if row["component"] == demo.world.component]
    assert (chain["artifact"], chain["source"]["commit"]) == (running["artifact"], running["commit"])
    assert ask(demo, "provenance", demo.step("build")["artifact"])["source"]["commit"] == demo.step("build")["commit"]
    assert [(v["voter"], v["value"]) for v in chain["votes"]] == [("bob", 2)]
    log = demo.stage.pingee(production(demo), "build-log", chain["artifact"]).out
    assert "unittest" in log


def test_log_verifies_offline_and_a_changed_entry_does_not(demo, tmp_path):
    index = demo.step("deploy")["log_index"]
    proof = tmp_path / "p.tlog-proof"
    demo.stage.pingee(production(demo), "log", "proof", str(index), "--out", str(proof))
    demo.stage.offline(production(demo), "log", "verify", str(proof))
    entry = tmp_path / "p.entry.json"
    entry.write_bytes(entry.read_bytes().replace(b"Allow", b"Aloow"))
    refused = demo.stage.pingee(production(demo), "log", "verify", str(proof), code=3)
    assert "NOT verified" in refused.err


def test_log_fsck_is_sound_and_tells_when_it_cannot_tell(demo):
    whole = ask(demo, "log", "fsck")
    assert whole["sound"] is True
    assert whole["tail"] == "cannot tell: no older checkpoint"
    assert ask(demo, "log", "fsck", "--since", str(demo.stage.checkpoint))["tail"] == "the older checkpoint is a prefix"


def test_tampering_was_named(demo):
    detail = demo.step("tamper-detected")
    assert detail["fsck_named"] == detail["edited"]


@pytest.mark.parametrize(("step", "reason"), [("deny-unsigned", "bad-signature"), ("deny-tampered", "bad-signature")])
def test_refusals_at_the_intake_have_their_reason(demo, step, reason):
    assert demo.step(step) == {"status": 422, "reason": reason}


@pytest.mark.parametrize(
    ("step", "reason"), [("deny-self-vote", "votes-self"), ("deny-stale-vote", "votes-stale"), ("deny-wrong-bytes", "digest-mismatch")]
)
def test_refusals_of_pings_are_in_the_log_and_leased_nothing(demo, step, reason):
    detail = demo.step(step)
    assert detail["reason"] == reason
    verdicts = [e for e in entries(demo) if e["kind"] == "decision" and e["ping_id"] == detail["ping"]]
    refused = [e for e in verdicts if e["verdict"] == "Deny"]
    assert refused
    indexes = {i for i, e in enumerate(entries(demo)) if e in refused}
    assert not [e for e in entries(demo) if e["kind"] == "outcome" and e["of"]["index"] in indexes]
    assert demo.document["leases_for_refusals"] == 0


def test_rollback_brought_the_first_version_back_without_a_vote(demo):
    """ROLLBACK."""
    detail = demo.step("rollback")
    entry = entries(demo)[detail["log_index"]]
    assert (entry["verdict"], entry["purpose"]) == ("Allow", "rollback")
    assert entry["artifact"] == demo.step("build")["artifact"]
    assert "version 1" in detail["http_body"]
    assert detail["seconds"] < 60


def test_pages_are_readable_without_a_login_and_say_what_runs(demo):
    """TRANSPARENT."""
    context = ssl.create_default_context(cafile=production(demo).ca_file)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    pages = {"/": "", "/running": ask(demo, "running")[0]["commit"], f"/pings/{demo.step('deploy')['ping']}": demo.step("build")["commit"]}
    for path, commit in pages.items():
        with opener.open(production(demo).url + path, timeout=30) as answer:
            text = answer.read().decode()
            assert answer.headers["Content-Type"].startswith("text/html")
            assert commit[:12] in text
            assert "<script" not in text


def test_operator_endpoints_answer_on_their_own_bind(demo):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(production(demo).operator_url + "/readyz?verbose", timeout=30) as answer:
        assert b"database ok" in answer.read()
    with opener.open(production(demo).operator_url + "/metrics", timeout=30) as answer:
        assert b"pingee_log_tree_size" in answer.read()


def test_env_file_lets_a_reader_try_the_commands(demo):
    env = Path(demo.world.directory) / "env.sh"
    script = f". {env}; pingee running; PINGEE_TOKEN_FILE=$PINGEE_PEOPLE/olga/production.token pingee whoami -o json"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=120, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert "production" in done.stdout
    assert '"groups": [\n    "operators"' in done.stdout or "operators" in done.stdout


@pytest.mark.parametrize(("who", "says"), [("alice", '"person": "alice"'), ("sec", '"security"'), ("admin", '"admins"'), ("pipeline", "project:hello")])
def test_everybody_has_a_token_file(demo, who, says):
    assert says in demo.stage.as_person(who, production(demo), "whoami", "-o", "json").out


def test_a_second_demo_in_the_same_directory_is_one_clear_sentence(demo):
    again = run_demo("--dir", demo.world.directory)
    assert again.returncode == 1
    assert "earlier demo" in again.stderr or "another demo" in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1


def test_an_expired_token_is_refused_with_what_to_do(demo):
    run = demo.stage.platform.start_run(project=demo.world.project, commit=demo.step("build")["commit"], ref="refs/heads/main", actor="alice")
    token = demo.stage.token(run, "pingee:production", life_s=-3600)
    done = demo.stage.pingee(production(demo), "whoami", token_file=token, code=4)
    assert "unauthenticated" in done.err
    assert "new token" in done.err
