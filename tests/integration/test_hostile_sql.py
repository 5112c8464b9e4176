"""Attack matrix 116 over the real API and a real PostgreSQL: no text is ever a statement, and a cancelled unit of work leaves a clean connection."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest
import trio

from gatekeeper.model.label import Viewer
from gatekeeper.postgres import open_database
from tests.fakes import signing
from tests.fakes.api import CI, running_api
from tests.fakes.house import COMPONENT, ENVIRONMENT, House

pytestmark = pytest.mark.anyio

STATEMENTS = (
    "'; drop table ping; --",
    "' or '1'='1",
    "x' union select * from people --",
    "$1",
    "$viewer_clearances",
    "{embargo:cve-1}",
    '"; delete from log_entry; --',
    "\\'; select pg_sleep(20); --",
    "' || pg_sleep(20) || '",
    "/* */; truncate ping; /*",
    "%27%3B drop table ping",
    "E'\\x27'",
    "ʼ; drop table ping; --",
)
TABLES = "select string_agg(relname, ',' order by relname) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"


def name_of(url):
    return url.split("@/")[1].split("?")[0]


@pytest.fixture
async def house(database_url):
    async with served(database_url) as (api, database):
        yield api, database


@asynccontextmanager
async def served(url):
    async with open_database(url) as database:
        house = House()
        house.database = database
        stores = {name: getattr(database, name) for name in ("pings", "locks", "statements", "deployments", "people")}
        async with running_api(house, **stores) as api:
            yield api, database


def answered(answer, *codes):
    """An answer of the table, in no time: neither a fault of ours nor a wait that somebody else's statement asked for."""
    assert answer.status < 500, (answer.status, answer.body[:300])
    if answer.status >= 400:
        assert answer.json["code"] in codes, answer.body[:300]
    return answer


async def test_statements_in_every_text_field_are_texts(postgres_server, database_url):
    sql, name = postgres_server.postgres.sql, name_of(database_url)
    tables = sql(TABLES, database=name)
    async with served(database_url) as (api, database):
        digest = await api.house.bring()
        token = api.token()
        with trio.fail_after(60):
            for number, text in enumerate(STATEMENTS):
                wanted = {"environment": ENVIRONMENT, "component": COMPONENT, "artifact": digest}
                made = await api.post("/v1/pings", token, {**wanted, "reason": text}, key=f"k{number}")
                assert made.status == 202
                ping = made.json["id"]
                stored = await database.pings.get(ping, Viewer(who="people|s-alice"))
                assert stored.new.reason == text, "kept as it was written"
                for member in ("environment", "component", "artifact", "config", "deadline"):
                    body = json.dumps({**wanted, member: text}).encode()
                    answered(await api.post("/v1/pings", token, body, key="other"), "ping-malformed", "wrong-gatekeeper")
                key = text.replace(" ", "") if text.isascii() else "k"
                answered(await api.post("/v1/pings", token, wanted, key=key), "idempotency-conflict")
                quoted = quote(text, safe="")
                for query in ("environment", "component", "state", "reason", "cursor", "limit"):
                    answered(await api.get(f"/v1/pings?{query}={quoted}", token), "ping-malformed")
                for path in (f"/v1/running?environment={quoted}", f"/v1/artifacts?commit={quoted}&project={quoted}",
                             f"/v1/rollbacks?environment={quoted}&component={quoted}"):  # fmt: skip
                    answered(await api.get(path, token))
                for path in (f"/v1/pings/{quoted}", f"/v1/pings/{quoted:0<32.32}", f"/v1/artifacts/{quoted}", f"/v1/receipts/{quoted}", f"/pings/{quoted}"):
                    answered(await api.get(path, token), "not-found", "unknown-manifest")
                done = await api.post(f"/v1/pings/{ping}/cancellation", token, {"reason": text}, key=f"c{number}")
                assert (done.status, done.json["detail"]) == (202, text)
                odd = api.token(sub=text, name=text, groups=[text], jti=text)
                answered(await api.get("/v1/whoami", odd), "unauthenticated")
                answered(await api.post("/v1/pings", odd, wanted, key="k"), "not-authorised", "unauthenticated")
                run = api.run_token(project=text, actor=text, run=text, ref=text, jti=text)
                answered(await api.post("/v1/artifacts", run, b"{}"), "ping-malformed", "unauthenticated")
        listed = (await api.get("/v1/pings", token)).json["items"]
        assert len(listed) >= len(STATEMENTS)
    assert sql(TABLES, database=name) == tables
    assert int(sql("select count(*) from ping", database=name)) >= len(STATEMENTS)


async def test_a_nul_and_what_is_no_text_at_all_reach_no_statement(house):
    api, _ = house
    token = api.token()
    for odd in ("%00", "a%00b", "%ed%a0%80", "%ff", "%f4%90%80%80", "%EF%BF%BE"):
        for query in ("environment", "component", "reason", "cursor", "state"):
            answered(await api.get(f"/v1/pings?{query}={odd}", token), "ping-malformed")
        answered(await api.get(f"/v1/running?environment={odd}&component={odd}", token), "ping-malformed")
        answered(await api.get(f"/v1/artifacts?commit={odd}", token), "ping-malformed")
        answered(await api.get(f"/v1/artifacts?project={odd}", token), "ping-malformed")
        answered(await api.get(f"/v1/rollbacks?environment={odd}&component=hello", token), "ping-malformed")
        for path in (f"/v1/pings/{odd}", "/v1/pings/" + odd * 32, f"/v1/artifacts/{odd}", f"/v1/receipts/{odd}", "/pings/" + odd * 32):
            answered(await api.get(path, token), "not-found", "unknown-manifest")
    (await api.post("/v1/pings", token, b'{"environment":"production","component":"hello","reason":"a\\u0000b"}')).refused(400, "ping-malformed")
    now = int(api.house.clock().timestamp())
    nul = CI.token(signing.run_claims(now, aud="pingee:production", sub="a\0b"))
    (await api.get("/v1/running", nul)).refused(401, "unauthenticated")
    answered(await api.get("/v1/running", token))


async def test_a_connection_whose_transaction_was_cancelled_comes_back_clean(postgres_server, database_url):
    sql, name = postgres_server.postgres.sql, name_of(database_url)
    async with open_database(database_url, pool_size=1) as database:
        await database.log("o").load_head()

        async def work(unit):
            await unit._connection.execute("set local work_mem = '1MB'; insert into log (origin) values ($$cancelled$$)")
            for _ in range(50):
                await unit._connection.execute("select pg_sleep(0.001)")
            await unit._connection.execute("select pg_sleep(30)")

        async def state(unit):
            return await unit._connection.fetchrow(
                "select pg_current_xact_id_if_assigned() is null as idle, current_setting('work_mem') as memory, "
                "(select count(*) from log where origin = 'cancelled') as rows"
            )

        before = await database._bridge.read(state)
        for milliseconds in (0, 1, 3, 7, 15, 40, 100):
            with trio.move_on_after(milliseconds / 1000) as scope:
                await database._bridge.write(work)
            assert scope.cancelled_caught
            with trio.fail_after(20):  # the one connection is free again before its statement would have ended
                assert dict(await database._bridge.read(state)) == dict(before) == {"idle": True, "memory": before["memory"], "rows": 0}
        left = f"select count(*) from pg_stat_activity where datname = '{name}' and state like 'idle in%'"
        assert sql(left) == "0"
        assert sql("select count(*) from log where origin = 'cancelled'", database=name) == "0"
