"""Attack matrix 93-100 through the real API: every refused token is 401 `unauthenticated`, and its detail says which check it failed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper.policy.load import PolicyError
from tests.fakes import signing
from tests.fakes.api import CI, running_api
from tests.fakes.house import House
from tests.fakes.signing import b64url
from tests.integration.test_git_policy import House as PolicyHouse
from tests.integration.test_git_policy import refused

pytestmark = pytest.mark.anyio

AUDIENCE = "pingee:production"
RSA = signing.FakeIssuer(url="https://rsa.demo", kid="r1", key=rsa.generate_private_key(65537, 2048))


@pytest.fixture
async def api():
    house = House()
    files = house.policy.files
    files["rsa.json"] = RSA.jwks()
    files["issuers.toml"] += f'[issuers.rsa]\njwks = "rsa.json"\nkind = "run"\nalgorithms = ["RS256"]\nurl = "{RSA.url}"\n'.encode()
    async with running_api(house) as found:
        yield found


def claims(api, **changes):
    return signing.run_claims(int(api.house.clock().timestamp()), **{"aud": AUDIENCE, **changes})


def with_header(api, **changes):
    header = {"alg": "ES256", "kid": "k1", "typ": "JWT"} | changes
    return CI.token(claims(api), header={name: value for name, value in header.items() if value is not None})


def handmade(header, body, signature=b""):
    return f"{b64url(json.dumps(header).encode())}.{b64url(json.dumps(body).encode())}.{b64url(signature)}"


def with_hmac(api, secret):
    signed = handmade({"alg": "HS256", "kid": "r1"}, claims(api, iss=RSA.url)).rpartition(".")[0]
    return f"{signed}.{b64url(hmac.digest(secret, signed.encode(), 'sha256'))}"


def public_pem():
    return RSA.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def now(api):
    return int(api.house.clock().timestamp())


ALG, HEADER, KID, AUD = "algorithm is not its key's", "member other than alg, kid, typ", "key is not one of its issuer's", "not meant for this audience alone"
BAD = {
    # 93
    "alg none": (lambda api: handmade({"alg": "none", "kid": "k1"}, claims(api)), ALG),
    "alg None": (lambda api: handmade({"alg": "None", "kid": "k1"}, claims(api)), ALG),
    "no alg": (lambda api: with_header(api, alg=None), "/header/alg"),
    "HS256 with the RSA key as PEM": (lambda api: with_hmac(api, public_pem()), ALG),
    "HS256 with the key set": (lambda api: with_hmac(api, RSA.jwks()), ALG),
    "HS256 with nothing": (lambda api: with_hmac(api, b""), ALG),
    "ES384 for an ES256 key": (lambda api: with_header(api, alg="ES384"), ALG),
    "RS256 for an ES256 key": (lambda api: with_header(api, alg="RS256"), ALG),
    "a signature of nothing": (lambda api: with_header(api).rpartition(".")[0] + ".", "signature is not its issuer's"),
    "a signature of zeros": (lambda api: with_header(api).rpartition(".")[0] + "." + b64url(bytes(64)), "signature is not its issuer's"),
    # 94
    "kid that climbs": (lambda api: with_header(api, kid="../../../../etc/passwd"), KID),
    "kid of SQL": (lambda api: with_header(api, kid="k1' OR '1'='1"), KID),
    "kid that is a URL": (lambda api: with_header(api, kid="https://evil.example/jwks.json"), KID),
    "kid of another issuer": (lambda api: with_header(api, kid="r1"), KID),
    "kid that is a number": (lambda api: with_header(api, kid=1), "/header/kid: must be a string"),
    "no kid": (lambda api: with_header(api, kid=None), "/header/kid: is missing"),
    # 95
    "jku": (lambda api: with_header(api, jku="https://evil.example/jwks.json"), HEADER),
    "x5u": (lambda api: with_header(api, x5u="http://169.254.169.254/"), HEADER),
    "x5c": (lambda api: with_header(api, x5c=[base64.b64encode(b"certificate").decode()]), HEADER),
    "jwk": (lambda api: with_header(api, jwk=CI.jwk()), HEADER),
    # 96
    "crit": (lambda api: with_header(api, crit=["exp"]), HEADER),
    "crit that nobody knows": (lambda api: with_header(api, crit=["urn:x"], **{"urn:x": 1}), HEADER),
    "b64 false": (lambda api: with_header(api, b64=False, crit=["b64"]), HEADER),
    "b64 false alone": (lambda api: with_header(api, b64=False), HEADER),
    # 97
    "no aud": (lambda api: CI.token(claims(api, aud=None)), "/aud: is missing"),
    "aud of two": (lambda api: CI.token(claims(api, aud=[AUDIENCE, "other"])), AUD),
    "aud of another environment": (lambda api: CI.token(claims(api, aud="pingee:test")), AUD),
    "aud of the certificate door": (lambda api: CI.token(claims(api, aud="pingee:certificates:production")), AUD),
    "aud with more behind it": (lambda api: CI.token(claims(api, aud=AUDIENCE + "2")), AUD),
    "iss cut short": (lambda api: CI.token(claims(api, iss="https://ci.dem")), "issuer is not trusted"),
    "iss with more behind it": (lambda api: CI.token(claims(api, iss="https://ci.demo.evil.example")), "issuer is not trusted"),
    "iss with a slash": (lambda api: CI.token(claims(api, iss="https://ci.demo/")), "issuer is not trusted"),
    "iss of another issuer": (lambda api: CI.token(claims(api, iss=RSA.url)), KID),
    "iss as a list": (lambda api: CI.token(claims(api, iss=["https://ci.demo"])), "/iss: must be a string"),
    "sub of nothing": (lambda api: CI.token(claims(api, sub="")), "/sub: must have 1 to"),
    "no sub": (lambda api: CI.token(claims(api, sub=None)), "/sub: is missing"),
    "azp of another party": (lambda api: CI.token(claims(api, azp="someone")), "issued to another party"),
    # 98
    "exp as text": (lambda api: CI.token(claims(api, exp=str(now(api) + 60))), "/exp: must be an integer"),
    "exp as a float": (lambda api: CI.token(claims(api, exp=now(api) + 60.5)), "fraction or an exponent"),
    "exp of infinity": (lambda api: CI.token(json.dumps(claims(api)).replace(f'"exp": {now(api) + 600}', '"exp": 1e400').encode()), "fraction or an exponent"),
    "exp beyond 2^53": (lambda api: CI.token(claims(api, exp=2**63)), "beyond 2^53-1"),
    "exp in a thousand years": (lambda api: CI.token(claims(api, exp=now(api) + 31_557_600_000)), "lives longer than a day"),
    "no exp": (lambda api: CI.token(claims(api, exp=None)), "/exp: is missing"),
    "expired": (lambda api: CI.token(claims(api, iat=now(api) - 700, nbf=now(api) - 700, exp=now(api) - 61)), "has expired"),
    "nbf in the future": (lambda api: CI.token(claims(api, nbf=now(api) + 300)), "from the future"),
    "iat in the future": (lambda api: CI.token(claims(api, iat=now(api) + 300)), "from the future"),
    "iat true": (lambda api: CI.token(claims(api, iat=True)), "/iat: must be an integer"),
    # form
    "two tokens": (lambda api: CI.token(claims(api)) + "." + CI.token(claims(api)), "three parts"),
    "encrypted": (lambda api: "a.b.c.d.e", "three parts"),
    "too long": (lambda api: "a" * 15_900 + "." * 2, "malformed"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_unauthenticated_and_says_why(api, name):
    make, words = BAD[name]
    token = make(api)
    for path in ("/v1/whoami", "/v1/running"):  # also where nobody needs a token: there and bad is never anonymous
        problem = (await api.get(path, token)).refused(401, "unauthenticated")
        assert words in problem["detail"], problem["detail"]
        assert max(token.split("."), key=len)[:40] not in json.dumps(problem) or len(token) < 20
    assert (await api.get("/v1/whoami", CI.token(claims(api)))).status == 200, "the good one passes"
    assert (await api.get("/v1/whoami", RSA.token(claims(api, iss=RSA.url)))).status == 200


async def test_a_header_of_two_tokens_or_another_scheme_is_unauthenticated(api):
    good = CI.token(claims(api))
    for header in (f"Bearer {good} {good}", f"Bearer  {good}", f"Bearer {good},Bearer {good}", f"Basic {good}", "Bearer", f"bearer\t{good}"):
        problem = (await api.get("/v1/whoami", authorization=header)).refused(401, "unauthenticated")
        assert good[:40] not in json.dumps(problem)


# 99: key sets are pinned in the signed policy, and nothing is ever fetched


async def test_a_key_that_a_policy_commit_removed_stops_at_once(api):
    old = CI.token(claims(api))
    assert (await api.get("/v1/whoami", old)).status == 200
    fresh = signing.FakeIssuer(kid="k2")
    api.house.policy.files["ci.json"] = fresh.jwks()
    api.house.policy.load()
    problem = (await api.get("/v1/whoami", old)).refused(401, "unauthenticated")
    assert KID in problem["detail"]
    assert (await api.get("/v1/whoami", fresh.token(claims(api)))).status == 200
    # the same kid, another key
    api.house.policy.files["ci.json"] = signing.FakeIssuer(kid="k1").jwks()
    api.house.policy.load()
    assert "signature is not" in (await api.get("/v1/whoami", old)).refused(401, "unauthenticated")["detail"]


async def test_a_flood_of_unknown_keys_and_pointers_to_keys_costs_no_request_to_anybody(api, monkeypatch):
    asked, look_up = [], socket.getaddrinfo
    opened = trio.SocketStream.__init__

    def counted(self, sock):
        asked.append(sock.getpeername()[0])
        opened(self, sock)

    def numbers_only(host, *rest, **options):
        assert host == "127.0.0.1", "a name was looked up"
        return look_up(host, *rest, **options)

    monkeypatch.setattr(trio.SocketStream, "__init__", counted)
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail(f"a connection was opened: {a}"))
    monkeypatch.setattr(socket, "getaddrinfo", numbers_only)
    for number in range(100):
        token = with_header(api, kid=f"unknown-{number}") if number % 2 else with_header(api, jku=f"https://evil.example/{number}")
        (await api.get("/v1/whoami", token)).refused(401, "unauthenticated")
    assert asked == ["127.0.0.1"] * 200, "each call is one connection, seen from its two ends, and there is no other"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([CI.jwk(use="enc")], "no key that can verify"),  # 100
        ([CI.jwk(key_ops=["sign"])], "no key that can verify"),
        ([CI.jwk(alg="ES384")], "no key that can verify"),
        ([CI.jwk(), CI.jwk()], "share a kid"),  # 94
        ([CI.jwk(), {"kty": "oct", "kid": "s", "k": "AAAA"}], "secret key"),
        ([], "no key that can verify"),
    ],
    ids=["use enc", "key_ops sign", "another alg", "one kid twice", "a secret", "none"],
)
async def test_a_key_set_that_cannot_be_used_is_refused_with_its_commit_and_the_old_one_stays(tmp_path, keys, words):
    house = PolicyHouse(tmp_path)
    house.commit({"issuers.toml": '[issuers.ci]\njwks = "ci.json"\nkind = "run"\nalgorithms = ["ES256"]\nurl = "https://ci.demo"\n', "ci.json": CI.jwks().decode()})
    source = await house.open()
    house.commit({"ci.json": json.dumps({"keys": keys})})
    assert words in await refused(source, "config-invalid")
    assert source.current().issuers["ci"].jwks == CI.jwks()
    with pytest.raises(PolicyError, match=words):
        await house.open()


async def test_a_key_that_is_not_for_signatures_is_left_aside(api):
    other = signing.FakeIssuer(kid="k9")
    for change in ({"use": "enc"}, {"key_ops": ["sign"]}, {"key_ops": []}):
        api.house.policy.files["ci.json"] = json.dumps({"keys": [CI.jwk(), other.jwk(**change)]}).encode()
        api.house.policy.commit = hashlib.sha1(str(change).encode()).hexdigest()
        api.house.policy.load()
        assert KID in (await api.get("/v1/whoami", other.token(claims(api)))).refused(401, "unauthenticated")["detail"]
        assert (await api.get("/v1/whoami", CI.token(claims(api)))).status == 200
