"""The reason codes, pinned: a code is never renamed, never gets another effect, and a retired one never comes back."""

import re

import pytest

from gatekeeper.model.reason import REASONS, RETIRED, Effect, effect_on_ping

# code, effects, whether breakglass can lift it: decision rules, section 7. Rows are added here; an effect may be added to one, nothing else of it changes.
PINNED = """
unauthenticated | call | no
not-authorised | call, deny | no
rate-limited | call | no
quota-exceeded | call | no
ping-malformed | call | no
idempotency-conflict | call | no
idempotency-running | call | no
ping-expired | deny | no
wrong-gatekeeper | call | no
unknown-manifest | call | no
not-found | call | no
project-not-approved | deny | no
bad-signature | deny, door | no
unknown-builder | deny | no
builder-revoked | deny | no
certificate-expired | deny | no
manifest-replayed | deny | no
older-than-running | deny | no
provenance-missing | deny | no
provenance-predicate | deny | no
provenance-project | deny | no
provenance-commit | deny | no
provenance-tree | deny | no
provenance-inputs | deny | no
image-not-declarative | deny | no
digest-mismatch | deny, door | no
artifact-missing | deny | no
stage-missing | deny | yes
stage-pending | wait | no
stage-failed | deny | yes
platform-missing | deny | yes
enforced-step-missing | deny | yes
tests-not-in-tree | deny | no
candidacy-nullified | deny | yes
dependant-tests | deny | yes
stale-target | deny | no
merge-pending | wait | no
merge-failed | deny | no
post-merge-pending | wait | no
post-merge-failed | deny | no
direct-push | deny | no
unsigned-commit | deny | no
rolled-back-change | wait | no
votes-missing | wait | no
votes-insufficient | wait | no
votes-stale | wait | no
votes-self | wait | no
votes-ineligible | wait | no
votes-veto | deny | no
acknowledgement-missing | wait | no
go-missing | wait | no
security-ack-missing | wait | no
hold-active | wait | no
embargoed | deny | no
embargo-environment | deny | no
embargo-not-before | wait | no
embargo-withdrawn | deny | no
embargoed-fix-missing | wait | no
embargo-overlay-conflict | wait | no
second-person-missing | wait | no
already-public | call | no
config-unreviewed | deny, load | no
config-dirty | deny, load | no
config-rewound | load | no
config-invalid | deny, door, load | no
config-secret-refused | deny, door | no
config-secret-found | deny, after | no
environment-frozen | wait | yes
stopped | wait | no
environment-busy | wait | no
environment-reserved | deny | no
environment-exhausted | wait | no
promotion-missing | deny | no
soak-incomplete | wait | yes
manifest-too-old | deny | no
version-override-refused | deny | no
landing-incomplete | deny | no
landing-changed | deny | no
never-deployed | deny | no
artifact-expired | deny | no
periodic-no-promote | deny | no
self-judgement | deny | no
vault-policy-manual | deny | no
breakglass-expired | deny | no
breakglass-scope | deny | no
breakglass-debt | deny | no
exemption-expired | deny | no
exceptions-combined | deny | no
rule-error | deny | no
policy-empty | deny | no
review-unavailable | ind | no
vcs-unavailable | ind | no
registry-unavailable | ind | no
evidence-unreadable | ind | no
vault-unavailable | ind | no
identity-unavailable | ind | no
trustroot-stale | ind | no
revocation-unavailable | ind | no
config-unavailable | ind | no
embargo-unavailable | ind | no
environment-unavailable | ind | no
target-unavailable | ind | no
log-unavailable | ind | no
witness-unavailable | ind | no
clock-untrusted | ind | no
decision-timeout | ind | no
allow-expired | after, door | no
lease-refused | after | no
fence-lost | after | no
apply-failed | after | no
apply-interrupted | after | no
health-failed | after | no
target-unresponsive | after | no
superseded | after | no
cancelled | after | no
receipt-missing | door | no
receipt-other-target | door | no
receipt-replayed | door | no
log-fork | door | no
origin-closed | door | no
sealed-not-allowed | door | no
override-signers | door | no
override-expired | door | no
override-scope | door | no
order-signers | order | no
order-expired | order | no
order-scope | order | no
"""

EFFECTS = {effect.name.lower(): effect for effect in Effect}


def read(line):
    code, effects, breakglass = line.split(" | ")
    return code, (frozenset(EFFECTS[word] for word in effects.split(", ")), breakglass == "yes")


ROWS = dict(read(line) for line in PINNED.strip().splitlines())


def test_the_table_is_the_pinned_one_in_its_order():
    assert list(REASONS) == list(ROWS)
    assert len(ROWS) == len(PINNED.strip().splitlines()) == 127
    assert {code: (reason.effects, reason.breakglass) for code, reason in REASONS.items()} == ROWS


def test_a_retired_code_is_on_no_list():
    assert {"ping-replayed"} == RETIRED
    assert not RETIRED & set(REASONS)


@pytest.mark.parametrize("code", ROWS)
def test_every_code_is_spelt_in_one_way_means_something_and_names_who_can_mend_it(code):
    reason = REASONS[code]
    assert reason.code == code
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert reason.meaning
    assert reason.who


@pytest.mark.parametrize("code", ROWS)
def test_what_a_code_does_to_a_ping(code):
    effects = ROWS[code][0]
    wanted = next((effect for effect in (Effect.DENY, Effect.WAIT, Effect.IND) if effect in effects), Effect.DENY)
    assert effect_on_ping(code) is wanted


def test_breakglass_lifts_nothing_that_says_whose_bytes_they_are_or_who_is_embargoed():
    assert {code for code, reason in REASONS.items() if reason.breakglass} == {
        "stage-missing",
        "stage-failed",
        "platform-missing",
        "enforced-step-missing",
        "candidacy-nullified",
        "dependant-tests",
        "environment-frozen",
        "soak-incomplete",
    }


def test_who_mends_a_code_is_never_security_for_a_public_one():
    # Next steps must not give an embargo away: what a public Viewer sees names the environment's owners.
    assert "security" not in REASONS["hold-active"].who


def test_no_code_of_the_table_is_unknown_to_the_effect_of_a_ping():
    with pytest.raises(KeyError):
        effect_on_ping("made-up")
