"""A pinned public key as the signer: ECDSA on P-256, P-384 or P-521 with its hash, Ed25519, RSA of 2048 bits or more (PKCS #1 v1.5, SHA-256).

The key decides the scheme; nothing in a bundle does. Algorithms are those of sigstore's registry
(`https://github.com/sigstore/architecture-docs/blob/main/algorithm-registry.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from gatekeeper.model.digest import Digest, digest_of

from .errors import MalformedKey
from .rsakey import unfitness
from .signature import ed25519_key, signature_by

MAX_PEM: Final = 16 * 1024
_NO_KEY: Final = "the key file is not one PEM public key"
_BEGIN: Final = b"-----BEGIN"
_NO_KEYS: Final = (
    (b"PRIVATE KEY-----", "a private key, give its public half alone"),
    (b"-----BEGIN CERTIFICATE", "a certificate, give the public key alone"),
)
_HashingKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_Key: TypeAlias = _HashingKey | Ed25519PublicKey
_CURVES: Final[Mapping[type[ec.EllipticCurve], hashes.HashAlgorithm]] = {
    ec.SECP256R1: hashes.SHA256(),
    ec.SECP384R1: hashes.SHA384(),
    ec.SECP521R1: hashes.SHA512(),
}


@dataclass(frozen=True, eq=False)
class ManagedKey:
    """A pinned key. `der` is its SubjectPublicKeyInfo, `digest` the sha256 of that."""

    key: _Key
    der: bytes
    digest: Digest


def parse_managed_key(pem: bytes) -> ManagedKey:
    """Read one PEM public key; raises `MalformedKey` for what is none, for weak keys and for kinds that are not listed above."""
    if len(pem) > MAX_PEM:
        raise MalformedKey(f"the key file has more than {MAX_PEM} bytes")
    for mark, said in _NO_KEYS:
        if mark in pem:
            raise MalformedKey(f"{_NO_KEY}: it holds {said}")
    if pem.count(_BEGIN) > 1:
        raise MalformedKey(f"{_NO_KEY}: it holds more than one")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedKey(_NO_KEY) from None
    return managed_key(key)


def managed_key(key: object) -> ManagedKey:
    """A public key of the library; raises `MalformedKey` for weak keys and for kinds that are not listed above."""
    fit = _fit(key)
    der = fit.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return ManagedKey(fit, der, digest_of(der))


def message_algorithm(key: ManagedKey) -> str | None:
    """The digest of the artifact that a message signature by this key is over; None where the key signs the bytes themselves."""
    return None if isinstance(key.key, Ed25519PublicKey) else _hash(key.key).name


def signs_message(key: ManagedKey, signature: bytes, digest: bytes) -> bool:
    """Whether this is the key's signature over a message with this digest (by `message_algorithm`). Ed25519 signs bytes, not digests: no."""
    if isinstance(key.key, Ed25519PublicKey):
        return False
    algorithm = _hash(key.key)
    return len(digest) == algorithm.digest_size and _verifies(key.key, signature, digest, utils.Prehashed(algorithm))


def signs_bytes(key: ManagedKey, signature: bytes, data: bytes) -> bool:
    """Whether this is the key's signature over exactly these bytes."""
    if isinstance(key.key, Ed25519PublicKey):
        return signature_by(signature, data, key.key)
    return _verifies(key.key, signature, data, _hash(key.key))


def _verifies(key: _HashingKey, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm | utils.Prehashed) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), algorithm)
        else:
            key.verify(signature, data, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def _fit(key: object) -> _Key:
    if isinstance(key, Ed25519PublicKey):
        return ed25519_key(key.public_bytes_raw())
    if isinstance(key, rsa.RSAPublicKey):
        if fault := unfitness(key.public_numbers().n):
            raise MalformedKey(f"an RSA key {fault}")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and type(key.curve) in _CURVES:
        return key
    raise MalformedKey("the key must be ECDSA on P-256, P-384 or P-521, Ed25519, or RSA")


def _hash(key: _HashingKey) -> hashes.HashAlgorithm:
    return hashes.SHA256() if isinstance(key, rsa.RSAPublicKey) else _CURVES[type(key.curve)]
