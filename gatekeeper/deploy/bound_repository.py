"""The repository that a run and its statements are of, as the policy names it: by the platform's own number too, since a name may be given away."""

from __future__ import annotations

from gatekeeper.model.caller import RunCaller
from gatekeeper.model.facts import SignerIdentity, StandingIdentity
from gatekeeper.policy.document import Policy, repository_of

from .calls import CallRefused


def demand_repository(policy: Policy, component: str, caller: RunCaller, signer: SignerIdentity) -> None:
    """Raises `CallRefused` where token, statement or signer are of another repository than the policy expects of this component.

    A run's own certificate names none; what its statements say of one is compared at each decision.
    """
    project, known = policy.projects.get(caller.project), policy.components.get(component)
    if known is not None and known.expectations.repository_id not in ("", caller.project_id):
        raise CallRefused("provenance-project", "the token's project id is not the one that the component's policy names")
    if not isinstance(signer, StandingIdentity):
        return
    own = known if known is not None and known.project == caller.project else None
    if project is None or signer.repository not in (None, repository_of(project, own)):
        raise CallRefused("provenance-project", "the statement or its signer's certificate names another repository than the policy does")
