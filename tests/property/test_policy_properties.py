"""The decision under any evidence: total, and never kinder for knowing less."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.model.decision import Decision, Mode, Purpose, Result, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.model.facts import TestVerdict
from gatekeeper.model.label import parse_label
from gatekeeper.model.reason import REASONS, Effect
from gatekeeper.model.verified import Refusal
from gatekeeper.policy import decide as deciding
from gatekeeper.policy.decide import conclude, decide, ends_ping, evidence_items, rules_for
from gatekeeper.policy.rule import Rule, failed, passed, skipped, unreadable
from tests.fakes.cases import AT, good_case, policy, production_text, revision, rollback_case, vote, with_fact, with_item, with_signer

GOOD, ROLLBACK = good_case(), rollback_case()
EVIDENCE = GOOD.evidence
NAMES = tuple(name for name, _ in EVIDENCE.items())
CAUSES = tuple(code for code, reason in REASONS.items() if Effect.IND in reason.effects)
CODES = tuple(REASONS)
RULES = tuple(rule.name for rule in rules_for(GOOD.policy, "production"))

GAPS = st.one_of(st.just(Absent()), st.sampled_from(CAUSES).map(Unreadable))
REFUSALS = st.builds(Refusal, st.sampled_from([*CODES, "made-up"]), st.text(max_size=5))
LABELS = st.frozensets(st.sampled_from(["embargo:a", "embargo:b", "project:c"]), max_size=3).map(parse_label)
VOTES = st.lists(
    st.one_of(
        REFUSALS,
        st.sampled_from(
            [vote(who, value=value) for who in ("alice", "bob", "carol", "dave") for value in (-2, -1, 0, 1, 2)]
            + [vote("bob", revision="9" * 40), vote("alice", label="Verified", value=-2)]
        ),
    ),
    max_size=6,
)


def several(name):
    """Some of: the good statement, one by another signer, one that says something else, a refusal."""
    good = dict(EVIDENCE.items())[name]
    other = {"verdict": TestVerdict.FAILED} if name.startswith("tests.") else {"tree": "8" * 40}
    known = [good.value[0], with_signer(good, project="other").value[0], with_fact(good, **other).value[0]]
    return st.lists(st.one_of(st.sampled_from(known), REFUSALS), max_size=3).map(lambda found: Present(tuple(found)))


VALUES = {
    "manifest": st.one_of(
        st.sampled_from([EVIDENCE.manifest.value, with_signer(EVIDENCE.manifest, root="").value, with_fact(EVIDENCE.manifest, component="x").value]),
        REFUSALS,
    ).map(Present),
    "received": st.just(EVIDENCE.received),
    "provenance": several("provenance"),
    "stored": st.one_of(st.sampled_from([EVIDENCE.stored.value, replace(EVIDENCE.stored.value, component="x")]), REFUSALS).map(Present),
    "revision": st.sampled_from([revision(), revision(tree="8" * 40), revision(author="bob@demo.example")]).map(Present),
    "votes": VOTES.map(lambda cast: Present(tuple(cast))),
    "uploader": st.sampled_from(["ci|dave", "ci|bob", "ci|stranger", "people|x", "", "|"]).map(Present),
    "label": LABELS.map(Present),
    "running": st.just(EVIDENCE.running),
    "older": st.booleans().map(Present),
    "configuration": st.just(EVIDENCE.configuration),
    "deployed_before": st.booleans().map(Present),
    "adopted": st.booleans().map(lambda value: Present(value, (digest_of(b"entry"),) if value else ())),
    "tests.commit": several("tests.commit"),
    "tests.acceptance": several("tests.acceptance"),
}

ADOPTED = {"adopted": Present(value=True, digests=(digest_of(b"entry"),)), "deployed_before": Present(value=False)}
BACK_TO_ADOPTED = rollback_case(**ADOPTED, manifest=Absent(), received=Absent(), provenance=Absent(), stored=Absent(), revision=Absent(), uploader=Absent())
PLACES = [GOOD, ROLLBACK, BACK_TO_ADOPTED, good_case(files={"environments__production": production_text(count=2)})]
HELD = frozenset(
    # P1, P3 to P5, P11, P12, P15, as decision-rules.md lists them: written out here, not taken from the code
    ["not-authorised", "bad-signature", "unknown-builder", "builder-revoked", "certificate-expired", "manifest-replayed", "older-than-running", "provenance-missing", "provenance-predicate", "provenance-project", "provenance-commit", "provenance-tree", "provenance-inputs", "image-not-declarative", "digest-mismatch", "artifact-missing", "embargoed", "embargo-environment", "embargo-not-before", "embargo-withdrawn", "embargoed-fix-missing", "embargo-overlay-conflict", "hold-active", "config-unreviewed", "config-dirty", "config-invalid", "config-secret-refused", "config-secret-found", "wrong-gatekeeper"]
)


@st.composite
def cases(draw):
    """Any evidence, more often nearly good than not."""
    case = draw(st.sampled_from(PLACES))
    for name in draw(st.sets(st.sampled_from(NAMES), max_size=4)):
        case = with_item(case, name, draw(st.one_of(GAPS, VALUES[name])))
    # That nothing runs there is one fact in two items, as it is gathered: nothing is older then, and only then.
    if case.evidence.running == Absent():
        return with_item(case, "older", Absent())
    return with_item(case, "older", Unreadable("vcs-unavailable")) if case.evidence.older == Absent() else case


def consistent(case, decision: Decision) -> None:
    assert {row.rule for row in decision.rules} == set(RULES)
    bad = [row for row in decision.rules if row.result in (Result.FAIL, Result.UNREADABLE)]
    assert (decision.verdict is Verdict.ALLOW) == (not bad)
    assert (decision.verdict is Verdict.DENY) == any(row.result is Result.FAIL for row in bad)
    assert decision.reasons == tuple(dict.fromkeys(row.reason for row in bad))
    assert all(row.reason in REASONS and row.need and row.who for row in bad)
    assert decision.at == case.at


def test_every_item_is_drawn():
    assert set(VALUES) == set(NAMES)


@given(cases())
@settings(max_examples=150, deadline=None)
def test_decide_never_raises_and_allows_only_where_no_rule_fails_or_cannot_tell(case):
    decision = decide(case)
    consistent(case, decision)
    assert decide(case) == decision
    ends_ping(decision)
    assert all((item.state == "present") == (item.digest is not None) for item in evidence_items(case.evidence))


@given(cases(), st.sampled_from(NAMES), GAPS)
@settings(max_examples=200, deadline=None)
def test_knowing_less_never_turns_a_denial_into_an_allow(case, name, gap):
    before = decide(case).verdict
    after = decide(with_item(case, name, gap)).verdict
    if before is not Verdict.ALLOW:
        assert after is not Verdict.ALLOW


# What a rule of an ordinary deploy does not look at: it may be missing, and the case is still allowed.
IRRELEVANT = {
    "received": "asked only while a stage has no result",
    "running": "asked only where `older` is absent",
    "deployed_before": "asked for rollbacks only",
    "adopted": "asked for rollbacks only",
}
IRRELEVANT_TO_ROLLBACK = {
    "received": "asked only while a stage has no result",
    "running": "asked only where `older` is absent",
    "older": "a rollback is older on purpose",
    "votes": "a rollback needs no new vote",
    "uploader": "asked for votes only",
}


@pytest.mark.parametrize("gap", [Absent(), *(Unreadable(cause) for cause in CAUSES)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_an_allow_needs_every_item_but_these(name, gap):
    for case, irrelevant in ((GOOD, IRRELEVANT), (ROLLBACK, IRRELEVANT_TO_ROLLBACK)):
        decision = decide(with_item(case, name, gap))
        if name == "adopted" and gap == Absent():
            assert decision.verdict is Verdict.ALLOW, "what was deployed by ping was never adopted"
            continue
        assert (decision.verdict is Verdict.ALLOW) == (name in irrelevant)
        if isinstance(gap, Unreadable) and name not in irrelevant:
            assert (decision.verdict, decision.reasons) == (Verdict.INDETERMINATE, (gap.cause,))


@given(cases(), LABELS)
@settings(max_examples=100, deadline=None)
def test_no_label_but_the_empty_one_is_ever_allowed(case, label):
    decision = decide(with_item(case, "label", Present(label)))
    if label:
        assert decision.verdict is Verdict.DENY
        assert "embargoed" in decision.reasons
    else:
        assert "embargoed" not in decision.reasons or decide(case).verdict is not Verdict.ALLOW


@given(cases(), st.sampled_from([Mode.WARN, Mode.SHADOW]))
@settings(max_examples=250, deadline=None)
def test_warn_lets_findings_pass_and_never_what_must_hold_nor_what_cannot_be_read(case, mode):
    strict = decide(case)
    found = decide(replace(case, candidate=replace(case.candidate, mode=mode)))
    if mode is Mode.SHADOW:
        assert found == strict, "shadow decides what enforce would"
        return
    held = {row.reason for row in strict.rules if row.result is Result.FAIL and (row.reason in HELD or row.reason in ("rule-error", "never-deployed"))}
    unread = any(row.result is Result.UNREADABLE for row in strict.rules)
    if held:
        assert (found.verdict, held - set(found.reasons)) == (Verdict.DENY, set())
    elif unread:
        assert found.verdict is not Verdict.ALLOW
    let_pass = [row for row in found.rules if row.result is Result.WARN]
    assert not {row.reason for row in let_pass} & HELD
    assert [row.rule for row in found.rules] == [row.rule for row in strict.rules]
    if found.verdict is Verdict.ALLOW:
        assert found.reasons == tuple(dict.fromkeys(row.reason for row in let_pass))
        assert set(found.reasons) == set(strict.reasons)


def test_what_was_adopted_comes_back_without_a_build_and_only_where_the_log_says_so():
    assert decide(BACK_TO_ADOPTED).verdict is Verdict.ALLOW
    without = decide(with_item(BACK_TO_ADOPTED, "adopted", Absent()))
    assert (without.verdict, "never-deployed" in without.reasons) == (Verdict.DENY, True)
    once = decide(with_item(with_item(BACK_TO_ADOPTED, "adopted", Absent()), "deployed_before", Present(value=True, digests=(digest_of(b"r"),))))
    assert (once.verdict, "bad-signature" in once.reasons) == (Verdict.DENY, True)
    unread = decide(with_item(BACK_TO_ADOPTED, "adopted", Unreadable("log-unavailable")))
    assert (unread.verdict, unread.reasons) == (Verdict.INDETERMINATE, ("log-unavailable",))
    deploy = replace(BACK_TO_ADOPTED, candidate=replace(BACK_TO_ADOPTED.candidate, purpose=Purpose.DEPLOY))
    assert "bad-signature" in decide(deploy).reasons


@given(st.lists(st.sampled_from(["pass", "skip", "fail", "unreadable"]), max_size=6))
def test_one_bad_row_is_enough_and_no_row_is_too_few(kinds):
    make = {
        "pass": lambda: passed("r", "fine"),
        "skip": lambda: skipped("r", "not here"),
        "fail": lambda: failed("r", "votes-missing", expected="a", actual="b", need="c"),
        "unreadable": lambda: unreadable("r", Unreadable("vcs-unavailable"), "k"),
    }
    verdict = conclude(tuple(make[kind]() for kind in kinds), AT).verdict
    if "fail" in kinds or not {"pass", "unreadable"} & set(kinds):
        assert verdict is Verdict.DENY
    elif "unreadable" in kinds:
        assert verdict is Verdict.INDETERMINATE
    else:
        assert verdict is Verdict.ALLOW


@given(st.sampled_from([ValueError, KeyError, RecursionError, AssertionError, StopIteration, MemoryError]), st.text(max_size=20))
@settings(deadline=None)
def test_a_rule_that_raises_anything_denies_and_repeats_nothing_of_it(kind, secret):
    def judge(case):
        raise kind("SECRET" + secret)

    rules = (Rule("a", judge), Rule("b", lambda case: passed("b", "fine")))
    rows = tuple(deciding._judge(rule, GOOD) for rule in rules)
    decision = conclude(rows, AT)
    assert (decision.verdict, decision.reasons) == (Verdict.DENY, ("rule-error",))
    assert "SECRET" not in repr(decision)


@given(st.text(max_size=20))
@settings(deadline=None)
def test_an_environment_without_rules_is_denied_as_empty(name):
    found = policy()
    if name not in found.environments:
        decision = decide(good_case(asked={"environment": name}))
        assert (decision.verdict, decision.reasons) == (Verdict.DENY, ("policy-empty",))


@given(VOTES, st.permutations(range(6)), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_votes_pass_only_with_enough_distinct_people_and_no_veto(cast, order, count):
    mixed = tuple(cast[n] for n in order if n < len(cast))
    case = good_case(files={"environments__production": production_text(count=count)}, votes=Present(mixed, (digest_of(b"v"),)))
    last = {}
    for checked in mixed:
        if not isinstance(checked, Refusal) and checked.value.revision == revision().commit and checked.value.label == "Code-Review":
            last[checked.value.voter] = checked.value.value
    eligible = {who: value for who, value in last.items() if who != "dave"}
    wanted = sum(value == 2 for value in eligible.values()) >= count and -2 not in eligible.values()
    assert (decide(case).verdict is Verdict.ALLOW) == wanted
