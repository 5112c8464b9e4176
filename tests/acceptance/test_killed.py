"""kill -9 of the real gatekeeper at the three places that matter: between log and lease, lease and apply, apply and outcome.

The state of the ping is watched in the database; the process is stopped the moment it shows, the state is read again while nothing moves, and only
then is it killed. The supervisor starts it anew with fresh single-use secrets. The ping must end deployed, exactly once at the target.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import asyncpg
import pytest

TRIES = 6
RESTART_S = 90


def pid_of(instance):
    return int(Path(instance.pid_file).read_text())


async def stopped_at(url, pid, ping, state):
    """Stop the gatekeeper as soon as the ping shows this state; whether it still shows it once nothing moves."""
    connection = await asyncpg.connect(url)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            now = await connection.fetchval("select state from ping where id = $1", ping)
            if now == state:
                os.kill(pid, signal.SIGSTOP)
                # What the server had received before the stop may still commit.
                await asyncio.sleep(0.2)
                caught = await connection.fetchval("select state from ping where id = $1", ping) == state
                os.kill(pid, signal.SIGKILL if caught else signal.SIGCONT)
                return caught
            if now in ("deployed", "failed", "denied", "rolled-back"):
                return False
        raise AssertionError(f"ping {ping} never ended")
    finally:
        await connection.close()


def records(demo, receipt):
    """What the target's own hash-chained record says about one receipt."""
    file = next((Path(demo.world.directory) / "targets" / "production").rglob("record.jsonl"))
    return [line for line in map(json.loads, file.read_text().splitlines()) if receipt.removeprefix("sha256:") in json.dumps(line)]


@pytest.mark.parametrize("state", ["allowed", "leased", "applying"])
def test_killed_in_the_middle_of_a_deploy_it_ends_deployed_exactly_once(demo, state):
    """HA, row 123."""
    test, production = demo.world.instance("test"), demo.world.instance("production")
    url = Path(production.database_url_file).read_text().strip()
    for number in range(TRIES):
        change = f"I{abs(hash((state, number))) % 16**8:08x}".ljust(41, "0")
        built = demo.stage.build(demo.stage.new_version(f"Version for {state} {number}", change=change))
        demo.stage.accept(test, built, demo.stage.wait_for(test, demo.stage.ping(test, built), "deployed"))
        ping = demo.stage.ping(production, built)
        demo.stage.wait_for(production, ping, "pending")
        killed = pid_of(production)
        demo.stage.vote("bob", production, built.commit)
        if asyncio.run(stopped_at(url, killed, ping, state)):
            break
        demo.stage.wait_for(production, ping, "deployed")
    else:
        pytest.fail(f"the ping was never caught in state {state}")
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
