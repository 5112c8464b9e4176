"""The database adapter against real servers: faults, hygiene, settings, migrations, and no word too much in an error."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from clients.demo.postgres import EmbeddedPostgres
from gatekeeper.model.label import ANONYMOUS
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.postgres import SchemaMismatch, UnsafeDatabase, migrate, open_database
from gatekeeper.postgres.migrate import shipped_migrations
from gatekeeper.postgres.queries import DIRECTORY, load_queries
from gatekeeper.tlog.merkle import CompactRange, leaf_hash
from tests.fakes.records import NOW, new_ping

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


def name_of(url):
    return url.rpartition("/?")[0].rpartition("/")[2] or url.split("@/")[1].split("?")[0]


def eventually(condition, *, within=10.0):
    async def wait():
        with trio.fail_after(within):
            while not await condition():  # noqa: ASYNC110 -- another process says when
                await trio.sleep(0.02)

    return wait()


async def test_the_pool_and_the_session_come_back_after_kill_minus_nine(postgres_server, database_url):
    async with open_database(database_url) as database:
        ping, _ = await database.pings.create(new_ping())
        await database.pings.claim_due(NOW, 1)
        postgres_server.postgres.kill()

        async def gone():
            # A backend may live on for a moment after its postmaster was killed.
            try:
                await database.ready()
            except Unavailable as error:
                return error.cause_code == "environment-unavailable"
            return False

        await eventually(gone)
        postgres_server.postgres.start()

        async def claimed_again():
            try:
                return [p.id for p in await database.pings.claim_due(NOW, 1)] == [ping.id]
            except Unavailable:
                return False

        await eventually(claimed_again)
        async with database.pings.changes() as changes:
            await database.pings.create(new_ping())
            with trio.fail_after(20):
                await changes.wait(5)


async def test_a_session_cut_by_the_server_loses_its_claims(postgres_server, database_url):
    async with open_database(database_url) as database:
        ping, _ = await database.pings.create(new_ping())
        assert await database.pings.claim_due(NOW, 1)
        before = database._session.id
        postgres_server.postgres.sql(
            "select pg_terminate_backend(pid) from pg_locks where locktype='advisory' and classid=1885957736", database=name_of(database_url)
        )

        async def claimed_again():
            try:
                return [p.id for p in await database.pings.claim_due(NOW, 1)] == [ping.id] and database._session.id != before
            except Unavailable:
                return False

        await eventually(claimed_again)


async def test_a_cancelled_unit_of_work_is_rolled_back_and_leaves_nothing_open(postgres_server, database_url):
    name = name_of(database_url)
    async with open_database(database_url) as database:
        log = database.log("o")
        await log.load_head()

        async def slow(unit):
            await unit._connection.execute("insert into log (origin) values ('cancelled')")
            await unit._connection.execute("select pg_sleep(30)")

        with trio.move_on_after(0.3):
            await database._bridge.write(slow)
        assert postgres_server.postgres.sql("select count(*) from log where origin = 'cancelled'", database=name) == "0"
        idle = f"select count(*) from pg_stat_activity where datname = '{name}' and (state like 'idle in%' or query like '%pg_sleep(30)%')"
        assert postgres_server.postgres.sql(idle) in {"0", "1"}
        await database.ready()


@pytest.mark.parametrize("table", ["log_entry", "log_tile", "checkpoint", "sealed"])
@pytest.mark.parametrize("verb", ["update", "delete", "truncate"])
async def test_rows_of_the_log_are_never_changed(postgres_server, database_url, table, verb):
    name = name_of(database_url)
    sql = postgres_server.postgres.sql
    sql("insert into log (origin) values ('o')", database=name)
    values = {
        "log_entry": "select id, 0, '{}', 'intake', 'x', '\\x00', decode(repeat('00', 32), 'hex') from log",
        "log_tile": "select id, 0, 0, '{}', decode(repeat('00', 8192), 'hex') from log",
        "sealed": "select id, 0, 0, '{embargo:one}', 'x', '\\x00', '\\x00', '\\x00' from log",
    }
    if table == "checkpoint":
        sql("insert into checkpoint (log, size, note) select id, 1, '\\x00' from log", database=name)
    else:
        sql(f"insert into {table} {values[table]}", database=name)
    statement = {"update": f"update {table} set log = log", "delete": f"delete from {table}", "truncate": f"truncate {table}"}[verb]
    with pytest.raises(Exception, match="never changed or deleted"):
        sql(statement, database=name)


@pytest.mark.parametrize("setting", ["fsync", "synchronous_commit"])
async def test_a_server_that_acknowledges_before_the_disk_is_refused(tmp_path, setting):
    with EmbeddedPostgres(tmp_path / "pg", settings=[f"{setting}=off"]) as postgres:
        url = postgres.create_database("unsafe")
        with pytest.raises(UnsafeDatabase, match=setting):
            async with open_database(url):
                pass


async def test_migrating_again_or_at_once_changes_nothing(postgres_server):
    name = "fresh_for_migrations"
    url = postgres_server.postgres.create_database(name)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(migrate, url)
        await migrate(url)
        assert postgres_server.postgres.sql("select count(*) from schema_migration", database=name) == str(len(shipped_migrations()))
        postgres_server.postgres.sql("update schema_migration set sha256 = 'other'", database=name)
        with pytest.raises(SchemaMismatch, match="0001_pre_start"):
            await migrate(url)
    finally:
        postgres_server.drop(name)


async def test_no_error_names_the_url_or_its_password(postgres_server, database_url, caplog):
    password = (postgres_server.postgres._directory / "password").read_text()
    wrong = database_url.replace(password, "wr0ng-secret")
    errors = []
    with caplog.at_level(logging.DEBUG):
        for url in (wrong, database_url.replace("host=", "host=/nowhere"), database_url.replace(name_of(database_url), "no_such_database")):
            with pytest.raises(PortError) as caught:
                async with open_database(url):
                    pass
            errors.append(caught.value)
    for error in errors:
        assert error.__cause__ is None
        assert error.__suppress_context__
        text = str(error) + caplog.text
        assert password not in text
        assert "wr0ng-secret" not in text
        assert "pingee-pg" not in text


async def test_every_named_query_is_sql_that_the_server_understands(database_url):
    async with open_database(database_url) as database:

        async def prepare(unit):
            for path in sorted(DIRECTORY.glob("*.sql")):
                for query in load_queries(path.stem).values():
                    await unit._connection.prepare(query.sql)

        await database._bridge.read(prepare)


async def test_a_stored_head_that_contradicts_itself_is_refused(postgres_server, database_url):
    async with open_database(database_url) as database:
        log = database.log("o")
        await log.load_head()
        for edge in (CompactRange.empty().append(leaf_hash(b"x")).encode(), b"\x00"):
            postgres_server.postgres.sql(f"update log_head set edge = '\\x{edge.hex()}'", database=name_of(database_url))
            with pytest.raises(PortError, match="log-refused"):
                await log.load_head()


async def test_bytes_come_back_exactly(database_url):
    async with open_database(database_url) as database:
        ping, _ = await database.pings.create(new_ping(reason="a\nb\t'; drop table ping; -- ✓"))
        assert (await database.pings.get(ping.id, ANONYMOUS)).new.reason == ping.new.reason


def test_the_server_ends_with_whoever_started_it_and_leaves_no_socket_open(tmp_path):
    script = (
        "import sys,time\nfrom pathlib import Path\nfrom clients.demo.postgres import EmbeddedPostgres\n"
        "p = EmbeddedPostgres(Path(sys.argv[1])).start()\n"
        "print(p.sql('select pg_postmaster_start_time()'), p._socket, flush=True)\ntime.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "pg")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    line = child.stdout.readline()
    socket = Path(line.split()[-1])
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    trio.run(lambda: eventually(lambda: gone(tmp_path / "pg" / "data")))
    for left in socket.iterdir():
        left.unlink()
    socket.rmdir()
    with EmbeddedPostgres(tmp_path / "pg") as postgres:
        assert postgres.sql("select 1") == "1"


async def gone(data):
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str(data).encode() in (entry / "cmdline").read_bytes():
                    return False
            except (FileNotFoundError, ProcessLookupError):
                continue
    return True


def test_everything_of_the_server_is_private(postgres_server):
    postgres = postgres_server.postgres
    assert oct(postgres._directory.stat().st_mode)[-3:] == "700"
    assert oct(postgres._socket.stat().st_mode)[-3:] == "700"
    for name in ("password", "pgpass"):
        assert oct((postgres._directory / name).stat().st_mode)[-3:] == "600"
    assert len(os.fsencode(postgres._socket / ".s.PGSQL.5432")) <= 107
    assert postgres.sql("show listen_addresses") == ""
