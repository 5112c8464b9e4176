"""The platform's own number of a repository, where a component's policy names it: a name may be given to somebody else tomorrow."""

from __future__ import annotations

from gatekeeper.model.caller import RunCaller
from gatekeeper.policy.document import Policy

from .calls import CallRefused


def demand_repository(policy: Policy, component: str, caller: RunCaller) -> None:
    """Raises `CallRefused` where the policy expects this component's runs to be of another repository than the token's."""
    known = policy.components.get(component)
    if known is not None and known.expectations.repository_id not in ("", caller.project_id):
        raise CallRefused("provenance-project", "the token's project id is not the one that the component's policy names")
