"""What the log and the target's own record say about a ping, read as anybody would."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .steps import Stage
from .telling import StepFailed
from .world import InstanceWorld

PUBLISHED_S: Final = 60.0


Log = Mapping[int, Any]
"""entries by index"""


def published(stage: Stage, instance: InstanceWorld, index: int) -> Log:
    """The newest thousand entries of the log, once a published checkpoint covers this index."""
    deadline = time.monotonic() + PUBLISHED_S
    while time.monotonic() < deadline:
        lines = [line.split("\t", 1) for line in stage.pingee(instance, "log", "tail", "-n", "1000").out.splitlines()]
        log = {int(number): json.loads(entry) for number, entry in lines}
        if index in log:
            return log
        time.sleep(0.1)
    raise StepFailed(f"entry {index} of the log was not published within {PUBLISHED_S:.0f} s")


def allows_of(log: Log, ping: str) -> list[int]:
    """Indices of the entries that allowed a ping."""
    return [index for index, entry in log.items() if entry["kind"] == "decision" and entry["ping_id"] == ping and entry["verdict"] == "Allow"]


def outcomes_of(log: Log, ping: str) -> list[str]:
    """What became of each of them, in the order of the log."""
    allows = allows_of(log, ping)
    return [entry["state"] for entry in log.values() if entry["kind"] == "outcome" and entry["of"]["index"] in allows]


def record_of(stage: Stage, instance: InstanceWorld, receipts: Sequence[str]) -> list[str]:
    """What the target's hash-chained record says about these receipts: accepted, healthy, rolled-back, interrupted, refused."""
    return [line["what"] for line in _record(stage, instance) if line.get("receipt") in receipts]


def accepted_by(stage: Stage, instance: InstanceWorld) -> Sequence[str]:
    """Every receipt that the target has accepted, in order."""
    return [line["receipt"] for line in _record(stage, instance) if line["what"] == "accepted"]


def _record(stage: Stage, instance: InstanceWorld) -> Sequence[Any]:
    file = next((Path(stage.world.directory) / "targets" / instance.name).rglob("record.jsonl"))
    # A line that is being written has no end yet.
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]]


def record_state(stage: Stage, instance: InstanceWorld) -> str:
    """Whether the chain of the record holds, in the doorkeeper's own words."""
    return str(stage.doorkeeper(instance, "status").document()["record"])
