"""Answers for people: what runs where, and which commit, review, build and decision put it there. Every read takes the caller's Viewer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

from gatekeeper.model.digest import Digest
from gatekeeper.model.evidence import Present
from gatekeeper.model.facts import Provenance
from gatekeeper.model.label import Viewer
from gatekeeper.model.moment import moment, render_moment
from gatekeeper.model.ping import STEP_CODES
from gatekeeper.model.strictjson import JsonValue
from gatekeeper.model.verified import Checked, Refusal
from gatekeeper.policy.document import Policy
from gatekeeper.ports.artifacts import BlobMissing
from gatekeeper.ports.observations import Observation
from gatekeeper.ports.pings import Ping
from gatekeeper.ports.records import ADOPTED, AdoptionRecord, ArtifactRecord, DeploymentRecord, StatementRecord
from gatekeeper.verify.submission import BuilderFact

from .facts import Facts
from .parts import Parts
from .signers import believe

MAX_LOG: Final = 32 * 1024 * 1024


def origin_then(parts: Parts, when: datetime | None) -> str | None:
    """The log's origin of that time, of which the indices of then are; None where there is no time."""
    return None if when is None else parts.origins.closed_at(when) or parts.origin


def ping_json(ping: Ping, *, public_url: str, origin: str | None = None) -> dict[str, JsonValue]:
    """A Ping as the API answers it. `origin` is the one that its indices are of."""
    new = ping.new
    return {
        "apiVersion": "pingee/v1",
        "kind": "Ping",
        "id": ping.id,
        "environment": new.environment,
        "component": new.component,
        "project": new.project,
        "artifact": new.artifact,
        "config": new.config,
        "commit": new.commit,
        "purpose": new.purpose.value,
        "state": ping.state.value,
        "step_code": STEP_CODES[ping.state],
        "verdict": None if ping.verdict is None else ping.verdict.value.lower(),
        "mode": None if ping.mode is None else ping.mode.value,
        "reasons": list(ping.reasons),
        "detail": ping.detail,
        "log_index": ping.log_index,
        "outcome_index": ping.outcome_index,
        "log_origin": origin,
        "receipt_id": ping.receipt,
        "rollback_of": new.rollback_of,
        "reason": new.reason,
        "times": {
            "created": render_moment(moment(new.created_at)),
            "deadline": render_moment(moment(new.deadline)),
            "evaluated": None if ping.evaluated_at is None else render_moment(moment(ping.evaluated_at)),
            "updated": None if ping.updated_at is None else render_moment(moment(ping.updated_at)),
        },
        "permalink": f"{public_url}/pings/{ping.id}",
    }


def deployment_json(row: DeploymentRecord, origin: str | None = None) -> dict[str, JsonValue]:
    """One row of `running` or of a history. `origin` is the one that its indices are of."""
    return {
        "environment": row.environment,
        "component": row.component,
        "project": row.project,
        "artifact": row.artifact,
        "config": row.config,
        "commit": row.commit,
        "purpose": row.purpose,
        "state": row.state,
        "ping_id": None if row.purpose == ADOPTED else row.ping_id,
        "receipt_id": row.receipt,
        "log_index": row.decision_index,
        "outcome_index": row.outcome_index,
        "log_origin": origin,
        "since": render_moment(moment(row.at)),
    }


async def running_json(
    parts: Parts, viewer: Viewer, *, environment: str | None = None, component: str | None = None, drifted_only: bool = False
) -> list[dict[str, JsonValue]]:
    """Rows of `running`: what was deployed last, each with its `drift`, null where the target runs just that. Raises `PortError`."""
    rows = await parts.deployments.running(viewer, environment=environment, component=component)
    drift = {(d.environment, d.component): d for d in await parts.observations.drift(viewer, environment=environment, component=component)}
    items: list[dict[str, JsonValue]] = []
    for row in rows:
        found = drift.get((row.environment, row.component))
        if found is not None or not drifted_only:
            items.append({**deployment_json(row, origin_then(parts, row.at)), "drift": None if found is None else _drift_json(found)})
    return items


def _drift_json(found: Observation) -> dict[str, JsonValue]:
    return {
        "kind": None if found.kind is None else found.kind.value,
        "running": found.running,
        "config": found.config,
        "order": found.order,
        "target": found.target,
        "observed": render_moment(moment(found.observed_at)),
    }


async def provenance(parts: Parts, artifact: Digest, viewer: Viewer) -> dict[str, JsonValue] | None:
    """The chain behind an artifact: commit, votes, build, tests, decisions; every statement verified on this read. None: no such artifact."""
    record = await parts.statements.artifact(artifact, viewer)
    if record is None:
        return await _adopted_provenance(parts, artifact, viewer)
    rows = await parts.statements.statements(artifact, viewer)
    return {
        "apiVersion": "pingee/v1",
        "kind": "Provenance",
        "artifact": artifact,
        "component": record.component,
        "source": {"project": record.project, "repository": record.repository, "commit": record.commit, "tree": record.tree},
        "build": {
            "builder": record.builder,
            "run": record.run,
            "uploader": record.uploader.partition("|")[2],
            "received": render_moment(moment(record.received_at)),
        },
        "adopted": [],
        "statements": await parts.facts.in_thread(partial(_statements, parts.facts, parts.policy.current(), record, tuple(rows))),
        "votes": await _votes(parts, record, viewer),
        "deployments": [deployment_json(row, origin_then(parts, row.at)) for row in await _deployments(parts, record, viewer)],
    }


async def _adopted_provenance(parts: Parts, artifact: Digest, viewer: Viewer) -> dict[str, JsonValue] | None:
    """What is known of bytes that ran before any ping: where they were adopted and what became of them there; nothing of CI's."""
    adoptions = await parts.adoptions.adoptions_of(artifact, viewer)
    if not adoptions:
        return None
    deployments = [row for adoption in adoptions for row in await parts.deployments.history(adoption.environment, adoption.component, viewer)]
    return {
        "apiVersion": "pingee/v1",
        "kind": "Provenance",
        "artifact": artifact,
        "component": adoptions[0].component,
        "source": None,
        "build": None,
        "adopted": [adoption_json(adoption) for adoption in adoptions],
        "statements": [],
        "votes": [],
        "deployments": [deployment_json(row, origin_then(parts, row.at)) for row in deployments if row.artifact == artifact],
    }


def adoption_json(row: AdoptionRecord) -> dict[str, JsonValue]:
    """One adoption as the API answers it."""
    return {
        "apiVersion": "pingee/v1",
        "kind": "Adoption",
        "id": row.id,
        "environment": row.environment,
        "component": row.component,
        "project": row.project,
        "artifact": row.artifact,
        "config": row.config,
        "reason": row.reason,
        "at": render_moment(moment(row.at)),
        "log_index": row.log_index,
    }


def _statements(facts: Facts, policy: Policy, record: ArtifactRecord, rows: Sequence[StatementRecord]) -> list[JsonValue]:
    # In a thread: an artifact may have hundreds of statements, and each costs public-key operations.
    checked = believe(facts, policy, record, rows)
    return [_statement(row, _standing(policy, record, row, found)) for row, found in zip(rows, checked, strict=True)]


def _standing(policy: Policy, record: ArtifactRecord, row: StatementRecord, checked: Checked[BuilderFact]) -> Checked[BuilderFact]:
    if isinstance(checked, Refusal):
        return checked
    return policy.revocations.doubt(checked.value.signer, moment(row.received_at), project=record.project) or checked


def _statement(row: StatementRecord, checked: Checked[BuilderFact]) -> dict[str, JsonValue]:
    status = f"refused: {checked.reason}" if isinstance(checked, Refusal) else "verified"
    return {"kind": row.kind, "stage": row.stage, "digest": row.digest, "log_index": row.log_index, "status": status}


async def _votes(parts: Parts, record: ArtifactRecord, viewer: Viewer) -> list[JsonValue]:
    project = parts.policy.current().projects.get(record.project)
    if project is None:
        return []
    # The policy's address of it: the record's is what a build said, and nobody opens that.
    revision = await parts.review.revision(project.name, project.repository, record.commit)
    change = revision.value.change if isinstance(revision, Present) else record.commit
    rows = await parts.statements.votes(record.project, change, viewer)
    return [
        {"voter": row.voter, "label": row.review_label, "value": row.value, "revision": row.revision, "digest": row.digest}
        for row in rows
        if row.revision == record.commit
    ]


async def _deployments(parts: Parts, record: ArtifactRecord, viewer: Viewer) -> Sequence[DeploymentRecord]:
    found: list[DeploymentRecord] = []
    for environment in parts.policy.current().environments:
        rows = await parts.deployments.history(environment, record.component, viewer)
        found.extend(row for row in rows if row.artifact == record.artifact)
    return found


def artifact_json(row: ArtifactRecord) -> dict[str, JsonValue]:
    """One artifact of a listing."""
    return {
        "digest": row.artifact,
        "project": row.project,
        "component": row.component,
        "repository": row.repository,
        "commit": row.commit,
        "tree": row.tree,
        "builder": row.builder,
        "run": row.run,
        "manifest": row.manifest,
        "received": render_moment(moment(row.received_at)),
    }


async def build_log(parts: Parts, artifact: Digest, viewer: Viewer) -> bytes | None:
    """The build log that a verified provenance of the artifact names; None where there is none for this Viewer."""
    record = await parts.statements.artifact(artifact, viewer)
    if record is None:
        return None
    rows = [row for row in await parts.statements.statements(artifact, viewer) if row.kind == "provenance"]
    for checked in await parts.facts.in_thread(partial(believe, parts.facts, parts.policy.current(), record, rows)):
        if isinstance(checked, Refusal) or not isinstance(checked.value, Provenance) or checked.value.log is None:
            continue
        try:
            return await parts.artifacts.read(checked.value.log, max_bytes=MAX_LOG)
        except BlobMissing:
            return None
    return None
