"""The database's ports in memory. They pass the same contract suite as PostgreSQL.

One `FakeDatabase` is the shared state of all replicas; `replica()` gives another replica's view of it, `die()` ends one. Every write goes
through `faults`: `faults.next(name, persisted=...)` makes the next call of that method fail before or after it took effect.
"""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

import trio

from gatekeeper.model.ping import WAITING, State, may_move
from gatekeeper.ports.entries import MAX_PAGE, EntryHit
from gatekeeper.ports.errors import Rejected, Unavailable
from gatekeeper.ports.log import Appended, HeadMoved, KeyChangeRow, OutcomeUnknown
from gatekeeper.ports.observations import ObservedPlace
from gatekeeper.ports.pings import Held, IdempotencyConflict, Ping, PingEvent, StalePing
from gatekeeper.ports.sealed import StoredSlot
from gatekeeper.tlog.merkle import CompactRange

KEY_LIFE = timedelta(hours=24)


class Faults:
    """Faults waiting to happen, by method name."""

    def __init__(self):
        self._planned = {}
        self.down = False

    def next(self, method, *, persisted, error=None):
        self._planned.setdefault(method, []).append((persisted, error or Unavailable("environment-unavailable", "a planned fault")))

    @asynccontextmanager
    async def around(self, method):
        await trio.lowlevel.checkpoint()
        if self.down:
            raise Unavailable("environment-unavailable", "the fake database is down")
        planned = self._planned.get(method)
        persisted, error = planned.pop(0) if planned else (True, None)
        if error is not None and not persisted:
            raise error
        yield
        if error is not None:
            raise error


@dataclass
class _Row:
    ping: Ping
    events: list = field(default_factory=list)
    claim: int | None = None
    wakes: int = 0
    seen: int = 0


@dataclass
class _Lock:
    fence: int = 0
    ping_id: str | None = None
    since: datetime | None = None
    label: frozenset = frozenset()


class _State:
    def __init__(self, clock):
        self.clock = clock
        self.rows, self.locks = {}, {}
        self.artifacts, self.statements, self.votes = {}, {}, {}
        self.receipts, self.deployments, self.people, self.tokens = {}, {}, {}, {}
        self.adoptions = {}
        self.observations, self.orders = {}, {}
        self.logs = {}
        self.indexes, self.indexed = {}, {}
        self.living, self.leads, self.numbers = set(), {}, count(1)
        self.subscriptions = set()

    def notify(self):
        for subscription in self.subscriptions:
            subscription.changed.set()

    def wake(self, wanted):
        for row in self.rows.values():
            if row.ping.state in WAITING and wanted(row.ping.new):
                row.wakes += 1
                row.ping = replace(row.ping, next_at=self.clock())
        self.notify()


class FakeDatabase:
    """As `gatekeeper.postgres.Database`."""

    def __init__(self, clock=lambda: datetime.now(UTC), *, _state=None):
        self.state = _state or _State(clock)
        self.faults = Faults()
        self.replica_id = next(self.state.numbers)
        self.state.living.add(self.replica_id)
        self.pings, self.locks = FakePings(self), FakeLocks(self)
        self.statements, self.deployments, self.people = FakeStatements(self), FakeDeployments(self), FakePeople(self)
        self.adoptions = FakeAdoptions(self)
        self.observations = FakeObservations(self)

    def log(self, origin):
        return FakeLogStore(self, origin)

    def entries(self, origin):
        return FakeEntries(self, origin)

    def replica(self):
        """Another replica over the same rows."""
        return FakeDatabase(_state=self.state)

    def die(self):
        """The replica is killed: its claims and leads end."""
        self.state.living.discard(self.replica_id)

    def lose_session(self):
        """The server was killed: the replica lives on with a new session, and nothing that it claimed is claimed any more."""
        self.state.living.discard(self.replica_id)
        self.replica_id = next(self.state.numbers)
        self.state.living.add(self.replica_id)
        self.state.notify()

    async def ready(self):
        async with self.faults.around("ready"):
            pass


class _Store:
    def __init__(self, database):
        self._db, self._state, self._faults = database, database.state, database.faults


class FakePings(_Store):
    async def create(self, new):
        async with self._faults.around("create"):
            for row in self._state.rows.values():
                old = row.ping.new
                if (old.caller, old.idempotency_key) == (new.caller, new.idempotency_key):
                    if old.body != new.body or new.created_at - old.created_at > KEY_LIFE:
                        raise IdempotencyConflict("idempotency-conflict", "the key was used before")
                    return row.ping, False
            ping = Ping(new, State.RECEIVED, 1, updated_at=new.created_at)
            self._state.rows[new.id] = _Row(ping)
            self._state.notify()
            return ping, True

    async def get(self, ping_id, viewer):
        async with self._faults.around("get"):
            row = self._state.rows.get(ping_id)
            return row.ping if row and viewer.may_read(row.ping.new.label) else None

    async def list_pings(self, wanted, viewer):
        if not 1 <= wanted.limit <= 200:
            raise ValueError("a list has 1 to 200 pings")
        async with self._faults.around("list_pings"):
            pings = sorted((row.ping for row in self._state.rows.values()), key=lambda p: (p.new.created_at, p.id), reverse=True)
            pings = [p for p in pings if viewer.may_read(p.new.label)]
            if wanted.before is not None:
                ids = [p.id for p in pings]
                pings = pings[ids.index(wanted.before) + 1 :] if wanted.before in ids else []
            fits = [
                p
                for p in pings
                if wanted.environment in (None, p.new.environment)
                and wanted.component in (None, p.new.component)
                and wanted.state in (None, p.state)
                and (wanted.reason is None or wanted.reason in p.reasons)
                and wanted.caller in (None, p.new.caller)
            ]
            return fits[: wanted.limit]

    async def claim_due(self, now, limit):
        async with self._faults.around("claim_due"):
            due = [
                row
                for row in self._state.rows.values()
                if not row.ping.state.ended and (row.ping.next_at is None or row.ping.next_at <= now) and row.claim not in self._state.living
            ]
            due.sort(key=lambda row: (row.ping.next_at or datetime.min.replace(tzinfo=UTC), row.ping.new.created_at, row.ping.id))
            for row in due[:limit]:
                row.claim, row.seen = self._db.replica_id, row.wakes
            return [row.ping for row in due[:limit]]

    async def unclaim(self, ping_id):
        async with self._faults.around("unclaim"):
            row = self._state.rows.get(ping_id)
            if row and row.claim == self._db.replica_id:
                row.claim = None
                self._state.notify()

    async def move(self, old, new, events=()):
        if not (may_move(old.state, new.state) or (old.state == new.state and not old.state.ended)):
            raise ValueError(f"a ping does not move from {old.state} to {new.state}")
        async with self._faults.around("move"):
            row = self._state.rows.get(old.id)
            if row is None or row.ping.version != old.version:
                raise StalePing("stale-ping", "the ping changed since it was read")
            now, next_at = self._state.clock(), new.next_at
            if row.wakes > row.seen and new.state in WAITING:
                next_at = min(next_at or now, now)
            row.ping = replace(new, new=row.ping.new, version=old.version + 1, updated_at=now, next_at=next_at)
            for name, data in events:
                row.events.append(PingEvent(len(row.events) + 1, name, now, dict(data)))
            self._state.notify()
            return row.ping

    async def events(self, ping_id, after, viewer):
        async with self._faults.around("events"):
            row = self._state.rows.get(ping_id)
            return [e for e in row.events if e.seq > after] if row and viewer.may_read(row.ping.new.label) else []

    async def wake(self, *, environment=None, component=None):
        async with self._faults.around("wake"):
            self._state.wake(lambda new: environment in (None, new.environment) and component in (None, new.component))

    @asynccontextmanager
    async def changes(self):
        subscription = _Subscription()
        self._state.subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._state.subscriptions.discard(subscription)


class _Subscription:
    def __init__(self):
        self.changed = trio.Event()

    async def wait(self, timeout_s):
        with trio.move_on_after(timeout_s):
            await self.changed.wait()
            self.changed = trio.Event()


class FakeLocks(_Store):
    async def acquire(self, environment, component, ping_id, now):
        async with self._faults.around("acquire"):
            lock = self._state.locks.setdefault((environment, component), _Lock())
            if lock.ping_id == ping_id:
                return lock.fence
            if lock.ping_id is not None:
                return Held(lock.ping_id, lock.fence, lock.since, lock.label)
            if ping_id not in self._state.rows:
                raise ValueError("a lock is taken for a stored ping only")
            lock.fence, lock.ping_id, lock.since, lock.label = lock.fence + 1, ping_id, now, self._state.rows[ping_id].ping.new.label
            return lock.fence

    async def release(self, environment, component, fence):
        async with self._faults.around("release"):
            lock = self._state.locks.get((environment, component))
            if lock and lock.fence == fence and lock.ping_id is not None:
                lock.ping_id, lock.since, lock.label = None, None, frozenset()
                self._state.wake(lambda new: (new.environment, new.component) == (environment, component))

    async def holder(self, environment, component, viewer):
        async with self._faults.around("holder"):
            lock = self._state.locks.get((environment, component))
            if lock is None or lock.ping_id is None or not viewer.may_read(lock.label):
                return None
            return Held(lock.ping_id, lock.fence, lock.since, lock.label)


class FakeStatements(_Store):
    async def add_artifact(self, record):
        async with self._faults.around("add_artifact"):
            old = self._state.artifacts.get(record.artifact)
            if old is not None and (old.complete or not record.complete):
                return
            self._state.artifacts[record.artifact] = record if old is None else replace(old, complete=True)
            self._state.wake(lambda new: new.artifact == record.artifact)

    async def artifact(self, digest, viewer):
        async with self._faults.around("artifact"):
            record = self._state.artifacts.get(digest)
            return record if record and viewer.may_read(record.label) else None

    async def artifacts(self, *, commit, project, viewer, limit=50):
        async with self._faults.around("artifacts"):
            found = sorted(self._state.artifacts.values(), key=lambda r: r.artifact)
            found.sort(key=lambda r: r.received_at, reverse=True)
            fits = [r for r in found if viewer.may_read(r.label) and commit in (None, r.commit) and project in (None, r.project)]
            return fits[:limit]

    async def add_statement(self, record):
        async with self._faults.around("add_statement"):
            if self._state.statements.setdefault(record.digest, record) is record:
                self._state.wake(lambda new: new.artifact == record.artifact)

    async def statements(self, artifact, viewer):
        async with self._faults.around("statements"):
            found = [r for r in self._state.statements.values() if r.artifact == artifact and viewer.may_read(r.label)]
            return sorted(found, key=lambda r: (r.received_at, r.log_index, r.digest))

    async def add_vote(self, record):
        async with self._faults.around("add_vote"):
            if self._state.votes.setdefault(record.digest, record) is record:
                self._state.wake(lambda new: new.project == record.project)

    async def votes(self, project, change, viewer):
        async with self._faults.around("votes"):
            found = [r for r in self._state.votes.values() if (r.project, r.change) == (project, change) and viewer.may_read(r.label)]
            return sorted(found, key=lambda r: (r.received_at, r.digest))


class FakeDeployments(_Store):
    async def add_receipt(self, record):
        async with self._faults.around("add_receipt"):
            self._state.receipts.setdefault(record.id, record)

    async def receipt(self, digest, viewer):
        async with self._faults.around("receipt"):
            record = self._state.receipts.get(digest)
            return record if record and viewer.may_read(record.label) else None

    async def allows(self, ping_id):
        async with self._faults.around("allows"):
            return sum(record.ping_id == ping_id for record in self._state.receipts.values())

    async def add_deployment(self, record):
        async with self._faults.around("add_deployment"):
            if self._state.deployments.setdefault(record.ping_id, record) is record:
                self._state.wake(lambda new: (new.environment, new.component) == (record.environment, record.component))

    async def running(self, viewer, *, environment=None, component=None):
        async with self._faults.around("running"):
            newest = {}
            for record in self._newest_first(viewer):
                if record.state == "deployed" and environment in (None, record.environment) and component in (None, record.component):
                    newest.setdefault((record.environment, record.component), record)
            return [newest[place] for place in sorted(newest)]

    async def history(self, environment, component, viewer, limit=50):
        async with self._faults.around("history"):
            return [r for r in self._newest_first(viewer) if (r.environment, r.component) == (environment, component)][:limit]

    def _newest_first(self, viewer):
        seen = [record for record in self._state.deployments.values() if viewer.may_read(record.label)]
        return sorted(seen, key=lambda record: (record.at, record.outcome_index), reverse=True)


class FakeAdoptions(_Store):
    async def add_adoption(self, record):
        async with self._faults.around("add_adoption"):
            for old in self._state.adoptions.values():
                if (old.caller, old.idempotency_key) == (record.caller, record.idempotency_key):
                    if old.body != record.body:
                        raise IdempotencyConflict("idempotency-conflict", "the key was used before")
                    return old
            for old in self._state.adoptions.values():
                if (old.environment, old.component) == (record.environment, record.component):
                    return old
            self._state.adoptions[record.id] = replace(record, log_index=None)
            return self._state.adoptions[record.id]

    async def mark_logged(self, adoption_id, log_index, entry):
        async with self._faults.around("mark_logged"):
            old = self._state.adoptions[adoption_id]
            if old.log_index is None:
                self._state.adoptions[adoption_id] = replace(old, log_index=log_index, entry=entry)

    async def adoption(self, environment, component, viewer):
        async with self._faults.around("adoption"):
            found = [a for a in self._state.adoptions.values() if (a.environment, a.component) == (environment, component)]
            return next((a for a in found if viewer.may_read(a.label)), None)

    async def adoptions_of(self, artifact, viewer):
        async with self._faults.around("adoptions_of"):
            found = [a for a in self._state.adoptions.values() if a.artifact == artifact and a.log_index is not None and viewer.may_read(a.label)]
            return sorted(found, key=lambda a: (a.at, a.id))


class FakeObservations(_Store):
    async def places(self):
        async with self._faults.around("places"):
            newest, deployed = {}, {}
            for record in sorted(self._state.deployments.values(), key=lambda record: record.decision_index):
                newest[record.environment, record.component] = record
            for record in sorted(self._state.deployments.values(), key=lambda record: (record.at, record.outcome_index)):
                if record.state == "deployed":
                    deployed[record.environment, record.component] = record
            heard = {place: seen.observed_at for place, seen in self._state.observations.items()}
            return [ObservedPlace(newest[place], deployed.get(place), heard.get(place)) for place in sorted(newest)]

    async def observe(self, observation):
        async with self._faults.around("observe"):
            place = (observation.environment, observation.component)
            old = self._state.observations.get(place)
            if old is None or old.observed_at <= observation.observed_at:
                self._state.observations[place] = observation

    async def drift(self, viewer, *, environment=None, component=None):
        async with self._faults.around("drift"):
            newest = {}
            for record in sorted(self._state.deployments.values(), key=lambda record: record.decision_index):
                if viewer.may_read(record.label):
                    newest[record.environment, record.component] = record.ping_id
            seen = [self._state.observations[place] for place in sorted(self._state.observations)]
            return [
                one
                for one in seen
                if viewer.may_read(one.label)
                and one.kind is not None
                and environment in (None, one.environment)
                and component in (None, one.component)
                and newest.get((one.environment, one.component)) == one.deployment
            ]

    async def add_order(self, record):
        async with self._faults.around("add_order"):
            return self._state.orders.setdefault((record.target, record.order), record)

    async def order(self, target, order):
        async with self._faults.around("order"):
            return self._state.orders.get((target, order))

    async def order_logged(self, target, order, log_index):
        async with self._faults.around("order_logged"):
            self._state.orders[target, order] = replace(self._state.orders[target, order], log_index=log_index)

    async def reported(self, target, component):
        async with self._faults.around("reported"):
            logged = [o for o in self._state.orders.values() if (o.target, o.component) == (target, component) and o.log_index is not None]
            newest = sorted(sorted(logged, key=lambda o: o.order), key=lambda o: o.applied_at, reverse=True)
            return [o.order for o in newest[:64]]


class FakeEntries(_Store):
    def __init__(self, database, origin):
        super().__init__(database)
        self._origin = origin
        self.rows = self._state.indexes.setdefault(origin, {})

    async def size(self):
        async with self._faults.around("index_size"):
            return self._state.indexed.get(self._origin, 0)

    async def add(self, start, stop, rows):
        async with self._faults.around("index_add"):
            if self._state.indexed.get(self._origin, 0) != start or self._origin not in self._state.logs:
                return False
            self._state.indexed[self._origin] = stop
            self.rows |= {row.index: row for row in rows}
            return True

    async def places(self, indices):
        async with self._faults.around("index_places"):
            return {index: (self.rows[index].environment, self.rows[index].component) for index in indices if index in self.rows}

    async def find(self, wanted, viewer):
        if not 1 <= wanted.limit <= MAX_PAGE:
            raise ValueError("a page has 1 to 200 entries")
        async with self._faults.around("index_find"):
            bodies = [entry.body for entry in self._state.logs[self._origin].entries] if self._origin in self._state.logs else []
            fits = [
                EntryHit(row, bodies[index])
                for index, row in sorted(self.rows.items(), reverse=True)
                if viewer.may_read(row.label)
                and wanted.kind in (None, row.kind)
                and wanted.environment in (None, row.environment)
                and wanted.component in (None, row.component)
                and (wanted.person is None or wanted.person in row.people)
                and (wanted.since is None or row.at >= wanted.since)
                and (wanted.below is None or index < wanted.below)
                and index < len(bodies)
            ]
            return fits[: wanted.limit]


class FakePeople(_Store):
    async def person(self, issuer, subject):
        async with self._faults.around("person"):
            return self._state.people.get((issuer, subject))

    async def person_by_pseudonym(self, pseudonym):
        async with self._faults.around("person_by_pseudonym"):
            return next((person for person in self._state.people.values() if person.pseudonym == pseudonym), None)

    async def add_person(self, record):
        async with self._faults.around("add_person"):
            return self._state.people.setdefault((record.issuer, record.subject), record)

    async def use_once(self, issuer, jti, purpose, expires_at):
        async with self._faults.around("use_once"):
            now, key = self._state.clock(), (issuer, jti, purpose)
            self._state.tokens = {k: until for k, until in self._state.tokens.items() if until >= now}
            first = key not in self._state.tokens
            self._state.tokens.setdefault(key, expires_at)
            return first


class _LogRows:
    def __init__(self):
        self.head = CompactRange.empty()
        self.entries, self.by_id, self.tiles, self.notes, self.key_changes = [], {}, {}, [], {}
        self.sealed = {}
        self.turn, self.turn_of = trio.Lock(), None


class FakeLogStore(_Store):
    """`rows` may be edited by tests that play a database administrator."""

    def __init__(self, database, origin):
        super().__init__(database)
        self._origin = origin
        self.rows = self._state.logs.setdefault(origin, _LogRows())

    async def load_head(self):
        async with self._faults.around("load_head"):
            return self.rows.head

    async def lead(self):
        async with self._faults.around("lead"):
            if self._db.replica_id not in self._state.living:
                raise Unavailable("log-unavailable", "the replica's session is lost")
            if self._state.leads.get(self._origin) not in self._state.living:
                self._state.leads[self._origin] = self._db.replica_id
            return self._db.replica_id if self._state.leads[self._origin] == self._db.replica_id else None

    @asynccontextmanager
    async def turn(self):
        async with self.rows.turn:
            self.rows.turn_of = self
            try:
                yield
            finally:
                self.rows.turn_of = None

    async def append_batch(self, old, entries, tiles, new):
        if self.rows.turn_of is not self:
            async with self.rows.turn:
                pass
        async with self._faults.around("append_batch"):
            if self.rows.head != old:
                raise HeadMoved("head-moved", "another writer appended")
            if any(entry.entry_id in self.rows.by_id for entry in entries):
                raise Rejected("database-rejected", "an entry id stands there")
            slots = {slot.entry_id: StoredSlot(entry.index, slot) for entry in entries for slot in entry.slots}
            if slots.keys() & self.rows.sealed or len(slots) < sum(len(entry.slots) for entry in entries):
                raise Rejected("database-rejected", "an entry is sealed there")
            assert [entry.index for entry in entries] == list(range(old.size, new.size))
            assert all(len(tile.data) == 8192 and (tile.level, tile.n) not in self.rows.tiles for tile in tiles)
            self.rows.entries += entries
            self.rows.by_id |= {entry.entry_id: entry for entry in entries}
            self.rows.tiles |= {(tile.level, tile.n): tile.data for tile in tiles}
            self.rows.sealed |= slots
            self.rows.head = new

    def lose_commit(self, *, persisted):
        """The next append's connection breaks while committing."""
        self._faults.next("append_batch", persisted=persisted, error=OutcomeUnknown("log-unavailable", "a planned fault"))

    async def find(self, entry_ids):
        async with self._faults.around("find"):
            found = (self.rows.by_id[entry_id] for entry_id in entry_ids if entry_id in self.rows.by_id)
            return {entry.entry_id: (Appended(entry.index, entry.leaf_hash), entry.body) for entry in found}

    async def find_sealed(self, entry_ids, viewer):
        async with self._faults.around("find_sealed"):
            found = (self.rows.sealed[entry_id] for entry_id in entry_ids if entry_id in self.rows.sealed)
            return {stored.sealed.entry_id: stored for stored in found if viewer.may_read(stored.sealed.label)}

    async def read_entries(self, start, count):
        async with self._faults.around("read_entries"):
            return [entry.body for entry in self.rows.entries[start : start + count]]

    async def newest_of(self, kind):
        async with self._faults.around("newest_of"):
            return next((entry.body for entry in reversed(self.rows.entries) if entry.kind == kind), None)

    async def read_leaf_hashes(self, start, count):
        async with self._faults.around("read_leaf_hashes"):
            return [entry.leaf_hash for entry in self.rows.entries[start : start + count]]

    async def read_tile(self, level, n):
        async with self._faults.around("read_tile"):
            return self.rows.tiles.get((level, n))

    async def save_checkpoint(self, size, note):
        async with self._faults.around("save_checkpoint"):
            self.rows.notes.append((size, note))

    async def newest_checkpoints(self, count):
        async with self._faults.around("newest_checkpoints"):
            ordered = sorted(enumerate(self.rows.notes), key=lambda item: (item[1][0], item[0]), reverse=True)
            return [note for _, (_, note) in ordered[:count]]

    async def newest_checkpoint(self):
        async with self._faults.around("newest_checkpoint"):
            return max(enumerate(self.rows.notes), key=lambda item: (item[1][0], item[0]))[1][1] if self.rows.notes else None

    async def add_key_change(self, entry_id, entry, endorsement):
        async with self._faults.around("add_key_change"):
            self.rows.key_changes.setdefault(entry_id, (entry, endorsement))

    async def key_changes(self):
        async with self._faults.around("key_changes"):
            found = [self._key_change(entry_id, *row) for entry_id, row in self.rows.key_changes.items()]
            return sorted(found, key=lambda row: (row.index is None, row.index))

    def _key_change(self, entry_id, entry, endorsement):
        logged = self.rows.by_id.get(entry_id)
        if logged is None or logged.body != entry:
            return KeyChangeRow(entry, endorsement)
        covering = [(size, -number, note) for number, (size, note) in enumerate(self.rows.notes) if size > logged.index]
        return KeyChangeRow(entry, endorsement, logged.index, min(covering)[2] if covering else None)
