"""The audit of leases on the demo's own vault and log: what it finds is read again from the audit file, and each change of the file is told."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_identity


def audit_file(demo):
    return Path(demo.world.directory) / "vault" / "audit.log"


def certificates(demo, instance):
    """(line, certificate) of every one that the vault signed for a deploy at an instance's target, read without the command's own reader."""
    target = demo.world.instance(instance).target
    found = []
    for line in audit_file(demo).read_bytes().splitlines(keepends=True):
        answer = json.loads(line)
        if answer["type"] == "response" and answer["request"].get("path") == f"ssh-{instance}/sign/{target}" and "error" not in answer:
            found.append((line, load_ssh_public_identity(answer["response"]["data"]["signed_key"].encode())))
    return found


def stolen(demo, instance):
    return {f"{c.serial:x}" for _, c in certificates(demo, instance) if c.key_id == b"thief"}


@pytest.fixture
def audit(demo, tmp_path):
    """Runs the command over these lines, by default the file as it is."""

    def run(instance="production", lines=None, code=None):
        file = audit_file(demo)
        if lines is not None:
            file = tmp_path / "audit.log"
            file.write_bytes(b"".join(lines))
        words = ("audit", "leases", "--vault-audit", str(file), "--instance", instance, "-o", "json")
        done = demo.stage.pingee(demo.world.instance(instance), *words, code=code)
        return done.code, json.loads(done.out)

    return run


def test_exactly_the_thief_s_certificates_have_no_allow(demo, audit):
    code, found = audit()
    honest = len(certificates(demo, "production")) - len(stolen(demo, "production"))
    assert stolen(demo, "production")
    assert (code, {a["serial"] for a in found["alarms"]}) == (3, stolen(demo, "production"))
    assert {a["what"] for a in found["alarms"]} == {"no-allow"}
    assert (found["cannot_tell"], found["counts"]["certificates_decided_on"]) == ([], honest)
    assert found["counts"]["status_certificates"]["observing"] >= 1
    for alarm in found["alarms"]:
        answer = json.loads(audit_file(demo).read_bytes().splitlines()[alarm["line"] - 1])
        assert (answer["time"][:19], answer["response"]["data"]["serial_number"]) == (alarm["time"][:19], alarm["serial"])


def test_the_step_told_the_same(demo):
    told = demo.step("audit-leases")
    assert told["without_an_allow"] == told["signed_by_the_thief"] == len(stolen(demo, "production"))


def test_the_other_instance_s_thieves_are_found_under_its_own_log(demo, audit):
    code, found = audit("test")
    assert (code, {a["serial"] for a in found["alarms"] if a["what"] == "no-allow"}) == (3, stolen(demo, "test"))
    assert {a["what"] for a in found["alarms"]} <= {"no-allow", "settings-read"}


def test_a_file_without_the_thief_s_lines_has_no_alarm_and_says_who_could_have_taken_them_out(demo, audit):
    theirs = stolen(demo, "production")
    lines = [line for line in audit_file(demo).read_bytes().splitlines(keepends=True) if not shows(line, theirs)]
    # Nor the one-deploy tokens that they signed with: those that nothing was signed with any more. On a quick machine each was taken within the
    # seconds of grace after an honest deploy, and there is none.
    code, found = audit(lines=lines)
    left = {alarm["line"] for alarm in found["alarms"]}
    assert (code, {a["what"] for a in found["alarms"]}) == ((3, {"no-allow"}) if left else (0, set()))
    assert all("which signed nothing" in a["sentence"] for a in found["alarms"])
    code, found = audit(lines=[line for number, line in enumerate(lines, 1) if number not in left])
    assert (code, found["alarms"]) == (0, [])
    assert found["falsifiable"].startswith("whoever owns the vault can falsify its audit file")


def shows(line, serials):
    data = (json.loads(line).get("response") or {}).get("data") or {}
    return data.get("serial_number") in serials


def test_a_line_taken_out_of_an_honest_deploy_is_a_gap_and_one_that_stands_twice_an_alarm(demo, audit):
    honest = [line for line, c in certificates(demo, "production") if c.key_id != b"thief"]
    lines = audit_file(demo).read_bytes().splitlines(keepends=True)
    _, found = audit(lines=[*lines, honest[0]])
    assert [a["what"] for a in found["alarms"]].count("used-twice") == 1
    # Its Allow lives for ten minutes, longer than the demo: a line from after its end shows that the file goes on.
    later = lines[-1].replace(json.loads(lines[-1])["time"].encode(), b"2199-01-01T00:00:00Z", 1)
    _, found = audit(lines=[*(line for line in lines if line != honest[0]), later])
    assert [d["what"] for d in found["cannot_tell"]] == ["gap"]


def test_a_file_that_begins_late_and_ends_within_a_line_says_so(demo, audit):
    lines = audit_file(demo).read_bytes().splitlines(keepends=True)
    half = lines.index(certificates(demo, "production")[-1][0]) - 1
    code, found = audit(lines=[lines[half][50:], *lines[half + 1 :], lines[-1][:80]])
    assert [n["what"] for n in found["notes"]] == ["file-begins"]
    assert (code, found["counts"]["lines_cut"], found["counts"]["lines_unreadable"]) == (0, 2, 0)
