"""What is installed where, and where in the house its secrets lie: with their own workload, and nowhere else."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from clients.doorkeeper.files import Place
from clients.doorkeeper.settings import parse_settings
from gatekeeper.policy.document import Configuration
from gatekeeper.policy.load import parse_configuration

from .git import git
from .leaks import Leak, Needles, search_database, search_files, search_processes, search_texts
from .postgres import dump_tables
from .steps import Stage
from .telling import StepFailed
from .world import InstanceWorld

ANSWERS: Final = ("/", "/running", "/openapi.json", "/v1/running", "/v1/pings?limit=200", "/v1/artifacts", "/v1/policies/current", "/log/checkpoint")
OPERATORS: Final = ("/metrics", "/livez", "/readyz?verbose")


@dataclass(frozen=True)
class Installed:
    """What lies at a target for the running release: the file, the plain values, and the secrets, which nobody prints."""

    file: Path
    values: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)


def installed(stage: Stage, instance: InstanceWorld) -> Installed:
    """What the target of an instance holds for what runs there, read as its owner would; the plain ones are the configuration's."""
    component = stage.world.component
    row = runs(stage, instance)
    place = Place.below(Path(stage.world.directory) / "targets" / instance.name)
    file = place.settings(component, row["receipt_id"].removeprefix("sha256:"))
    settings = parse_settings(file.read_bytes())
    configuration = _configuration(stage, instance, row["config"])
    if set(settings) != set(configuration.values) | configuration.secrets:
        raise StepFailed(f"{instance.name} has the settings {sorted(settings)}, its configuration names others")
    plain = {name: settings[name] for name in configuration.values}
    if plain != configuration.values:
        raise StepFailed(f"{instance.name} has other plain values than its reviewed configuration")
    return Installed(file, plain, {name: settings[name] for name in configuration.secrets})


def house_leaks(stage: Stage, needles: Needles) -> set[Leak]:
    """Where in the house the secrets lie: its whole directory, both databases, all processes, and what anybody is answered."""
    texts: dict[str, bytes] = {}
    dumps: dict[str, bytes] = {}
    for instance in stage.world.instances:
        chain = f"/v1/artifacts/{runs(stage, instance)['artifact']}/provenance"
        texts |= {f"{path} of {instance.name}": fetch(instance.url + path, instance.ca_file) for path in (*ANSWERS, chain)}
        texts |= {f"{path} of {instance.name}": fetch(instance.operator_url + path) for path in OPERATORS}
        dumps[instance.name] = dump_tables(Path(instance.database_url_file).read_text().strip())
    own = [_workload(stage, instance) for instance in stage.world.instances]
    return (
        search_files(needles, Path(stage.world.directory))
        | search_texts(needles, texts)
        | search_database(needles, dumps)
        | search_processes(needles, besides=own)
    )


def expected_places(found: Mapping[str, Installed]) -> set[Leak]:
    """Where each secret belongs: in the settings of its own workload, of what runs and of the releases kept for an override."""
    return {Leak(f"{name}/{key}", str(file)) for name, one in found.items() for key in one.secrets for file in one.file.parent.iterdir()}


def _workload(stage: Stage, instance: InstanceWorld) -> int:
    # The workload leads a process group of its own; it is the one that is meant to have the secret in its environment.
    place = Place.below(Path(stage.world.directory) / "targets" / instance.name)
    return int(json.loads(place.process(stage.world.component).read_bytes())["pid"])


def fetch(url: str, ca_file: str | None = None) -> bytes:
    """The body of an answer, asked for without a token."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if ca_file is not None:
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)))
    with urllib.request.build_opener(*handlers).open(url, timeout=10) as answer:
        return bytes(answer.read())


def runs(stage: Stage, instance: InstanceWorld) -> dict[str, Any]:
    """What the gatekeeper says runs there: its answer to `pingee running`, asked for directly, since the steps ask often."""
    path = f"/v1/running?environment={instance.name}&component={stage.world.component}"
    (row,) = json.loads(fetch(instance.url + path, instance.ca_file))["items"]
    return dict(row)


def policy_tree(stage: Stage, instance: InstanceWorld) -> Path:
    """The policy owner's working tree of an instance."""
    return Path(stage.world.policy) / instance.name


def configuration_file(stage: Stage, instance: InstanceWorld) -> str:
    """The configuration's path in it."""
    return f"config/{instance.name}/{stage.world.component}.toml"


def _configuration(stage: Stage, instance: InstanceWorld, commit: str) -> Configuration:
    file = configuration_file(stage, instance)
    data = git("show", f"{commit}:{file}", cwd=policy_tree(stage, instance)) + "\n"
    return parse_configuration(data.encode(), commit=commit, file=file)
