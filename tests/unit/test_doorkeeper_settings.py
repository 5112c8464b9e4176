"""What a doorkeeper puts into a workload's environment: the plain values of the configuration that was decided on, and the secrets it names."""

from dataclasses import replace

import pytest

from clients.doorkeeper.checks import check_configuration
from clients.doorkeeper.settings import MAX_LINES, MalformedSettings, join_settings, parse_settings
from gatekeeper.model.decision import EvidenceItem
from gatekeeper.model.digest import digest_of
from gatekeeper.model.statement import encode_decision_statement, parse_decision_statement
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.document import Configuration
from tests.fakes.frames import COMMIT, Gatekeeper, make_artifact

FILE = b'secrets = ["TOKEN", "KEY"]\n[values]\nGREETING = "hello"\nEMPTY = ""\n'


def statement(configuration=FILE, **changes):
    return Gatekeeper().statement(make_artifact(), configuration=configuration, **changes)


def refused(found, code, words):
    assert isinstance(found, Refusal)
    assert found.reason == code
    assert words in found.detail


def read(data=FILE):
    found = check_configuration(data, statement(data))
    assert isinstance(found, Configuration)
    return found


def test_the_file_that_was_decided_on_is_read():
    found = read()
    assert (found.commit, found.values, found.secrets) == (COMMIT, {"GREETING": "hello", "EMPTY": ""}, {"TOKEN", "KEY"})
    assert read(b"").values == {}


@pytest.mark.parametrize("data", [b"", FILE + b"\n", FILE.replace(b"hello", b"evil!"), b'[values]\nLD_PRELOAD = "evil.so"\n'])
def test_another_file_is_refused_before_it_is_read(data):
    refused(check_configuration(data, statement()), "digest-mismatch", "not the one that was decided on")


@pytest.mark.parametrize("state", ["absent", "unreadable"])
def test_a_decision_without_a_configuration_installs_none(state):
    refused(check_configuration(b"", statement(evidence=(EvidenceItem("configuration", state),))), "digest-mismatch", "decided on")
    refused(check_configuration(b"", statement(evidence=())), "digest-mismatch", "decided on")


def test_a_decision_that_names_two_is_believed_in_neither():
    both = tuple(EvidenceItem("configuration", "present", digest_of(data)) for data in (FILE, b""))
    refused(check_configuration(FILE, statement(evidence=both)), "digest-mismatch", "decided on")


def test_a_digest_of_other_evidence_does_not_make_a_configuration():
    other = (EvidenceItem("votes", "present", digest_of(FILE)),)
    refused(check_configuration(FILE, statement(evidence=other)), "digest-mismatch", "decided on")


@pytest.mark.parametrize("data", [b"x = ", b'[values]\nLD_PRELOAD = "x"\n', b'[values]\nPATH = "/tmp"\n', b'secrets = ["PYTHONHOME"]\n'])
def test_what_was_decided_on_and_may_not_be_set_is_refused_all_the_same(data):
    refused(check_configuration(data, statement(data)), "config-invalid", "configuration: ")


def test_the_configurations_digest_survives_the_statements_bytes():
    payload = encode_decision_statement(statement())
    again = parse_decision_statement(payload)
    assert encode_decision_statement(again) == payload
    assert isinstance(check_configuration(FILE, again), Configuration)
    refused(check_configuration(FILE, replace(again, evidence=again.evidence[:1])), "digest-mismatch", "decided on")


def test_values_come_from_the_configuration_and_secrets_are_those_it_names():
    assert join_settings(read(), {"KEY": "k=1", "TOKEN": "t"}) == b"EMPTY=\nGREETING=hello\nKEY=k=1\nTOKEN=t\n"
    assert join_settings(read(b""), {}) == b""


@pytest.mark.parametrize(
    ("secrets", "words"),
    [
        ({"KEY": "hush"}, "names the secret TOKEN, which did not come"),
        ({}, "names the secret KEY, which did not come"),
        ({"KEY": "hush", "TOKEN": "hush", "MORE": "hush"}, "MORE came as a secret"),
        ({"KEY": "hush", "TOKEN": "hush", "GREETING": "hush"}, "GREETING came as a secret"),
    ],
)
def test_other_secrets_than_the_named_are_refused_without_their_values(secrets, words):
    found = join_settings(read(), secrets)
    refused(found, "config-secret-refused", words)
    assert "hush" not in found.detail


def test_as_many_lines_as_there_may_be():
    lines = b"".join(b"A%d=x\n" % number for number in range(MAX_LINES + 1))
    assert len(parse_settings(lines[: lines.rindex(b"A")])) == MAX_LINES
    with pytest.raises(MalformedSettings, match=f"settings: more than {MAX_LINES} lines"):
        parse_settings(lines)
