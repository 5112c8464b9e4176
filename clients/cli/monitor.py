"""`pingee log monitor`: look at a log again and again, remember what it showed, and say when it contradicts itself."""

from __future__ import annotations

import time
from argparse import Namespace
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gatekeeper.logcheck import report as words
from gatekeeper.logcheck.ids import SpillingIds
from gatekeeper.model.moment import Moment, moment, render_moment
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint, open_checkpoint
from gatekeeper.tlog.cosignature import verify_cosignature
from gatekeeper.tlog.errors import BadNoteSignature, QuorumNotMet, TlogError
from gatekeeper.tlog.fsck import Fault, Fetch, FsckReport, check_growth, drive, fsck
from gatekeeper.tlog.merkle import nodes_for_consistency, prove_consistency, verify_consistency
from gatekeeper.tlog.note import parse_note
from gatekeeper.tlog.tile import TileAddress, node_from_tile, tile_of_node

from .exits import Exit, Failure
from .fsck import print_line
from .logkeys import LogKeys
from .logsource import LogSource, ServedLog, ahead, open_source, trusted
from .monitorstate import MonitorState, Seen, open_state
from .output import print_json, safe, say
from .server import Access

STREAM: Final = {"kind": "Stream", "apiVersion": "pingee/v1"}
WITHHELD: Final = "withheld"
STALE_LOOKS: Final = 2
STALE_S: Final = 3.0
"""Checkpoints are cached for five seconds (log format, 7)."""
_MISSING: Final = frozenset({Fault.BUNDLE_MISSING, Fault.TILE_MISSING})
_KEEP: Final = (
    "Both notes are signed by the log and are kept in {place}. Send them to the other readers of this log and to its witnesses, and ask its "
    "operator; trust no newer entry until it is explained. Then move the directory away: until that, every look ends with 3"
)


@dataclass(frozen=True)
class Look:
    """One look at the log. `alarm` is None where all is well; `age_s` where no witness of the policy dates the checkpoint."""

    origin: str
    size: int
    grown: int
    first_look: str
    age_s: int | None
    alarm: str | None = None
    detail: str | None = None
    kept: str | None = None


def monitor(arguments: Namespace, access: Access) -> Exit:
    """Look once, or every so many seconds until the log contradicts itself; exit 3 where something is wrong."""
    if arguments.output == "jsonl":
        print_line(STREAM)
    with open_state(Path(arguments.state)) as state:
        return _watch(arguments, access, state)


def _watch(arguments: Namespace, access: Access, state: MonitorState) -> Exit:
    while True:
        try:
            with open_source(arguments.source, access) as source:
                look = _Looking(source, trusted(arguments, source), state, arguments).look(moment(datetime.now(UTC)))
        except Failure as failure:
            if arguments.every is None or failure.exit_code is not Exit.REMOTE:
                raise
            say(f"pingee: {failure}")
        else:
            _tell(look, arguments.output)
            if arguments.every is None or look.kept is not None:
                return Exit.OK if look.alarm is None else Exit.DENIED
        arguments.first_look = False
        time.sleep(arguments.every)


class _Looking:
    def __init__(self, source: LogSource, keys: LogKeys, state: MonitorState, arguments: Namespace) -> None:
        self._source, self._keys, self._policy, self._state = source, keys, keys.now, state
        self._rehash, self._max_age, self._first = not arguments.no_rehash, arguments.max_age, arguments.first_look

    def look(self, now: Moment) -> Look:
        seen = self._seen()
        ever = self._keys.ever
        held = None if seen is None else self._state.opened(seen, ever.log, *ever.also)
        shown = self._shown_anew(held)
        at = render_moment(now)
        first = at if seen is None else seen.first_look
        base = Look(shown.origin, shown.size, shown.size - (held.size if held else 0), first, self._age(shown, now))
        if (wrong := self._contradiction(held, shown)) is not None:
            return self._alarm(base, held, shown, wrong, now)
        self._state.write(Seen(shown.note.decode("utf-8"), first, at))
        if kept := self._state.contradictions():
            detail = f"{kept[0]} holds an earlier contradiction. {_KEEP.format(place=kept[0])}"
            return _with(base, "contradiction", detail, kept[0])
        return self._weighed(base, shown)

    def _seen(self) -> Seen | None:
        seen = self._state.read()
        if seen is None and not self._first:
            raise Failure(Exit.USAGE, "this monitor has seen nothing yet: give --first-look, once; what the log showed before cannot be told")
        if seen is not None and self._first:
            raise Failure(Exit.USAGE, f"this monitor has looked before (first {seen.first_look}): --first-look would forget it")
        return seen

    def _shown_anew(self, held: VerifiedCheckpoint | None) -> VerifiedCheckpoint:
        """What the log shows. A cache may show an older checkpoint for a few seconds: it is given that time before it counts as a rewind."""
        shown = self._shown()
        for _ in range(STALE_LOOKS if isinstance(self._source, ServedLog) else 0):
            if held is None or shown.size >= held.size:
                break
            time.sleep(STALE_S)
            shown = self._shown()
        return shown

    def _shown(self) -> VerifiedCheckpoint:
        note = self._source.checkpoint()
        if note is None:
            raise Failure(Exit.REMOTE if isinstance(self._source, ServedLog) else Exit.USAGE, f"{self._source.name} has no checkpoint")
        try:
            return open_checkpoint(note, self._policy.log, *self._policy.also)
        except TlogError as error:
            raise Failure(Exit.DENIED, f"forged: what is served as checkpoint is not signed by the log's key: {error}") from None

    def _contradiction(self, held: VerifiedCheckpoint | None, shown: VerifiedCheckpoint) -> tuple[str, str] | None:
        """What is wrong between the two notes, or in what came between them."""
        if held is not None and shown.size < held.size:
            return "rewound", f"the log shows {shown.size} entries and has shown {held.size} before"
        if held is not None and shown.size == held.size:
            return None if shown.root == held.root else ("split-view", f"the log has signed two roots of size {shown.size}")
        try:
            if held is not None and held.size and (detail := _inconsistent(held, shown, self._source.fetch)) is not None:
                return "inconsistent", detail
        except _Withheld as withheld:
            return WITHHELD, f"{withheld} is missing, and the checkpoint covers it"
        fault = self._rehashed(held, shown).fault if self._rehash else None
        if fault is None:
            return None
        return WITHHELD if fault.fault in _MISSING else "not-sound", f"{words.place(fault)}: {fault.fault.value}: {fault.detail}"

    def _rehashed(self, held: VerifiedCheckpoint | None, shown: VerifiedCheckpoint) -> FsckReport:
        if held is None:
            with ahead(self._source, shown.size) as fetch, SpillingIds() as ids:
                return fsck(shown, fetch, ids=ids)
        return drive(check_growth(shown, held), self._source.fetch)

    def _alarm(self, base: Look, held: VerifiedCheckpoint | None, shown: VerifiedCheckpoint, wrong: tuple[str, str], now: Moment) -> Look:
        alarm, detail = wrong
        # What is missing may come with the next look (replicas differ for a moment): no evidence of anything, but nothing to go on from either.
        if held is None or alarm == WITHHELD:
            return _with(base, alarm, detail, None)
        place = self._state.keep(held.note, shown.note, f"{alarm}: {detail}", now)
        return _with(base, alarm, f"{detail}. {_KEEP.format(place=place)}", place)

    def _weighed(self, base: Look, shown: VerifiedCheckpoint) -> Look:
        """What is wrong with the newest note alone: too few witnesses, or too old."""
        try:
            self._policy.quorum_met(parse_note(shown.note))
        except TlogError as error:
            alarm = "quorum" if isinstance(error, QuorumNotMet) else "bad-cosignature"
            return _with(base, alarm, str(error), None)
        if base.age_s is not None and base.age_s > self._max_age:
            return _with(base, "old", f"the witnesses dated the checkpoint {base.age_s} s ago; more than {self._max_age:.0f} is too old", None)
        return base

    def _age(self, shown: VerifiedCheckpoint, now: Moment) -> int | None:
        note = parse_note(shown.note)
        times = []
        for witness in self._policy.witnesses:
            for line in note.signatures:
                with suppress(BadNoteSignature):
                    times.append(verify_cosignature(witness.key, note.text, line))
        return max(0, int(now.timestamp()) - max(times)) if times else None


class _Withheld(Exception):
    pass


def _inconsistent(held: VerifiedCheckpoint, shown: VerifiedCheckpoint, fetch: Fetch) -> str | None:
    """Why the one is no prefix of the other as far as the tiles tell, from a proof made of tiles that are hashed here."""
    try:
        found = {node: _node(node, shown.size, fetch) for node in nodes_for_consistency(held.size, shown.size)}
        path = prove_consistency(held.size, shown.size, lambda level, n: found[level, n])
        verify_consistency(held.size, held.root, shown.size, shown.root, path)
    except TlogError as error:
        return f"the {held.size} entries shown before are not shown to be the beginning of these {shown.size}: {error}"
    return None


def _node(node: tuple[int, int], size: int, fetch: Fetch) -> bytes:
    address = tile_of_node(*node, size)
    data = fetch(address)
    if data is None:
        # The partial tile may be gone once the full one exists (tlog-tiles).
        data = fetch(TileAddress(address.level, address.n))
    if data is None:
        raise _Withheld(address.path)
    return node_from_tile(data, *node)


def _with(look: Look, alarm: str, detail: str, kept: Path | None) -> Look:
    return replace(look, alarm=alarm, detail=detail, kept=None if kept is None else str(kept))


def _tell(look: Look, output: str) -> None:
    if output == "jsonl":
        print_line({"kind": "Look", **asdict(look)})
    elif output == "json":
        print_json(asdict(look))
    elif look.alarm is not None:
        print(safe(f"ALARM {look.alarm}: {look.detail}"))
    else:
        age = "no witness dates it" if look.age_s is None else f"dated {look.age_s} s ago"
        print(safe(f"{look.origin}: {look.size} entries, {look.grown} of them new, consistent with what was shown since {look.first_look}; {age}"))
