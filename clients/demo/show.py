"""The order of the show. Each step is what a person of the team would do, through the public commands, and checks what it saw.

The refusals have a file of their own (`refusals`).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from . import adopt, configurations, doors, refusals, stolen_runs
from .auditors import audit_the_log
from .git import git
from .health import health_rollback
from .hostile import hostile_build
from .override import override
from .restart import restart_mid_deploy
from .steps import Built, Stage
from .telling import StepFailed, Telling
from .world import InstanceWorld, World


def show(world: World, telling: Telling) -> dict[str, Any]:
    """Run every step against a standing house; returns the figures of the last lines. Raises `StepFailed`."""
    stage = Stage(world)
    test, production = world.instance("test"), world.instance("production")
    pushed = time.monotonic()
    commit = git("rev-parse", "refs/heads/main", cwd=Path(world.repository_path))
    first = _build(stage, telling, commit)
    _test_environment(stage, telling, test, first)
    ping = _ping_pending(stage, telling, production, first)
    with telling.step("vote", "bob, who is not the author, signs +2 for exactly this revision with his own key") as detail:
        vote = stage.vote("bob", production, commit).document()
        detail |= {"voter": vote["voter"], "value": vote["value"], "revision": vote["revision"]}
    _deploy(stage, telling, production, first, ping)
    running = time.monotonic() - pushed
    _running(stage, telling, production, first)
    _provenance(stage, telling, production, first)
    _log_verify(stage, telling, production, ping)
    refusals.tamper_detected(stage, telling, production)
    leases = [refusals.deny_unsigned(stage, telling, production, first), refusals.deny_tampered(stage, telling, production, first)]
    second, second_ping, own = refusals.deny_self_vote(stage, telling, production)
    stale = refusals.deny_stale_vote(stage, telling, production, second, second_ping)
    leases += [own, stale, refusals.deny_wrong_bytes(stage, telling, production)]
    _rollback(stage, telling, test, production, second, second_ping, first)
    hostile_build(stage, telling)
    configurations.promote_same_digest(stage, telling, test, production)
    configurations.secrets_per_environment(stage, telling, test, production)
    configurations.config_only(stage, telling, production)
    doors.deny_at_the_doors(stage, telling, test, production)
    stolen_runs.deny_wrong_builder(stage, telling, production, first)
    stolen_runs.deny_stolen_token(stage, telling, production, first)
    health_rollback(stage, telling, test, production)
    restart_mid_deploy(stage, telling, test, production)
    override(stage, telling, production)
    adopt.shadow_adopt(stage, telling, test, production)
    audit_the_log(stage, telling, production)
    yours = telling.seconds_of("build", "acceptance", "vote")
    return {
        "push_to_running_s": round(running, 2),
        "yours_s": round(yours, 2),
        "pingee_s": round(running - yours, 2),
        "refusals": len(leases),
        "leases_for_refusals": sum(leases),
        "entries_checked_offline": _fsck(stage, production)["size"],
        "page": f"{production.url}/running",
    }


def _build(stage: Stage, telling: Telling, commit: str) -> Built:
    with telling.step("build", "alice pushed; the builder ran the repository's own commands in a sandbox and signed what it knows") as detail:
        built = stage.build(commit)
        detail |= {"commit": commit, "artifact": built.artifact, "run": built.run.id, "live_log_was_at": built.log_url}
    with telling.step("submit", "manifest, provenance and commit result, signed under a ten-minute certificate, stand in both logs") as detail:
        for instance in stage.world.instances:
            detail[instance.name] = _statements(stage, instance, built, {"manifest", "provenance", "commit"})
    return built


def _statements(stage: Stage, instance: InstanceWorld, built: Built, expected: set[str]) -> list[str]:
    document = stage.pingee(instance, "provenance", built.artifact, "-o", "json").document()
    found = {s["stage"] or s["kind"]: s for s in document["statements"]}
    if set(found) != expected or any(s["status"] != "verified" for s in found.values()):
        raise StepFailed(f"expected {sorted(expected)}, all verified, at {instance.name}, got {document['statements']}")
    return [f"{name} at log index {s['log_index']}" for name, s in found.items()]


def _test_environment(stage: Stage, telling: Telling, test: InstanceWorld, built: Built) -> None:
    with telling.step("test-environment", "the same bytes go to a test host, by a second gatekeeper with its own vault roles and log") as detail:
        found = stage.wait_for(test, stage.ping(test, built), "deployed")
        detail |= {"ping": found["id"], "log_index": found["log_index"], "http_body": stage.fetch(test).strip()}
    with telling.step("acceptance", "the repository's acceptance stage ran against that one address; its signed result went to both") as detail:
        stage.accept(test, built, found)
        detail["production"] = _statements(stage, stage.world.instance("production"), built, {"manifest", "provenance", "commit", "acceptance"})


def _ping_pending(stage: Stage, telling: Telling, production: InstanceWorld, built: Built) -> str:
    with telling.step("ping-pending", "the pipeline pings production with who, what and where; nobody has reviewed the change yet") as detail:
        ping = stage.ping(production, built)
        found = stage.wait_for(production, ping, "pending")
        explained = stage.pingee(production, "explain", ping, "-o", "json").document()
        if found["reasons"] != ["votes-missing"]:
            raise StepFailed(f"expected votes-missing, got {found['reasons']}")
        need = next(r["need"] for r in explained["rules"] if r["result"] == "fail")
        detail |= {"ping": ping, "state": "pending", "reason": "votes-missing", "explain_says": need, "log_index": found["log_index"]}
    return ping


def _deploy(stage: Stage, telling: Telling, production: InstanceWorld, built: Built, ping: str) -> None:
    with telling.step("deploy", "the waiting ping went on by itself: locked, decided, logged, leased, applied, observed") as detail:
        found = stage.wait_for(production, ping, "deployed")
        detail |= {"ping": ping, "log_index": found["log_index"], "outcome_index": found["outcome_index"], "receipt": found["receipt_id"]}
        detail |= {"http_body": stage.fetch(production).strip(), "page": found["permalink"]}
        if found["artifact"] != built.artifact:
            raise StepFailed(f"deployed {found['artifact']}, expected {built.artifact}")


def _running(stage: Stage, telling: Telling, production: InstanceWorld, built: Built) -> None:
    with telling.step("running", "anybody asks what runs where, without a login") as detail:
        row = _runs(stage, production, built)
        detail |= {"where": f"production/{row['component']}", "artifact": row["artifact"], "since": row["since"]}


def _runs(stage: Stage, production: InstanceWorld, built: Built) -> Any:
    rows = stage.pingee(production, "running", "-o", "json").document()
    if [row["artifact"] for row in rows] != [built.artifact]:
        raise StepFailed(f"expected {built.artifact} alone to run, got {rows}")
    return rows[0]


def _provenance(stage: Stage, telling: Telling, production: InstanceWorld, built: Built) -> None:
    where = f"production/{stage.world.component}"
    with telling.step("provenance", f"pingee provenance {where}: which commit, review, build, test and decision put it there") as detail:
        chain = stage.pingee(production, "provenance", where, "-o", "json").document()
        if chain["source"]["commit"] != built.commit or [v["voter"] for v in chain["votes"]] != ["bob"]:
            raise StepFailed(f"the chain does not lead to commit {built.commit} and bob's vote: {json.dumps(chain)[:500]}")
        decision = chain["deployments"][0]
        detail |= {"commit": chain["source"]["commit"], "pushed_by": chain["build"]["uploader"], "voted": "bob +2", "run": chain["build"]["run"]}
        detail |= {"decision_index": decision["log_index"], "pinged": decision["ping_id"]}


def _log_verify(stage: Stage, telling: Telling, production: InstanceWorld, ping: str) -> None:
    with telling.step("log-verify", "with the log's public key alone: the decision's proof is checked offline, the whole log is rehashed") as detail:
        index = stage.pingee(production, "status", ping, "-o", "json").document()["log_index"]
        proof = stage.work / f"decision-{index}.tlog-proof"
        stage.pingee(production, "log", "proof", str(index), "--out", str(proof))
        verified = stage.offline(production, "log", "verify", str(proof), "-o", "json").document()
        stage.pingee(production, "log", "checkpoint", "--out", str(stage.checkpoint))
        whole = _fsck(stage, production)
        if not (verified["verified"] and whole["sound"]):
            raise StepFailed(f"the log does not verify: {verified} {whole}")
        detail |= {"decision_index": index, "proof": str(proof), "entries_checked": whole["size"], "cut_tail": whole["tail"]}


def _fsck(stage: Stage, production: InstanceWorld) -> Any:
    return stage.pingee(production, "log", "fsck", "--since", str(stage.checkpoint), "-o", "json").document()


def _rollback(
    stage: Stage, telling: Telling, test: InstanceWorld, production: InstanceWorld, second: Built, second_ping: str, first: Built
) -> None:
    with telling.step("second-version", "bob votes for the second version too; the ping that waited goes on") as detail:
        stage.accept(test, second, stage.wait_for(test, stage.ping(test, second), "deployed"))
        stage.vote("bob", production, second.commit)
        found = stage.wait_for(production, second_ping, "deployed")
        detail |= {"ping": second_ping, "log_index": found["log_index"], "http_body": stage.fetch(production).strip()}
    with telling.step("rollback", f"olga the operator: pingee rollback production {stage.world.component}; no new vote, logged") as detail:
        started = time.monotonic()
        arguments = ("rollback", "production", stage.world.component, "--reason", "the second version is not wanted", "--wait", "-o", "json")
        found = stage.as_person("olga", production, *arguments).document()
        detail |= {"ping": found["id"], "state": found["state"], "log_index": found["log_index"], "seconds": round(time.monotonic() - started, 2)}
        detail |= {"http_body": stage.fetch(production).strip()}
        if found["purpose"] != "rollback" or _runs(stage, production, first)["artifact"] != first.artifact:
            raise StepFailed(f"the first version does not run again: {found}")
