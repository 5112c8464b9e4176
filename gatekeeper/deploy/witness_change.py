"""Which witnesses the log asks for, and whether it may do without them, stands in the log itself, ordered by two operators (`witness-change`).

Whoever edits the configuration alone opens nothing: publication without a quorum begins when the newest entry says so of this very policy file.
The entry's reason is hidden under a salt that is the digest of the whole signed order: who holds the order file can show what it says.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gatekeeper.model.digest import Digest, digest_hex, digest_of
from gatekeeper.model.verified import Refusal
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.log import EntryConflict, LogStore
from gatekeeper.tlog.entry import WitnessChangeEntry, encode_entry, parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.person import hidden_text
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.order import Asked, OrderAction, SignedLogOrder, verify_log_order

from .parts import Parts
from .people import pseudonym_of

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WantedWitnesses:
    """What the configuration says: digest of the log policy file, whether to publish without its quorum, and who may have ordered that."""

    policy: Digest
    fail_open: bool
    order: bytes | None = field(repr=False)
    keys: Mapping[str, Sequence[bytes]]
    """the operators' pinned keys by name"""


async def log_witness_change(parts: Parts, store: LogStore, wanted: WantedWitnesses) -> bool | None:
    """Whether the log's newest `witness-change` says what is wanted; it is appended where a good order asks for it.

    None where the log says nothing and nothing was ordered: witnesses are asked for, and nothing is opened. A refused order changes nothing.
    """
    newest = await _newest(store)
    if newest is not None and _says(newest, wanted):
        return True
    if wanted.order is None:
        return None if newest is None and not wanted.fail_open else False
    asked = Asked(OrderAction.WITNESSES, parts.instance, parts.origin, parts.now())
    try:
        checked = verify_log_order(wanted.order, parts.policy.current().revocations.standing_people(wanted.keys, asked.at), asked)
    except Malformed as error:
        _logger.error("the order about the witnesses is refused: %s", error)  # noqa: TRY400 -- the sentence says all
        return False
    if isinstance(checked, Refusal):
        _logger.error("the order about the witnesses is refused (%s): %s", checked.reason, checked.detail)
        return False
    parameters = {"policy": str(wanted.policy), "fail_open": "true" if wanted.fail_open else "false"}
    if dict(checked.value.order.parameters) != parameters:
        _logger.error("the order about the witnesses is refused (order-scope): it is for another policy file, or says otherwise of fail_open")
        return False
    return await _append(parts, store, wanted, checked.value, digest_hex(checked.digest)[:32])


async def _append(parts: Parts, store: LogStore, wanted: WantedWitnesses, signed: SignedLogOrder, entry_id: str) -> bool:
    people = parts.policy.current().people
    named = [people[name] for name in signed.signers if name in people]
    if len(named) != len(signed.signers) or wanted.order is None:
        _logger.error("the order about the witnesses is refused (order-signers): who signed it is not in people.toml")
        return False
    who = sorted([await pseudonym_of(parts, person.issuer, person.subject) for person in named])
    entry = WitnessChangeEntry(
        entry_id=entry_id,
        origin=parts.origin,
        at=parts.now(),
        config=parts.policy.current().commit,
        who=tuple(who),
        policy=wanted.policy,
        fail_open=wanted.fail_open,
        reason=hidden_text(bytes.fromhex(digest_hex(digest_of(wanted.order))), signed.order.reason),
    )
    try:
        await parts.log.append(encode_entry(entry), entry_id=entry_id, kind=WitnessChangeEntry.KIND.value)
    except EntryConflict:
        # Another replica may have been first. An order that was carried out and overtaken by another one is spent.
        newest = await _newest(store)
        return newest is not None and _says(newest, wanted)
    _logger.warning("the log says from now on: witnesses by %s, fail_open %s", wanted.policy, wanted.fail_open)
    return True


async def _newest(store: LogStore) -> WitnessChangeEntry | None:
    body = await store.newest_of(WitnessChangeEntry.KIND.value)
    try:
        entry = None if body is None else parse_entry(body)
    except TlogError:
        raise PortError("log-refused", "the newest witness-change entry cannot be read") from None
    return entry if isinstance(entry, WitnessChangeEntry) else None


def _says(entry: WitnessChangeEntry, wanted: WantedWitnesses) -> bool:
    return (entry.policy, entry.fail_open) == (wanted.policy, wanted.fail_open)
