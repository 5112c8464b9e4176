"""Whatever key entries a log shows, in whatever order: trust is only ever handed on by a key that has it, once, and never comes back."""

from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.model.moment import Moment, parse_moment
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.keyhistory import encode_history, parse_history
from gatekeeper.tlog.keyring import Keyring, advance, installed_keys
from gatekeeper.tlog.kinds import KeyUse
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.note import encode_vkey
from tests.fakes.rotated import RotatedLog, key_entry, vkey_of

START = parse_moment("2026-11-21T10:00:00Z")
KEYS = [vkey_of(Ed25519PrivateKey.from_private_bytes(bytes(31) + bytes([number]))) for number in range(5)]
TEXTS = [encode_vkey(key) for key in KEYS]
days = st.integers(0, 30).map(lambda count: Moment(START + timedelta(days=count)))
entries = st.builds(
    lambda old, new, since, until: key_entry(KeyUse.LOG, old, new, since=since, until=until), st.sampled_from(TEXTS), st.sampled_from(TEXTS), days, days
)


def fold(shown, at):
    keys, steps = installed_keys(LogPolicy(log=KEYS[0])), []
    for entry in shown:
        after = advance(keys, entry, at=at)
        if isinstance(after, Keyring):
            steps.append((keys, entry, after))
            keys = after
    return keys, steps


@given(st.lists(entries, max_size=12), days)
def test_the_ring_is_one_line_from_the_installed_key(shown, at):
    keys, steps = fold(shown, at)
    assert keys.log[0].text == TEXTS[0]
    for one, following in zip(keys.log, keys.log[1:], strict=False):
        assert one.successor == following.text
        assert one.until is not None
    assert keys.log[-1].until is None
    assert len({key.text for key in keys.log}) == len(keys.log) == len(steps) + 1
    for before, entry, _ in steps:
        assert before.log[-1].text == entry.old
        assert entry.since < entry.until
        assert entry.since <= at


@given(st.lists(entries, max_size=12), days, days)
def test_one_key_at_least_is_in_force_and_a_replaced_one_is_never_again_after_its_overlap(shown, at, later):
    keys, _ = fold(shown, at)
    now = keys.in_force(KeyUse.LOG, later)
    assert now[0] == keys.log[-1].text
    for key in keys.log:
        assert (key.text in now) == (key.until is None or later < key.until)
    # Overlaps do not lie upon each other, so at most two keys are good at any time that has come.
    assert len(keys.in_force(KeyUse.LOG, max(at, later))) <= 2


@given(st.lists(entries, max_size=12), days)
def test_the_same_entries_again_change_nothing(shown, at):
    keys, steps = fold(shown, at)
    for entry in (step[1] for step in steps):
        assert not isinstance(advance(keys, entry, at=at), Keyring)


@given(st.lists(entries, max_size=12), days, st.randoms(use_true_random=False))
def test_another_order_trusts_no_key_that_no_entry_hands_on(shown, at, random):
    shuffled = list(shown)
    random.shuffle(shuffled)
    keys, _ = fold(shuffled, at)
    reachable = {TEXTS[0]}
    for _ in shown:
        reachable |= {entry.new for entry in shown if entry.old in reachable}
    assert {key.text for key in keys.log} <= reachable


LOG = RotatedLog()
LOG.append(b"one")
LOG.rotate(Ed25519PrivateKey.generate(), since=START, until=Moment(START + timedelta(days=7)))
DOCUMENT = LOG.history_bytes()


@given(st.integers(0, len(DOCUMENT) - 1), st.integers(0, 255))
def test_a_changed_byte_of_a_history_is_refused_or_read_as_what_it_says(place, byte):
    changed = DOCUMENT[:place] + bytes([byte]) + DOCUMENT[place + 1 :]
    try:
        read = parse_history(changed)
    except TlogError:
        return
    assert encode_history(read) == changed
