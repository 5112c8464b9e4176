"""Review votes on exactly this revision: P8 (decision rules, section 2), embedded review."""

from __future__ import annotations

from gatekeeper.model.decision import Purpose, RuleResult
from gatekeeper.model.evidence import Present, Unreadable
from gatekeeper.model.facts import Revision, Vote
from gatekeeper.model.verified import Checked, Refusal
from gatekeeper.policy.case import Case
from gatekeeper.policy.document import VoteThreshold
from gatekeeper.policy.rule import failed, item_of, passed, skipped, unreadable

_RULE = "votes.review"

# What is nearest to a pass stands first: a person told "one more" should not be told "none".
_WHY_NOT = ("votes-insufficient", "votes-stale", "votes-self", "votes-ineligible", "votes-missing")


def review(case: Case) -> RuleResult:
    """Enough distinct, eligible people voted for this revision, and nobody eligible vetoed it."""
    threshold = case.environment.votes
    if threshold is None:
        return skipped(_RULE, f"{case.candidate.environment} asks for no votes")
    if case.candidate.purpose is Purpose.ROLLBACK:
        return skipped(_RULE, "a rollback needs no new vote")
    if case.candidate.purpose is Purpose.CONFIGURATION:
        return skipped(_RULE, "the artifact stays (origin.age sees to it); its configuration is signed by an owner of the policy (config.reviewed)")
    evidence = case.evidence
    for kind, item in (("revision", evidence.revision), ("uploader", evidence.uploader), ("votes", evidence.votes)):
        if isinstance(item, Unreadable):
            return unreadable(_RULE, item, kind)
    if not isinstance(evidence.revision, Present):
        return skipped(_RULE, "the commit is unknown to the repository (origin.provenance says so)")
    if not isinstance(evidence.uploader, Present):
        # Without knowing who pushed it nobody can be shown to be somebody else.
        return _fail(case, threshold, "votes-ineligible", "who pushed the change is not known", 0)
    votes = evidence.votes.value if isinstance(evidence.votes, Present) else ()
    return _count(case, threshold, evidence.revision.value, evidence.uploader.value, votes)


def _count(case: Case, threshold: VoteThreshold, revision: Revision, uploader: str, votes: tuple[Checked[Vote], ...]) -> RuleResult:
    newest: dict[str, Vote] = {}
    why_not: set[str] = set()
    for checked in votes:
        if isinstance(checked, Refusal):
            why_not.add("votes-ineligible")
            continue
        vote = checked.value
        if vote.label != threshold.label:
            continue
        if vote.project != revision.project or vote.change != revision.change or vote.revision != revision.commit or vote.tree != revision.tree:
            why_not.add("votes-stale")
            continue
        newest[vote.voter] = vote  # oldest first: a person's last word counts
    for_it: list[str] = []
    for name, vote in sorted(newest.items()):
        standing = _standing(case, name, revision, uploader, threshold)
        if standing is not None:
            why_not.add(standing)
        elif vote.value <= threshold.veto:
            return _fail(case, threshold, "votes-veto", f"{name} voted {vote.value}", len(for_it))
        elif vote.value >= threshold.value:
            for_it.append(name)
    if len(for_it) >= threshold.count:
        return passed(_RULE, f"{threshold.label} +{threshold.value} by {', '.join(for_it)}", item_of("votes", case.evidence.votes))
    if for_it:
        why_not.add("votes-insufficient")
    reason = next((code for code in _WHY_NOT if code in why_not), "votes-missing")
    return _fail(case, threshold, reason, _words(reason, len(for_it)), len(for_it))


def _standing(case: Case, name: str, revision: Revision, uploader: str, threshold: VoteThreshold) -> str | None:
    person = case.policy.people.get(name)
    if person is None or not person.groups & threshold.groups:
        return "votes-ineligible"
    addresses = {revision.author.lower(), revision.committer.lower()}
    issuer, _, account = uploader.partition("|")
    own = person.accounts.get(issuer)
    if person.emails & addresses or own == account:
        return "votes-self"
    if own is None and case.policy.person_of_account(issuer, account) is None:
        # The uploader is nobody the policy knows, and where the voter has an account is not known either: they may be one person.
        return "votes-ineligible"
    return None


def _words(reason: str, count: int) -> str:
    return {
        "votes-insufficient": f"{count} counting vote(s)",
        "votes-stale": "the votes are for another revision",
        "votes-self": "the only vote is by owner, uploader, author or committer",
        "votes-ineligible": "the voters may not vote here, or cannot be told from the uploader",
    }.get(reason, "no vote yet")


def _fail(case: Case, threshold: VoteThreshold, reason: str, actual: str, count: int) -> RuleResult:
    missing = threshold.count - count
    groups = " or ".join(sorted(threshold.groups))
    need = (
        "the vetoing reviewer changes the vote"
        if reason == "votes-veto"
        else f"{missing} more vote(s) {threshold.label} +{threshold.value} by {groups}, not by owner, uploader, author or committer"
    )
    return failed(
        _RULE,
        reason,
        item_of("votes", case.evidence.votes),
        expected=f"{threshold.count} distinct voter(s) of {groups} with {threshold.label} +{threshold.value} on this revision",
        actual=actual,
        need=need,
    )


