"""The seven refusals at the target's door and at the builder CA, read again from the target's own files, the log and the vault's audit file."""

import hashlib
import json
import time
from pathlib import Path

from clients.demo.calls import call
from clients.demo.looks import SETTLE_S, doorkeepers_of
from clients.demo.thief import stolen_serials
from clients.demo.trees import served_tree
from clients.doorkeeper.files import Place, exclusive
from gatekeeper.model.digest import digest_hex
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.tlog.merkle import CompactRange, leaf_hash

DOOR_STEPS = ("deny-direct-deploy", "deny-replay", "deny-other-target", "deny-fork", "deny-late")


def place(demo, name):
    return Place.below(Path(demo.world.directory) / "targets" / name)


def record(demo, name):
    """Every line of a target's record, its chain computed anew."""
    previous, found = "sha256:" + hashlib.sha256(b"").hexdigest(), []
    for line in (place(demo, name).var / "record.jsonl").read_bytes().splitlines():
        found.append(json.loads(line))
        assert found[-1]["previous"] == previous, f"line {len(found)} does not follow the one before"
        previous = "sha256:" + hashlib.sha256(line).hexdigest()
    assert (place(demo, name).var / "record.head").read_text() == previous
    return found


def entries(demo, name):
    return [json.loads(entry) for entry in served_tree(demo.world.instance(name)).entries]


def refusals(detail):
    """What a step tells of its refusals at a target: itself, or each of its parts."""
    parts = [detail, *(part for part in detail.values() if isinstance(part, dict))]
    return [part for part in parts if "record_line" in part]


def audit(demo):
    """Every answer in the vault's own audit file."""
    lines = (json.loads(line) for line in (Path(demo.world.directory) / "vault" / "audit.log").read_text().splitlines())
    return [line for line in lines if line["type"] == "response"]


def refused(answer):
    return "permission denied" in answer.get("error", "")


def test_every_refusal_stands_in_the_targets_own_record_with_its_words(demo):
    told = {name: refusals(demo.step(name)) for name in DOOR_STEPS}
    assert {name: sorted(part["refused"] for part in parts) for name, parts in told.items()} == {
        "deny-direct-deploy": ["receipt-missing"],
        "deny-replay": ["receipt-replayed"] * 2,
        "deny-other-target": ["bad-signature"] * 2 + ["receipt-other-target"] * 3,
        "deny-fork": ["log-fork"],
        "deny-late": ["allow-expired"],
    }
    at_production = [demo.step("deny-other-target")["of_the_test_host"], *told["deny-direct-deploy"], *told["deny-replay"]]
    records = {name: record(demo, name) for name in ("test", "production")}
    for part in (part for parts in told.values() for part in parts):
        line = records["production" if part in at_production else "test"][part["record_line"] - 1]
        assert (line["what"], line["code"], line["detail"]) == ("refused", part["refused"], part["words"])


def test_what_was_refused_left_nothing_behind(demo):
    for name in ("test", "production"):
        where = place(demo, name)
        assert list(where.incoming.iterdir()) == []
        accepted = {line["artifact"] for line in record(demo, name) if line["what"] == "accepted"}
        for component in (where.var / "releases").iterdir():
            assert {f"sha256:{path.name}" for path in component.iterdir()} <= accepted
        # Every half minute the gatekeeper asks the target how it is: that question ends, what a refusal left would not.
        until = time.monotonic() + SETTLE_S
        while (left := set(doorkeepers_of(str(where.var.parent)))) and time.monotonic() < until:
            time.sleep(0.02)
        assert left == set()
        with exclusive(where, wait_s=SETTLE_S):
            pass
        assert "stolen" not in demo.stage.fetch(demo.world.instance(name))


def test_nothing_but_the_doorkeepers_words_is_served(demo):
    detail = demo.step("deny-direct-deploy")
    assert detail["exit"] == [1]
    assert {"sh", "a shell"} <= set(detail["other_words"])


def test_the_vault_gives_one_instance_nothing_for_the_others_target(demo):
    asked = [a for a in audit(demo) if a["request"]["path"] == "auth/token/create/production-deploy-production-1"]
    theirs = [a for a in asked if a["auth"]["policies"] == ["test-act"]]
    assert theirs
    assert all(refused(a) for a in theirs)
    assert not any(refused(a) for a in asked if a["auth"]["policies"] == ["production-act"])


def test_the_evidence_of_the_fork_is_two_notes_by_the_true_key_of_which_one_is_not_the_logs(demo):
    detail = demo.step("deny-fork")
    evidence = Path(detail["evidence"])
    assert evidence.parent == place(demo, "test").forks
    key = parse_log_policy(Path(demo.world.instance("test").log_policy).read_bytes()).log
    first, second = evidence.read_bytes().split(key.name.encode() + b"\n")[1:]
    notes = [open_checkpoint(key.name.encode() + b"\n" + part.rstrip(b"\n") + b"\n", key) for part in (first, second)]
    served = served_tree(demo.world.instance("test")).entries
    true = [CompactRange.empty().extend(leaf_hash(e) for e in served[: note.size]).root() == note.root for note in notes]
    assert true == [True, False]


def test_no_forged_allow_is_in_the_log_and_the_next_honest_one_is(demo):
    detail, log = demo.step("deny-fork"), entries(demo, "test")
    decision, outcome = log[detail["log_index"]], log[detail["outcome_index"]]
    assert (decision["ping_id"], decision["verdict"]) == (detail["then_deployed"], "Allow")
    assert (outcome["state"], outcome["of"]["index"]) == ("deployed", detail["log_index"])
    for line in record(demo, "test"):
        if line["what"] == "accepted":
            entry = log[line["index"]]
            assert (entry["kind"], entry["verdict"], entry["artifact"]) == ("decision", "Allow", line["artifact"])
    forged = [line["receipt"] for line in record(demo, "test") if line.get("code") in ("log-fork", "receipt-other-target")]
    assert len(forged) >= 4
    assert {call(demo.world.instance("test"), f"/v1/receipts/{receipt}").status for receipt in forged} == {404}


def test_a_late_allow_is_closed_in_the_log_and_its_ping_decided_anew(demo):
    detail, log = demo.step("deny-late"), entries(demo, "test")
    first, second = log[detail["first_decision"]], log[detail["decided_anew"]]
    assert first["ping_id"] == second["ping_id"] == detail["ping"]
    assert first["verdict"] == second["verdict"] == "Allow"
    outcomes = [(entry["of"]["index"], entry["state"]) for entry in log if entry["kind"] == "outcome"]
    assert [state for index, state in outcomes if index == detail["first_decision"]] == ["allow-expired"]
    assert [state for index, state in outcomes if index == detail["decided_anew"]] == ["deployed"]
    late = record(demo, "test")[detail["record_line"] - 1]
    assert late["at"] >= first["not_after"]


def test_each_signature_without_an_allow_shows_in_the_vaults_audit_file(demo):
    """What `pingee audit leases` reads: more certificates were signed for production's host than its log knows leases of."""
    signed = [a for a in audit(demo) if a["request"]["path"] == "ssh-production/sign/production-1" and not a.get("error")]
    leased = sum(len(entry["lease"]) for entry in entries(demo, "production") if entry["kind"] == "outcome")
    stolen = stolen_serials(demo.world, "production")
    assert len(stolen) >= 12
    assert len(signed) >= leased + len(stolen)


def test_a_strange_run_got_no_certificate_and_asking_for_names_gives_none(demo):
    detail = demo.step("deny-wrong-builder")
    assert detail["gatekeeper"]["refused"] == "unknown-builder"
    assert not set(detail["names_that_were_asked_for"][1:]) & set(detail["names_that_were_given"])
    assert [detail[name]["refused"] for name in detail if name.startswith("a_")] == ["unknown-builder", "provenance-project", "provenance-project"]
    logins = [a for a in audit(demo) if a["request"]["path"] == "auth/platform/login"]
    assert [a for a in logins if "auth" not in a["response"]], "the vault itself refused the strange run's token"
    signed = [a for a in audit(demo) if a["request"]["path"] == "builder-ca/sign/builder" and a["auth"].get("policies") == ["builder-run"]]
    assert [a for a in signed if "error" in a["response"]["data"]], "and a run's own token, where it asked for another run's names"


def test_a_stolen_token_signed_for_nothing_else_and_once(demo):
    detail = demo.step("deny-stolen-token")
    commit = demo.step("build")["commit"]
    assert f":{commit}:" in detail["names_that_were_given"][1]
    assert detail["for_another_commit"]["refused"] == detail["beside_another_runs_token"]["refused"] == "provenance-commit"
    assert detail["a_second_time"]["refused"] == detail["as_a_ping_token"]["refused"] == "unauthenticated"


def test_every_login_was_refused_at_every_path_of_the_builder_ca(demo):
    detail = demo.step("deny-stolen-token")
    policies = {"production-log", "production-decide", "production-act", "supervisor"}
    tried = [a for a in audit(demo) if a["request"]["path"].startswith("builder-ca/") and set(a["auth"].get("policies", ())) & policies]
    assert len(tried) == detail["pki_requests_refused"] == detail["pki_paths"] * len(policies)
    assert all(refused(a) for a in tried)


def test_no_decision_of_the_log_names_bytes_that_nobody_built(demo):
    for name in ("test", "production"):
        artifacts = {entry["artifact"] for entry in entries(demo, name) if entry["kind"] == "decision" and entry["artifact"] is not None}
        blobs = Path(demo.world.instance(name).artifacts) / "blobs" / "sha256"
        adopted = {artifact for entry in entries(demo, name) if entry["kind"] == "adopt" for artifact in entry["running"]}
        assert all((blobs / digest_hex(artifact)).is_file() for artifact in artifacts - adopted)
