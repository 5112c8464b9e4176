"""From a frame to a running workload: read, check, remember, switch, look, put back.

The order, and what a crash at each point means:

1. parts are read and checked: nothing has changed, the receipt is unspent; the rollback bundle is stored;
2. checkpoint, index and receipt are stored as `in-progress`, durably: from here the receipt is spent;
3. release and settings are written: the old workload still runs;
4. the workload is switched and asked for its health: one or the other runs, or none;
5. `healthy`, `rolled-back` or `failed` is stored: the outcome is known.

Whoever opens the doorkeeper next and finds `in-progress` without the lock held knows that 2 to 5 was cut short. `recover` then does not go on
with what it cannot finish (the frame is gone) but puts back the release last seen healthy, and says `interrupted`, or `failed` where that does
not become healthy again. It is never told as healthy; the gatekeeper decides anew.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gatekeeper.model.canonical import Json
from gatekeeper.model.digest import Digest, digest_hex
from gatekeeper.model.frame import MalformedFrame, PartName, PartSpec
from gatekeeper.model.moment import Moment, render_moment
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.document import Configuration

from . import checks
from .artifact import Run, parse_config, parse_manifest
from .bundle import Bundle, check_arriving
from .cosign import Cosigner, load_cosigner
from .files import Place, Unreadable, make_private, write_durably
from .incoming import Incoming, WrongBytes
from .keep import forget_all_but, is_kept, keep_artifact, open_kept
from .keys import believe
from .origins import Fork, leave
from .record import Record
from .settings import join_settings, parse_settings
from .state import ComponentMemory, KeptRelease, Memory, Outcome, Release, Remembered, SpentOrder, save_memory
from .sweep import sweep
from .target import ComponentSlot, Pinned
from .unpack import UnsafeArchive, unpack_layer
from .workload import NotStarted, is_alive, switch_off, switch_on, wait_healthy

BEAT_S: Final = 20.0
"""seconds between signs of life; the gatekeeper misses one after 60"""
MAX_DETAIL: Final = 500
MAX_FORKS: Final = 64
ROOM: Final = 256 * 1024
"""bytes that must be left beside the unpacked release: for memory, record, settings and logs"""

_BLOBS: Final = frozenset({PartName.MANIFEST, PartName.CONFIG, PartName.LAYER})

Say = Callable[[dict[str, Json]], None]
Now = Callable[[], Moment]


@dataclass(frozen=True)
class Applied:
    """Stored and done: `exit_code` 0 healthy, 6 put back or nothing to put back, 1 not even switched."""

    memory: ComponentMemory
    exit_code: int


class Unsettled(Unreadable):
    """The receipt was accepted, or may have been, and then our own memory could not be written: only the next `status` can tell what runs."""

    def __init__(self, receipt: Digest, why: str) -> None:
        super().__init__(why)
        self.receipt = receipt


@dataclass(frozen=True)
class Doorkeeper:
    """One doorkeeper at work, under its lock."""

    place: Place
    pinned: Pinned
    record: Record
    cosigner: Cosigner
    say: Say
    now: Now

    @classmethod
    def open(cls, place: Place, pinned: Pinned, *, say: Say, now: Now) -> Doorkeeper:
        """Raises `Unreadable` where the cosigner's key is not there."""
        return cls(place, pinned, Record(place), load_cosigner(place, pinned.target), say, now)

    def believed(self, memory: Memory) -> Pinned:
        """The installed files with the keys that were followed."""
        return believe(self.pinned, memory, self.now()).pinned

    def recover(self, memory: Memory) -> Memory:
        """Put back what a crash left in between, and away what it left half-written. Called with the lock held, before anything else."""
        sweep(self.place)
        for name, component in memory.components:
            slot = self.pinned.target.component(name)
            if component.outcome is not Outcome.IN_PROGRESS or slot is None:
                continue
            problem = self.restore(slot, component.healthy)
            outcome = Outcome.INTERRUPTED if problem is None or component.healthy is None else Outcome.FAILED
            detail = "interrupted; " + ("the previous release runs" if problem is None else problem)
            memory = self._settle(memory, name, replace(component, outcome=outcome, detail=detail[:MAX_DETAIL]))
        for spent in memory.orders:
            memory = self._recover_order(memory, spent)
        return memory

    def _recover_order(self, memory: Memory, spent: SpentOrder) -> Memory:
        slot, component = self.pinned.target.component(spent.component), memory.component(spent.component)
        if spent.outcome is not Outcome.IN_PROGRESS or slot is None or component is None:
            return memory
        problem = self.restore(slot, component.healthy)
        outcome = Outcome.INTERRUPTED if problem is None or component.healthy is None else Outcome.FAILED
        detail = "interrupted; " + ("the previous release runs" if problem is None else problem)
        return self.settle_order(memory, replace(spent, outcome=outcome, detail=detail[:MAX_DETAIL]))[0]

    def settle_order(self, memory: Memory, spent: SpentOrder) -> tuple[Memory, SpentOrder]:
        """Say what became of an order, in the record and then in the state, which names the record's line."""
        said: dict[str, Json] = {"order": spent.order, "detail": spent.detail}
        spent = replace(spent, record=self.record.append(self.now(), f"override-{spent.outcome.value}", said))
        memory = memory.with_order(spent)
        save_memory(self.place, memory)
        return memory, spent

    def apply(self, incoming: Incoming, named: Digest, memory: Memory) -> Applied | checks.Behind | Refusal:
        """Take one frame. Raises `MalformedFrame` (or another ValueError) for bytes that are no frame of ours, and `Unreadable`."""
        parts = {spec.name: spec for spec in incoming.header()}
        beat = self.beat("receiving")
        found = self._read_offer(incoming, parts, named, memory)
        if not isinstance(found, checks.Acceptable):
            return found
        self.say({"progress": "checked", "detail": ""})
        layer = self.place.incoming / secrets.token_hex(16)
        try:
            with _own_disk("the layer could not be written"):
                make_private(layer.parent)
                received = self._read_artifact(incoming, parts, found, layer, beat)
            if isinstance(received, Refusal):
                return received
            expired = checks.check_expiry(found.statement, self.now())
            if expired is not None:
                return expired
            self._demand_room(layer)
            return self._act(found, received, layer, memory)
        finally:
            layer.unlink(missing_ok=True)

    def refuse(self, named: Digest, refusal: Refusal) -> None:
        """Write a refusal into the record, and keep both notes of a fork."""
        self.record.append(self.now(), "refused", {"receipt": named, "code": refusal.reason, "detail": refusal.detail[:MAX_DETAIL]})
        if isinstance(refusal, Fork):
            with _own_disk("the evidence of a fork could not be kept"):
                make_private(self.place.forks)
                if sum(1 for _ in self.place.forks.iterdir()) < MAX_FORKS:
                    name = f"{int(self.now().timestamp())}-{secrets.token_hex(4)}"
                    write_durably(self.place.forks / name, b"\n".join(refusal.notes))

    def _read_offer(self, incoming: Incoming, parts: dict[PartName, PartSpec], named: Digest, memory: Memory) -> checks.Verdicts:
        read: dict[PartName, bytes] = {}
        for name in (PartName.RECEIPT, PartName.PROOF, PartName.CONSISTENCY, PartName.KEYS, PartName.ORIGINS):
            if name not in parts:
                if name in (PartName.KEYS, PartName.ORIGINS):
                    continue
                return Refusal("receipt-missing", f"the frame has no {name.value}")
            try:
                read[name] = incoming.part(parts[name])
            except WrongBytes as error:
                return Refusal("digest-mismatch", str(error))
        offer = checks.Offer(
            receipt=read[PartName.RECEIPT],
            proof=read[PartName.PROOF],
            consistency=read[PartName.CONSISTENCY],
            opening=PartName.OPENING in parts,
            keys=read.get(PartName.KEYS),
            origins=read.get(PartName.ORIGINS),
        )
        return checks.check_offer(offer, named=named, pinned=self.pinned, memory=memory, at=self.now())

    def _read_artifact(
        self,
        incoming: Incoming,
        parts: dict[PartName, PartSpec],
        found: checks.Acceptable,
        layer: Path,
        beat: Callable[[str], None],
    ) -> _Received | Refusal:
        try:
            bundle = self._read_bundle(incoming, parts, found)
            if isinstance(bundle, Refusal):
                return bundle
            if not parts.keys() & _BLOBS:
                return self._read_kept(incoming, parts, found, layer, bundle)
            manifest = incoming.part(_needed(parts, PartName.MANIFEST))
            refused = checks.check_manifest(manifest, found.statement)
            if refused is not None:
                return refused
            config, layer_spec = incoming.part(_needed(parts, PartName.CONFIG)), _needed(parts, PartName.LAYER)
            refused = checks.check_config(config, parse_manifest(manifest), layer_spec.sha256, layer_spec.size)
            if refused is not None:
                return refused
            run = parse_config(config)
            refused = checks.check_run(run, found.statement)
            if refused is not None:
                return refused
            configuration = checks.check_configuration(incoming.part(_needed(parts, PartName.CONFIGURATION)), found.statement)
            if isinstance(configuration, Refusal):
                return configuration
            if layer_spec.size > self.pinned.target.caps.layer_bytes:
                raise MalformedFrame("the layer is over this target's bound")
            incoming.part_to_file(layer_spec, layer, beat=beat)
            return _received(run, configuration, incoming, parts, bundle, (manifest, config))
        except WrongBytes as error:
            return Refusal("digest-mismatch", str(error))


    def _read_bundle(self, incoming: Incoming, parts: dict[PartName, PartSpec], found: checks.Acceptable) -> _Arrived | Refusal | None:
        # None: a gatekeeper from before there were bundles. What may be brought back then stays what the last bundle said.
        if PartName.ROLLBACK_BUNDLE not in parts:
            return None
        data = incoming.part(parts[PartName.ROLLBACK_BUNDLE])
        bundle = check_arriving(data, found, self.now())
        return bundle if isinstance(bundle, Refusal) else _Arrived(data, bundle)

    def _read_kept(
        self, incoming: Incoming, parts: dict[PartName, PartSpec], found: checks.Acceptable, layer: Path, bundle: _Arrived | None
    ) -> _Received | Refusal:
        """The frame leaves the artifact out: it is one whose bytes lie here. They are hashed again, from the digest that was decided on."""
        statement = found.statement
        if not is_kept(self.place, statement.component, statement.subject):
            raise MalformedFrame("the frame has no manifest, and nothing is kept here under that digest")
        configuration = checks.check_configuration(incoming.part(_needed(parts, PartName.CONFIGURATION)), statement)
        if isinstance(configuration, Refusal):
            return configuration
        try:
            run, kept = open_kept(self.place, statement.component, statement.subject)
        except Unreadable as error:
            return Refusal("digest-mismatch", str(error))
        # A copy is what gets unpacked and moved about: what is kept stays where it is.
        with _own_disk("the kept release could not be copied"):
            shutil.copyfile(kept, layer)
        return _received(run, configuration, incoming, parts, bundle)

    def _demand_room(self, layer: Path) -> None:
        # Before the receipt is spent: what cannot be unpacked should be refused while it can still be sent again.
        disk = os.statvfs(self.place.var)
        if disk.f_bavail * disk.f_frsize < layer.stat().st_size + ROOM:
            raise Unreadable("there is no room for the release: No space left on device")

    def _act(self, found: checks.Acceptable, received: _Received, layer: Path, memory: Memory) -> Applied:
        statement, at = found.statement, self.now()
        slot = self.pinned.target.component(statement.component)
        assert slot is not None  # noqa: S101 -- check_offer refuses a component without a slot
        previous = memory.component(slot.name)
        component = ComponentMemory(
            index=found.index,
            slot=None,
            receipt=found.receipt,
            outcome=Outcome.IN_PROGRESS,
            detail="",
            cosignature=self.cosigner.cosign(found.checkpoint.note, at),
            size=found.checkpoint.size,
            at=render_moment(at),
            healthy=memory.healthy(slot.name),
            kept=() if previous is None else previous.kept,
            override=None if previous is None else previous.override,
            origin=found.checkpoint.origin,
        )
        checkpoint = Remembered(found.checkpoint.origin, found.checkpoint.size, found.checkpoint.root, found.checkpoint.note)
        memory = leave(replace(memory, checkpoint=checkpoint, keys=found.believed.keys), found.left).with_component(slot.name, component)
        # Recorded first: a record that cannot be written refuses while the receipt is still unspent.
        for left in found.left:
            self.record.append(at, "origin-left", {"origin": left.origin, "for": checkpoint.origin, "receipt": found.receipt})
        self.record.append(at, "accepted", {"receipt": found.receipt, "artifact": statement.subject, "index": found.index})
        memory = self._store_bundle(slot, received.bundle, memory)
        release = Release(
            artifact=statement.subject,
            receipt=found.receipt,
            config=statement.candidate_config,
            argv=received.run.argv,
            health=received.run.health,
            grace_s=min(received.run.grace_s, self.pinned.target.caps.grace_s),
        )
        try:
            save_memory(self.place, memory)
            component, exit_code = self._install(slot, release, component, received, layer)
            self._settle(memory, slot.name, component)
        except Unreadable as error:
            raise Unsettled(found.receipt, str(error)) from error
        forget_all_but(self.place, slot.name, component, dict(memory.adopted).get(slot.name))
        return Applied(component, exit_code)

    def _store_bundle(self, slot: ComponentSlot, arrived: _Arrived | None, memory: Memory) -> Memory:
        if arrived is None:
            return memory
        path = self.place.rollback_bundle(slot.name)
        try:
            make_private(path.parent)
            write_durably(path, arrived.data)
        except OSError as error:
            raise Unreadable(f"rollback-bundle could not be made durable: {error.strerror}") from error
        reported = set(arrived.bundle.reported)
        return replace(memory, orders=tuple(replace(spent, reported=spent.reported or spent.order in reported) for spent in memory.orders))

    def _install(
        self, slot: ComponentSlot, release: Release, component: ComponentMemory, received: _Received, layer: Path
    ) -> tuple[ComponentMemory, int]:
        try:
            beat = self.beat("unpacking")
            unpack_layer(layer, self.place.release(slot.name, digest_hex(release.artifact)), self.pinned.target.caps, beat=beat)
            path = self.place.settings(slot.name, digest_hex(release.receipt))
            make_private(path.parent)
            write_durably(path, received.settings)
            if received.blobs is not None:
                keep_artifact(self.place, slot.name, *received.blobs, layer)
        except (UnsafeArchive, OSError) as error:
            why = str(error) if isinstance(error, UnsafeArchive) else f"the release cannot be written: {error.strerror}"
            return replace(component, outcome=Outcome.FAILED, detail=why[:MAX_DETAIL]), 1
        problem = self.switch(slot, release)
        if problem is None:
            others = (kept for kept in component.kept if kept.artifact != release.artifact)
            kept = (KeptRelease(release.artifact, release.receipt, release.config), *others)[: self.pinned.target.caps.releases]
            return replace(component, outcome=Outcome.HEALTHY, healthy=release, kept=kept, override=None), 0
        not_restored = self.restore(slot, component.healthy)
        if not_restored is None:
            return replace(component, outcome=Outcome.ROLLED_BACK, detail=problem[:MAX_DETAIL]), 6
        return replace(component, outcome=Outcome.FAILED, detail=f"{problem}; {not_restored}"[:MAX_DETAIL]), 6

    def switch(self, slot: ComponentSlot, release: Release) -> str | None:
        """Start a release and wait until it is healthy. None: it is; else why not, in words."""
        self.say({"progress": "restarting", "detail": ""})
        try:
            switch_on(self.place, slot, release, self.pinned.target.caps)
        except (NotStarted, Unreadable, OSError, ValueError) as error:
            return str(error) if isinstance(error, NotStarted | Unreadable) else f"cannot be started: {type(error).__name__}"
        return wait_healthy(self.place, slot, release, beat=self.beat("health"))

    def restore(self, slot: ComponentSlot, release: Release | None) -> str | None:
        """Put a release back. None: it runs and is healthy; else what stands in the way of that, in words."""
        self.say({"progress": "restoring", "detail": ""})
        if release is None:
            switch_off(self.place, slot)
            return "there is no previous release to put back"
        untouched = not slot.restart and is_alive(self.place, slot, release.receipt)
        problem = wait_healthy(self.place, slot, release, beat=self.beat("health")) if untouched else self.switch(slot, release)
        return None if problem is None else f"the previous release could not be put back: {problem}"

    def _settle(self, memory: Memory, name: str, component: ComponentMemory) -> Memory:
        memory = memory.with_component(name, component)
        save_memory(self.place, memory)
        self.record.append(self.now(), component.outcome.value, {"receipt": component.receipt, "detail": component.detail})
        return memory

    def beat(self, phase: str) -> Callable[[str], None]:
        """What says a sign of life now and then, when it is called often."""
        last = time.monotonic() - BEAT_S

        def beat(detail: str) -> None:
            nonlocal last
            if time.monotonic() - last >= BEAT_S:
                last = time.monotonic()
                self.say({"progress": phase, "detail": detail})

        return beat


@dataclass(frozen=True)
class _Arrived:
    data: bytes
    bundle: Bundle


@dataclass(frozen=True)
class _Received:
    run: Run
    settings: bytes
    bundle: _Arrived | None
    blobs: tuple[bytes, bytes] | None
    """manifest and config; None where the artifact lies here already"""


def _received(
    run: Run,
    configuration: Configuration,
    incoming: Incoming,
    parts: dict[PartName, PartSpec],
    bundle: _Arrived | None,
    blobs: tuple[bytes, bytes] | None = None,
) -> _Received | Refusal:
    secret = incoming.part(parts[PartName.SETTINGS]) if PartName.SETTINGS in parts else b""
    incoming.end()
    settings = join_settings(configuration, parse_settings(secret))
    return settings if isinstance(settings, Refusal) else _Received(run, settings, bundle, blobs)


@contextmanager
def _own_disk(what: str) -> Iterator[None]:
    # A full disk is our own fault and no fault of the frame's: exit 7, and the receipt is still unspent.
    try:
        yield
    except OSError as error:
        raise Unreadable(f"{what}: {error.strerror}") from error


def _needed(parts: dict[PartName, PartSpec], name: PartName) -> PartSpec:
    if name not in parts:
        raise MalformedFrame(f"the frame has no {name.value}")
    return parts[name]
