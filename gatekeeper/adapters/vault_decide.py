"""Role `decide` on a vault: the receipt key (transit ECDSA P-256) and the wrapping of pseudonym keys (transit AES-256-GCM)."""

from __future__ import annotations

import base64
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from gatekeeper.ports.errors import Untrustworthy

from .vault import VaultSession, text_of
from .vault_log import decoded, key_versions, transit_signature

MAX_MESSAGE: Final = 1024 * 1024
MAX_KEY: Final = 256


class VaultDecide:
    """`ports.vault.DecideVault` of one instance. `public_key_pem`: the pinned receipt key; `key_version` as in `VaultLog`."""

    def __init__(self, session: VaultSession, instance: str, *, public_key_pem: bytes, key_version: int | None = None) -> None:
        self._session = session
        self._receipt = f"{instance}-receipt"
        self._people = f"{instance}-people"
        self._verifier = receipt_key(public_key_pem)
        self._key_version = key_version

    async def public_key_pem(self) -> bytes:
        """See `DecideVault`."""
        answer = await self._session.read(f"transit/keys/{self._receipt}")
        found = key_versions(answer, self._key_version, lambda text: receipt_key(text.encode()) == self._verifier)
        if not found:
            raise Untrustworthy("key-differs", "the vault's receipt key is not the pinned one")
        self._key_version = found[0]
        return self._verifier.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    async def sign(self, message: bytes) -> bytes:
        """See `DecideVault`."""
        if len(message) > MAX_MESSAGE:
            raise ValueError("at most 1 MiB is signed")
        version = self._key_version
        if version is None:
            await self.public_key_pem()
            version = self._key_version or 0
        body = {
            "input": base64.b64encode(message).decode(),
            "key_version": version,
            "hash_algorithm": "sha2-256",
            "marshaling_algorithm": "asn1",
        }
        answer = await self._session.write(f"transit/sign/{self._receipt}", body)
        signature = transit_signature(text_of(answer, "data", "signature"), version)
        try:
            self._verifier.verify(signature, message, ECDSA(hashes.SHA256()))
        except InvalidSignature:
            genuine = False
        else:
            genuine = True
        if not genuine:
            raise Untrustworthy("signature-wrong", "the vault's signature does not verify under the pinned receipt key")
        return signature

    async def wrap(self, key: bytes) -> str:
        """See `DecideVault`."""
        if not 1 <= len(key) <= MAX_KEY:
            raise ValueError("1 to 256 bytes are wrapped")
        answer = await self._session.write(f"transit/encrypt/{self._people}", {"plaintext": base64.b64encode(key).decode()})
        return text_of(answer, "data", "ciphertext")

    async def unwrap(self, wrapped: str) -> bytes:
        """See `DecideVault`."""
        answer = await self._session.write(f"transit/decrypt/{self._people}", {"ciphertext": wrapped})
        return decoded(text_of(answer, "data", "plaintext"))


def receipt_key(pem: bytes) -> EllipticCurvePublicKey:
    """Read a P-256 public key; `Untrustworthy` for any other."""
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise Untrustworthy("key-differs", "the receipt key is not an ECDSA P-256 key")
    return key
