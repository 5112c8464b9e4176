"""The vault's audit file held against the log: each alarm, each doubt, on lines recorded from a real OpenBao (`tests.fakes.vault_thefts.play`)."""

import io
import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from clients.cli import vaultfile
from clients.cli.audit import FALSIFIABLE, bounded_lines
from clients.cli.leases import Alarm, Doubt, LogFacts, hold
from clients.cli.main import main
from clients.cli.vaultfile import AuditFile, TooMuch, read_audit
from gatekeeper.model.decision import Mode, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.lease import lease_digest
from gatekeeper.model.moment import later, moment, parse_moment
from gatekeeper.tlog.entry import AdoptEntry, Cause, DecisionEntry, OriginEntry, OutcomeEntry, Reference, UnknownEntry, encode_entry, parse_entry
from gatekeeper.tlog.members import Abridged
from tests.fakes import log_directory
from tests.fakes.vault_thefts import ADOPTED

ASSETS = Path(__file__).parents[1] / "assets"
RECORDED = (ASSETS / "vault-audit" / "openbao-2.7.jsonl").read_bytes().splitlines(keepends=True)
BEGAN = parse_moment(json.loads(RECORDED[0])["time"][:19] + "Z")
DECISION = parse_entry((ASSETS / "log" / "decision.json").read_bytes())
OUTCOME = parse_entry((ASSETS / "log" / "outcome.json").read_bytes())
assert isinstance(DECISION, DecisionEntry)
assert isinstance(OUTCOME, OutcomeEntry)
ALLOW = replace(DECISION, at=later(BEGAN, seconds=-5), not_after=later(BEGAN, seconds=595), target=("web1",))
ADOPT = AdoptEntry(
    entry_id=ADOPTED, origin=ALLOW.origin, at=BEGAN, config=None, who=ALLOW.requester, environment="test", component="old",
    running=(digest_of(b"old"),), candidate_config=None,
)  # fmt: skip
HONEST_TOKEN, HONEST, HONEST_READ, SECOND, OBSERVING, ADOPTING, STOLEN_TOKEN, STOLEN = RECORDED[4:12]
WRAPPED_TOKEN, WRAPPED, TOKEN_WRAPPED, UNUSED, READER, READ, ROOT_READ, ISSUED, CHANGED_ROLE, *REFUSED = RECORDED[12:]
HASHED = RECORDED[:4]


def serial(line):
    return int(json.loads(line)["response"]["data"]["serial_number"], 16)


def read(*lines, found=None):
    found = AuditFile() if found is None else found
    read_audit(found, "audit.log", lines, "test")
    return found


def outcome(*lines, of=1, **changes):
    leases = tuple(sorted(lease_digest(serial(line)) for line in lines))
    return replace(OUTCOME, at=later(BEGAN, seconds=10), of=Reference(ALLOW.origin, of), lease=leases, **changes)


def facts(*entries, first=Cause.FIRST):
    """A log of an origin entry and these."""
    log = LogFacts()
    opening = parse_entry(log_directory.entries(1)[0])
    assert isinstance(opening, OriginEntry)
    for index, entry in enumerate((replace(opening, at=later(BEGAN, seconds=-60), cause=first), *entries)):
        log.add(index, entry)
    return log


def held(lines, *entries, log_ends=False, **how):
    return hold(read(*lines), facts(*entries, **how), log_ends=log_ends)


def told(findings):
    return [(f.what, f.place and f.place.line) for f in findings]


def test_a_deploy_that_the_log_has_is_no_alarm():
    found = held([HONEST_TOKEN, HONEST, HONEST_READ], ALLOW, outcome(HONEST))
    assert (found.alarms, found.doubts, found.open) == ([], [], [])
    assert (found.matched, found.unused_tokens) == (1, 0)


def test_a_certificate_that_no_outcome_names_is_an_alarm_that_tells_line_time_serial_and_key_id():
    (alarm,) = held([HONEST_TOKEN, HONEST, STOLEN_TOKEN, STOLEN], ALLOW, outcome(HONEST)).alarms
    assert (alarm.what, alarm.place.line, alarm.place.file, alarm.serial) == (Alarm.NO_ALLOW, 4, "audit.log", serial(STOLEN))
    assert alarm.place.at.isoformat()[:19] == json.loads(STOLEN)["time"][:19]
    assert "'thief'" in alarm.sentence
    assert "web1" in alarm.sentence


def test_an_outcome_of_a_deny_or_of_a_shadow_allow_leases_nothing():
    for entry in (replace(ALLOW, verdict=Verdict.DENY), replace(ALLOW, mode=Mode.SHADOW), ADOPT):
        assert told(held([HONEST_TOKEN, HONEST], entry, outcome(HONEST)).alarms) == [(Alarm.NO_ALLOW, 2)]


def test_a_certificate_by_a_token_that_is_no_deploy_s_is_one_too():
    found = held([ISSUED], ALLOW, outcome(HONEST))
    assert told(found.alarms) == [(Alarm.NO_ALLOW, 1)]
    assert "asked for by root" in found.alarms[0].sentence


@pytest.mark.parametrize(("seconds", "alarms"), [(4, []), (7, [(Alarm.BEFORE_ALLOW, 2)])])
def test_a_certificate_given_before_its_allow(seconds, alarms):
    late = replace(ALLOW, at=later(BEGAN, seconds=seconds))
    assert told(held([HONEST_TOKEN, HONEST], late, outcome(HONEST)).alarms) == alarms


@pytest.mark.parametrize(("seconds", "alarms"), [(-4, []), (-7, [(Alarm.AFTER_NOT_AFTER, 2)])])
def test_a_certificate_given_after_its_allow_had_ended(seconds, alarms):
    over = replace(ALLOW, at=later(BEGAN, seconds=-600), not_after=later(BEGAN, seconds=seconds))
    assert told(held([HONEST_TOKEN, HONEST], over, outcome(HONEST)).alarms) == alarms


def test_a_certificate_for_another_target_than_its_allow_s():
    assert told(held([HONEST_TOKEN, HONEST], replace(ALLOW, target=("web2",)), outcome(HONEST)).alarms) == [(Alarm.OTHER_TARGET, 2)]


def test_a_token_that_signed_twice_a_serial_given_twice_and_a_certificate_named_twice():
    twice = [(Alarm.USED_TWICE, 3)]
    assert told(held([HONEST_TOKEN, HONEST, SECOND], ALLOW, outcome(HONEST, SECOND)).alarms) == twice
    again = HONEST.replace(json.loads(HONEST)["request"]["client_token"].encode(), b"hmac-sha256:another")
    assert told(held([HONEST_TOKEN, HONEST, again], ALLOW, outcome(HONEST)).alarms) == twice
    other = replace(ALLOW, entry_id="1" * 32)
    named = held([HONEST_TOKEN, HONEST], ALLOW, other, outcome(HONEST), outcome(HONEST, of=2)).alarms
    assert [(f.what, f.place.line, f.sentence.endswith("outcomes 3, 4 both name it")) for f in named] == [(Alarm.USED_TWICE, 2, True)]


def test_an_allow_with_two_outcomes():
    found = held([HONEST_TOKEN, HONEST], ALLOW, outcome(HONEST), outcome())
    assert [(f.what, f.allow, f.sentence) for f in found.alarms] == [(Alarm.USED_TWICE, 1, "Allow 1 has more than one outcome: 2, 3")]


def test_what_goes_into_a_wrapping_token_hides_from_the_file_and_is_an_alarm():
    assert told(held([WRAPPED_TOKEN, WRAPPED, TOKEN_WRAPPED], ALLOW, outcome(HONEST)).alarms) == [(Alarm.WRAPPED, 2), (Alarm.WRAPPED, 3)]


def test_certificates_that_only_read_need_no_allow_and_are_counted_by_what_they_are_for():
    unknown = held([OBSERVING, ADOPTING], ALLOW)
    assert (unknown.alarms, unknown.doubts, unknown.status) == ([], [], {"observing": 1, "other": 1})
    assert held([OBSERVING, ADOPTING], ADOPT).status == {"observing": 1, "adopting": 1}


def test_a_status_role_that_does_more_than_read_is_an_alarm():
    found = held([CHANGED_ROLE], ALLOW)
    assert told(found.alarms) == [(Alarm.NOT_READ_ONLY, 1)]
    assert "'sh'" in found.alarms[0].sentence
    assert found.status == {}


def test_settings_read_without_a_certificate_are_an_alarm_and_by_others_a_count():
    found = held([READER, READ, ROOT_READ], ALLOW, outcome(HONEST))
    assert told(found.alarms) == [(Alarm.SETTINGS_READ, 1)]
    assert found.reads == {"root": 1}


def test_a_stolen_certificate_says_that_its_token_read_settings_too():
    (alarm,) = held([HONEST_TOKEN, HONEST, HONEST_READ], replace(ALLOW, target=("web2",))).alarms
    assert alarm.sentence.endswith("its token also read settings, on line 3")


def test_a_token_that_signed_nothing_needs_an_allow_for_its_target():
    assert held([UNUSED], ALLOW, outcome(HONEST)).unused_tokens == 1
    assert told(held([UNUSED], replace(ALLOW, target=("web2",)), outcome(HONEST)).alarms) == [(Alarm.NO_ALLOW, 1)]
    assert told(held([UNUSED], replace(ALLOW, at=later(BEGAN, seconds=30))).alarms) == [(Alarm.NO_ALLOW, 1)]
    closed = replace(outcome(HONEST), at=later(BEGAN, seconds=-30))
    assert told(held([UNUSED], replace(ALLOW, at=later(BEGAN, seconds=-60)), closed).alarms) == [(Alarm.NO_ALLOW, 1)]


def test_what_the_vault_refused_is_no_credential():
    found = read(*REFUSED)
    assert len(REFUSED) == 2
    assert (found.certificates, found.tokens, found.reads, found.unreadable, found.lines) == ([], [], [], [], 2)


def test_another_instance_s_credentials_are_not_ours():
    found = AuditFile()
    read_audit(found, "audit.log", RECORDED, "tes")
    assert (found.certificates, found.tokens, found.reads) == ([], [], [])


def test_while_an_allow_for_the_target_stands_open_nothing_can_be_told_of_a_certificate():
    found = held([STOLEN_TOKEN, STOLEN], ALLOW)
    assert (found.alarms, told(found.doubts)) == ([], [(Doubt.OPEN_ALLOW, 2)])
    assert [a.index for a in found.open] == [1]
    shortened = held([STOLEN_TOKEN, STOLEN], ALLOW, replace(outcome(), lease=Abridged(99, digest_of(b"list"))))
    assert told(shortened.doubts) == [(Doubt.OPEN_ALLOW, 2)]


def test_an_allow_for_another_target_or_time_hides_nothing():
    elsewhere = (replace(ALLOW, target=("web2",)), replace(ALLOW, at=later(BEGAN, seconds=30)), replace(ALLOW, not_after=later(BEGAN, seconds=-30)))
    for entry in elsewhere:
        assert told(held([STOLEN_TOKEN, STOLEN], entry).alarms) == [(Alarm.NO_ALLOW, 2)]


def test_a_log_with_sealed_leaves_leaves_it_untold_and_says_why():
    sealed = UnknownEntry(entry_id="5" * 32, origin=ALLOW.origin, at=BEGAN, config=None, kind="sealed", body=b"")
    found = held([HONEST_TOKEN, HONEST, STOLEN_TOKEN, STOLEN], ALLOW, outcome(HONEST), sealed)
    assert (found.alarms, told(found.doubts), found.matched) == ([], [(Doubt.SEALED, 4)], 1)
    assert "clearance" in found.doubts[0].sentence


def test_a_log_that_was_exported_earlier_tells_nothing_of_newer_credentials():
    entries = (replace(ALLOW, not_after=later(BEGAN, seconds=-1)), replace(outcome(), at=later(BEGAN, seconds=-1)))
    assert told(held([STOLEN_TOKEN, STOLEN], *entries, log_ends=True).doubts) == [(Doubt.LOG_ENDS, 2)]
    assert told(held([STOLEN_TOKEN, STOLEN], *entries).alarms) == [(Alarm.NO_ALLOW, 2)]


def test_what_is_older_than_a_further_origin_is_held_against_the_one_before():
    lines = [line.replace(b'{"time":"2026-', b'{"time":"2025-') for line in (STOLEN_TOKEN, STOLEN)]
    assert told(held(lines, ALLOW, first=Cause.LOSS).doubts) == [(Doubt.OTHER_ORIGIN, 2)]
    assert told(held(lines, ALLOW).alarms) == [(Alarm.NO_ALLOW, 2)]
    carried = replace(outcome(HONEST), of=Reference("production.example/log/2025", 1))
    assert told(held([HONEST_TOKEN, HONEST], ALLOW, carried).doubts) == [(Doubt.OTHER_ORIGIN, 2)]


def test_hashed_certificates_cannot_be_told():
    found = held([*HASHED, HONEST_TOKEN, HONEST], ALLOW, outcome(HONEST))
    assert (found.alarms, told(found.doubts), found.matched) == ([], [(Doubt.HASHED, 2), (Doubt.HASHED, 4)], 1)


def test_a_file_that_begins_after_an_allow_says_so_and_nothing_is_doubtful_for_it():
    found = held([HONEST_TOKEN, HONEST], replace(ALLOW, at=later(BEGAN, seconds=-30)), outcome(HONEST))
    assert (found.alarms, found.doubts, [f.what for f in found.notes]) == ([], [], [Doubt.FILE_BEGINS])
    assert held([HONEST_READ], ALLOW, outcome(HONEST)).doubts[0].what is Doubt.FILE_BEGINS


def test_a_certificate_that_the_log_names_and_the_file_lacks_is_a_gap():
    short = replace(ALLOW, at=moment(BEGAN), not_after=later(BEGAN, seconds=1))
    earlier = HONEST_TOKEN.replace(json.loads(HONEST_TOKEN)["time"].encode(), b"2026-11-21T00:00:00Z", 1)
    after = REFUSED[0].replace(json.loads(REFUSED[0])["time"].encode(), b"2026-11-21T23:00:00Z", 1)
    gap = held([earlier, after], short, outcome(STOLEN))
    assert [(f.what, f.allow) for f in gap.doubts] == [(Doubt.GAP, 1)]
    assert [f.what for f in held([earlier, STOLEN, after], short, outcome(STOLEN)).doubts] == []


# --- the file


def test_cut_first_and_last_lines_are_said_and_others_that_cannot_be_read_are_doubts():
    found = read(HONEST[100:], HONEST_TOKEN, HONEST, b'{"half": "a line that cannot be read"\n', STOLEN[:200])
    assert (found.cut, found.unreadable, found.lines) == ([("audit.log", 1), ("audit.log", 5)], [("audit.log", 4)], 5)
    doubts = hold(found, facts(ALLOW, outcome(HONEST)), log_ends=False).doubts
    assert [(f.what, f.sentence[:17]) for f in doubts] == [(Doubt.UNREADABLE, "audit.log, line 4")]


@pytest.mark.parametrize(
    "trick",
    [
        lambda line: line.replace(b'{"time"', b'{"type":"request","time"', 1),  # a member twice
        lambda line: line[:-2] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        lambda line: line[:-2] + b',"x":"' + b"y" * vaultfile.MAX_LINE + b'"}\n',
        lambda line: line.replace(b'"time":"', b'"time":"x', 1),
        lambda line: line.replace(b'"time":"', b'"time":"\xff', 1),
        lambda line: line[:-2] + b',"x":1.5}\n',
    ],
    ids=["twice", "deep", "long", "time", "bytes", "float"],
)
def test_a_line_made_unreadable_is_never_passed_over(trick):
    found = read(HONEST_TOKEN, *bounded_lines(io.BytesIO(trick(STOLEN))), HONEST)
    assert found.unreadable == [("audit.log", 2)]
    assert found.lines == 3
    assert read(trick(STOLEN), HONEST).unreadable == [("audit.log", 1)]


def test_files_are_read_one_after_another_and_the_span_is_that_of_all():
    found = read(HONEST_TOKEN, HONEST)
    read_audit(found, "audit.log.1", [STOLEN], "test")
    assert [(c.place.file, c.place.line) for c in found.certificates] == [("audit.log", 2), ("audit.log.1", 1)]
    assert (found.first.line, found.last.file) == (1, "audit.log.1")


def test_the_span_goes_to_the_last_line_whatever_it_is_about():
    other = b'{"time":"2026-11-22T00:00:00Z","type":"request","request":{"path":"sys/health"}}\n'
    assert read(HONEST_TOKEN, HONEST, other).last.at.day == 22
    assert read(HONEST_TOKEN, HONEST, other, other[:30]).last.line == 2


def test_more_than_can_be_kept_is_refused(monkeypatch):
    monkeypatch.setattr(vaultfile, "MAX_KEPT", 2)
    with pytest.raises(TooMuch, match="credentials"):
        read(HONEST_TOKEN, HONEST, SECOND)
    with pytest.raises(TooMuch, match="cannot be read"):
        read(HONEST_TOKEN, *[b"{nothing}x\n"] * 3)


# --- the command


@pytest.fixture
def audit(tmp_path, capsys):
    """Runs the command over these lines and a log of these entries."""
    policy = tmp_path / "policy"
    policy.write_bytes(log_directory.POLICY)

    def run(lines, *entries, words=()):
        (tmp_path / "audit.log").write_bytes(b"".join(lines))
        opening = parse_entry(log_directory.entries(1)[0])
        log = [encode_entry(replace(opening, at=later(BEGAN, seconds=-60)))]
        log += [encode_entry(replace(entry, entry_id=f"{number:032x}")) for number, entry in enumerate(entries, 1)]
        # An entry after all, so that an exported log ends later than the file.
        last = parse_entry(log_directory.entries(2)[1])
        log.append(encode_entry(replace(last, entry_id="e" * 32, at=moment(BEGAN + timedelta(hours=1)))))
        directory = log_directory.write(log_directory.served(log), tmp_path / "log")
        arguments = ["--vault-audit", tmp_path / "audit.log", "--instance", "test", "--log", directory, "--log-policy", policy]
        code = main(["audit", "leases", *map(str, arguments), *words])
        return code, *capsys.readouterr()

    return run


def test_the_command_ends_with_0_3_or_7_and_says_who_can_falsify_the_file(audit):
    code, out, err = audit([HONEST_TOKEN, HONEST, HONEST_READ], ALLOW, outcome(HONEST))
    assert (code, err) == (0, "")
    assert FALSIFIABLE in out
    assert "no alarm: every certificate and deploy token in the file was decided on in the log before it was given" in out
    code, out, _ = audit([HONEST_TOKEN, HONEST, STOLEN_TOKEN, STOLEN], ALLOW, outcome(HONEST))
    assert code == 3
    assert re.search(r"^ALARM: no-allow: .*/audit\.log:4: 2026-11-21T[0-9:]{8}Z: the certificate [0-9a-f]+ for web1", out, re.MULTILINE)
    code, out, _ = audit([*HASHED, HONEST_TOKEN, HONEST], ALLOW, outcome(HONEST))
    assert (code, out.count("cannot tell: hashed:")) == (7, 2)
    assert "open: Allow 1 for production/hello has no outcome; it ended at" in audit([HONEST_TOKEN], ALLOW)[1]


def test_json_and_json_lines(audit):
    code, out, _ = audit([HONEST_TOKEN, HONEST, STOLEN_TOKEN, STOLEN], ALLOW, outcome(HONEST), words=("-o", "json"))
    found = json.loads(out)
    assert (code, found["kind"], found["origin"]) == (3, "LeaseAudit", log_directory.ORIGIN)
    assert [(a["what"], a["line"], a["serial"]) for a in found["alarms"]] == [("no-allow", 4, f"{serial(STOLEN):x}")]
    assert (found["counts"]["certificates"], found["counts"]["certificates_decided_on"], found["cannot_tell"]) == (2, 1, [])
    code, out, _ = audit([HONEST_TOKEN, HONEST, STOLEN_TOKEN, STOLEN], ALLOW, outcome(HONEST), words=("-o", "jsonl"))
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, [line["kind"] for line in lines]) == (3, ["Stream", "alarm", "note", "summary"])
    assert lines[0] == {"kind": "Stream", "apiVersion": "pingee/v1"}


def test_what_cannot_be_held_against_anything_is_an_error(audit, tmp_path):
    code, _, err = audit(HASHED, ALLOW, outcome(HONEST))
    assert (code, "every certificate in the file is hashed" in err) == (1, True)
    code, _, err = audit([b"no audit file\n"], ALLOW)
    assert (code, "is one of a vault's audit file" in err) == (1, True)
    code, _, err = audit([HONEST], ALLOW, words=("--instance", "te/st"))
    assert (code, "no instance's name" in err) == (1, True)
    code, _, err = audit([HONEST], ALLOW, words=("--log", str(tmp_path / "none")))
    assert (code, "is not a directory" in err) == (1, True)


def test_a_log_that_is_not_as_signed_is_held_against_nothing(audit, tmp_path):
    audit([HONEST], ALLOW)
    bundle = next((tmp_path / "log" / "tile" / "entries").rglob("*.p/*"))
    bundle.write_bytes(bundle.read_bytes().replace(b'"production","evidence"', b'"projuction","evidence"'))
    code = main([
        "audit", "leases", "--vault-audit", str(tmp_path / "audit.log"), "--instance", "test", "--log", str(tmp_path / "log"),
        "--log-policy", str(tmp_path / "policy"),
    ])  # fmt: skip
    assert code == 3
