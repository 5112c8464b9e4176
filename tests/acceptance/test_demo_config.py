"""One digest in two places, secrets at their own place alone, and a flag flipped without a new artifact: read again from log, API and targets."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from clients.demo.canaries import fetch, installed
from clients.demo.git import git
from gatekeeper.model.digest import digest_of


def ask(demo, name, *arguments):
    return demo.stage.pingee(demo.world.instance(name), *arguments, "-o", "json").document()


def entry(demo, index, name="production"):
    lines = demo.stage.pingee(demo.world.instance(name), "log", "tail", "-n", "1000").out.splitlines()
    return json.loads(lines[index].split("\t", 1)[1])


def runs(demo, name):
    (row,) = [row for row in ask(demo, name, "running", name) if row["component"] == demo.world.component]
    return row


def configuration_at(demo, name, commit):
    """The file's bytes as the policy's repository has them."""
    bare = demo.world.policy.removesuffix("/work") + "/policy.git"
    return git("show", f"{commit}:config/{name}/{demo.world.component}.toml", cwd=Path(bare)) + "\n"


def test_both_places_run_the_digest_that_went_through_test(demo):
    detail = demo.step("promote-same-digest")
    artifact = detail["artifact"]
    assert artifact == demo.step("build")["artifact"]
    for name in ("test", "production"):
        decision = entry(demo, detail[f"{name}_log_index"], name)
        assert (decision["verdict"], decision["artifact"], decision["environment"]) == ("Allow", artifact, name)
        assert decision["candidate_config"] == detail[f"{name}_configuration"]
    assert detail["test_configuration"] != detail["production_configuration"]
    chain = ask(demo, "production", "provenance", artifact)
    assert {s["stage"] for s in chain["statements"] if s["status"] == "verified"} >= {"commit", "acceptance"}


@pytest.mark.parametrize("name", ["test", "production"])
def test_each_place_has_the_plain_values_of_its_own_reviewed_commit(demo, name):
    row, found = runs(demo, name), installed(demo.stage, demo.world.instance(name))
    assert found.values == {"GREETING": f"Hello from {name}"}
    assert demo.step("promote-same-digest")[f"{name}_http_body"].startswith(f"Hello from {name}.")
    assert f'"Hello from {name}"' in configuration_at(demo, name, row["config"])


@pytest.mark.parametrize("name", ["test", "production"])
def test_the_log_names_the_configuration_by_the_digest_of_its_file(demo, name):
    row = runs(demo, name)
    decision = entry(demo, row["log_index"], name)
    assert decision["candidate_config"] == row["config"]
    assert digest_of(configuration_at(demo, name, row["config"]).encode()) in decision["evidence"]


def test_roles_of_the_test_gatekeeper_were_refused_by_the_vault_itself(demo):
    detail = demo.step("secrets-per-environment")
    assert {role for role in detail if role.startswith("test-")} == {"test-act", "test-decide", "test-log"}
    assert all(detail[role].startswith("refused kv/data/production/config/production/") for role in ("test-act", "test-decide", "test-log"))
    audit = (Path(demo.world.directory) / "vault" / "audit.log").read_text().splitlines()
    path = f"kv/data/production/config/production/{demo.world.component}"
    refused = [line for line in map(json.loads, audit) if line["type"] == "response" and line["request"]["path"] == path and line.get("error")]
    assert len(refused) >= 4  # three roles, and the deploy token of one
    assert all(set(line["response"].get("data") or ()) <= {"error"} for line in refused)


def test_the_flag_was_flipped_by_a_decision_of_its_own_without_a_new_artifact(demo):
    detail = demo.step("config-only")
    decision = entry(demo, detail["log_index"])
    assert (decision["kind"], decision["verdict"], decision["purpose"]) == ("decision", "Allow", "configuration")
    assert decision["artifact"] == detail["artifact_before_and_after"] == demo.step("build")["artifact"]
    assert decision["candidate_config"] == detail["configuration"]
    assert digest_of(configuration_at(demo, "production", detail["configuration"]).encode()) in decision["evidence"]
    assert detail["http_body"].startswith("Greet from production, flipped.")
    ping = ask(demo, "production", "status", detail["ping"])
    assert (ping["purpose"], ping["config"], ping["state"]) == ("configuration", detail["configuration"], "deployed")


def test_the_decision_says_which_rules_it_did_not_ask(demo):
    rules = {row["rule"]: row for row in ask(demo, "production", "explain", demo.step("config-only")["ping"])["rules"]}
    assert {name for name, row in rules.items() if row["result"] == "skip"} >= {"votes.review", "tests.commit", "tests.acceptance"}
    assert rules["origin.age"]["actual"] == "the artifact stays: it is what runs"
    assert rules["config.reviewed"]["result"] == "pass"


def test_the_rollback_brought_back_the_pair(demo):
    before, after = demo.step("config-only"), demo.step("config-rollback")
    decision = entry(demo, after["log_index"])
    assert (decision["purpose"], decision["artifact"]) == ("rollback", before["artifact_before_and_after"])
    assert decision["candidate_config"] == after["configuration"] == demo.step("promote-same-digest")["production_configuration"]
    ping = ask(demo, "production", "status", after["ping"])
    assert (ping["artifact"], ping["config"], ping["state"]) == (after["artifact"], after["configuration"], "deployed")
    assert after["plain_values"] == {"GREETING": "Hello from production"}


def test_the_rollback_set_is_of_pairs_and_each_stands_once(demo):
    members = ask(demo, "production", "rollback", "production", demo.world.component, "--list")
    pairs = [(m["artifact"], m["config"]) for m in members]
    assert len(set(pairs)) == len(pairs)
    assert (demo.step("build")["artifact"], demo.step("config-only")["configuration"]) in pairs
    row = runs(demo, "production")
    assert (row["artifact"], row["config"]) not in pairs


def test_an_unsigned_commit_was_no_configuration_and_cost_no_credential(demo):
    detail = demo.step("deny-unreviewed-config")
    decision = entry(demo, detail["log_index"])
    assert (decision["verdict"], decision["reasons"], decision["candidate_config"]) == ("Deny", ["config-unreviewed"], detail["commit"])
    assert ask(demo, "production", "status", detail["ping"])["receipt_id"] is None
    explained = ask(demo, "production", "explain", detail["ping"])
    (row,) = [row for row in explained["rules"] if row["reason"] == "config-unreviewed"]
    assert "an owner sign it" in row["need"]


def test_an_unknown_commit_is_unreviewed_too(demo):
    production = demo.world.instance("production")
    arguments = ("ping", "production", demo.world.component, "--config", "0" * 40, "--wait", "-o", "json")
    assert demo.stage.as_person("alice", production, *arguments, code=3).document()["reasons"] == ["config-unreviewed"]


def test_people_and_pages_are_told_the_configuration(demo, tmp_path):
    production = demo.world.instance("production")
    commit = demo.step("config-only")["configuration"]
    ping = demo.step("config-only")["ping"]
    texts = [demo.stage.pingee(production, *words).out for words in (("status", ping), ("explain", ping))]
    assert all(commit in text and "configuration" in text for text in texts)
    now = demo.step("config-rollback")["configuration"]
    assert now[:12] in demo.stage.pingee(production, "running").out
    assert commit[:12] in demo.stage.pingee(production, "provenance", demo.step("build")["artifact"]).out
    assert commit in fetch(f"{production.url}/pings/{ping}", production.ca_file).decode()
    assert now[:12] in fetch(f"{production.url}/running", production.ca_file).decode()


def test_the_receipt_binds_the_configurations_bytes(demo, tmp_path):
    """What a doorkeeper holds the file against stands in the signed statement, so a stolen lease chooses no plain value."""
    found = ask(demo, "production", "status", demo.step("config-only")["ping"])
    demo.stage.pingee(demo.world.instance("production"), "receipt", found["receipt_id"], str(tmp_path / "receipt"))
    statement = json.loads(base64.b64decode(json.loads((tmp_path / "receipt").read_bytes())["statement"]["payload"]))
    evidence = statement["predicate"]["https://pingee.internal/decision/v1"]["evidence"]
    digest = digest_of(configuration_at(demo, "production", found["config"]).encode())
    assert [item for item in evidence if item["kind"] == "configuration"] == [{"kind": "configuration", "state": "present", "digest": digest}]
