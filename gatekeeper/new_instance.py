"""`pingee-gatekeeper init DIR`: the files of a production instance, written from `examples/production/` and `examples/policy/`. Asks nothing.

Every value that only people can know is `CHANGE-ME`, which the readers of the files refuse. Nothing secret is written or made here: keys come
from the vault's bootstrap, passwords from people.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Final

from gatekeeper.exits import Exit, Failure
from gatekeeper.model.unfilled import MARK
from gatekeeper.shipped import example

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
"""as the vault's layout takes them"""
_PLACE: Final = re.compile(r"@\{([a-z_]+)\}")
_ORIGIN: Final = re.compile(r"[a-z0-9.-]+(?:/[a-z0-9._-]+)+")
_TARGET: Final = re.compile(r"(?P<name>[^=]+)=(?P<host>\[[0-9a-f:]+\]|[^:\[\]\s\"\\]+):(?P<port>[0-9]{1,5})")
_PRIVATE: Final = ("gatekeeper/credentials", "vault/passwords")
_PINS: Final = "gatekeeper/pins"
_ENVIRONMENTS: Final = ("test", "production")
"""those for which `examples/policy` has files; another begins as a copy of production's"""


@dataclass(frozen=True)
class NewTarget:
    """A host as it was named on the command line."""

    name: str
    host: str
    port: int


@dataclass(frozen=True)
class NewInstance:
    """What is known of an instance before anything is filled in."""

    instance: str
    environment: str
    origin: str
    public_url: str
    targets: tuple[NewTarget, ...]
    command: str
    """absolute path of pingee-gatekeeper on the host that will run it"""

    def __post_init__(self) -> None:
        for key in ("instance", "environment"):
            _named(f"--{key}", getattr(self, key))
        if _ORIGIN.fullmatch(self.origin) is None and MARK not in self.origin:
            raise Failure(Exit.USAGE, "--origin is a host and a path without scheme, such as gatekeeper.example/log/2026")
        if re.fullmatch(r"https://[^\s\"\\@?#]+", self.public_url) is None:
            raise Failure(Exit.USAGE, "--public-url is an https:// URL without credentials or query")
        if not self.command.startswith("/") or re.search(r"[\s\"'%\\$]", self.command):
            raise Failure(Exit.USAGE, "--command is the absolute path of pingee-gatekeeper on the host that runs it, without spaces")
        if len({target.name for target in self.targets}) != len(self.targets):
            raise Failure(Exit.USAGE, "two --target have one name")


def parse_target(text: str) -> NewTarget:
    """`NAME=HOST:PORT`; raises `Failure`."""
    match = _TARGET.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise Failure(Exit.USAGE, f"--target {text!r} is not NAME=HOST:PORT, such as web-1=10.0.0.5:22")
    return NewTarget(_named("--target", match["name"]), match["host"].strip("[]"), int(match["port"]))


def write_instance(directory: Path, new: NewInstance) -> tuple[Path, ...]:
    """Write everything below a directory that is empty or not there; returns the files, sorted. Raises `Failure`, and leaves nothing half done."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise Failure(Exit.USAGE, f"{directory} is there and not empty: nothing is overwritten; name another directory")
    files = dict(_files(new))
    draft = directory.with_name(directory.name + ".new")
    try:
        draft.mkdir(mode=0o755, parents=True)
    except FileExistsError:
        raise Failure(Exit.USAGE, f"{draft} is left over from an init that was cut short: remove it first") from None
    try:
        for name in (*_PRIVATE, _PINS):
            (draft / name).mkdir(parents=True)
        for path, text in files.items():
            _write(draft / path, text)
        # Said outright: whoever runs this may have any umask.
        for folder in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
            folder.chmod(0o700 if str(folder.relative_to(draft)) in _PRIVATE else 0o755)
        if directory.exists():
            directory.rmdir()
        draft.rename(directory)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return tuple(directory / path for path in sorted(files))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o755 if path.suffix == ".sh" else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)


def _files(new: NewInstance) -> Iterator[tuple[str, str]]:
    source = example("production")
    places = {
        "instance": new.instance,
        "environment": new.environment,
        "origin": new.origin,
        "public_url": new.public_url,
        "command": new.command,
        "account": f"deploy-{new.environment}",
        "etc": f"/etc/pingee-gatekeeper/{new.instance}",
        "state": f"/var/lib/pingee-gatekeeper/{new.instance}",
        "state_directory": f"pingee-gatekeeper/{new.instance}",
    }
    each = [places | {"target": target.name, "target_host": target.host, "target_port": str(target.port)} for target in new.targets]
    for whole, part in (("gatekeeper/gatekeeper.toml", "gatekeeper/target.toml"), ("vault/LAYOUT.toml", "vault/target.toml")):
        parts = "".join(_filled(source / part, one) for one in each)
        yield whole, _filled(source / whole, places) + parts
    for file in ("gatekeeper/operator-keys", "README.md"):
        yield file, _filled(source / file, places)
    for unit in (source / "systemd").iterdir():
        yield f"systemd/{_fill(unit.name, places)}", _filled(unit, places)
    for one in each:
        yield f"targets/{one['target']}/install.sh", _filled(source / "targets" / "install.sh", one)
    yield from _policy(new)


def _policy(new: NewInstance) -> Iterator[tuple[str, str]]:
    """The skeleton of the policy repository: `examples/policy`, its places marked where only people can fill them."""
    named = ", ".join(f'"{target.name}"' for target in new.targets[:1])
    texts = _Marked(
        instance=new.instance,
        project="hello",
        projects='["hello"]',
        mode='"enforce"',
        targets=f"{new.environment} = [{named}]",
        stages='["commit", "acceptance"]',
    )
    origin = "production" if new.environment not in _ENVIRONMENTS else new.environment
    for path, text in _walk(example("policy"), ""):
        if path == "README.md" or (path.startswith(("environments/", "config/")) and origin not in path):
            continue
        name = path.replace(origin, new.environment).replace("component.toml", "hello.toml").replace("project.toml", "hello.toml")
        filled = Template(text).substitute(texts).replace("demo.example", f"{MARK}.example")
        yield f"policy/{name}", filled.replace('approved = ["test", "production"]', f'approved = ["{new.environment}"]')


class _Marked(dict[str, str]):
    """The values of places; what is not known is marked."""

    def __missing__(self, key: str) -> str:
        return f"{MARK}: {key.replace('_', ' ')}"


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
    for item in sorted(folder.iterdir(), key=lambda i: i.name):
        path = f"{prefix}/{item.name}" if prefix else item.name
        if item.is_dir():
            yield from _walk(item, path)
        else:
            yield path, item.read_text("utf-8")


def _filled(file: Traversable, places: Mapping[str, str]) -> str:
    return _fill(file.read_text("utf-8"), places)


def _fill(text: str, places: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda match: places[match[1]], text)


def _named(flag: str, text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise Failure(Exit.USAGE, f"{flag} {text!r} is not a name: lowercase letters, digits and dashes, at most 32")
    return text
