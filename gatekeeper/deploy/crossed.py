"""What was begun under an origin of the log that was closed since: nothing of it is mistaken for an entry of the open one.

* A decision that was drafted and not appended is forgotten: the ping is decided anew.
* An outcome that was drafted is appended to the open origin; what it is the outcome `of` stays a place in the closed one.
* An Allow under which nothing was sent ends like one that expired: the ping is decided anew, under the open origin.
* An Allow under which bytes may have been sent is failed: its target will not take its receipt again, and what runs there the observer tells.
"""

from __future__ import annotations

import base64
from dataclasses import replace

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.fields import Fields
from gatekeeper.model.ping import State
from gatekeeper.model.receipt import parse_receipt
from gatekeeper.model.strictjson import JsonValue, parse_object
from gatekeeper.ports.pings import Ping
from gatekeeper.tlog.entry import encode_entry, parse_entry
from gatekeeper.tlog.kinds import UnknownEntry
from gatekeeper.tlog.members import Reference

from .candidate import own_viewer
from .decide import MAX_DRAFT
from .execute import Done, draft_outcome, finish
from .parts import Parts

_DECIDED_ANEW = Done(State.PENDING, "allow-expired", "allow-expired", "the log was opened anew and nothing was applied; decided anew")
_MAYBE_SENT = Done(State.FAILED, "failed", "apply-interrupted", "the log was opened anew in mid-apply: look at what the target runs")


def under_open_origin(parts: Parts, entry: bytes) -> bytes:
    """The entry as it may be appended now: under the open origin's name where it was made for one that was closed since."""
    parsed = parse_entry(entry)
    if parsed.origin == parts.origin or isinstance(parsed, UnknownEntry):
        return entry
    return encode_entry(replace(parsed, origin=parts.origin))


async def settle_crossed(parts: Parts, ping: Ping) -> Ping | None:
    """The ping after what was begun under a closed origin was brought to its end there; None where nothing was. Raises `PortError`."""
    if ping.state.holds_lock:
        return await _end_allow(parts, ping)
    if ping.draft is None or parse_entry(_entry(ping.draft)).origin == parts.origin:
        return None
    if ping.fence is not None:
        await parts.locks.release(ping.new.environment, ping.new.component, ping.fence)
    return await parts.pings.move(ping, replace(ping, draft=None, entry_id=None, fence=None, next_at=None))


async def _end_allow(parts: Parts, ping: Ping) -> Ping | None:
    record = None if ping.receipt is None else await parts.deployments.receipt(ping.receipt, own_viewer(ping))
    if record is None:
        return None  # not what we wrote: `recall_allow` says so
    try:
        receipt = parse_receipt(record.receipt)
    except ValueError:
        return None
    if not parts.origins.is_closed(receipt.origin) or receipt.index != ping.log_index:
        return None
    if ping.draft is None:
        done = _MAYBE_SENT if ping.state is State.APPLYING else _DECIDED_ANEW
        return await finish(parts, await draft_outcome(parts, ping, Reference(receipt.origin, receipt.index), done))
    draft: dict[str, JsonValue] = dict(parse_object(ping.draft, max_bytes=MAX_DRAFT))
    draft["entry"] = base64.b64encode(under_open_origin(parts, _entry(ping.draft))).decode()
    return await finish(parts, await parts.pings.move(ping, replace(ping, draft=encode_canonical(draft))))


def _entry(draft: bytes) -> bytes:
    return base64.b64decode(Fields(parse_object(draft, max_bytes=MAX_DRAFT)).text("entry", max_length=MAX_DRAFT))
