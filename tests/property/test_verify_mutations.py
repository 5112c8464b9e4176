"""One byte changed anywhere: the bundle or token is refused, malformed, or still says exactly what it said."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.model.caller import CallerKind
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.dsse import pae
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.receipt import parse_receipt_key, verify_decision_statement
from gatekeeper.verify.submission import verify_submission
from gatekeeper.verify.token import Issuer, Unauthenticated, parse_key_set, verify_token
from gatekeeper.verify.vote import verify_vote
from tests.fakes import signing

CA = signing.FakeCa()
RUN = CA.run()
ROOTS = [CA.root()]
BUNDLES = [RUN.sign(payload) for payload in (signing.manifest_statement(), signing.provenance_statement(), signing.result_statement())]
REVIEWER = signing.FakeReviewer()
VOTE = REVIEWER.vote()
CI = signing.FakeIssuer()
NOW = 1_795_255_260
TOKEN = CI.token(signing.run_claims(NOW))
TABLE = [Issuer("ci", CI.url, CallerKind.RUN, frozenset({"pingee:test"}), parse_key_set(CI.jwks(), algorithms=["ES256"]))]
RECEIPT_KEYS = [parse_receipt_key(signing.FakeReceiptSigner().pem)]


def submit(data):
    return verify_submission(data, ROOTS, received_at=signing.RECEIVED)


def vote(data):
    return verify_vote(data, {"bob": (REVIEWER.public,)}, person="bob")


@st.composite
def mutated(draw, originals):
    original = draw(st.sampled_from(originals))
    place = draw(st.integers(0, len(original) - 1))
    match draw(st.sampled_from(["replace", "delete", "insert", "cut"])):
        case "replace":
            changed = original[:place] + bytes([draw(st.integers(0, 255))]) + original[place + 1 :]
        case "delete":
            changed = original[:place] + original[place + 1 :]
        case "insert":
            changed = original[:place] + bytes([draw(st.integers(0, 255))]) + original[place:]
        case _:
            changed = original[:place]
    return original, changed


def unchanged_or_refused(verify, original, changed):
    try:
        checked = verify(changed)
    except Malformed:
        return
    if isinstance(checked, Refusal):
        return
    assert isinstance(checked, Verified)
    assert checked.value == verify(original).value
    assert (checked.digest == verify(original).digest) == (changed == original)
    # believed only where JSON itself sees no difference, or a hint that decides nothing was touched
    before, after = json.loads(original), json.loads(changed)
    for document in (before, after):
        document["verificationMaterial"].pop("publicKey", None)
    assert before == after


@settings(deadline=None, max_examples=300)
@given(mutated(BUNDLES))
def test_bundles(case):
    unchanged_or_refused(submit, *case)


@settings(deadline=None, max_examples=200)
@given(mutated([VOTE]))
def test_votes(case):
    unchanged_or_refused(vote, *case)


@settings(deadline=None, max_examples=200)
@given(mutated([TOKEN.encode()]))
def test_tokens(case):
    original, changed = case
    try:
        caller = verify_token(changed.decode("latin-1"), TABLE, audience="pingee:test", now=NOW)
    except Unauthenticated:
        assert changed != original
    else:
        assert changed == original
        assert caller == verify_token(TOKEN, TABLE, audience="pingee:test", now=NOW)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_malformed_everywhere(data):
    for verify in (submit, vote, lambda raw: verify_decision_statement(raw, RECEIPT_KEYS)):
        try:
            checked = verify(data)
        except Malformed:
            continue
        raise AssertionError(checked)


@settings(deadline=None, max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    )
)
def test_signed_nonsense_is_malformed_not_a_crash(value):
    payload = json.dumps(value).encode()
    try:
        checked = submit(RUN.sign(payload))
    except Malformed:
        return
    raise AssertionError(checked)


@given(st.text(max_size=20), st.binary(max_size=40), st.text(max_size=20), st.binary(max_size=40))
def test_pae_is_injective(type_1, body_1, type_2, body_2):
    assert (pae(type_1, body_1) == pae(type_2, body_2)) == ((type_1, body_1) == (type_2, body_2))
