"""kill -9 of the real gatekeeper at the three places that matter: between log and lease, lease and apply, apply and outcome.

The state of the ping is watched in the database; the process is stopped the moment it shows, the state is read again while nothing moves, and only
then is it killed. That the state is not left before it was seen, however slow the machine, is a trigger's doing: a ping in it cannot be updated.
The supervisor starts the gatekeeper anew with fresh single-use secrets. The ping must end deployed, exactly once at the target.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

RESTART_S = 90


def pid_of(instance):
    return int(Path(instance.pid_file).read_text())


KEY = 30047, 1
"""of an advisory lock that nobody else knows"""
HOLD = """
create function test_hold() returns trigger language plpgsql as $$
begin
    if old.id = '{ping}' and old.state = '{state}' then
        perform pg_advisory_xact_lock({key[0]}, {key[1]});
    end if;
    return new;
end $$;
create trigger test_hold before update on ping for each row execute function test_hold();
"""
WAITING = "from pg_locks where locktype = 'advisory' and classid = $1::int4::oid and objid = $2::int4::oid and objsubid = 2 and not granted"


@asynccontextmanager
async def held(url, ping, state):
    """In this block the ping does not leave the state. Whatever update waits at the end never happens: its connection is ended first."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("select pg_advisory_lock($1, $2)", *KEY)
        await connection.execute(HOLD.format(ping=ping, state=state, key=KEY))
        try:
            yield connection
        finally:
            await connection.execute(f"select pg_terminate_backend(pid) {WAITING}", *KEY)
            await connection.execute("select pg_advisory_unlock($1, $2)", *KEY)
            await connection.execute("drop trigger test_hold on ping; drop function test_hold")
    finally:
        await connection.close()


async def killed_at(url, pid, ping, state, begin):
    """Stop the gatekeeper as soon as the ping shows this state, and kill it while it still shows it."""
    async with held(url, ping, state) as connection:

        async def now():
            return await connection.fetchval("select state from ping where id = $1", ping)

        begin()
        deadline = time.monotonic() + 90
        while (seen := await now()) != state:
            assert seen not in ("deployed", "failed", "denied", "rolled-back"), seen
            assert time.monotonic() < deadline, f"the ping is {seen}, and was never {state}"
        os.kill(pid, signal.SIGSTOP)
        # What the server had received before the stop may still commit.
        await asyncio.sleep(0.2)
        seen = await now()
        os.kill(pid, signal.SIGKILL)
        assert seen == state


def records(demo, receipt):
    """What the target's own hash-chained record says about one receipt."""
    file = next((Path(demo.world.directory) / "targets" / "production").rglob("record.jsonl"))
    return [line for line in map(json.loads, file.read_text().splitlines()) if receipt.removeprefix("sha256:") in json.dumps(line)]


@pytest.mark.parametrize("state", ["allowed", "leased", "applying"])
def test_killed_in_the_middle_of_a_deploy_it_ends_deployed_exactly_once(demo, state):
    """HA, row 123."""
    test, production = demo.world.instance("test"), demo.world.instance("production")
    url = Path(production.database_url_file).read_text().strip()
    built = demo.stage.build(demo.stage.new_version(f"Version for {state}", change=f"I{state.encode().hex():0<40}"))
    demo.stage.accept(test, built, demo.stage.wait_for(test, demo.stage.ping(test, built), "deployed"))
    ping = demo.stage.ping(production, built)
    demo.stage.wait_for(production, ping, "pending")
    killed = pid_of(production)
    asyncio.run(killed_at(url, killed, ping, state, lambda: demo.stage.vote("bob", production, built.commit)))
    wait_for_another(production, killed)
    demo.stage.start("gatekeeper-production")  # returns when it is ready
    found = demo.stage.wait_for(production, ping, "deployed", seconds=120)
    log = published(demo, production, found["outcome_index"])
    allows = [i for i, e in enumerate(log) if e["kind"] == "decision" and e["ping_id"] == ping and e["verdict"] == "Allow"]
    outcomes = [e for e in log if e["kind"] == "outcome" and e["of"]["index"] in allows]
    assert found["log_index"] in allows
    assert len(outcomes) == len(allows)
    assert [e["state"] for e in outcomes].count("deployed") == 1
    # Whatever was refused on the way (a repeated frame), the target accepted this receipt once and saw it healthy once.
    told = [line["what"] for line in records(demo, found["receipt_id"]) if line["what"] != "refused"]
    assert told == ["accepted", "healthy"]
    assert demo.stage.pingee(production, "log", "fsck", "-o", "json").document()["sound"]


def published(demo, instance, index):
    """Every entry of the log, once a published checkpoint covers this index."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        log = [json.loads(line.split("\t", 1)[1]) for line in demo.stage.pingee(instance, "log", "tail", "-n", "1000").out.splitlines()]
        if len(log) > index:
            return log
        time.sleep(0.1)
    raise AssertionError(f"entry {index} was never published")


def wait_for_another(instance, pid):
    deadline = time.monotonic() + RESTART_S
    while time.monotonic() < deadline:
        if pid_of(instance) != pid:
            return
        time.sleep(0.05)
    raise AssertionError("the supervisor started no other gatekeeper")
