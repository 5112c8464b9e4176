"""Whether a row that says what runs is one that this gatekeeper's own receipt vouches for.

A change of configuration alone is asked for no vote, because what runs had its votes. Whoever can write rows but has no receipt key must not
make other bytes pass for it.
"""

from __future__ import annotations

from gatekeeper.model.decision import Mode, Verdict
from gatekeeper.model.fields import FieldError
from gatekeeper.model.label import Viewer
from gatekeeper.model.receipt import parse_receipt, receipt_id
from gatekeeper.model.strictjson import MalformedJson
from gatekeeper.model.verified import Refusal
from gatekeeper.ports.records import DeploymentRecord
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.receipt import parse_receipt_key, verify_decision_statement

from .parts import Parts


async def is_vouched(parts: Parts, row: DeploymentRecord, viewer: Viewer) -> bool:
    """Whether the row's receipt is a signed Allow of exactly its artifact and configuration for exactly its place. Raises `PortError`."""
    if row.receipt is None:
        return False  # adopted: what was never decided on is not a deployment that a configuration could follow
    record = await parts.deployments.receipt(row.receipt, viewer)
    if record is None or receipt_id(record.receipt) != row.receipt:
        return False
    try:
        checked = verify_decision_statement(parse_receipt(record.receipt).statement, [parse_receipt_key(pem) for pem in parts.receipt_keys])
    except (MalformedJson, FieldError, Malformed):
        return False
    if isinstance(checked, Refusal):
        return False
    said = checked.value
    signed = (said.instance, said.environment, said.component, said.subject, said.candidate_config, said.verdict)
    return said.mode is not Mode.SHADOW and signed == (parts.instance, row.environment, row.component, row.artifact, row.config, Verdict.ALLOW)
