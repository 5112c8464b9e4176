"""Configuration and secrets: one digest in two places, each with its own; a change of configuration alone; and no secret anywhere else."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import Final

from .canaries import Installed, configuration_file, expected_places, fetch, house_leaks, installed, policy_tree, runs
from .foreign_roles import refused_roles
from .git import commit_all, git
from .leaks import Needles
from .steps import Stage
from .telling import StepFailed, Telling
from .world import InstanceWorld

LOADED_S: Final = 60.0


def promote_same_digest(stage: Stage, telling: Telling, test: InstanceWorld, production: InstanceWorld) -> None:
    """The digest that production runs went there through test; both run it now, each with its own configuration."""
    with telling.step("promote-same-digest", "test and production run the same digest; what differs is the configuration of each place") as detail:
        component = stage.world.component
        artifact = runs(stage, production)["artifact"]
        if runs(stage, test)["artifact"] != artifact:
            reason = ("--reason", "the second version is not wanted here either", "--wait", "-o", "json")
            stage.as_person("olga", test, "rollback", "test", component, "--to", artifact, *reason)
        chain = stage.pingee(production, "provenance", artifact, "-o", "json").document()
        if "acceptance" not in {s["stage"] for s in chain["statements"] if s["status"] == "verified"}:
            raise StepFailed(f"the digest was promoted without a result of the acceptance stage: {chain['statements']}")
        rows = {instance.name: runs(stage, instance) for instance in (test, production)}
        if {row["artifact"] for row in rows.values()} != {artifact} or len({row["config"] for row in rows.values()}) != 2:
            raise StepFailed(f"expected one digest and two configurations, got {rows}")
        detail["artifact"] = artifact
        values = {}
        for instance in (test, production):
            found = values[instance.name] = installed(stage, instance)
            _shows(stage, instance, found)
            plain = ", ".join(f"{name}={value!r}" for name, value in sorted(found.values.items()))
            detail[instance.name] = f"{plain}; secrets by name: {', '.join(sorted(found.secrets))}"
            detail[f"{instance.name}_configuration"] = rows[instance.name]["config"]
            detail[f"{instance.name}_log_index"] = rows[instance.name]["log_index"]
            detail[f"{instance.name}_http_body"] = stage.fetch(instance).strip()[:200]
        if values["test"].values == values["production"].values:
            raise StepFailed("both places got the same plain values")


def secrets_per_environment(stage: Stage, telling: Telling, test: InstanceWorld, production: InstanceWorld) -> None:
    """Each workload has its own secret; the test gatekeeper's roles are refused production's; neither is anywhere else."""
    with telling.step(
        "secrets-per-environment", "each workload got its own secret at deploy time; no role of test's gatekeeper reaches production's"
    ) as detail:
        found = {instance.name: installed(stage, instance) for instance in (test, production)}
        for name, one in found.items():
            mode = stat.S_IMODE(one.file.stat().st_mode)
            if mode != 0o600 or not one.secrets:
                raise StepFailed(f"the settings at {name} have mode {mode:o} and {len(one.secrets)} secrets")
            detail[name] = f"{', '.join(sorted(one.secrets))} in {one.file.name[:12]}, mode {mode:o}"
        detail |= refused_roles(stage, test, production)
        needles = Needles.of({f"{name}/{key}": value for name, one in found.items() for key, value in one.secrets.items()})
        leaks = house_leaks(stage, needles)
        if leaks != expected_places(found):
            raise StepFailed(f"secrets lie elsewhere than with their workload: {sorted(leaks ^ expected_places(found))[:10]}")
        detail |= {"looked_for": len(needles.spellings), "found_elsewhere": 0}


def config_only(stage: Stage, telling: Telling, production: InstanceWorld) -> None:
    """A flag is flipped by a reviewed commit, without a new artifact; the rollback brings the pair back."""
    component = stage.world.component
    with telling.step("config-only", "a reviewed commit changes one value: pinged with --config, no new artifact, no vote on old bytes") as detail:
        before = runs(stage, production)
        commit = _flip(stage, production, "Greet from production, flipped")
        _wait_for_policy(production, commit)
        flip = ("ping", "production", component, "--config", commit, "--reason", "flip the greeting", "--wait", "-o", "json")
        flipped = stage.as_person("alice", production, *flip).document()
        after = runs(stage, production)
        if (flipped["purpose"], after["artifact"], after["config"]) != ("configuration", before["artifact"], commit):
            raise StepFailed(f"expected {before['artifact']} with configuration {commit}, got {after}")
        found = installed(stage, production)
        _shows(stage, production, found)
        detail |= {"ping": flipped["id"], "artifact_before_and_after": after["artifact"], "configuration": commit, "log_index": flipped["log_index"]}
        detail |= {"plain_values": dict(found.values), "http_body": stage.fetch(production).strip()[:200]}
    with telling.step("config-rollback", "olga rolls back: the same digest, with the configuration that it had") as detail:
        undo = ("rollback", "production", component, "--reason", "the flag is not wanted", "--wait", "-o", "json")
        back = stage.as_person("olga", production, *undo).document()
        again = runs(stage, production)
        if (again["artifact"], again["config"], back["purpose"]) != (before["artifact"], before["config"], "rollback"):
            raise StepFailed(f"expected the pair {before['artifact']}, {before['config']}, got {again}")
        found = installed(stage, production)
        _shows(stage, production, found)
        detail |= {"ping": back["id"], "artifact": again["artifact"], "configuration": again["config"], "log_index": back["log_index"]}
        detail["plain_values"] = dict(found.values)
    with telling.step("deny-unreviewed-config", "a commit that no owner of the policy signed onto its branch is no configuration") as detail:
        stray = _stray(stage, production)
        refused = stage.as_person("alice", production, "ping", "production", component, "--config", stray, "--wait", "-o", "json", code=3).document()
        if refused["reasons"] != ["config-unreviewed"] or refused["receipt_id"] is not None:
            raise StepFailed(f"expected config-unreviewed and no receipt, got {refused}")
        detail |= {"ping": refused["id"], "commit": stray, "reason": "config-unreviewed", "log_index": refused["log_index"]}


def _shows(stage: Stage, instance: InstanceWorld, found: Installed) -> None:
    # The example greets with the value; what a stranger's workload does with its settings is its own affair.
    example = git("ls-tree", "--name-only", "refs/heads/main", "greeter.py", cwd=Path(stage.world.repository_path))
    if example and found.values["GREETING"] not in stage.fetch(instance):
        raise StepFailed(f"the page at {instance.name} does not show {found.values['GREETING']!r}: {stage.fetch(instance)[:200]!r}")


def _flip(stage: Stage, instance: InstanceWorld, greeting: str) -> str:
    tree = policy_tree(stage, instance)
    path = tree / configuration_file(stage, instance)
    lines = [f"GREETING = {json.dumps(greeting)}" if line.startswith("GREETING") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    commit = commit_all(tree, "Flip the greeting", who="owner", signing_key=tree.parents[1] / "owner")
    git("push", "-q", str(tree.parents[1] / "policy.git"), f"HEAD:refs/heads/{instance.name}", cwd=tree)
    return commit


def _stray(stage: Stage, instance: InstanceWorld) -> str:
    """A commit on top of the branch's own, unsigned and pushed beside it; the branch itself is left alone."""
    tree = policy_tree(stage, instance)
    git("checkout", "-q", "--detach", cwd=tree)
    try:
        commit = commit_all(tree, "Nobody signed this", who="alice")
        git("push", "-q", str(tree.parents[1] / "policy.git"), f"HEAD:refs/heads/{instance.name}-stray", cwd=tree)
    finally:
        git("checkout", "-q", instance.name, cwd=tree)
    return commit


def _wait_for_policy(instance: InstanceWorld, commit: str) -> None:
    deadline = time.monotonic() + LOADED_S
    while json.loads(fetch(f"{instance.url}/v1/policies/current", instance.ca_file))["revision"] != commit:
        if time.monotonic() > deadline:
            raise StepFailed(f"the gatekeeper of {instance.name} did not load the policy commit {commit} within {LOADED_S:.0f} s")
        time.sleep(0.1)
