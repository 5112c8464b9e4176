"""Tokens: attack matrix rows 93-98 and 100, each with what is wrong."""

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper.model.caller import CallerKind, PersonCaller, RunCaller
from gatekeeper.verify.errors import MalformedKey
from gatekeeper.verify.token import LEEWAY, MAX_LIFETIME, Issuer, Unauthenticated, parse_key_set, verify_token
from tests.fakes.signing import BUILDER_ID, COMMIT, FakeIssuer, b64url, person_claims, run_claims

NOW = 1_795_255_260
AUDIENCE = "pingee:test"
CI = FakeIssuer()
VAULT = FakeIssuer(url="https://vault.demo/v1/identity/oidc", kid="v1")
RSA = FakeIssuer(url="https://rsa.demo", kid="r1", key=rsa.generate_private_key(65537, 2048))


def issuer(fake, name="ci", kind=CallerKind.RUN, audiences=(AUDIENCE,), **changes):
    keys = parse_key_set(fake.jwks(), algorithms=[fake.algorithm])
    return Issuer(**({"name": name, "url": fake.url, "kind": kind, "audiences": frozenset(audiences), "keys": keys} | changes))


TABLE = [issuer(CI), issuer(VAULT, "people", CallerKind.PERSON, ["pingee:production"])]


def verify(token, *, audience=AUDIENCE, now=NOW, table=TABLE):
    return verify_token(token, table, audience=audience, now=now)


def refused(token, message, **options):
    with pytest.raises(Unauthenticated, match=message):
        verify(token, **options)


def claims(**changes):
    return CI.token(run_claims(NOW, **changes))


def head(**changes):
    header = {"alg": "ES256", "kid": "k1", "typ": "JWT"} | changes
    return CI.token(run_claims(NOW), header={name: value for name, value in header.items() if value is not None})


def test_a_run():
    caller = verify(claims())
    assert isinstance(caller, RunCaller)
    assert (caller.issuer, caller.project, caller.commit, caller.run, caller.actor) == ("ci", "hello", COMMIT, "run-1", "alice")
    assert (caller.ref, caller.builder_id, caller.jti, caller.project_id) == ("refs/heads/main", BUILDER_ID, "jti-1", "17")
    assert int(caller.expires.timestamp()) == NOW + 600


def test_a_person():
    token = VAULT.token(person_claims(NOW), header={"alg": "ES256", "kid": "v1"})  # the vault writes no typ
    caller = verify(token, audience="pingee:production")
    assert isinstance(caller, PersonCaller)
    assert (caller.issuer, caller.name, caller.groups, caller.email) == ("people", "bob", frozenset({"reviewers"}), "bob@demo.example")
    assert caller.jti == "sha256:" + hashlib.sha256(token.rsplit(".", 1)[0].encode()).hexdigest()


@pytest.mark.parametrize("fake", [RSA, FakeIssuer(key=Ed25519PrivateKey.generate())], ids=["RS256", "EdDSA"])
def test_the_other_algorithms(fake):
    assert verify(fake.token(run_claims(NOW, iss=fake.url)), table=[issuer(fake)]).run == "run-1"


def test_what_a_token_may_leave_out_is_the_empty_text():
    assert verify(claims(project_id=None)).project_id == ""
    token = VAULT.token(person_claims(NOW, email=None), header={"alg": "ES256", "kid": "v1"})
    assert verify(token, audience="pingee:production").email == ""


def test_claim_names_are_mapped():
    table = [issuer(CI, claims={"project": "project_path", "commit": "sha", "actor": "user_login"})]
    token = claims(project=None, commit=None, actor=None, project_path="g/hello", sha=COMMIT, user_login="alice")
    assert verify(token, table=table).project == "g/hello"


def test_the_id_of_a_token_without_jti_does_not_depend_on_its_signature():
    assert verify(claims(jti=None)).jti == verify(claims(jti=None)).jti  # two ECDSA signatures, one token


# row 93: algorithms


def test_alg_none():
    header, body, _ = claims().split(".")
    none = b64url(json.dumps({"alg": "none", "kid": "k1"}).encode())
    refused(f"{none}.{body}.", "algorithm is not its key's")
    refused(f"{header}.{body}.", "signature is not")


def test_hmac_with_the_public_key():
    secret = RSA.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = ".".join(b64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "r1"}, run_claims(NOW, iss=RSA.url)))
    refused(f"{signed}.{b64url(hmac.digest(secret, signed.encode(), 'sha256'))}", "algorithm is not its key's", table=[issuer(RSA)])


@pytest.mark.parametrize("alg", ["ES384", "RS256", "HS256", "es256", "ES256 ", "EdDSA", ""])
def test_the_token_does_not_choose_its_algorithm(alg):
    refused(head(alg=alg), "algorithm is not its key's|/header/alg")


def test_es384_under_an_es256_header():
    signed = claims().rsplit(".", 1)[0]
    der = CI.key.sign(signed.encode(), ec.ECDSA(hashes.SHA384()))
    refused(f"{signed}.{b64url(der)}", "signature is not")


def test_a_key_of_another_issuer():
    refused(VAULT.token(run_claims(NOW), header={"alg": "ES256", "kid": "k1"}), "signature is not")


# row 94: kid


@pytest.mark.parametrize("kid", ["../../etc/passwd", "' OR 1=1 --", "https://evil/jwks", "K1", "k1 ", "v1"])
def test_kid_is_a_map_key_and_nothing_else(kid):
    refused(head(kid=kid), "key is not one of its issuer's")


@pytest.mark.parametrize(
    ("kid", "message"), [(None, "/header/kid: is missing"), (1, "/header/kid: must be a string"), ("", "/header/kid: must have")]
)
def test_kid_is_needed(kid, message):
    token = CI.token(run_claims(NOW), header={"alg": "ES256"} | ({} if kid is None else {"kid": kid}))
    refused(token, message)


# rows 95 and 96: headers that bring keys or switch things


@pytest.mark.parametrize(
    "member",
    [
        {"jku": "https://evil/jwks"},
        {"x5u": "https://evil/cert"},
        {"x5c": ["AAAA"]},
        {"jwk": CI.jwk()},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ],
    ids="+".join,  # names alone: a key is another one in each worker
)
def test_headers_that_are_refused(member):
    refused(head(**member), "member other than")


def test_the_thumbprint_header_is_harmless():
    assert verify(head(x5t="abc")).run == "run-1"


@pytest.mark.parametrize("typ", ["at+jwt", "JOSE", "jwt"])
def test_other_types(typ):
    refused(head(typ=typ), "another type")


# row 97: who it is for, whose it is


@pytest.mark.parametrize(
    "audience",
    [
        "pingee:production",
        "pingee:certificates:test",
        "pingee:tes",
        "pingee:test2",
        "PINGEE:TEST",
        ["pingee:test", "x"],
        [["pingee:test"]],
        [],
        "",
        1,
        {},
        True,
    ],
    ids=str,
)
def test_audience_is_ours_alone(audience):
    refused(claims(aud=audience), "not meant for this audience alone")


def test_audience_is_needed():
    refused(claims(aud=None), "/aud: is missing")


def test_an_audience_as_a_list_of_one():
    assert verify(claims(aud=[AUDIENCE])).run == "run-1"


def test_no_audience_asked_for_is_no_audience():
    refused(claims(aud=""), "not meant for this audience alone", audience="")


def test_an_issuer_speaks_to_its_audiences_only():
    token = claims(aud="pingee:production")
    refused(token, "does not speak to this audience", audience="pingee:production")


def test_a_ping_token_is_no_certificate_token():
    refused(claims(), "not meant for this audience alone", audience="pingee:certificates:test")


@pytest.mark.parametrize("iss", ["https://ci.demo/", "https://ci.dem", "https://ci.demo.evil", "HTTPS://ci.demo", "https://ci.demo:443", "https://ci.demo%00"])
def test_issuer_is_exact(iss):
    refused(claims(iss=iss), "issuer is not trusted")


@pytest.mark.parametrize("name", ["iss", "sub", "project", "commit", "ref", "run", "actor", "builder_id"])
@pytest.mark.parametrize("value", [None, "", 7, ["x"], "a\nb"], ids=str)
def test_claims_are_strings_that_say_something(name, value):
    refused(claims(**{name: value}), f"/{name}: ")


@pytest.mark.parametrize("commit", [COMMIT[:12], "A" * 40, COMMIT + "0", "-"])
def test_commit_is_full(commit):
    refused(claims(commit=commit), "/commit: must be a full")


def test_project_id_is_not_a_number():
    refused(claims(project_id=17), "/project_id: must be a string")


def test_azp():
    refused(claims(azp="another"), "issued to another party")
    assert verify(claims(azp=AUDIENCE)).run == "run-1"


def test_a_person_of_the_vault_is_no_run():
    refused(claims(kind="person"), "another kind of caller")
    token = VAULT.token(person_claims(NOW, kind="builder"))
    refused(token, "another kind of caller", audience="pingee:production")


@pytest.mark.parametrize("groups", ["reviewers", [1], {"reviewers": True}], ids=str)
def test_groups_are_a_list_of_names(groups):
    refused(VAULT.token(person_claims(NOW, groups=groups)), "/groups", audience="pingee:production")


def test_a_person_in_no_group():
    assert verify(VAULT.token(person_claims(NOW, groups=None)), audience="pingee:production").groups == frozenset()


def test_no_issuers_nobody():
    refused(claims(), "issuer is not trusted", table=[])


# row 98: time


@pytest.mark.parametrize("name", ["exp", "iat"])
def test_times_are_needed(name):
    refused(claims(**{name: None}), f"/{name}: is missing")


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [str(NOW), True, -1, []], ids=str)
def test_times_are_integers(name, value):
    refused(claims(**{name: value}), f"/{name}: must")


@pytest.mark.parametrize("value", [float(NOW), 1e400, float("nan"), 2**63, 10**400], ids=["float", "infinity", "nan", "2^63", "huge"])
def test_times_are_not_floats_or_huge(value):
    refused(claims(exp=value), "malformed")


@pytest.mark.parametrize(("second", "good"), [(-1, True), (0, True), (LEEWAY - 1, True), (LEEWAY, False), (LEEWAY + 1, False)])
def test_expiry_to_the_second(second, good):
    if good:
        assert verify(claims(), now=NOW + 600 + second).run == "run-1"
    else:
        refused(claims(), "has expired", now=NOW + 600 + second)


@pytest.mark.parametrize("name", ["iat", "nbf"])
@pytest.mark.parametrize(("second", "good"), [(0, True), (LEEWAY, True), (LEEWAY + 1, False)])
def test_not_from_the_future(name, second, good):
    token = claims(**{name: NOW + second})
    if good:
        assert verify(token).run == "run-1"
    else:
        refused(token, "from the future")


@pytest.mark.parametrize(("life", "good"), [(MAX_LIFETIME, True), (MAX_LIFETIME + 1, False), (0, False), (-1, False)])
def test_lifetime_is_a_day(life, good):
    token = claims(exp=NOW + life)
    if good:
        assert verify(token).run == "run-1"
    else:
        refused(token, "longer than a day")


# form


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c.d", "...."])
def test_not_three_parts(token):
    refused(token, "three parts")


@pytest.mark.parametrize("token", ["..", "é.é.é", "a.b.c"])
def test_three_parts_of_nothing(token):
    refused(token, "malformed")


def test_a_token_of_sixteen_kibibytes_and_one():
    refused("a" * (16 * 1024 + 1), "more than 16384")
    refused("a" * (16 * 1024), "three parts")


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("spelling", [lambda text: text + "=", lambda text: text + "\n", lambda text: " " + text, lambda text: text + "!"])
def test_parts_have_one_spelling(part, spelling):
    parts = claims().split(".")
    parts[part] = spelling(parts[part])
    refused(".".join(parts), "malformed")


def test_trailing_bits_of_a_signature():
    token = claims()  # 64 bytes: the last letter carries 2 bits of data and 4 that must be zero
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = token[:-1] + alphabet[alphabet.index(token[-1]) + 1]
    assert base64.urlsafe_b64decode(other.rsplit(".", 1)[1] + "==") == base64.urlsafe_b64decode(token.rsplit(".", 1)[1] + "==")
    refused(other, "not canonical base64url")


@pytest.mark.parametrize("raw", [b'{"iss":"a","iss":"https://ci.demo"}', b"[]", b"null", b'{"iss":"https://ci.demo"} {}', b"\xff"])
def test_claims_are_strict_json(raw):
    refused(CI.token(raw), "malformed")


def test_header_is_strict_json():
    refused(CI.token(run_claims(NOW), header=b'{"alg":"none","alg":"ES256","kid":"k1"}'), "stands twice")


def test_nothing_of_the_token_is_in_the_error():
    with pytest.raises(Unauthenticated) as caught:
        verify(claims(commit="secret-canary"))
    assert "secret-canary" not in str(caught.value)
    assert caught.value.__cause__ is None


# key sets


def key_set(*keys, algorithms=("ES256",)):
    return parse_key_set(json.dumps({"keys": keys}).encode(), algorithms=algorithms)


@pytest.mark.parametrize(
    "change",
    [{"use": "enc"}, {"key_ops": ["sign"]}, {"key_ops": []}, {"key_ops": "verify"}, {"alg": "ES384"}, {"alg": None}, {"kty": "PQ"}, {"crv": "P-384"}],
    ids=str,
)
def test_keys_that_are_not_for_verification(change):  # row 100
    with pytest.raises(MalformedKey, match="no key that can verify"):
        key_set(CI.jwk(**change))
    assert set(key_set(CI.jwk(**change), CI.jwk(kid="good"))) == {"good"}


def test_key_ops_verify():
    assert set(key_set(CI.jwk(key_ops=["verify"]))) == {"k1"}


def test_a_key_of_an_algorithm_not_on_the_list():
    with pytest.raises(MalformedKey, match="no key that can verify"):
        key_set(CI.jwk(), algorithms=["RS256"])


def test_duplicate_kid_refuses_the_set():  # row 94
    with pytest.raises(MalformedKey, match="share a kid"):
        key_set(CI.jwk(), VAULT.jwk(kid="k1"))


def test_duplicate_kid_of_a_key_left_aside():
    with pytest.raises(MalformedKey, match="share a kid"):
        key_set(CI.jwk(), CI.jwk(use="enc"))


@pytest.mark.parametrize(
    "secret",
    [{"kty": "oct", "kid": "s"}, CI.jwk(kid="p", d="AAAA"), {"kty": "x", "kid": "s", "k": "AAAA"}],
    ids=["symmetric", "private", "unknown"],
)
def test_secret_keys_refuse_the_set(secret):
    with pytest.raises(MalformedKey, match="secret key"):
        key_set(CI.jwk(), secret)


def test_short_rsa():  # row 35
    short = FakeIssuer(key=rsa.generate_private_key(65537, 1024))
    with pytest.raises(MalformedKey, match="needs 2048 bits"):
        key_set(short.jwk(), algorithms=["RS256"])


@pytest.mark.parametrize("change", [{"x": "!!"}, {"x": "AAAA"}, {"y": CI.jwk()["x"]}], ids=["text", "short", "off the curve"])
def test_keys_that_are_no_keys(change):
    with pytest.raises(MalformedKey, match="cannot be read"):
        key_set(CI.jwk(**change))


@pytest.mark.parametrize("jwks", [b"", b"{}", b'{"keys":{}}', b'{"keys":[]}', b'{"keys":[1]}', b'{"keys":[{"kty":"EC"}]}', b'{"keys":[],"keys":[]}'])
def test_sets_of_another_form(jwks):
    with pytest.raises(MalformedKey):
        parse_key_set(jwks, algorithms=["ES256"])


@pytest.mark.parametrize("algorithms", [[], ["none"], ["HS256"], ["ES256", "HS256"]], ids=str)
def test_algorithms_are_fixed_and_asymmetric(algorithms):
    with pytest.raises(MalformedKey, match="algorithms must be some of"):
        key_set(CI.jwk(), algorithms=algorithms)


def test_every_algorithm_on_the_list_may_be_asked_for():
    assert set(key_set(CI.jwk(), RSA.jwk(), algorithms=["RS256", "ES256", "EdDSA"])) == {"k1", "r1"}
