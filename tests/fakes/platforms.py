"""Recorded tokens of each kind of issuer, a policy row that takes each, and new tokens of the same claims with something changed."""

import copy
import functools
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from gatekeeper.model.issuer import IssuerKind, Platform, default_runners
from gatekeeper.verify.token import Issuer, key_use, parse_key_set, verify_token
from tests.fakes.signing import FakeIssuer

NOW = 1_795_255_260
AUDIENCE = "pingee:production"
SHA = "714a629c0b401fdce83e847fc9589983fc6f46bc"
KINDS = ("gitlab", "github", "kubernetes", "zuul", "spiffe", "oidc")
ACCOUNT = "ci/deployer/e6a8680e-d103-4cce-80ea-03acbbeacf7d"
SVID = "spiffe://example.org/ns/ci/sa/deployer"
URLS = {
    "gitlab": "https://gitlab.example.com",
    "github": "https://token.actions.githubusercontent.com",
    "kubernetes": "https://kubernetes.default.svc.cluster.local",
    "zuul": "https://zuul.example.com/oidc",
    "spiffe": "spiffe://example.org",
    "oidc": "https://ci.example.com",
}
BUILDERS = {kind: f"https://builders.example/{kind}" for kind in KINDS}
PROJECT_IDS = {"gitlab": "20", "github": "74", "kubernetes": ACCOUNT, "zuul": "example-tenant/opendev.example.org/group/hello", "spiffe": SVID}
RECIPES = {
    "gitlab": "gitlab.example.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main",
    "github": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
    "kubernetes": ACCOUNT,
    "zuul": "example-tenant/post/hello-publish",
    "spiffe": SVID,
}
TRIGGERS = {"gitlab": {"push"}, "github": {"push"}, "zuul": {"post"}}


@functools.cache
def recorded(kind):
    return json.loads((Path(__file__).parents[1] / "assets" / "tokens" / f"{kind}.json").read_text())


@functools.cache
def our_key(kind):
    """A key of ours with the recorded one's kid, for tokens with changes."""
    key = {"key": rsa.generate_private_key(65537, 2048)} if recorded(kind)["header"]["alg"] == "RS256" else {}
    return FakeIssuer(url=URLS[kind], kid=recorded(kind)["header"]["kid"], **key)


def platform(kind, **changes):
    if kind == "oidc":
        return None
    word = IssuerKind(kind)
    fields = {
        "kind": word,
        "projects": {PROJECT_IDS[kind]: "hello"},
        "recipes": {RECIPES[kind]: BUILDERS[kind]},
        "triggers": frozenset(TRIGGERS.get(kind, ())),
        "runners": default_runners(word),
        "unbound": kind in ("kubernetes", "zuul", "spiffe"),
        "trust_domain": "example.org" if kind == "spiffe" else "",
    }
    return Platform(**(fields | changes))


def issuer(kind, *, jwks=None, **changes):
    found = platform(kind, **changes)
    keys = recorded(kind)["jwks"] if jwks is None else jwks
    taken = parse_key_set(json.dumps(keys).encode(), algorithms=[our_key(kind).algorithm], use=key_use(found))
    return Issuer(kind, URLS[kind], IssuerKind.RUN.speaks_for, frozenset({AUDIENCE, "pingee:certificates:production"}), taken, {}, found)


def changed(kind, change=None, *, header=None):
    """A token of our own key: `change` edits the recorded claims in place."""
    claims = copy.deepcopy(recorded(kind)["claims"])
    if change is not None:
        change(claims)
    return our_key(kind).token(claims, header=recorded(kind)["header"] | (header or {}))


def own_issuer(kind, **changes):
    """The policy's row for tokens of our own key."""
    use = {"use": "jwt-svid"} if kind == "spiffe" else {}
    return issuer(kind, jwks={"keys": [our_key(kind).jwk(**use)]}, **changes)


def verify(token, *issuers, audience=AUDIENCE, now=NOW):
    return verify_token(token, issuers, audience=audience, now=now)


ZUUL_BUILD = recorded("zuul")["claims"]["build-uuid"]


def zuul_build(*, flat=False, **changes):
    """What Zuul's REST API says of the recorded token's build: of older versions flat, of newer ones with the ref apart."""
    ref = {"project": "group/hello", "branch": "main", "change": None, "patchset": None, "ref": "refs/heads/main", "oldrev": None, "newrev": SHA, "ref_url": None}
    build = {
        "uuid": ZUUL_BUILD,
        "job_name": "hello-publish",
        "result": None,
        "held": False,
        "start_time": "2026-11-21T10:00:58",
        "end_time": None,
        "duration": None,
        "voting": True,
        "final": True,
        "artifacts": [],
        "provides": [],
        "pipeline": "post",
        "event_id": "5f6c",
        "buildset": {"uuid": "0" * 32},
    }
    for name, value in changes.items():
        (ref if name in ref else build)[name] = value
    return build | (ref if flat else {"ref": ref})
