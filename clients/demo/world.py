"""What the keeper tells the steps: where everything is. One JSON file, public material and paths only; secrets lie in files of their own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class InstanceWorld:
    """One gatekeeper instance with its environment, which has its name, and its one target."""

    name: str
    url: str
    operator_url: str
    ca_file: str
    log_policy: str
    origin: str
    target: str
    workload_url: str
    second_url: str
    """where the second project's component answers"""
    database_url_file: str
    artifacts: str
    log_file: str
    pid_file: str


@dataclass(frozen=True)
class SecondWorld:
    """The second project, of one component of its name, which runs on production's host by other means when the house is built."""

    name: str
    repository: str
    repository_path: str
    directory: str
    """what it runs from there"""
    pid_file: str


@dataclass(frozen=True)
class World:
    """Everything a step, or a reader with a shell, needs to know."""

    directory: str
    project: str
    component: str
    repository: str
    """URL of the project's bare repository, as it stands in statements"""
    repository_path: str
    people: str
    """directory with a directory for each person: token, and key where they vote"""
    platform: str
    policy: str
    instances: tuple[InstanceWorld, ...]
    parts: tuple[str, ...]
    """what can be stopped, started and killed; a database server that was given is none of it"""
    second: SecondWorld
    steps: tuple[dict[str, Any], ...]
    """what the keeper did: name, seconds, detail"""

    def instance(self, name: str) -> InstanceWorld:
        """The instance of that name."""
        return next(i for i in self.instances if i.name == name)

    def token_file(self, person: str, instance: str) -> Path:
        """Where a person's token for an instance is kept fresh."""
        return Path(self.people) / person / f"{instance}.token"


def write_world(world: World, file: Path) -> None:
    """Whole or not at all."""
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(asdict(world), indent=1, sort_keys=True) + "\n")
    draft.replace(file)


def read_world(file: Path) -> World:
    """What `write_world` wrote."""
    found = json.loads(file.read_text())
    found["instances"] = tuple(InstanceWorld(**instance) for instance in found["instances"])
    found["parts"] = tuple(found["parts"])
    found["second"] = SecondWorld(**found["second"])
    found["steps"] = tuple(found["steps"])
    return World(**found)
