"""Who must have signed a builder's statements: one of four kinds, named by the reviewed policy and never by what was signed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, unique


@unique
class SignerKind(StrEnum):
    """The word before the colon of a builder's ``signer``."""

    X509 = "x509"
    """our own builder CA, whose certificates name project, commit and run"""
    SPIFFE = "spiffe"
    """an X.509-SVID of one SPIFFE ID, under the CAs of its trust domain"""
    SIGSTORE = "sigstore"
    """keyless: one identity, vouched for by one OIDC issuer, under a pinned trusted root"""
    KEY = "key"
    """one public key; that of a vault's transit engine is given by its exported public half"""


@dataclass(frozen=True)
class ExpectedSigner:
    """What the policy says of a builder's signer. Hashable, so that what is read from `trust` can be kept."""

    kind: SignerKind
    trust: bytes = field(repr=False)
    """the exact bytes of the file that the signer is trusted by: CA certificates, trust bundle, trusted root or public key"""
    identity: str = ""
    """of `SPIFFE` the SPIFFE ID, of `SIGSTORE` the certificate's one name; compared exactly"""
    issuer_url: str = ""
    """of `SIGSTORE`: the OIDC issuer, compared exactly"""

    @property
    def names(self) -> tuple[str, str, str]:
        """Everything but the file: kind, identity and issuer."""
        return self.kind.value, self.identity, self.issuer_url
