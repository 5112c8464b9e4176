"""What a replica says of its parts at `/readyz?verbose`: one line `PART WORD` each, both from closed sets, never a value or a count.

`pingee doctor` turns each pair into a sentence. A target or builder CA is named behind its part: `target:web-1`.
"""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Part(StrEnum):
    """What is asked."""

    DATABASE = "database"
    SCHEMA = "schema"
    DATABASE_CLOCK = "database-clock"
    VAULT = "vault"
    VAULT_CLOCK = "vault-clock"
    VAULT_LOG = "vault-log"
    """the login `log`, and the log key in the vault against the pinned one"""
    VAULT_DECIDE = "vault-decide"
    """the login `decide`, and the receipt key in the vault against the pinned one"""
    VAULT_ACT = "vault-act"
    LOG = "log"
    WITNESSES = "witnesses"
    POLICY = "policy"
    CERTIFICATE = "certificate"
    BUILDER_CA = "builder-ca"
    TARGET = "target"


@unique
class Word(StrEnum):
    """How it is."""

    OK = "ok"
    SLOW = "slow"
    """no answer within the time of a probe"""
    FAILING = "failing"
    """it failed in a way that has no word of its own; the replica's log says which"""
    UNREACHABLE = "unreachable"
    UNTRUSTED = "untrusted"
    """it answers, with a certificate or key that is not the pinned one"""
    SEALED = "sealed"
    REFUSED = "refused"
    """reached, and it refuses this replica's login: the role or its policy is missing, or the login was revoked"""
    KEY_DIFFERS = "key-differs"
    AHEAD = "ahead"
    BEHIND = "behind"
    """of a clock: slow; of the log: entries that stay unpublished"""
    STOPPED = "stopped"
    """the log refuses to go on, because something signed, stored or kept disagrees"""
    UNPUBLISHED = "unpublished"
    NO_QUORUM = "no-quorum"
    """too few witnesses cosign the newest checkpoint, so it is not published"""
    OPEN = "open"
    """checkpoints are published that too few witnesses cosigned"""
    UNLOGGED = "unlogged"
    """what is configured is not what the log says"""
    MIGRATION_NEEDED = "migration-needed"
    REWOUND = "config-rewound"
    UNREVIEWED = "config-unreviewed"
    INVALID = "config-invalid"
    UNAVAILABLE = "config-unavailable"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    CANNOT_TELL = "cannot-tell"
    """it could be known only through another part that is away"""


NEEDED = frozenset({Part.DATABASE, Part.VAULT_LOG, Part.VAULT_DECIDE, Part.LOG})
"""Without these a replica takes no pings: `/readyz` answers 503. What else is wrong is told and does not take it out of service."""


def parse_readiness(text: str) -> tuple[tuple[str, Part, Word], ...]:
    """Read an answer of `/readyz?verbose`: name, part, word. Lines that this version does not know are left out: another version may say more."""
    found = []
    for line in text.splitlines():
        name, _, word = line.partition(" ")
        try:
            found.append((name, Part(name.partition(":")[0]), Word(word)))
        except ValueError:
            continue
    return tuple(found)
