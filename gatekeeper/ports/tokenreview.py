"""Asking a Kubernetes cluster about a service account's token: only the cluster knows whether the pod it was made for still lives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ClusterAddress:
    """One API server, and the files with its CA and with our credential there."""

    url: str
    """`https://HOST[:PORT]`"""
    ca_file: Path
    token_file: Path


@dataclass(frozen=True)
class Workload:
    """Whom the cluster takes the token for."""

    username: str
    """`system:serviceaccount:NAMESPACE:NAME`"""
    account_uid: str
    pod_uid: str
    """empty where the token is bound to no pod"""


class TokenReview(Protocol):
    """The TokenReview of the API servers that this replica is told of, each by its issuer's name in the policy."""

    async def review(self, issuer: str, token: str, audience: str) -> Workload | None:
        """Whom the token stands for now; None where the cluster takes it for nobody: unknown, expired, for another audience, or its pod is gone.

        Raises `Unavailable` where the cluster cannot be asked, or this replica is told of none by that name; `Denied` where it refuses our own
        credential; `Untrustworthy` where its answer is no answer to what was asked. Bounded in bytes and time by the adapter.
        """
        ...
