"""Step `shadow-adopt`, read again: what was decided in shadow, what the log says was adopted, and what runs there now."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from clients.demo.git import git
from tests.fakes.vault_requests import csr


def production(demo):
    return demo.world.instance("production")


def ask(demo, *arguments):
    return demo.stage.pingee(production(demo), *arguments, "-o", "json").document()


def entry(demo, tmp_path, index):
    """One entry of production's log, its proof checked offline with the log's policy file alone."""
    file = tmp_path / f"{index}.tlog-proof"
    demo.stage.pingee(production(demo), "log", "proof", str(index), "--out", str(file))
    assert demo.stage.offline(production(demo), "log", "verify", str(file), "-o", "json").document()["verified"]
    return json.loads(file.with_suffix(".entry.json").read_bytes())


def entries(demo):
    lines = demo.stage.pingee(production(demo), "log", "tail", "-n", "1000").out.splitlines()
    return list(enumerate(json.loads(line.split("\t", 1)[1]) for line in lines))


def runs(demo):
    name = demo.world.second.name
    return next(row for row in ask(demo, "running", "production") if row["component"] == name)


def test_the_shadow_decision_is_in_the_log_with_its_mode_and_nothing_followed_it(demo, tmp_path):
    detail = demo.step("shadow-adopt")
    found = entry(demo, tmp_path, detail["shadow_log_index"])
    assert (found["kind"], found["mode"], found["verdict"]) == ("decision", "shadow", "Allow")
    assert (found["environment"], found["component"], found["ping_id"]) == ("production", demo.world.second.name, detail["shadow_ping"])
    outcomes = [one["of"]["index"] for _, one in entries(demo) if one["kind"] == "outcome"]
    assert detail["shadow_log_index"] not in outcomes
    assert detail["deployed_log_index"] in outcomes
    ping = ask(demo, "status", detail["shadow_ping"])
    assert (ping["state"], ping["mode"], ping["outcome_index"]) == ("shadow-allowed", "shadow", None)
    told = ask(demo, "explain", detail["shadow_ping"])
    assert (told["mode"], told["verdict"], told["headline"]) == ("shadow", "allow", "ALLOWED IN SHADOW")
    assert all(row["result"] in ("pass", "skip") for row in told["rules"])


def test_the_receipt_of_the_shadow_decision_opens_nothing_at_the_target(demo, tmp_path):
    ping = ask(demo, "status", demo.step("shadow-adopt")["shadow_ping"])
    receipt = tmp_path / "receipt.json"
    demo.stage.pingee(production(demo), "receipt", ping["receipt_id"], str(receipt))
    statement = json.loads(receipt.read_bytes())["statement"]
    assert statement["signatures"], "it is signed as any decision is; its mode is what the target refuses"
    answered = json.loads(demo.stage.doorkeeper(production(demo), "status").out)
    components = {one["component"]: one["receipt"] for one in answered["components"]}
    assert ping["receipt_id"] not in components.values()


def test_the_adoption_is_an_entry_about_the_digest_that_the_host_keeps(demo, tmp_path):
    detail = demo.step("shadow-adopt")
    found = entry(demo, tmp_path, detail["adopt_log_index"])
    assert (found["kind"], found["environment"], found["component"]) == ("adopt", "production", demo.world.second.name)
    assert found["running"] == [detail["adopted"]]
    assert found["who"].startswith("p:")
    assert "olga" not in json.dumps(found)
    kept = json.loads(demo.stage.doorkeeper(production(demo), "status").out)["adopted"]
    assert [(one["component"], one["artifact"]) for one in kept] == [(demo.world.second.name, detail["adopted"])]


def test_the_digest_is_that_of_the_directory_as_anybody_can_pack_it(demo):
    target = Path(demo.world.directory) / "targets" / "production" / "var" / "artifacts" / demo.world.second.name
    folder = target / demo.step("shadow-adopt")["adopted"].removeprefix("sha256:")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    config = json.loads((folder / "config.json").read_bytes())
    assert config["source"] == {}, "nobody knows where it came from"
    assert manifest["layers"][0]["size"] == (folder / "layer.tar").stat().st_size


def test_what_was_adopted_runs_again_and_is_said_not_to_be_built_by_ci(demo):
    """ROLLBACK."""
    detail, name = demo.step("shadow-adopt"), demo.world.second.name
    row = runs(demo)
    assert (row["artifact"], row["purpose"], row["commit"], row["ping_id"]) == (detail["adopted"], "rollback", None, detail["rollback_ping"])
    with urllib.request.urlopen(production(demo).second_url + "/", timeout=30) as answer:
        assert "version 0" in answer.read().decode()
    assert "adopted, not built by CI" in demo.stage.pingee(production(demo), "running", "production").out
    chain = ask(demo, "provenance", f"production/{name}")
    assert (chain["build"], chain["source"], chain["statements"]) == (None, None, [])
    assert [one["log_index"] for one in chain["adopted"]] == [detail["adopt_log_index"]]
    rules = {rule["rule"]: rule for rule in ask(demo, "explain", detail["rollback_ping"])["rules"]}
    assert (rules["rollback.member"]["result"], rules["rollback.member"]["actual"]) == ("pass", "ran there before any ping: adopted, not built by CI")
    assert {rules[name]["result"] for name in ("origin.signature", "origin.provenance", "artifact.bytes", "tests.commit")} == {"skip"}
    members = ask(demo, "rollback", "production", name, "--list")
    assert [member["purpose"] for member in members] == ["deploy"]
    assert members[0]["artifact"] == ask(demo, "status", detail["deployed_ping"])["artifact"]


def test_a_second_adoption_is_refused_and_so_is_one_of_what_is_deployed_by_ping(demo):
    for name in (demo.world.second.name, demo.world.component):
        arguments = ("adopt", "production", name, "--reason", "again", "-o", "json")
        done = demo.stage.as_person("olga", production(demo), *arguments, code=None)
        assert done.code != 0
        assert json.loads(done.err)["code"] == "already-managed"


def test_the_mode_was_turned_by_a_signed_commit_of_the_policy(demo):
    commit = demo.step("shadow-adopt")["enforced_by"]
    bare = Path(demo.world.policy).parent / "policy.git"
    assert "gpgsig" in git("cat-file", "-p", commit, cwd=bare)
    before, after = (git("show", f"{one}:components/{demo.world.second.name}.toml", cwd=bare) for one in (f"{commit}^", commit))
    assert before.replace('production = "shadow"', 'production = "enforce"') == after != before


def test_the_target_was_asked_under_a_certificate_that_only_reads(demo):
    lines = (Path(demo.world.directory) / "vault" / "audit.log").read_text().splitlines()
    paths = [json.loads(line)["request"]["path"] for line in lines if line]
    assert "ssh-production/sign/production-1.status" in paths


@pytest.mark.parametrize("instance", ["test", "production"])
def test_two_projects_are_built_and_a_third_gets_no_certificate(demo, instance):
    """A builder for two projects is no builder for any."""
    asked = {}
    for project in (demo.world.project, demo.world.second.name, "third"):
        run = demo.stage.platform.start_run(project=project, commit="a" * 40, ref="refs/heads/main", actor="alice")
        token = demo.stage.platform.token(run, f"pingee:certificates:{instance}")
        asked[project] = certificate(demo.world.instance(instance), token)
    third = asked.pop("third")
    assert set(asked.values()) == {(201, None)}
    assert third == (422, "unknown-builder")


def certificate(instance, token):
    """Status and code of the answer to a request for a builder's certificate."""
    request = urllib.request.Request(
        f"{instance.url}/v1/builder-certificates",
        data=json.dumps({"csr": csr().decode()}).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="POST",
    )
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=instance.ca_file))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=30) as answer:
            return answer.status, None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["code"]
