"""The log and receipt keys of one replica: which are pinned, which follow by two people's order, and how a rotation is begun at the start."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from gatekeeper.adapters.vault import VaultSession
from gatekeeper.adapters.vault_decide import VaultDecide
from gatekeeper.adapters.vault_log import VaultLog
from gatekeeper.deploy.parts import Parts
from gatekeeper.deploy.rotate import OrderedRotation, make_key_change, read_rotation
from gatekeeper.model.moment import render_moment
from gatekeeper.ports.vault import DecideVault
from gatekeeper.sequencer import Sequencer
from gatekeeper.sequencer.keychanges import KeyWanted, LogRotation
from gatekeeper.settings import BadSettings, Settings
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.kinds import KeyUse
from gatekeeper.tlog.note import VerifierKey, encode_vkey, parse_vkey
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.receipt import parse_receipt_key, receipt_pem, receipt_spki

_log: Final = logging.getLogger("gatekeeper")


class FollowedReceiptKey:
    """`DecideVault` that signs with the old key until a published checkpoint covers the `key` entry, and with the new one from then on."""

    def __init__(self, old: DecideVault, new: DecideVault) -> None:
        self._old, self._new = old, new
        self._is_covered: Callable[[], bool] = lambda: False

    def follow(self, is_covered: Callable[[], bool]) -> None:
        """The entry stands in the log; `is_covered` says whether it is published."""
        self._is_covered = is_covered

    async def public_key_pem(self) -> bytes:
        """See `DecideVault`: both keys must be the pinned ones; the one that signs now."""
        keys = await self._old.public_key_pem(), await self._new.public_key_pem()
        return keys[1 if self._is_covered() else 0]

    async def sign(self, message: bytes) -> bytes:
        """See `DecideVault`."""
        return await (self._new if self._is_covered() else self._old).sign(message)

    async def wrap(self, key: bytes) -> str:
        """See `DecideVault`."""
        return await self._old.wrap(key)

    async def unwrap(self, wrapped: str) -> bytes:
        """See `DecideVault`."""
        return await self._old.unwrap(wrapped)


@dataclass(frozen=True)
class PinnedKeys:
    """What the configuration pins, with the vault behind each key."""

    log_key: VerifierKey
    log_vault: VaultLog
    log_rotation: LogRotation
    decide_vault: DecideVault
    receipt_keys: tuple[bytes, ...]
    """PEM: the one that signs, the one that follows it, those before"""
    ordered: tuple[tuple[OrderedRotation, Callable[[bytes], Awaitable[bytes]]], ...]
    """rotations with the signature of the key that each replaces"""


def pinned_keys(settings: Settings, log: VaultSession, decide: VaultSession) -> PinnedKeys:
    """Read the keys and orders of the configuration; raises `BadSettings`. Who signed an order is asked when it is acted upon."""
    vault = settings.vault
    ordered: list[tuple[OrderedRotation, Callable[[bytes], Awaitable[bytes]]]] = []
    key = _vkey("log_key", vault.log_vkey)
    log_vault = VaultLog(log, settings.instance, public_key=key.public, key_version=vault.key_version)
    following = None
    if vault.log_key_order is not None:
        rotation = _ordered("log_key_order", KeyUse.LOG, encode_vkey(key), vault.log_key_order)
        new = _vkey("log_key_order", rotation.new)
        if new.name != key.name:
            raise BadSettings(f"/vault/log_key_order: the new key is of {new.name}, and the log is {key.name}: a key of a log has its name")
        following = VaultLog(log, settings.instance, public_key=new.public)
        ordered.append((rotation, log_vault.sign))
    past = tuple(_vkey("past_log_keys", text) for text in vault.past_log_vkeys)

    pem = vault.receipt_key
    receipts: DecideVault = VaultDecide(decide, settings.instance, public_key_pem=pem, key_version=vault.key_version)
    receipt_keys = [pem, *vault.past_receipt_keys]
    if vault.receipt_key_order is not None:
        rotation = _ordered("receipt_key_order", KeyUse.RECEIPT, _spki("receipt_key", pem), vault.receipt_key_order)
        receipt_keys.insert(1, receipt_pem(rotation.new))
        _spki("receipt_key_order", receipt_keys[1])
        ordered.append((rotation, receipts.sign))
        receipts = FollowedReceiptKey(receipts, VaultDecide(decide, settings.instance, public_key_pem=receipt_keys[1]))
    for old in vault.past_receipt_keys:
        _spki("past_receipt_keys", old)
    return PinnedKeys(key, log_vault, LogRotation(following, past), receipts, tuple(receipt_keys), tuple(ordered))


def log_keys(settings: Settings) -> tuple[VerifierKey, ...]:
    """The log keys under which a stored checkpoint may stand: the one that signs, the one that follows it, those before. Raises `BadSettings`."""
    vault = settings.vault
    key = _vkey("log_key", vault.log_vkey)
    following = []
    if vault.log_key_order is not None:
        following.append(_vkey("log_key_order", _ordered("log_key_order", KeyUse.LOG, encode_vkey(key), vault.log_key_order).new))
    return (key, *following, *(_vkey("past_log_keys", text) for text in vault.past_log_vkeys))


async def carry_out_rotations(keys: PinnedKeys, parts: Parts, sequencer: Sequencer, operators: Mapping[str, tuple[bytes, ...]]) -> None:
    """Log what was ordered, where it does not stand in the log yet; called when the sequencer runs, and before anything is decided.

    Raises `RotationRefused`, `LogRefused` and other `PortError`s: then this replica does not start.
    """
    for rotation, endorse in keys.ordered:
        wanted = KeyWanted(rotation.use, rotation.old, rotation.new, rotation.until)
        succession = await sequencer.log_key_change(partial(make_key_change, parts, rotation, operators, endorse), wanted)
        if isinstance(keys.decide_vault, FollowedReceiptKey) and rotation.use is KeyUse.RECEIPT:
            keys.decide_vault.follow(partial(_is_covered, sequencer, succession.index))
        until = render_moment(rotation.until)
        _log.info("the %s key is followed by another: entry %d, both are good until %s", rotation.use.value, succession.index, until)


def _is_covered(sequencer: Sequencer, index: int) -> bool:
    published = sequencer.published()
    return published is not None and published.size > index


def _vkey(member: str, text: str) -> VerifierKey:
    try:
        return parse_vkey(text)
    except TlogError as error:
        raise BadSettings(f"/vault/{member}: {error}") from None


def _spki(member: str, pem: bytes) -> str:
    try:
        return receipt_spki(parse_receipt_key(pem))
    except Malformed as error:
        raise BadSettings(f"/vault/{member}: {error}") from None


def _ordered(member: str, use: KeyUse, old: str, order: bytes) -> OrderedRotation:
    try:
        return read_rotation(use, old, order)
    except Malformed as error:
        raise BadSettings(f"/vault/{member}: {error}") from None
