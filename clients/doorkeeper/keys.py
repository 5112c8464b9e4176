"""Which log and receipt keys are believed here: the installed ones, and those that followed them by `key` entries (log format, section 5).

The installed files are root's and never change by themselves. What was followed lies in `state.json` as it was shown: entries, signatures of the
keys they replace, and proofs. It is verified again from the installed files each time, so that the state can only hand on trust and not make it.

A frame may show the log's key changes against its own checkpoint. Each must be proven under a key that was trusted before it, and that tree must
be a part of the frame's own, or the two notes are a fork. They are remembered together with the checkpoint, when the frame is accepted.

Whoever was away during a whole rotation follows it all the same; a thief who has the replaced log key could lead it astray until then, and only a
witness quorum in the installed policy keeps him from that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gatekeeper.model.moment import Moment
from gatekeeper.model.verified import Refusal
from gatekeeper.tlog.checkpoint import parse_checkpoint
from gatekeeper.tlog.errors import HistoryForked, TlogError
from gatekeeper.tlog.keyhistory import KeyHistory, follow_history, parse_history
from gatekeeper.tlog.keyring import Keyring
from gatekeeper.tlog.note import parse_note

from .origins import Fork
from .state import MAX_KEYS, Memory
from .target import Pinned

_ROOM: Final = "more key changes than are remembered here: install the verifiers' files anew"


@dataclass(frozen=True)
class Believed:
    """The installed files with the keys that are trusted now, and what is to be remembered for that."""

    pinned: Pinned
    keys: tuple[bytes, ...]


def believe(pinned: Pinned, memory: Memory, at: Moment) -> Believed:
    """The keys that were followed before."""
    return Believed(replace(pinned, keys=_verified(pinned, memory.keys, at)), memory.keys)


def follow(believed: Believed, document: bytes, note: bytes, at: Moment) -> Believed | Refusal:
    """The keys after a frame's own part `keys`, shown against the checkpoint `note`. Raises `TlogError` for bytes that are no such document."""
    history, pinned = parse_history(document), believed.pinned
    if parse_note(history.checkpoint).text != parse_note(note).text:
        return Refusal("receipt-missing", "the key changes are shown under another checkpoint than the proof's")
    ring = pinned.ring()
    try:
        after = follow_history(ring, pinned.log_policy, history, at=at).keys
    except HistoryForked as error:
        return Fork("log-fork", f"a key change stands in another tree than the checkpoint: {error}", (error.note, note))
    except TlogError as error:
        return Refusal("bad-signature", f"a key change does not hold: {error}")
    if after == ring:
        return believed
    others = tuple(kept for kept in believed.keys if _origin(parse_history(kept)) != _origin(history))
    keys = (*others, document)
    if sum(map(len, keys)) > MAX_KEYS:
        return Refusal("bad-signature", _ROOM)
    if _verified(replace(pinned, keys=None), keys, at) != after:
        return Refusal("bad-signature", "the key changes are not shown from the first on: what is remembered of them could not be verified again")
    return Believed(replace(pinned, keys=after), keys)


def _verified(installed: Pinned, keys: tuple[bytes, ...], at: Moment) -> Keyring:
    ring = installed.ring()
    for document in keys:
        try:
            ring = follow_history(ring, installed.log_policy, parse_history(document), at=at).keys
        except TlogError:
            # It was followed from files that people have replaced since; theirs is the last word.
            continue
    return ring


def _origin(history: KeyHistory) -> str:
    return parse_checkpoint(parse_note(history.checkpoint).text).origin
