"""The sequencer on a real PostgreSQL that is killed under it: what was acknowledged is there, nothing is there twice, every note is consistent."""

import secrets

import pytest
import trio

from gatekeeper.ports.errors import Unavailable
from gatekeeper.postgres import open_database
from gatekeeper.tlog.checkpoint import open_checkpoint
from tests.fakes.running_log import ORIGIN, check_served, log_key, running_log
from tests.fakes.vault import FakeLogVault

pytestmark = pytest.mark.anyio


async def test_kill_minus_nine_of_the_server_in_the_middle_of_appends(postgres_server, database_url):
    vault, acknowledged, notes = FakeLogVault(), {}, []

    async def write(log, done):
        while not done.is_set():
            body, entry_id = secrets.token_bytes(200), secrets.token_hex(16)
            while True:
                try:
                    acknowledged[entry_id] = (body, await log.append(body, entry_id=entry_id, kind="intake"))
                    break
                except Unavailable:
                    await trio.sleep(0.05)  # the same entry again, under the same id

    async def wait_for_growth(log, count):
        target = len(acknowledged) + count
        with trio.fail_after(60):
            while len(acknowledged) < target:  # noqa: ASYNC110 -- progress is counted
                await trio.sleep(0.01)

    async with open_database(database_url) as database, running_log(database.log(ORIGIN), vault) as log:
        await log.prove(0)
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(write, log, done)
            for _ in range(3):
                await wait_for_growth(log, 150)
                notes.append(log.published().note)
                postgres_server.postgres.kill()
                postgres_server.postgres.start()
            await wait_for_growth(log, 150)
            done.set()
        last = max(where.index for _, where in acknowledged.values())
        with trio.fail_after(60):
            await log.prove(last)
        assert log.alarm() is None
        for older in notes:
            newest = await check_served(log, vault, older=older)
        store = database.log(ORIGIN)
        await store.load_head()
        bodies = await store.read_entries(0, newest.size)
    assert len(bodies) == newest.size == len(acknowledged) + 1
    assert all(bodies[where.index] == body for body, where in acknowledged.values())


async def test_a_second_run_goes_on_where_the_first_ended(database_url):
    vault, notes = FakeLogVault(), []
    for _ in range(2):
        async with open_database(database_url) as database, running_log(database.log(ORIGIN), vault) as log:
            for _ in range(260):
                where = await log.append(secrets.token_bytes(9), entry_id=secrets.token_hex(16), kind="intake")
            await log.prove(where.index)
            notes.append(log.published().note)
            await check_served(log, vault, older=notes[0])
    sizes = [open_checkpoint(note, await log_key(vault)).size for note in notes]
    assert sizes == [261, 521]


async def test_two_replicas_share_one_log_and_the_second_takes_over(database_url):
    vault = FakeLogVault()
    async with open_database(database_url) as b, running_log(b.log(ORIGIN), vault) as first:
        await first.prove(0)
        async with open_database(database_url) as a, running_log(a.log(ORIGIN), vault) as second:

            async def write(log):
                for _ in range(20):
                    await log.append(secrets.token_bytes(9), entry_id=secrets.token_hex(16), kind="intake")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write, first)
                nursery.start_soon(write, second)
            with trio.fail_after(60):
                await second.prove(40)
                await first.prove(40)
            await b._session._loop.run(b._session.stop)
            where = await second.append(b"after", entry_id=secrets.token_hex(16), kind="intake")
            with trio.fail_after(60):
                await second.prove(where.index)
            assert second.alarm() is None
            await check_served(second, vault)
