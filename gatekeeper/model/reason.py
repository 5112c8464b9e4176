"""Every reason code, in one table (decision rules, section 7). A code is never renamed and never used for another meaning."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from types import MappingProxyType
from typing import Final


@unique
class Effect(Enum):
    """What a code does to a ping or a call."""

    CALL = "call"
    """refuses the call before a ping exists; not logged"""
    DENY = "deny"
    """ends the ping"""
    WAIT = "wait"
    """keeps the ping pending"""
    IND = "indeterminate"
    """evidence cannot be read; waits and retries, never allows"""
    AFTER = "after"
    """an outcome following Allow, or the end of a ping that waited"""
    DOOR = "door"
    """refused by the doorkeeper at the target"""
    LOAD = "load"
    """refuses configuration at loading"""
    ORDER = "order"
    """refuses what two people ordered about a log; nothing was changed"""


@dataclass(frozen=True)
class Reason:
    """One row of the table: what the code means and who can mend it."""

    code: str
    meaning: str
    effects: frozenset[Effect]
    who: str
    breakglass: bool


def _reason(code: str, meaning: str, effects: tuple[Effect, ...], who: str, *, breakglass: bool = False) -> Reason:
    return Reason(code, meaning, frozenset(effects), who, breakglass)


_TABLE: Final = (
    _reason("unauthenticated", "no valid token, or a one-use token used before", (Effect.CALL,), "requester"),
    _reason(
        "not-authorised",
        "token may not ping this project and environment, said before anything is looked up (call); "
        "the right was lost since, or the token is bound to another commit (deny)",
        (Effect.CALL, Effect.DENY),
        "project admin",
    ),
    _reason("rate-limited", "too many pings; Retry-After given", (Effect.CALL,), "requester"),
    _reason("quota-exceeded", "project over its upload budget in bytes or count", (Effect.CALL,), "requester, admin"),
    _reason("ping-malformed", "not strict JSON of the schema, or over a bound", (Effect.CALL,), "requester"),
    _reason("idempotency-conflict", "same key, other body", (Effect.CALL,), "requester"),
    _reason("idempotency-running", "the first call with this key is still running; Retry-After given", (Effect.CALL,), "requester"),
    _reason("ping-expired", "deadline passed while waiting or unreadable", (Effect.DENY,), "requester"),
    _reason("wrong-gatekeeper", "this instance does not serve that environment", (Effect.CALL,), "requester"),
    _reason("unknown-manifest", "no such artifact manifest for this Viewer (404, constant bytes)", (Effect.CALL,), "requester"),
    _reason("not-found", "no other such thing for this Viewer (404, constant bytes)", (Effect.CALL,), "requester"),
    _reason("project-not-approved", "project not approved for production", (Effect.DENY,), "admin"),
    _reason("bad-signature", "absent, invalid or over other bytes", (Effect.DENY, Effect.DOOR), "builder owner"),
    _reason("unknown-builder", "signer not trusted for this project", (Effect.DENY,), "admin"),
    _reason("builder-revoked", "signer's identity or certificate revoked", (Effect.DENY,), "security"),
    _reason("certificate-expired", "signed outside the certificate's validity", (Effect.DENY,), "builder owner"),
    _reason("manifest-replayed", "artifact manifest already used where policy allows one use", (Effect.DENY,), "requester"),
    _reason("older-than-running", "older than what runs; use a rollback", (Effect.DENY,), "operator"),
    _reason("provenance-missing", "no provenance statement for a subject", (Effect.DENY,), "builder owner"),
    _reason("provenance-predicate", "unknown or unsupported predicate", (Effect.DENY,), "builder owner"),
    _reason("provenance-project", "made for another project", (Effect.DENY,), "builder owner"),
    _reason(
        "provenance-commit",
        "review system does not know the commit, or the signer's certificate names another",
        (Effect.DENY,),
        "developer, builder owner",
    ),
    _reason("provenance-tree", "tree id differs from the commit's", (Effect.DENY,), "builder owner"),
    _reason("provenance-inputs", "inputs not declared or not resolved to digests", (Effect.DENY,), "developer"),
    _reason("image-not-declarative", "a container image built by other than the declarative style", (Effect.DENY,), "developer"),
    _reason("digest-mismatch", "bytes differ from the artifact manifest", (Effect.DENY, Effect.DOOR), "builder owner"),
    _reason("artifact-missing", "the store has no such blob", (Effect.DENY,), "builder owner"),
    _reason(
        "stage-missing",
        "a required stage has no signed result for these digests and no run under way",
        (Effect.DENY,),
        "developer",
        breakglass=True,
    ),
    _reason("stage-pending", "a required stage was started and has no signed result yet", (Effect.WAIT,), "time; the stage's owner"),
    _reason("stage-failed", "a required stage failed", (Effect.DENY,), "developer", breakglass=True),
    _reason("platform-missing", "a required platform has no result", (Effect.DENY,), "developer", breakglass=True),
    _reason("enforced-step-missing", "RelEng's step is absent", (Effect.DENY,), "developer, RelEng", breakglass=True),
    _reason("tests-not-in-tree", "tests not under version control, not enforced", (Effect.DENY,), "developer"),
    _reason("candidacy-nullified", "a parallel required stage failed later", (Effect.DENY,), "developer", breakglass=True),
    _reason("dependant-tests", "a dependant's tests failed or are missing", (Effect.DENY,), "developer", breakglass=True),
    _reason("stale-target", "target tip moved and trees differ", (Effect.DENY,), "controller (new build)"),
    _reason("merge-pending", "votes and tests are in; the VCS worker has not merged yet", (Effect.WAIT,), "controller"),
    _reason("merge-failed", "the VCS worker could not merge (conflict)", (Effect.DENY,), "developer"),
    _reason("post-merge-pending", "trees differ after the merge; the run on the merged tree is not finished", (Effect.WAIT,), "time"),
    _reason("post-merge-failed", "the automated tests failed on the merged tree", (Effect.DENY,), "developer"),
    _reason("direct-push", "target holds a commit not merged by the VCS worker", (Effect.DENY,), "admin"),
    _reason("unsigned-commit", "commit signature required and absent or bad", (Effect.DENY,), "developer"),
    _reason(
        "rolled-back-change",
        "contains a change that was rolled back here and not reverted",
        (Effect.WAIT,),
        "developer (revert), operator (clear)",
    ),
    _reason("votes-missing", "no counting vote", (Effect.WAIT,), "reviewers"),
    _reason("votes-insufficient", "fewer people than required", (Effect.WAIT,), "reviewers"),
    _reason("votes-stale", "vote is on another patchset, branch or project", (Effect.WAIT,), "reviewers"),
    _reason("votes-self", "vote by owner, uploader, author or committer", (Effect.WAIT,), "reviewers"),
    _reason("votes-ineligible", "voter not in the group, suspended, a bot, or public for an embargoed change", (Effect.WAIT,), "reviewers"),
    _reason("votes-veto", "CR −2 or other veto", (Effect.DENY,), "the vetoing reviewer"),
    _reason("acknowledgement-missing", "third-party acknowledgement outstanding", (Effect.WAIT,), "named team"),
    _reason("go-missing", "the named role has not said go", (Effect.WAIT,), "the named role"),
    _reason("security-ack-missing", "members only: security must acknowledge this rollback", (Effect.WAIT,), "security"),
    _reason(
        "hold-active",
        "\"on hold\": an operators' hold, a decoy hold, or a wait for what this Viewer may not read",
        (Effect.WAIT,),
        "environment owners, time",
    ),
    _reason("embargoed", "members only: an embargo rule forbids this step", (Effect.DENY,), "security"),
    _reason("embargo-environment", "members only: not a private test environment, production or pre-train", (Effect.DENY,), "security"),
    _reason("embargo-not-before", "members only: not-before lies ahead", (Effect.WAIT,), "security"),
    _reason("embargo-withdrawn", "members only: embargo withdrawn", (Effect.DENY,), "security"),
    _reason(
        "embargoed-fix-missing",
        "members only: the build lacks a fix that this environment must carry; others see hold-active",
        (Effect.WAIT,),
        "security",
    ),
    _reason("embargo-overlay-conflict", "members only: a carried patch no longer applies; others see hold-active", (Effect.WAIT,), "security"),
    _reason("second-person-missing", "lift, breakglass or ad hoc exemption confirmed by one person only", (Effect.WAIT,), "a second person"),
    _reason("already-public", "a lift cannot be undone", (Effect.CALL,), "nobody"),
    _reason("config-unreviewed", "configuration commit not reviewed or not signed as required", (Effect.DENY, Effect.LOAD), "admin"),
    _reason("config-dirty", "configuration differs from its commit", (Effect.DENY, Effect.LOAD), "operator"),
    _reason("config-rewound", "policy commit does not descend from the one last loaded; the old policy stays in force", (Effect.LOAD,), "admin"),
    _reason("config-invalid", "configuration does not parse or contradicts itself", (Effect.DENY, Effect.DOOR, Effect.LOAD), "admin"),
    _reason("config-secret-refused", "secret name not allowed for project and environment", (Effect.DENY, Effect.DOOR), "admin"),
    _reason("config-secret-found", "a secret in artifact or configuration", (Effect.DENY, Effect.AFTER), "developer, security"),
    _reason("environment-frozen", "freeze, or outside the open deployment windows", (Effect.WAIT,), "operator, time", breakglass=True),
    _reason("stopped", "emergency stop in force", (Effect.WAIT,), "operator, security"),
    _reason("environment-busy", "another ping or landing holds environment + component; holder and expected time shown", (Effect.WAIT,), "time"),
    _reason("environment-reserved", "another person holds the reservation", (Effect.DENY,), "the holder, expiry"),
    _reason("environment-exhausted", "no free environment in the pool (with nowait: 409 at the call)", (Effect.WAIT,), "time"),
    _reason("promotion-missing", "digest did not run in the required earlier environment", (Effect.DENY,), "requester"),
    _reason("soak-incomplete", "soak time not over", (Effect.WAIT,), "time", breakglass=True),
    _reason("manifest-too-old", "not recent enough for manual test", (Effect.DENY,), "requester"),
    _reason("version-override-refused", "override absent from the artifact manifest or not on the list", (Effect.DENY,), "admin"),
    _reason("landing-incomplete", "later; a member pinged alone or missing", (Effect.DENY,), "requester"),
    _reason("landing-changed", "later; membership differs from what was signed", (Effect.DENY,), "requester"),
    _reason("never-deployed", "rollback to a digest never successful there, nor adopted", (Effect.DENY,), "operator"),
    _reason("artifact-expired", "rollback target no longer retained", (Effect.DENY,), "operator"),
    _reason("periodic-no-promote", "periodic build may not go to production", (Effect.DENY,), "admin"),
    _reason("self-judgement", "an instance may not deploy itself", (Effect.DENY,), "operator"),
    _reason("vault-policy-manual", "change touches vault-policies/", (Effect.DENY,), "vault admins"),
    _reason("breakglass-expired", "past its expiry, or used before", (Effect.DENY,), "two people"),
    _reason("breakglass-scope", "names a rule it may not lift, or another target", (Effect.DENY,), "two people"),
    _reason("breakglass-debt", "later; an earlier breakglass or override still lacks its evidence past its deadline", (Effect.DENY,), "operator"),
    _reason("exemption-expired", "exemption past its expiry", (Effect.DENY,), "admin"),
    _reason("exceptions-combined", "more than one exception would be needed", (Effect.DENY,), "admin"),
    _reason("rule-error", "a rule raised; treated as a bug", (Effect.DENY,), "maintainers"),
    _reason("policy-empty", "no rule or no threshold for this environment", (Effect.DENY,), "admin"),
    _reason("review-unavailable", "votes, patchset or change unreadable or a partial page", (Effect.IND,), "operator"),
    _reason("vcs-unavailable", "target tip or commit unreadable", (Effect.IND,), "operator"),
    _reason("registry-unavailable", "artifact store unreadable", (Effect.IND,), "operator"),
    _reason("evidence-unreadable", "a statement exists but cannot be fetched whole", (Effect.IND,), "operator"),
    _reason("vault-unavailable", "vault sealed, down or refusing", (Effect.IND,), "operator"),
    _reason("identity-unavailable", "issuer keys unreadable and the last good set too old", (Effect.IND,), "operator"),
    _reason("trustroot-stale", "trusted root past its freshness bound", (Effect.IND,), "admin"),
    _reason("revocation-unavailable", "revocation state unreadable", (Effect.IND,), "operator"),
    _reason("config-unavailable", "configuration commit unreadable", (Effect.IND,), "operator"),
    _reason("embargo-unavailable", "label of a record unreadable; treated as embargoed", (Effect.IND,), "operator"),
    _reason("environment-unavailable", "freeze, reservation or lock state unreadable", (Effect.IND,), "operator"),
    _reason("target-unavailable", "what runs now cannot be read", (Effect.IND,), "operator"),
    _reason("log-unavailable", "decision cannot be made durable", (Effect.IND,), "operator"),
    _reason("witness-unavailable", "witness quorum required and not reached", (Effect.IND,), "operator"),
    _reason("clock-untrusted", "clock outside its allowed skew", (Effect.IND,), "operator"),
    _reason("decision-timeout", "evidence not gathered within the deadline", (Effect.IND,), "operator"),
    _reason("allow-expired", "not_after passed before lease or apply; nothing applied; decided anew", (Effect.AFTER, Effect.DOOR), "none needed"),
    _reason("lease-refused", "vault denied the lease after Allow", (Effect.AFTER,), "operator"),
    _reason("fence-lost", "a newer fencing token holds the lock; nothing applied by us", (Effect.AFTER,), "none needed"),
    _reason("apply-failed", "target refused the change", (Effect.AFTER,), "developer, operator"),
    _reason("apply-interrupted", "target was cut short in mid-apply and put back what ran; decided anew", (Effect.AFTER,), "operator"),
    _reason("health-failed", "never healthy; rolled back", (Effect.AFTER,), "developer"),
    _reason("target-unresponsive", "ten progress updates missed", (Effect.AFTER,), "operator"),
    _reason("superseded", "a newer ping replaced this one", (Effect.AFTER,), "none needed"),
    _reason("cancelled", "withdrawn by its requester or an operator", (Effect.AFTER,), "requester"),
    _reason("receipt-missing", "no receipt, or no inclusion proof that satisfies the target's log policy", (Effect.DOOR,), "operator"),
    _reason("receipt-other-target", "Allow for another target, environment or component", (Effect.DOOR,), "operator"),
    _reason("receipt-replayed", "log index not above the last one applied for that component", (Effect.DOOR,), "operator"),
    _reason("log-fork", "checkpoint inconsistent with the last one accepted here; alarm", (Effect.DOOR,), "admin"),
    _reason("origin-closed", "receipt of an origin of the log that this target has left for the next one", (Effect.DOOR,), "requester (ping anew)"),
    _reason("sealed-not-allowed", "sealed decision where the target's policy does not admit one", (Effect.DOOR,), "security, operator"),
    _reason("override-signers", "order not signed by two different people pinned here", (Effect.DOOR,), "two people"),
    _reason("override-expired", "order past its not_after, or used before", (Effect.DOOR,), "two people"),
    _reason("override-scope", "order for another target, or a digest outside the rollback bundle", (Effect.DOOR,), "two people"),
    _reason("order-signers", "order about a log not signed by two different people pinned for this instance", (Effect.ORDER,), "two people"),
    _reason("order-expired", "order about a log past its not_after, or made for longer than four hours", (Effect.ORDER,), "two people"),
    _reason("order-scope", "order about a log for another action, instance, origin or value", (Effect.ORDER,), "two people"),
)

REASONS: Final = MappingProxyType({reason.code: reason for reason in _TABLE})

RETIRED: Final = frozenset({"ping-replayed"})
"""Codes that were used once and may never be used again."""


def effect_on_ping(code: str) -> Effect:
    """What a policy code does to a ping: DENY, WAIT or IND. A code with no such effect is treated as DENY: fail closed."""
    effects = REASONS[code].effects
    for effect in (Effect.DENY, Effect.WAIT, Effect.IND):
        if effect in effects:
            return effect
    return Effect.DENY
