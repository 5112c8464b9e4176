"""`PINGEE_DATABASE_URL`: the demo makes its databases on a server that somebody else runs, and drops them at the end."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from clients.demo import configurations
from clients.demo.override import override
from clients.demo.postgres import EmbeddedPostgres, GivenPostgres, ServerFailed, run_sql, with_database
from clients.demo.restart import restart_mid_deploy
from clients.demo.steps import Stage
from clients.demo.telling import Telling
from clients.demo.world import read_world
from tests.fakes.shown_demo import DEMO_S, ROOT, processes_of, run_demo

DATABASES = "select datname from pg_database where not datistemplate order by 1;"


@pytest.fixture(scope="module")
def server():
    """A plain server with two users: one may create databases and nothing else, one may not even that."""
    directory = Path(tempfile.mkdtemp(prefix="pingee-given-"))
    try:
        with EmbeddedPostgres(directory / "server") as postgres:
            postgres.sql("create role maker login createdb password 'maker-canary'; create role nobody login password 'nobody-canary'")
            yield postgres
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def url_of(server, user):
    return server.url("postgres").replace(server.url("postgres").split("//")[1].split("@")[0], f"{user}:{user}-canary")


def demo_on(url, *arguments):
    environment = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), "LANG": "C.UTF-8", "PINGEE_DATABASE_URL": url}
    argv = [sys.executable, "-m", "clients.cli.main", "demo", *arguments]
    return subprocess.run(argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEMO_S, check=False)


def test_the_demo_on_a_given_server_leaves_it_as_it_was(server, tmp_path, capsys):
    """To the first deploy and the edited row by the command; then the steps that have more to do with the database, as the command calls them."""
    before, directory = server.sql(DATABASES), tmp_path / "house"
    done = demo_on(url_of(server, "maker"), "--until", "tamper-detected", "--keep", "--dir", str(directory))
    try:
        assert done.returncode == 0, done.stderr[-3000:]
        assert "tamper-detected" in done.stdout
        assert "ended after tamper-detected" in done.stdout
        made = set(server.sql(DATABASES).splitlines()) - set(before.splitlines())
        assert sorted(name.split("_")[1] for name in made) == ["production", "test"]
        world = read_world(directory / "world.json")
        stage, telling = Stage(world), Telling(as_json=False)
        test, production = world.instance("test"), world.instance("production")
        configurations.secrets_per_environment(stage, telling, test, production)
        restart_mid_deploy(stage, telling, test, production)
        override(stage, telling, production)
        cleared = stage.pingee(production, "status", telling.steps[-1]["detail"]["cleared_by"], "-o", "json").document()
        assert (cleared["purpose"], cleared["state"]) == ("rollback", "deployed")
    finally:
        stopped = run_demo("--stop", "--dir", str(directory))
    assert stopped.returncode == 0, stopped.stderr
    assert processes_of(directory) == []
    told = capsys.readouterr()
    assert "database: not shown: its server was given, and is not the demo's to kill" in told.out
    assert "database: goes on: its server was given, and is not the demo's to stop" in told.out
    assert server.sql(DATABASES) == before
    assert "canary" not in done.stdout + done.stderr + told.out + told.err


def test_a_user_who_may_not_create_databases_is_told_in_one_sentence(server, tmp_path):
    done = demo_on(url_of(server, "nobody"), "--dir", str(tmp_path / "house"))
    assert done.returncode == 1
    assert done.stderr == (
        "pingee demo: PINGEE_DATABASE_URL: the user nobody may not create databases there, and the demo needs its own: alter role nobody createdb\n"
    )


def test_databases_are_made_for_one_demo_and_dropped_with_whoever_is_connected(server):
    before = server.sql(DATABASES)
    given = GivenPostgres(url_of(server, "maker")).start()
    url = given.create_database("production")
    name = run_sql(url, "select current_database();")
    assert name.startswith("pingee_production_")
    assert run_sql(url, "create table t (n int); insert into t values (7); select n from t;") == "7"
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        print(url, file=holder.stdin, flush=True)
        assert holder.stdout.readline() == "connected\n"
        given.stop()
        holder.kill()
    assert server.sql(DATABASES) == before


HOLD = """
import asyncio, asyncpg
async def main():
    connection = await asyncpg.connect(input())
    print("connected", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:canary@127.0.0.1/x", "not a postgresql:// URL"),
        ("postgresql://u:canary@127.0.0.1:port/x", "not a URL"),
        ("postgresql://u:canary@127.0.0.1:1/x?options=-c", "does not know the parameter 'options'"),
        ("postgresql://u:canary@127.0.0.1:1/x", "Connection refused"),
    ],
)
def test_a_url_that_leads_nowhere_is_said_without_its_password(url, words):
    with pytest.raises(ServerFailed, match=f"^PINGEE_DATABASE_URL: .*{words}") as caught:
        GivenPostgres(url).start()
    assert "canary" not in str(caught.value)


def test_the_url_of_another_database_keeps_everything_else():
    assert with_database("postgresql://u:p%40@/old?host=/a%20b", "new") == "postgresql://u:p%40@/new?host=/a%20b"
    assert with_database("postgres://u@h:5433/old?sslmode=require", "new") == "postgres://u@h:5433/new?sslmode=require"
    assert with_database("postgresql:///old", "new") == "postgresql:///new"
