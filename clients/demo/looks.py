"""What a target is before and after somebody tried its door: everything that a refusal must leave as it was, and the record of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clients.doorkeeper.files import Busy, Place, Unreadable, exclusive
from clients.doorkeeper.record import Record

from .steps import Stage
from .telling import StepFailed
from .thief import Answered
from .world import InstanceWorld

SETTLE_S: Final = 30.0
_KEPT: Final = ("releases", "settings", "current", "incoming", "processes")


@dataclass(frozen=True)
class Look:
    """A target at one moment."""

    memory: bytes
    """digest running, checkpoint and last index of every component"""
    files: frozenset[str]
    """releases, settings, links and whatever lies half-written among them; a link with where it leads"""
    forks: frozenset[str]
    record: tuple[Mapping[str, Any], ...]
    page: str


def place_of(stage: Stage, instance: InstanceWorld) -> Place:
    """Where the doorkeeper of an instance's target keeps its files."""
    return Place.below(Path(stage.world.directory) / "targets" / instance.name)


def look(stage: Stage, instance: InstanceWorld) -> Look:
    """Read the target's own files, and its workload's page. Raises `StepFailed` where its record is no whole chain."""
    place = place_of(stage, instance)
    try:
        Record(place).verify()
    except Unreadable as error:
        raise StepFailed(f"the record of {instance.target} does not verify: {error}") from None
    lines = (place.var / "record.jsonl").read_text().splitlines()
    return Look(
        memory=place.state.read_bytes(),
        files=frozenset(found for name in _KEPT for found in _below(place.var / name)),
        forks=frozenset(file.name for file in place.forks.iterdir()) if place.forks.is_dir() else frozenset(),
        record=tuple(json.loads(line) for line in lines),
        page=stage.fetch(instance),
    )


def demand_refused(stage: Stage, instance: InstanceWorld, before: Look, answered: Answered, code: str) -> dict[str, Any]:
    """That the target refused with this code, wrote it down, and is otherwise as before; what to tell of it. Raises `StepFailed`."""
    line = answered.line
    if answered.code != 3 or line.get("refused") != code:
        raise StepFailed(f"expected {instance.target} to refuse with {code}, got exit {answered.code}: {dict(line)}")
    after = look(stage, instance)
    written = after.record[len(before.record) :]
    if [(w["what"], w.get("code"), w.get("detail")) for w in written] != [("refused", code, line["detail"])]:
        raise StepFailed(f"the record of {instance.target} has {[dict(w) for w in written]}, expected one refusal {code}: {line['detail']}")
    demand_untouched(stage, instance, before, after)
    if (len(after.forks) - len(before.forks)) != (1 if code == "log-fork" else 0):
        raise StepFailed(f"{instance.target} keeps {len(after.forks)} forks after {code}, and kept {len(before.forks)}")
    return {"refused": code, "words": line["detail"], "record_line": len(after.record)}


def demand_untouched(stage: Stage, instance: InstanceWorld, before: Look, after: Look) -> None:
    """That nothing runs, lies or is remembered otherwise than before; no lock is held, no process is left. Raises `StepFailed`."""
    if (after.memory, after.files, after.page) != (before.memory, before.files, before.page):
        changed = sorted(after.files ^ before.files)
        raise StepFailed(f"the refusal changed {instance.target}: memory {after.memory != before.memory}, page {after.page!r}, files {changed}")
    home = str(place_of(stage, instance).var.parent)
    deadline = time.monotonic() + SETTLE_S
    while left := doorkeepers_of(home):
        if time.monotonic() > deadline:
            raise StepFailed(f"the refusal left processes at {instance.target}: {left}")
        time.sleep(0.02)
    try:
        with exclusive(place_of(stage, instance), wait_s=SETTLE_S):
            pass
    except Busy:
        raise StepFailed(f"the refusal left a lock at {instance.target}") from None


def doorkeepers_of(home: str) -> list[int]:
    """Doorkeeper processes of one installation that run now."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                arguments = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"clients.doorkeeper.cli" in arguments and home.encode() in arguments:
                found.append(int(entry.name))
    return found


def _below(directory: Path) -> list[str]:
    found = []
    for folder, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(folder, name)
            found.append(f"{path} -> {path.readlink()}" if path.is_symlink() else str(path))
    return found
