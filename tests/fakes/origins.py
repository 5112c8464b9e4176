"""Logs in memory under any origin, and crossings between them, right or wrong."""

from __future__ import annotations

import base64
import secrets
from dataclasses import replace

from gatekeeper.model.moment import parse_moment
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint, open_checkpoint
from gatekeeper.tlog.entry import encode_entry
from gatekeeper.tlog.kinds import Cause, Head, OriginEntry
from gatekeeper.tlog.merkle import EMPTY_ROOT
from gatekeeper.tlog.note import Note, NoteSignature, encode_note
from gatekeeper.tlog.origins import Crossing, next_origin
from gatekeeper.tlog.signature import ed25519_vkey
from tests.fakes.frames import ORIGIN, MemoryLog

AT = parse_moment("2026-11-21T10:00:00Z")


class OriginLog(MemoryLog):
    """A `MemoryLog` whose notes are of another origin; `signed_as` may name a wrong one."""

    def __init__(self, origin, key, *, signed_as=None):
        super().__init__(key)
        self.origin = origin
        self.vkey = ed25519_vkey(signed_as or origin, key.public_key().public_bytes_raw())

    def note(self, size=None):
        size = len(self.entries) if size is None else size
        text = encode_checkpoint(Checkpoint(self.origin, size, self.root(size)))
        return encode_note(Note(text, (NoteSignature(self.vkey.name, self.vkey.key_id, self.key.sign(text)),)))


def opening_after(note, origin, **changes):
    """Entry 0 of an origin that follows the one of this note."""
    head = Head(0, base64.b64encode(EMPTY_ROOT).decode())
    entry = OriginEntry(
        entry_id=secrets.token_hex(16),
        origin=origin,
        at=AT,
        config=None,
        cause=Cause.LOSS,
        previous=note.decode(),
        heads=(head, head),
        sealed_slots=4,
        tick=0,
        who=("p:" + "0" * 32, "p:" + "1" * 32),
        reason=base64.b64encode(bytes(32)).decode(),
    )
    return replace(entry, **changes)


def crossing_of(old, remembered, *, closing=None, key=None, at=0, signed_as=None, entry_changes=None, origin=ORIGIN):
    """From `remembered` entries of `old` to its note of `closing` entries, and into a next origin of three entries."""
    note = old.note(closing)
    entry = encode_entry(replace(opening_after(note, next_origin(origin)), **(entry_changes or {})))
    new = OriginLog((entry_changes or {}).get("origin", next_origin(origin)), key or old.key, signed_as=signed_as)
    for number in range(3):
        new.append(entry if number == at else secrets.token_bytes(9))
    assert open_checkpoint(note, old.vkey)
    return Crossing(entry, old.growth(remembered, closing), new.proof(at))
