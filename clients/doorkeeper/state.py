"""What a doorkeeper remembers: `state.json`, strict JSON, replaced atomically and fsynced.

A missing file is not an empty memory: `install` writes the first one, so whoever deletes it gets a refusal and not a doorkeeper without a past.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Final

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest
from gatekeeper.model.fields import Fields
from gatekeeper.model.strictjson import parse_object

from .files import Place, Unreadable, read_bounded, write_durably

MAX_STATE: Final = 1024 * 1024
MAX_KEYS: Final = 256 * 1024
"""bytes of all key histories together"""
MAX_ORIGINS: Final = 8
MAX_ORDERS: Final = 32
"""override orders remembered: those that could still be used, and those not reported yet"""
MAX_CLOSED: Final = 32
"""origins left; an older one is forgotten, and with it nothing that is still believed"""


@unique
class Outcome(StrEnum):
    """What became of the last receipt of a component. The words are those of `status`."""

    HEALTHY = "healthy"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    IN_PROGRESS = "in-progress"
    INTERRUPTED = "interrupted"
    """cut short in mid-apply, and put right since: what was healthy before runs, or nothing where nothing did"""


@dataclass(frozen=True)
class Remembered:
    """The newest checkpoint accepted. `note` is kept whole: beside a contradicting one it is the proof of a fork."""

    origin: str
    size: int
    root: bytes
    note: bytes


@dataclass(frozen=True)
class ClosedOrigin:
    """An origin that this target has left for the next one: what it remembered of it, and the note that closed it."""

    origin: str
    note: bytes
    """the newest checkpoint that was accepted here"""
    previous: bytes
    """the last note of the origin, as entry 0 of the next one has it; empty where a person installed files for the next one"""


@dataclass(frozen=True)
class Release:
    """One deployment that was seen healthy: enough to start it again. What was adopted has no receipt and goes by its artifact's digest."""

    artifact: Digest
    receipt: Digest
    config: str | None
    argv: tuple[str, ...]
    health: str
    grace_s: int


@dataclass(frozen=True)
class KeptRelease:
    """A deployment that was healthy here, whose artifact and settings are kept."""

    artifact: Digest
    receipt: Digest
    config: str | None


@dataclass(frozen=True)
class SpentOrder:
    """An override order that was accepted here, and what became of it. `envelope` is the order as it was signed."""

    order: Digest
    component: str
    digest: Digest
    signers: tuple[str, ...]
    not_after: str
    applied_at: str
    outcome: Outcome
    detail: str
    record: Digest
    """the record's line that says so"""
    envelope: bytes
    reported: bool
    """the gatekeeper said that its log has it"""


@dataclass(frozen=True)
class ComponentMemory:
    """One component: the last decision accepted, what became of it, and the release that was last seen healthy."""

    index: int
    slot: int | None
    receipt: Digest
    outcome: Outcome
    detail: str
    cosignature: str
    size: int
    at: str
    healthy: Release | None
    kept: tuple[KeptRelease, ...] = ()
    """newest first, each artifact once"""
    override: Digest | None = None
    """the order by which `healthy` runs, where it was no deploy"""
    origin: str | None = None
    """of the log that `index` and `size` are of; None, in a state from before origins could be left: of the one remembered"""


@dataclass(frozen=True)
class Memory:
    """All of `state.json`."""

    checkpoint: Remembered | None
    components: tuple[tuple[str, ComponentMemory], ...]
    adopted: tuple[tuple[str, Release], ...] = ()
    """what ran before any receipt, by component; kept for ever"""
    orders: tuple[SpentOrder, ...] = ()
    """oldest first"""
    keys: tuple[bytes, ...] = ()
    """key histories (`tlog.keyhistory`) that were followed, one for each origin: evidence, verified again each time"""
    closed: tuple[ClosedOrigin, ...] = ()
    """oldest first"""

    def component(self, name: str) -> ComponentMemory | None:
        """The memory of one component."""
        return dict(self.components).get(name)

    def origin_of(self, component: ComponentMemory) -> str | None:
        """The origin that a component's index is of."""
        return component.origin or (None if self.checkpoint is None else self.checkpoint.origin)

    def with_component(self, name: str, memory: ComponentMemory) -> Memory:
        """A copy in which one component's memory is replaced."""
        return replace(self, components=tuple(sorted({**dict(self.components), name: memory}.items())))

    def healthy(self, name: str) -> Release | None:
        """What would be put back: the release last seen healthy, or what was adopted where no receipt was ever accepted."""
        known = self.component(name)
        return dict(self.adopted).get(name) if known is None else known.healthy

    def order(self, digest: Digest) -> SpentOrder | None:
        """A spent order that is still remembered."""
        return next((spent for spent in self.orders if spent.order == digest), None)

    def with_order(self, spent: SpentOrder) -> Memory:
        """A copy in which one order has been added, or replaced where it stands."""
        if self.order(spent.order) is None:
            return replace(self, orders=(*self.orders, spent))
        return replace(self, orders=tuple(spent if old.order == spent.order else old for old in self.orders))


NOTHING: Final = Memory(None, ())


def load_memory(place: Place) -> Memory:
    """Read the memory. Raises `Unreadable` for anything but a file this module wrote."""
    data = read_bounded(place.state, MAX_STATE)
    try:
        return parse_memory(data)
    except ValueError as error:
        raise Unreadable(f"state.json: {error}") from error


def save_memory(place: Place, memory: Memory) -> None:
    """Write the memory durably. Raises `Unreadable` where that fails: then nothing may be acted upon."""
    try:
        write_durably(place.state, encode_memory(memory))
    except OSError as error:
        raise Unreadable(f"state.json could not be made durable: {error.strerror}") from error


def encode_memory(memory: Memory) -> bytes:
    """The file's bytes."""
    return encode_canonical(
        {
            "v": 1,
            "checkpoint": None if memory.checkpoint is None else _checkpoint_json(memory.checkpoint),
            "components": {name: _component_json(component) for name, component in memory.components},
            "adopted": {name: _release_json(release) for name, release in memory.adopted},
            "orders": [_order_json(spent) for spent in memory.orders],
            "keys": [base64.b64encode(document).decode() for document in memory.keys],
            "closed": [_closed_json(origin) for origin in memory.closed],
        }
    )


def parse_memory(data: bytes) -> Memory:
    """Read the file's bytes strictly. Raises `MalformedJson`, `FieldError` or `ValueError`."""
    fields = Fields(parse_object(data, max_bytes=MAX_STATE))
    fields.integer("v", minimum=1, maximum=1)
    table = fields.nested("components")
    memory = Memory(
        checkpoint=None if fields.raw("checkpoint") is None else _parse_checkpoint(fields.nested("checkpoint")),
        components=tuple(sorted((name, _parse_component(table.nested(name))) for name in table.names())),
        adopted=_parse_adopted(fields),
        # A state written before there were overrides has no such member.
        orders=tuple(_parse_order(item) for item in fields.objects("orders", max_items=MAX_ORDERS)) if fields.has("orders") else (),
        keys=_parse_keys(fields),
        closed=tuple(_parse_closed(item) for item in fields.objects("closed", max_items=MAX_CLOSED)) if fields.has("closed") else (),
    )
    fields.done()
    return memory


def _parse_adopted(fields: Fields) -> tuple[tuple[str, Release], ...]:
    # A state written before anything could be adopted has no such member.
    table = fields.optional("adopted", fields.nested)
    return () if table is None else tuple(sorted((name, _parse_release(table.nested(name))) for name in table.names()))


def _parse_keys(fields: Fields) -> tuple[bytes, ...]:
    # A state written before any key could be followed has no such member.
    documents = fields.optional("keys", lambda key: fields.texts(key, max_items=MAX_ORIGINS, max_length=2 * MAX_KEYS)) or ()
    try:
        return tuple(base64.b64decode(document.encode(), validate=True) for document in documents)
    except binascii.Error as error:
        raise fields.error("keys", "is not base64") from error


def _checkpoint_json(checkpoint: Remembered) -> dict[str, Json]:
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": base64.b64encode(checkpoint.root).decode(),
        "note": base64.b64encode(checkpoint.note).decode(),
    }


def _parse_checkpoint(fields: Fields) -> Remembered:
    checkpoint = Remembered(fields.text("origin"), fields.integer("size"), _bytes(fields, "root"), _bytes(fields, "note"))
    if len(checkpoint.root) != 32:
        raise fields.error("root", "is not 32 bytes")
    fields.done()
    return checkpoint


def _bytes(fields: Fields, key: str) -> bytes:
    try:
        return base64.b64decode(fields.text(key, max_length=128 * 1024).encode(), validate=True)
    except binascii.Error as error:
        raise fields.error(key, "is not base64") from error


def _component_json(component: ComponentMemory) -> dict[str, Json]:
    return {
        "index": component.index,
        "slot": component.slot,
        "receipt": component.receipt,
        "outcome": component.outcome.value,
        "detail": component.detail,
        "cosignature": component.cosignature,
        "size": component.size,
        "at": component.at,
        "healthy": None if component.healthy is None else _release_json(component.healthy),
        "kept": [{"artifact": kept.artifact, "receipt": kept.receipt, "config": kept.config} for kept in component.kept],
        "override": component.override,
        "origin": component.origin,
    }


def _closed_json(closed: ClosedOrigin) -> dict[str, Json]:
    notes = {"note": closed.note, "previous": closed.previous}
    return {"origin": closed.origin, **{name: base64.b64encode(note).decode() for name, note in notes.items()}}


def _parse_closed(fields: Fields) -> ClosedOrigin:
    previous = fields.text("previous", max_length=128 * 1024, min_length=0)
    closed = ClosedOrigin(fields.text("origin"), _bytes(fields, "note"), _bytes(fields, "previous") if previous else b"")
    fields.done()
    return closed


def _parse_component(fields: Fields) -> ComponentMemory:
    component = ComponentMemory(
        index=fields.integer("index"),
        slot=fields.optional("slot", fields.integer),
        receipt=fields.digest("receipt"),
        outcome=Outcome(fields.choice("outcome", tuple(o.value for o in Outcome))),
        detail=fields.text("detail", max_length=1024, min_length=0),
        cosignature=fields.text("cosignature", max_length=1024),
        size=fields.integer("size"),
        at=fields.text("at"),
        healthy=None if fields.raw("healthy") is None else _parse_release(fields.nested("healthy")),
        kept=tuple(_parse_kept(item) for item in fields.objects("kept", max_items=100)) if fields.has("kept") else (),
        override=fields.optional("override", fields.digest),
        origin=fields.optional("origin", fields.text),
    )
    fields.done()
    return component


def _parse_kept(fields: Fields) -> KeptRelease:
    kept = KeptRelease(fields.digest("artifact"), fields.digest("receipt"), fields.optional("config", fields.text))
    fields.done()
    return kept


def _order_json(spent: SpentOrder) -> dict[str, Json]:
    return {
        "order": spent.order,
        "component": spent.component,
        "digest": spent.digest,
        "signers": list(spent.signers),
        "not_after": spent.not_after,
        "applied_at": spent.applied_at,
        "outcome": spent.outcome.value,
        "detail": spent.detail,
        "record": spent.record,
        "envelope": base64.b64encode(spent.envelope).decode(),
        "reported": spent.reported,
    }


def _parse_order(fields: Fields) -> SpentOrder:
    spent = SpentOrder(
        order=fields.digest("order"),
        component=fields.name("component"),
        digest=fields.digest("digest"),
        signers=fields.texts("signers", max_items=2),
        not_after=fields.text("not_after"),
        applied_at=fields.text("applied_at"),
        outcome=Outcome(fields.choice("outcome", tuple(o.value for o in Outcome))),
        detail=fields.text("detail", max_length=1024, min_length=0),
        record=fields.digest("record"),
        envelope=_bytes(fields, "envelope"),
        reported=fields.boolean("reported"),
    )
    fields.done()
    return spent


def _release_json(release: Release) -> dict[str, Json]:
    return {
        "artifact": release.artifact,
        "receipt": release.receipt,
        "config": release.config,
        "argv": list(release.argv),
        "health": release.health,
        "grace_s": release.grace_s,
    }


def _parse_release(fields: Fields) -> Release:
    release = Release(
        artifact=fields.digest("artifact"),
        receipt=fields.digest("receipt"),
        config=fields.optional("config", fields.text),
        argv=fields.texts("argv", max_items=256, max_length=4096),
        health=fields.text("health", max_length=1024),
        grace_s=fields.integer("grace_s"),
    )
    fields.done()
    return release
