"""Override orders: ``https://pingee.internal/override/v1`` in DSSE, signed by two different people with their own Ed25519 keys.

| member | demanded |
|---|---|
| target | the name of one target |
| digest | the artifact to bring back |
| reason, incident | text, 1 to 200 and 1 to 100 characters, no control characters |
| not_after | RFC 3339 UTC, whole seconds: how long the order may be used |

Every member is required and no other is accepted; the payload is RFC 8785, and its sha256 is the order's id: whoever signs the same order again
makes no new one. There are exactly two signatures. "Two of three are good" is an answer that nobody can read.

Whether the order is meant for this target, still holds and was not used before is for the target to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import Moment, render_moment
from gatekeeper.model.seal import seal
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.model.uris import OVERRIDE
from gatekeeper.model.verified import Checked, Refusal

from .dsse import UntrustedEnvelope, parse_envelope
from .errors import MalformedEnvelope, MalformedStatement
from .twopeople import MAX_ORDER, two_signers


@dataclass(frozen=True)
class OverrideOrder:
    """What is to be done, where, why, and until when."""

    target: str
    digest: Digest
    reason: str
    incident: str
    not_after: Moment


@dataclass(frozen=True)
class SignedOrder:
    """An order with the names of the two people who signed it, ascending."""

    order: OverrideOrder
    signers: tuple[str, str]


def encode_override_order(order: OverrideOrder) -> bytes:
    """The payload that people sign, as `pae(OVERRIDE, payload)`. Raises `MalformedStatement` for what `parse_override_order` would refuse."""
    payload = encode_canonical(
        {
            "target": order.target,
            "digest": order.digest,
            "reason": order.reason,
            "incident": order.incident,
            "not_after": render_moment(order.not_after),
        }
    )
    _read(payload)
    return payload


def parse_override_order(envelope: UntrustedEnvelope) -> OverrideOrder:
    """What an envelope orders, whoever signed it. Raises `MalformedStatement`."""
    if envelope.payload_type != OVERRIDE:
        raise MalformedStatement(f"the payload type must be {OVERRIDE}")
    order = _read(envelope.payload)
    if encode_override_order(order) != envelope.payload:
        raise MalformedStatement("the order is not in its canonical form")
    return order


def verify_override_order(data: bytes, keys: Mapping[str, Sequence[bytes]]) -> Checked[SignedOrder]:
    """Believe an order as signed by two of these people, or say why not; `keys` is each person's pinned keys (32 bytes each).

    `Verified.digest` is the order's id. Key hints are not looked at. Raises `MalformedEnvelope` or `MalformedStatement`.
    """
    if len(data) > MAX_ORDER:
        raise MalformedEnvelope(f"an order has at most {MAX_ORDER} bytes")
    envelope = parse_envelope(data)
    order = parse_override_order(envelope)
    signers = two_signers(envelope, keys)
    if isinstance(signers, str):
        return Refusal("override-signers", signers)
    return seal(SignedOrder(order, signers), digest_of(envelope.payload))


def _read(payload: bytes) -> OverrideOrder:
    try:
        fields = Fields(parse_object(payload, max_bytes=MAX_ORDER))
        order = OverrideOrder(
            target=fields.name("target"),
            digest=fields.digest("digest"),
            reason=fields.text("reason", max_length=200),
            incident=fields.text("incident", max_length=100),
            not_after=fields.moment("not_after"),
        )
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedStatement(f"order: {error}") from error
    return order
