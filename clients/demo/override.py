"""The way when everything else is down: two operators bring back a release at its target, and the log learns of it later."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .steps import Done, Stage
from .telling import StepFailed, Telling
from .world import InstanceWorld

STOPPED: Final = ("gatekeeper-production", "vault", "database")
SEEN_S: Final = 60.0
"""within which drift and the late entry must be there once everything runs again"""


def override(stage: Stage, telling: Telling, production: InstanceWorld) -> None:
    """Stop gatekeeper, vault and database; refuse every bad order; carry out a good one; start all again; find it in log and drift; clear it up."""
    what = "gatekeeper, vault and database are stopped; olga and omar sign an order, and the target brings back a release it keeps"
    with telling.step("override", what) as detail:
        before = _runs(stage, production)["artifact"]
        wanted = _other_release(stage, production, before)
        stopped = [part for part in STOPPED if part in stage.world.parts]
        detail |= {part: "goes on: its server was given, and is not the demo's to stop" for part in STOPPED if part not in stopped}
        for part in stopped:
            stage.stop(part)
        try:
            detail |= _while_down(stage, production, before, wanted)
        finally:
            for part in reversed(stopped):
                stage.start(part)
        row = _drift(stage, production, wanted)
        detail |= {"drift": row["drift"]["kind"], "recorded": row["artifact"], "runs": row["drift"]["running"]}
        index, entry = _late_entry(stage, production, detail["order"])
        detail |= {"log_index": index, "late": entry["late"], "who": entry["who"], "applied_at": entry["applied_at"]}
        detail["cleared_by"] = _clear(stage, production, before)


def _while_down(stage: Stage, production: InstanceWorld, before: str, wanted: str) -> dict[str, Any]:
    if _answers(production):
        raise StepFailed("a gatekeeper answers although it was stopped")
    refused = _refusals(stage, production, wanted)
    status = _status(stage, production)
    if status["components"][0]["running"] != before or status["overrides"]:
        raise StepFailed(f"a refused order changed something: {status}")
    started = time.monotonic()
    order = _order(stage, production, "good", wanted, ("olga", "omar"))
    done = stage.doorkeeper(production, "override", str(order))
    last = _last(done)
    seconds = time.monotonic() - started
    if (last["outcome"], last["applied"]) != ("healthy", wanted):
        raise StepFailed(f"the order was not carried out: {last}")
    refused["used-twice"] = _refused(stage, production, order, "override-expired")
    status = _status(stage, production)
    if status["components"][0]["running"] != wanted or not status["record"].startswith("intact"):
        raise StepFailed(f"the target does not run what was ordered, or its record is damaged: {status}")
    return {
        "order": last["order"],
        "brought_back": wanted,
        "seconds": round(seconds, 2),
        "http_body": stage.fetch(production).strip(),
        "refused": {name: f"{answer['refused']}: {answer['detail']}" for name, answer in refused.items()},
        "record": last["record"],
    }


def _answers(production: InstanceWorld) -> bool:
    address = urlsplit(production.url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


def _refusals(stage: Stage, production: InstanceWorld, wanted: str) -> dict[str, Any]:
    # Written and signed at once: each is a command of its own.
    with ThreadPoolExecutor(4) as pool:
        twice = pool.submit(_order, stage, production, "twice", wanted, ("olga", "olga"))
        late = pool.submit(_order, stage, production, "late", wanted, ("olga", "omar"), life="1s")
        elsewhere = pool.submit(_order, stage, production, "elsewhere", wanted, ("olga", "omar"), target="test-1")
        unknown = pool.submit(_order, stage, production, "unknown", "sha256:" + "0" * 64, ("olga", "omar"))
        orders = {"one-person-twice": twice.result(), "other-target": elsewhere.result(), "outside-the-bundle": unknown.result()}
        late_order = late.result()
    expected = {"one-person-twice": "override-signers", "other-target": "override-scope", "outside-the-bundle": "override-scope"}
    found = {name: _refused(stage, production, orders[name], code) for name, code in expected.items()}
    # Its one second began before it was written.
    time.sleep(max(0.0, late_order.stat().st_mtime + 1.0 - time.time()))
    return {**found, "expired": _refused(stage, production, late_order, "override-expired")}


def _order(
    stage: Stage, production: InstanceWorld, name: str, digest: str, signers: tuple[str, str], *, life: str = "1h", target: str | None = None
) -> Path:
    path = stage.work / f"override-{name}.json"
    path.unlink(missing_ok=True)
    arguments = ["--target", target or production.target, "--digest", digest, "--for", life, "--out", str(path)]
    stage.offline(production, "override", "new", *arguments, "--reason", "everything else is down", "--incident", "INC-36")
    seen: set[str] = set()
    for signer in signers:
        # The second time it is the same person's second key: the first would be refused while signing already.
        key = "second-key.pem" if signer in seen else "key.pem"
        stage.offline(production, "override", "sign", str(path), "--key", str(Path(stage.world.people) / signer / key))
        seen.add(signer)
    return path


def _refused(stage: Stage, production: InstanceWorld, order: Path, code: str) -> Any:
    answer = _last(stage.doorkeeper(production, "override", str(order), code=3))
    if answer.get("refused") != code:
        raise StepFailed(f"expected {code}, got {answer}")
    return answer


def _last(done: Done) -> Any:
    return json.loads(done.out.strip().splitlines()[-1])


def _status(stage: Stage, production: InstanceWorld) -> Any:
    return _last(stage.doorkeeper(production, "status"))


def _runs(stage: Stage, production: InstanceWorld) -> Any:
    (row,) = stage.pingee(production, "running", "-o", "json").document()
    return row


def _other_release(stage: Stage, production: InstanceWorld, running: str) -> str:
    for member in _status(stage, production)["rollback_set"]:
        if member["artifact"] != running:
            return str(member["artifact"])
    raise StepFailed("the target's rollback set holds nothing but what runs")


def _drift(stage: Stage, production: InstanceWorld, wanted: str) -> Any:
    deadline = time.monotonic() + SEEN_S
    while True:
        rows = stage.pingee(production, "running", "--drift", "-o", "json").document()
        if [(row["drift"]["kind"], row["drift"]["running"]) for row in rows] == [("override", wanted)]:
            return rows[0]
        if time.monotonic() > deadline:
            raise StepFailed(f"no drift `override` within {SEEN_S:.0f} s: {rows}")
        time.sleep(0.1)


def _late_entry(stage: Stage, production: InstanceWorld, order: str) -> tuple[int, Any]:
    # Drift is told as soon as the entry is durable; the public log shows it with its next checkpoint.
    deadline = time.monotonic() + SEEN_S
    while True:
        lines = stage.pingee(production, "log", "tail", "-n", "20").out.splitlines()
        parsed = [(line.split("\t", 1)[0], json.loads(line.split("\t", 1)[1])) for line in lines]
        found = [(int(index), entry) for index, entry in parsed if entry["kind"] == "override" and entry["order"] == order]
        if found or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    if len(found) != 1 or found[0][1]["late"] is not True or len(found[0][1]["who"]) != 2:
        raise StepFailed(f"expected one late entry of two people about {order}, got {found}")
    return found[0]


def _clear(stage: Stage, production: InstanceWorld, before: str) -> str:
    arguments = ("rollback", "production", stage.world.component, "--to", before, "--reason", "the incident is over", "--wait", "-o", "json")
    found = stage.as_person("olga", production, *arguments).document()
    row = _runs(stage, production)
    if row["drift"] is not None or row["artifact"] != before or _status(stage, production)["overrides"]:
        raise StepFailed(f"the override was not cleared up: {found} {row}")
    return str(found["id"])
