"""Votes of embedded review: signed by the reviewer's own key, brought with the reviewer's own token."""

from __future__ import annotations

from typing import Final

from gatekeeper.model.caller import Caller, PersonCaller
from gatekeeper.model.evidence import Present, Unreadable
from gatekeeper.model.facts import Vote
from gatekeeper.model.verified import Refusal
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.records import VoteRecord
from gatekeeper.verify.vote import verify_vote

from .calls import CallRefused, viewer_of
from .parts import Parts

MAX_VOTES: Final = 20
"""of one person on one change"""


async def cast_vote(parts: Parts, caller: Caller, bundle: bytes) -> Vote:
    """Verify and store a vote; waiting pings of the project are looked at again. Raises `CallRefused`, `Malformed`, `PortError`.

    Stored is every honest vote, also one that will not count (a self-vote, an earlier revision): what counts is judged at each decision.
    """
    if not isinstance(caller, PersonCaller):
        raise CallRefused("not-authorised", "only people vote")
    policy = parts.policy.current()
    person = policy.person_of(caller.issuer, caller.subject)
    if person is None:
        raise CallRefused("not-authorised", "your identity has no name in the policy repository; ask an admin to add it to people.toml")
    keys = policy.revocations.standing_keys(person.keys, parts.now())
    checked = verify_vote(bundle, {person.name: keys}, person=person.name)
    if isinstance(checked, Refusal):
        raise CallRefused(checked.reason, checked.detail)
    vote = checked.value
    project = policy.projects.get(vote.project)
    if project is None:
        raise CallRefused("not-found", "no such project")
    revision = await parts.review.revision(project.name, project.repository, vote.revision)
    if isinstance(revision, Unreadable):
        raise Unavailable(revision.cause, revision.detail)
    if not isinstance(revision, Present):
        raise CallRefused("not-found", "the project's repository does not know that revision; push it first")
    known = revision.value
    if (vote.change, vote.tree) != (known.change, known.tree):
        raise CallRefused("votes-stale", f"revision {vote.revision} belongs to change {known.change} and has tree {known.tree}; sign those")
    cast = await parts.statements.votes(vote.project, vote.change, viewer_of(caller))
    if sum(row.voter == person.name for row in cast if row.digest != checked.digest) >= MAX_VOTES:
        # Every vote on a change stands in the evidence of its decisions, and those are bounded in bytes.
        raise CallRefused("quota-exceeded", f"you voted {MAX_VOTES} times on this change")
    await parts.statements.add_vote(
        VoteRecord(
            digest=checked.digest,
            project=vote.project,
            change=vote.change,
            revision=vote.revision,
            voter=person.name,
            value=vote.value,
            review_label=vote.label,
            bundle=bundle,
            received_at=parts.now(),
        )
    )
    return vote
