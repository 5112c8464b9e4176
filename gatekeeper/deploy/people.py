"""Pseudonyms: people stand in the log under a name that only the gatekeeper can resolve (log format, 2.1)."""

from __future__ import annotations

from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.records import PersonRecord
from gatekeeper.tlog.person import Pseudonym, parse_pseudonym, pseudonym

from .parts import Parts


async def pseudonym_of(parts: Parts, issuer: str, subject: str) -> Pseudonym:
    """The person's one pseudonym, made at first use under a key of its own that the vault wraps. Raises `PortError`."""
    known = await parts.people.person(issuer, subject)
    if known is None:
        key = parts.random(32)
        try:
            wrapped = await parts.decide_vault.wrap(key)
        except PortError as error:
            raise Unavailable("vault-unavailable", error.detail) from None
        # Another replica may have been first; its pseudonym is the one that counts.
        known = await parts.people.add_person(PersonRecord(issuer, subject, pseudonym(key, issuer, subject), wrapped))
    return parse_pseudonym(known.pseudonym)
