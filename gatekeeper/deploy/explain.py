"""What `explain` answers (interfaces, 1.5): every rule of the last decision, and what would make the failing ones pass."""

from __future__ import annotations

from collections.abc import Mapping

from gatekeeper.model.decision import RuleResult
from gatekeeper.model.moment import moment, render_moment
from gatekeeper.model.ping import STEP_CODES, State
from gatekeeper.model.reason import REASONS
from gatekeeper.model.strictjson import JsonValue
from gatekeeper.ports.pings import Ping

_HEADLINES = {
    State.DENIED: "DENIED",
    State.DEPLOYED: "DEPLOYED",
    State.ROLLED_BACK: "ROLLED BACK",
    State.FAILED: "FAILED",
    State.UNRESPONSIVE: "UNRESPONSIVE",
    State.SUPERSEDED: "SUPERSEDED",
    State.CANCELLED: "CANCELLED",
    State.SHADOW_ALLOWED: "ALLOWED IN SHADOW",
    State.INDETERMINATE: "CANNOT TELL YET (retrying)",
}

_AFTER = {
    "health-failed": "what ran before serves again: read what the workload printed at its target, mend it, ping the new build",
    "apply-failed": "read the detail: mend what the target could not do, then ping again",
    "apply-interrupted": "find out why the target goes down in the middle of this deploy, then ping again",
    "config-secret-found": "have the secret taken out of artifact and configuration, and replaced in the vault: it was seen; then ping again",
    "lease-refused": "ask the vault's operator why the credential was refused, then ping again",
    "target-unresponsive": "look at the target: it never said its last word; once it answers, ping again",
}
"""the next step of a ping that ended after it was allowed"""


def row_json(row: RuleResult) -> Mapping[str, JsonValue]:
    """One rule's row as it is stored with the ping and answered."""
    return {
        "rule": row.rule,
        "result": row.result.value,
        "reason": row.reason,
        "expected": row.expected,
        "actual": row.actual,
        "need": row.need,
        "who": row.who,
        "evidence": [{"kind": item.kind, "state": item.state, "digest": item.digest} for item in row.evidence],
    }


def headline(ping: Ping) -> str:
    """The first word people read."""
    return _HEADLINES.get(ping.state, "WAITING" if ping.state in (State.PENDING, State.RECEIVED) else "ALLOWED")


def explain(ping: Ping, *, public_url: str) -> dict[str, JsonValue]:
    """The Explanation document of a ping."""
    blocking = next((row for row in ping.rules if row["result"] in ("fail", "unreadable")), None)
    return {
        "apiVersion": "pingee/v1",
        "kind": "Explanation",
        "ping_id": ping.id,
        "receipt_id": ping.receipt,
        "state": ping.state.value,
        "headline": headline(ping),
        "step_code": STEP_CODES[ping.state],
        "mode": None if ping.mode is None else ping.mode.value,
        "verdict": None if ping.verdict is None else ping.verdict.value.lower(),
        "reasons": list(ping.reasons),
        "let_pass": [row["reason"] for row in ping.rules if row["result"] == "warn"],
        "environment": ping.new.environment,
        "component": ping.new.component,
        "artifact": ping.new.artifact,
        "config": ping.new.config,
        "purpose": ping.new.purpose.value,
        "rules": [dict(row) for row in ping.rules],
        "next_step": _next_step(ping, blocking),
        "policy": {"name": ping.new.environment, "revision": ping.policy_commit, "digest": ping.policy},
        "evaluated_at": None if ping.evaluated_at is None else render_moment(moment(ping.evaluated_at)),
        "log_index": ping.log_index,
        "detail": ping.detail,
        "permalink": f"{public_url}/pings/{ping.id}",
    }


def _next_step(ping: Ping, blocking: Mapping[str, JsonValue] | None) -> dict[str, JsonValue] | None:
    after = next((code for code in ping.reasons if code in _AFTER), None)
    if ping.state.ended and after is not None:
        return {"text": _AFTER[after], "who": REASONS[after].who, "command": ["pingee", "running"]}
    if ping.state.ended or blocking is None:
        return None
    return {"text": blocking["need"], "who": blocking["who"], "command": ["pingee", "watch", ping.id]}
