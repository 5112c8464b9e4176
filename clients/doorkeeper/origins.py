"""Which origin of the log a doorkeeper follows, and how it comes to follow the next one (log format, 3, end).

It follows the origin that it remembers. The file it was installed with names a log key under the origin of that day; the same public key under the
name of the next origin is believed only after a crossing (`gatekeeper.tlog.origins`, where it is said why): entry 0 of the new origin, included and
proven under a checkpoint that satisfies the installed policy, holding a last note of the old origin that is at or beyond what is remembered here,
and consistent with it. The crossing travels in the frame of the first deploy, as the part `origins`, behind `consistency`, whose `old` is then 0;
the last crossing's checkpoint is the frame's own. From then on the old origin is closed here: its receipts are `origin-closed`, whoever signs them.

A frame of another origin without a crossing is answered with what is remembered, `{"stale": SIZE, "origin": ORIGIN}`, as a stale proof is. A crossing
that does not hold is `log-fork`, with all its notes kept.

Where no crossing can be shown (after a loss of more than anybody kept, or with a stolen key, which proves nothing) a person decides: files installed
for another origin, `log-policy` with its key and `checkpoint` with one of its checkpoints, both at once, are that person's word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gatekeeper.model.moment import Moment
from gatekeeper.model.verified import Refusal
from gatekeeper.tlog.checkpoint import Checkpoint, open_checkpoint
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.note import parse_note
from gatekeeper.tlog.origins import Crossed, parse_crossings, policy_under, verify_crossing

from .state import MAX_CLOSED, ClosedOrigin, Memory
from .target import Pinned


@dataclass(frozen=True)
class Fork(Refusal):
    """Two signed notes of one log that contradict each other, or that were not shown to agree: kept as evidence."""

    notes: tuple[bytes, ...]


@dataclass(frozen=True)
class Standing:
    """What the next frame must carry on from: the policy of the origin that is followed, and the checkpoint remembered with its note."""

    policy: LogPolicy
    known: tuple[Checkpoint, bytes] | None
    left: tuple[ClosedOrigin, ...] = ()
    """origins that are left by accepting this frame, oldest first"""

    @property
    def origin(self) -> str:
        """The one that is followed."""
        return self.policy.log.name


def standing(pinned: Pinned, memory: Memory, at: Moment | None = None) -> Standing:
    """Before any frame, with the log keys in force at that time; None: with all that ever were, for what was accepted long ago.

    Raises `TlogError` for an installed checkpoint that is not of the installed key.
    """
    policy, known = pinned.policy_at(at), memory.checkpoint
    if known is None:
        return Standing(policy, _installed(pinned))
    remembered = (Checkpoint(known.origin, known.size, known.root), known.note)
    if known.origin == policy.log.name:
        return Standing(policy, remembered)
    if policy.log.name not in (closed.origin for closed in memory.closed):
        # The files name an origin that was never followed here: a person's word, where they bring its checkpoint too.
        try:
            installed = _installed(pinned)
        except TlogError:
            installed = None
        if installed is not None:
            return Standing(policy, installed, (ClosedOrigin(known.origin, known.note, b""),))
    return Standing(policy_under(policy, known.origin), remembered)


def policies(pinned: Pinned, memory: Memory) -> dict[str, LogPolicy]:
    """By origin, what was believed here once or is now: for what was accepted and is only read again."""
    now = standing(pinned, memory)
    names = [now.origin, *(closed.origin for closed in (*memory.closed, *now.left))]
    return {name: policy_under(now.policy, name) for name in names}


def cross(here: Standing, data: bytes) -> Standing | Fork:
    """Follow the crossings of a frame, one after another; all of them hold or none does. Raises ValueError for bytes that are none."""
    for crossing in parse_crossings(data):
        if here.known is None:
            return Fork("log-fork", "nothing is remembered here that an origin could be left for", ())
        known, note = here.known
        try:
            crossed = verify_crossing(known, here.policy, crossing)
        except TlogError as error:
            notes = (note, *_notes(crossing.growth, crossing.proof))
            return Fork("log-fork", f"the next origin does not carry on from the one remembered: {error}", notes)
        left = ClosedOrigin(known.origin, note, crossed.previous.note)
        here = Standing(crossed.policy, _after(crossed), (*here.left, left))
    return here


def leave(memory: Memory, left: tuple[ClosedOrigin, ...]) -> Memory:
    """The memory after these origins were left; what it knows of components stays of the origin that it was known of."""
    if not left:
        return memory
    components = tuple((name, replace(component, origin=component.origin or left[0].origin)) for name, component in memory.components)
    return replace(memory, components=components, closed=(*memory.closed, *left)[-MAX_CLOSED:])


def is_left(memory: Memory, here: Standing, origin: str) -> bool:
    """Whether this origin was followed once and is not any more."""
    return origin in (closed.origin for closed in (*memory.closed, *here.left))


def _after(crossed: Crossed) -> tuple[Checkpoint, bytes]:
    return crossed.opened.checkpoint, crossed.opened.note


def _installed(pinned: Pinned) -> tuple[Checkpoint, bytes] | None:
    if pinned.first_checkpoint is None:
        return None
    policy = pinned.policy_at(None)
    return open_checkpoint(pinned.first_checkpoint, policy.log, *policy.also).checkpoint, pinned.first_checkpoint


def _notes(*parts: bytes) -> tuple[bytes, ...]:
    """The signed notes behind growth and proof: evidence, as they were sent."""
    found = []
    for part in parts:
        _, blank, note = part.partition(b"\n\n")
        try:
            parse_note(note)
        except TlogError:
            continue
        if blank:
            found.append(note)
    return tuple(found)
