"""Publication: its order, its clock, the vault's second lock, proofs, and the checks of a start. Every crash comes in both kinds."""

import secrets
from contextlib import suppress
from datetime import timedelta

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trio.testing import MockClock

from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.log import AheadOfLog, LogRefused
from gatekeeper.ports.vault import CasMismatch, HeadRecord
from gatekeeper.sequencer import Sequencer
from gatekeeper.sequencer.sequencer import COALESCE_S
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint, open_checkpoint
from gatekeeper.tlog.consistency import parse_growth, verify_growth
from gatekeeper.tlog.merkle import leaf_hash, verify_inclusion
from gatekeeper.tlog.note import Note, encode_note
from gatekeeper.tlog.proof import parse_proof
from gatekeeper.tlog.signature import NoteSignature
from gatekeeper.tlog.tile import TileEdge
from tests.fakes.running_log import ORIGIN, TrioTime, check_served, log_key, opening, running_log
from tests.fakes.stores import FakeDatabase
from tests.fakes.vault import FakeLogVault

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
def database():
    return FakeDatabase()


@pytest.fixture
def store(database):
    return database.log(ORIGIN)


@pytest.fixture
def vault():
    return FakeLogVault()


async def add(log, count=1):
    where = None
    for _ in range(count):
        where = await log.append(secrets.token_bytes(9), entry_id=secrets.token_hex(16), kind="intake")
    return where


def signed(vault, size, root):
    text = encode_checkpoint(Checkpoint(ORIGIN, size, root))

    async def note():
        key = await log_key(vault)
        return encode_note(Note(text, (NoteSignature(key.name, key.key_id, await vault.sign(text)),)))

    return note()


async def test_an_inclusion_proves_the_entry_and_the_growth_against_one_checkpoint(store, vault):
    async with running_log(store, vault) as log:
        key = await log_key(vault)
        await add(log, 2)
        old = open_checkpoint(parse_proof((await log.prove(2)).proof).checkpoint, key)
        where = await add(log, 300)
        inclusion = await log.prove(where.index, old_size=old.size)
        proof, growth = parse_proof(inclusion.proof), parse_growth(inclusion.growth)
        new = open_checkpoint(proof.checkpoint, key)
        assert growth.checkpoint == proof.checkpoint
        assert (inclusion.size, new.size, growth.old) == (303, 303, 3)
        verify_inclusion(where.leaf_hash, where.index, new.size, proof.path, new.root)
        verify_growth(old.checkpoint, growth, new)
        await check_served(log, vault, older=old.note)


async def test_growth_from_nothing_is_an_empty_path(store, vault):
    async with running_log(store, vault) as log:
        await add(log, 5)
        growth = parse_growth((await log.prove(5)).growth)
        assert (growth.old, growth.path) == (0, ())


async def test_every_entry_of_every_size_is_proven(store, vault):
    async with running_log(store, vault) as log:
        await add(log, 20)
        key = await log_key(vault)
        for index in range(21):
            proof = parse_proof((await log.prove(index, old_size=index)).proof)
            cp = open_checkpoint(proof.checkpoint, key)
            verify_inclusion(store.rows.entries[index].leaf_hash, index, cp.size, proof.path, cp.root)


async def test_a_caller_that_remembers_more_than_was_published_is_told(store, vault):
    async with running_log(store, vault) as log:
        await add(log)
        await log.prove(1)
        with pytest.raises(AheadOfLog):
            await log.prove(1, old_size=3)


async def test_who_waits_for_a_proof_does_not_wait_for_the_clock_and_shares_a_checkpoint(store, vault):
    async with running_log(store, vault) as log:
        await log.prove(0)
        signatures, sign = [], vault.sign

        async def counted(text):
            signatures.append(text)
            return await sign(text)

        vault.sign = counted
        started = trio.current_time()

        async def one(nr):
            await trio.sleep(nr * 0.001)
            await log.prove((await add(log)).index)

        async with trio.open_nursery() as nursery:
            for nr in range(10):
                nursery.start_soon(one, nr)
        assert trio.current_time() - started < 3 * COALESCE_S
        assert len(signatures) == 1


async def test_growth_is_published_on_the_clock_without_anybody_waiting(store, vault):
    async with running_log(store, vault) as log:
        await add(log, 3)
        await trio.sleep(0.6)
        assert log.published().size == 4


async def test_a_quiet_log_is_published_again_every_ten_minutes(store, vault):
    clock = TrioTime()
    async with running_log(store, vault, clock=clock) as log:
        await log.prove(0)
        version, since = vault.head.version, log.published().at
        await trio.sleep(599)
        assert vault.head.version == version
        await trio.sleep(2)
        assert vault.head.version == version + 1
        assert timedelta(seconds=599) < log.published().at - since < timedelta(seconds=602)
        assert log.published().size == 1


async def test_the_order_is_rows_signature_note_vault_and_only_then_published(store, vault):
    seen = []
    async with running_log(store, vault) as log:
        await log.prove(0)
        save, sign, write = store.save_checkpoint, vault.sign, vault.write_head

        async def watched_sign(text):
            size = int(text.split(b"\n")[1])
            seen.append(("sign", store.rows.head.size >= size, log.published().size))
            return await sign(text)

        async def watched_save(size, note):
            seen.append(("save", size, log.published().size))
            await save(size, note)

        async def watched_write(note, *, cas, **kept):
            seen.append(("vault", store.rows.notes[-1][1] == note, log.published().size))
            return await write(note, cas=cas, **kept)

        vault.sign, store.save_checkpoint, vault.write_head = watched_sign, watched_save, watched_write
        await log.prove((await add(log)).index)
    assert seen == [("sign", True, 1), ("save", 2, 1), ("vault", True, 1)]


async def test_nothing_beyond_the_published_size_is_served(store, vault):
    async with running_log(store, vault) as log:
        await add(log, 299)
        await log.prove(299)
        vault.down = True
        await add(log, 300)
        assert log.published().size == 300
        assert len(await log.tile(0, 1, 44)) == 44 * 32
        assert await log.tile(0, 1, 45) is None
        assert await log.tile(0, 1) is None
        assert await log.tile(0, 2, 1) is None
        assert await log.entries(1, 45) is None
        assert await log.entries(0, 256) is not None
        assert await log.tile(0, 0, 0) is None
        assert await log.tile(1, 0, 1) is not None
        assert await log.tile(1, 0, 2) is None
        vault.down = False
        await log.prove(599)
        await check_served(log, vault)


async def test_without_a_vault_entries_are_durable_and_nothing_has_a_proof(store, vault):
    async with running_log(store, vault) as log:
        await log.prove(0)
        vault.down = True
        where = await add(log)
        started = trio.current_time()
        with pytest.raises(Unavailable, match="log-unavailable"):
            await log.prove(where.index)
        assert trio.current_time() - started >= 10
        assert log.alarm() is None
        await trio.sleep(61)
        assert "60 seconds" in log.alarm()
        vault.down = False
        await log.prove(where.index)
        assert log.alarm() is None


@pytest.mark.parametrize("crash", ["fail_before", "fail_after"])
async def test_a_write_of_the_head_with_unknown_outcome_is_read_back(store, vault, crash):
    async with running_log(store, vault) as log:
        await log.prove(0)
        setattr(vault, crash, True)
        where = await add(log)
        await trio.sleep(0.7)
        vault.fail_before = vault.fail_after = False
        await log.prove(where.index)
        await add(log, 3)
        await log.prove(4)
        assert log.alarm() is None
        assert vault.head.note == log.published().note
        await check_served(log, vault)


async def test_a_late_own_write_is_recognised(store, vault):
    async with running_log(store, vault) as log:
        await log.prove(0)
        write = vault.write_head
        late = []

        async def lost(note, *, cas, **kept):
            late.append((note, cas, kept))
            raise Unavailable("timeout", "it arrives later")

        vault.write_head = lost
        where = await add(log)
        await trio.sleep(0.7)

        async def overtaken(note, *, cas, **kept):
            with suppress(Exception):
                await write(late[0][0], cas=late[0][1], **late[0][2])
            return await write(note, cas=cas, **kept)

        vault.write_head = overtaken
        await log.prove(where.index)
        assert log.alarm() is None


async def test_another_writer_of_the_head_stops_the_log(store, vault):
    async with running_log(store, vault) as log:
        await log.prove(0)
        vault.head = HeadRecord(vault.head.note, vault.head.version + 1)
        where = await add(log)
        with pytest.raises(Unavailable, match="another writer"):
            await log.prove(where.index)
        assert "another writer" in log.alarm()
        with pytest.raises(Unavailable, match="another writer"):
            await add(log)
        assert log.published().size == 1
        assert await log.tile(0, 0, 1) is not None


async def test_a_mismatch_without_a_doubtful_write_of_ours_stops_even_at_our_own_note(store, vault):
    async with running_log(store, vault) as log:
        await log.prove(0)

        async def twin(note, *, cas, **kept):
            vault.head = HeadRecord(note, cas + 1)
            raise CasMismatch("cas-mismatch", "another version stands there")

        vault.write_head = twin
        where = await add(log)
        with pytest.raises(Unavailable, match="another writer"):
            await log.prove(where.index)


async def test_another_writer_after_an_unknown_outcome_stops_the_log(store, vault):
    async with running_log(store, vault) as log:
        await log.prove(0)
        vault.fail_before = True
        where = await add(log)
        await trio.sleep(0.7)
        vault.head = HeadRecord(b"other", vault.head.version + 1)
        vault.fail_before = False
        with pytest.raises(Unavailable, match="another writer"):
            await log.prove(where.index)


async def test_a_signature_that_does_not_verify_is_never_stored(store, vault):
    async with running_log(store, vault) as log:
        await log.prove(0)

        async def wrong(text):
            return Ed25519PrivateKey.generate().sign(text)

        vault.sign, notes = wrong, len(store.rows.notes)
        where = await add(log)
        with pytest.raises(Unavailable):
            await log.prove(where.index)
        assert len(store.rows.notes) == notes
        assert "does not verify" in log.alarm()


@pytest.mark.parametrize(
    ("method", "persisted"),
    [("save_checkpoint", True), ("save_checkpoint", False), ("lead", False), ("load_head", False), ("newest_checkpoint", False)],
)
async def test_a_publication_survives_a_failing_database(database, store, vault, method, persisted):
    async with running_log(store, vault) as log:
        await log.prove(0)
        database.faults.next(method, persisted=persisted)
        await log.prove((await add(log)).index)
        await check_served(log, vault)


async def run_briefly(store, vault):
    async with running_log(store, vault) as log:
        await log.prove(len(store.rows.entries) - 1)
        return log.published()


@pytest.mark.parametrize("crash", ["before note", "after note", "after vault"])
async def test_a_crash_between_any_two_steps_is_finished_by_the_next_start(store, vault, crash):
    async with running_log(store, vault) as log:
        await add(log, 4)
        await log.prove(4)
        older = log.published().note

        async def stop(*args, **kwargs):
            await trio.sleep_forever()

        save, write = store.save_checkpoint, vault.write_head
        if crash == "before note":
            store.save_checkpoint = stop
        elif crash == "after note":
            vault.write_head = stop
        else:

            async def write_then_stop(note, *, cas, **kept):
                await write(note, cas=cas, **kept)
                await trio.sleep_forever()

            vault.write_head = write_then_stop
        await add(log, 300)
        await trio.sleep(1)
    store.save_checkpoint, vault.write_head = save, write
    signed_before = [note for _, note in store.rows.notes]
    async with running_log(store, vault) as log:
        if crash != "before note":
            with trio.fail_after(5):
                while log.published() is None:  # noqa: ASYNC110 -- no event says so
                    await trio.sleep(0.001)
            assert log.published().note == signed_before[-1]
        await add(log)
        await log.prove(305)
        await check_served(log, vault, older=older)


async def test_a_start_serves_the_stored_note_without_a_new_signature(store, vault):
    before = await run_briefly(store, vault)

    async def refuse(_text):
        raise AssertionError("signed again")

    vault.sign = refuse
    after = await run_briefly(store, vault)
    assert after.note == before.note


async def refused(store, vault, match):
    with trio.fail_after(5), pytest.raises(LogRefused, match=match):
        await Sequencer(store, vault, opening=opening(), clock=TrioTime()).run()


async def fill(store, vault, count=300):
    async with running_log(store, vault) as log:
        await add(log, count)
        await log.prove(count)


async def test_a_rewound_database_is_refused(database, store, vault):
    await fill(store, vault, 3)
    rows = store.rows
    rows.head, rows.entries, rows.notes = TileEdge().extend([rows.entries[0].leaf_hash])[0].range(), rows.entries[:1], rows.notes[:1]
    await refused(store, vault, "rewound")


async def test_an_emptied_database_is_refused_and_not_opened_anew(database, store, vault):
    await fill(store, vault, 3)
    fresh = FakeDatabase().log(ORIGIN)
    await refused(fresh, vault, "rewound")
    assert fresh.rows.entries == []


async def test_a_database_behind_its_own_note_is_refused(store, vault):
    await fill(store, vault, 3)
    vault.head = None
    store.rows.head, store.rows.entries = TileEdge().extend([store.rows.entries[0].leaf_hash])[0].range(), store.rows.entries[:1]
    await refused(store, vault, "ahead of the database")


async def test_a_note_by_another_key_is_refused(store, vault):
    await fill(store, vault, 3)
    other = FakeLogVault()
    await refused(store, other, "does not verify")


async def test_a_vault_head_of_another_tree_is_refused(store, vault):
    await fill(store, vault, 3)
    vault.head = HeadRecord(await signed(vault, 2, b"\x01" * 32), 9)
    await refused(store, vault, "another tree")


async def test_a_stored_note_of_another_tree_is_refused(store, vault):
    await fill(store, vault, 3)
    vault.head = None
    store.rows.notes.append((4, await signed(vault, 4, b"\x01" * 32)))
    await refused(store, vault, "another tree")


async def test_a_changed_leaf_at_the_right_edge_is_refused(store, vault):
    await fill(store, vault, 299)
    entries = store.rows.entries
    entries[290] = type(entries[290])(290, entries[290].entry_id, "intake", b"changed", leaf_hash(b"changed"))
    await refused(store, vault, "not the root of its tiles")


async def test_a_changed_tile_is_refused(store, vault):
    await fill(store, vault, 299)
    store.rows.tiles[0, 0] = b"\x00" * 8192
    await refused(store, vault, "not the root of its tiles")


async def test_a_missing_tile_is_refused(store, vault):
    await fill(store, vault, 299)
    del store.rows.tiles[0, 0]
    await refused(store, vault, "missing")


async def test_a_follower_takes_over_when_the_leader_dies(database, store, vault):
    other = database.replica().log(ORIGIN)
    async with running_log(store, vault) as leader, running_log(other, vault) as follower:
        await add(leader, 3)
        where = await add(follower)
        started = trio.current_time()
        await follower.prove(where.index)
        assert trio.current_time() - started < 0.8
        assert leader.published().note == follower.published().note
        database.die()
        where = await add(follower, 2)
        await follower.prove(where.index)
        assert leader.published().size < follower.published().size
        assert follower.alarm() is None
        await check_served(follower, vault)


async def test_a_root_that_the_vault_signed_elsewhere_stops_a_follower(database, store, vault):
    await fill(store, vault, 3)
    assert await store.lead() is not None
    other = database.replica().log(ORIGIN)
    async with running_log(other, vault) as log:
        await trio.sleep(0.6)
        assert log.published().size == 4
        vault.head = HeadRecord(await signed(vault, 4, b"\x02" * 32), vault.head.version + 1)
        await trio.sleep(0.6)
        assert "another tree" in log.alarm()
