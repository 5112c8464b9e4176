"""A tiny world of signers for tests: a builder CA, runs with certificates, reviewers, a receipt key, an issuer of tokens.

Everything is made at fixed times, so that no test reads a clock. `RECEIVED` lies within the life of a run's certificate.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatekeeper.model.digest import Digest, digest_hex, digest_of
from gatekeeper.model.moment import Moment, later, parse_moment
from gatekeeper.model.uris import IN_TOTO_PAYLOAD, MANIFEST, PIPELINE, PROVENANCE_V1, TEST_RESULT
from gatekeeper.verify.builder import BuilderRoot
from gatekeeper.verify.bundle import encode_bundle
from gatekeeper.verify.dsse import envelope_json, pae
from gatekeeper.verify.statement import encode_statement
from gatekeeper.verify.vote import vote_statement

ISSUED = parse_moment("2026-11-21T10:00:00Z")
RECEIVED = later(ISSUED, seconds=60)
LIFE = timedelta(minutes=10)

PROJECT, COMPONENT, RUN = "hello", "hello", "run-1"
COMMIT, TREE = "1" * 40, "2" * 40
REPOSITORY = "https://git.demo/hello"
BUILDER_ID = "https://ci.demo/builder"
ARTIFACT = digest_of(b"the artifact's manifest")
PLAN = digest_of(b"the plan")
RECEIPT = digest_of(b"a test deployment's receipt")

DIGITAL_SIGNATURE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
CA_USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)


@dataclass(frozen=True)
class FakeRun:
    """A run's key under its certificate (DER)."""

    key: Any
    certificate: bytes

    def sign(self, payload: bytes, *, payload_type: str = IN_TOTO_PAYLOAD) -> bytes:
        """Bundle bytes around these payload bytes."""
        signature = self.key.sign(pae(payload_type, payload), ec.ECDSA(hashes.SHA256()))
        return encode_bundle(payload, signature, certificate=self.certificate, payload_type=payload_type)


@dataclass(frozen=True)
class FakeCa:
    """A builder CA; `root()` is what a policy would pin."""

    name: str = "builder-ca"
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    subject: str = "Pingee builder CA"

    @cached_property
    def authority(self) -> x509.Certificate:
        """The CA's own certificate, one year."""
        name = _name(self.subject)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(ISSUED - timedelta(days=1))
            .not_valid_after(ISSUED + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(CA_USAGE, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def root(self) -> BuilderRoot:
        """The root as `verify` takes it."""
        return BuilderRoot(self.name, (self.authority.public_bytes(Encoding.DER),))

    def pem(self) -> bytes:
        """The root as a policy file holds it."""
        return self.authority.public_bytes(Encoding.PEM)

    def run(self, *, project: str = PROJECT, commit: str = COMMIT, run: str = RUN, builder_id: str = BUILDER_ID, **changes: Any) -> FakeRun:
        """Issue a run's certificate. `changes`: names, extensions, key, start, life, ca; see `certificate`."""
        names = (x509.UniformResourceIdentifier(builder_id), x509.UniformResourceIdentifier(f"urn:pingee:run:{project}:{commit}:{run}"))
        return self.certificate(**{"names": names, **changes})

    def certificate(
        self,
        *,
        names: tuple[x509.GeneralName, ...],
        key: Any = None,
        usage: x509.KeyUsage | None = DIGITAL_SIGNATURE,
        extended: tuple[x509.ObjectIdentifier, ...] | None = (ExtendedKeyUsageOID.CODE_SIGNING,),
        ca: bool | None = False,
        start: Moment = ISSUED,
        life: timedelta = LIFE,
        extra: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    ) -> FakeRun:
        """Any end-entity certificate, good or bad; None leaves an extension out."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(_name(self.subject))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + life)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        if usage is not None:
            builder = builder.add_extension(usage, critical=True)
        if extended is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        for extension, critical in extra:
            builder = builder.add_extension(extension, critical=critical)
        return FakeRun(key, builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER))


def manifest_predicate(**changes: Any) -> dict[str, Any]:
    """A good artifact manifest's predicate, with members replaced."""
    return {
        "project": PROJECT,
        "component": COMPONENT,
        "run": RUN,
        "builder": {"id": BUILDER_ID},
        "plan": PLAN,
        "source": {"repository": REPOSITORY, "commit": COMMIT, "tree": TREE},
        "outputs": [{"path": "out/greeter", "size": 3, "sha256": digest_of(b"abc")}],
    } | changes


def provenance_predicate(*, repository: str = REPOSITORY, ref: str = "refs/heads/main", commit: str = COMMIT, tree: str = TREE) -> dict[str, Any]:
    """A good provenance predicate."""
    return {
        "buildDefinition": {
            "buildType": PIPELINE,
            "externalParameters": {"repository": repository, "ref": ref, "commit": commit, "config": ".pipeline/config.yaml"},
            "resolvedDependencies": [{"uri": f"git+{repository}@{ref}", "digest": {"gitCommit": commit, "gitTree": tree}}],
        },
        "runDetails": {
            "builder": {"id": BUILDER_ID},
            "metadata": {"invocationId": RUN, "startedOn": "2026-11-21T09:59:00Z", "finishedOn": "2026-11-21T10:00:30Z"},
            "byproducts": [{"name": "log", "digest": {"sha256": digest_hex(digest_of(b"log"))}}],
        },
    }


def result_predicate(stage: str = "commit", **changes: Any) -> dict[str, Any]:
    """A good test result's predicate, with members replaced."""
    configuration: dict[str, Any] = {"name": stage, "digest": {"sha256": digest_hex(PLAN)}}
    predicate: dict[str, Any] = {"result": "PASSED", "configuration": [configuration], "passedTests": ["make test"]}
    if stage == "acceptance":
        configuration["annotations"] = {"pingee.internal/receipt": RECEIPT}
        predicate["url"] = "https://test.demo/hello"
    return predicate | changes


def statement(predicate_type: str, predicate: Mapping[str, Any], *, artifact: Digest = ARTIFACT) -> bytes:
    """Statement bytes about an artifact."""
    return encode_statement(name="hello", digest={"sha256": digest_hex(artifact)}, predicate_type=predicate_type, predicate=predicate)


def manifest_statement(*, artifact: Digest = ARTIFACT, **changes: Any) -> bytes:
    """Statement bytes of an artifact manifest."""
    return statement(MANIFEST, manifest_predicate(**changes), artifact=artifact)


def provenance_statement(*, artifact: Digest = ARTIFACT, **changes: str) -> bytes:
    """Statement bytes of a provenance."""
    return statement(PROVENANCE_V1, provenance_predicate(**changes), artifact=artifact)


def result_statement(stage: str = "commit", *, artifact: Digest = ARTIFACT, **changes: Any) -> bytes:
    """Statement bytes of a test result."""
    return statement(TEST_RESULT, result_predicate(stage, **changes), artifact=artifact)


@dataclass(frozen=True)
class FakeReviewer:
    """A person with a vote key."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> bytes:
        """The 32 bytes that a policy pins."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, payload: bytes, *, payload_type: str = IN_TOTO_PAYLOAD) -> bytes:
        """Bundle bytes around these payload bytes."""
        return encode_bundle(payload, self.key.sign(pae(payload_type, payload)), key_hint="reviewer", payload_type=payload_type)

    def vote(self, **changes: Any) -> bytes:
        """Bundle bytes of a vote of +2, with members replaced."""
        members: dict[str, Any] = {
            "project": PROJECT,
            "change": "I" + COMMIT,
            "revision": COMMIT,
            "tree": TREE,
            "label": "Code-Review",
            "value": 2,
            "at": RECEIVED,
        }
        return self.sign(vote_statement(**(members | changes)))


@dataclass(frozen=True)
class FakeReceiptSigner:
    """A receipt key as the vault's transit engine holds it."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def pem(self) -> bytes:
        """The public key that a doorkeeper pins."""
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, payload: bytes, *, payload_type: str = IN_TOTO_PAYLOAD) -> dict[str, Any]:
        """A DSSE envelope as it stands in a receipt."""
        signature = self.key.sign(pae(payload_type, payload), ec.ECDSA(hashes.SHA256()))
        return dict(envelope_json(payload_type, payload, [("", signature)]))


def b64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class FakeIssuer:
    """An OIDC issuer with one key; its tokens are made by hand, so that bad ones can be made too."""

    url: str = "https://ci.demo"
    kid: str = "k1"
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def algorithm(self) -> str:
        """The one algorithm of the key."""
        return "RS256" if isinstance(self.key, RSAPrivateKey) else "EdDSA" if isinstance(self.key, Ed25519PrivateKey) else "ES256"

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key as a JWK, with members replaced or added."""
        common = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        if isinstance(self.key, RSAPrivateKey):
            numbers = self.key.public_key().public_numbers()
            return common | {"kty": "RSA", "n": b64url(_big(numbers.n)), "e": b64url(_big(numbers.e))} | changes
        if isinstance(self.key, Ed25519PrivateKey):
            return common | {"kty": "OKP", "crv": "Ed25519", "x": b64url(self.key.public_key().public_bytes_raw())} | changes
        point = self.key.public_key().public_numbers()
        return common | {"kty": "EC", "crv": "P-256", "x": b64url(point.x.to_bytes(32)), "y": b64url(point.y.to_bytes(32))} | changes

    def jwks(self) -> bytes:
        """The pinned key set."""
        return json.dumps({"keys": [self.jwk()]}).encode()

    def token(self, claims: Mapping[str, Any] | bytes, *, header: Mapping[str, Any] | bytes | None = None) -> str:
        """A signed token around these claims; `header` replaces the usual one."""
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT"} if header is None else header
        signed = f"{b64url(_json(head))}.{b64url(_json(claims))}"
        return f"{signed}.{b64url(self._sign(signed.encode()))}"

    def _sign(self, data: bytes) -> bytes:
        if isinstance(self.key, RSAPrivateKey):
            return self.key.sign(data, PKCS1v15(), hashes.SHA256())
        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(data)
        r, s = utils.decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)


def run_claims(now: int, **changes: Any) -> dict[str, Any]:
    """The claims of a run's token as the demo's platform gives them; a change to None leaves the claim out."""
    claims = {
        "iss": "https://ci.demo",
        "sub": "project:hello:run:run-1",
        "aud": "pingee:test",
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "jti": "jti-1",
        "project": PROJECT,
        "project_id": "17",
        "commit": COMMIT,
        "ref": "refs/heads/main",
        "run": RUN,
        "actor": "alice",
        "builder_id": BUILDER_ID,
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def person_claims(now: int, **changes: Any) -> dict[str, Any]:
    """The claims of a person's token as the vault's identity engine gives them."""
    claims = {
        "iss": "https://vault.demo/v1/identity/oidc",
        "sub": "8a7c0e0e-0000-4000-8000-000000000001",
        "aud": "pingee:production",
        "iat": now,
        "exp": now + 3600,
        "namespace": "root",
        "kind": "person",
        "name": "bob",
        "email": "bob@demo.example",
        "groups": ["reviewers"],
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _big(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _json(value: Mapping[str, Any] | bytes) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()
