"""Pseudonyms and one-use tokens in PostgreSQL (`ports.records.PeopleStore`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Final

from gatekeeper.ports.records import PersonRecord

from .bridge import Bridge, Row, Unit
from .queries import load_queries

_Q: Final = load_queries("people")


class PostgresPeople:
    """See `PeopleStore`. `clock` says which used tokens have expired and may be forgotten."""

    def __init__(self, bridge: Bridge, clock: Callable[[], datetime]) -> None:
        self._bridge, self._clock = bridge, clock

    async def person(self, issuer: str, subject: str) -> PersonRecord | None:
        """See `PeopleStore.person`."""
        return _person(await self._bridge.read(lambda unit: unit.row(_Q["person"], issuer=issuer, subject=subject)))

    async def person_by_pseudonym(self, pseudonym: str) -> PersonRecord | None:
        """See `PeopleStore.person_by_pseudonym`."""
        return _person(await self._bridge.read(lambda unit: unit.row(_Q["person_by_pseudonym"], pseudonym=pseudonym)))

    async def add_person(self, record: PersonRecord) -> PersonRecord:
        """See `PeopleStore.add_person`."""

        async def work(unit: Unit) -> Row | None:
            await unit.run(_Q["add_person"], **asdict(record))
            return await unit.row(_Q["person"], issuer=record.issuer, subject=record.subject)

        return _person(await self._bridge.write(work)) or record

    async def use_once(self, issuer: str, jti: str, purpose: str, expires_at: datetime) -> bool:
        """See `PeopleStore.use_once`."""

        async def work(unit: Unit) -> bool:
            await unit.run(_Q["forget_expired"], now=self._clock())
            return await unit.run(_Q["use_once"], issuer=issuer, jti=jti, purpose=purpose, expires_at=expires_at) == 1

        return await self._bridge.write(work)


def _person(row: Row | None) -> PersonRecord | None:
    return None if row is None else PersonRecord(row["issuer"], row["subject"], row["pseudonym"], row["wrapped_key"])
