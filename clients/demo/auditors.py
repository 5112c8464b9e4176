"""What people do who trust neither the gatekeeper's operator nor its database: the witness, the monitor, the auditor with a copy and no server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from gatekeeper.tlog.logpolicy import LogPolicy, parse_log_policy
from gatekeeper.tlog.note import parse_note

from .audit_leases import audit_leases
from .doors import deny_unwitnessed, what_runs
from .looks import look
from .steps import Stage
from .telling import StepFailed, Telling
from .trees import served_tree
from .world import InstanceWorld

WAIT_S: Final = 60.0
QUIET_S: Final = 1.5
"""three turns of the publication clock"""


def audit_the_log(stage: Stage, telling: Telling, production: InstanceWorld) -> None:
    """Seven steps, from the witness to the vault's own audit file."""
    watching = _Watching(stage, production)
    with telling.step("witnessed", "production's checkpoints bear another team's cosignature, or nobody there believes them") as detail:
        detail |= watching.witnessed()
        detail["first_look_of_the_monitor"] = watching.look("--first-look")["size"]
    deny_unwitnessed(stage, telling, production)
    with telling.step("witness-away", "the witness is stopped: what is decided is logged, and nothing deploys until it is back") as detail:
        detail |= watching.without_the_witness()
    with telling.step("log-monitor", "pingee log monitor: the log has only grown since its first look, every new entry is as signed") as detail:
        found = watching.look()
        if found["alarm"] is not None or found["grown"] < 1:
            raise StepFailed(f"the monitor does not see an honest log that grew: {found}")
        detail |= {"entries": found["size"], "grown_since_the_first_look": found["grown"], "age_of_the_cosignature_s": found["age_s"]}
    with telling.step("log-export", "a copy in plain files, checked by pingee-offline: no server, Python and cryptography alone") as detail:
        detail |= watching.exported()
    with telling.step("log-query", "pingee log query: each hit is checked by its own proof, and it says how far the index goes") as detail:
        found = watching.query()
        detail |= {"hits": [item["index"] for item in found["items"]], "indexed": found["indexed"], "tree_size": found["tree_size"]}
        detail["says"] = found["says"]
    audit_leases(stage, telling, production)


class _Watching:
    def __init__(self, stage: Stage, production: InstanceWorld) -> None:
        self._stage, self._production = stage, production
        self._state = stage.work / "monitor"
        self._part = f"witness-{production.name}"

    @property
    def _policy(self) -> LogPolicy:
        return parse_log_policy(Path(self._production.log_policy).read_bytes())

    def witnessed(self) -> dict[str, Any]:
        note = served_tree(self._production).note
        cosigned = self._policy.quorum_met(parse_note(note))
        if not cosigned:
            raise StepFailed("nobody cosigned production's checkpoint")
        home = Path(self._stage.world.directory) / "witnesses" / self._production.name / "witness"
        return {"cosigned_by": sorted(cosigned), "quorum": self._policy.quorum, "the_witness_says": self._stage.witness("status", str(home))}

    def look(self, *words: str) -> Any:
        arguments = ("log", "monitor", "--state", str(self._state), "--once", *words, "-o", "json")
        return self._stage.pingee(self._production, *arguments).document()

    def without_the_witness(self) -> dict[str, Any]:
        stage, production = self._stage, self._production
        before, size = look(stage, production), len(served_tree(production).entries)
        stage.stop(self._part)
        try:
            ping = stage.ping(production, what_runs(stage, production))
            decided = self._decided(ping)
            time.sleep(QUIET_S)
            found = stage.look(production, ping)
            doctor = stage.pingee(production, "doctor", "--operator", production.operator_url, "-o", "json", code=None).document()
            if look(stage, production) != before or len(served_tree(production).entries) != size:
                raise StepFailed(f"without its witness production's host or log moved on: {found['state']}")
        finally:
            stage.start(self._part)
        ended = stage.wait_for(production, ping, "deployed")
        said = [check["sentence"] for check in doctor["checks"] if not check["ok"] and "witness" in json.dumps(check)]
        return {
            "ping": ping,
            "without_it": f"{found['state']}, decided as entry {decided}, {size} entries published",
            "the_doctor_says": said[:1],
            "then_deployed": ended["log_index"],
        }

    def _decided(self, ping: str) -> int:
        """The index of its Allow, which is durable and which nobody outside can be shown yet."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            found = self._stage.look(self._production, ping)
            if found["log_index"] is not None and found["state"] in ("allowed", "applying"):
                return int(found["log_index"])
            time.sleep(0.05)
        raise StepFailed(f"ping {ping} was not decided without the witness: {found['state']} {found['reasons']}")

    def exported(self) -> dict[str, Any]:
        stage, production = self._stage, self._production
        directory, since = stage.work / "exported", stage.checkpoint
        said = stage.gatekeeper(production, "export-log", str(directory))
        checked = stage.offline_fsck(production, directory, since)
        return {"directory": str(directory), "exported": said, "pingee_offline_says": checked.splitlines()[-2:]}

    def query(self) -> Any:
        arguments = ("log", "query", "--env", self._production.name, "--kind", "decision", "-n", "3", "-o", "json")
        deadline = time.monotonic() + WAIT_S
        while True:
            found = self._stage.pingee(self._production, *arguments).document()
            if found["items"] and found["indexed"] == found["tree_size"]:
                return found
            if time.monotonic() > deadline:
                raise StepFailed(f"the index has read {found['indexed']} of {found['tree_size']} entries, and found {len(found['items'])}")
            time.sleep(0.2)
