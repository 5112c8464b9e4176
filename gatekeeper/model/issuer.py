"""Whom an issuer of tokens speaks for, and what the reviewed policy expects of its tokens (interfaces, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from .caller import CallerKind


@unique
class IssuerKind(StrEnum):
    """Which product wrote the token, and so what its claims are called. An issuer is of one kind, and a token never says which."""

    PERSON = "person"
    RUN = "run"
    """plain OpenID Connect: our own names, or those that the policy maps them to"""
    GITLAB = "gitlab"
    GITHUB = "github"
    KUBERNETES = "kubernetes"
    ZUUL = "zuul"
    SPIFFE = "spiffe"

    @property
    def speaks_for(self) -> CallerKind:
        """Runs, or people; never both."""
        return CallerKind.PERSON if self is IssuerKind.PERSON else CallerKind.RUN


@dataclass(frozen=True)
class Platform:
    """What a platform's tokens must say, each compared to the letter; empty means that nobody comes in."""

    kind: IssuerKind
    projects: Mapping[str, str]
    """the platform's own id of a project (a number where it has one, so that a renamed or recreated one is not taken for it) -> our name"""
    recipes: Mapping[str, str]
    """what the platform names as the definition that the run follows -> builder id"""
    triggers: frozenset[str]
    runners: frozenset[str]
    """kinds of machines, as the platform names them"""
    unbound: bool
    """whether a token that names no commit is taken, to ping and to read; it never makes a certificate"""
    trust_domain: str = ""
    """of SPIFFE: the name between `spiffe://` and the path"""
    builds_url: str = ""
    """of Zuul: where its REST API is asked which commit a token's build is for; empty: nobody is asked, and the token names none"""
    token_review: bool = False
    """of Kubernetes: whether the cluster's API server is asked if the token's pod still lives"""


FOREIGN: Final = frozenset({IssuerKind.GITLAB, IssuerKind.GITHUB, IssuerKind.KUBERNETES, IssuerKind.ZUUL, IssuerKind.SPIFFE})
"""Kinds with claims of their own, which the policy has to map to projects and builders."""
WITHOUT_COMMIT: Final = frozenset({IssuerKind.KUBERNETES, IssuerKind.ZUUL, IssuerKind.SPIFFE})
TRIGGERED: Final = frozenset({IssuerKind.GITLAB, IssuerKind.GITHUB, IssuerKind.ZUUL})
"""Kinds whose tokens say what set the run off."""
HOSTED: Final = MappingProxyType({IssuerKind.GITLAB: frozenset({"gitlab-hosted"}), IssuerKind.GITHUB: frozenset({"github-hosted"})})
"""Kinds whose tokens say on whose machine the run runs, and what is taken where the policy names nothing."""
UNTRUSTED_TRIGGERS: Final = frozenset(
    {
        *("merge_request_event", "external_pull_request_event"),
        *("pull_request", "pull_request_target", "pull_request_review", "pull_request_review_comment"),
        *("issues", "issue_comment", "discussion", "discussion_comment", "fork", "watch"),
        "workflow_run",  # follows another run, whatever set that one off, and takes what it left
    }
)
"""By what a stranger, mostly with a proposal, sets off a run: on no list, whatever the policy says."""


def default_runners(kind: IssuerKind) -> frozenset[str]:
    """The machines taken where the policy names none."""
    return HOSTED.get(kind, frozenset())
