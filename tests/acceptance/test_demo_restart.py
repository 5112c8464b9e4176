"""The steps health-rollback and restart-mid-deploy, re-read from log, target and pages; and parts of the house stopped by hand."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from clients.demo.health import GRACE_S
from tests.fakes.shown_demo import ROOT, run_demo

PARTS = ("gatekeeper-production", "database", "vault", "target-production")
FIRST = re.compile(r"ping ([0-9a-f]{32}); log: (.*); target: (.*)")


@pytest.fixture(scope="module")
def log(demo):
    """The whole log of production, after it was rehashed."""
    production = demo.world.instance("production")
    assert demo.stage.pingee(production, "log", "fsck", "-o", "json").document()["sound"]
    lines = demo.stage.pingee(production, "log", "tail", "-n", "1000").out.splitlines()
    return {int(number): json.loads(entry) for number, entry in (line.split("\t", 1) for line in lines)}


def ask(demo, *arguments):
    return demo.stage.pingee(demo.world.instance("production"), *arguments, "-o", "json").document()


def record(demo):
    file = next((Path(demo.world.directory) / "targets" / "production").rglob("record.jsonl"))
    return [json.loads(line) for line in file.read_text().splitlines()]


def said(demo, receipt):
    return [line["what"] for line in record(demo) if receipt.removeprefix("sha256:") in json.dumps(line)]


def allowed(log, ping):
    return [index for index, e in log.items() if e["kind"] == "decision" and e["ping_id"] == ping and e["verdict"] == "Allow"]


def outcomes(log, ping):
    return [e for e in log.values() if e["kind"] == "outcome" and e["of"]["index"] in allowed(log, ping)]


def page(demo, path):
    instance = demo.world.instance("production")
    context = ssl.create_default_context(cafile=instance.ca_file)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(instance.url + path, timeout=30) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("part", PARTS)
def test_each_part_killed_in_the_middle_cost_one_deployment_and_no_second(demo, log, part):
    """HA, rows 123, 125, 127."""
    ping = FIRST.fullmatch(demo.step("restart-mid-deploy")[part])[1]
    found = ask(demo, "status", ping)
    assert (found["state"], found["reasons"]) == ("deployed", [])
    ends = outcomes(log, ping)
    assert len(ends) == len(allowed(log, ping))
    assert [e["state"] for e in ends].count("deployed") == 1
    assert ends[-1]["state"] == "deployed"
    assert found["log_index"] == allowed(log, ping)[-1]
    assert said(demo, found["receipt_id"]) == ["accepted", "healthy"]


def test_only_the_target_that_lost_its_power_was_allowed_twice(demo, log):
    """Row 123. Its first receipt is spent: accepted, interrupted, never healthy."""
    pings = {part: FIRST.fullmatch(demo.step("restart-mid-deploy")[part])[1] for part in PARTS}
    states = {part: [e["state"] for e in outcomes(log, ping)] for part, ping in pings.items()}
    assert states == {
        "gatekeeper-production": ["deployed"],
        "database": ["deployed"],
        "vault": ["deployed"],
        "target-production": ["interrupted", "deployed"],
    }
    first = allowed(log, pings["target-production"])[0]
    spent = next(line for line in record(demo) if line["what"] == "accepted" and line["index"] == first)["receipt"]
    assert said(demo, spent) == ["accepted", "interrupted"]


def test_the_targets_record_holds_after_all_that(demo):
    status = demo.stage.doorkeeper(demo.world.instance("production"), "status").document()
    assert re.fullmatch(r"intact, \d+ lines", status["record"])
    assert status["components"][0]["outcome"] == "healthy"


def test_a_version_that_was_never_healthy_is_put_back_logged_and_explained(demo, log):
    """ROLLBACK."""
    detail = demo.step("health-rollback")
    found = ask(demo, "status", detail["ping"])
    assert (found["state"], found["reasons"], found["artifact"]) == ("rolled-back", ["health-failed"], detail["artifact"])
    (end,) = outcomes(log, detail["ping"])
    assert (end["state"], end["applied"]) == ("rolled-back", [detail["restored"]])
    assert log[found["outcome_index"]] == end
    assert said(demo, found["receipt_id"]) == ["accepted", "rolled-back"]
    assert detail["artifact"] != detail["restored"]


def test_the_ping_says_what_happened_what_runs_and_what_to_do(demo):
    detail = demo.step("health-rollback")
    explained = ask(demo, "explain", detail["ping"])
    assert explained["headline"] == "ROLLED BACK"
    assert explained["detail"] == f"not healthy within {GRACE_S} s: last answer none; {detail['restored']} runs again"
    assert explained["next_step"]["who"] == "developer"
    shown = page(demo, f"/pings/{detail['ping']}")
    assert all(text in shown for text in ("ROLLED BACK", f"{detail['restored']} runs again", "health-failed", "mend it, ping the new build"))
    told = demo.stage.pingee(demo.world.instance("production"), "explain", detail["ping"]).out
    assert "Next: what ran before serves again" in told
    waited = demo.stage.pingee(demo.world.instance("production"), "watch", detail["ping"], code=None)
    assert waited.code == detail["exit_code"] == 6


def control(demo, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "clients.cli.main", "demo", "--dir", demo.world.directory, *arguments],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_kept_demos_parts_stop_and_start_by_name(demo):
    production = demo.world.instance("production")
    try:
        stopped = control(demo, "--stop-part", "gatekeeper-production")
        assert (stopped.returncode, stopped.stderr) == (0, "gatekeeper-production is stopped\n")
        assert demo.stage.pingee(production, "running", code=None).code == 2
    finally:
        started = control(demo, "--start-part", "gatekeeper-production")
    assert (started.returncode, started.stderr) == (0, "gatekeeper-production is ready\n")
    assert demo.stage.pingee(production, "running").out


def test_a_gatekeeper_without_its_vault_says_what_it_waits_for_and_comes_by_itself(demo):
    test = demo.world.instance("test")
    try:
        assert control(demo, "--stop-part", "vault").returncode == 0
        assert control(demo, "--stop-part", "gatekeeper-test").returncode == 0
        started = control(demo, "--start-part", "gatekeeper-test")
        assert started.returncode == 1
        assert started.stderr == "pingee demo: gatekeeper-test is to run and becomes ready by itself once these are started: vault\n"
    finally:
        assert control(demo, "--start-part", "vault").returncode == 0
        demo.stage.start("gatekeeper-test")
    assert demo.stage.pingee(test, "running").out
    demo.stage.start("gatekeeper-production")


def test_an_unknown_part_and_a_demo_that_does_not_run_are_one_sentence(demo, tmp_path):
    unknown = control(demo, "--stop-part", "kettle")
    names = "vault, database, witness-production, target-test, target-production, gatekeeper-test, gatekeeper-production"
    assert (unknown.returncode, unknown.stderr) == (1, f"pingee demo: there is no part 'kettle'; there are {names}\n")
    nowhere = run_demo("--dir", str(tmp_path / "none"), "--start-part", "vault")
    assert (nowhere.returncode, nowhere.stderr) == (1, f"pingee demo: no demo runs in {tmp_path / 'none'}\n")
    undirected = run_demo("--stop-part", "vault")
    assert (undirected.returncode, undirected.stderr) == (1, "pingee demo: --stop-part needs --dir DIR\n")
