"""The policy in force: the files of one signed commit, loaded whole or not at all."""

from __future__ import annotations

from typing import Protocol

from gatekeeper.model.evidence import Evidence
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.document import Configuration, Policy


class PolicySource(Protocol):
    """Where the policy comes from. A refused commit leaves the old policy in force."""

    def current(self) -> Policy:
        """The policy last loaded. One decision uses one value of this."""
        ...

    async def refresh(self) -> bool:
        """Load a newer commit if there is one that passes; whether the policy changed. Raises `policy.load.PolicyError` for a refused one."""
        ...

    async def configuration(self, commit: str, environment: str, component: str) -> Evidence[Configuration | Refusal]:
        """`config/ENVIRONMENT/COMPONENT.toml` as of a commit that is, or is an ancestor of, the one in force; else Absent.

        A commit that has no such file has the empty configuration: nothing to install. One whose file does not parse gives a `Refusal`: the
        commit after it may have been loaded without it ever having been in force. The evidence's digest is that of the file's bytes.
        """
        ...
