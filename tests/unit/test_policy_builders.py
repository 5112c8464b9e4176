"""builders.toml: which signer a builder has, each refusal by its code and place, and that the trusted root covers every file and name of it."""

import re
from dataclasses import replace

import pytest

from gatekeeper.model.digest import digest_of
from gatekeeper.model.facts import RunIdentity, StandingIdentity
from gatekeeper.model.signer import ExpectedSigner, SignerKind
from gatekeeper.policy.load import MAX_FILE, PolicyError, parse_policy
from gatekeeper.policy.rules.origin import doubt_signer
from gatekeeper.policy.rules.tests import stage_rule
from tests.fakes.cases import BUILDER_ID, CA, OTHER_BUILDER, POLICY_COMMIT, good_case, policy_files, with_fact
from tests.fakes.foreign_signers import SPIFFE_ID
from tests.fakes.signing import COMMIT, PROJECT, REPOSITORY, RUN
from tests.fakes.sigstore_instance import IDENTITY, ISSUER

FILES = {"td.pem": b"pem", "td2.json": b"set", "both.pem": b"1", "both.json": b"2", "root.json": b"root", "ours.pem": b"key"}
SPIFFE = f'signer = "spiffe:td"\nidentity = "{SPIFFE_ID}"\n'
SIGSTORE = f'signer = "sigstore:root"\nidentity = "{IDENTITY}"\nissuer_url = "{ISSUER}"\n'
OTHER = f'[builders."{OTHER_BUILDER}"]\nsigner = "x509:other-ca"\nissuer = "ci"\nprojects = ["{PROJECT}"]\n'


def load(words, files=FILES):
    text = f'[builders."{BUILDER_ID}"]\nissuer = "ci"\nprojects = ["{PROJECT}"]\n{words}{OTHER}'
    return parse_policy(policy_files(builders=text) | files, commit=POLICY_COMMIT)


@pytest.mark.parametrize(
    ("words", "signer"),
    [
        ('signer = "x509:ours"\n', ExpectedSigner(SignerKind.X509, b"key")),
        (SPIFFE, ExpectedSigner(SignerKind.SPIFFE, b"pem", SPIFFE_ID)),
        (SPIFFE.replace(":td", ":td2"), ExpectedSigner(SignerKind.SPIFFE, b"set", SPIFFE_ID)),
        (SIGSTORE, ExpectedSigner(SignerKind.SIGSTORE, b"root", IDENTITY, ISSUER)),
        ('signer = "key:ours"\n', ExpectedSigner(SignerKind.KEY, b"key")),
    ],
)
def test_each_kind_of_signer_loads(words, signer):
    assert load(words).builders[BUILDER_ID].signer == signer


REFUSED = {
    "no signer": ("", "signer: is missing"),
    "no kind": ('signer = "ours"\n', "signer: must be 'x509:NAME', 'spiffe:NAME', 'sigstore:NAME', 'key:NAME'"),
    "kind in capitals": ('signer = "KEY:ours"\n', "signer: must be 'x509:NAME'"),
    "two kinds": ('signer = ["key:ours", "x509:ours"]\n', "signer: must be a string"),
    "no such key": ('signer = "key:none"\n', "signer: is 'key:NAME', and NAME.pem lies"),
    "no such authority": (SPIFFE.replace(":td", ":none"), "signer: is 'spiffe:NAME', and either NAME.pem or NAME.json lies"),
    "two authorities of one name": (SPIFFE.replace(":td", ":both"), "signer: is 'spiffe:NAME', and either"),
    "no such root": (SIGSTORE.replace(":root", ":none"), "signer: is 'sigstore:NAME', and NAME.json lies"),
    "root that is a PEM file": (SIGSTORE.replace(":root", ":ours"), "signer: is 'sigstore:NAME', and NAME.json lies"),
    "SPIFFE without identity": ('signer = "spiffe:td"\n', "identity: is missing"),
    "identity that is no SPIFFE ID": (SPIFFE.replace("spiffe://", "https://"), "identity: must be spiffe://TRUST-DOMAIN/PATH"),
    "trust domain in capitals": (SPIFFE.replace("house", "House"), "identity: must be spiffe://"),
    "trust domain with a port": (SPIFFE.replace("house.demo", "house.demo:1"), "identity: must be spiffe://"),
    "dot segment": (SPIFFE.replace("/ci/", "/../"), "identity: must be spiffe://"),
    "slash at the end": (SPIFFE.replace("builder", "builder/"), "identity: must be spiffe://"),
    "trust domain alone": (SPIFFE.replace("/ci/builder", ""), "identity: names a trust domain and nobody in it"),
    "SPIFFE with an issuer": (SPIFFE + f'issuer_url = "{ISSUER}"\n', "issuer_url: is not asked of a signer of kind spiffe"),
    "sigstore without identity": (SIGSTORE.replace("identity", "#"), "identity: is missing"),
    "sigstore of nobody": (SIGSTORE.replace(IDENTITY, ""), "identity: must have 1 to"),
    "sigstore without issuer": (SIGSTORE.replace("issuer_url", "#"), "issuer_url: is missing"),
    "key with an identity": ('signer = "key:ours"\nidentity = "x"\n', "identity: is not asked of a signer of kind key"),
    "x509 with an identity": ('signer = "x509:ours"\nidentity = "x"\n', "identity: is not asked of a signer of kind x509"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_refusal_says_where_and_why(name):
    words, detail = REFUSED[name]
    with pytest.raises(PolicyError) as caught:
        load(words)
    place = BUILDER_ID.replace("/", "~1")
    assert (caught.value.code, caught.value.file) == ("config-invalid", "builders.toml")
    assert caught.value.detail.startswith(f"/builders/{place}/{detail}")


def test_a_file_over_its_bound_is_refused():
    with pytest.raises(PolicyError, match=re.escape(f"root.json: more than {MAX_FILE} bytes")):
        load(SIGSTORE, FILES | {"root.json": b"x" * (MAX_FILE + 1)})


def test_the_trusted_root_covers_kind_file_identity_and_issuer():
    roots = [
        load(words, FILES | files).trusted_root
        for words, files in (
            ('signer = "x509:ours"\n', {}),
            ('signer = "key:ours"\n', {}),
            ('signer = "key:ours"\n', {"ours.pem": b"kez"}),
            (SPIFFE, {}),
            (SPIFFE, {"td.pem": b"pen"}),
            (SPIFFE.replace("builder", "buildes"), {}),
            (SIGSTORE, {}),
            (SIGSTORE, {"root.json": b"roou"}),
            (SIGSTORE.replace("main", "mair"), {}),
            (SIGSTORE.replace(f'"{ISSUER}"', f'"{ISSUER}x"'), {}),
        )
    ]
    assert len(set(roots)) == len(roots)
    assert load(SPIFFE, FILES | {"unused.pem": b"x"}).trusted_root == load(SPIFFE).trusted_root


def judged(policy, signer):
    found = doubt_signer("rule", replace(good_case(), policy=policy), signer)
    return None if found is None else found.reason


STANDING = StandingIdentity(BUILDER_ID, digest_of(b"svid"), BUILDER_ID, project=PROJECT, repository=REPOSITORY, commit=COMMIT, run=RUN)
BY_RUN = RunIdentity(BUILDER_ID, PROJECT, COMMIT, RUN, digest_of(b"certificate"), BUILDER_ID)


def test_a_standing_signer_is_judged_by_what_is_named():
    policy = load(SPIFFE)
    nothing = StandingIdentity(BUILDER_ID, digest_of(b"svid"), BUILDER_ID)
    assert judged(policy, STANDING) is None
    assert judged(policy, nothing) is None
    other = {"project": "other"}, {"repository": REPOSITORY + "-fork"}
    assert [judged(policy, StandingIdentity(**vars(nothing) | change)) for change in other] == ["provenance-project"] * 2
    assert judged(policy, StandingIdentity(OTHER_BUILDER, digest_of(b"svid"), OTHER_BUILDER)) == "unknown-builder"
    assert judged(policy, StandingIdentity(BUILDER_ID, digest_of(b"svid"), "")) == "unknown-builder"


def test_a_run_certificate_of_another_builders_root_is_no_standing_signer_even_over_the_same_file():
    same_file = load(f'signer = "spiffe:other-ca"\nidentity = "{SPIFFE_ID}"\n')
    by_other_root = RunIdentity(BUILDER_ID, PROJECT, COMMIT, RUN, digest_of(b"certificate"), OTHER_BUILDER)
    assert same_file.builders[BUILDER_ID].signer.trust == same_file.builders[OTHER_BUILDER].signer.trust
    assert judged(same_file, by_other_root) == "unknown-builder"
    assert judged(load('signer = "x509:other-ca"\n'), by_other_root) is None  # two builders that share one CA: the certificate names which
    assert judged(load('signer = "x509:builder-ca"\n', FILES | {"builder-ca.pem": CA.pem()}), BY_RUN) is None


@pytest.mark.parametrize(("commit", "reason"), [(None, None), (COMMIT, None), ("3" * 40, "provenance-commit"), ("", "provenance-commit")])
def test_a_results_commit_is_compared_where_its_signers_certificate_names_one(commit, reason):
    good = good_case()
    results = {stage: with_fact(found, signer=replace(STANDING, project=None, run=None, commit=commit)) for stage, found in good.evidence.results.items()}
    case = replace(good, policy=load(SPIFFE), evidence=replace(good.evidence, results=results))
    assert stage_rule("commit").judge(case).reason == reason
