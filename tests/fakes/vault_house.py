"""The layout that vault tests bootstrap: one instance `test` with two targets, one builder, one person."""

import json
import time
import uuid

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from gatekeeper.adapters.vault_act import DeployTarget
from gatekeeper.adapters.vault_layout import Builder, ComponentSettings, Instance, Layout, Person, Platform

ISSUER = "https://ci.demo"
BUILDER = "https://ci.demo/builder"
COMMIT = "a" * 40
AUDIENCE = "pingee:certificates:test"
PASSWORD = "correct-horse-battery-staple"
CANARY = "canary-workload-secret"
RUN = f"urn:pingee:run:hello:{COMMIT}:run-1"


class CiPlatform:
    """The CI platform's issuer: a key pair, and tokens with whatever claims a test wants."""

    def __init__(self):
        key = ec.generate_private_key(ec.SECP256R1())
        self.public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        self._key = ECKey.import_key(key)

    def token(self, **changes):
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": "project:hello", "aud": AUDIENCE, "iat": now, "nbf": now - 5, "exp": now + 300, "jti": str(uuid.uuid4()),
            "project": "hello", "project_id": "1", "commit": COMMIT, "ref": "refs/heads/main", "run": "run-1", "actor": "alice",
            "builder_id": BUILDER,
        }  # fmt: skip
        claims |= changes
        return jwt.encode({"alg": "ES256"}, {k: v for k, v in claims.items() if v is not None}, self._key)


def make_layout(platform, url):
    targets = (
        DeployTarget("web1", "test", "deploy-test", "127.0.0.1/32"),
        DeployTarget("web2", "other", "deploy-other", "127.0.0.1/32"),
    )
    settings = (ComponentSettings("test", "hello", {"GREETING": CANARY}), ComponentSettings("other", "hello", {"GREETING": "other"}))
    return Layout(
        instances=(Instance("test", "test.demo/log/2026", ("test", "other"), targets, settings), Instance("second", "second.demo/log/2026", (), ())),
        platform=Platform(ISSUER, (platform.public_pem,), (AUDIENCE,)),
        builders=(Builder(BUILDER, ("hello",)), Builder("https://ci.demo/second", ("other-project",))),
        people=(Person("alice", "alice@test.demo", ("reviewers",), PASSWORD), Person("bob", "bob@test.demo", ("reviewers", "operators"), PASSWORD)),
        people_issuer=url,
    )


def claims_of(token):
    """The claims of a token, unverified."""
    import base64

    middle = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
