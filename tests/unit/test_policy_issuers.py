"""`issuers.toml`: what the reviewed policy says of an issuer, and what it may not say."""

import pytest

from gatekeeper.model.caller import CallerKind
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.issuer import IssuerKind
from gatekeeper.policy.issuers import read_platform
from gatekeeper.policy.load import PolicyError, parse_policy
from tests.fakes.cases import policy_files
from tests.fakes.signing import BUILDER_ID

PEOPLE = '[issuers.people]\nurl = "https://vault.demo"\nkind = "person"\njwks = "people.jwks.json"\nalgorithms = ["ES256"]\n'
PLAIN = 'kind = "run"\nurl = "https://ci.demo"\n'
GITLAB = 'kind = "gitlab"\nurl = "https://gitlab.example"\ntriggers = ["push"]\n'
KEYS = 'jwks_url = "https://gitlab.example/oauth/discovery/keys"\n'
TABLES = f'[issuers.ci.projects]\n"20" = "hello"\n[issuers.ci.builders]\n"gitlab.example/g/hello//.gitlab-ci.yml@refs/heads/main" = "{BUILDER_ID}"\n'


def load(text, tables=""):
    return parse_policy(policy_files(issuers=PEOPLE + f'[issuers.ci]\nalgorithms = ["RS256"]\n{text}{tables}'), commit="c" * 40)


def refused(text, words, tables=""):
    with pytest.raises(PolicyError, match=words) as caught:
        load(text, tables)
    assert (caught.value.file, caught.value.code) == ("issuers.toml", "config-invalid")


def test_a_platform_with_fetched_keys():
    entry = load(GITLAB + KEYS, TABLES).issuers["ci"]
    assert (entry.kind, entry.kind.speaks_for, entry.jwks) == (IssuerKind.GITLAB, CallerKind.RUN, b"")
    assert entry.jwks_url == "https://gitlab.example/oauth/discovery/keys"
    assert entry.audiences == {"pingee:production", "pingee:certificates:production"}
    assert entry.platform.projects == {"20": "hello"}
    assert (entry.platform.triggers, entry.platform.runners, entry.platform.unbound) == ({"push"}, {"gitlab-hosted"}, False)


def test_another_place_of_keys_is_another_trusted_root():
    roots = {load(GITLAB + keys, TABLES).trusted_root for keys in (KEYS, KEYS.replace("keys", "k"), 'jwks = "ci.jwks.json"\n')}
    assert len(roots) == 3


def test_an_issuer_may_be_kept_from_certificates():
    assert load(GITLAB + KEYS + 'audiences = ["pingee:production"]\n', TABLES).issuers["ci"].audiences == {"pingee:production"}
    assert load(PLAIN + KEYS).issuers["people"].audiences == {"pingee:production"}


@pytest.mark.parametrize("kind", ["kubernetes", "zuul", "spiffe"])
def test_a_kind_without_commits_has_no_certificates(kind):
    text = f'kind = "{kind}"\nurl = "https://gitlab.example"\nunbound = true\n' + KEYS
    text += 'triggers = ["post"]\n' if kind == "zuul" else 'trust_domain = "example.org"\n' if kind == "spiffe" else ""
    entry = load(text, TABLES).issuers["ci"]
    assert (entry.audiences, entry.platform.unbound) == ({"pingee:production"}, True)
    assert entry.platform.trust_domain == ("example.org" if kind == "spiffe" else "")
    refused(text + 'audiences = ["pingee:certificates:production"]\n', "audiences: must be some of pingee:production", TABLES)


@pytest.mark.parametrize(
    "url",
    [
        "http://gitlab.example/keys",
        "https:///keys",
        "https://user@gitlab.example/keys",
        "https://user:secret@gitlab.example/keys",
        "https://gitlab.example/keys?x",
        "https://gitlab.example/keys#x",
        "https://gitlab.example:0/keys",
        "https://gitlab.example:x/keys",
        "https://gitlab.example/a b",
        "https://gitl\u0430b.example/keys",
        "file:///etc/passwd",
        "https://gitlab.example\\\\@evil/keys",
        "gitlab.example/keys",
    ],
)
def test_keys_are_fetched_from_a_plain_https_url(url):
    refused(f'{GITLAB}jwks_url = "{url}"\n', "jwks_url: must be an https URL", TABLES)


REFUSED = {
    "pinned and fetched": (GITLAB + KEYS + 'jwks = "ci.jwks.json"\n', "pinned or fetched, not both", TABLES),
    "neither": (GITLAB, "jwks: is missing", TABLES),
    "an audience of another instance": (GITLAB + KEYS + 'audiences = ["pingee:test"]\n', "audiences: must be some of", TABLES),
    "no audience": (GITLAB + KEYS + "audiences = []\n", "audiences: must be some of", TABLES),
    "renamed claims of a platform": (GITLAB + KEYS, "claims: cannot be renamed", '[issuers.ci.claims]\ncommit = "ref"\n' + TABLES),
    "no projects": (GITLAB + KEYS, "projects: is missing", ""),
    "an empty table": (GITLAB + KEYS, "projects: must have 1 to", "[issuers.ci.projects]\n"),
    "a project that is not ours": (GITLAB + KEYS, "unknown project other", TABLES.replace('"hello"', '"other"')),
    "a builder that is not ours": (GITLAB + KEYS, "is no builder of this issuer", TABLES.replace(BUILDER_ID, "https://x/b")),
    "no triggers": (GITLAB.replace('["push"]', "[]") + KEYS, "triggers: must name at least one", TABLES),
    "triggers left out": (GITLAB.replace('triggers = ["push"]\n', "") + KEYS, "triggers: is missing", TABLES),
    "a stranger's trigger": (GITLAB.replace("push", "merge_request_event") + KEYS, "anybody can set off", TABLES),
    "unbound where there is a commit": (GITLAB + KEYS + "unbound = true\n", "unbound: is not a member", TABLES),
    "runners of a plain issuer": (PLAIN + KEYS + 'runners = ["x"]\n', "runners: is not a member", ""),
    "runners of a kind that names none": (
        'kind = "kubernetes"\nurl = "https://gitlab.example"\nrunners = ["x"]\n' + KEYS, "runners: is not a member", TABLES),
    "projects of a plain issuer": (PLAIN + KEYS, "projects: is not a member", '[issuers.ci.projects]\n"20" = "hello"\n'),
    "a trust domain left out": (GITLAB.replace("gitlab\"\n", 'spiffe"\n', 1).replace('triggers = ["push"]\n', "") + KEYS, "trust_domain: is missing", TABLES),
    "secrets": (PLAIN + 'jwks = "ci.jwks.json"\nkind2 = "x"\n', "kind2: is not a member", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_issuer_may_not_say(name):
    text, words, tables = REFUSED[name]
    refused(text, words, tables)


def test_runners_are_those_named_where_some_are():
    assert load(GITLAB + KEYS + 'runners = ["self-hosted", "ours"]\n', TABLES).issuers["ci"].platform.runners == {"self-hosted", "ours"}


def test_all_audiences_may_be_named():
    both = {"pingee:production", "pingee:certificates:production"}
    assert load(GITLAB + KEYS + f"audiences = {sorted(both)}\n".replace("'", '"'), TABLES).issuers["ci"].audiences == both


def test_a_table_of_projects_is_bounded():
    def read(count):
        fields = Fields({"projects": {str(number): "hello" for number in range(count)}, "builders": {"x": "y"}, "triggers": ["push"]})
        return read_platform(fields, IssuerKind.GITLAB)

    assert len(read(5000).projects) == 5000
    with pytest.raises(FieldError, match="must have 1 to 5000 rows"):
        read(5001)


def test_a_builder_of_another_issuer_is_not_handed_over():
    builders = f'[builders."{BUILDER_ID}"]\nsigner = "x509:builder-ca"\nissuer = "people"\nprojects = ["hello"]\n'
    components = policy_files()["components/hello.toml"].decode()
    files = policy_files(issuers=PEOPLE + f'[issuers.ci]\nalgorithms = ["RS256"]\n{GITLAB}{KEYS}{TABLES}', builders=builders, components__hello=components)
    with pytest.raises(PolicyError, match="is no builder of this issuer"):
        parse_policy(files, commit="c" * 40)


PODS = 'kind = "kubernetes"\nurl = "https://gitlab.example"\nunbound = true\n' + KEYS
BUILDS = 'kind = "zuul"\nurl = "https://gitlab.example"\ntriggers = ["post"]\n' + KEYS


def test_a_cluster_is_asked_about_its_tokens_unless_the_policy_says_otherwise():
    assert load(PODS, TABLES).issuers["ci"].platform.token_review is True
    assert load(PODS + "token_review = true\n", TABLES).issuers["ci"].platform.token_review is True
    assert load(PODS + "token_review = false\n", TABLES).issuers["ci"].platform.token_review is False
    refused(PODS + 'token_review = "no"\n', "token_review: must be true or false", TABLES)
    refused(GITLAB + KEYS + "token_review = true\n", "token_review: is not a member", TABLES)


def test_zuul_is_asked_at_a_plain_https_url_where_the_policy_names_one():
    assert load(BUILDS, TABLES).issuers["ci"].platform.builds_url == ""
    assert load(BUILDS + 'builds_url = "https://zuul.example/x/"\n', TABLES).issuers["ci"].platform.builds_url == "https://zuul.example/x"
    for url in ("http://zuul.example", "https://user@zuul.example", "https://zuul.example?tenant=x", "file:///etc/passwd", "https://"):
        refused(BUILDS + f'builds_url = "{url}"\n', "builds_url: must be an https URL", TABLES)
    refused(PODS + 'builds_url = "https://zuul.example"\n', "builds_url: is not a member", TABLES)
