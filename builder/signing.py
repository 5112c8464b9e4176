"""The run's ephemeral key, and what it signs: DSSE envelopes in sigstore bundles v0.3.

The key lives in this process's memory for one run and is never written. Signatures are ECDSA P-256 with SHA-256 over the DSSE
pre-authentication encoding (DSSE protocol v1.0.0), DER as in X.509. `tlogEntries` is present and empty: the gatekeeper's intake is the
trusted time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatekeeper.model.facts import RunIdentity
from gatekeeper.model.uris import IN_TOTO_PAYLOAD
from gatekeeper.verify.builder import UnfitCertificate, read_run_certificate
from gatekeeper.verify.bundle import encode_bundle
from gatekeeper.verify.dsse import pae

from .fault import BuildFault


def ephemeral_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def encode_request(key: ec.EllipticCurvePrivateKey) -> str:
    """A PKCS #10 request in PEM with an empty subject and no extensions: names come from the token's claims, never from us."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


@dataclass(frozen=True)
class Signer:
    """Signs statements for one run under its certificate (DER)."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: bytes
    identity: RunIdentity

    def bundle(self, statement: bytes) -> bytes:
        """The statement in DSSE in a bundle, as RFC 8785 bytes."""
        signature = self.key.sign(pae(IN_TOTO_PAYLOAD, statement), ec.ECDSA(hashes.SHA256()))
        return encode_bundle(statement, signature, certificate=self.certificate)


def make_signer(key: ec.EllipticCurvePrivateKey, pem: str, *, project: str, commit: str, run: str) -> Signer:
    """Read the certificate we were given; raises `BuildFault` unless it is a run's, for our key, project, commit and run."""
    signer = read_signer(key, pem)
    identity = signer.identity
    if (identity.project, identity.commit, identity.run) != (project, commit, run):
        raise BuildFault("certificate-refused", "the certificate names another project, commit or run than the token")
    return signer


def read_signer(key: ec.EllipticCurvePrivateKey, pem: str) -> Signer:
    """The same for whichever run it names: what the vault says of us is what we say of ourselves."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        der = certificate.public_bytes(serialization.Encoding.DER)
        identity = read_run_certificate(der)
    except UnfitCertificate as error:
        raise BuildFault("certificate-refused", f"the certificate is not a run's: {error}") from None
    except ValueError:
        raise BuildFault("certificate-refused", "the answer holds no certificate") from None
    if certificate.public_key() != key.public_key():
        raise BuildFault("certificate-refused", "the certificate is for another key")
    return Signer(key, der, identity)
