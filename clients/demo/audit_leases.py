"""The vault's own audit file is held against the log: what a thief had signed is found, all of it and nothing else."""

from __future__ import annotations

from pathlib import Path

from .steps import Stage
from .telling import StepFailed, Telling
from .thief import stolen_serials
from .world import InstanceWorld


def audit_leases(stage: Stage, telling: Telling, production: InstanceWorld) -> None:
    """One step; it comes after those of the thief (`doors`). Exit 3 is what it has to end with: there was a thief."""
    what = "pingee audit leases: every certificate of the vault's own audit file has its Allow in the log, but for those of the thief"
    with telling.step("audit-leases", what) as detail:
        file = Path(stage.world.directory) / "vault" / "audit.log"
        arguments = ("audit", "leases", "--vault-audit", str(file), "--instance", production.name, "-o", "json")
        found = stage.pingee(production, *arguments, code=3).document()
        counts, stolen = found["counts"], stolen_serials(stage.world, production.name)
        alarms = {alarm["serial"]: alarm["what"] for alarm in found["alarms"]}
        if not stolen or alarms != dict.fromkeys(stolen, "no-allow") or len(found["alarms"]) != len(stolen):
            raise StepFailed(f"the thief has {len(stolen)} certificates, the audit found {alarms}")
        if found["cannot_tell"] or not counts["certificates_decided_on"]:
            raise StepFailed(f"it cannot be told of every certificate whose it is: {found['cannot_tell']}, {counts}")
        detail |= {"file": str(file), "lines": counts["file_lines"], "certificates_decided_on": counts["certificates_decided_on"]}
        detail |= {"that_only_read": counts["status_certificates"], "without_an_allow": len(alarms), "signed_by_the_thief": len(stolen)}
        detail |= {"first_alarm": f"line {found['alarms'][0]['line']}: {found['alarms'][0]['sentence']}", "but": found["falsifiable"]}
