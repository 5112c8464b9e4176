"""What `builders.toml` says of one builder's signer: its kind, the file that it is trusted by, and its names.

[builders."https://ci.example/builder"]
signer = "x509:NAME"                  # our own builder CA, NAME.pem
signer = "spiffe:NAME"                # CA certificates of a trust domain, NAME.pem, or its SPIFFE trust bundle, NAME.json
identity = "spiffe://ci.example/builder"
signer = "sigstore:NAME"              # a sigstore trusted root, NAME.json
identity = "https://git.example/group/hello/.gitlab-ci.yml@refs/heads/main"
issuer_url = "https://git.example"
signer = "key:NAME"                   # one PEM public key, NAME.pem

One `signer` for each builder; `identity` and `issuer_url` stand where the kind has them and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
from typing import Final

from gatekeeper.model.fields import Fields
from gatekeeper.model.signer import ExpectedSigner, SignerKind
from gatekeeper.model.spiffeid import MalformedSpiffeId, parse_spiffe_id

_SUFFIXES: Final[Mapping[SignerKind, tuple[str, ...]]] = MappingProxyType(
    {SignerKind.X509: (".pem",), SignerKind.SPIFFE: (".pem", ".json"), SignerKind.SIGSTORE: (".json",), SignerKind.KEY: (".pem",)}
)
_FORMS: Final[Mapping[SignerKind, str]] = MappingProxyType(
    {
        SignerKind.X509: "'x509:NAME', and NAME.pem lies in this repository",
        SignerKind.SPIFFE: "'spiffe:NAME', and either NAME.pem or NAME.json lies in this repository",
        SignerKind.SIGSTORE: "'sigstore:NAME', and NAME.json lies in this repository",
        SignerKind.KEY: "'key:NAME', and NAME.pem lies in this repository",
    }
)
_NAMED: Final = frozenset({SignerKind.SPIFFE, SignerKind.SIGSTORE})


def read_signer(fields: Fields, files: Container[str], read: Callable[[str], bytes]) -> ExpectedSigner:
    """Read the members of one builder that say who signs; raises `FieldError`. `read` gives one of the repository's `files`, within bounds."""
    kind, file = _read_file(fields, files)
    identity = _read_identity(fields, kind) if kind in _NAMED else ""
    issuer_url = fields.text("issuer_url", max_length=1024) if kind is SignerKind.SIGSTORE else ""
    for key, stands in (("identity", kind in _NAMED), ("issuer_url", kind is SignerKind.SIGSTORE)):
        if fields.has(key) and not stands:
            raise fields.error(key, f"is not asked of a signer of kind {kind.value}")
    return ExpectedSigner(kind, read(file), identity, issuer_url)


def _read_file(fields: Fields, files: Container[str]) -> tuple[SignerKind, str]:
    word, _, name = fields.text("signer").partition(":")
    if word not in tuple(SignerKind):
        raise fields.error("signer", "must be " + ", ".join(f"'{kind.value}:NAME'" for kind in SignerKind))
    kind = SignerKind(word)
    found = [name + suffix for suffix in _SUFFIXES[kind] if name + suffix in files]
    if len(found) != 1:
        raise fields.error("signer", f"is {_FORMS[kind]}")
    return kind, found[0]


def _read_identity(fields: Fields, kind: SignerKind) -> str:
    identity = fields.text("identity", max_length=2048)
    if kind is SignerKind.SPIFFE:
        try:
            _, path = parse_spiffe_id(identity)
        except MalformedSpiffeId as error:
            raise fields.error("identity", str(error)) from None
        if not path:
            raise fields.error("identity", "names a trust domain and nobody in it")
    return identity
