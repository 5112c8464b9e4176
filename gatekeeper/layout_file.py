"""The only reader of LAYOUT.toml: what one vault is to hold. Strict: an unknown member is an error that names file and key.

    people_issuer = "https://vault.example:8200"    # stands in people's tokens

    [platform]                                      # the CI platform whose tokens name builders' runs
    issuer = "https://ci.example"
    public_key_files = ["ci.pem"]                   # relative paths are relative to this file
    audiences = ["pingee:certificates:production"]
    algorithms = ["ES256"]                          # may be left out

    [[builders]]
    id = "https://ci.example/builder"
    projects = ["hello"]

    [platforms.gitlab]                              # may be left out; another platform, under its issuer's name in the policy
    kind = "gitlab"                                 # or "github"
    issuer = "https://gitlab.example"
    jwks_url = "https://gitlab.example/oauth/discovery/keys"    # asked by the vault; or public_key_files, which pins them
    jwks_ca_file = "gitlab-ca.pem"                  # may be left out: the system's CAs
    audiences = ["pingee:certificates:production"]
    algorithms = ["RS256"]
    [[platforms.gitlab.builders]]
    id = "https://gitlab.example/group/hello"
    recipe = "gitlab.example/group/hello//.gitlab-ci.yml@refs/heads/main"
    projects = { hello = "20" }                     # our name, and the platform's number

    [[people]]
    name = "alice"
    email = "alice@example.com"
    groups = ["developers", "reviewers"]
    password_file = "passwords/alice"               # 0600

    [instances.production]
    origin = "production.example/log/2026"
    environments = ["production"]

    [instances.production.targets.web-1]
    environment = "production"
    principal = "deploy-production"
    source_address = "10.0.0.2"                     # the gatekeeper's, as the target sees it

    [[instances.production.settings]]
    environment = "production"
    component = "hello"
    values_file = "hello.toml"                      # 0600; lines of NAME = "value"

No secret stands in the file itself: passwords and settings are read from files that nobody else may read.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Final

from gatekeeper.adapters.vault_act import DeployTarget
from gatekeeper.adapters.vault_layout import Builder, ComponentSettings, Instance, Layout, Person, Platform
from gatekeeper.adapters.vault_platforms import ForeignPlatform, PlatformBuilder
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.issuer import IssuerKind
from gatekeeper.model.unfilled import sentence, unfilled

MAX_FILE: Final = 256 * 1024
_ALGORITHMS: Final = ("ES256",)


class BadLayout(ValueError):
    """The layout cannot be used; the message names file and key and says what is wrong, and holds no secret."""


def read_layout(file: Path) -> Layout:
    """Read and check a layout with every file that it names; raises `BadLayout`."""
    try:
        text = _text(file)
        document = tomllib.loads(text)
        if places := unfilled(document, text):
            raise BadLayout(f"{file}: {sentence(places)}")
        fields = Fields(document)
        layout = _Reading(file.parent.resolve()).layout(fields)
    except tomllib.TOMLDecodeError as error:
        raise BadLayout(f"{file}: {error}") from None
    except FieldError as error:
        raise BadLayout(f"{file}: {error}") from None
    except BadLayout:
        raise
    except ValueError as error:  # what the values themselves refuse: names, empty lists, two of one name
        raise BadLayout(f"{file}: {error}") from None
    return layout


class _Reading:
    def __init__(self, base: Path) -> None:
        self._base = base

    def layout(self, fields: Fields) -> Layout:
        instances = fields.nested("instances")
        layout = Layout(
            instances=tuple(self._instance(name, instances.nested(name)) for name in instances.names()),
            platform=self._platform(fields.nested("platform")),
            builders=tuple(_builder(builder) for builder in fields.objects("builders", max_items=100)),
            people=tuple(self._person(person) for person in fields.objects("people", max_items=10_000)),
            people_issuer=_https(fields, "people_issuer"),
            foreign=self._foreign(fields),
        )
        fields.done()
        if not layout.instances:
            raise fields.error("instances", "names no instance")
        _all_different(fields, "instances", [one.origin for one in layout.instances], "two instances have one origin: their logs would be one")
        _all_different(fields, "people", [one.name for one in layout.people], "two people have one name")
        _all_different(fields, "builders", [one.builder_id for one in layout.builders], "one builder is named twice")
        return layout

    def _platform(self, fields: Fields) -> Platform:
        platform = Platform(
            issuer=fields.text("issuer"),
            public_keys_pem=tuple(_text(self._base / name) for name in fields.texts("public_key_files", max_items=10)),
            audiences=fields.texts("audiences", max_items=20),
            algorithms=fields.optional("algorithms", lambda key: fields.texts(key, max_items=5)) or _ALGORITHMS,
        )
        fields.done()
        return platform

    def _foreign(self, fields: Fields) -> tuple[ForeignPlatform, ...]:
        table = fields.optional("platforms", fields.nested) or Fields({})
        return tuple(self._foreign_one(name, table.nested(name)) for name in table.names())

    def _foreign_one(self, name: str, fields: Fields) -> ForeignPlatform:
        pinned = fields.optional("public_key_files", lambda key: fields.texts(key, max_items=10)) or ()
        ca_file = fields.optional("jwks_ca_file", lambda key: fields.text(key, max_length=1024))
        platform = ForeignPlatform(
            name=name,
            kind=IssuerKind(fields.choice("kind", tuple(IssuerKind))),
            issuer=fields.text("issuer"),
            audiences=fields.texts("audiences", max_items=20),
            algorithms=fields.texts("algorithms", max_items=5),
            builders=tuple(_platform_builder(builder) for builder in fields.objects("builders", max_items=100)),
            public_keys_pem=tuple(_text(self._base / file) for file in pinned),
            jwks_url=_https(fields, "jwks_url") if fields.has("jwks_url") else "",
            jwks_ca_pem="" if ca_file is None else _text(self._base / ca_file),
        )
        fields.done()
        return platform

    def _person(self, fields: Fields) -> Person:
        password_file = self._base / fields.text("password_file", max_length=1024)
        person = Person(
            name=fields.name("name"),
            email=fields.text("email"),
            groups=fields.texts("groups", max_items=100),
            password=_secret(password_file).strip(),
        )
        fields.done()
        if not person.password:
            raise BadLayout(f"{password_file}: holds no password")
        return person

    def _instance(self, name: str, fields: Fields) -> Instance:
        targets = fields.optional("targets", fields.nested) or Fields({})
        settings = fields.objects("settings", max_items=1000) if fields.has("settings") else ()
        instance = Instance(
            name=name,
            origin=fields.text("origin", max_length=200),
            environments=fields.texts("environments", max_items=100),
            targets=tuple(_target(target, targets.nested(target)) for target in targets.names()),
            settings=tuple(self._settings(one) for one in settings),
        )
        fields.done()
        return instance

    def _settings(self, fields: Fields) -> ComponentSettings:
        values = self._values(self._base / fields.text("values_file", max_length=1024))
        settings = ComponentSettings(environment=fields.name("environment"), component=fields.name("component"), values=values)
        fields.done()
        return settings

    def _values(self, file: Path) -> dict[str, str]:
        try:
            fields = Fields(tomllib.loads(_secret(file)))
            return {name: fields.text(name, max_length=32 * 1024) for name in fields.names()}
        except tomllib.TOMLDecodeError:
            # Its message may quote the line, which holds the secret.
            raise BadLayout(f"{file}: not TOML: lines of NAME = \"value\" are expected") from None
        except FieldError as error:
            raise BadLayout(f"{file}: {error}") from None


def _builder(fields: Fields) -> Builder:
    builder = Builder(builder_id=fields.text("id"), projects=fields.texts("projects"))
    fields.done()
    return builder


def _platform_builder(fields: Fields) -> PlatformBuilder:
    projects = fields.nested("projects")
    builder = PlatformBuilder(
        builder_id=fields.text("id"),
        recipe=fields.text("recipe", max_length=1024),
        projects={name: projects.text(name) for name in projects.names()},
    )
    fields.done()
    return builder


def _target(name: str, fields: Fields) -> DeployTarget:
    target = DeployTarget(
        name=name,
        environment=fields.name("environment"),
        principal=fields.name("principal"),
        source_address=fields.text("source_address"),
    )
    fields.done()
    return target


def _all_different(fields: Fields, key: str, values: list[str], otherwise: str) -> None:
    if len(set(values)) != len(values):
        raise fields.error(key, otherwise)


def _https(fields: Fields, key: str) -> str:
    url = fields.text(key)
    if not url.startswith("https://"):
        raise fields.error(key, "must be an https URL")
    return url.rstrip("/")


def _secret(file: Path) -> str:
    return _text(file, private=True)


def _text(file: Path, *, private: bool = False) -> str:
    try:
        with file.open("rb") as opened:
            # Of the file that is read, not of what its name leads to a moment later.
            if private and os.fstat(opened.fileno()).st_mode & 0o077:
                raise BadLayout(f"{file}: others can read it, and it holds a secret: chmod 600")
            data = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise BadLayout(f"{file}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise BadLayout(f"{file}: more than {MAX_FILE} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadLayout(f"{file}: not UTF-8") from None
