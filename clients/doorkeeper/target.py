"""The files a doorkeeper is installed with: what it believes, and what it may run. It fetches none of them and changes none of them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from gatekeeper.model.fields import Fields
from gatekeeper.model.moment import Moment
from gatekeeper.tlog.keyring import Keyring, installed_keys
from gatekeeper.tlog.kinds import KeyUse
from gatekeeper.tlog.logpolicy import LogPolicy, parse_log_policy
from gatekeeper.verify.receipt import ReceiptKey, parse_receipt_keys, parse_receipt_spki, receipt_spki
from gatekeeper.verify.twopeople import parse_people_keys

from .files import Place, Unreadable, read_bounded

MAX_FILE: Final = 64 * 1024


@dataclass(frozen=True)
class Caps:
    """Bounds that the target's owner sets."""

    layer_bytes: int = 512 * 1024 * 1024
    unpacked_bytes: int = 1024 * 1024 * 1024
    entries: int = 20_000
    log_bytes: int = 4 * 1024 * 1024
    """of one component's output file; one older file of the same size is kept"""
    grace_s: int = 120
    """the longest grace an artifact may ask for"""
    releases: int = 5
    """releases kept for each component"""


@dataclass(frozen=True)
class ComponentSlot:
    """One component that may run here. `restart` empty: we run it ourselves and tell it `port`; else that command restarts it."""

    name: str
    port: int
    """where it answers on 127.0.0.1"""
    restart: tuple[str, ...]
    health: str | None
    """a health path that takes the place of the artifact's"""


@dataclass(frozen=True)
class InstalledTarget:
    """The content of `target.toml`."""

    name: str
    instance: str
    environment: str
    components: tuple[ComponentSlot, ...]
    caps: Caps
    override_any: bool = False
    """an override may name whatever is kept here, not the rollback bundle's members alone"""

    def component(self, name: str) -> ComponentSlot | None:
        """The slot of that name."""
        return next((c for c in self.components if c.name == name), None)


@dataclass(frozen=True)
class Pinned:
    """All that a doorkeeper believes."""

    target: InstalledTarget
    log_policy: LogPolicy
    receipt_keys: tuple[ReceiptKey, ...]
    first_checkpoint: bytes | None
    override_keys: Mapping[str, tuple[bytes, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """people by name, each with one or more Ed25519 keys; empty: nobody can order an override here"""
    keys: Keyring | None = None
    """the installed keys and those that followed; None: the installed ones alone"""

    def ring(self) -> Keyring:
        """All keys that are trusted here, and until when."""
        return self.keys or installed_keys(self.log_policy, map(receipt_spki, self.receipt_keys))

    def policy_at(self, at: Moment | None) -> LogPolicy:
        """The log policy with the keys from which a checkpoint may be taken at that time; None: with all that ever were."""
        return self.ring().policy(self.log_policy, at)

    def receipt_keys_at(self, at: Moment | None) -> tuple[ReceiptKey, ...]:
        """The keys that a receipt of that date may be signed by; None: all that ever were."""
        return tuple(parse_receipt_spki(text) for text in self.ring().in_force(KeyUse.RECEIPT, at))


def load_pinned(place: Place) -> Pinned:
    """Read every installed file. Raises `Unreadable`: nothing starts without them."""
    try:
        target = parse_target(read_bounded(place.target_file, MAX_FILE))
        policy = parse_log_policy(read_bounded(place.log_policy, MAX_FILE))
        keys = parse_receipt_keys(read_bounded(place.receipt_keys, MAX_FILE))
        people = parse_override_keys(read_bounded(place.override_keys, MAX_FILE)) if place.override_keys.exists() else {}
    except ValueError as error:
        raise Unreadable(f"installed files: {error}") from error
    first = read_bounded(place.first_checkpoint, MAX_FILE) if place.first_checkpoint.exists() else None
    return Pinned(target, policy, keys, first, MappingProxyType(people))


def parse_override_keys(data: bytes) -> dict[str, tuple[bytes, ...]]:
    """See `parse_people_keys`: the people who may order an override here. Raises `ValueError`."""
    return parse_people_keys(data, file="override-keys")


def parse_target(data: bytes) -> InstalledTarget:
    """Read `target.toml` strictly. Raises `FieldError` or `ValueError`."""
    fields = Fields(tomllib.loads(data.decode("utf-8")))
    fields.integer("version", minimum=1, maximum=1)
    # Sealed decisions are not taken by this version: a file that asks for them must not be read as if they were.
    if fields.has("sealed"):
        fields.choice("sealed", ("refused",))
    target = InstalledTarget(
        name=fields.name("target"),
        instance=fields.name("instance"),
        environment=fields.name("environment"),
        components=_components(fields),
        caps=fields.optional("caps", lambda key: _caps(fields.nested(key))) or Caps(),
        override_any=fields.optional("override", lambda key: fields.choice(key, ("rollback-bundle", "any"))) == "any",
    )
    fields.done()
    return target


def _components(fields: Fields) -> tuple[ComponentSlot, ...]:
    table = fields.nested("components")
    names = table.names()
    if not names:
        raise fields.error("components", "names no component: nothing may run here")
    return tuple(_component(name, table) for name in names)


def _component(name: str, table: Fields) -> ComponentSlot:
    Fields({name: name}, table.pointer).name(name)
    fields = table.nested(name)
    restart = fields.optional("restart", lambda key: fields.texts(key, max_items=32)) or ()
    port_key = "health_port" if restart else "port"
    if restart and not restart[0].startswith("/"):
        raise fields.error("restart", "must begin with an absolute path")
    slot = ComponentSlot(
        name=name,
        port=fields.integer(port_key, minimum=1, maximum=65_535),
        restart=restart,
        health=fields.optional("health", fields.text),
    )
    fields.done()
    return slot


def _caps(fields: Fields) -> Caps:
    default = Caps()

    def cap(key: str, otherwise: int, maximum: int) -> int:
        value = fields.optional(key, lambda k: fields.integer(k, minimum=1, maximum=maximum))
        return otherwise if value is None else value

    caps = Caps(
        layer_bytes=cap("layer_bytes", default.layer_bytes, 2**31),
        unpacked_bytes=cap("unpacked_bytes", default.unpacked_bytes, 2**34),
        entries=cap("entries", default.entries, 1_000_000),
        log_bytes=cap("log_bytes", default.log_bytes, 2**30),
        grace_s=cap("grace_s", default.grace_s, 900),
        releases=cap("releases", default.releases, 100),
    )
    fields.done()
    return caps
