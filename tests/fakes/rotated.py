"""A log whose keys are rotated as a test wants it: who signs, which `key` entries stand in it, and the history that is served of them."""

from __future__ import annotations

import base64
import secrets
from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper.model.moment import Moment
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint
from gatekeeper.tlog.entry import encode_entry
from gatekeeper.tlog.keyhistory import KeyHistory, ShownChange, encode_history
from gatekeeper.tlog.keyring import endorsement_text
from gatekeeper.tlog.kinds import KeyEntry, KeyUse
from gatekeeper.tlog.merkle import prove_consistency, prove_inclusion
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note, encode_vkey
from gatekeeper.tlog.proof import TlogProof
from tests.fakes.frames import ORIGIN, MemoryLog, now

TWO_PEOPLE = ("p:" + "1" * 32, "p:" + "2" * 32)


def vkey_of(key: Ed25519PrivateKey):
    return ed25519_vkey(ORIGIN, key.public_key().public_bytes_raw())


def spki_of(key: ec.EllipticCurvePrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def key_entry(use: KeyUse, old: str, new: str, *, since: Moment, until: Moment, **changes) -> KeyEntry:
    entry = KeyEntry(
        entry_id=secrets.token_hex(16), origin=ORIGIN, at=since, config=None, who=TWO_PEOPLE, use=use, old=old, new=new, since=since, until=until
    )
    return replace(entry, **changes)


def endorse(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, body: bytes) -> bytes:
    text = endorsement_text(ORIGIN, body)
    return key.sign(text) if isinstance(key, Ed25519PrivateKey) else key.sign(text, ec.ECDSA(hashes.SHA256()))


class RotatedLog(MemoryLog):
    """`signers` sign every note from now on; `changes` is what the history shows, each with the size of the tree it is proven in."""

    def __init__(self, key: Ed25519PrivateKey | None = None) -> None:
        super().__init__(key)
        self.signers = [self.key]
        self.changes: list[tuple[int, bytes, int, bytes]] = []

    def fork(self) -> RotatedLog:
        fork = RotatedLog(self.key)
        fork.signers, fork.changes, fork.entries = list(self.signers), list(self.changes), list(self.entries)
        return fork

    def note(self, size: int | None = None) -> bytes:
        size = len(self.entries) if size is None else size
        text = encode_checkpoint(Checkpoint(ORIGIN, size, self.root(size)))
        lines = tuple(NoteSignature(vkey_of(key).name, vkey_of(key).key_id, key.sign(text)) for key in self.signers)
        return encode_note(Note(text, lines))

    def log_entry(self, entry: KeyEntry | bytes, key) -> int:
        """Append a `key` entry endorsed by that key, and keep the checkpoint that first covers it, as whoever signs now signs it."""
        body = entry if isinstance(entry, bytes) else encode_entry(entry)
        index = self.append(body)
        self.changes.append((index, endorse(key, body), len(self.entries), self.note()))
        return index

    def rotate(self, new: Ed25519PrivateKey, *, since: Moment | None = None, until: Moment | None = None) -> KeyEntry:
        """The log key is followed by another: from now on both sign."""
        since = since or now()
        entry = key_entry(
            KeyUse.LOG, encode_vkey(vkey_of(self.signers[-1])), encode_vkey(vkey_of(new)), since=since, until=until or Moment(since + timedelta(days=7))
        )
        self.log_entry(entry, self.signers[-1])
        self.signers = [self.signers[-1], new]
        return entry

    def shown(self, place: int, size: int | None = None) -> ShownChange:
        size = len(self.entries) if size is None else size
        index, endorsement, under, note = self.changes[place]
        growth = tuple(prove_consistency(under, size, self._node)) if under < size else ()
        return ShownChange(self.entries[index], endorsement, TlogProof(index, tuple(prove_inclusion(index, under, self._node)), note), growth)

    def history(self) -> KeyHistory:
        return KeyHistory(self.note(), tuple(self.shown(place) for place in range(len(self.changes))))

    def history_bytes(self) -> bytes:
        return encode_history(self.history())
