"""Orders about a log: ``https://pingee.internal/log-order/v1`` in DSSE, signed by two different people with their own Ed25519 keys.

| member | demanded |
|---|---|
| action | one of `OrderAction` |
| instance | the instance whose log it is, a name |
| origin | the log's origin, as it is now |
| parameters | an object of texts: exactly the names of `PARAMETERS` for this action |
| reason | text, 1 to 200 characters, no control characters |
| not_after | RFC 3339 UTC, whole seconds: how long the order may be used, at most four hours ahead |

Every member is required and no other is accepted; the payload is RFC 8785, and its sha256 is the order's id: whoever signs the same order again
makes no new one. What an order may do once only names what it starts from (the origin that is to be closed, the key that is to be replaced),
so that after it was carried out it is about nothing any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import Moment, later, render_moment
from gatekeeper.model.seal import seal
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.model.uris import LOG_ORDER
from gatekeeper.model.verified import Checked, Refusal

from .dsse import UntrustedEnvelope, parse_envelope
from .errors import MalformedEnvelope, MalformedStatement
from .twopeople import MAX_LIFE_S, MAX_ORDER, two_signers

MAX_ORIGIN: Final = 200


@unique
class OrderAction(StrEnum):
    """What two people may order about a log."""

    REOPEN = "reopen"
    """close the origin, open the one that `next` names"""
    ROTATE_LOG_KEY = "rotate-log-key"
    """`new`: the new vkey; `until`: the end of the overlap"""
    ROTATE_RECEIPT_KEY = "rotate-receipt-key"
    """`new`: base64 SPKI of the new key; `until`: the end of the overlap"""
    WITNESSES = "witnesses"
    """`policy`: sha256 of the tlog-policy file; `fail_open`: true or false"""


PARAMETERS: Final[Mapping[OrderAction, frozenset[str]]] = MappingProxyType(
    {
        OrderAction.REOPEN: frozenset({"next"}),
        OrderAction.ROTATE_LOG_KEY: frozenset({"new", "until"}),
        OrderAction.ROTATE_RECEIPT_KEY: frozenset({"new", "until"}),
        OrderAction.WITNESSES: frozenset({"policy", "fail_open"}),
    }
)


@dataclass(frozen=True)
class LogOrder:
    """What is to be done to which log, why, and until when."""

    action: OrderAction
    instance: str
    origin: str
    parameters: Mapping[str, str]
    reason: str
    not_after: Moment


@dataclass(frozen=True)
class SignedLogOrder:
    """An order with the names of the two people who signed it, ascending."""

    order: LogOrder
    signers: tuple[str, str]


@dataclass(frozen=True)
class Asked:
    """What is about to be done, where and when: an order for anything else does not speak of it."""

    action: OrderAction
    instance: str
    origin: str
    at: Moment


def encode_log_order(order: LogOrder) -> bytes:
    """The payload that people sign, as `pae(LOG_ORDER, payload)`. Raises `MalformedStatement` for what `parse_log_order` would refuse."""
    parameters: dict[str, Json] = dict(order.parameters)
    payload = encode_canonical(
        {
            "action": order.action.value,
            "instance": order.instance,
            "origin": order.origin,
            "parameters": parameters,
            "reason": order.reason,
            "not_after": render_moment(order.not_after),
        }
    )
    _read(payload)
    return payload


def parse_log_order(envelope: UntrustedEnvelope) -> LogOrder:
    """What an envelope orders, whoever signed it. Raises `MalformedStatement`."""
    if envelope.payload_type != LOG_ORDER:
        raise MalformedStatement(f"the payload type must be {LOG_ORDER}")
    order = _read(envelope.payload)
    if encode_log_order(order) != envelope.payload:
        raise MalformedStatement("the order is not in its canonical form")
    return order


def verify_log_order(data: bytes, keys: Mapping[str, Sequence[bytes]], asked: Asked) -> Checked[SignedLogOrder]:
    """Believe an order as signed by two of these people, for this, now, or say why not; `keys` is each person's pinned keys (32 bytes each).

    `Verified.digest` is the order's id. Raises `MalformedEnvelope` or `MalformedStatement`.
    """
    if len(data) > MAX_ORDER:
        raise MalformedEnvelope(f"an order has at most {MAX_ORDER} bytes")
    envelope = parse_envelope(data)
    order = parse_log_order(envelope)
    signers = two_signers(envelope, keys)
    if isinstance(signers, str):
        return Refusal("order-signers", signers)
    if asked.at >= order.not_after:
        return Refusal("order-expired", f"the order held until {render_moment(order.not_after)}; write and sign a new one")
    if order.not_after > later(asked.at, seconds=MAX_LIFE_S):
        return Refusal("order-expired", f"the order would hold for more than {MAX_LIFE_S // 3600} hours from now; write and sign a shorter one")
    if order.action is not asked.action:
        return Refusal("order-scope", f"the order is to {order.action.value}, not to {asked.action.value}")
    if (order.instance, order.origin) != (asked.instance, asked.origin):
        where = f"{order.origin} of instance {order.instance}"
        return Refusal("order-scope", f"the order is about {where}, this is {asked.origin} of instance {asked.instance}")
    return seal(SignedLogOrder(order, signers), digest_of(envelope.payload))


def _read(payload: bytes) -> LogOrder:
    try:
        fields = Fields(parse_object(payload, max_bytes=MAX_ORDER))
        action = OrderAction(fields.choice("action", tuple(action.value for action in OrderAction)))
        order = LogOrder(
            action=action,
            instance=fields.name("instance"),
            origin=fields.text("origin", max_length=MAX_ORIGIN),
            parameters=_parameters(fields.nested("parameters"), action),
            reason=fields.text("reason", max_length=200),
            not_after=fields.moment("not_after"),
        )
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedStatement(f"order: {error}") from error
    return order


def _parameters(fields: Fields, action: OrderAction) -> Mapping[str, str]:
    found = {name: fields.text(name, max_length=1024) for name in sorted(PARAMETERS[action])}
    fields.done()
    return MappingProxyType(found)
