"""From a stored ping to the candidate that is judged: every name from the policy in force, none from the artifact."""

from __future__ import annotations

from gatekeeper.model.decision import Candidate, Mode
from gatekeeper.model.label import Viewer
from gatekeeper.policy.document import Policy
from gatekeeper.ports.pings import Ping


class PolicyGap(Exception):
    """The policy in force no longer knows the ping's environment, component or project: no rule speaks for it, so the answer is no."""

    def __init__(self, policy: Policy, detail: str) -> None:
        super().__init__(detail)
        self.policy = policy
        self.detail = detail


def candidate_of(ping: Ping, policy: Policy) -> Candidate:
    """The candidate of a ping under this policy; raises `PolicyGap`."""
    new = ping.new
    component = policy.components.get(new.component)
    if component is None or new.environment not in policy.environments or component.project != new.project:
        raise PolicyGap(policy, f"the policy at {policy.commit} does not know {new.environment}/{new.component} of project {new.project}")
    targets = component.targets.get(new.environment, ())
    if not targets or new.project not in policy.projects:
        raise PolicyGap(policy, f"the policy at {policy.commit} names no target for {new.environment}/{new.component}")
    return _candidate(ping, policy, component.modes[new.environment], targets)


def stranded(ping: Ping, gap: PolicyGap) -> Candidate:
    """The candidate of a ping that the policy does not know, for the entry of its denial. Its target is none."""
    return _candidate(ping, gap.policy, Mode.ENFORCE, ("none",))


def own_viewer(ping: Ping) -> Viewer:
    """The gatekeeper reading on behalf of a ping sees what the ping's own label allows, and no more."""
    return Viewer(who=f"ping {ping.id}", clearances=ping.new.label)


def _candidate(ping: Ping, policy: Policy, mode: Mode, targets: tuple[str, ...]) -> Candidate:
    new = ping.new
    return Candidate(
        instance=policy.instance,
        environment=new.environment,
        component=new.component,
        project=new.project,
        purpose=new.purpose,
        mode=mode,
        artifact=new.artifact,
        config=new.config,
        targets=targets,
        requester=new.caller,
        bound_commit=new.bound_commit,
    )
