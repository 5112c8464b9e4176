"""Installing a doorkeeper: its files, its first memory, its own key. Nothing is fetched; what exists is never overwritten."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.tlog.note import encode_vkey
from gatekeeper.verify.receipt import parse_receipt_keys

from .cosign import load_cosigner, make_cosigner_key
from .files import Place, Unreadable, make_private, read_bounded, write_durably
from .origins import standing
from .record import Record
from .state import NOTHING, load_memory, save_memory
from .target import MAX_FILE, load_pinned, parse_override_keys, parse_target

SSHD_SNIPPET: Final = """\
# sshd_config of a host whose account {user} is guarded by the doorkeeper.
# The account's login shell in passwd is the doorkeeper itself: no other command runs, whatever a certificate says.
Match User {user}
    TrustedUserCAKeys /etc/pingee-doorkeeper/user-ca.pub
    AuthorizedKeysFile none
    AuthenticationMethods publickey
    DisableForwarding yes
    PermitTTY no
    PermitUserRC no
"""


class NotInstalled(Exception):
    """A file is wrong, or there is an installation already; the message says what to do."""


@dataclass(frozen=True)
class Order:
    """What `install` is told."""

    target: str
    instance: str
    environment: str
    components: tuple[tuple[str, int], ...]
    """name and port"""
    log_policy: Path
    receipt_keys: Path
    checkpoint: Path | None
    override_keys: Path | None = None


def install(place: Place, order: Order) -> str:
    """Write all files; returns the cosigner's vkey. Raises `NotInstalled` or `Unreadable`, before anything is written where it can."""
    if place.target_file.exists() or place.state.exists():
        raise NotInstalled(f"there is an installation at {place.etc} already; its memory must not be lost, so nothing is overwritten")
    target_file = _target_toml(order).encode()
    try:
        policy, keys = read_bounded(order.log_policy, MAX_FILE), read_bounded(order.receipt_keys, MAX_FILE)
        parse_target(target_file)
        parse_log_policy(policy)
        parse_receipt_keys(keys)
        people = None if order.override_keys is None else read_bounded(order.override_keys, MAX_FILE)
        parse_override_keys(people or b"")
    except ValueError as error:
        raise NotInstalled(str(error)) from error
    make_private(place.etc)
    make_private(place.var)
    if order.checkpoint is not None:
        write_durably(place.first_checkpoint, read_bounded(order.checkpoint, MAX_FILE))
    write_durably(place.log_policy, policy, mode=0o644)
    write_durably(place.receipt_keys, keys, mode=0o644)
    if people is not None:
        write_durably(place.override_keys, people, mode=0o644)
    write_durably(place.etc / "sshd_config.snippet", SSHD_SNIPPET.format(user=f"deploy-{order.environment}").encode(), mode=0o644)
    make_cosigner_key(place)
    Record(place).begin()
    save_memory(place, NOTHING)
    write_durably(place.target_file, target_file, mode=0o644)
    return check(place)


def check(place: Place) -> str:
    """Read everything that `serve` reads; returns the cosigner's vkey. Raises `Unreadable`."""
    pinned = load_pinned(place)
    memory = load_memory(place)
    Record(place).verify()
    try:
        standing(pinned, memory)
    except ValueError as error:
        raise Unreadable(f"checkpoint: {error}") from error
    if place.cosigner_key.stat().st_mode & 0o077:
        raise Unreadable("cosigner.key: others may read it")
    return encode_vkey(load_cosigner(place, pinned.target).vkey)


def _target_toml(order: Order) -> str:
    # JSON strings of these names are TOML basic strings; parse_target refuses any name that would not be.
    lines = [
        "version = 1",
        f"target = {json.dumps(order.target)}",
        f"instance = {json.dumps(order.instance)}",
        f"environment = {json.dumps(order.environment)}",
        'sealed = "refused"',
    ]
    for name, port in order.components:
        lines += ["", f"[components.{json.dumps(name)}]", f"port = {port}"]
    return "\n".join(lines) + "\n"
