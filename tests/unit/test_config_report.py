"""`check-config`: who holds which role, who may vote, and what is lawful and seldom meant."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from gatekeeper.config_report import Config, document, faults, render, warnings
from gatekeeper.model.digest import digest_of
from gatekeeper.policy.load import parse_policy
from gatekeeper.ports.registry import RegistryAddress
from gatekeeper.settings import WitnessSettings
from gatekeeper.tlog.signature import ed25519_vkey
from tests.fakes import log_directory
from tests.fakes.witnesses import FakeWitness, policy_of

KEY = "ssh-ed25519 AAAAowner"
SIGNERS = f'olga@x namespaces="git" {KEY}\ncarl@x,carl@y namespaces="git" ssh-ed25519 AAAAcarl comment\n# a comment\n'
PERSON = '[people.{0}]\nissuer = "people"\nsubject = "{0}"\nemails = [{2}]\nkeys = []\ngroups = [{1}]\n'
FILES = {
    "policy.toml": 'instance = "production"\nanonymous = "public"\n',
    "issuers.toml": '[issuers.people]\nurl = "https://p"\nkind = "person"\njwks = "j"\nalgorithms = ["ES256"]\n',
    "j": "{}",
    "ca.pem": "x",
    "builders.toml": '[builders."https://ci/b"]\nsigner = "x509:ca"\nissuer = "people"\nprojects = ["hello"]\n',
    "roles.toml": '[[role]]\nrole = "O"\ngroup = "operators"\nscope = "production/*"\n',
    "projects/hello.toml": 'repository = "file:///x"\ndefault_branch = "main"\nreview = "attestations"\napproved = ["production"]\n',
    "components/hello.toml": 'project = "hello"\nmode = "enforce"\n[targets]\nproduction = ["web-1"]\n'
    '[expectations]\nbuilder = "https://ci/b"\nbuild_type = "https://t"\n',
    "environments/production.toml": 'class = "production"\nstages = ["commit"]\nmerge = "none"\n'
    '[votes]\nlabel = "Code-Review"\nvalue = 2\ncount = 1\ngroups = ["reviewers"]\nveto = -2\n',
}
PEOPLE = {"alice": ("reviewers",), "bob": ("reviewers",), "olga": ("operators",), "otto": ("operators",)}


def config(*, people=PEOPLE, files=(), signers=SIGNERS, targets=("web-1",), environment="production", origin=log_directory.ORIGIN, mailless=(), witnesses=None, artifacts=Path("/var/artifacts"), clusters=()):
    texts = FILES | dict(files)
    texts["people.toml"] = "".join(
        PERSON.format(name, ", ".join(f'"{g}"' for g in groups), "" if name in mailless else f'"{name}@x"') for name, groups in people.items()
    )
    policy = parse_policy({name: text.encode() for name, text in texts.items()}, commit="c" * 40)
    address = SimpleNamespace(host="10.0.0.5", port=22)
    settings = SimpleNamespace(
        instance="production", origin=origin, targets={name: SimpleNamespace(address=address, environment=environment) for name in targets},
        witnesses=witnesses, artifacts=artifacts, clusters=dict.fromkeys(clusters),
    )
    return Config(settings, policy, signers.encode(), log_directory.VKEY)


def test_a_policy_with_two_of_everybody_has_nothing_to_be_warned_of():
    found = config()
    assert (faults(found), warnings(found)) == ([], [])
    told = render(found).splitlines()
    assert "role      O (operator) in production/*: group operators: olga, otto" in told
    assert "votes     production: 1 × Code-Review +2, not of who wrote or pushed it, by alice, bob of reviewers" in told
    assert "component hello in production: enforce, to web-1" in told
    assert "target    web-1: production, 10.0.0.5:22" in told
    assert any(line.startswith("override  at each target") for line in told)
    said = document(found)
    assert said["roles"] == [{"role": "O", "group": "operators", "scope": "production/*", "people": ["olga", "otto"]}]
    assert said["votes"] == [
        {"environment": "production", "label": "Code-Review", "value": 2, "count": 1, "groups": ["reviewers"], "people": ["alice", "bob"]}
    ]
    assert said["components"] == [{"component": "hello", "project": "hello", "environment": "production", "target": "web-1", "mode": "enforce"}]
    assert said["policy"]["owners"] == ["carl@x,carl@y", "olga@x"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"people": {"alice": ("reviewers",), "bob": ("reviewers",)}}, "nobody holds the role O (operator) in production/*"),
        ({"people": {k: v for k, v in PEOPLE.items() if k != "otto"}}, "olga alone holds the role O (operator) in production/*: breakglass needs two people"),
        ({"people": {k: v for k, v in PEOPLE.items() if k != "bob"}}, "1 vote(s) of alice: what one of them writes can never be approved"),
        ({"people": {k: v for k, v in PEOPLE.items() if v != ("reviewers",)}}, "0 may vote: nothing can be deployed there"),
        ({"files": {"roles.toml": '[[role]]\nrole = "O"\ngroup = "operators"\nscope = "test/*"\n'}.items()}, "in production/hello: nobody may roll it back"),
        ({"mailless": ("bob",)}, "bob may vote in production and has no e-mail address"),
        ({"targets": ("web-1", "web-2")}, "[targets.web-2] is used by no component"),
        ({"signers": f"olga@x {KEY}\n"}, "olga@x alone signs the policy"),
        ({"signers": f"olga@x {KEY}\notto@x {KEY}\n"}, "olga@x and otto@x have one key in allowed_signers: one person counts as two"),
        ({"signers": "# nobody\n"}, "names nobody: no policy can be loaded"),
    ],
)
def test_what_is_lawful_and_seldom_meant_is_a_warning(changes, words):
    found = config(**changes)
    assert faults(found) == []
    assert [warning for warning in warnings(found) if words in warning], warnings(found)
    assert f"warning   {next(w for w in warnings(found) if words in w)}" in render(found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": ()}, "/targets/web-1 is missing: hello is deployed to it in production; add [targets.web-1]"),
        ({"environment": "test"}, "/targets/web-1/environment is test, but hello is deployed to it in production"),
        ({"origin": "other/log"}, f"/vault/log_key is of the log {log_directory.ORIGIN}, and /origin is other/log: pin the key"),
    ],
)
def test_a_contradiction_is_a_fault_that_names_its_key_and_what_to_do(changes, words):
    (fault,) = faults(config(**changes))
    assert words in fault
    assert document(config(**changes))["faults"] == [fault]


def test_what_is_revoked_is_listed():
    row = '[[revoked]]\nbuilder = "https://ci/b"\nfrom = 2026-11-21T10:00:00Z\nreason = "its host was broken into"\n'
    found = config(files={"revocations.toml": row}.items())
    assert "revoked   builder https://ci/b is revoked since 2026-11-21T10:00:00Z: its host was broken into" in render(found).splitlines()
    assert document(found)["revoked"] == [
        {"kind": "builder", "id": "https://ci/b", "from": "2026-11-21T10:00:00Z", "reason": "its host was broken into"}
    ]
    assert document(config())["revoked"] == []


W1, W2 = FakeWitness("a"), FakeWitness("b")


@pytest.mark.parametrize(
    ("policy", "fail_open", "fault", "warning"),
    [
        (policy_of(log_directory.VKEY, W1, W2), False, None, None),
        (policy_of(log_directory.VKEY, W1, W2, quorum=0), False, None, "has no quorum"),
        (policy_of(log_directory.VKEY, W1, W2), True, None, "verifiers with this policy refuse them"),
        (policy_of(ed25519_vkey("other.example/log", log_directory.VKEY.public), W1), False, "is of the log other.example/log", None),
    ],
)
def test_the_witnesses_are_shown_and_what_is_seldom_meant_of_them(policy, fail_open, fault, warning):
    settings = WitnessSettings(policy=policy, digest=digest_of(b"file"), ca_file=None, fail_open=fail_open, order=None)
    found = config(witnesses=settings)
    for words, sentences in ((fault, faults(found)), (warning, warnings(found))):
        assert len(sentences) == (words is not None)
        assert words is None or words in sentences[0]
    assert document(found)["witnesses"]["fail_open"] is fail_open
    assert "witnesses none are asked" not in render(found)
    assert "a" in document(found)["witnesses"]["witnesses"]
    assert document(config())["witnesses"] is None
    assert "witnesses none are asked" in render(config())


def test_it_tells_where_artifacts_lie_and_who_beside_the_registry_is_spoken_to():
    address = RegistryAddress("https://r.example:5000", "team/app", username="gate", password="hunter2", token_hosts=("auth.example",), blob_hosts=("cdn.example:8443",))
    found = config(artifacts=address)
    line = "artifacts in the registry https://r.example:5000, repository team/app; as gate; its tokens from auth.example; downloads from cdn.example:8443"
    assert line in render(found).splitlines()
    assert document(found)["artifacts"]["token_hosts"] == ["auth.example"]
    assert warnings(found) == []
    assert "hunter2" not in render(found) + str(document(found)) + repr(found.settings)
    assert "artifacts in the directory /var/artifacts" in render(config()).splitlines()


def test_a_registry_without_credentials_is_warned_of():
    assert "asked without credentials" in warnings(config(artifacts=RegistryAddress("https://r.example", "team/app")))[0]


PODS = FILES["issuers.toml"] + """[issuers.ci]
kind = "kubernetes"
url = "https://kubernetes"
jwks = "j"
algorithms = ["RS256"]
unbound = true
{}[issuers.ci.projects]
"ci/deployer/1" = "hello"
[issuers.ci.builders]
"ci/deployer/1" = "https://ci/pods"
"""
BUILDERS = FILES["builders.toml"] + '[builders."https://ci/pods"]\nsigner = "x509:ca"\nissuer = "ci"\nprojects = ["hello"]\n'


def test_a_cluster_that_reviews_tokens_stands_in_the_policy_and_in_the_file():
    files = {"issuers.toml": PODS.format(""), "builders.toml": BUILDERS}
    assert faults(config(files=files, clusters=["ci"])) == []
    assert warnings(config(files=files, clusters=["ci"])) == []
    assert "/clusters/ci is missing" in " ".join(faults(config(files=files)))
    assert "/clusters/cj: the policy has no issuer of that name" in " ".join(faults(config(files=files, clusters=["ci", "cj"])))
    careless = {"issuers.toml": PODS.format("token_review = false\n"), "builders.toml": BUILDERS}
    assert faults(config(files=careless)) == []
    assert "also after its pod is gone" in " ".join(warnings(config(files=careless)))
