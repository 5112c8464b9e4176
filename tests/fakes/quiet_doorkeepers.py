"""A doorkeeper in this process whose workload is a pretence: everything but the processes is real, and the time is a test's own."""

from __future__ import annotations

import json
import os
from pathlib import Path

from clients.doorkeeper import apply, status
from clients.doorkeeper.apply import Doorkeeper
from clients.doorkeeper.cosign import make_cosigner_key
from clients.doorkeeper.files import Place
from clients.doorkeeper.incoming import Incoming
from clients.doorkeeper.record import Record
from clients.doorkeeper.state import NOTHING, load_memory, save_memory
from clients.doorkeeper.target import Caps, ComponentSlot, InstalledTarget, Pinned, parse_receipt_keys
from clients.doorkeeper.workload import NotStarted
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.moment import parse_moment
from gatekeeper.tlog.logpolicy import parse_log_policy
from tests.fakes.frames import Gatekeeper, frame_of, naming, parts_of
from tests.fakes.orders import People

AT = parse_moment("2026-11-21T10:00:00Z")


class QuietDoorkeeper:
    """`runs` is the release that would run, by component; artifacts in `sick` are never healthy, those in `broken` cannot be started."""

    def __init__(self, directory: Path, monkeypatch, *, restart: tuple[str, ...] = (), caps: Caps = Caps()) -> None:  # noqa: B008
        self.place, self.gatekeeper, self.people = Place.below(directory), Gatekeeper(), People()
        self.place.var.mkdir(parents=True)
        slots = (ComponentSlot("hello", 1, restart, None), ComponentSlot("second", 2, restart, None))
        target = InstalledTarget("host-1", "production", "production", slots, caps)
        make_cosigner_key(self.place)
        Record(self.place).begin()
        save_memory(self.place, NOTHING)
        self.said: list[dict] = []
        self.did: list[tuple] = []
        self.runs: dict = {}
        self.sick: set = set()
        self.broken: set = set()
        policy, keys = parse_log_policy(self.gatekeeper.log_policy), parse_receipt_keys(self.gatekeeper.receipt_keys)
        pinned = Pinned(target, policy, keys, None, self.people.keys)
        self.door = Doorkeeper.open(self.place, pinned, say=self.said.append, now=lambda: AT)
        for name in ("switch_on", "switch_off", "wait_healthy", "is_alive"):
            monkeypatch.setattr(apply, name, getattr(self, f"_{name}"))
        monkeypatch.setattr(status, "is_alive", self._is_alive)

    def _switch_on(self, place, slot, release, caps) -> None:
        self.did.append(("on", slot.name, release.artifact))
        self.runs.pop(slot.name, None)
        if release.artifact in self.broken:
            raise NotStarted("cannot be started: it is broken")
        self.runs[slot.name] = release

    def _switch_off(self, place, slot) -> None:
        self.did.append(("off", slot.name))
        self.runs.pop(slot.name, None)

    def _wait_healthy(self, place, slot, release, *, beat) -> str | None:
        self.did.append(("wait", slot.name, release.artifact))
        return "not healthy within 1 s" if release.artifact in self.sick else None

    def _is_alive(self, place, slot, receipt) -> bool:
        return slot.name in self.runs and self.runs[slot.name].receipt == receipt

    @property
    def memory(self):
        return load_memory(self.place)

    def items(self, artifact, *, settings: bytes = b"", **changes) -> dict[PartName, bytes]:
        """The parts of an honest frame, with the bundle of this deploy alone."""
        receipt = self.gatekeeper.receipt(self.gatekeeper.statement(artifact, at=AT, configuration=naming(settings), **changes))
        index, known = len(self.gatekeeper.log.entries) - 1, self.memory.checkpoint
        old = 0 if known is None else known.size
        items = self.gatekeeper.items(artifact, receipt, index=index, old=old, settings=settings, configuration=naming(settings))
        return items | {PartName.ROLLBACK_BUNDLE: self.gatekeeper.bundle([(receipt, index)], component=changes.get("component", "hello"))}

    def apply(self, items: dict[PartName, bytes], *, after: bytes = b"", named=None):
        """As `serve` does, with the doorkeeper's own answer."""
        frame = self.place.var.parent / "frame"
        frame.write_bytes(frame_of(parts_of(items)) + after)
        descriptor = os.open(frame, os.O_RDONLY)
        try:
            return self.door.apply(Incoming(descriptor), named or digest_of(items[PartName.RECEIPT]), self.memory)
        finally:
            os.close(descriptor)

    def deploy(self, artifact, **changes):
        return self.apply(self.items(artifact, **changes))

    def component(self, name: str = "hello"):
        return self.memory.component(name)

    def record(self) -> list[dict]:
        return [json.loads(line) for line in (self.place.var / "record.jsonl").read_text().splitlines()]

    def files(self) -> dict[str, bytes]:
        """Everything of its own, but for the frame."""
        return {str(path.relative_to(self.place.var)): path.read_bytes() for path in self.place.var.rglob("*") if path.is_file()}
