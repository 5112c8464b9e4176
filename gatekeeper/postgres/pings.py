"""Pings in PostgreSQL (`ports.pings.PingStore`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

import trio

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.decision import Mode, Purpose, Verdict
from gatekeeper.model.label import Viewer
from gatekeeper.model.moment import moment
from gatekeeper.model.ping import State, may_move
from gatekeeper.model.strictjson import JsonValue, MalformedJson, parse_json
from gatekeeper.ports.pings import Changes, IdempotencyConflict, NewPing, Ping, PingEvent, PingFilter, StalePing

from .bridge import Bridge, Row, Unit
from .queries import load_queries
from .rows import clearances, read_label, stored_label
from .session import Session

KEY_LIFE: Final = timedelta(hours=24)
MAX_LIST: Final = 200
MAX_JSON: Final = 1024 * 1024
"""Bytes of one stored JSON document: the rules of an explanation, or an event's data."""

_Q = load_queries("pings")
_KEPT: Final = frozenset(field.name for field in fields(NewPing)) - {"commit", "label", "purpose"}


class PostgresPings:
    """See `PingStore`. `clock` stamps moves and events."""

    def __init__(self, bridge: Bridge, session: Session, clock: Callable[[], datetime]) -> None:
        self._bridge, self._session, self._clock = bridge, session, clock

    async def create(self, new: NewPing) -> tuple[Ping, bool]:
        """See `PingStore.create`."""

        async def work(unit: Unit) -> tuple[Row, bool]:
            values = {name: getattr(new, name) for name in _KEPT}
            row = await unit.row(
                _Q["create"], **values, label=stored_label(new.label), source_commit=new.commit, purpose=new.purpose.value
            )
            if row is not None:
                await unit.row(_Q["notify"])
                return row, True
            earlier = await unit.row(_Q["by_key"], caller=new.caller, idempotency_key=new.idempotency_key)
            if earlier is None or earlier["body"] != new.body or new.created_at - earlier["created_at"] > KEY_LIFE:
                raise IdempotencyConflict("idempotency-conflict", "the key was used with another body, or more than 24 hours ago")
            return earlier, False

        row, created = await self._bridge.write(work)
        return _ping(row), created

    async def get(self, ping_id: str, viewer: Viewer) -> Ping | None:
        """See `PingStore.get`."""
        row = await self._bridge.read(lambda unit: unit.row(_Q["get"], id=ping_id, viewer_clearances=clearances(viewer)))
        return None if row is None else _ping(row)

    async def list_pings(self, wanted: PingFilter, viewer: Viewer) -> Sequence[Ping]:
        """See `PingStore.list_pings`."""
        if not 1 <= wanted.limit <= MAX_LIST:
            raise ValueError(f"a list has 1 to {MAX_LIST} pings")
        rows = await self._bridge.read(
            lambda unit: unit.rows(
                _Q["list_pings"],
                viewer_clearances=clearances(viewer),
                environment=wanted.environment,
                component=wanted.component,
                state=None if wanted.state is None else wanted.state.value,
                reason=wanted.reason,
                caller=wanted.caller,
                before=wanted.before,
                count=wanted.limit,
            )
        )
        return [_ping(row) for row in rows]

    async def claim_due(self, now: datetime, limit: int) -> Sequence[Ping]:
        """See `PingStore.claim_due`."""

        async def work(unit: Unit) -> list[Row]:
            return await unit.rows(_Q["claim_due"], claim=self._session.id, now=now, count=limit)

        pings = [_ping(row) for row in await self._bridge.write(work)]
        return sorted(pings, key=lambda ping: (ping.next_at or ping.new.created_at, ping.id))

    async def unclaim(self, ping_id: str) -> None:
        """See `PingStore.unclaim`."""

        async def work(unit: Unit) -> None:
            if await unit.run(_Q["unclaim"], id=ping_id, claim=self._session.id):
                await unit.row(_Q["notify"])

        await self._bridge.write(work)

    async def move(self, old: Ping, new: Ping, events: Sequence[tuple[str, Mapping[str, JsonValue]]] = ()) -> Ping:
        """See `PingStore.move`."""
        if not (may_move(old.state, new.state) or (old.state == new.state and not old.state.ended)):
            raise ValueError(f"a ping does not move from {old.state} to {new.state}")
        now = self._clock()

        async def work(unit: Unit) -> Row:
            row = await unit.row(_Q["move"], id=old.id, version=old.version, now=now, added=len(events), **_mutable(new))
            if row is None:
                raise StalePing("stale-ping", "the ping changed since it was read")
            if events:
                await unit.run(
                    _Q["add_events"],
                    id=old.id,
                    label=row["label"],
                    first=row["events"] - len(events) + 1,
                    now=now,
                    names=[name for name, _ in events],
                    data=[_write_json(data) for _, data in events],
                )
            await unit.row(_Q["notify"])
            return row

        return _ping(await self._bridge.write(work))

    async def events(self, ping_id: str, after: int, viewer: Viewer) -> Sequence[PingEvent]:
        """See `PingStore.events`."""
        rows = await self._bridge.read(
            lambda unit: unit.rows(_Q["events"], id=ping_id, after=after, viewer_clearances=clearances(viewer))
        )
        return [PingEvent(row["seq"], row["event"], row["at"], _object(_read_json(row["data"]))) for row in rows]

    async def wake(self, *, environment: str | None = None, component: str | None = None) -> None:
        """See `PingStore.wake`."""
        await self._bridge.write(lambda unit: wake_place(unit, self._clock(), environment=environment, component=component))

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[Changes]:
        """See `PingStore.changes`."""
        subscription = _Subscription()
        self._session.listen(subscription.notify)
        try:
            yield subscription
        finally:
            self._session.unlisten(subscription.notify)


async def wake_place(unit: Unit, now: datetime, *, environment: str | None, component: str | None) -> None:
    """Within another store's transaction: pings waiting for this place are due now."""
    if await unit.run(_Q["wake_place"], now=now, environment=environment, component=component):
        await unit.row(_Q["notify"])


async def wake_artifact(unit: Unit, now: datetime, artifact: str) -> None:
    """Within another store's transaction: pings waiting for this artifact are due now."""
    if await unit.run(_Q["wake_artifact"], now=now, artifact=artifact):
        await unit.row(_Q["notify"])


async def wake_project(unit: Unit, now: datetime, project: str) -> None:
    """Within another store's transaction: waiting pings of this project are due now."""
    if await unit.run(_Q["wake_project"], now=now, project=project):
        await unit.row(_Q["notify"])


class _Subscription:
    """`Changes`: one flag in the trio thread, set from the asyncio thread through trio's own queue."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._changed = trio.Event()

    def notify(self) -> None:
        self._token.run_sync_soon(self._set, idempotent=True)

    def _set(self) -> None:
        self._changed.set()

    async def wait(self, timeout_s: float) -> None:
        """See `Changes.wait`."""
        with trio.move_on_after(timeout_s):
            await self._changed.wait()
            self._changed = trio.Event()


def _mutable(ping: Ping) -> dict[str, object]:
    return {
        "state": ping.state.value,
        "verdict": None if ping.verdict is None else ping.verdict.value,
        "mode": None if ping.mode is None else ping.mode.value,
        "reasons": list(ping.reasons),
        "rules": _write_json(list(ping.rules)),
        "policy": ping.policy,
        "policy_commit": ping.policy_commit,
        "evaluated_at": ping.evaluated_at,
        "fence": ping.fence,
        "entry_id": ping.entry_id,
        "logged_at": ping.logged_at,
        "logged_reasons": None if ping.logged_reasons is None else list(ping.logged_reasons),
        "log_index": ping.log_index,
        "receipt": ping.receipt,
        "not_after": ping.not_after,
        "accessor": ping.accessor,
        "leases": list(ping.leases),
        "draft": ping.draft,
        "outcome_index": ping.outcome_index,
        "detail": ping.detail,
        "next_at": ping.next_at,
    }


def _ping(row: Row) -> Ping:
    values: dict[str, Any] = {name: row[name] for name in _KEPT}
    new = NewPing(**values, commit=row["source_commit"], label=read_label(row), purpose=Purpose(row["purpose"]))
    rules = _read_json(row["rules"])
    return Ping(
        new=new,
        state=State(row["state"]),
        version=row["version"],
        verdict=None if row["verdict"] is None else Verdict(row["verdict"]),
        mode=None if row["mode"] is None else Mode(row["mode"]),
        reasons=tuple(row["reasons"]),
        rules=tuple(_object(rule) for rule in rules) if isinstance(rules, list) else (),
        policy=row["policy"],
        policy_commit=row["policy_commit"],
        evaluated_at=row["evaluated_at"],
        fence=row["fence"],
        entry_id=row["entry_id"],
        logged_at=row["logged_at"],
        logged_reasons=None if row["logged_reasons"] is None else tuple(row["logged_reasons"]),
        log_index=row["log_index"],
        receipt=row["receipt"],
        not_after=None if row["not_after"] is None else moment(row["not_after"]),
        accessor=row["accessor"],
        leases=tuple(row["leases"]),
        draft=row["draft"],
        outcome_index=row["outcome_index"],
        detail=row["detail"],
        next_at=row["next_at"],
        updated_at=row["updated_at"],
    )


def _write_json(value: Json) -> str:
    data = encode_canonical(value)
    if len(data) > MAX_JSON:
        raise ValueError(f"a stored document has at most {MAX_JSON} bytes")
    return data.decode()


def _read_json(text: str) -> JsonValue:
    return parse_json(text.encode(), max_bytes=MAX_JSON)


def _object(value: JsonValue) -> Mapping[str, JsonValue]:
    if not isinstance(value, dict):
        raise MalformedJson("a stored document is not an object")
    return value
