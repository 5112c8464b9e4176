"""The doorkeeper's own key: it cosigns each checkpoint it accepts (C2SP tlog-cosignature), so that nobody can later show another log elsewhere."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from gatekeeper.model.moment import Moment
from gatekeeper.tlog.cosignature import cosigned_message, encode_cosignature
from gatekeeper.tlog.note import VerifierKey, cosigner_vkey, parse_note

from .files import Place, Unreadable, read_bounded, write_durably
from .target import InstalledTarget


class Cosigner:
    """Holds the private key; says nothing of it."""

    def __init__(self, key: Ed25519PrivateKey, target: InstalledTarget) -> None:
        self._key = key
        self.vkey: VerifierKey = cosigner_vkey(f"{target.instance}.doorkeeper/{target.name}", key.public_key().public_bytes_raw())

    def cosign(self, note: bytes, at: Moment) -> str:
        """The signature line, without its newline, over a checkpoint note accepted at that time."""
        timestamp = int(at.timestamp())
        signature = self._key.sign(cosigned_message(parse_note(note).text, timestamp))
        return encode_cosignature(self.vkey, timestamp, signature).line().decode().rstrip("\n")


def make_cosigner_key(place: Place) -> None:
    """Make a new key, 0600."""
    key = Ed25519PrivateKey.generate()
    write_durably(place.cosigner_key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def load_cosigner(place: Place, target: InstalledTarget) -> Cosigner:
    """Raises `Unreadable` where the key is missing or is no Ed25519 key."""
    try:
        key = load_pem_private_key(read_bounded(place.cosigner_key, 4096), password=None)
    except (ValueError, TypeError):
        raise Unreadable("cosigner.key: not a private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Unreadable("cosigner.key: not an Ed25519 key")
    return Cosigner(key, target)
