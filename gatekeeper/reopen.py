"""`pingee-gatekeeper log reopen`: close an origin that can sign no more, and open the next one, as two people ordered.

When the database was restored from a backup, the vault's head is ahead of it, and a log that signed on would contradict what it signed before. It
refuses to start. What was lost cannot be had back, but it can be said: the next origin's entry 0 holds the last signed note known, what database and
vault knew, who ordered it and, hidden, why. Then the gatekeeper runs on under the new name, and every verifier sees that, and where, it began anew.

The second lock goes over with it. There is one record in the vault, and no origin but the one whose note stands in it can sign: a replica whose
settings name another one refuses. Only this command moves the record from one origin to the next, under `cas` from the version that it read, after
entry 0 is durable; its first note is of entry 0 alone. So the vault's own history of versions shows the old origin's last note and then the new
one's first, whose tree holds the old note: the chain of heads is unbroken.

Each step may be repeated, with the same order or with a new one by the same two people for the same reason, after whatever cut it short:

1. what was ordered is stored, with the salt of the hidden reason and the lost tree's partial tiles as the vault kept them;
2. entry 0 is appended, under an id that follows from the origin: a second run finds it;
3. its checkpoint is signed, verified and stored; a second run takes the stored one;
4. the vault's record is written. Until then the old origin holds the lock, and neither origin starts.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from gatekeeper.adapters.vault_decide import VaultDecide
from gatekeeper.adapters.vault_log import VaultLog
from gatekeeper.deploy.people import find_pseudonym
from gatekeeper.exits import Exit, Failure
from gatekeeper.model.digest import Digest
from gatekeeper.model.moment import moment
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.document import Person, Policy
from gatekeeper.ports.log import HeadMoved, LogRefused, LogStore, NewEntry, OutcomeUnknown
from gatekeeper.ports.origins import OpeningRecord, OriginStore
from gatekeeper.ports.records import PeopleStore
from gatekeeper.ports.vault import CasMismatch, DecideVault, HeadRecord, LogVault
from gatekeeper.postgres.database import open_database
from gatekeeper.rotation import log_keys
from gatekeeper.sequencer.origins import demand_startable, demand_tree_of, read_first
from gatekeeper.serve import clock as system_clock
from gatekeeper.serve import open_login
from gatekeeper.settings import Settings, Wrapped
from gatekeeper.tlog.checkpoint import Checkpoint, VerifiedCheckpoint, encode_checkpoint, open_checkpoint
from gatekeeper.tlog.entry import encode_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.kinds import Cause, Head, OriginEntry
from gatekeeper.tlog.merkle import CompactRange, leaf_hash
from gatekeeper.tlog.note import Note, encode_note, parse_vkey
from gatekeeper.tlog.origins import encode_edge, key_under, may_follow, origin_of_note, origin_tail
from gatekeeper.tlog.person import Pseudonym, hidden_text
from gatekeeper.tlog.signature import NoteSignature, VerifierKey
from gatekeeper.tlog.tile import TileEdge
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.order import Asked, OrderAction, SignedLogOrder, verify_log_order

_SALT: Final = 32


@dataclass(frozen=True)
class Reopened:
    """What is open now."""

    key: VerifierKey
    """the log's key under its new name"""
    previous: VerifiedCheckpoint
    """what closed the old origin"""
    lost: int | None
    """entries that were signed and that the database has no more; None where its head does not tell"""
    note: bytes
    """the new origin's first checkpoint"""
    signers: tuple[str, str]


@dataclass(frozen=True)
class Reopening:
    """What the deed needs."""

    instance: str
    key: VerifierKey
    """of the origin that is to be closed"""
    operator_keys: Mapping[str, Sequence[bytes]]
    policy: Policy
    log: Callable[[str], LogStore]
    origins: OriginStore
    people: PeopleStore
    vault: LogVault
    decide: DecideVault
    clock: Callable[[], datetime]
    random: Callable[[int], bytes]
    past: tuple[VerifierKey, ...] = ()
    """keys that signed stored notes of the origin, and sign no more"""

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """Under which a note of the origin may stand."""
        return (self.key, *self.past)


async def run_reopen(settings: Settings, wrapped: Mapping[str, Wrapped], policy: Policy, order: bytes, reason: str, seen: bytes | None) -> Reopened:
    """Reopen the log of these settings. Raises `Failure` where it is refused, and `PortError`."""
    key = parse_vkey(settings.vault.log_vkey)
    if key.name != settings.origin:
        raise Failure(Exit.USAGE, f"/vault/log_key is of the log {key.name}, and /origin is {settings.origin}")
    # Before any login is spent: what the order alone decides.
    believed(order, reason, settings.instance, key, settings.operator_keys, policy, system_clock())
    async with AsyncExitStack() as stack:
        sessions = {}
        for name in ("log", "decide"):
            sessions[name] = await open_login(settings, name, wrapped[name])
            stack.push_async_callback(sessions[name].close)
        database = await stack.enter_async_context(open_database(settings.database_url, clock=system_clock))
        version = settings.vault.key_version
        return await reopen(
            Reopening(
                instance=settings.instance,
                key=key,
                operator_keys=settings.operator_keys,
                policy=policy,
                log=database.log,
                origins=database.origins,
                people=database.people,
                vault=VaultLog(sessions["log"], settings.instance, public_key=key.public, key_version=version),
                decide=VaultDecide(sessions["decide"], settings.instance, public_key_pem=settings.vault.receipt_key, key_version=version),
                clock=system_clock,
                random=os.urandom,
                past=log_keys(settings)[1:],
            ),
            order,
            reason,
            seen,
        )


async def reopen(deed: Reopening, data: bytes, reason: str, seen: bytes | None = None) -> Reopened:
    """Close the origin of `deed.key` and open the one that the order names.

    `seen` is a signed note that somebody else kept (a witness, a doorkeeper, a monitor): where database and vault were both rewound only it tells.
    Raises `Failure` where the order, or the log as it is, does not allow it, and `PortError`; nothing was changed then, or a second run goes on.
    """
    signed, order_id = believed(data, reason, deed.instance, deed.key, deed.operator_keys, deed.policy, deed.clock())
    following = key_under(deed.key, signed.order.parameters["next"])
    record = await deed.vault.read_head()
    if record is not None and _origin_of(record) == following.name:
        return await _already(deed, signed, following, record)
    kept = None if seen is None else _opened(seen, deed.keys, "--seen")
    head, known = await _demand_loss(deed, deed.log(deed.key.name), await _known(deed, record), kept)
    await _demand_new(deed, following.name)
    who = await _pseudonyms(deed, signed)
    opening = await deed.origins.add_opening(
        OpeningRecord(
            origin=following.name,
            previous_origin=deed.key.name,
            order_id=order_id,
            signers=signed.signers,
            envelope=data,
            reason=signed.order.reason,
            salt=deed.random(_SALT),
            closing_edge=record.edge if record is not None and record.edge and record.note == known.note else None,
            opened_at=deed.clock(),
        )
    )
    if (opening.signers, opening.reason) != (signed.signers, signed.order.reason):
        raise _refused("order-scope", f"{following.name} was ordered before by other people, or for another reason: name the next one otherwise")
    heads = _heads(head, record, deed.keys)
    entry = OriginEntry(
        entry_id=_entry_id(deed.key.name, following.name),
        origin=following.name,
        at=moment(opening.opened_at),
        config=deed.policy.commit,
        cause=Cause.LOSS,
        previous=known.note.decode(),
        heads=heads,
        sealed_slots=4,
        tick=0,
        who=who,
        reason=hidden_text(opening.salt, opening.reason),
    )
    new = deed.log(following.name)
    await _append_first(new, entry)
    note = await _first_note(deed, new, following)
    await _move_lock(deed, record, note, new)
    lost = None if head is None else max(known.size - head.size, 0)
    return Reopened(following, known, lost, note, signed.signers)


def believed(
    data: bytes, reason: str, instance: str, key: VerifierKey, operator_keys: Mapping[str, Sequence[bytes]], policy: Policy, at: datetime
) -> tuple[SignedLogOrder, Digest]:
    """The order and its id. Raises `Failure` where it is not two known people's order for this."""
    asked = Asked(OrderAction.REOPEN, instance, key.name, moment(at))
    try:
        checked = verify_log_order(data, policy.revocations.standing_people(operator_keys, asked.at), asked)
    except Malformed as error:
        raise Failure(Exit.USAGE, f"the file is no order about a log: {error}; make one with: pingee log order new reopen") from None
    if isinstance(checked, Refusal):
        raise _refused(checked.reason, checked.detail)
    signed = checked.value
    for name in signed.signers:
        _person(policy, name, operator_keys)
    if signed.order.reason != reason:
        raise _refused("order-scope", "the order was signed for another reason than the one given")
    following = signed.order.parameters["next"]
    if not may_follow(key.name, following):
        raise _refused("order-scope", f"{following} cannot follow {key.name}: the same host and path, and another last part, as in 2026b")
    return signed, checked.digest


def _person(policy: Policy, name: str, keys: Mapping[str, Sequence[bytes]]) -> Person:
    person = policy.people.get(name)
    if person is None or not set(keys[name]) <= set(person.keys):
        raise _refused("order-signers", f"{name} is no person of the policy with the key that is pinned here: people.toml and operator-keys differ")
    return person


async def _pseudonyms(deed: Reopening, signed: SignedLogOrder) -> tuple[Pseudonym, ...]:
    people = [deed.policy.people[name] for name in signed.signers]
    return tuple(sorted([await find_pseudonym(deed.people, deed.decide, deed.random, one.issuer, one.subject) for one in people]))


async def _known(deed: Reopening, record: HeadRecord | None) -> VerifiedCheckpoint | None:
    """The last note that database and vault know of, the larger of the two."""
    if record is not None and (origin := _origin_of(record)) != deed.key.name:
        raise _refused("order-scope", f"the vault's head is of {origin}: {deed.key.name} was closed before, or never open")
    if deed.key.name not in await deed.origins.origins() and record is None:
        raise _refused("order-scope", f"neither database nor vault knows an origin {deed.key.name}")
    store = deed.log(deed.key.name)
    await _head_of(store)
    notes = (("the vault's head", None if record is None else record.note), ("the database", await store.newest_checkpoint()))
    found = [_opened(note, deed.keys, whose) for whose, note in notes if note is not None]
    return max(found, key=lambda checkpoint: checkpoint.size, default=None)


def _opened(note: bytes, keys: tuple[VerifierKey, ...], whose: str) -> VerifiedCheckpoint:
    try:
        return open_checkpoint(note, *keys)
    except TlogError as error:
        why = f"the checkpoint ({whose}) is not signed by the pinned key of {keys[0].name} ({error}): with another key this is no loss of entries"
        raise Failure(Exit.DENIED, why) from None


async def _head_of(store: LogStore) -> CompactRange | None:
    try:
        return await store.load_head()
    except LogRefused:
        return None  # it does not even agree with itself


async def _demand_loss(
    deed: Reopening, store: LogStore, known: VerifiedCheckpoint | None, seen: VerifiedCheckpoint | None
) -> tuple[CompactRange | None, VerifiedCheckpoint]:
    """The database's head, and the note that closes the origin, where it can or should sign no more.

    Raises `Failure` where the log is as it was signed, or where a replica is at it. What somebody else kept closes the origin where it is the larger
    note, or where only it contradicts the rows: then database and vault were rewound together, and went on.
    """
    head = await _head_of(store)
    if await store.lead() is None:
        raise Failure(Exit.DENIED, "a replica still runs on this database: stop every one, then do this again")
    notes = [note for note in (known, seen) if note is not None]
    if not notes:
        raise _refused("order-scope", "nothing of this log was ever signed: there is nothing to close")
    largest = max(notes, key=lambda note: note.size)
    try:
        await demand_startable(store, deed.vault, deed.key, deed.clock, past=deed.past)
    except LogRefused:
        return head, largest
    if seen is not None:
        try:
            await demand_tree_of(store, seen)
        except LogRefused:
            return head, seen
    raise _refused("order-scope", "the log is as it was signed, and a gatekeeper starts on it: nothing was closed")


async def _demand_new(deed: Reopening, following: str) -> None:
    others = set(await deed.origins.origins()) - {following}
    if following not in others and origin_tail(following) in {origin_tail(origin) for origin in others}:
        raise _refused("order-scope", f"another origin here is served as {origin_tail(following)} already: name the next one otherwise")


def _heads(head: CompactRange | None, record: HeadRecord | None, keys: tuple[VerifierKey, ...]) -> tuple[Head, Head] | None:
    if head is None or record is None:
        return None
    kept = _opened(record.note, keys, "the vault's head")
    return _head(head.size, head.root()), _head(kept.size, kept.root)


def _head(size: int, root: bytes) -> Head:
    return Head(size, base64.b64encode(root).decode())


def _entry_id(closed: str, following: str) -> str:
    """The same at every run, so that what a crash cut short is found again."""
    return hashlib.sha256("\0".join(("pingee.origin/v1", closed, following)).encode()).hexdigest()[:32]


async def _append_first(store: LogStore, entry: OriginEntry) -> None:
    """Entry 0 is durable and is this one. Raises `Failure` where another stands there."""
    head, body = await store.load_head(), encode_entry(entry)
    if head.size == 0:
        edge, _ = TileEdge().extend([leaf_hash(body)])
        try:
            await store.append_batch(head, [NewEntry(0, entry.entry_id, entry.KIND.value, body, leaf_hash(body))], [], edge.range())
        except (HeadMoved, OutcomeUnknown):
            head = await store.load_head()
    _, stands = await read_first(store)
    # An earlier run may have read the policy at another commit.
    if replace(stands, config=entry.config) != entry or head.size > 1:
        why = f"{entry.origin} begins in the database with another entry 0 than two people ordered now: sign an order with another next origin"
        raise _refused("order-scope", why)


async def _first_note(deed: Reopening, store: LogStore, key: VerifierKey) -> bytes:
    """The signed note of entry 0 alone, stored."""
    stored = await store.newest_checkpoint()
    if stored is not None:
        opened = _opened(stored, (key,), "the new origin")
        if opened.size != 1:
            raise Failure(Exit.DENIED, f"{key.name} was used before: sign an order with another next origin")
        return stored
    head = await store.load_head()
    text = encode_checkpoint(Checkpoint(key.name, head.size, head.root()))
    note = encode_note(Note(text, (NoteSignature(key.name, key.key_id, await deed.vault.sign(text)),)))
    _opened(note, (key,), "the new origin")
    await store.save_checkpoint(head.size, note)
    return note


async def _move_lock(deed: Reopening, record: HeadRecord | None, note: bytes, store: LogStore) -> None:
    leaves = await store.read_leaf_hashes(0, 1)
    edge, _ = TileEdge().extend(leaves)
    try:
        await deed.vault.write_head(note, cas=0 if record is None else record.version, edge=encode_edge(edge))
    except CasMismatch:
        raise Failure(Exit.DENIED, "another writer has moved the vault's head meanwhile: nothing is open yet; do this again") from None


async def _already(deed: Reopening, signed: SignedLogOrder, following: VerifierKey, record: HeadRecord) -> Reopened:
    """The vault's head is of the new origin already: an earlier run came so far, or the gatekeeper runs on it."""
    store = deed.log(following.name)
    await store.load_head()
    _, entry = await read_first(store)
    opening = await deed.origins.opening(following.name)
    if entry.previous is None or opening is None or opening.previous_origin != deed.key.name or opening.signers != signed.signers:
        raise _refused("order-scope", f"the vault's head is of {following.name}, and other people opened it: {deed.key.name} is closed")
    previous = _opened(entry.previous.encode(), deed.keys, "entry 0")
    lost = None if entry.heads is None else max(previous.size - entry.heads[0].size, 0)
    return Reopened(following, previous, lost, record.note, signed.signers)


def _origin_of(record: HeadRecord) -> str:
    try:
        return origin_of_note(record.note)
    except TlogError:
        raise Failure(Exit.DENIED, "the vault's head is no checkpoint: look into the vault before anything else") from None


def _refused(code: str, detail: str) -> Failure:
    return Failure(Exit.DENIED, f"{detail} ({code})")
