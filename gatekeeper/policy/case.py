"""What a decision looks at: the candidate, the evidence gathered for it, the policy, and one evaluation time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from gatekeeper.model.decision import Candidate
from gatekeeper.model.evidence import Evidence
from gatekeeper.model.facts import ArtifactManifest, Provenance, Received, Revision, Running, StoredArtifact, TestResult, Vote
from gatekeeper.model.label import Label
from gatekeeper.model.moment import Moment
from gatekeeper.model.verified import Checked, Refusal

from .document import Component, Configuration, Environment, Policy, Project


@dataclass(frozen=True)
class Gathered:
    """All evidence for one decision. Each item is there, not there, or unreadable; statements inside are verified or refused."""

    manifest: Evidence[Checked[ArtifactManifest]]
    received: Evidence[Received]
    """when the intake took the artifact manifest"""
    provenance: Evidence[tuple[Checked[Provenance], ...]]
    results: Mapping[str, Evidence[tuple[Checked[TestResult], ...]]]
    """by required stage, oldest first"""
    stored: Evidence[StoredArtifact | Refusal]
    """the bytes, hashed again by the gatekeeper"""
    revision: Evidence[Revision]
    votes: Evidence[tuple[Checked[Vote], ...]]
    uploader: Evidence[str]
    """`issuer name|account` that the run's token named as actor"""
    label: Evidence[Label]
    running: Evidence[Running]
    older: Evidence[bool]
    """whether the candidate's commit is a strict ancestor of what runs"""
    configuration: Evidence[Configuration | Refusal]
    deployed_before: Evidence[bool]
    """rollback: whether exactly this artifact was deployed there successfully with exactly this configuration"""
    adopted: Evidence[bool]
    """rollback: whether an `adopt` entry of the log says that exactly this artifact ran there before any ping, and names this configuration"""

    def items(self) -> tuple[tuple[str, Evidence[object]], ...]:
        """Every item by name, in a fixed order, stages last."""
        plain = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "results"]
        return (*plain, *((f"tests.{stage}", self.results[stage]) for stage in sorted(self.results)))


@dataclass(frozen=True)
class Case:
    """One decision to make."""

    candidate: Candidate
    evidence: Gathered
    policy: Policy
    at: Moment

    @property
    def environment(self) -> Environment:
        """The environment's rules; a candidate for an unknown one never gets this far (`wrong-gatekeeper`)."""
        return self.policy.environments[self.candidate.environment]

    @property
    def component(self) -> Component:
        """What the policy says about the component."""
        return self.policy.components[self.candidate.component]

    @property
    def project(self) -> Project:
        """The component's repository."""
        return self.policy.projects[self.candidate.project]


