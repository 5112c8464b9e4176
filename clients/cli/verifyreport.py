"""How a verification is told: a table for people, JSON, JUnit XML for CI, SARIF 2.1.0 for code scanners. One line a check, in every form."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from xml.etree import ElementTree as ET  # only writes

from gatekeeper.model.digest import Digest
from gatekeeper.model.verified import Refusal
from gatekeeper.verify.checks import Check, Outcome

from .exits import Exit
from .output import print_json, print_table, safe, say

if TYPE_CHECKING:
    from gatekeeper.verify.attestation import Report

_SARIF_LEVELS: Final = {Outcome.PASSED: ("pass", "none"), Outcome.FAILED: ("fail", "error"), Outcome.SKIPPED: ("notApplicable", "none")}


@dataclass(frozen=True)
class Asked:
    """What was verified against what: as the report names it."""

    file: str
    bundle: Digest
    artifact: str
    sha256: str
    trusted_root: Digest | None


def print_report(asked: Asked, report: Report, output: str) -> Exit:
    """Print every check; 0 where the bundle is verified, else 3."""
    refusal = report.result if isinstance(report.result, Refusal) else None
    match output:
        case "json":
            print_json(_document(asked, report.checks, refusal))
        case "junit":
            sys.stdout.write(_junit(asked, report.checks, refusal))
        case "sarif":
            print_json(_sarif(asked, report.checks))
        case _:
            print_table(("CHECK", "OUTCOME", "DETAIL"), [(check.name.value, check.outcome.value, check.detail) for check in report.checks])
    if refusal is None:
        say(f"verified: {asked.file} is about sha256:{asked.sha256}")
        return Exit.OK
    failed = next(check.name.value for check in report.checks if check.outcome is Outcome.FAILED)
    say(f"refused ({refusal.reason}) at {failed}: {refusal.detail}")
    return Exit.DENIED


def _document(asked: Asked, checks: tuple[Check, ...], refusal: Refusal | None) -> dict[str, object]:
    return {
        "kind": "Verification",
        "apiVersion": "pingee/v1",
        "verified": refusal is None,
        "reason": None if refusal is None else refusal.reason,
        "detail": None if refusal is None else refusal.detail,
        "bundle": asked.bundle,
        "artifact": f"sha256:{asked.sha256}",
        "trusted_root": asked.trusted_root,
        "checks": [{"name": check.name.value, "outcome": check.outcome.value, "detail": check.detail} for check in checks],
    }


def _junit(asked: Asked, checks: tuple[Check, ...], refusal: Refusal | None) -> str:
    counts = {outcome: sum(check.outcome is outcome for check in checks) for outcome in Outcome}
    suite = ET.Element(
        "testsuite",
        name=safe(f"pingee verify {asked.file}"),
        tests=str(len(checks)),
        failures=str(counts[Outcome.FAILED]),
        errors="0",
        skipped=str(counts[Outcome.SKIPPED]),
    )
    for check in checks:
        case = ET.SubElement(suite, "testcase", classname="pingee.verify", name=check.name.value)
        if check.outcome is Outcome.FAILED:
            ET.SubElement(case, "failure", message=safe(check.detail), type="" if refusal is None else refusal.reason)
        elif check.outcome is Outcome.SKIPPED:
            ET.SubElement(case, "skipped", message=safe(check.detail))
        else:
            ET.SubElement(case, "system-out").text = safe(check.detail)
    return str(ET.tostring(suite, encoding="us-ascii"), "ascii") + "\n"  # the same document in whatever encoding stdout has


def _sarif(asked: Asked, checks: tuple[Check, ...]) -> dict[str, object]:
    results = [
        {
            "ruleId": check.name.value,
            "kind": _SARIF_LEVELS[check.outcome][0],
            "level": _SARIF_LEVELS[check.outcome][1],
            "message": {"text": check.detail},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(asked.file)}}}],
        }
        for check in checks
    ]
    driver = {"name": "pingee verify", "rules": [{"id": check.name.value} for check in checks]}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _uri(file: str) -> str:
    """A file's name as SARIF wants it (2.1.0, 3.4.3): a URI, or a reference relative to where the command ran."""
    return ("file://" if Path(file).is_absolute() else "") + quote(os.fsencode(file))
