"""`clients/ci/`: the YAML parses, every command is one that the command line takes, tokens come in files, and each audience is asked for."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from clients.cli.main import build_parser

FOLDER = Path(__file__).parents[2] / "clients" / "ci"
FILES = ("gitlab-ci.yml", "github-actions.yml", "zuul/zuul.yaml", "zuul/deploy.yaml", "Jenkinsfile")
WITH_COMMANDS = ("gitlab-ci.yml", "github-actions.yml", "zuul/deploy.yaml", "Jenkinsfile")
SUBMITTING = ("gitlab-ci.yml", "github-actions.yml", "Jenkinsfile")


def text_of(name):
    return (FOLDER / name).read_text()


def strings(value):
    """Every string in a parsed document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def commands(name):
    """The words after `pingee` of every line that runs it."""
    if name == "Jenkinsfile":
        lines = re.findall(r"sh '([^']*)'", text_of(name))
    else:
        lines = [line.strip() for whole in strings(yaml.safe_load(text_of(name))) for line in whole.splitlines()]
    plain = [re.sub(r"\{\{[^}]*\}\}", "x", line) for line in lines]
    return [shlex.split(line)[1:] for line in plain if line.startswith("pingee ")]


def test_every_file_is_looked_at():
    assert sorted(str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*") if p.is_file()) == sorted(FILES)


@pytest.mark.parametrize("name", [name for name in FILES if name != "Jenkinsfile"])
def test_the_yaml_parses(name):
    assert isinstance(yaml.safe_load(text_of(name)), dict | list)


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_command_and_flag_exists(name):
    found = commands(name)
    assert len(found) == len(re.findall(r"(?m)^[^#/\n]*\bpingee (?:ping|submit) ", text_of(name))) > 0
    for words in found:
        parsed = build_parser().parse_args(words)
        assert parsed.token_file, "a token comes in a file, never as an argument"
        if words[0] == "ping":
            assert parsed.wait
            assert parsed.commit
            assert not parsed.config


@pytest.mark.parametrize("name", SUBMITTING)
def test_what_is_submitted_is_complete(name):
    (words,) = [words for words in commands(name) if words[0] == "submit"]
    parsed = build_parser().parse_args(words)
    assert all([parsed.artifact, parsed.results, parsed.definition, parsed.certificate_token_file])
    assert parsed.certificate_token_file != parsed.token_file
    asked = text_of(name)
    assert "certificates:production" in asked
    assert [w[0] for w in commands(name)] == ["submit", "ping"]


def test_gitlab_asks_for_one_token_for_each_door():
    job = yaml.safe_load(text_of("gitlab-ci.yml"))["deploy"]
    assert {token["aud"] for token in job["id_tokens"].values()} == {"pingee:production", "pingee:certificates:production"}
    assert 'merge_request' not in str(job["rules"])


def test_github_asks_for_nothing_but_its_own_tokens():
    document = yaml.safe_load(text_of("github-actions.yml"))
    assert document["permissions"] == {}
    assert document["jobs"]["deploy"]["permissions"] == {"contents": "read", "id-token": "write"}
    assert set(document[True]) == {"push"}, "YAML 1.1 reads `on` as true"


def test_gitlab_keeps_its_tokens_where_no_other_job_of_the_runner_looks():
    job = yaml.safe_load(text_of("gitlab-ci.yml"))["deploy"]
    own = "$CI_BUILDS_DIR/pingee-$CI_JOB_ID"
    assert job["script"][:2] == ["umask 077", f'mkdir "{own}"'], "a directory that is there already is somebody else's"
    assert set(re.findall(r'"(\$CI_BUILDS_DIR[^"]*)"', " ".join(job["script"]))) == {own, f"{own}/run-token", f"{own}/certificate-token"}
    assert job["after_script"] == [f'rm -rf "{own}"']


@pytest.mark.parametrize("name", FILES)
def test_no_secret_is_an_argument_of_a_program(name):
    secrets = r"\$\{?(?:RUN_TOKEN|CERTIFICATE_TOKEN|ACTIONS_ID_TOKEN_REQUEST_TOKEN)\b|\{\{ pingee \}\}"
    for line in text_of(name).splitlines():
        for found in re.finditer(secrets, line):
            before = line[: found.start()].strip()
            # printf is the shell's own, a here-string is standard input, and Ansible's copy takes its content over its own channel.
            assert before in ("- printf '%s' \"", '<<< "Authorization: Bearer', 'content: "'), line


def test_nobody_waits_longer_than_the_token_lives():
    secret, *_ = yaml.safe_load(text_of("zuul/zuul.yaml"))
    (ping,) = [build_parser().parse_args(words) for words in commands("zuul/deploy.yaml")]
    assert ping.timeout < secret["secret"]["oidc"]["ttl"]
    (ping,) = [build_parser().parse_args(words) for words in commands("github-actions.yml") if words[0] == "ping"]
    assert ping.timeout < 300, "GitHub's tokens live for five minutes"


def test_zuul_runs_after_review_with_an_audience():
    secret, job, project = yaml.safe_load(text_of("zuul/zuul.yaml"))
    assert secret["secret"]["oidc"]["claims"] == {"aud": "pingee:production"}
    assert job["job"]["post-review"] is True
    assert set(project["project"]) == {"post"}


@pytest.mark.parametrize("name", FILES)
def test_no_secret_and_no_proxy_of_trust_stands_in_a_file(name):
    assert not re.search(r"eyJ|BEGIN [A-Z ]*PRIVATE|--insecure|verify: *false|-k ", text_of(name))
