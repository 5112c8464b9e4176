"""The two signature schemes of our envelopes, and how many signatures one has: exactly one.

ECDSA P-256 with SHA-256, DER (runs, receipts), and Ed25519 (reviewers). The key decides the scheme; nothing in the envelope does.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .dsse import UntrustedEnvelope, pae
from .errors import MalformedKey

_P = 2**255 - 19
_ORDER_8_Y = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_Y: Final = frozenset({0, 1, _P - 1, _P, _P + 1, _ORDER_8_Y, _P - _ORDER_8_Y})
"""y coordinates, reduced or not, of the eight points of small order: under such a "key" signatures can be made for any message."""


def ed25519_key(raw: bytes) -> Ed25519PublicKey:
    """A reviewer's public key from its 32 bytes; raises `MalformedKey` for other lengths and points of small order (RFC 8032, 8.9)."""
    if len(raw) != 32:
        raise MalformedKey("an Ed25519 public key has 32 bytes")
    if int.from_bytes(raw, "little") & (2**255 - 1) in _SMALL_ORDER_Y:
        raise MalformedKey("a point of small order is nobody's key")
    return Ed25519PublicKey.from_public_bytes(raw)


def signed_by(envelope: UntrustedEnvelope, key: object) -> bool:
    """Whether the envelope's one signature is by this key over its PAE. None, two, or a key of any other kind: no."""
    if len(envelope.signatures) != 1:
        return False
    return signature_by(envelope.signatures[0][1], pae(envelope.payload_type, envelope.payload), key)


def signature_by(signature: bytes, message: bytes, key: object) -> bool:
    """Whether this is a signature by this key over exactly this message; a key of any other kind than the two: no."""
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        else:
            return False
    except InvalidSignature:
        return False
    return True
