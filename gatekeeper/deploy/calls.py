"""What the use cases behind the API share: who calls, what they may do, and how a call is refused."""

from __future__ import annotations

from gatekeeper.model.caller import Caller, RunCaller
from gatekeeper.model.label import Viewer
from gatekeeper.policy.document import Policy


class CallRefused(Exception):
    """A call that is refused before anything is stored; `code` is a reason code or one of the API's own. Not logged."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def caller_id(caller: Caller) -> str:
    """`issuer|subject`: what idempotency keys and requesters are counted by."""
    return f"{caller.issuer}|{caller.subject}"


def viewer_of(caller: Caller | None) -> Viewer:
    """What a caller may read. Clearances come with the embargo's member lists; until then everybody reads what is public."""
    return Viewer(who="" if caller is None else caller_id(caller))


def roles_at(policy: Policy, caller: Caller, environment: str, component: str) -> frozenset[str]:
    """The caller's roles for one place, under this policy: read at each call, from groups for people, from the project for runs."""
    if isinstance(caller, RunCaller):
        known = policy.components.get(component)
        builder = policy.builders.get(caller.builder_id)
        trusted = builder is not None and builder.issuer == caller.issuer and caller.project in builder.projects
        return frozenset({"P"}) if known is not None and known.project == caller.project and trusted else frozenset()
    return policy.roles_of(caller.groups, environment, component)


def demand_role(policy: Policy, caller: Caller, environment: str, component: str, roles: frozenset[str]) -> None:
    """Refuse with `not-authorised` unless the caller has one of these roles there. Said before anything is looked up."""
    if not roles_at(policy, caller, environment, component) & roles:
        wanted = " or ".join(sorted(roles))
        raise CallRefused("not-authorised", f"this needs role {wanted} for {environment}/{component}; ask an admin of the policy repository")
