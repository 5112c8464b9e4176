"""The log keys that a reader trusts today: those of the policy file, and those that followed them by what the log itself shows (`tlog.keyhistory`).

A reader who remembers nothing follows anew each time, from its own file, which it never writes: people put a new key there.
"""

from __future__ import annotations

import base64
from argparse import Namespace
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gatekeeper.model.moment import Moment, moment, render_moment
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.keyhistory import MAX_HISTORY, Followed, follow_history, parse_history
from gatekeeper.tlog.keyring import Keyring, TrustedKey, installed_keys
from gatekeeper.tlog.logpolicy import LogPolicy, open_cosigned
from gatekeeper.tlog.note import ed25519_vkey, encode_vkey

from .exits import Exit, Failure
from .output import print_json, say
from .server import Server

KEYS = "keys"
"""The document's name below the log's URL, and in a directory of the same layout."""


@dataclass(frozen=True)
class LogKeys:
    """A policy file and the keys that were followed from it."""

    installed: LogPolicy
    ring: Keyring
    today: Moment

    @property
    def now(self) -> LogPolicy:
        """For what the log shows today."""
        return self.ring.policy(self.installed, self.today)

    @property
    def ever(self) -> LogPolicy:
        """For a checkpoint that was kept long ago."""
        return self.ring.policy(self.installed, None)

    def dated(self, at: Moment) -> LogPolicy:
        """For the proof of an entry that bears this date."""
        return self.ring.policy(self.installed, at)


def follow_keys(installed: LogPolicy, document: bytes | None) -> LogKeys:
    """Follow a log's key changes; None: it shows none. Fails with "denied" where one of them does not hold."""
    today, ring = moment(datetime.now(UTC)), installed_keys(installed)
    if document is None:
        return LogKeys(installed, ring, today)
    if len(document) > MAX_HISTORY:
        raise Failure(Exit.DENIED, f"the log's key changes have more than {MAX_HISTORY} bytes")
    try:
        history = parse_history(document)
        followed = follow_history(ring, installed, history, at=today)
        open_cosigned(history.checkpoint, followed.keys.policy(installed, today))
    except TlogError as error:
        raise Failure(Exit.DENIED, f"the log's key changes do not hold: {error}") from None
    _tell(followed)
    return LogKeys(installed, followed.keys, today)


def follow_file(installed: LogPolicy, file: str) -> LogKeys:
    """As `follow_keys`, with a document that was fetched before (`pingee log keys --out FILE`)."""
    try:
        return follow_keys(installed, Path(file).read_bytes())
    except OSError as error:
        raise Failure(Exit.USAGE, f"{file} cannot be read: {error.strerror}") from None


def keys(server: Server, arguments: Namespace, installed: LogPolicy) -> Exit:
    """Show the log keys that are trusted from the policy file on, and keep the document that proves it."""
    document = server.get_bytes(f"/log/{KEYS}")
    found = follow_keys(installed, document)
    if arguments.out:
        Path(arguments.out).write_bytes(document)
        say(f"wrote {arguments.out}: with it `pingee log verify --keys {arguments.out}` needs no server")
    told = [_told(key) for key in found.ring.log]
    if arguments.output == "json":
        print_json({"origin": installed.log.name, "keys": told})
    else:
        for one in told:
            print(f"{one['key']}\t{'trusted' if one['until'] is None else 'until ' + str(one['until'])}")
    return Exit.OK


def vkey(arguments: Namespace) -> Exit:
    """Print the verifier key of a log's public key, as the vault's operator reads it from the vault."""
    try:
        print(encode_vkey(ed25519_vkey(arguments.origin, base64.b64decode(arguments.public, validate=True))))
    except ValueError as error:
        raise Failure(Exit.USAGE, f"--origin and --public make no verifier key: {error}") from None
    return Exit.OK


def _told(key: TrustedKey) -> dict[str, object]:
    return {"key": key.text, "until": None if key.until is None else render_moment(key.until)}


def _tell(followed: Followed) -> None:
    changed = [key for key in followed.keys.log if key.until is not None]
    if changed and changed[-1].until is not None:
        until = render_moment(changed[-1].until)
        say(f"the log's key was replaced, both were good until {until}; its new key, for the policy file: {followed.keys.log[-1].text}")
