"""Pseudonyms: people stand in the log under a name that only the gatekeeper can resolve (log format, 2.1)."""

from __future__ import annotations

from collections.abc import Callable

from gatekeeper.policy.document import Policy
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.records import PeopleStore, PersonRecord
from gatekeeper.ports.vault import DecideVault
from gatekeeper.tlog.person import Pseudonym, parse_pseudonym, pseudonym

from .parts import Parts


async def pseudonym_of(parts: Parts, issuer: str, subject: str) -> Pseudonym:
    """The person's one pseudonym, made at first use under a key of its own that the vault wraps. Raises `PortError`."""
    return await find_pseudonym(parts.people, parts.decide_vault, parts.random, issuer, subject)


async def find_pseudonym(people: PeopleStore, vault: DecideVault, random: Callable[[int], bytes], issuer: str, subject: str) -> Pseudonym:
    """As `pseudonym_of`, for whoever has no more than these parts."""
    known = await people.person(issuer, subject)
    if known is None:
        key = random(32)
        try:
            wrapped = await vault.wrap(key)
        except PortError as error:
            raise Unavailable("vault-unavailable", error.detail) from None
        # Another replica may have been first; its pseudonym is the one that counts.
        known = await people.add_person(PersonRecord(issuer, subject, pseudonym(key, issuer, subject), wrapped))
    return parse_pseudonym(known.pseudonym)


async def pseudonym_of_account(parts: Parts, policy: Policy, who: str) -> Pseudonym:
    """The pseudonym of `issuer|subject`. Raises `PortError`.

    An account at a platform and a subject at the people's issuer may be one person: one pseudonym, so that a stranger can compare roles.
    """
    issuer, _, subject = who.partition("|")
    person = policy.person_of_account(issuer, subject) or policy.person_of(issuer, subject)
    if person is not None:
        return await pseudonym_of(parts, person.issuer, person.subject)
    return await pseudonym_of(parts, issuer, subject)
