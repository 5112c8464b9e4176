"""The rollback bundle: which releases two people may bring back at a target without the gatekeeper. DSSE under the receipt key.

It travels with each deploy (`formats.md` 6) and holds, for one component of one target, the receipts of its rollback set with their proofs, the
deploy's own receipt first, and the ids of the override orders that stand in the log already. The signature says that the gatekeeper chose
these members; that each is a logged Allow for this target is checked by the target itself, from receipt and proof.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.receipt import MAX_RECEIPT
from gatekeeper.model.seal import seal
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.model.uris import ROLLBACK_BUNDLE
from gatekeeper.model.verified import Checked, Refusal

from .base64text import read_base64
from .dsse import MAX_ENVELOPE, parse_envelope
from .errors import MalformedStatement
from .receipt import ReceiptKey
from .signature import signed_by

MAX_MEMBERS: Final = 8
MAX_MEMBER_BYTES: Final = 480 * 1024
"""of all receipts and proofs together: what the envelope's own bound leaves, base64 twice"""
MAX_REPORTED: Final = 64


@dataclass(frozen=True)
class BundleMember:
    """One release: the exact bytes of its receipt, and a `.tlog-proof` of its entry."""

    receipt: bytes
    proof: bytes


@dataclass(frozen=True)
class RollbackBundle:
    """What may be brought back, the newest deploy first."""

    instance: str
    environment: str
    component: str
    target: str
    members: tuple[BundleMember, ...]
    reported: tuple[Digest, ...]
    """ids of override orders that the log has by now"""


def encode_rollback_bundle(bundle: RollbackBundle) -> bytes:
    """The payload to be signed, as `pae(ROLLBACK_BUNDLE, payload)`."""
    return encode_canonical(
        {
            "v": 1,
            "instance": bundle.instance,
            "environment": bundle.environment,
            "component": bundle.component,
            "target": bundle.target,
            "members": [
                {"receipt": base64.b64encode(member.receipt).decode(), "proof": base64.b64encode(member.proof).decode()} for member in bundle.members
            ],
            "reported": list(bundle.reported),
        }
    )


def verify_rollback_bundle(data: bytes, keys: Sequence[ReceiptKey]) -> Checked[RollbackBundle]:
    """Believe that the gatekeeper made this bundle, or say why not. No keys: nothing is believed. Raises `Malformed`."""
    envelope = parse_envelope(data)
    if envelope.payload_type != ROLLBACK_BUNDLE or not any(signed_by(envelope, key.public) for key in keys):
        return Refusal("bad-signature", "the rollback bundle needs exactly one signature, by a pinned receipt key, over these bytes")
    try:
        fields = Fields(parse_object(envelope.payload, max_bytes=MAX_ENVELOPE))
        fields.integer("v", minimum=1, maximum=1)
        bundle = RollbackBundle(
            instance=fields.name("instance"),
            environment=fields.name("environment"),
            component=fields.name("component"),
            target=fields.name("target"),
            members=tuple(_read_member(item) for item in fields.objects("members", max_items=MAX_MEMBERS)),
            reported=_read_digests(fields, "reported"),
        )
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedStatement(f"rollback bundle: {error}") from error
    return seal(bundle, digest_of(envelope.payload))


def _read_member(fields: Fields) -> BundleMember:
    longest = MAX_RECEIPT * 3 // 2
    member = BundleMember(read_base64(fields, "receipt", max_length=longest), read_base64(fields, "proof", max_length=longest))
    fields.done()
    return member


def _read_digests(fields: Fields, key: str) -> tuple[Digest, ...]:
    items = fields.array(key, max_items=MAX_REPORTED)
    inner = Fields({str(number): item for number, item in enumerate(items)}, fields.at(key))
    return tuple(inner.digest(str(number)) for number in range(len(items)))
