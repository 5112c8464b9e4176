"""Recorded tokens of each kind of issuer: what they are read as, and twelve mutations of every identity field, each refused for its reason."""

import base64
import json

import pytest

from gatekeeper.model.issuer import IssuerKind
from gatekeeper.verify.errors import MalformedKey
from gatekeeper.verify.platform import NotAdmitted, trust_domain_of
from gatekeeper.verify.token import MAX_WORKLOAD_LIFETIME, Unauthenticated, key_use, named_key, parse_key_set
from tests.fakes.platforms import (
    ACCOUNT,
    BUILDERS,
    KINDS,
    NOW,
    SHA,
    SVID,
    TRIGGERS,
    URLS,
    changed,
    issuer,
    our_key,
    own_issuer,
    platform,
    recorded,
    verify,
)

POD = "0d8b260e-ef0e-45fb-be8e-ff44f97722e8"
BUILD = "8f3c1f0f5c2f4c0e9d6a7b2f6a1d2e3c"
ZUUL = "secret:example-tenant/opendev.example.org/group/hello/pingee-token"
READ_AS = {
    "gitlab": (SHA, "refs/heads/main", "302", "1", "20"),
    "github": (SHA, "refs/heads/main", "1658821493-2", "12", "74"),
    "kubernetes": ("", "", POD, "system:serviceaccount:ci:deployer", ACCOUNT),
    "zuul": ("", "", BUILD, ZUUL, "example-tenant/opendev.example.org/group/hello"),
    "spiffe": ("", "", SVID, SVID, SVID),
    "oidc": (SHA, "refs/heads/main", "run-1", "alice", "17"),
}
FORM = "is not of the form|must|holds a control|is missing"
"""What a claim of another form is told."""
UNKNOWN_PROJECT, UNKNOWN_RECIPE, OTHER_TRIGGER = "names no project", "names no builder", "set off like"
IDENTITY = [
    ("gitlab", "iss", "issuer is not trusted"),
    ("gitlab", "project_id", UNKNOWN_PROJECT),
    ("gitlab", "ci_config_ref_uri", UNKNOWN_RECIPE),
    ("gitlab", "pipeline_source", OTHER_TRIGGER),
    ("gitlab", "runner_environment", "machine like"),
    ("gitlab", "ref_path", "another ref than"),
    ("gitlab", "ref_type", "/ref_type: must be one of"),
    ("gitlab", "sha", "/sha: must be a full"),
    ("gitlab", "aud", "not meant for this audience alone"),
    ("github", "iss", "issuer is not trusted"),
    ("github", "repository_id", UNKNOWN_PROJECT),
    ("github", "job_workflow_ref", UNKNOWN_RECIPE),
    ("github", "event_name", OTHER_TRIGGER),
    ("github", "runner_environment", "machine like"),
    ("github", "ref_type", "/ref_type: must be one of"),
    ("github", "sha", "/sha: must be a full"),
    ("github", "aud", "not meant for this audience alone"),
    ("kubernetes", "iss", "issuer is not trusted"),
    ("kubernetes", "sub", "another service account"),
    ("kubernetes", "kubernetes.io/namespace", "another service account"),
    ("kubernetes", "kubernetes.io/serviceaccount/name", "another service account"),
    ("kubernetes", "kubernetes.io/serviceaccount/uid", UNKNOWN_PROJECT),
    ("zuul", "iss", "issuer is not trusted"),
    ("zuul", "tenant", "is not secret:TENANT"),
    ("zuul", "pipeline", f"{UNKNOWN_RECIPE}|{OTHER_TRIGGER}"),
    ("zuul", "job-name", UNKNOWN_RECIPE),
    ("zuul", "aud", "not meant for this audience alone"),
    ("spiffe", "sub", f"issuer is not trusted|{UNKNOWN_PROJECT}|/iss: is missing"),
    ("oidc", "iss", "issuer is not trusted"),
    ("oidc", "commit", "/commit: must be a full"),
    ("oidc", "aud", "not meant for this audience alone"),
]
MUTATIONS = {
    "prefix": lambda text: text[:-1],
    "suffix": lambda text: text + "1",
    "inside": lambda text: "1" + text,
    "case": lambda text: text.swapcase() if text.swapcase() != text else text + "A",
    "port": lambda text: text + ":443",
    "userinfo": lambda text: text.replace("://", "://evil@", 1) if "://" in text else "evil@" + text,
    "trailing slash": lambda text: text + "/",
    "trailing dot": lambda text: text + ".",
    "homoglyph": lambda text: text[:-1] + "\u0430",
    "percent-encoded": lambda text: f"%{ord(text[0]):02x}" + text[1:],
    "ref suffix": lambda text: text + "@refs/heads/main",
    "zero-width": lambda text: text + "\u200b",
}


def at(claims, path):
    *parents, last = path.split("/")
    for parent in parents:
        claims = claims[parent]
    return claims, last


def mutate(path, mutation):
    def change(claims):
        inner, last = at(claims, path)
        if isinstance(inner[last], list):
            inner[last] = [mutation(inner[last][0])]
        else:
            inner[last] = mutation(inner[last])

    return change


def put(path, value):
    def change(claims):
        inner, last = at(claims, path)
        inner[last] = value
        if value is None:
            del inner[last]

    return change


def refused(kind, change, words, raised=(Unauthenticated, NotAdmitted), **changes):
    with pytest.raises(raised, match=words) as caught:
        verify(changed(kind, change), own_issuer(kind, **changes))
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_token_of_each_kind_is_read_as_a_run(kind):
    caller = verify(recorded(kind)["token"], issuer(kind))
    assert (caller.issuer, caller.project, caller.subject) == (kind, "hello", recorded(kind)["claims"]["sub"])
    assert (caller.commit, caller.ref, caller.run, caller.actor, caller.project_id) == READ_AS[kind]
    assert caller.builder_id == ("https://ci.example.com/builder" if kind == "oidc" else BUILDERS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_token_is_bound_to_its_signature_issuer_and_time(kind):
    token = recorded(kind)["token"]
    with pytest.raises(Unauthenticated, match="signature is not"):
        verify(token, own_issuer(kind))
    with pytest.raises(Unauthenticated, match="issuer is not trusted"):
        verify(token, *(issuer(other) for other in KINDS if other != kind))
    with pytest.raises(Unauthenticated, match="has expired"):
        verify(token, issuer(kind), now=recorded(kind)["claims"]["exp"] + 60)
    with pytest.raises(Unauthenticated, match="not meant for this audience"):
        verify(token, issuer(kind), audience="pingee:certificates:production")


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize(("kind", "path", "words"), IDENTITY, ids=lambda value: value if "/" not in str(value) else str(value).rsplit("/")[-1])
def test_twelve_mutations_of_every_identity_field(kind, path, words, mutation):  # rows 40, 42, 46, 47, 97
    refused(kind, mutate(path, MUTATIONS[mutation]), f"{words}|{FORM}")


@pytest.mark.parametrize("value", [None, "", 7, True, ["x"], {}], ids=str)
@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, path, _ in IDENTITY if path != "aud"])
def test_identity_fields_are_strings_that_say_something(kind, path, value):
    refused(kind, put(path, value), "is missing|must")


@pytest.mark.parametrize(("kind", "path"), [("gitlab", "job_id"), ("gitlab", "user_id"), ("github", "run_id"), ("github", "run_attempt"), ("github", "actor_id")])
@pytest.mark.parametrize("value", ["0", "-1", "1e3", "01", " 1", "1\n", "\u0661", "9" * 21, "", 302])
def test_numbers_of_runs_and_people_are_plain_numbers(kind, path, value):
    refused(kind, put(path, value), f"{path}: ({FORM})")


def test_the_order_of_refusals_does_not_hide_what_is_not_admitted():
    assert isinstance(refused("gitlab", put("project_id", "21"), UNKNOWN_PROJECT), NotAdmitted)
    assert isinstance(refused("github", put("job_workflow_ref", "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/evil"), UNKNOWN_RECIPE), NotAdmitted)


def test_a_renamed_project_keeps_its_number_and_a_new_one_of_its_name_does_not_get_it():  # row 42
    assert verify(changed("gitlab", put("project_path", "other/name")), own_issuer("gitlab")).project == "hello"
    refused("gitlab", put("project_id", "21"), UNKNOWN_PROJECT, NotAdmitted)
    assert verify(changed("github", put("repository", "other/name")), own_issuer("github")).project == "hello"
    refused("github", put("repository_id", "75"), UNKNOWN_PROJECT, NotAdmitted)


def test_a_tag_named_like_the_branch_is_another_ref():  # row 43
    refused("gitlab", put("ref_type", "tag"), "/ref_path: is another ref")
    refused("github", put("ref_type", "tag"), "/ref: is of another type")
    token = changed("gitlab", lambda claims: claims.update(ref_type="tag", ref_path="refs/tags/main"))
    assert verify(token, own_issuer("gitlab")).ref == "refs/tags/main"


@pytest.mark.parametrize(
    ("kind", "claim", "value"),
    [
        ("github", "event_name", "pull_request"),
        ("github", "event_name", "pull_request_target"),
        ("github", "event_name", "pull_request_review"),
        ("github", "event_name", "pull_request_review_comment"),
        ("github", "event_name", "issue_comment"),
        ("github", "event_name", "workflow_run"),
        ("gitlab", "pipeline_source", "merge_request_event"),
        ("gitlab", "pipeline_source", "external_pull_request_event"),
    ],
)
def test_a_run_that_a_strangers_proposal_set_off_is_never_taken(kind, claim, value):  # row 46, whatever the list says
    refused(kind, put(claim, value), OTHER_TRIGGER, NotAdmitted, triggers=frozenset({"push", value}))


@pytest.mark.parametrize(("kind", "claim", "value"), [("github", "event_name", "workflow_dispatch"), ("gitlab", "pipeline_source", "web")])
def test_a_trigger_is_taken_where_the_policy_names_it(kind, claim, value):  # row 44
    refused(kind, put(claim, value), OTHER_TRIGGER, NotAdmitted)
    assert verify(changed(kind, put(claim, value)), own_issuer(kind, triggers=frozenset({value}))).project == "hello"


@pytest.mark.parametrize("kind", ["gitlab", "github"])
def test_somebodys_own_machine_is_taken_where_the_policy_says_so(kind):  # row 47
    change = put("runner_environment", "self-hosted")
    refused(kind, change, "machine like", NotAdmitted)
    assert verify(changed(kind, change), own_issuer(kind, runners=frozenset({"self-hosted"}))).project == "hello"


@pytest.mark.parametrize("kind", ["kubernetes", "zuul", "spiffe"])
def test_a_token_without_a_commit_is_taken_where_the_policy_says_so(kind):
    assert verify(changed(kind), own_issuer(kind)).commit == ""
    refused(kind, None, "names no commit", NotAdmitted, unbound=False)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"oidc"}))
def test_an_empty_table_lets_nobody_in(kind):
    refused(kind, None, UNKNOWN_PROJECT, NotAdmitted, projects={})
    refused(kind, None, UNKNOWN_RECIPE, NotAdmitted, recipes={})
    if kind in TRIGGERS:
        refused(kind, None, OTHER_TRIGGER, NotAdmitted, triggers=frozenset())


# row 101: tokens of a cluster's workloads


@pytest.mark.parametrize("namespace", ["ci2", "c", "CI", "ci/deployer", "kube-system"])
def test_a_service_account_of_another_namespace(namespace):
    def change(claims):
        claims["kubernetes.io"]["namespace"] = namespace
        claims["sub"] = f"system:serviceaccount:{namespace}:deployer"

    refused("kubernetes", change, UNKNOWN_PROJECT, NotAdmitted)


def test_a_service_account_that_was_made_again_under_the_same_name():
    refused("kubernetes", put("kubernetes.io/serviceaccount/uid", "00000000-0000-4000-8000-000000000000"), UNKNOWN_PROJECT, NotAdmitted)


@pytest.mark.parametrize("path", ["kubernetes.io", "kubernetes.io/pod", "kubernetes.io/pod/uid", "kubernetes.io/serviceaccount"])
def test_a_token_that_is_bound_to_no_pod(path):
    refused("kubernetes", put(path, None), "is missing")


def test_a_legacy_token_of_a_secret():
    def change(claims):
        del claims["kubernetes.io"], claims["exp"]
        claims["kubernetes.io/serviceaccount/namespace"] = "ci"

    refused("kubernetes", change, "/exp: is missing")


@pytest.mark.parametrize("kind", ["kubernetes", "spiffe"])
def test_after_its_pod_is_gone_a_workloads_token_is_good_for_an_hour_at_most(kind):
    def living(seconds):
        return lambda claims: claims.update(exp=NOW + seconds)

    assert verify(changed(kind, living(MAX_WORKLOAD_LIFETIME)), own_issuer(kind)).project == "hello"
    refused(kind, living(MAX_WORKLOAD_LIFETIME + 1), "lives longer than an hour", Unauthenticated)


@pytest.mark.parametrize("kind", ["kubernetes", "spiffe"])
def test_where_a_workloads_token_says_when_it_was_issued_that_counts(kind):
    def since(seconds):
        return lambda claims: claims.update(iat=NOW + seconds, nbf=NOW, exp=NOW + MAX_WORKLOAD_LIFETIME - 10)

    assert verify(changed(kind, since(-10)), own_issuer(kind)).project == "hello"
    refused(kind, since(-11), "lives longer than an hour", Unauthenticated)
    refused(kind, since(600), "from the future", Unauthenticated)


# SPIFFE


@pytest.mark.parametrize(
    "subject",
    [
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org//ci",
        "spiffe://example.org/ci/",
        "spiffe://example.org/../ci",
        "spiffe://example.org/c%69",
        "https://example.org/ci",
        "spiffe:/example.org/ci",
        "SPIFFE://example.org/ci",
        "example.org/ci",
    ],
)
def test_what_is_no_spiffe_id_has_no_trust_domain(subject):
    assert trust_domain_of(subject) == ""
    refused("spiffe", put("sub", subject), "/iss: is missing", Unauthenticated)


def test_a_workload_of_another_trust_domain():
    refused("spiffe", put("sub", "spiffe://example.com/ns/ci/sa/deployer"), "issuer is not trusted", Unauthenticated)
    refused("spiffe", put("sub", "spiffe://example.org.evil/ns/ci/sa/deployer"), "issuer is not trusted", Unauthenticated)
    refused("spiffe", put("iss", "https://oidc.example.org"), "issuer is not trusted", Unauthenticated)
    refused("spiffe", None, "another trust domain", Unauthenticated, trust_domain="example.com")


def test_a_jose_type_is_a_spiffe_tokens_alone():
    assert verify(changed("spiffe", header={"typ": "JWT"}), own_issuer("spiffe")).project == "hello"
    with pytest.raises(Unauthenticated, match="another type"):
        verify(changed("gitlab", header={"typ": "JOSE"}), own_issuer("gitlab"))


def test_keys_of_a_spiffe_bundle_are_taken_by_their_use():
    bundle = recorded("spiffe")["jwks"]
    assert set(parse_key_set(json.dumps(bundle).encode(), algorithms=["ES256"], use="jwt-svid")) == {"spiffe-2026"}
    assert (key_use(platform("spiffe")), key_use(platform("gitlab")), key_use(None)) == ("jwt-svid", "sig", "sig")
    for use in ({"use": "x509-svid"}, {"use": "sig"}, {}):
        key = {name: value for name, value in our_key("spiffe").jwk().items() if name != "use"} | use
        with pytest.raises(MalformedKey, match="no key that can verify"):
            parse_key_set(json.dumps({"keys": [key]}).encode(), algorithms=["ES256"], use="jwt-svid")


# Zuul


@pytest.mark.parametrize(
    "subject",
    [
        "secret:other/opendev.example.org/group/hello/t",
        "secret:example-tenant/t",
        "secret:example-tenant/hello/t",
        "secret:example-tenant/opendev.example.org/group/hello/",
        "secret:example-tenantopendev.example.org/a/b",
        "example-tenant/opendev.example.org/hello/t",
        "build:example-tenant/opendev.example.org/group/hello/pingee-token",
    ],
)
def test_a_secret_of_another_form_or_tenant(subject):
    refused("zuul", put("sub", subject), "/sub: is not secret:TENANT", Unauthenticated)


def test_a_secret_of_another_project():
    refused("zuul", put("sub", "secret:example-tenant/opendev.example.org/group/other/pingee-token"), UNKNOWN_PROJECT, NotAdmitted)
    refused("zuul", put("sub", "secret:example-tenant/opendev.example.org/group/hello/deep/pingee-token"), UNKNOWN_PROJECT, NotAdmitted)
    refused("zuul", put("sub", "secret:example-tenant/opendev.example.org/hello/pingee-token"), UNKNOWN_PROJECT, NotAdmitted)


def test_a_zuul_token_without_an_audience_is_refused():
    refused("zuul", put("aud", None), "/aud: is missing", Unauthenticated)


# all kinds


@pytest.mark.parametrize("kind", KINDS)
def test_a_person_is_no_run_and_a_run_is_no_person(kind):
    refused(kind, put("kind", "person"), "another kind of caller", Unauthenticated)
    assert IssuerKind.PERSON.speaks_for is not own_issuer(kind).kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_issuer_and_key_that_a_token_names_can_be_read_before_it_is_believed(kind):
    assert named_key(recorded(kind)["token"]) == (URLS[kind], f"{kind}-2026")


def test_a_token_that_names_no_issuer_or_no_key_names_nothing_to_look_up():
    with pytest.raises(Unauthenticated, match="claim /iss: is missing"):
        named_key(changed("gitlab", put("iss", None)))
    header, _, rest = recorded("gitlab")["token"].partition(".")
    bare = base64.urlsafe_b64encode(b'{"alg":"RS256","typ":"JWT"}').rstrip(b"=").decode()
    with pytest.raises(Unauthenticated, match="claim /header/kid: is missing"):
        named_key(f"{bare}.{rest}")
    assert header != bare


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_token_is_in_a_refusal(kind):
    canary = "canary-0000"
    paths = [path for of, path, _ in IDENTITY if of == kind and path != "aud"]
    for path in paths:
        error = refused(kind, put(path, canary), "the |/")
        assert canary not in str(error)
        assert canary not in repr(error)
