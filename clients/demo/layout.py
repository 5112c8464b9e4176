"""The demo's LAYOUT.toml for `pingee-gatekeeper bootstrap`, and what that command leaves in `operator/`, read back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gatekeeper.bootstrap import InstancePublic, PublicMaterial
from gatekeeper.tlog.note import parse_vkey

from .platform import BUILDER_ID, ISSUER


@dataclass(frozen=True)
class LayoutInstance:
    """One instance with its one environment, which has its name, and its one target."""

    name: str
    origin: str
    target: str
    account: str
    source_address: str
    canary: str = field(repr=False)
    """a secret of the workload, looked for everywhere else"""


@dataclass(frozen=True)
class VaultLayout:
    """What the demo's vault is to hold. `people` maps a name to groups and password."""

    directory: Path
    platform_key_pem: str
    projects: tuple[str, ...]
    """that the builder may build"""
    component: str
    people: Mapping[str, tuple[tuple[str, ...], str]] = field(repr=False)
    people_issuer: str
    instances: tuple[LayoutInstance, ...]


@contextmanager
def written_layout(layout: VaultLayout) -> Iterator[Path]:
    """The layout as files. Passwords and settings are gone when the block ends: from then on the vault alone has them."""
    secret = layout.directory / "secret"
    secret.mkdir(mode=0o700)
    try:
        (layout.directory / "platform.pem").write_text(layout.platform_key_pem)
        for name, (_, password) in layout.people.items():
            _write_private(secret / f"{name}.password", password + "\n")
        for instance in layout.instances:
            _write_private(secret / f"{instance.name}.toml", f"PINGEE_CANARY = {_quoted(instance.canary)}\n")
        file = layout.directory / "LAYOUT.toml"
        file.write_text(_text(layout))
        yield file
    finally:
        shutil.rmtree(secret)


def read_material(directory: Path, instances: tuple[str, ...]) -> PublicMaterial:
    """The public files that the command wrote."""
    people = json.loads((directory / "people.json").read_text())

    def of(name: str) -> InstancePublic:
        vkey = (directory / f"{name}.vkey").read_text().strip()
        receipt = (directory / f"{name}-receipt.pem").read_text()
        return InstancePublic(parse_vkey(vkey).public, vkey, receipt, (directory / f"{name}-ssh-ca.pub").read_text().strip())

    return PublicMaterial(
        builder_ca_pem=(directory / "builder-ca.pem").read_text(),
        instances={name: of(name) for name in instances},
        people=people["subjects"],
        people_issuer=people["issuer"],
        jwks=json.loads((directory / "people.jwks.json").read_text()),
    )


def _text(layout: VaultLayout) -> str:
    audiences = [f"pingee:certificates:{instance.name}" for instance in layout.instances]
    parts = [
        f"""\
people_issuer = {_quoted(layout.people_issuer)}

[platform]
issuer = {_quoted(ISSUER)}
public_key_files = ["platform.pem"]
audiences = {_quoted(audiences)}

[[builders]]
id = {_quoted(BUILDER_ID)}
projects = {_quoted(list(layout.projects))}
"""
    ]
    parts += [_person(name, groups) for name, (groups, _) in layout.people.items()]
    parts += [_instance(instance, layout.component) for instance in layout.instances]
    return "".join(parts)


def _person(name: str, groups: tuple[str, ...]) -> str:
    return f"""
[[people]]
name = {_quoted(name)}
email = {_quoted(f"{name}@demo.example")}
groups = {_quoted(list(groups))}
password_file = "secret/{name}.password"
"""


def _instance(instance: LayoutInstance, component: str) -> str:
    return f"""
[instances.{instance.name}]
origin = {_quoted(instance.origin)}
environments = {_quoted([instance.name])}

[instances.{instance.name}.targets.{instance.target}]
environment = {_quoted(instance.name)}
principal = {_quoted(instance.account)}
source_address = {_quoted(instance.source_address)}

[[instances.{instance.name}.settings]]
environment = {_quoted(instance.name)}
component = {_quoted(component)}
values_file = "secret/{instance.name}.toml"
"""


def _quoted(value: object) -> str:
    # A JSON string or list of strings is the same in TOML, unless a character is spelt as a surrogate pair.
    return json.dumps(value, ensure_ascii=False)


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
