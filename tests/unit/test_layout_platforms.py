"""Platforms with claims of their own in LAYOUT.toml."""

import pytest

from gatekeeper.layout_file import BadLayout, read_layout
from gatekeeper.model.issuer import IssuerKind
from tests.fakes.layout_text import GOOD

GITLAB = """
[platforms.gitlab]
kind = "gitlab"
issuer = "https://gitlab.example"
jwks_url = "https://gitlab.example/oauth/discovery/keys"
jwks_ca_file = "ca.pem"
audiences = ["pingee:certificates:production"]
algorithms = ["RS256"]
[[platforms.gitlab.builders]]
id = "https://gitlab.example/group/hello"
recipe = "gitlab.example/group/hello//.gitlab-ci.yml@refs/heads/main"
projects = { hello = "20" }
"""
GITHUB = """
[platforms.github]
kind = "github"
issuer = "https://token.actions.githubusercontent.com"
public_key_files = ["ci.pem"]
audiences = ["pingee:certificates:production"]
algorithms = ["RS256"]
[[platforms.github.builders]]
id = "https://github.com/octo-org/hello"
recipe = "octo-org/hello/.github/workflows/build.yml@refs/heads/main"
projects = { hello = "74" }
"""


def read(directory, text):
    for name, content, mode in (("ci.pem", "PEM\n", 0o644), ("ca.pem", "CA\n", 0o644), ("alice.password", "secret\n", 0o600), ("hello.toml", 'A = "b"\n', 0o600)):
        (directory / name).write_text(content)
        (directory / name).chmod(mode)
    file = directory / "LAYOUT.toml"
    file.write_text(text)
    return read_layout(file)


def test_platforms_are_read_with_fetched_and_with_pinned_keys(tmp_path):
    gitlab, github = read(tmp_path, GOOD + GITLAB + GITHUB).foreign
    assert (gitlab.name, gitlab.kind, gitlab.jwks_url, gitlab.jwks_ca_pem) == ("gitlab", IssuerKind.GITLAB, "https://gitlab.example/oauth/discovery/keys", "CA\n")
    assert (github.kind, github.public_keys_pem, github.jwks_url) == (IssuerKind.GITHUB, ("PEM\n",), "")
    assert [(b.builder_id, dict(b.projects)) for b in github.builders] == [("https://github.com/octo-org/hello", {"hello": "74"})]


def test_a_layout_without_platforms_has_none(tmp_path):
    assert read(tmp_path, GOOD).foreign == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('kind = "gitlab"', 'kind = "zuul"', "name no commit"),
        ('kind = "gitlab"', 'kind = "jenkins"', "kind: must be one of"),
        ("jwks_url", 'public_key_files = ["ci.pem"]\njwks_url', "pinned or fetched"),
        ('jwks_url = "https://', 'jwks_url = "http://', "jwks_url: must be an https URL"),
        ('jwks_url = "https://gitlab.example/oauth/discovery/keys"\n', "", "pinned or fetched"),
        ('algorithms = ["RS256"]\n', "algorithms = []\n", "empty means no"),
        ('hello = "20"', 'hello = ""', "must have 1 to"),
        ('{ hello = "20" }', "{}", "empty means no"),
        ('{ hello = "20" }', '{ "*" = "20" }', "not a name"),
        ('{ hello = "20" }', '{ "{{x}}" = "20" }', "not a name"),
        ('"https://gitlab.example/group/hello"', '"https://gitlab.example/*"', "not a builder id"),
        ('"https://gitlab.example/group/hello"', '"https://gitlab.example/a,https://b/c"', "not a builder id"),
        ("[platforms.gitlab]", "[platforms.gitlab]\nsecret = 1", "secret: is not a member"),
    ],
)
def test_what_a_platform_may_not_say(tmp_path, old, new, words):
    with pytest.raises(BadLayout, match=words):
        read(tmp_path, GOOD + GITLAB.replace(old, new, 1))


def test_two_definitions_of_one_builder_for_one_project_are_refused(tmp_path):
    second = GITLAB[GITLAB.index("[[platforms") :].replace("refs/heads/main", "refs/heads/stable")
    with pytest.raises(BadLayout, match="has two definitions for hello, and one role"):
        read(tmp_path, GOOD + GITLAB + second)
    other = second.replace("group/hello\"", "group/hello-stable\"")
    assert len(read(tmp_path, GOOD + GITLAB + other).foreign[0].builders) == 2
