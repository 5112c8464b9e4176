"""What a witness answers: `add-checkpoint` and monitoring of C2SP tlog-witness, with the statuses of our log format, 1.6.

Checked and stored in one transaction, on the disk before a cosignature leaves. A log that contradicts itself, and a log that shows us a
cosignature of ours which we do not remember, is cosigned no more: `stopped`, with the notes as evidence.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gatekeeper.tlog.checkpoint import Checkpoint, VerifiedCheckpoint, open_checkpoint
from gatekeeper.tlog.consistency import Growth, parse_growth, verify_growth
from gatekeeper.tlog.cosignature import verify_cosignature
from gatekeeper.tlog.errors import BadNoteSignature, MalformedCheckpoint, ProofMismatch, TlogError, UnknownLog
from gatekeeper.tlog.note import Note, NoteSignature, encode_note, parse_note, verify_note

from .keys import WitnessKey
from .store import Cosigned, Known, Stop, Store

TEXT: Final = "text/plain; charset=utf-8"
TLOG_SIZE: Final = "text/x.tlog.size"
SPLIT_VIEW: Final = "two notes of one size, both signed by the log's key, have two roots"
REWOUND: Final = "a checkpoint bears our own cosignature, and we do not remember it: this witness was rewound, or its key is used elsewhere"

_MONITORED: Final = re.compile(r"/([0-9a-f]{64})/checkpoint")
_logger = logging.getLogger("pingee-witness")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = TEXT


class Witness:
    """One witness. `clock` gives POSIX seconds."""

    def __init__(self, store: Store, key: WitnessKey, clock: Callable[[], int]) -> None:
        self._store, self._key, self._clock = store, key, clock

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Any request. What the disk refuses is 503, and no cosignature has left."""
        try:
            if path == "/add-checkpoint":
                return self.add_checkpoint(body) if method == "POST" else _said(405, "POST alone")
            if (asked := _MONITORED.fullmatch(path)) is not None:
                return self.checkpoint(asked[1]) if method == "GET" else _said(405, "GET alone")
        except sqlite3.Error as error:
            _logger.warning("nothing was cosigned: the store: %s", error)
            return _said(503, "the witness's store cannot be read or written")
        return _said(404, "not found")

    def checkpoint(self, origin_hash: str) -> Answer:
        """The newest note that we cosigned of the log whose origin has that sha256, in hex; 404 where there is none."""
        for origin in self._store.origins():
            if hashlib.sha256(origin.encode()).hexdigest() == origin_hash and (newest := self._store.known(origin).newest) is not None:
                return Answer(200, newest.note)
        return _said(404, "no checkpoint of such a log was cosigned here")

    def add_checkpoint(self, body: bytes) -> Answer:
        """See C2SP tlog-witness. 200 has our line; 409 the size that we know."""
        try:
            growth = parse_growth(body)
        except MalformedCheckpoint as error:
            return _said(422 if _empty_tree_with_entries(body) else 400, str(error))
        except TlogError as error:
            return _said(400, str(error))
        note = parse_note(growth.checkpoint)
        origin = note.text.partition(b"\n")[0].decode()
        with self._store.change():
            known = self._store.known(origin)
            if not known.keys:
                return _said(404, "this log is not witnessed here")
            try:
                opened = open_checkpoint(growth.checkpoint, verify_note(note, known.keys)[0])
            except (BadNoteSignature, UnknownLog) as error:
                return _said(403, str(error))
            return self._decided(known, growth, opened, note)

    def _decided(self, known: Known, growth: Growth, opened: VerifiedCheckpoint, note: Note) -> Answer:
        stop = known.stop or self._contradiction(known, opened, note)
        if stop is not None:
            if known.stop is None:
                self._store.stop(known.origin, stop)
                _logger.critical("%s is cosigned no more: %s", known.origin, stop.why)
            # The log's own fault is a proof that fails (422); ours is not the log's.
            return _said(422 if stop.remembered is not None else 503, f"cosigned here no more: {stop.why}")
        newest = known.newest
        size = 0 if newest is None else newest.checkpoint.size
        if growth.old > opened.size:
            return _said(400, "the old size is above the checkpoint's")
        if growth.old != size:
            return Answer(409, b"%d\n" % size, TLOG_SIZE)
        try:
            verify_growth(None if newest is None else newest.checkpoint, growth, opened)
        except ProofMismatch as error:
            return _said(422, str(error))
        return self._cosigned(known, opened.checkpoint, note)

    def _cosigned(self, known: Known, checkpoint: Checkpoint, note: Note) -> Answer:
        now, newest = self._clock(), known.newest
        line = self._key.cosign(note.text, now)
        # Whoever has a public note may send it for ever: the disk is written once a second at most (Ed25519 gives the same line again).
        if newest is None or newest.checkpoint != checkpoint or newest.at != now:
            lines = tuple(signature for signature in note.signatures if any(signature.by(key) for key in known.keys))
            self._store.remember(Cosigned(checkpoint, now, encode_note(Note(note.text, (*lines, line)))))
        return Answer(200, line.line())

    def _contradiction(self, known: Known, opened: VerifiedCheckpoint, note: Note) -> Stop | None:
        before = self._store.cosigned_at(known.origin, opened.size)
        if before is not None and before.checkpoint != opened.checkpoint:
            return Stop(SPLIT_VIEW, self._clock(), before.note, opened.note)
        ours = [signature for signature in note.signatures if self._is_ours(note.text, signature)]
        if ours and (known.newest is None or opened.size > known.newest.checkpoint.size):
            return Stop(REWOUND, self._clock(), None, opened.note)
        return None

    def _is_ours(self, text: bytes, signature: NoteSignature) -> bool:
        try:
            verify_cosignature(self._key.vkey, text, signature)
        except TlogError:
            return False
        return True


def _said(status: int, sentence: str) -> Answer:
    return Answer(status, sentence.encode() + b"\n")


def _empty_tree_with_entries(body: bytes) -> bool:
    """Whether all that is wrong with the checkpoint is that its tree of size 0 has a root of entries: that is 422, and not 400."""
    lines = body.partition(b"\n\n")[2].split(b"\n")
    return len(lines) > 3 and lines[1] == b"0" and re.fullmatch(rb"[A-Za-z0-9+/]{43}=", lines[2]) is not None and lines[3] == b""
