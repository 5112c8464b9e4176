"""Attack row 120, at the log itself: who signs before, during and after an overlap, and what a replica with the wrong keys does."""

import secrets
from dataclasses import replace
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

from gatekeeper.model.moment import Moment, moment
from gatekeeper.ports.log import KeyChangeRow, LogRefused
from gatekeeper.sequencer import Sequencer
from gatekeeper.sequencer.keychanges import KeyWanted, LogRotation
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.entry import encode_entry, parse_entry
from gatekeeper.tlog.errors import UnknownLog
from gatekeeper.tlog.keyhistory import open_followed, parse_history
from gatekeeper.tlog.keyring import endorsement_text, installed_keys
from gatekeeper.tlog.kinds import KeyEntry, KeyUse
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.note import encode_vkey, parse_note
from tests.fakes.running_log import ORIGIN, START, TrioTime, log_key, opening, running_log
from tests.fakes.stores import FakeDatabase
from tests.fakes.vault import FakeLogVault

pytestmark = pytest.mark.anyio
WEEK = 7 * 24 * 3600
UNTIL = Moment(START + timedelta(seconds=WEEK))


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class JumpingTime(TrioTime):
    """A clock that goes with trio's, and jumps where a week would be a million turns."""

    ahead = 0

    def __call__(self):
        return super().__call__() + timedelta(seconds=self.ahead)


class Rotation:
    """Two keys of one vault, whose head record is one."""

    def __init__(self):
        self.store, self.old, self.new = FakeDatabase().log(ORIGIN), FakeLogVault(), FakeLogVault()
        self.clock, self.asked = JumpingTime(), 0

    async def keys(self):
        return await log_key(self.old), await log_key(self.new)

    async def wanted(self, until=UNTIL):
        old, new = await self.keys()
        return KeyWanted(KeyUse.LOG, encode_vkey(old), encode_vkey(new), until)

    async def entry(self, **changes):
        wanted, at = await self.wanted(), moment(self.clock())
        entry = KeyEntry(
            entry_id=secrets.token_hex(16), origin=ORIGIN, at=at, config=None, who=("p:" + "1" * 32, "p:" + "2" * 32),
            use=KeyUse.LOG, old=wanted.old, new=wanted.new, since=at, until=UNTIL,
        )  # fmt: skip
        return encode_entry(replace(entry, **changes))

    async def row(self):
        self.asked += 1
        body = await self.entry()
        return KeyChangeRow(body, await self.old.sign(endorsement_text(ORIGIN, body)))

    def running(self):
        return running_sequencer(self.store, self.old, LogRotation(following=self.new), self.clock)

    async def begin(self, log):
        return await log.log_key_change(self.row, await self.wanted())


def running_sequencer(store, vault, rotation, clock):
    log = Sequencer(store, vault, opening=opening(), clock=clock, rotation=rotation)
    return _running(log)


class _running:
    def __init__(self, log):
        self.log, self.nursery = log, trio.open_nursery()

    async def __aenter__(self):
        self.inside = await self.nursery.__aenter__()
        await self.inside.start(self.log.run)
        return self.log

    async def __aexit__(self, *error):
        self.inside.cancel_scope.cancel()
        return await self.nursery.__aexit__(*error)


@pytest.fixture
def rotation():
    return Rotation()


async def add(log):
    where = await log.append(secrets.token_bytes(9), entry_id=secrets.token_hex(16), kind="intake")
    await log.prove(where.index)
    return where.index


def signers(log):
    return [line.key_id for line in parse_note(log.published().note).signatures]


async def test_the_old_key_signs_then_both_then_the_new_one_alone(rotation):
    old, new = await rotation.keys()
    async with rotation.running() as log:
        await add(log)
        assert (signers(log), log.newest_key()) == ([old.key_id], old)
        where = await rotation.begin(log)
        assert where.index == 2
        await log.prove(where.index)
        await add(log)
        assert (signers(log), log.newest_key()) == ([old.key_id, new.key_id], new)
        rotation.clock.ahead = WEEK - 60
        await add(log)
        assert signers(log) == [old.key_id, new.key_id]
        # Without growth the note stays the one by which verifiers follow.
        rotation.clock.ahead = WEEK + 3600
        await trio.sleep(5)
        assert signers(log) == [old.key_id, new.key_id]
        await add(log)
        assert signers(log) == [new.key_id]


async def test_an_old_verifier_follows_from_what_is_served_alone(rotation):
    old, new = await rotation.keys()
    policy = LogPolicy(log=old)
    async with rotation.running() as log:
        assert (await log.prove(0, with_keys=True)).keys is None
        assert parse_history(await log.key_history()).changes == ()
        await rotation.begin(log)
        for _ in range(300):
            await log.append(secrets.token_bytes(9), entry_id=secrets.token_hex(16), kind="intake")
        await add(log)
        rotation.clock.ahead = WEEK
        await add(log)
        assert signers(log) == [new.key_id]
        shown = parse_history(await log.key_history())
        assert (await log.prove(5, with_keys=True)).keys == await log.key_history()
        note, at = log.published().note, moment(rotation.clock())
    with pytest.raises(UnknownLog):
        open_followed(note, installed_keys(policy), policy, None, at=at)
    checkpoint, followed = open_followed(note, installed_keys(policy), policy, shown, at=at)
    assert (checkpoint.size, followed.unfollowed, len(shown.changes)) == (304, (), 1)
    assert followed.keys.policy(policy, at).log == new


async def test_the_same_order_again_makes_no_second_entry_and_asks_nobody(rotation):
    old, new = await rotation.keys()
    async with rotation.running() as log:
        first = await rotation.begin(log)
        assert await rotation.begin(log) == first
    async with rotation.running() as log:
        await add(log)
        assert signers(log) == [old.key_id, new.key_id], "after a start the entry in the log says so"
        assert await rotation.begin(log) == first
    assert rotation.asked == 1


async def test_a_crash_between_keeping_the_entry_and_logging_it_is_finished_with_the_same_bytes(rotation):
    row = await rotation.row()
    async with rotation.running() as log:
        await rotation.store.add_key_change(parse_entry(row.entry).entry_id, row.entry, row.endorsement)
        where = await rotation.begin(log)
    assert (rotation.store.rows.entries[where.index].body, rotation.asked) == (row.entry, 1)


async def test_another_rotation_of_the_same_key_is_refused_and_the_first_stands(rotation):
    async with rotation.running() as log:
        await rotation.begin(log)
        other = encode_vkey(await log_key(FakeLogVault()))
        with pytest.raises(LogRefused, match="the first one counts"):
            await log.log_key_change(rotation.row, replace(await rotation.wanted(), new=other))


async def test_a_row_by_somebody_who_signs_nothing_is_passed_over(rotation, caplog):
    old, new = await rotation.keys()
    thief = FakeLogVault()
    body = await rotation.entry(new=encode_vkey(await log_key(thief)), entry_id="0" * 32)
    await rotation.store.add_key_change("0" * 32, body, await thief.sign(endorsement_text(ORIGIN, body)))
    async with rotation.running() as log:
        where = await log.append(body, entry_id="0" * 32, kind="key")
        await log.prove(where.index)  # before anything is published there is no history to show
        assert parse_history(await log.key_history()).changes == ()
        await rotation.begin(log)
        await add(log)
        assert signers(log) == [old.key_id, new.key_id]
        assert [change.proof.index for change in parse_history(await log.key_history()).changes] == [where.index + 1]
    assert "not signed by the key that it replaces" in caplog.text


async def test_a_replica_that_does_not_know_the_next_key_does_not_start(rotation):
    async with rotation.running() as log:
        await rotation.begin(log)
    with pytest.raises(LogRefused, match="entry 1 replaces this log key by another one"):
        await Sequencer(rotation.store, rotation.old, opening=opening(), clock=rotation.clock).run()


async def test_a_replica_that_has_forgotten_the_old_key_does_not_start_before_the_overlap_has_ended(rotation):
    old, new = await rotation.keys()
    async with rotation.running() as log:
        await rotation.begin(log)
        await add(log)
    alone = LogRotation(past=(old,))
    rotation.new.head = rotation.old.head
    with pytest.raises(LogRefused, match=r"the key before this one signs until 2026-11-28T10:00:00Z"):
        await Sequencer(rotation.store, rotation.new, opening=opening(), clock=rotation.clock, rotation=alone).run()
    rotation.clock.ahead = WEEK
    async with running_sequencer(rotation.store, rotation.new, alone, rotation.clock) as log:
        await add(log)
        assert signers(log) == [new.key_id]
        assert len(parse_history(await log.key_history()).changes) == 1


async def test_a_replica_that_was_away_during_the_whole_overlap_lets_both_sign_once(rotation):
    """Else nobody who knows the old key alone could follow: no checkpoint of his would cover the entry."""
    old, new = await rotation.keys()
    async with running_log(rotation.store, rotation.old, clock=rotation.clock) as log:
        await add(log)
    row = await rotation.row()
    await rotation.store.add_key_change(parse_entry(row.entry).entry_id, row.entry, row.endorsement)
    rotation.clock.ahead = WEEK
    async with rotation.running() as log:
        where = await rotation.begin(log)
        await log.prove(where.index)
        assert signers(log) == [old.key_id, new.key_id]
        await add(log)
        assert signers(log) == [new.key_id]
        policy, at = LogPolicy(log=old), moment(rotation.clock())
        shown = parse_history(await log.key_history())
        assert open_followed(log.published().note, installed_keys(policy), policy, shown, at=at)[0].size == 4


async def test_a_new_key_that_the_vault_does_not_hold_stops_the_start_and_signs_nothing(rotation):
    rotation.new.down = True
    with pytest.raises(Exception, match="down"):
        await Sequencer(rotation.store, rotation.old, opening=opening(), clock=rotation.clock, rotation=LogRotation(rotation.new)).run()
    assert rotation.store.rows.notes == []


async def test_each_note_of_a_rotation_opens_under_every_key_that_signed_it(rotation):
    old, new = await rotation.keys()
    async with rotation.running() as log:
        await rotation.begin(log)
        await add(log)
        for keys in ((old,), (new,), (old, new)):
            assert open_checkpoint(log.published().note, *keys).size == log.published().size
