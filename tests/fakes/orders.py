"""Override orders as people sign them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import later, moment
from gatekeeper.model.uris import OVERRIDE
from gatekeeper.verify.dsse import envelope_json, pae
from gatekeeper.verify.override import OverrideOrder, encode_override_order

NOBODY = digest_of(b"an artifact that was never here")


class People:
    """olga, who has two keys, omar, who has one, and a stranger whom nobody pinned."""

    def __init__(self):
        self.olga, self.olga2, self.omar, self.stranger = (Ed25519PrivateKey.generate() for _ in range(4))

    @property
    def keys(self) -> dict[str, tuple[bytes, ...]]:
        """As a target pins them."""
        return {"olga": (_raw(self.olga), _raw(self.olga2)), "omar": (_raw(self.omar),)}

    @property
    def file(self) -> bytes:
        """The file of keys at a target."""
        lines = [f"{name} ed25519 {base64.b64encode(key).decode()}\n" for name, keys in self.keys.items() for key in keys]
        return ("# who may order an override\n\n" + "".join(lines)).encode()


def payload_of(digest=NOBODY, *, target="host-1", reason="it burns", incident="INC-1", seconds=3600, not_after=None) -> bytes:
    not_after = not_after or later(moment(datetime.now(UTC)), seconds=seconds)
    return encode_override_order(OverrideOrder(target, digest, reason, incident, not_after))


def signed(payload: bytes, *keys: Ed25519PrivateKey, payload_type: str = OVERRIDE) -> bytes:
    """An order's file, signed with these keys in this order."""
    signatures = [("hint", key.sign(pae(payload_type, payload))) for key in keys]
    return json.dumps(envelope_json(payload_type, payload, signatures)).encode()


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()
