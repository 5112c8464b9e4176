"""Plain records for store tests."""

import secrets
from datetime import UTC, datetime, timedelta

from gatekeeper.model.decision import Purpose
from gatekeeper.model.digest import digest_of
from gatekeeper.model.label import Compartment
from gatekeeper.ports.pings import NewPing
from gatekeeper.ports.records import ArtifactRecord, DeploymentRecord, ReceiptRecord, StatementRecord, VoteRecord

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
EMBARGO = Compartment("embargo:cve-1")
SECRET = frozenset({EMBARGO})
ARTIFACT = digest_of(b"artifact")


def new_ping(**changes):
    values = {
        "id": secrets.token_hex(16),
        "caller": "https://ci|run",
        "idempotency_key": secrets.token_hex(8),
        "body": digest_of(b"body"),
        "purpose": Purpose.DEPLOY,
        "project": "web",
        "environment": "production",
        "component": "shop",
        "artifact": ARTIFACT,
        "config": "c" * 40,
        "commit": "a" * 40,
        "bound_commit": "a" * 40,
        "reason": "release 1.2 — für alle",
        "deadline": NOW + timedelta(hours=1),
        "created_at": NOW,
    }
    return NewPing(**values | changes)


def artifact(**changes):
    values = {
        "artifact": ARTIFACT,
        "project": "web",
        "component": "shop",
        "repository": "https://git.example/web",
        "commit": "a" * 40,
        "tree": "b" * 40,
        "builder": "https://builder.example/1",
        "run": "17",
        "uploader": "https://ci|alice",
        "manifest": digest_of(b"manifest"),
        "received_at": NOW,
        "complete": False,
    }
    return ArtifactRecord(**values | changes)


def statement(bundle=b"{}", **changes):
    values = {"artifact": ARTIFACT, "kind": "test-result", "stage": "unit", "received_at": NOW, "log_index": 3}
    return StatementRecord(digest=digest_of(bundle), bundle=bundle, **values | changes)


def vote(bundle=b"{}", **changes):
    values = {
        "project": "web",
        "change": "I1",
        "revision": "a" * 40,
        "voter": "alice",
        "value": 2,
        "review_label": "Code-Review",
        "received_at": NOW,
    }
    return VoteRecord(digest=digest_of(bundle), bundle=bundle, **values | changes)


def receipt(data=b"{}", **changes):
    values = {
        "ping_id": "1" * 32,
        "environment": "production",
        "component": "shop",
        "index": 4,
        "statement": digest_of(b"statement"),
        "created_at": NOW,
    }
    return ReceiptRecord(id=digest_of(data), receipt=data, **values | changes)


def deployment(ping_id, **changes):
    values = {
        "environment": "production",
        "component": "shop",
        "project": "web",
        "artifact": ARTIFACT,
        "config": "c" * 40,
        "commit": "a" * 40,
        "purpose": "deploy",
        "state": "deployed",
        "receipt": digest_of(b"receipt"),
        "decision_index": 4,
        "outcome_index": 5,
        "at": NOW,
    }
    return DeploymentRecord(ping_id=ping_id, **values | changes)
