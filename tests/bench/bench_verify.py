"""Verifying a bundle, from its bytes to a believed statement, against the bare library on the same bundle in the same run.

Bare is what somebody without a gatekeeper would write: `json.loads`, the library's verifier over a trust root that is loaded already, one
signature, and `json.loads` again. It looks at no duplicate key, no name in a certificate but the one it asks for, no subject and no predicate.
Calls alternate, and the median of each counts, in seconds of this thread's processor: a neighbour's work is neither's.
"""

from __future__ import annotations

import base64
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy
from sigstore_models.trustroot.v1 import TrustedRoot as RootModel

from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import Moment, parse_moment
from gatekeeper.model.verified import Verified
from gatekeeper.verify.attestation import Artifact, Keyless, Pinned, artifact_of_digest, verify_attestation
from gatekeeper.verify.builder import parse_builder_root
from gatekeeper.verify.dsse import pae
from gatekeeper.verify.managedkey import parse_managed_key
from gatekeeper.verify.provenance import verify_provenance
from gatekeeper.verify.sigstoreroot import parse_sigstore_root
from tests.bench.registry import Bar, Figure, Measured, bench
from tests.fakes import foreign_bundles, signing

SIGSTORE, X509, KEY = "verify.sigstore", "verify.x509", "verify.key"
ENOUGH = Bar(Measured.RATIO, at_least=0.85)
UNIT = "verifications/s"
CORPORA = Path(os.environ.get("PINGEE_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
SUITE = CORPORA / "sigstore-conformance"
CASES = [SUITE / "bundle-verify" / name for name in ("happy-path-intoto-in-dsse-v3", "rekor2-dsse-happy-path")]
IDENTITY = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
NOW = parse_moment("2026-11-21T12:00:00Z")


@dataclass(frozen=True)
class Work:
    """One bundle: our whole path over it, and the bare library's."""

    ours: Callable[[], object]
    bare: Callable[[], object]


@bench(SIGSTORE)
def sigstore() -> list[Figure]:
    """Two public bundles of sigstore-conformance around in-toto statements, one of each generation of the log: with its promise, and timestamped."""
    work = public_bundles()
    return [Figure(SIGSTORE, 0.0, UNIT, None, ENOUGH) if work is None else _figure(SIGSTORE, work, 150, ENOUGH)]


@bench(X509)
def x509_run() -> list[Figure]:
    """A provenance of our own builder, under its run's certificate."""
    return [_figure(X509, under_a_run(), 1000, ENOUGH)]


@bench(KEY)
def by_a_pinned_key() -> list[Figure]:
    """A statement by a pinned key: one signature, so that reading strictly is most of what is measured; printed, not judged."""
    key = ec.generate_private_key(ec.SECP256R1())
    data = foreign_bundles.signed_statement(key)
    expected, public = Pinned(parse_managed_key(foreign_bundles.pem(key)), None), key.public_key()
    artifact = Artifact({"sha256": foreign_bundles.SHA256})
    work = Work(
        lambda: verify_attestation(data, expected, artifact, at=NOW).result,
        lambda: _bare_envelope(json.loads(data)["dsseEnvelope"], public),
    )
    return [_figure(KEY, work, 1000, None)]


def public_bundles() -> Work | None:
    """sigstore's, one after the other; says so and gives None where the corpora are not there."""
    if not all(case.is_dir() for case in CASES):
        print("PUBLIC BUNDLES MISSING: sigstore-conformance is not in the corpora (set PINGEE_CORPORA or run make corpora)", file=sys.stderr)
        return None
    works = [_public_bundle(case) for case in CASES]

    def ours() -> object:
        found = [work.ours() for work in works]
        return next((one for one in found if not isinstance(one, Verified)), found[0])

    return Work(ours, lambda: [work.bare() for work in works])


def _public_bundle(case: Path) -> Work:
    data, own = (case / "bundle.sigstore.json").read_bytes(), case / "trusted_root.json"
    public_good = resources.files("sigstore").joinpath("_store", "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev", "trusted_root.json")
    trusted = own.read_bytes() if own.exists() else public_good.read_bytes()
    expected = Keyless(IDENTITY, ISSUER, parse_sigstore_root(trusted))
    artifact = artifact_of_digest(digest_of((SUITE / "bundle-verify" / "a.txt").read_bytes()))
    verifier, identity = Verifier(trusted_root=TrustedRoot(RootModel.from_json(trusted))), policy.Identity(identity=IDENTITY, issuer=ISSUER)
    return Work(
        lambda: verify_attestation(data, expected, artifact, at=NOW).result,
        lambda: json.loads(verifier.verify_dsse(Bundle.from_json(data), identity)[1]),
    )


def under_a_run() -> Work:
    """A provenance of ours."""
    ca = signing.FakeCa()
    data = ca.run().sign(signing.provenance_statement())
    roots = (parse_builder_root(signing.BUILDER_ID, ca.pem()),)
    store = verification.Store(x509.load_pem_x509_certificates(ca.pem()))

    def bare() -> object:
        document = json.loads(data)
        certificate = x509.load_der_x509_certificate(base64.b64decode(document["verificationMaterial"]["certificate"]["rawBytes"]))
        _path_verifier(store, signing.RECEIVED).verify(certificate, [])
        return _bare_envelope(document["dsseEnvelope"], certificate.public_key())

    return Work(lambda: verify_provenance(data, roots, received_at=signing.RECEIVED, artifact=signing.ARTIFACT), bare)


def _path_verifier(store: verification.Store, at: Moment) -> verification.ClientVerifier:
    policies = {"ca_policy": verification.ExtensionPolicy.webpki_defaults_ca(), "ee_policy": verification.ExtensionPolicy.permit_all()}
    return verification.PolicyBuilder().store(store).time(at).max_chain_depth(0).extension_policies(**policies).build_client_verifier()


def _bare_envelope(envelope: dict[str, object], key: ec.EllipticCurvePublicKey) -> object:
    payload = base64.b64decode(envelope["payload"])
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), pae(envelope["payloadType"], payload), ec.ECDSA(hashes.SHA256()))
    return json.loads(payload)


def _figure(name: str, work: Work, rounds: int, bar: Bar | None) -> Figure:
    if not isinstance(found := work.ours(), Verified):
        raise RuntimeError(f"what is not believed is no verification to measure: {found}")
    times: dict[Callable[[], object], list[float]] = {work.ours: [], work.bare: []}
    for _ in range(rounds):
        for call, taken in times.items():
            began = time.thread_time()
            call()
            taken.append(time.thread_time() - began)
    return Figure(name, 1 / statistics.median(times[work.ours]), UNIT, 1 / statistics.median(times[work.bare]), bar)
