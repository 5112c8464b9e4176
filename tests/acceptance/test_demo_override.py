"""The step `override` of the demo, read again by somebody who believes nothing it said: attack matrix row 142, scenario 36."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gatekeeper.model.digest import digest_of
from gatekeeper.verify.dsse import parse_envelope


def production(demo):
    return demo.world.instance("production")


@pytest.fixture(scope="module")
def record(demo):
    """The target's own record, line by line."""
    home = Path(demo.world.directory) / "targets" / "production" / "var"
    return (home / "record.jsonl").read_bytes().splitlines()


def late(demo):
    lines = demo.stage.pingee(production(demo), "log", "tail", "-n", "1000").out.splitlines()
    return [entry for entry in (json.loads(line.split("\t", 1)[1]) for line in lines) if entry["kind"] == "override"]


def test_each_bad_order_was_refused_with_its_code(demo):
    refused = {name: text.partition(":")[0] for name, text in demo.step("override")["refused"].items()}
    assert refused == {
        "one-person-twice": "override-signers",
        "other-target": "override-scope",
        "outside-the-bundle": "override-scope",
        "expired": "override-expired",
        "used-twice": "override-expired",
    }


def test_the_target_s_record_tells_of_every_order(demo, record):
    lines = [json.loads(line) for line in record]
    codes = [line["code"] for line in lines if line["what"] == "refused" and "order_file" in line]
    assert sorted(codes) == ["override-expired", "override-expired", "override-scope", "override-scope", "override-signers"]
    (ordered,) = [line for line in lines if line["what"] == "override"]
    detail = demo.step("override")
    assert (ordered["order"], ordered["digest"], ordered["signers"]) == (detail["order"], detail["brought_back"], ["olga", "omar"])
    (done,) = [line for line in record if json.loads(line)["what"] == "override-healthy"]
    assert digest_of(done) == detail["record"]
    # A chain: each line names the one before it.
    assert [json.loads(line)["previous"] for line in record[1:]] == [digest_of(line) for line in record[:-1]]


def test_the_order_was_brought_about_within_a_minute(demo):
    assert demo.step("override")["seconds"] < 60


def test_the_log_has_exactly_one_late_entry_under_two_pseudonyms(demo):
    detail = demo.step("override")
    (entry,) = late(demo)
    order = Path(demo.world.directory) / "work" / "override-good.json"
    assert entry["order"] == detail["order"] == digest_of(parse_envelope(order.read_bytes()).payload)
    assert (entry["late"], entry["digest"], entry["target"]) == (True, detail["brought_back"], production(demo).target)
    assert entry["record"] == detail["record"]
    assert len(entry["who"]) == 2
    assert entry["who"] == sorted(set(entry["who"]))
    assert not re.search(r"olga|omar|INC-36|everything else", json.dumps(entry))


def test_the_log_is_sound_with_it(demo):
    found = demo.stage.pingee(production(demo), "log", "fsck", "--since", str(demo.stage.checkpoint), "-o", "json").document()
    assert found["sound"] is True


def test_nothing_drifts_any_more_and_the_order_cannot_be_used_again(demo):
    stage, instance = demo.stage, production(demo)
    assert stage.pingee(instance, "running", "--drift", "-o", "json").document() == []
    status = json.loads(stage.doorkeeper(instance, "status").out)
    assert status["overrides"] == []
    assert status["components"][0]["override"] is None
    assert status["record"].startswith("intact")
    before = Path(demo.world.directory, "targets", "production", "var", "state.json").read_bytes()
    answer = json.loads(stage.doorkeeper(instance, "override", str(stage.work / "override-good.json"), code=3).out.splitlines()[-1])
    assert answer["refused"] == "override-expired"
    assert Path(demo.world.directory, "targets", "production", "var", "state.json").read_bytes() == before


def test_no_gatekeeper_log_names_the_people(demo):
    for instance in demo.world.instances:
        assert not re.search(r"\b(olga|omar)\b", Path(instance.log_file).read_text(errors="replace"))
