"""A log or receipt key is to be followed by another: two people's order becomes a `key` entry, signed by the key that is replaced.

The order is read at the start of each replica, where the new key has to be pinned in any case; it is needed in full only until the entry is kept,
so that it may expire while the overlap lasts. Whoever rotates the key in the vault is neither of these two people nor one of our logins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gatekeeper.model.moment import MalformedMoment, Moment, parse_moment
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.document import Policy
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.log import KeyChangeRow
from gatekeeper.tlog.entry import encode_entry
from gatekeeper.tlog.keyring import endorsement_text
from gatekeeper.tlog.kinds import KeyEntry, KeyUse
from gatekeeper.verify.dsse import parse_envelope
from gatekeeper.verify.errors import MalformedStatement
from gatekeeper.verify.order import Asked, OrderAction, parse_log_order, verify_log_order

from .parts import Parts
from .people import pseudonym_of

ACTIONS: Final[Mapping[KeyUse, OrderAction]] = MappingProxyType(
    {KeyUse.LOG: OrderAction.ROTATE_LOG_KEY, KeyUse.RECEIPT: OrderAction.ROTATE_RECEIPT_KEY}
)


class RotationRefused(PortError):
    """The order in the configuration is not one that this log may act on."""


@dataclass(frozen=True)
class OrderedRotation:
    """What an order asks, before anybody has looked at who signed it. Keys as they stand in the entry."""

    use: KeyUse
    old: str
    new: str
    until: Moment
    order: bytes = b""


def read_rotation(use: KeyUse, old: str, order: bytes) -> OrderedRotation:
    """Read an order's own words; raises `MalformedEnvelope` or `MalformedStatement`. `old` is the key that the configuration pins."""
    found = parse_log_order(parse_envelope(order))
    if found.action is not ACTIONS[use]:
        raise MalformedStatement(f"the order is to {found.action.value}, not to {ACTIONS[use].value}")
    try:
        until = parse_moment(found.parameters["until"])
    except MalformedMoment as error:
        raise MalformedStatement(f"order: /parameters/until: {error}") from None
    if found.parameters["new"] == old:
        raise MalformedStatement("the order names the key that is pinned already: take the order out of the configuration")
    return OrderedRotation(use, old, found.parameters["new"], until, order)


async def make_key_change(
    parts: Parts, rotation: OrderedRotation, operators: Mapping[str, tuple[bytes, ...]], endorse: Callable[[bytes], Awaitable[bytes]]
) -> KeyChangeRow:
    """The entry of a rotation that nobody has begun yet, endorsed by the key that is replaced. Raises `RotationRefused` and `PortError`."""
    policy, at = parts.policy.current(), parts.now()
    asked = Asked(ACTIONS[rotation.use], parts.instance, parts.origin, at)
    signed = verify_log_order(rotation.order, _known(policy, operators, at), asked)
    if isinstance(signed, Refusal):
        raise RotationRefused(signed.reason, f"the order to {asked.action.value} is refused ({signed.reason}): {signed.detail}")
    if rotation.until <= at:
        raise RotationRefused("order-expired", "the order's overlap would have ended already; write and sign a new one")
    people = [policy.people[name] for name in signed.value.signers]
    entry = KeyEntry(
        entry_id=signed.digest.removeprefix("sha256:")[:32],
        origin=parts.origin,
        at=at,
        config=policy.commit,
        who=tuple(sorted([await pseudonym_of(parts, person.issuer, person.subject) for person in people])),
        use=rotation.use,
        old=rotation.old,
        new=rotation.new,
        since=at,
        until=rotation.until,
    )
    body = encode_entry(entry)
    return KeyChangeRow(body, await endorse(endorsement_text(parts.origin, body)))


def _known(policy: Policy, operators: Mapping[str, tuple[bytes, ...]], at: Moment) -> dict[str, tuple[bytes, ...]]:
    # A key counts while the pinned file and the reviewed policy name it, and the policy does not revoke it: whoever left one of them orders nothing.
    named = {name: tuple(key for key in keys if key in policy.people[name].keys) for name, keys in operators.items() if name in policy.people}
    return policy.revocations.standing_people(named, at)
