"""The log's `key` entries with the proofs that let a verifier follow them: what `/log/keys` serves and a frame's part `keys` holds.

    {"v": 1, "checkpoint": "<signed note>", "keys": [
        {"entry": "<base64>", "endorsement": "<base64>", "proof": "<.tlog-proof>", "growth": ["<base64 hash>", ...]}, ...]}

* `keys` stand in the order of the log, at most 64; the whole document has at most 256 KiB and one spelling (RFC 8785).
* `endorsement` is the replaced key's own signature of the entry (`keyring.endorsement_text`): 64 bytes of Ed25519, or DER of ECDSA.
* `proof` leads to a checkpoint that was signed while the entry's old key still signed: whoever knows only that key can check it.
* `growth` is the consistency path (RFC 6962 2.1.2) from that checkpoint to the document's own, so that no entry comes from a fork.
* `checkpoint` is opened last, with the keys that were followed: a document whose own checkpoint nobody trusted signed teaches nothing.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import Moment
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .checkpoint import Checkpoint, VerifiedCheckpoint, parse_checkpoint
from .entry import parse_entry
from .errors import HistoryForked, MalformedHistory, ProofMismatch
from .keyring import Keyring, Unfollowed, advance, is_endorsed
from .kinds import KeyEntry
from .logpolicy import LogPolicy, open_cosigned
from .merkle import MAX_PATH, verify_consistency
from .note import MAX_NOTE, parse_note
from .proof import TlogProof, encode_proof, parse_proof, verify_proof
from .spelling import parse_base64, parse_hash

MAX_HISTORY: Final = 256 * 1024
MAX_CHANGES: Final = 64
MAX_ENTRY: Final = 4096
"""Bytes of one `key` entry, as far as it is followed."""


@dataclass(frozen=True)
class ShownChange:
    """A `key` entry as it is shown: nothing is checked but its form."""

    entry: bytes
    endorsement: bytes
    proof: TlogProof
    growth: tuple[bytes, ...]


@dataclass(frozen=True)
class KeyHistory:
    """The document; `checkpoint` is a signed note."""

    checkpoint: bytes
    changes: tuple[ShownChange, ...]


@dataclass(frozen=True)
class Followed:
    """The ring after a history, and the entries that changed nothing, by index."""

    keys: Keyring
    unfollowed: tuple[tuple[int, Unfollowed], ...]


def encode_history(history: KeyHistory) -> bytes:
    """The document's bytes; raises `MalformedHistory` for what `parse_history` would refuse."""
    data = encode_canonical(
        {
            "v": 1,
            "checkpoint": history.checkpoint.decode("utf-8"),
            "keys": [
                {
                    "entry": base64.b64encode(change.entry).decode("ascii"),
                    "endorsement": base64.b64encode(change.endorsement).decode("ascii"),
                    "proof": encode_proof(change.proof).decode("utf-8"),
                    "growth": [base64.b64encode(item).decode("ascii") for item in change.growth],
                }
                for change in history.changes
            ],
        }
    )
    _read(data)
    return data


def parse_history(data: bytes) -> KeyHistory:
    """Read a document; raises `MalformedHistory`, or `MalformedProof`, `MalformedNote` or `MalformedCheckpoint` for what stands in it."""
    history = _read(data)
    if encode_history(history) != data:
        raise MalformedHistory("the key history is not in its one spelling (RFC 8785)")
    return history


def follow_history(keys: Keyring, policy: LogPolicy, history: KeyHistory, *, at: Moment) -> Followed:
    """Follow every entry that may be, each proven under a key trusted before it; the document's own checkpoint is not opened here.

    `policy` is the installed one. An entry that changes nothing is passed over with its reason: a forged row that got into the log must not
    keep anybody from the honest entries. A proof that does not hold raises its `TlogError`.
    """
    newest = parse_checkpoint(parse_note(history.checkpoint).text)
    unfollowed = []
    for change in history.changes:
        entry = parse_entry(change.entry)
        if not isinstance(entry, KeyEntry) or entry.origin != policy.log.name:
            raise ProofMismatch(f"entry {change.proof.index} of the key history is no key entry of this log")
        after = advance(keys, entry, at=at)
        if not isinstance(after, Unfollowed) and not is_endorsed(entry, change.entry, change.endorsement):
            after = Unfollowed.UNENDORSED
        if isinstance(after, Unfollowed):
            unfollowed.append((change.proof.index, after))
            continue
        # Dated by the entry itself: a backdated one would have to stand in the tree that a key in force signs in the end.
        proven = verify_proof(change.proof, change.entry, keys.policy(policy, entry.at)).checkpoint
        _check_growth(proven, newest, change.growth)
        keys = after
    return Followed(keys, tuple(unfollowed))


def open_followed(note: bytes, keys: Keyring, policy: LogPolicy, history: KeyHistory | None, *, at: Moment) -> tuple[VerifiedCheckpoint, Followed]:
    """Follow a history whose own checkpoint holds under the keys followed, then open the note with the keys in force at `at`.

    Raises the `TlogError` of the first thing that does not hold. Whether the note's tree is the history's is a question of consistency,
    as between any two checkpoints.
    """
    followed = Followed(keys, ())
    if history is not None:
        followed = follow_history(keys, policy, history, at=at)
        open_cosigned(history.checkpoint, followed.keys.policy(policy, at))
    return open_cosigned(note, followed.keys.policy(policy, at)), followed


def _check_growth(proven: VerifiedCheckpoint, newest: Checkpoint, path: tuple[bytes, ...]) -> None:
    if proven.origin != newest.origin or proven.size > newest.size:
        raise ProofMismatch("a key entry is proven in another log than the history's checkpoint, or in a larger tree")
    try:
        verify_consistency(proven.size, proven.root, newest.size, newest.root, path)
    except ProofMismatch as error:
        raise HistoryForked(str(error), proven.note) from None


def _read(data: bytes) -> KeyHistory:
    try:
        fields = Fields(parse_object(data, max_bytes=MAX_HISTORY, max_depth=4))
        fields.integer("v", minimum=1, maximum=1)
        note = _bytes(fields, "checkpoint", MAX_NOTE)
        changes = tuple(_change(item) for item in fields.objects("keys", max_items=MAX_CHANGES))
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedHistory(str(error)) from error
    parse_checkpoint(parse_note(note).text)
    indices = [change.proof.index for change in changes]
    if indices != sorted(set(indices)):
        raise MalformedHistory("the key entries do not stand in the order of the log")
    return KeyHistory(note, changes)


def _change(fields: Fields) -> ShownChange:
    entry = parse_base64(fields.text("entry", max_length=2 * MAX_ENTRY).encode("utf-8"))
    endorsement = parse_base64(fields.text("endorsement").encode("utf-8"))
    growth = [parse_hash(text.encode("utf-8")) for text in fields.texts("growth", max_items=MAX_PATH)]
    path = tuple(item for item in growth if item is not None)
    if entry is None or endorsement is None or len(entry) > MAX_ENTRY or len(path) != len(growth):
        raise fields.error("entry", "endorsement or a hash of growth is not base64 in its one spelling, or over its bound")
    change = ShownChange(entry, endorsement, parse_proof(_bytes(fields, "proof", MAX_HISTORY)), path)
    fields.done()
    return change


def _bytes(fields: Fields, key: str, limit: int) -> bytes:
    # Notes and proofs have lines; everything else about them is checked by their own readers.
    value = fields.raw(key)
    if not isinstance(value, str) or len(value) > limit:
        raise fields.error(key, f"must be a text of at most {limit} characters")
    return value.encode("utf-8")
