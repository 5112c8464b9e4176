"""Moving in beside what an organisation has: decided on in mode shadow, adopted, then deployed by ping, then back to what was there before."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from .git import commit_all, git
from .steps import Built, Stage
from .telling import StepFailed, Telling
from .world import InstanceWorld

LOADED_S: Final = 60.0
ARGV: Final = ("./greeter.py", "{port}")


def shadow_adopt(stage: Stage, telling: Telling, test: InstanceWorld, production: InstanceWorld) -> None:
    """The second component, which runs on production's host by other means, comes under the gatekeeper step by step."""
    what = f"{stage.world.second.name} runs in production by other means: decided on in shadow, adopted, deployed by ping, rolled back to what it was"
    with telling.step("shadow-adopt", what) as detail:
        there = _Moving(stage, test, production)
        detail["ran_before_any_ping"] = there.page()
        built = there.build()
        detail |= there.in_shadow(built)
        first = there.adopted()
        detail |= first
        detail["enforced_by"] = there.enforce()
        detail |= there.deployed(built)
        detail |= there.brought_back(first["adopted"])


class _Moving:
    """The second project's pipeline, production's operator, and whoever administers its host."""

    def __init__(self, stage: Stage, test: InstanceWorld, production: InstanceWorld) -> None:
        second = stage.world.second
        self._second, self._plain, self._production = second, stage, production
        self._test = replace(test, workload_url=test.second_url)
        own = replace(
            stage.world, project=second.name, component=second.name, repository=second.repository, repository_path=second.repository_path
        )
        self._stage = Stage(own)
        self._here = replace(production, workload_url=production.second_url)

    def page(self) -> str:
        """What its users see."""
        return self._stage.fetch(self._here).strip()

    def build(self) -> Built:
        """Built, tested, deployed to the test environment and accepted there: the pipeline is in place before the deploys are."""
        commit = git("rev-parse", "refs/heads/main", cwd=Path(self._second.repository_path))
        built = self._stage.build(commit)
        self._stage.accept(self._test, built, self._stage.wait_for(self._test, self._stage.ping(self._test, built), "deployed"))
        self._stage.vote("bob", self._production, commit)
        return built

    def in_shadow(self, built: Built) -> dict[str, Any]:
        """Decided and logged; the vault's own audit file knows of no credential."""
        before, page = credentials(self._stage, self._production), self.page()
        found = self._ping(built)
        if (found["state"], found["mode"], found["verdict"]) != ("shadow-allowed", "shadow", "allow") or found["outcome_index"] is not None:
            raise StepFailed(f"expected an Allow in mode shadow and nothing more, got {found}")
        if credentials(self._stage, self._production) != before or self.page() != page:
            raise StepFailed("a ping in mode shadow took a credential, or changed what runs")
        return {"shadow_ping": found["id"], "shadow_log_index": found["log_index"], "shadow_says": found["detail"], "credentials_taken": 0}

    def adopted(self) -> dict[str, Any]:
        """The host's admin keeps what runs; olga records it as the first member of the rollback set."""
        name = self._second.name
        files = ("--from", self._second.directory, "--pid-file", self._second.pid_file)
        kept = json.loads(self._stage.doorkeeper(self._production, "adopt", name, *files, "--health", "/healthz", "--", *ARGV).out.splitlines()[-1])
        reason = ("--reason", "it was here before the gatekeeper")
        self._stage.as_person("alice", self._production, "adopt", "production", name, *reason, code=3)
        found = self._stage.as_person("olga", self._production, "adopt", "production", name, *reason, "-o", "json").document()
        row = self._runs()
        if not kept["adopted"] == found["artifact"] == row["artifact"] or row["purpose"] != "adopt" or row["commit"] is not None:
            raise StepFailed(f"the host keeps {kept}, the gatekeeper adopted {found}, {row} is said to run")
        told = self._stage.pingee(self._production, "provenance", f"production/{name}").out
        if "adopted, not built by CI" not in told:
            raise StepFailed(f"provenance does not say that nothing of CI's built it: {told}")
        return {"adopted": found["artifact"], "adopt_log_index": found["log_index"]}

    def enforce(self) -> str:
        """A signed commit of the policy repository turns the mode; the commit."""
        tree = Path(self._stage.world.policy) / self._production.name
        file = tree / "components" / f"{self._second.name}.toml"
        file.write_text(file.read_text().replace('"shadow"', '"enforce"'))
        commit = commit_all(tree, f"{self._second.name} is deployed by ping from now on", who="owner", signing_key=tree.parents[1] / "owner")
        git("push", "-q", str(tree.parents[1] / "policy.git"), f"HEAD:refs/heads/{self._production.name}", cwd=tree)
        deadline = time.monotonic() + LOADED_S
        while _policy_revision(self._production) != commit:
            if time.monotonic() > deadline:
                raise StepFailed(f"the gatekeeper did not load the policy commit {commit} within {LOADED_S:.0f} s")
            time.sleep(0.1)
        return commit

    def deployed(self, built: Built) -> dict[str, Any]:
        """The same artifact again: now it takes the place of what was there, whose process ends."""
        before = credentials(self._stage, self._production)
        found = self._ping(built)
        if (found["state"], found["mode"]) != ("deployed", "enforce") or self._runs()["artifact"] != built.artifact:
            raise StepFailed(f"expected {built.artifact} to be deployed, got {found}")
        if credentials(self._stage, self._production) <= before:
            raise StepFailed("a deploy without a credential: the audit file was read wrongly, and proves nothing about the shadow ping either")
        return {"deployed_ping": found["id"], "deployed_log_index": found["log_index"], "deployed_body": self.page()}

    def brought_back(self, first: str) -> dict[str, Any]:
        """Olga rolls back to the bytes that the gatekeeper never had."""
        name = self._second.name
        members = self._stage.pingee(self._production, "rollback", "production", name, "--list").out
        if first not in members or "adopted, not built by CI" not in members:
            raise StepFailed(f"the rollback set does not show what was adopted: {members}")
        undo = ("rollback", "production", name, "--to", first, "--reason", "back to what was there", "--wait", "-o", "json")
        found = self._stage.as_person("olga", self._production, *undo).document()
        if found["state"] != "deployed" or self._runs()["artifact"] != first or "version 0" not in self.page():
            raise StepFailed(f"what was adopted does not run again: {found} {self.page()!r}")
        return {"rollback_ping": found["id"], "rollback_log_index": found["log_index"], "runs_again": self.page()}

    def _ping(self, built: Built) -> Any:
        name = self._second.name
        arguments = ("ping", "production", name, "--artifact", built.artifact, "--reason", "pipeline", "--wait", "-o", "json")
        return self._stage.as_run(built.run, self._production, *arguments).document()

    def _runs(self) -> Any:
        rows = self._stage.pingee(self._production, "running", "-o", "json").document()
        return next(row for row in rows if row["component"] == self._second.name)


def credentials(stage: Stage, instance: InstanceWorld) -> int:
    """How many requests for a credential of this instance's target stand in the vault's own audit file: child tokens, and certificates for them."""
    wanted = {f"auth/token/create/{instance.name}-deploy-{instance.target}", f"ssh-{instance.name}/sign/{instance.target}"}
    lines = (Path(stage.world.directory) / "vault" / "audit.log").read_text().splitlines()
    return sum(json.loads(line)["request"]["path"] in wanted for line in lines if line)


def _policy_revision(instance: InstanceWorld) -> str:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=instance.ca_file))
    )
    with opener.open(f"{instance.url}/v1/policies/current", timeout=10) as answer:
        return str(json.load(answer)["revision"])
