"""Loading the policy repository: what loads, and every refusal with its file and words."""

import re

import pytest

from gatekeeper.model.decision import Mode
from gatekeeper.policy.document import EnvironmentClass
from gatekeeper.policy.load import MAX_FILE, MAX_FILES, PolicyError, parse_configuration, parse_policy, policy_digest
from tests.fakes.cases import BUILDER_ID, POLICY_COMMIT, person, policy, policy_files, production_text

ISSUERS = policy_files()["issuers.toml"].decode()
BUILDERS = policy_files()["builders.toml"].decode()
COMPONENT = policy_files()["components/hello.toml"].decode()
PROJECT = policy_files()["projects/hello.toml"].decode()
PRODUCTION = production_text()
ALICE, BOB = person("alice"), person("bob")


def refusal(files) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        parse_policy(files, commit=POLICY_COMMIT)
    return caught.value


def test_a_good_policy_parses():
    found = policy()
    assert (found.instance, found.anonymous_reads, found.commit) == ("production", True, POLICY_COMMIT)
    assert found.digest == policy_digest(policy_files())
    production = found.environments["production"]
    assert (production.environment_class, production.stages, production.stage_wait_s) == (EnvironmentClass.PRODUCTION, ("commit", "acceptance"), 3600)
    assert production.votes is not None
    assert (production.votes.value, production.votes.count, production.votes.veto, production.votes.groups) == (2, 1, -2, {"reviewers"})
    hello = found.components["hello"]
    assert (hello.project, dict(hello.modes), hello.builder, hello.targets["production"]) == ("hello", {"production": Mode.ENFORCE, "test": Mode.ENFORCE}, BUILDER_ID, ("host-1",))
    bob = found.person_of("people", "subject-bob")
    assert bob is not None
    assert (bob.name, len(bob.keys[0]), bob.accounts) == ("bob", 32, {"ci": "bob"})
    assert found.person_of_account("ci", "bob") is bob
    assert found.person_of("people", "subject-Bob") is None
    assert found.person_of_account("people", "bob") is None
    assert policy(environments__production=production_text(extra="stage_wait_s = 5")).environments["production"].stage_wait_s == 5
    assert not policy(policy='instance = "production"\nanonymous = "none"\n').anonymous_reads


@pytest.mark.parametrize(
    ("text", "production", "test"),
    [('"shadow"', Mode.SHADOW, Mode.SHADOW), ('"warn"', Mode.WARN, Mode.WARN), ('{ production = "shadow", test = "enforce" }', Mode.SHADOW, Mode.ENFORCE)],
)
def test_a_mode_is_said_once_or_for_each_environment(text, production, test):
    found = policy(components__hello=COMPONENT.replace('"enforce"', text))
    assert found.components["hello"].modes == {"production": production, "test": test}


def test_roles_hold_within_their_scope_alone():
    found = policy()
    operators = frozenset({"operators"})
    assert found.roles_of(operators, "production", "hello") == {"O"}
    assert found.roles_of(operators, "production", "other") == frozenset()
    assert found.roles_of(operators, "test", "hello") == frozenset()
    assert found.roles_of(frozenset({"developers"}), "anywhere", "anything") == {"D"}
    assert found.roles_of(frozenset(), "production", "hello") == frozenset()


@pytest.mark.parametrize("file", ["policy.toml", "people.toml", "roles.toml", "issuers.toml", "builders.toml"])
def test_each_file_that_must_be_there(file):
    files = policy_files()
    del files[file]
    error = refusal(files)
    assert (error.file, error.detail, error.code) == (file, "is missing", "config-invalid")


REFUSED = {
    "not TOML": ("policy", "instance = ", "policy.toml", "does not parse"),
    "duplicate key": ("policy", 'instance = "production"\ninstance = "x"\nanonymous = "none"\n', "policy.toml", "Cannot overwrite a value"),
    "duplicate person": ("people", ALICE + ALICE, "people.toml", "does not parse"),
    "number of thousands of digits": ("policy", f'instance = "production"\nanonymous = "none"\nx = {"9" * 5000}\n', "policy.toml", "does not parse"),
    "deep nesting": ("policy", "x = " + "[" * 100_000, "policy.toml", "does not parse"),
    "instance no name": ("policy", 'instance = "Production"\nanonymous = "none"\n', "policy.toml", "/instance: is not a name"),
    "anonymous neither": ("policy", 'instance = "p"\nanonymous = "all"\n', "policy.toml", "/anonymous: must be one of public, none"),
    "unknown member at the top": ("policy", 'instance = "p"\nanonymous = "none"\nextra = 1\n', "policy.toml", "/extra: is not a member"),
    "people beside people": ("people", ALICE + "[peopel.eve]\n", "people.toml", "/peopel: is not a member"),
    "unknown member of a person": ("people", ALICE + 'admin = true\n', "people.toml", "/people/alice/admin: is not a member"),
    "person no name": ("people", ALICE.replace("people.alice", 'people."al ice"'), "people.toml", "is not a name"),
    "person without keys member": ("people", ALICE.replace("keys", "#"), "people.toml", "/people/alice/keys: is missing"),
    "another key type": ("people", ALICE.replace("ed25519 ", "rsa "), "people.toml", "a key is 'ed25519 '"),
    "key cut short": ("people", ALICE.replace('"ed25519 ', '"ed25519 AAAA'), "people.toml", "base64 of 32 bytes"),
    "shared identity": ("people", ALICE + BOB.replace("subject-bob", "subject-alice"), "people.toml", "bob and alice share an identity"),
    "shared address": ("people", ALICE + BOB.replace("bob@demo", "Alice@demo"), "people.toml",
        "bob and alice share an identity, key, account or address"),
    "shared account": ("people", ALICE + BOB.replace('ci = "bob"', 'ci = "alice"'), "people.toml", "bob and alice share"),
    "shared key": ("people", ALICE + ALICE.replace("alice@", "b@").replace('"alice"', '"b"').replace("e.alice]", "e.b]").replace("t-alice", "t-b"),
                   "people.toml", "b and alice share"),
    "person of an unknown issuer": ("people", ALICE.replace('"people"', '"elsewhere"'), "people.toml", "alice names the unknown issuer elsewhere"),
    "account at an unknown issuer": ("people", ALICE.replace("ci =", "c1 ="), "people.toml", "alice names the unknown issuer c1"),
    "unknown role": ("roles", '[[role]]\nrole = "X"\ngroup = "g"\nscope = "*/*"\n', "roles.toml", "/role/0/role: must be one of D, R, O, S, A, P"),
    "scope without a slash": ("roles", '[[role]]\nrole = "D"\ngroup = "g"\nscope = "*"\n', "roles.toml", "scope: is ENVIRONMENT/COMPONENT"),
    "scope with two slashes": ("roles", '[[role]]\nrole = "D"\ngroup = "g"\nscope = "a/b/c"\n', "roles.toml", "scope: is ENVIRONMENT/COMPONENT"),
    "scope with an empty side": ("roles", '[[role]]\nrole = "D"\ngroup = "g"\nscope = "/hello"\n', "roles.toml", "scope: is ENVIRONMENT/COMPONENT"),
    "unknown member of a role": ("roles", '[[role]]\nrole = "D"\ngroup = "g"\nscope = "*/*"\nuntil = 1\n', "roles.toml", "until: is not a member"),
    "unknown member beside roles": ("roles", 'role = []\nroles = []\n', "roles.toml", "/roles: is not a member"),
    "issuer of another kind": ("issuers", ISSUERS.replace('"run"', '"robot"'), "issuers.toml", "kind: must be one of person, run, gitlab"),
    "issuer without key file": ("issuers", ISSUERS.replace("ci.jwks", "cj.jwks"), "issuers.toml", "/issuers/ci/jwks: names no file"),
    "issuer without algorithms": ("issuers", ISSUERS.replace('["ES256"]', "[]"), "issuers.toml", "algorithms: must name at least one"),
    "issuer with an unknown member": ("issuers", ISSUERS.replace('kind = "run"', 'kind = "run"\naudience = "x"'), "issuers.toml",
        "audience: is not a member"),
    "issuer no name": ("issuers", ISSUERS.replace("issuers.ci]", 'issuers."ci|x"]'), "issuers.toml", "is not a name"),
    "issuers beside issuers": ("issuers", ISSUERS + "[issuer.x]\n", "issuers.toml", "/issuer: is not a member"),
    "one url for two issuers": ("issuers", ISSUERS.replace("https://vault.demo", "https://ci.demo"), "issuers.toml", "two issuers have one url"),
    "builder without CA file": ("builders", BUILDERS.replace("x509:builder-ca", "x509:nowhere"), "builders.toml", "signer: is 'x509:NAME'"),
    "builder with another signer": ("builders", BUILDERS.replace("x509:builder-ca", "pgp:builder-ca"), "builders.toml", "signer: must be 'x509:NAME'"),
    "builder of an unknown issuer": ("builders", BUILDERS.replace('"ci"', '"c1"'), "builders.toml", "names the unknown issuer c1"),
    "builder with an unknown member": ("builders", BUILDERS + "x = 1\n", "builders.toml", "/x: is not a member"),
    "builders beside builders": ("builders", BUILDERS + "[builder.x]\n", "builders.toml", "/builder: is not a member"),
    "review of another type": ("projects__hello", PROJECT.replace("attestations", "gerrit"), "projects/hello.toml",
        "/review: must be one of attestations"),
    "unknown member of a project": ("projects__hello", PROJECT + "x = 1\n", "projects/hello.toml", "/x: is not a member"),
    "project file no name": ("projects__He llo", PROJECT, "projects/He llo.toml", "is not a name"),
    "unknown mode": ("components__hello", COMPONENT.replace("enforce", "audit"), "components/hello.toml", "/mode: must be one of shadow, warn, enforce"),
    "no mode": ("components__hello", COMPONENT.replace('mode = "enforce"\n', ""), "components/hello.toml", "/mode: is missing"),
    "mode no word": ("components__hello", COMPONENT.replace('"enforce"', "1"), "components/hello.toml", "/mode: must be an object"),
    "an environment without a mode": ("components__hello", COMPONENT.replace('"enforce"', '{ production = "shadow" }'), "components/hello.toml",
        "/mode/test: is missing"),
    "a mode without an environment": ("components__hello", COMPONENT.replace('"enforce"', '{ production = "shadow", test = "warn", lab = "warn" }'),
        "components/hello.toml", "/mode/lab: is not a member"),
    "an unknown mode of an environment": ("components__hello", COMPONENT.replace('"enforce"', '{ production = "shadow", test = "off" }'),
        "components/hello.toml", "/mode/test: must be one of shadow, warn, enforce"),
    "unknown project": ("components__hello", COMPONENT.replace('project = "hello"', 'project = "hullo"'), "components/hello.toml",
        "unknown project hullo"),
    "unknown builder": ("components__hello", COMPONENT.replace("ci.demo", "cj.demo"), "components/hello.toml",
        "expects the unknown builder https://cj.demo"),
    "unknown environment": ("components__hello", COMPONENT.replace("test =", "tset ="), "components/hello.toml", "in the unknown environment tset"),
    "two targets": ("components__hello", COMPONENT.replace('"host-1"', '"host-1", "host-2"'), "components/hello.toml",
        "must name exactly one target"),
    "no target": ("components__hello", COMPONENT.replace('"host-1"', ""), "components/hello.toml", "must name exactly one target"),
    "unknown member of a component": ("components__hello", "x = 1\n" + COMPONENT, "components/hello.toml", "/x: is not a member"),
    "unknown expectation": ("components__hello", COMPONENT + "ref = 'main'\n", "components/hello.toml", "/expectations/ref: is not a member"),
    "unknown class": ("environments__production", PRODUCTION.replace('"production"', '"prod"'), "environments/production.toml",
        "/class: must be one of"),
    "unknown stage": ("environments__production", PRODUCTION.replace('"acceptance"', '"smoke"'), "environments/production.toml",
        "may name 'commit' and 'acceptance'"),
    "another merge": ("environments__production", PRODUCTION.replace('"none"', '"vcs-worker"'), "environments/production.toml",
        "/merge: must be one of none"),
    "production without votes": ("environments__production", PRODUCTION.split("[votes]")[0], "environments/production.toml",
        "empty means nobody may deploy"),
    "production without stages": ("environments__production", PRODUCTION.replace('"commit", "acceptance"', ""), "environments/production.toml",
        "needs stages"),
    "rules not built": ("environments__production", PRODUCTION + "[[rules]]\nname = 'x'\n", "environments/production.toml",
        "/rules: is not a member"),
    "wait of more than a week": ("environments__production", production_text(extra="stage_wait_s = 604801"), "environments/production.toml",
        "between 0 and 604800"),
    "nobody has to vote": ("environments__production", production_text(count=0), "environments/production.toml", "/votes/count: must lie between 1"),
    "a vote of 0 counts": ("environments__production", PRODUCTION.replace("value = 2", "value = 0"), "environments/production.toml",
        "/votes/value: must lie between 1"),
    "a veto of 0": ("environments__production", PRODUCTION.replace("-2", "0"), "environments/production.toml",
        "/votes/veto: must lie between -100 and -1"),
    "groups of nobody": ("environments__production", PRODUCTION.replace('"reviewers"', ""), "environments/production.toml",
        "must name at least one group"),
    "unknown member of a threshold": ("environments__production", PRODUCTION + "any = true\n", "environments/production.toml",
        "/votes/any: is not a member"),
    "environment file no name": ("environments__Prod", PRODUCTION, "environments/Prod.toml", "is not a name"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_each_refusal_names_its_file_and_says_why(what):
    changed, text, file, words = REFUSED[what]
    error = refusal(policy_files(**{changed: text}))
    assert error.file == file
    assert words in error.detail
    assert error.code == "config-invalid"
    assert str(error) == f"{file}: {error.detail}"


@pytest.mark.parametrize("file", ["policy.toml", "components/hello.toml", "ci.jwks.json", "builder-ca.pem"])
def test_a_file_over_its_bound_is_refused(file):
    files = policy_files()
    padding = b"#" if file.endswith(".toml") else b" "
    files[file] += b"\n" + padding * (MAX_FILE - len(files[file]) - 1)
    assert len(files[file]) == MAX_FILE
    parse_policy(files, commit=POLICY_COMMIT)
    files[file] += padding
    error = refusal(files)
    assert (error.file, error.detail) == (file, f"more than {MAX_FILE} bytes")


def test_too_many_files_are_refused():
    files = policy_files()
    files |= {f"notes/{n}": b"" for n in range(MAX_FILES - len(files))}
    parse_policy(files, commit=POLICY_COMMIT)
    files["one-more"] = b""
    assert refusal(files).detail == f"more than {MAX_FILES} files"


def test_a_file_that_is_no_utf8_is_refused():
    error = refusal(policy_files() | {"roles.toml": b"role = []\n# \xff"})
    assert error.file == "roles.toml"
    assert "does not parse" in error.detail


def test_the_digest_changes_with_any_byte_name_or_file():
    files = policy_files()
    digests = {policy_digest(files)}
    for name, data in files.items():
        digests.add(policy_digest(files | {name: data + b" "}))
        digests.add(policy_digest({other: bytes_ for other, bytes_ in files.items() if other != name}))
        digests.add(policy_digest({(other + "x" if other == name else other): bytes_ for other, bytes_ in files.items()}))
    assert len(digests) == 1 + 3 * len(files)
    assert policy_digest({"ab": b"c"}) != policy_digest({"a": b"bc"})
    assert policy_digest(dict(reversed(files.items()))) == policy_digest(files)


def test_the_trusted_root_changes_with_any_key_and_with_nothing_else():
    files = policy_files()

    def root(**changes):
        changed = {re.sub("_(json|pem|toml)$", r".\1", name.replace("__", "/")): data for name, data in changes.items()}
        return parse_policy(files | changed, commit=POLICY_COMMIT).trusted_root

    assert root() == root(environments__production_toml=production_text(count=2).encode())
    pem, jwks = files["builder-ca.pem"], files["people.jwks.json"]
    others = [
        root(**{"builder-ca_pem": pem + b"\n"}),
        root(**{"other-ca_pem": pem}),
        root(**{"ci.jwks_json": jwks}),
        root(**{"people.jwks_json": b"{}"}),
        root(people_toml=files["people.toml"].replace(b"[people.alice]", b"[people.eve]")),
        root(people_toml=(ALICE + BOB).encode()),
    ]
    assert len({root(), *others}) == 1 + len(others)
    # Where one key set ends and the next begins is part of it.
    seam = b"issuer\0people\0"
    assert root(**{"ci.jwks_json": b"a", "people.jwks_json": b"b" + seam + b"c"}) != root(**{"ci.jwks_json": b"a" + seam + b"b", "people.jwks_json": b"c"})


GOOD_CONFIGURATION = b'secrets = ["TOKEN"]\n[values]\nGREETING = "hello"\nEMPTY = ""\n'


def test_a_configuration_parses():
    found = parse_configuration(GOOD_CONFIGURATION, commit=POLICY_COMMIT, file="config/test/hello.toml")
    assert (found.values, found.secrets, found.commit) == ({"GREETING": "hello", "EMPTY": ""}, {"TOKEN"}, POLICY_COMMIT)
    bare = parse_configuration(b"", commit=POLICY_COMMIT, file="config/test/hello.toml")
    assert (bare.values, bare.secrets) == ({}, frozenset())
    assert bare.digest != found.digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[values]\ngreeting = 'x'\n", "is not the name of a setting"),
        (b"[values]\n'A=B' = 'x'\n", "is not the name of a setting"),
        (b"[values]\n1A = 'x'\n", "is not the name of a setting"),
        (b"[values]\n'' = 'x'\n", "is not the name of a setting"),
        ("[values]\n'Ä' = 'x'\n".encode(), "is not the name of a setting"),
        (b"[values]\n" + b"A" * 65 + b" = 'x'\n", "is not the name of a setting"),
        (b"[values]\nA = 1\n", "/values/A: must be a string"),
        (b'[values]\nA = "x\\ny"\n', "/values/A: holds a control character"),
        (b"[values]\nA = '" + b"x" * 4097 + b"'\n", "/values/A: must have 0 to 4096"),
        (b"secrets = ['lower']\n", "/secrets/0: is not the name of a setting"),
        (b"secrets = ['LD_AUDIT']\n", "/secrets/0: LD_AUDIT is not the configuration's to set"),
        (b"[values]\nPYTHONSTARTUP = 'x'\n", "/values/PYTHONSTARTUP: PYTHONSTARTUP is not the configuration's to set"),
        (b"[values]\nPATH = 'x'\n", "/values/PATH: PATH is not the configuration's to set"),
        (b"secrets = ['A']\n[values]\nA = 'x'\n", "/secrets: A is also a plain value"),
        (b"secret = ['A']\n", "/secret: is not a member"),
        (b"values = ", "does not parse"),
    ],
)  # fmt: skip
def test_a_configuration_is_refused(text, words):
    with pytest.raises(PolicyError) as caught:
        parse_configuration(text, commit=POLICY_COMMIT, file="config/test/hello.toml")
    assert caught.value.file == "config/test/hello.toml"
    assert words in caught.value.detail


def test_a_configuration_that_cannot_be_installed_is_an_error_of_its_policy():
    bad = b"[values]\nPATH = 'x'\n"
    with pytest.raises(PolicyError) as caught:
        parse_policy(policy_files() | {"config/production/hello.toml": bad}, commit=POLICY_COMMIT)
    assert (caught.value.file, caught.value.code) == ("config/production/hello.toml", "config-invalid")
    others = ("config/hello.toml", "config/production/deep/hello.toml", "notes/production/hello.toml", "config/production/hello.txt")
    assert parse_policy(policy_files() | dict.fromkeys(others, bad), commit=POLICY_COMMIT).projects


def test_what_is_no_toml_in_a_folder_is_nobodys():
    files = policy_files() | {"projects/README": b"x = ", "projects/README.md": b"x = ", "environments/notes.txt": b"\xff"}
    assert set(parse_policy(files, commit=POLICY_COMMIT).projects) == {"hello"}


def test_a_persons_key_has_one_spelling():
    spelt = ALICE.partition('"ed25519 ')[2].partition('"')[0]
    assert spelt.endswith("=")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".index(spelt[-2])
    other = spelt[:-2] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[last ^ 1] + "="
    error = refusal(policy_files(people=ALICE.replace(spelt, other) + BOB))
    assert (error.file, "a key is 'ed25519 ' and the base64 of 32 bytes" in error.detail) == ("people.toml", True)


def test_an_issuer_of_our_own_kind_may_name_its_claims():
    found = parse_policy(policy_files(issuers=ISSUERS + '[issuers.ci.claims]\ncommit = "sha"\n'), commit=POLICY_COMMIT)
    assert found.issuers["ci"].claims == {"commit": "sha"}
