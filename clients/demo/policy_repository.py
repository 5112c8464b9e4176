"""The demo's policy repository: `examples/policy/` with the demo's own keys and names, one signed branch for each instance."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from .git import commit_all, git

_RENAMED = {"project.toml": "{project}.toml", "component.toml": "{component}.toml"}


@dataclass(frozen=True)
class SecondProject:
    """Another project with one component of its name, to be built by the same builder."""

    name: str
    repository: str


@dataclass(frozen=True)
class PolicyFacts:
    """What fills the places of the example."""

    project: str
    component: str
    texts: Mapping[str, str]
    """values of the `${...}` places that all instances share"""
    files: Mapping[str, str]
    """further files: key sets and CA certificates"""
    second: SecondProject


@dataclass(frozen=True)
class InstanceFacts:
    """What is an instance's own: its environment has its name."""

    name: str
    target: str
    stages: tuple[str, ...]
    second_mode: str
    """how the second project's component is guarded there"""


@dataclass(frozen=True)
class PolicyRepository:
    """Where it is, and what a gatekeeper pins of it."""

    remote: Path
    work: Path
    signing_key: Path
    signers: Path
    roots: Mapping[str, str]
    """first commit of each instance's branch"""


def make_policy_repository(directory: Path, example: Traversable, facts: PolicyFacts, instances: tuple[InstanceFacts, ...]) -> PolicyRepository:
    """Fill, sign, commit and push every branch."""
    directory.mkdir(parents=True)
    signing_key, signers = directory / "owner", directory / "allowed_signers"
    # ssh-keygen needs no passphrase prompt and writes 0600
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "policy owner", "-f", str(signing_key)], check=True, timeout=20)  # noqa: S607
    public = " ".join(signing_key.with_suffix(".pub").read_text().split()[:2])
    signers.write_text(f'owner@demo.example namespaces="git" {public}\n')
    remote, work = directory / "policy.git", directory / "work"
    git("init", "-q", "--bare", str(remote), cwd=directory)
    roots = {}
    for instance in instances:
        tree = work / instance.name
        tree.mkdir(parents=True)
        git("init", "-q", "-b", instance.name, cwd=tree)
        _fill(tree, example, facts, instance)
        (tree / "allowed_signers").write_text(signers.read_text())
        roots[instance.name] = commit_all(tree, f"Policy of {instance.name}", who="owner", signing_key=signing_key)
        git("push", "-q", str(remote), f"HEAD:refs/heads/{instance.name}", cwd=tree)
    return PolicyRepository(remote, work, signing_key, signers, roots)


def _fill(tree: Path, example: Traversable, facts: PolicyFacts, instance: InstanceFacts) -> None:
    texts = {
        **facts.texts,
        "instance": instance.name,
        "project": facts.project,
        "projects": f'["{facts.project}", "{facts.second.name}"]',
        "mode": '"enforce"',
        "targets": f'{instance.name} = ["{instance.target}"]',
        "stages": "[" + ", ".join(f'"{stage}"' for stage in instance.stages) + "]",
    }
    second = {
        "project": facts.second.name,
        "repository": facts.second.repository,
        "mode": f'{{ {instance.name} = "{instance.second_mode}" }}',
    }
    for path, text in _files(example, ""):
        if path == "README.md" or (path.startswith(("environments/", "config/")) and instance.name not in path):
            continue
        _write(tree, path, Template(text).substitute(texts), project=facts.project, component=facts.component)
        if path.startswith(("projects/", "components/")):
            _write(tree, path, Template(text).substitute(texts | second), project=facts.second.name, component=facts.second.name)
    (tree / "config" / instance.name / f"{facts.second.name}.toml").write_text('[values]\nGREETING = "Hello, by ping"\n')
    for name, text in facts.files.items():
        (tree / name).write_text(text)


def _write(tree: Path, path: str, text: str, *, project: str, component: str) -> None:
    folder, _, name = path.rpartition("/")
    target = tree / folder / _RENAMED.get(name, name).format(project=project, component=component)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def _files(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found = []
    for item in sorted(folder.iterdir(), key=lambda i: i.name):
        path = f"{prefix}/{item.name}" if prefix else item.name
        if item.is_dir():
            found += _files(item, path)
        else:
            found.append((path, item.read_text()))
    return found
