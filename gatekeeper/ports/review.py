"""What the review system's git knows. The gatekeeper reads it with its own read-only access and believes no pipeline about it."""

from __future__ import annotations

from typing import Protocol

from gatekeeper.model.evidence import Evidence
from gatekeeper.model.facts import Revision


class Review(Protocol):
    """Answers are evidence: an authority that is away is `Unreadable("vcs-unavailable")`, never an exception."""

    async def revision(self, project: str, repository: str, commit: str) -> Evidence[Revision]:
        """The commit's tree, author, committer and change; Absent where the repository does not know it."""
        ...

    async def is_older(self, project: str, repository: str, commit: str, than: str) -> Evidence[bool]:
        """Whether `commit` is a strict ancestor of `than`; Absent where the repository knows one of them not."""
        ...
