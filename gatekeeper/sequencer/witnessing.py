"""Cosignatures for one checkpoint: every witness of the policy at once, within a second, each from the size that it knows (log format, 8).

What a witness answers is counted only when it verifies. A witness that knows more of our log than we do, or another one, is not outvoted: the
log stops, because either the log was rewound or forked, or the witness lies, and only people can tell which.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from gatekeeper.ports.errors import PortError
from gatekeeper.ports.log import LogRefused
from gatekeeper.ports.witness import Cosignatures, OtherRoot, OtherSize, WitnessAnswer, WitnessBusy, WitnessLink
from gatekeeper.tlog.consistency import Growth, encode_growth
from gatekeeper.tlog.cosignature import verify_cosignature
from gatekeeper.tlog.errors import BadNoteSignature, QuorumNotMet
from gatekeeper.tlog.logpolicy import LogPolicy, Witness
from gatekeeper.tlog.merkle import nodes_for_consistency, prove_consistency
from gatekeeper.tlog.note import Note, NoteSignature, encode_note, parse_note
from gatekeeper.tlog.tile import TileEdge

from .tree import TreeReader

BUDGET_S: Final = 1.0
"""For all witnesses together."""
GRACE_S: Final = 0.1
"""How long the others are waited for once the quorum is met."""
PAUSES_S: Final = (0.01, 0.25, 0.0)
"""After each of three tries at one witness."""
FIRST_REST_S: Final = 0.25
LONGEST_REST_S: Final = 4.0
"""How long a witness that failed is left alone: doubled each time up to this."""
BUSY_REST_S: Final = 5.0
"""And one that asked for a pause without saying how long."""

_logger = logging.getLogger(__name__)


class WitnessAhead(LogRefused):
    """A witness knows a larger size than the checkpoint that was offered. Harmless only where another replica of ours signed that size."""

    def __init__(self, witness: str, size: int) -> None:
        super().__init__("log-refused", f"the witness {witness} knows this log at size {size}: it was rewound or forked, or the witness lies")
        self.size = size


@dataclass(frozen=True)
class WitnessPlan:
    """Which witnesses are asked and what their quorum is, and the way to them."""

    policy: LogPolicy
    link: WitnessLink | None = None


@dataclass(frozen=True)
class Witnessed:
    """How the newest checkpoint stands with its witnesses."""

    quorum_missing: bool = False
    """too few cosigned it yet"""
    published_open: bool = False
    """and it is published all the same"""
    fail_open: bool = False
    """whether that may be"""
    troubles: Mapping[str, str] = field(default_factory=dict)
    """witnesses that gave no cosignature when they were asked last: name, and a stable word"""


@dataclass
class _Remembered:
    """What this replica knows of one witness."""

    size: int = 0
    """the newest that it cosigned or named; 0 before the first contact, and then it says so itself"""
    rest_s: float = 0.0
    rests_until: float = 0.0
    trouble: str = ""


class Witnessing:
    """Asks the witnesses of one plan. Used by one task at a time."""

    def __init__(self, plan: WitnessPlan, reader: TreeReader) -> None:
        self._plan, self._reader = plan, reader
        self.fail_open = False
        """whether a checkpoint is published that too few cosigned; set once the log itself says so"""
        self._known = {witness.name: _Remembered() for witness in plan.policy.witnesses}

    def met(self, note: bytes) -> bool:
        """Whether the quorum cosigned this note."""
        try:
            self._plan.policy.quorum_met(parse_note(note))
        except (QuorumNotMet, BadNoteSignature):
            return False
        return True

    def troubles(self) -> Mapping[str, str]:
        """See `Witnessed.troubles`."""
        return {name: known.trouble for name, known in self._known.items() if known.trouble}

    async def cosign(self, edge: TileEdge, note: bytes) -> bytes:
        """The note of the edge's tree with every cosignature that could be had. Raises `WitnessAhead`, and `LogRefused` for another root."""
        signed = self._without_strangers(parse_note(note))
        asked = [w for w in self._plan.policy.witnesses if w.url is not None and not _has(signed, w) and not self._rests(w)]
        growths = _Growths(self._reader, edge, Note(signed.text, tuple(line for line in signed.signatures if line.name == _origin(signed))))
        lines: list[NoteSignature] = []
        refusals: list[LogRefused] = []
        silent = {witness.name for witness in asked}
        with trio.move_on_after(BUDGET_S) as budget:
            async with trio.open_nursery() as nursery:

                async def one(witness: Witness) -> None:
                    try:
                        lines.append(await self._asked(witness, edge.size, growths))
                    except LogRefused as error:
                        refusals.append(error)
                        nursery.cancel_scope.cancel()
                    except PortError as error:
                        self._rest(witness, error)
                    silent.discard(witness.name)
                    if self.met(encode_note(signed.with_signatures(lines))):
                        budget.deadline = min(budget.deadline, trio.current_time() + GRACE_S)

                for witness in asked:
                    nursery.start_soon(one, witness)
        if refusals:
            raise refusals[0]
        for witness in asked:
            if witness.name in silent:
                self._rest(witness, PortError("slow"))
        return encode_note(signed.with_signatures(lines))

    async def _asked(self, witness: Witness, size: int, growths: _Growths) -> NoteSignature:
        known = self._known[witness.name]
        for pause in PAUSES_S:
            old = min(known.size, size)
            answer = await self._ask(witness, await growths.since(old))
            match answer:
                case Cosignatures():
                    line = _verified(witness, growths.note, answer.lines)
                    known.size, known.rest_s, known.trouble = size, 0.0, ""
                    return line
                case OtherRoot():
                    raise LogRefused("log-refused", _other_root(witness, size))
                case OtherSize():
                    if answer.size > size:
                        raise WitnessAhead(witness.name, answer.size)
                    if answer.size == old == size:
                        raise LogRefused("log-refused", _other_root(witness, size))
                    if answer.size < known.size:
                        _logger.warning("the witness %s has forgotten: it knew size %d, and knows %d", witness.name, known.size, answer.size)
                    known.size = answer.size
            await trio.sleep(pause)
        raise PortError("witness-undecided", "the witness names one size after the other")

    async def _ask(self, witness: Witness, body: bytes) -> WitnessAnswer:
        if self._plan.link is None or witness.url is None:
            raise PortError("witness-unreachable", "the log policy names no address for it")
        return await self._plan.link.add_checkpoint(witness.url, body)

    def _rests(self, witness: Witness) -> bool:
        return trio.current_time() < self._known[witness.name].rests_until

    def _rest(self, witness: Witness, error: PortError) -> None:
        known = self._known[witness.name]
        if isinstance(error, WitnessBusy):
            known.rest_s = BUSY_REST_S if error.retry_after_s is None else error.retry_after_s
        else:
            known.rest_s = min(max(FIRST_REST_S, 2 * known.rest_s), LONGEST_REST_S)
        known.rests_until = trio.current_time() + known.rest_s
        if known.trouble != error.cause_code:
            _logger.warning("the witness %s does not cosign (%s)", witness.name, error.cause_code)
        known.trouble = error.cause_code

    def _without_strangers(self, note: Note) -> Note:
        """The note with the log's lines and what verifies of its witnesses: a stored line may be by a witness of another time, or spoilt."""
        kept = []
        for line in note.signatures:
            witness = next((w for w in self._plan.policy.witnesses if line.by(w.key)), None)
            if line.name == _origin(note) or (witness is not None and _verifies(witness, note, line)):
                kept.append(line)
        return Note(note.text, tuple(kept))


class _Growths:
    """The bodies for one checkpoint; witnesses that know the same size share a consistency proof."""

    def __init__(self, reader: TreeReader, edge: TileEdge, note: Note) -> None:
        self._reader, self._edge, self.note = reader, edge, note
        self._bodies: dict[int, bytes] = {}

    async def since(self, old: int) -> bytes:
        if old not in self._bodies:
            path: Sequence[bytes] = ()
            if 0 < old < self._edge.size:
                nodes = await self._reader.nodes(self._edge, nodes_for_consistency(old, self._edge.size))
                path = prove_consistency(old, self._edge.size, lambda level, n: nodes[level, n])
            self._bodies[old] = encode_growth(Growth(old, tuple(path), encode_note(self.note)))
        return self._bodies[old]


def _verified(witness: Witness, note: Note, lines: Sequence[NoteSignature]) -> NoteSignature:
    for line in lines:
        if _verifies(witness, note, line):
            return line
    raise PortError("witness-signature", "nothing in the witness's answer verifies under its key")


def _verifies(witness: Witness, note: Note, line: NoteSignature) -> bool:
    try:
        verify_cosignature(witness.key, note.text, line)
    except BadNoteSignature:
        return False
    return True


def _has(note: Note, witness: Witness) -> bool:
    return any(line.by(witness.key) for line in note.signatures)


def _origin(note: Note) -> str:
    return note.text.partition(b"\n")[0].decode()


def _other_root(witness: Witness, size: int) -> str:
    return f"the witness {witness.name} knows another tree than ours at size {size}: the log was forked, or the witness lies"
