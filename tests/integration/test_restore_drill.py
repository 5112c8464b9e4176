"""The restore drill: a database put back from a backup, on a real PostgreSQL, with a real doorkeeper. Attack matrix row 118, the restored backup.

The log refuses to sign, two people open its next origin, every reader and the target that saw the lost entries can follow; and what rewinds database
and vault together is caught by the target's memory.
"""

import json
import secrets
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from gatekeeper.exits import Failure
from gatekeeper.model import uris
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.moment import later, moment
from gatekeeper.model.receipt import encode_receipt
from gatekeeper.model.statement import encode_decision_statement
from gatekeeper.policy.document import Person
from gatekeeper.policy.revocations import Revocations
from gatekeeper.ports.log import LogRefused
from gatekeeper.ports.origins import OpeningRecord
from gatekeeper.postgres import open_database
from gatekeeper.postgres.log_check import check_rows
from gatekeeper.reopen import Reopening, reopen
from gatekeeper.sequencer.origins import open_origins
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.entry import encode_entry, parse_entry
from gatekeeper.tlog.kinds import Cause
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.origins import key_under
from gatekeeper.tlog.person import hidden_text
from gatekeeper.tlog.proof import parse_proof, verify_proof
from gatekeeper.verify.dsse import envelope_json, pae
from gatekeeper.verify.order import LogOrder, OrderAction, encode_log_order
from tests.fakes.doorkeepers import installed
from tests.fakes.frames import ORIGIN, Gatekeeper, MemoryLog, _entry, make_artifact, naming
from tests.fakes.orders import People, signed
from tests.fakes.records import deployment
from tests.fakes.running_log import opening, running_log
from tests.fakes.vault import FakeDecideVault, FakeLogVault

pytestmark = pytest.mark.anyio

NEXT, THIRD = ORIGIN + "b", ORIGIN + "c"
REASON = "the disk of the database died; restored from this morning's backup"


def clock():
    return datetime.now(UTC)


class Site:
    """A log's key and people, a doorkeeper that pins them, and whatever database stands behind them now."""

    def __init__(self, server):
        self.server, self.vault, self.decide, self.people = server, FakeLogVault(), FakeDecideVault(), People()
        self.gatekeeper = Gatekeeper(log=MemoryLog(self.vault.key))
        self.key, self.door = self.gatekeeper.log.vkey, None
        self.name, self.url = server.fresh()
        self.names = [self.name]

    def dump(self):
        """A backup: the database as it is now, under another name; nobody is connected."""
        name = f"t_{secrets.token_hex(6)}"
        self.server.postgres.create_database(name, template=self.name)
        self.names.append(name)
        return name

    def restore(self, backup):
        self.name = f"t_{secrets.token_hex(6)}"
        self.url = self.server.postgres.create_database(self.name, template=backup)
        self.names.append(self.name)

    def order(self, *names, following=NEXT, origin=ORIGIN, reason=REASON):
        until = later(moment(clock()), seconds=3600)
        order = LogOrder(OrderAction.REOPEN, "production", origin, {"next": following}, reason, until)
        return signed(encode_log_order(order), *(getattr(self.people, name) for name in names), payload_type=uris.LOG_ORDER)

    async def reopen(self, order, *, reason=REASON, seen=None, origin=ORIGIN):
        async with open_database(self.url) as database:
            named = {name: Person(name, "https://people.test", name, frozenset(), keys, frozenset(), {}) for name, keys in self.people.keys.items()}
            deed = Reopening(
                instance="production",
                key=key_under(self.key, origin),
                operator_keys=self.people.keys,
                policy=Policy(named),
                log=database.log,
                origins=database.origins,
                people=database.people,
                vault=self.vault,
                decide=self.decide,
                clock=clock,
                random=secrets.token_bytes,
            )
            return await reopen(deed, order, reason, seen)

    @asynccontextmanager
    async def running(self, origin=ORIGIN):
        """A gatekeeper's log at work, and the closed origins beside it."""
        async with open_database(self.url) as database, running_log(database.log(origin), self.vault, first=opening(origin), clock=clock) as log:
            await log.prove(0)
            stores = {name: database.log(name) for name in await database.origins.origins()}
            yield Running(self, log, await open_origins(stores, database.origins, origin, clock), origin)


class Policy:
    """As much of a policy as an opening reads."""

    def __init__(self, people):
        self.people, self.commit, self.revocations = people, "c" * 40, Revocations()


class Running:
    def __init__(self, site, log, origins, origin):
        self.site, self.log, self.origins, self.origin = site, log, origins, origin

    async def add(self, count):
        """Decisions that nobody carries out."""
        for _ in range(count):
            _, _, index, _ = await self.decide("none")
        await self.log.prove(index)

    async def decide(self, version):
        """Log an Allow for the doorkeeper; its receipt and everything its frame needs but the proofs."""
        artifact, keeper, configuration = make_artifact(version), self.site.gatekeeper, naming(b"")
        statement = keeper.statement(artifact, configuration=configuration)
        payload = encode_decision_statement(statement)
        signature = keeper.key.sign(pae(uris.IN_TOTO_PAYLOAD, payload), ec.ECDSA(hashes.SHA256()))
        entry = replace(_entry(statement, payload), origin=self.origin)
        body = encode_entry(entry)
        where = await self.log.append(body, entry_id=entry.entry_id, kind="decision")
        envelope = envelope_json(uris.IN_TOTO_PAYLOAD, payload, [("", signature)])
        receipt = encode_receipt(statement=envelope, entry=body, index=where.index, origin=self.origin, evidence=())
        return artifact, receipt, where.index, configuration

    async def deploy(self, version):
        return await self.send(*await self.decide(version))

    async def send(self, artifact, receipt, index, configuration):
        """As a gatekeeper sends it: again from wherever the target says that it stands. The exit code and the last word."""
        size, origin = 0, None
        for _ in range(4):
            inclusion = await self.log.prove(index, old_size=0 if origin else size, also=[0])
            items = {
                PartName.RECEIPT: receipt,
                PartName.PROOF: inclusion.proof,
                PartName.CONSISTENCY: inclusion.growth,
                PartName.MANIFEST: artifact.manifest,
                PartName.CONFIG: artifact.config,
                PartName.CONFIGURATION: configuration,
                PartName.LAYER: artifact.layer,
                PartName.SETTINGS: b"",
            }
            if origin:
                crossings = await self.origins.crossings(origin, size, inclusion.also[0])
                if crossings is None:
                    return None, {"unshown": [origin, size]}
                items[PartName.ORIGINS] = crossings
            code, last = await trio.to_thread.run_sync(self.site.door.apply, digest_of(receipt), items)
            if code != 5:
                return code, last
            size, origin = last["stale"], last.get("origin")
        raise AssertionError("the target's memory kept moving")


@pytest.fixture
def site(postgres_server, tmp_path):
    site = Site(postgres_server)
    with installed(tmp_path, site.gatekeeper) as door:
        site.door = door
        yield site
    for name in site.names:
        postgres_server.drop(name)


async def rewound(site):
    """Four entries, a deploy and a backup; then more, and a deploy that the target saw; then the backup is put back. The last signed note."""
    async with site.running() as gatekeeper:
        await gatekeeper.add(3)
        code, last = await gatekeeper.deploy("one")
        assert (code, last["outcome"]) == (0, "healthy")
    backup = site.dump()
    async with site.running() as gatekeeper:
        await gatekeeper.add(4)
        code, last = await gatekeeper.deploy("two")
        assert (code, last["outcome"]) == (0, "healthy")
        await gatekeeper.add(2)
        note = gatekeeper.log.published().note
    assert note == site.vault.head.note
    site.restore(backup)
    return note


async def refused_to_start(site, origin, words):
    with pytest.raises(ExceptionGroup) as raised:
        async with site.running(origin):
            pass
    (error,) = raised.value.exceptions
    assert isinstance(error, LogRefused)
    assert words in error.detail


async def test_a_restored_backup_refuses_to_sign_and_two_people_open_the_next_origin(site):
    note = await rewound(site)
    versions = site.vault.head.version
    await refused_to_start(site, ORIGIN, "the database was rewound")
    assert (site.vault.head.note, site.vault.head.version) == (note, versions)

    for names, why in ((("olga",), "1 signatures"), (("olga", "olga2"), "both signatures are by olga"), (("olga", "stranger"), "not by a key")):
        with pytest.raises(Failure, match=rf"{why}.*\(order-signers\)"):
            await site.reopen(site.order(*names))
    assert site.vault.head.note == note

    opened = await site.reopen(site.order("olga", "omar"))
    previous = open_checkpoint(note, site.key)
    assert (opened.key.name, opened.previous.checkpoint, opened.lost) == (NEXT, previous.checkpoint, previous.size - 5)
    assert open_checkpoint(site.vault.head.note, opened.key).size == 1
    assert site.vault.head.version == versions + 1
    await refused_to_start(site, ORIGIN, f"the vault's head is of the origin {NEXT}")

    async with site.running(NEXT) as gatekeeper:
        entry = parse_entry((await gatekeeper.log.entries(0, 1))[2:])
        assert (entry.cause, entry.previous.encode(), entry.origin) == (Cause.LOSS, note, NEXT)
        assert [head.size for head in entry.heads] == [5, previous.size]
        assert len(set(entry.who)) == 2
        # The target that saw the lost entries follows: what it remembers is a prefix of the note in entry 0.
        assert site.door.status()["origin"] == ORIGIN
        code, last = await gatekeeper.deploy("three")
        assert (code, last["outcome"]) == (0, "healthy"), last
        status = site.door.status()
        assert (status["origin"], status["closed_origins"]) == (NEXT, [ORIGIN])
        # A second one, from what it remembers now.
        code, last = await gatekeeper.deploy("four")
        assert (code, last["outcome"]) == (0, "healthy"), last

        # What the database still has of the old origin is served as it was signed, and nothing beyond.
        closed = gatekeeper.origins.by_tail("2026")
        view = await closed.view()
        assert view.size == 5
        checkpoint = open_checkpoint(view.note, site.key)
        proof = parse_proof(await gatekeeper.origins.prove(ORIGIN, 4))
        first = await closed.entries(0, 5)
        decision = [parse_entry(body) for body in split(first)][4]
        assert verify_proof(proof, encode_entry(decision), LogPolicy(site.key)).checkpoint.checkpoint == checkpoint.checkpoint
        assert await closed.proof(5) is None
        assert await closed.entries(0, 6) is None
        assert gatekeeper.origins.by_tail("2026b") is None

    found = await check_rows(site.url, opened.key, older=open_checkpoint(opened.note, opened.key))
    assert found.report.sound, found.report.fault
    old = await check_rows(site.url, site.key)
    assert old.report.sound, old.report.fault
    # Held against the last note known, the old origin shows its loss.
    shown = await check_rows(site.url, site.key, older=previous)
    assert not shown.report.sound

    async with open_database(site.url) as database:
        kept = await database.origins.opening(NEXT)
    assert (kept.signers, kept.reason, kept.previous_origin) == (("olga", "omar"), REASON, ORIGIN)
    assert entry.reason == hidden_text(kept.salt, REASON)


def split(bundle):
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        yield bundle[2 : 2 + length]
        bundle = bundle[2 + length :]


async def test_an_old_origins_receipt_is_closed_at_the_target(site):
    await rewound(site)
    # Before the next origin is opened: an Allow of the restored past, proven under a note that was signed then.
    async with open_database(site.url) as database:
        store = database.log(ORIGIN)
        await store.load_head()
        old = await store.read_entries(4, 1)
    await site.reopen(site.order("olga", "omar"))
    async with site.running(NEXT) as gatekeeper:
        code, _ = await gatekeeper.deploy("three")
        assert code == 0
        artifact, receipt, index, configuration = await gatekeeper.decide("four")
        document = json.loads(receipt) | {"origin": ORIGIN}
        assert old
        forged = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        code, last = await gatekeeper.send(artifact, forged, index, configuration)
    assert (code, last["refused"]) == (3, "origin-closed"), last


async def test_a_log_that_is_as_it_was_signed_is_not_reopened(site):
    async with site.running() as gatekeeper:
        await gatekeeper.add(3)
        with pytest.raises(Failure, match="a replica still runs"):
            await site.reopen(site.order("olga", "omar"))
    head = site.vault.head
    with pytest.raises(Failure, match=r"as it was signed, and a gatekeeper starts on it.*\(order-scope\)"):
        await site.reopen(site.order("olga", "omar"))
    for order, words in (
        (site.order("olga", "omar", following="elsewhere.test/log/2026b"), "cannot follow"),
        (site.order("olga", "omar", following=ORIGIN), "cannot follow"),
        (site.order("olga", "omar", origin=NEXT, following=THIRD), "the order is about"),
        (site.order("olga", "omar", reason="another"), "another reason"),
    ):
        with pytest.raises(Failure, match=words):
            await site.reopen(order)
    assert site.vault.head == head
    async with site.running() as gatekeeper:
        await gatekeeper.add(1)


@pytest.mark.parametrize("cut", ["sign", "save", "vault before", "vault after"])
async def test_an_opening_that_was_cut_short_goes_on_where_it_ended(site, cut, monkeypatch):
    note = await rewound(site)
    order = site.order("olga", "omar")

    class Cut(Exception):
        pass

    write = site.vault.write_head

    async def cut_short(*_args, **_options):
        raise Cut

    async def cut_after(note, **options):
        await write(note, **options)
        raise Cut

    with monkeypatch.context() as patched:
        if cut == "sign":
            patched.setattr(site.vault, "sign", cut_short)
        elif cut == "save":
            patched.setattr("gatekeeper.postgres.log_store.PostgresLog.save_checkpoint", cut_short)
        else:
            patched.setattr(site.vault, "write_head", cut_short if cut == "vault before" else cut_after)
        with pytest.raises(Cut):
            await site.reopen(order)
    if cut != "vault after":
        # Neither origin holds the lock for a start.
        await refused_to_start(site, NEXT, f"the vault's head is of the origin {ORIGIN}")
        await refused_to_start(site, ORIGIN, "the database was rewound")
    opened = await site.reopen(order)
    assert opened.previous.note == note
    async with site.running(NEXT) as gatekeeper:
        code, last = await gatekeeper.deploy("three")
        assert (code, last["outcome"]) == (0, "healthy"), last


async def test_database_and_vault_rewound_together_are_caught_by_what_the_target_remembers(site):
    async with site.running() as gatekeeper:
        await gatekeeper.add(3)
        assert (await gatekeeper.deploy("one"))[0] == 0
    backup, head = site.dump(), site.vault.head
    async with site.running() as gatekeeper:
        assert (await gatekeeper.deploy("two"))[0] == 0
        seen = gatekeeper.log.published().note
    site.restore(backup)
    site.vault.head = head
    async with site.running() as gatekeeper:  # nothing here can know
        await gatekeeper.add(4)
        code, last = await gatekeeper.deploy("three")
        assert (code, last["refused"]) == (3, "log-fork"), last
        forked = gatekeeper.log.published().note
    (kept,) = site.door.place.forks.iterdir()
    assert seen in kept.read_bytes()
    assert any(line in kept.read_bytes() for line in forked.split(b"\n")[2:3])
    assert site.door.page().endswith("two")

    # Nobody here could tell before: now the note that the target kept is what an honest opening begins from.
    with pytest.raises(Failure, match="as it was signed"):
        await site.reopen(site.order("olga", "omar"))
    opened = await site.reopen(site.order("olga", "omar"), seen=seen)
    assert opened.key.name == NEXT


async def test_a_further_origin_follows_and_a_target_that_missed_one_crosses_both(site):
    await rewound(site)
    await site.reopen(site.order("olga", "omar"))
    async with site.running(NEXT) as gatekeeper:
        await gatekeeper.add(2)
    backup = site.dump()
    async with site.running(NEXT) as gatekeeper:
        await gatekeeper.add(3)
    site.restore(backup)
    await refused_to_start(site, NEXT, "the database was rewound")
    await site.reopen(site.order("olga", "omar", origin=NEXT, following=THIRD), origin=NEXT)
    async with site.running(THIRD) as gatekeeper:
        code, last = await gatekeeper.deploy("five")
        assert (code, last["outcome"]) == (0, "healthy"), last
    assert site.door.status()["closed_origins"] == [ORIGIN, NEXT]


async def test_the_newest_deployment_is_the_one_of_the_later_origin_whatever_its_index(site):
    early, opened_at, late = (datetime(2026, 11, day, tzinfo=UTC) for day in (1, 2, 3))
    async with open_database(site.url) as database:
        await database.deployments.add_deployment(deployment("1" * 32, decision_index=700, outcome_index=701, at=early))
        await database.deployments.add_deployment(deployment("2" * 32, decision_index=3, outcome_index=4, at=late))
        (place,) = await database.observations.places()
        assert place.newest.ping_id == "1" * 32  # one origin: the index decides, whatever the clock said
        record = OpeningRecord(NEXT, ORIGIN, digest_of(b"o"), ("olga", "omar"), b"order", "why", bytes(32), None, opened_at)
        assert await database.origins.add_opening(record) == record
        (place,) = await database.observations.places()
        assert place.newest.ping_id == "2" * 32
        assert await database.origins.add_opening(replace(record, reason="another")) == record
