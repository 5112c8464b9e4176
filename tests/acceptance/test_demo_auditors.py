"""The steps of those who trust nobody, read again: the witness's own store, the target's record, the exported files, the monitor's state."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from clients.demo.trees import served_tree
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.cosignature import verify_cosignature
from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.tlog.merkle import CompactRange, leaf_hash
from gatekeeper.tlog.note import parse_note


def production(demo):
    return demo.world.instance("production")


def policy(demo):
    return parse_log_policy(Path(production(demo).log_policy).read_bytes())


def record(demo):
    return [json.loads(line) for line in (Path(demo.world.directory) / "targets/production/var/record.jsonl").read_text().splitlines()]


def root(entries):
    return CompactRange.empty().extend(leaf_hash(entry) for entry in entries).root()


def test_the_served_checkpoint_bears_the_witnesss_own_signature(demo):
    (witness,) = policy(demo).witnesses
    assert (policy(demo).quorum, demo.step("witnessed")["cosigned_by"]) == (witness.name, [witness.name])
    note = parse_note(served_tree(production(demo)).note)
    (line,) = [signature for signature in note.signatures if signature.by(witness.key)]
    assert verify_cosignature(witness.key, note.text, line) > 1_700_000_000
    assert str(witness.key.key_id.hex()) not in Path(demo.world.instance("test").log_policy).read_text(), "the test instance has none"


def test_all_that_the_witness_remembers_is_the_served_log(demo):
    """So nothing that the thief signed in private was ever cosigned."""
    store = Path(demo.world.directory) / "witnesses/production/witness/witness.sqlite"
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as database:
        remembered = [row[0] for row in database.execute("select note from cosigned")]
    database.close()
    assert remembered
    entries = served_tree(production(demo)).entries
    for note in remembered:
        opened = open_checkpoint(note if isinstance(note, bytes) else note.encode(), policy(demo).log)
        assert root(entries[: opened.size]) == opened.root


def test_the_private_continuation_was_refused_for_the_quorum_it_lacks(demo):
    detail = demo.step("deny-unwitnessed")
    line = record(demo)[detail["record_line"] - 1]
    assert (line["what"], line["code"], line["detail"]) == ("refused", "receipt-missing", detail["words"])
    assert "the quorum team-b did not cosign the checkpoint" in line["detail"]


def test_without_the_witness_the_ping_waited_with_a_durable_decision_and_was_deployed_once(demo):
    detail = demo.step("witness-away")
    entries = [json.loads(entry) for entry in served_tree(production(demo)).entries]
    decision = entries[detail["then_deployed"]]
    assert (decision["ping_id"], decision["verdict"]) == (detail["ping"], "Allow")
    outcomes = [entry["state"] for entry in entries if entry["kind"] == "outcome" and entry["of"]["index"] == detail["then_deployed"]]
    assert outcomes == ["deployed"]
    accepted = [line for line in record(demo) if line["what"] == "accepted" and line["index"] == detail["then_deployed"]]
    assert len(accepted) == 1
    assert detail["the_doctor_says"], "the doctor named the witness"


def test_the_copy_is_the_served_log_and_a_changed_byte_of_it_is_found(demo, tmp_path):
    directory = Path(demo.step("log-export")["directory"])
    opened = open_checkpoint((directory / "checkpoint").read_bytes(), policy(demo).log)
    assert root(served_tree(production(demo)).entries[: opened.size]) == opened.root
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    file = next(path for path in sorted((copy / "tile/entries").rglob("*")) if path.is_file())
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(bytes(data))
    command = [sys.executable, "-m", "clients.offline", "fsck", str(copy), "--log-policy", production(demo).log_policy]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "NOT SOUND: entry 0" in done.stdout) == (3, True), done


def test_the_monitors_state_holds_a_note_of_the_served_log(demo):
    assert demo.step("log-monitor")["grown_since_the_first_look"] >= 2
    (state,) = [path for path in (Path(demo.world.directory) / "work/monitor").iterdir() if path.name == "state.json"]
    opened = open_checkpoint(json.loads(state.read_text())["note"].encode(), policy(demo).log)
    assert root(served_tree(production(demo)).entries[: opened.size]) == opened.root
    assert state.stat().st_mode & 0o777 == 0o600


def test_every_hit_of_the_query_is_the_entry_that_the_log_has_there(demo):
    detail = demo.step("log-query")
    entries = [json.loads(entry) for entry in served_tree(production(demo)).entries]
    assert detail["hits"] == sorted(detail["hits"], reverse=True)
    assert all((entries[index]["kind"], entries[index]["environment"]) == ("decision", "production") for index in detail["hits"])
