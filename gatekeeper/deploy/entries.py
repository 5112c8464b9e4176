"""The index over the deploy log: kept beside it, from what was published, and asked by people who then check each hit by its proof."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import trio

from gatekeeper.model.caller import Caller, PersonCaller
from gatekeeper.ports.entries import EntryFilter, EntryHit, EntryIndex, IndexRow
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.log import LogStore
from gatekeeper.tlog.indexed import EntryFields, entry_fields

from .calls import CallRefused, viewer_of
from .parts import Parts

_log = logging.getLogger(__name__)

CHUNK: Final = 512
LOOK_S: Final = 1.0
_RESOLVE: Final = frozenset({"A", "S"})
_ANYWHERE: Final = ""
"""no place has this name, so only a scope of `*` covers it"""


async def run_indexer(index: EntryIndex, store: LogStore, published: Callable[[], int]) -> None:
    """Read what was published into the index, until cancelled. It goes on where it, or another replica, stopped."""
    while True:
        try:
            while await index_more(index, store, published()):
                pass
        except PortError as error:
            _log.warning("the index over the log cannot be kept now: %s", error)
        await trio.sleep(LOOK_S)


async def index_more(index: EntryIndex, store: LogStore, size: int) -> bool:
    """Read the next entries below `size`; whether there may be more. Raises `PortError`."""
    start = await index.size()
    bodies = await store.read_entries(start, min(CHUNK, size - start)) if start < size else []
    if not bodies:
        return False
    found = {start + at: fields for at, body in enumerate(bodies) if (fields := entry_fields(body)) is not None}
    await index.add(start, start + len(bodies), await _rows(index, found))
    return True


async def _rows(index: EntryIndex, found: dict[int, EntryFields]) -> list[IndexRow]:
    places = {at: (fields.environment, fields.component) for at, fields in found.items()}
    earlier = {fields.of for fields in found.values() if fields.of is not None and fields.of not in places}
    if earlier:
        places = {**await index.places(sorted(earlier)), **places}
    rows = []
    for at, fields in found.items():
        environment, component = places[at]
        if (environment, component) == (None, None) and fields.of is not None:
            environment, component = places.get(fields.of, (None, None))
        rows.append(IndexRow(at, fields.kind, fields.at, environment, component, fields.people))
    return rows


@dataclass(frozen=True)
class Asked:
    """What is looked for. `person` is a name of the policy; only who may resolve pseudonyms may ask for one."""

    kind: str | None
    environment: str | None
    component: str | None
    person: str | None
    since: datetime | None
    below: int | None
    limit: int


@dataclass(frozen=True)
class Found:
    """Hits, newest first; `names` resolves the pseudonyms in them for whoever may know. `indexed`: how many entries were looked through."""

    hits: Sequence[EntryHit]
    names: dict[str, str] | None
    indexed: int


async def search(parts: Parts, caller: Caller | None, asked: Asked, published: int) -> Found:
    """Entries of the published log that fit. Raises `CallRefused` before anything is looked up, and `PortError`."""
    resolves = _may_resolve(parts, caller, asked)
    if asked.person is not None and not resolves:
        raise CallRefused("not-authorised", "to look for a person's entries needs role A or S for the place; ask an admin of the policy repository")
    indexed = min(await parts.entries.size(), published)
    below = indexed if asked.below is None else min(asked.below, indexed)
    wanted = EntryFilter(asked.kind, asked.environment, asked.component, None, asked.since, below, asked.limit)
    if asked.person is not None:
        pseudonym = await _pseudonym(parts, asked.person)
        if pseudonym is None:
            return Found((), {}, indexed)
        wanted = replace(wanted, person=pseudonym)
    hits = await parts.entries.find(wanted, viewer_of(caller))
    return Found(hits, await _names(parts, hits) if resolves else None, indexed)


def _may_resolve(parts: Parts, caller: Caller | None, asked: Asked) -> bool:
    if not isinstance(caller, PersonCaller):
        return False
    policy = parts.policy.current()
    return bool(policy.roles_of(caller.groups, asked.environment or _ANYWHERE, asked.component or _ANYWHERE) & _RESOLVE)


async def _pseudonym(parts: Parts, name: str) -> str | None:
    person = parts.policy.current().people.get(name)
    if person is None:
        return None
    known = await parts.people.person(person.issuer, person.subject)
    return None if known is None else known.pseudonym


async def _names(parts: Parts, hits: Sequence[EntryHit]) -> dict[str, str]:
    """Pseudonym -> name in the policy, or `issuer|subject` of who has none there any more."""
    policy, names = parts.policy.current(), {}
    for pseudonym in sorted({person for hit in hits for person in hit.row.people}):
        known = await parts.people.person_by_pseudonym(pseudonym)
        if known is not None:
            person = policy.person_of(known.issuer, known.subject)
            names[pseudonym] = f"{known.issuer}|{known.subject}" if person is None else person.name
    return names
