"""Each rule of production and each reason it can give: attack matrix rows 65, 67 to 73, 80, 81 as far as rules decide them."""

from dataclasses import replace

import pytest

from gatekeeper.model.decision import Purpose, Result, RuleResult, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.model.facts import Received, StoredArtifact, TestVerdict
from gatekeeper.model.label import parse_label
from gatekeeper.model.moment import later
from gatekeeper.model.reason import REASONS
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.policy import decide as deciding
from gatekeeper.policy.decide import conclude, decide, ends_ping, evidence_items, rules_for
from gatekeeper.policy.rule import Rule, passed, skipped
from tests.fakes.cases import (
    AT,
    CHANGE,
    OTHER_BUILDER,
    candidate,
    good_case,
    person,
    policy,
    production_text,
    revision,
    rollback_case,
    vote,
    with_fact,
    with_item,
    with_signer,
)
from tests.fakes.signing import ARTIFACT, COMMIT, RECEIVED

GOOD = good_case()
EVIDENCE = GOOD.evidence
TWO = {"environments__production": production_text(count=2)}
BAD = Refusal("bad-signature", "the signature does not hold")
STALE = "9" * 40


def row(case, rule):
    """The one row of this rule."""
    (found,) = [found for found in decide(case).rules if found.rule == rule]
    return found


def refused(case, rule, reason):
    """This rule fails for this reason, says what is needed and who can give it, and the whole is a denial."""
    decision = decide(case)
    found = row(case, rule)
    assert (found.result, found.reason) == (Result.FAIL, reason)
    assert found.expected
    assert found.actual
    assert found.need
    assert found.who == REASONS[reason].who
    assert decision.verdict is Verdict.DENY
    assert reason in decision.reasons
    return found


def cannot_tell(case, rule, cause):
    found = row(case, rule)
    assert (found.result, found.reason) == (Result.UNREADABLE, cause)
    assert found.need
    assert decide(case).verdict is not Verdict.ALLOW


def evidence(**items):
    return good_case(**items)


def votes(*cast):
    return Present(tuple(cast))


def test_the_good_case_is_allowed_and_every_rule_has_its_row():
    decision = decide(GOOD)
    assert (decision.verdict, decision.reasons, decision.at) == (Verdict.ALLOW, (), AT)
    assert [found.rule for found in decision.rules] == [
        "origin.requester",
        "origin.project",
        "origin.signature",
        "origin.provenance",
        "origin.age",
        "rollback.member",
        "artifact.bytes",
        "tests.commit",
        "tests.acceptance",
        "votes.review",
        "embargo.label",
        "config.reviewed",
        "config.secrets",
    ]
    assert {found.rule for found in decision.rules if found.result is Result.SKIP} == {"rollback.member"}
    assert all(found.actual for found in decision.rules)


def test_the_good_rollback_is_allowed():
    decision = decide(rollback_case())
    assert decision.verdict is Verdict.ALLOW
    assert {found.rule for found in decision.rules if found.result is Result.SKIP} == {"origin.requester", "origin.age", "votes.review", "config.secrets"}


# --- the decision over all rows


def test_an_environment_that_the_policy_does_not_know_is_denied_as_empty():
    decision = decide(good_case(asked={"environment": "elsewhere"}))
    assert (decision.verdict, decision.reasons) == (Verdict.DENY, ("policy-empty",))
    assert decision.rules[0].need
    assert rules_for(policy(), "elsewhere") == ()


def test_no_rows_and_rows_that_ask_nothing_are_denials():
    for rows in ((), (skipped("a", "not here"), skipped("b", "nor here"))):
        assert (conclude(rows, AT).verdict, conclude(rows, AT).reasons) == (Verdict.DENY, ("policy-empty",))
    assert conclude((skipped("a", "not here"), passed("b", "fine")), AT).verdict is Verdict.ALLOW


def test_the_reasons_are_those_of_the_rows_that_made_the_verdict_in_their_order_and_once():
    rows = {
        Result.PASS: RuleResult("a", Result.PASS, "votes-stale"),
        Result.EXEMPT: RuleResult("b", Result.EXEMPT, "adopted"),
        Result.WARN: RuleResult("c", Result.WARN, "votes-missing"),
        Result.UNREADABLE: RuleResult("d", Result.UNREADABLE, "vcs-unavailable"),
        Result.FAIL: RuleResult("e", Result.FAIL, "provenance-commit"),
    }

    def concluded(*kinds):
        found = conclude(tuple(rows[kind] for kind in kinds), AT)
        return found.verdict, found.reasons

    assert concluded(*rows, Result.FAIL) == (Verdict.DENY, ("vcs-unavailable", "provenance-commit"))
    assert concluded(Result.FAIL, Result.UNREADABLE, Result.FAIL) == (Verdict.DENY, ("provenance-commit", "vcs-unavailable"))
    assert concluded(Result.PASS, Result.EXEMPT, Result.WARN, Result.UNREADABLE) == (Verdict.INDETERMINATE, ("vcs-unavailable",))
    assert concluded(Result.PASS, Result.EXEMPT, Result.WARN, Result.WARN) == (Verdict.ALLOW, ("votes-missing",))
    assert concluded(Result.PASS, Result.EXEMPT) == (Verdict.ALLOW, ())


def test_a_failure_that_gives_no_reason_is_told_as_a_bug():
    for verdict, result in ((Verdict.DENY, Result.FAIL), (Verdict.INDETERMINATE, Result.UNREADABLE)):
        found = conclude((RuleResult("a", result),), AT)
        assert (found.verdict, found.reasons) == (verdict, ("rule-error",))


def test_what_was_gathered_is_listed_once_and_the_results_by_their_stage():
    names = [name for name, _ in EVIDENCE.items()]
    assert "results" not in names
    assert len(names) == len(set(names))
    assert [name for name in names if name.startswith("tests.")] == ["tests.acceptance", "tests.commit"]


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (lambda case: 1 / 0, "ZeroDivisionError"),
        (lambda case: None, "AttributeError"),
        (lambda case: replace(passed("origin.age", "x"), result=Result.FAIL), "no reason code"),
        (lambda case: replace(passed("origin.age", "x"), result=Result.UNREADABLE, reason="made-up"), "no reason code"),
    ],
)
def test_a_broken_rule_denies(monkeypatch, judge, words):
    monkeypatch.setattr(deciding, "_ORIGIN", (Rule("origin.age", judge),))
    found = refused(GOOD, "origin.age", "rule-error")
    assert words in found.actual


def test_a_component_that_the_policy_lost_is_a_rule_error():
    assert "rule-error" in decide(good_case(asked={"component": "gone"})).reasons


def test_a_denial_outweighs_what_cannot_be_read_and_all_reasons_are_kept_once():
    both = evidence(votes=Absent(), stored=Unreadable("registry-unavailable"), configuration=Unreadable("registry-unavailable"))
    decision = decide(both)
    assert decision.verdict is Verdict.DENY
    assert decision.reasons == ("registry-unavailable", "votes-missing")
    assert decide(evidence(stored=Unreadable("registry-unavailable"))).verdict is Verdict.INDETERMINATE


def test_a_ping_ends_for_a_deny_code_and_waits_for_others():
    assert ends_ping(decide(evidence(stored=Absent())))
    assert not ends_ping(decide(evidence(votes=Absent())))
    assert not ends_ping(decide(evidence(votes=Unreadable("review-unavailable"))))
    assert not ends_ping(decide(GOOD))


def test_the_statement_gets_one_item_for_each_digest_and_each_gap():
    items = evidence_items(replace(EVIDENCE, votes=Present((), (digest_of(b"1"), digest_of(b"2"))), stored=Unreadable("registry-unavailable")))
    assert [(item.state, item.digest) for item in items if item.kind == "votes"] == [("present", digest_of(b"1")), ("present", digest_of(b"2"))]
    assert [(item.state, item.digest) for item in items if item.kind == "stored"] == [("unreadable", None)]
    assert [item.state for item in items if item.kind == "deployed_before"] == ["absent"]
    assert not [item for item in items if item.kind in {"label", "uploader", "older"}]
    assert [item.kind for item in items][-2:] == ["tests.acceptance", "tests.commit"]


# --- origin.requester


def test_a_token_of_another_commit_may_not_ping_the_artifact():
    refused(good_case(asked={"bound_commit": STALE}), "origin.requester", "not-authorised")


def test_a_person_is_bound_to_no_commit():
    case = good_case(asked={"bound_commit": None})
    assert row(case, "origin.requester").result is Result.SKIP
    assert decide(case).verdict is Verdict.ALLOW


def test_without_a_manifest_the_requester_is_judged_by_nobody_and_the_ping_denied():
    case = evidence(manifest=Present(BAD))
    assert row(case, "origin.requester").result is Result.SKIP
    assert decide(case).verdict is Verdict.DENY
    cannot_tell(evidence(manifest=Unreadable("evidence-unreadable")), "origin.requester", "evidence-unreadable")


# --- origin.project (row 81)


def test_a_project_that_is_not_approved_for_the_environment():
    text = 'repository = "https://git.demo/hello"\ndefault_branch = "main"\nreview = "attestations"\napproved = ["test"]\n'
    found = refused(good_case(files={"projects__hello": text}), "origin.project", "project-not-approved")
    assert "projects/hello.toml" in found.need
    assert found.actual == "approved for: test"
    nowhere = refused(good_case(files={"projects__hello": text.replace('"test"', "")}), "origin.project", "project-not-approved")
    assert nowhere.actual == "approved for: nothing"


# --- origin.signature


@pytest.mark.parametrize("code", ["bad-signature", "unknown-builder", "certificate-expired", "builder-revoked", "provenance-project"])
def test_a_refused_manifest_keeps_its_reason(code):
    refused(evidence(manifest=Present(Refusal(code, "why"))), "origin.signature", code)


def test_without_a_manifest_that_is_believed_provenance_has_nothing_to_be_compared_with():
    for manifest in (Absent(), Present(Refusal("bad-signature", "why")), Unreadable("evidence-unreadable")):
        found = row(evidence(manifest=manifest), "origin.provenance")
        assert (found.result, found.reason) == (Result.SKIP, None)


def test_who_signed_under_nobodys_root_is_told_so():
    for root, words in (("", "under the signer of nobody"), (OTHER_BUILDER, f"under the signer of {OTHER_BUILDER}")):
        found = row(with_item(GOOD, "manifest", with_signer(item("manifest"), root=root)), "origin.signature")
        assert found.actual.endswith(words)


def test_no_manifest():
    refused(evidence(manifest=Absent()), "origin.signature", "bad-signature")
    cannot_tell(evidence(manifest=Unreadable("evidence-unreadable")), "origin.signature", "evidence-unreadable")


def test_a_refusal_with_a_code_of_nobody_is_a_rule_error():
    refused(evidence(manifest=Present(Refusal("made-up", "why"))), "origin.signature", "rule-error")
    refused(evidence(stored=Unreadable("made-up", "why")), "artifact.bytes", "rule-error")


ITEMS = ("manifest", "provenance", "tests.commit", "tests.acceptance")
RULE_OF = {"manifest": "origin.signature", "provenance": "origin.provenance"}


def item(name):
    return dict(EVIDENCE.items())[name]


@pytest.mark.parametrize("name", ITEMS)
@pytest.mark.parametrize(
    ("signer", "reason"),
    [
        ({"builder_id": "https://ci.demo/unknown"}, "unknown-builder"),
        ({"builder_id": OTHER_BUILDER, "root": OTHER_BUILDER}, "unknown-builder"),
        ({"root": OTHER_BUILDER}, "unknown-builder"),
        ({"root": "nobody"}, "unknown-builder"),
        ({"root": ""}, "unknown-builder"),
        ({"project": "other"}, "provenance-project"),
    ],
)
def test_every_statement_is_signed_by_the_components_builder_under_its_own_ca_for_this_project(name, signer, reason):
    refused(with_item(GOOD, name, with_signer(item(name), **signer)), RULE_OF.get(name, name), reason)


def test_a_builder_that_may_not_build_this_project():
    builders = policy_text(f'projects = ["{"other"}"]')
    refused(good_case(files={"builders": builders}), "origin.signature", "unknown-builder")


def policy_text(projects):
    return (
        f'[builders."https://ci.demo/builder"]\nsigner = "x509:builder-ca"\nissuer = "ci"\n{projects}\n'
        f'[builders."{OTHER_BUILDER}"]\nsigner = "x509:other-ca"\nissuer = "ci"\nprojects = ["hello"]\n'
    )


def test_a_manifest_about_another_artifact_or_component():
    refused(evidence(manifest=with_fact(EVIDENCE.manifest, artifact=digest_of(b"other"))), "origin.signature", "digest-mismatch")
    refused(evidence(manifest=with_fact(EVIDENCE.manifest, component="other")), "origin.signature", "provenance-project")


# --- origin.provenance


def test_no_provenance():
    refused(evidence(provenance=Absent()), "origin.provenance", "provenance-missing")
    refused(evidence(provenance=Present(())), "origin.provenance", "provenance-missing")
    cannot_tell(evidence(provenance=Unreadable("evidence-unreadable")), "origin.provenance", "evidence-unreadable")


@pytest.mark.parametrize("code", ["provenance-predicate", "provenance-inputs", "bad-signature", "digest-mismatch"])
def test_one_refused_provenance_is_not_outvoted_by_a_good_one(code):
    good = EVIDENCE.provenance.value[0]
    for statements in ((good, Refusal(code, "why")), (Refusal(code, "why"), good)):
        refused(evidence(provenance=Present(statements)), "origin.provenance", code)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"repository": "https://git.demo/fork"}, "provenance-project"),
        ({"commit": STALE}, "provenance-commit"),
        ({"tree": STALE}, "provenance-tree"),
        ({"build_type": "https://pingee.internal/pipeline/v2"}, "provenance-predicate"),
        ({"builder_id": OTHER_BUILDER}, "unknown-builder"),
    ],
)
def test_provenance_that_says_something_else(change, reason):
    lie = with_fact(EVIDENCE.provenance, **change)
    refused(evidence(provenance=lie), "origin.provenance", reason)
    refused(evidence(provenance=Present((*EVIDENCE.provenance.value, *lie.value))), "origin.provenance", reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"repository": "https://git.demo/fork"}, "provenance-project"),
        ({"commit": STALE}, "provenance-commit"),
        ({"tree": STALE}, "provenance-tree"),
    ],
)
def test_a_manifest_that_names_another_source(change, reason):
    source = replace(EVIDENCE.manifest.value.value.source, **change)
    refused(good_case(asked={"bound_commit": None}, manifest=with_fact(EVIDENCE.manifest, source=source)), "origin.provenance", reason)


def test_a_manifest_that_names_another_builder_than_its_signer():
    refused(evidence(manifest=with_fact(EVIDENCE.manifest, builder_id=OTHER_BUILDER)), "origin.provenance", "unknown-builder")


def test_the_repository_has_the_last_word_on_commit_and_tree():
    refused(evidence(revision=Absent()), "origin.provenance", "provenance-commit")
    refused(evidence(revision=Present(revision(commit=STALE))), "origin.provenance", "provenance-commit")
    refused(evidence(revision=Present(revision(tree=STALE))), "origin.provenance", "provenance-tree")
    cannot_tell(evidence(revision=Unreadable("vcs-unavailable")), "origin.provenance", "vcs-unavailable")
    found = row(evidence(revision=Absent()), "votes.review")
    assert (found.result, found.reason) == (Result.SKIP, None)


# --- origin.age and rollback.member (row 80)


def test_what_is_older_than_what_runs_comes_back_by_rollback_only():
    found = refused(evidence(older=Present(value=True)), "origin.age", "older-than-running")
    assert "pingee rollback production hello" in found.need
    assert row(rollback_case(), "origin.age").result is Result.SKIP


def test_where_nothing_runs_nothing_is_older():
    assert decide(evidence(older=Absent(), running=Absent())).verdict is Verdict.ALLOW


def test_an_age_that_is_not_known_is_no_pass():
    cannot_tell(evidence(older=Unreadable("vcs-unavailable")), "origin.age", "vcs-unavailable")
    cannot_tell(evidence(older=Absent()), "origin.age", "vcs-unavailable")
    cannot_tell(evidence(older=Absent(), running=Unreadable("target-unavailable")), "origin.age", "target-unavailable")


@pytest.mark.parametrize("history", [Absent(), Present(value=False)])
def test_a_rollback_to_what_was_never_deployed(history):
    found = refused(rollback_case(deployed_before=history), "rollback.member", "never-deployed")
    assert "--list" in found.need


def test_a_rollback_whose_history_cannot_be_read():
    cannot_tell(rollback_case(deployed_before=Unreadable("evidence-unreadable")), "rollback.member", "evidence-unreadable")


@pytest.mark.parametrize("name", ["stored", "manifest", "provenance", "revision", "tests.commit", "configuration"])
def test_a_rollback_needs_everything_but_votes_and_youth(name):
    assert decide(with_item(rollback_case(), name, Absent())).verdict is Verdict.DENY


# --- artifact.bytes


def test_bytes_in_the_store():
    refused(evidence(stored=Absent()), "artifact.bytes", "artifact-missing")
    refused(evidence(stored=Present(Refusal("digest-mismatch", "another layer"))), "artifact.bytes", "digest-mismatch")
    stored = EVIDENCE.stored.value
    assert isinstance(stored, StoredArtifact)
    refused(evidence(stored=Present(replace(stored, component="other"))), "artifact.bytes", "provenance-project")
    cannot_tell(evidence(stored=Unreadable("registry-unavailable")), "artifact.bytes", "registry-unavailable")


# --- tests.*


def with_results(stage, item):
    return with_item(GOOD, f"tests.{stage}", item)


@pytest.mark.parametrize("stage", ["commit", "acceptance"])
def test_a_stage_without_a_result_is_waited_for_and_then_missing(stage):
    rule = f"tests.{stage}"
    for nothing in (Absent(), Present(())):
        early = with_results(stage, nothing)
        refused(early, rule, "stage-pending")
        assert not ends_ping(decide(early))
        refused(replace(early, at=later(RECEIVED, seconds=3599)), rule, "stage-pending")
        refused(replace(early, at=later(RECEIVED, seconds=3600)), rule, "stage-missing")
    unknown = replace(EVIDENCE, results={})
    refused(replace(GOOD, evidence=unknown), rule, "stage-pending")


def test_how_long_a_stage_is_waited_for_is_the_environments_word():
    case = with_item(good_case(files={"environments__production": production_text(extra="stage_wait_s = 0")}), "tests.commit", Absent())
    refused(case, "tests.commit", "stage-missing")


def test_a_stage_of_an_artifact_whose_arrival_is_not_known():
    missing = with_results("commit", Absent())
    refused(with_item(missing, "received", Absent()), "tests.commit", "stage-missing")
    cannot_tell(with_item(missing, "received", Unreadable("evidence-unreadable")), "tests.commit", "evidence-unreadable")
    later_one = Present(Received(at=later(RECEIVED, seconds=7200), index=2))
    refused(with_item(missing, "received", later_one), "tests.commit", "stage-pending")


def test_a_failure_stands_whether_it_came_before_or_after_a_pass():
    good = item("tests.commit").value[0]
    bad = with_fact(item("tests.commit"), verdict=TestVerdict.FAILED, failed=("make test",)).value[0]
    for results in ((bad,), (good, bad), (bad, good)):
        found = refused(with_results("commit", Present(results)), "tests.commit", "stage-failed")
        assert "make test" in found.actual
    nameless = with_fact(item("tests.commit"), verdict=TestVerdict.FAILED)
    assert "no test named" in refused(with_results("commit", nameless), "tests.commit", "stage-failed").actual


def test_a_stage_that_only_warned_passes():
    assert decide(with_results("commit", with_fact(item("tests.commit"), verdict=TestVerdict.WARNED))).verdict is Verdict.ALLOW


def test_a_result_that_is_refused_keeps_its_reason_beside_a_good_one():
    good = item("tests.commit").value[0]
    refused(with_results("commit", Present((good, Refusal("digest-mismatch", "another artifact")))), "tests.commit", "digest-mismatch")
    cannot_tell(with_results("commit", Unreadable("evidence-unreadable")), "tests.commit", "evidence-unreadable")


def test_a_result_of_a_run_for_another_commit():
    case = with_results("commit", with_signer(item("tests.commit"), commit=STALE))
    refused(case, "tests.commit", "provenance-commit")
    # Without a manifest there is no commit to compare with, and another rule refuses.
    assert "bad-signature" in decide(with_item(case, "manifest", Absent())).reasons


def test_an_environment_without_stages_asks_for_none():
    asked = {"environment": "test", "purpose": Purpose.TEST}
    case = good_case(asked=asked, votes=Absent(), results={})
    assert [found.rule for found in decide(case).rules if found.rule.startswith("tests.")] == []
    assert row(case, "votes.review").result is Result.SKIP
    assert decide(case).verdict is Verdict.ALLOW


# --- votes.review


def test_nobody_voted():
    for nothing in (Absent(), Present(())):
        found = refused(evidence(votes=nothing), "votes.review", "votes-missing")
        assert found.need == "1 more vote(s) Code-Review +2 by reviewers, not by owner, uploader, author or committer"


@pytest.mark.parametrize(
    ("name", "cause"), [("votes", "review-unavailable"), ("revision", "vcs-unavailable"), ("uploader", "evidence-unreadable")]
)
def test_votes_that_cannot_be_read_or_placed(name, cause):
    cannot_tell(evidence(**{name: Unreadable(cause)}), "votes.review", cause)


def test_a_change_whose_uploader_is_not_known():
    refused(evidence(uploader=Absent()), "votes.review", "votes-ineligible")


@pytest.mark.parametrize(
    "change", [{"revision": STALE}, {"tree": STALE}, {"change": "I" + STALE}, {"project": "fork"}], ids=lambda change: next(iter(change))
)
def test_a_vote_for_another_revision_tree_change_or_project_is_stale(change):  # rows 65, 73
    old = vote("bob", **change)
    assert isinstance(old, Verified)
    refused(evidence(votes=votes(old)), "votes.review", "votes-stale")


def test_stale_beats_missing_and_enough_good_votes_beat_stale():
    stale = vote("alice", revision=STALE)
    refused(evidence(votes=votes(stale, vote("bob", value=0))), "votes.review", "votes-stale")
    assert decide(evidence(votes=votes(stale, vote("bob")))).verdict is Verdict.ALLOW
    assert refused(good_case(files=TWO, votes=votes(stale, vote("bob"))), "votes.review", "votes-insufficient")


@pytest.mark.parametrize("by", ["author", "committer"])
def test_the_author_and_the_committer_do_not_vote_for_themselves(by):  # row 67
    case = evidence(revision=Present(revision(**{by: "Bob@Demo.Example"})))
    refused(case, "votes.review", "votes-self")


def test_the_uploader_does_not_vote_whatever_the_commit_says():  # row 67
    case = evidence(uploader=Present("ci|bob"))
    refused(case, "votes.review", "votes-self")


def test_a_voter_without_an_account_cannot_be_told_from_an_uploader_whom_nobody_knows():  # row 68
    files = {"people": person("alice") + person("bob", accounts="") + person("dave", groups='"developers"')}
    refused(good_case(files=files, uploader=Present("ci|stranger")), "votes.review", "votes-ineligible")
    # The uploader is a person of the policy, and another one.
    assert decide(good_case(files=files, uploader=Present("ci|dave"))).verdict is Verdict.ALLOW
    # The voter's account at that issuer is known, and is another one.
    assert decide(good_case(uploader=Present("ci|stranger"))).verdict is Verdict.ALLOW
    # An account of the same name at another issuer proves nothing.
    refused(good_case(uploader=Present("people|dave")), "votes.review", "votes-ineligible")


def test_who_is_not_in_the_group_or_no_longer_in_the_policy_does_not_count():  # rows 69, 71
    refused(good_case(uploader=Present("ci|carol"), revision=Present(revision(author="c@x", committer="c@x")), votes=votes(vote("dave"))),
            "votes.review", "votes-ineligible")  # fmt: skip
    gone = {"people": person("alice") + person("dave", groups='"developers"')}
    refused(good_case(files=gone), "votes.review", "votes-ineligible")


def test_a_vote_that_does_not_verify_does_not_count():
    refused(evidence(votes=Present((BAD,))), "votes.review", "votes-ineligible")
    assert decide(evidence(votes=votes(BAD, vote("bob")))).verdict is Verdict.ALLOW


def test_a_last_word_counts():  # row 70
    assert decide(evidence(votes=votes(vote("bob", value=-1), vote("bob")))).verdict is Verdict.ALLOW
    for value in (1, 0, -1):
        refused(evidence(votes=votes(vote("bob"), vote("bob", value=value))), "votes.review", "votes-missing")
    assert decide(evidence(votes=votes(vote("bob", value=-2), vote("bob")))).verdict is Verdict.ALLOW
    # A later vote for another revision takes nothing back.
    assert decide(evidence(votes=votes(vote("bob"), vote("bob", revision=STALE, value=-2)))).verdict is Verdict.ALLOW


def test_a_veto_stands_against_any_number():  # row 72
    for cast in ((vote("alice"), vote("bob"), vote("carol", value=-2)), (vote("alice", value=-2), vote("bob"), vote("carol"))):
        case = evidence(votes=votes(*cast))
        found = refused(case, "votes.review", "votes-veto")
        assert found.need == "the vetoing reviewer changes the vote"
        assert ends_ping(decide(case))
    assert decide(evidence(votes=votes(vote("bob"), vote("dave", value=-2)))).verdict is Verdict.ALLOW


def test_a_vote_under_another_label_counts_for_nothing():
    refused(evidence(votes=votes(vote("bob", label="Verified"))), "votes.review", "votes-missing")
    assert decide(evidence(votes=votes(vote("bob"), vote("bob", label="Verified", value=-2)))).verdict is Verdict.ALLOW


def test_two_people_are_two_people():  # row 68
    found = refused(good_case(files=TWO, votes=votes(vote("bob"), vote("bob"))), "votes.review", "votes-insufficient")
    assert found.need.startswith("1 more vote(s)")
    refused(good_case(files=TWO, votes=votes(vote("bob"), vote("alice", value=1))), "votes.review", "votes-insufficient")
    passing = good_case(files=TWO, votes=votes(vote("bob"), vote("alice")))
    assert decide(passing).verdict is Verdict.ALLOW
    assert row(passing, "votes.review").actual == "Code-Review +2 by alice, bob"


# --- embargo.label, config.reviewed


@pytest.mark.parametrize("names", [{"embargo:cve-1"}, {"project:hidden"}, {"embargo:a", "project:b"}])
def test_nothing_that_carries_a_compartment_goes_out(names):
    refused(evidence(label=Present(parse_label(names))), "embargo.label", "embargoed")


def test_a_label_that_cannot_be_told_is_not_public():
    cannot_tell(evidence(label=Unreadable("embargo-unavailable")), "embargo.label", "embargo-unavailable")
    cannot_tell(evidence(label=Absent()), "embargo.label", "embargo-unavailable")


def test_configuration():
    found = refused(evidence(configuration=Absent()), "config.reviewed", "config-unreviewed")
    assert candidate().config in found.actual
    cannot_tell(evidence(configuration=Unreadable("config-unavailable")), "config.reviewed", "config-unavailable")


def test_what_an_unreadable_row_says_is_the_detail_or_the_codes_meaning():
    assert row(evidence(stored=Unreadable("registry-unavailable", "disk full")), "artifact.bytes").actual == "disk full"
    assert row(evidence(stored=Unreadable("registry-unavailable")), "artifact.bytes").actual == REASONS["registry-unavailable"].meaning


def test_the_constants_are_what_the_signers_signed():
    manifest = EVIDENCE.manifest.value
    assert isinstance(manifest, Verified)
    assert (manifest.value.artifact, manifest.value.source.commit, CHANGE) == (ARTIFACT, COMMIT, "I" + COMMIT)
