"""Attack row 120 end to end: both keys of a real vault are rotated over a real log, and a real doorkeeper that knows the old ones follows.

The vault's operator rotates, two people order, the log tells, the target believes nobody but its own files and what it can check from them.
"""

import base64
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import trio

from clients.doorkeeper.state import load_memory
from gatekeeper.adapters.vault import Connection, login
from gatekeeper.model import uris
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.model.moment import later, render_moment
from gatekeeper.model.receipt import encode_receipt
from gatekeeper.model.statement import encode_decision_statement
from gatekeeper.ports.errors import Denied
from gatekeeper.postgres import open_database
from gatekeeper.postgres.log_check import check_rows
from gatekeeper.rotation import carry_out_rotations, log_keys, pinned_keys
from gatekeeper.sequencer import Sequencer
from gatekeeper.serve import clock
from gatekeeper.settings import BadSettings, VaultSettings
from gatekeeper.tlog.entry import KeyEntry, encode_entry, parse_entry
from gatekeeper.tlog.errors import UnknownLog
from gatekeeper.tlog.keyhistory import open_followed, parse_history
from gatekeeper.tlog.keyring import installed_keys
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.note import ed25519_vkey, encode_vkey, parse_note, parse_vkey
from gatekeeper.verify.dsse import envelope_json, pae
from gatekeeper.verify.order import LogOrder, OrderAction, encode_log_order
from gatekeeper.verify.receipt import parse_receipt_key, receipt_spki
from tests.fakes import frames
from tests.fakes.doorkeepers import installed
from tests.fakes.house import House
from tests.fakes.orders import signed
from tests.fakes.running_log import opening
from tests.fakes.running_vault import running_vault

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("vault-keys")]  # one worker, one vault
ORIGIN = "test.demo/log/2026"
OVERLAP_S = 12


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    with running_vault(tmp_path_factory.mktemp("rotation"), keep_root=True) as house:
        yield house


class Operator:
    """Who runs the vault: turns keys, and tells everybody their public halves."""

    def __init__(self, vault):
        self._root, self.vault = Connection(vault.address, vault.root), vault

    def rotate(self, name):
        self._root.write(f"transit/keys/test-{name}/rotate")
        keys = self._root.read(f"transit/keys/test-{name}")["data"]["keys"]
        return keys[max(keys, key=int)]["public_key"]

    def public(self, name, version="1"):
        return self._root.read(f"transit/keys/test-{name}")["data"]["keys"][version]["public_key"]

    def vkey(self, public):
        return encode_vkey(ed25519_vkey(ORIGIN, base64.b64decode(public)))


class Replica:
    """A gatekeeper's start, as `serve` does it, over real vault and database; and deploys as it would send them."""

    def __init__(self, vault, url):
        self.vault, self.url, self.house = vault, url, House()
        self.people = self.house.reviewers
        self.operators = {name: (person.public,) for name, person in self.people.items()}

    def order(self, action, *signers, seconds=3600, **parameters):
        order = LogOrder(action, "test", ORIGIN, parameters, "the yearly change", later(frames.now(), seconds=seconds))
        return signed(encode_log_order(order), *(self.people[name].key for name in signers), payload_type=uris.LOG_ORDER)

    @asynccontextmanager
    async def serving(self, settings):
        sessions = [await login(self.vault.address, self.vault.secret(f"test-{role}")) for role in ("log", "decide")]
        try:
            keys = pinned_keys(SimpleNamespace(instance="test", vault=settings), *sessions)
            async with open_database(self.url, clock=clock) as database:
                store = database.log(ORIGIN)
                log = Sequencer(store, keys.log_vault, opening=opening(ORIGIN), clock=clock, rotation=keys.log_rotation)
                changes = {"instance": "test", "origin": ORIGIN, "log": log, "decide_vault": keys.decide_vault, "clock": clock}
                parts = replace(self.house.parts, **changes, receipt_keys=keys.receipt_keys)
                async with trio.open_nursery() as nursery:
                    await nursery.start(log.run)
                    await carry_out_rotations(keys, parts, log, self.operators)
                    yield SimpleNamespace(log=log, keys=keys, store=store)
                    nursery.cancel_scope.cancel()
        finally:
            for session in sessions:
                await session.close()

    async def deploy(self, running, artifact, old):
        """The receipt's id and the parts of a frame: signed by the receipt key of the day, logged, proven, with the history of keys."""
        statement = frames.Gatekeeper().statement(artifact)
        payload = encode_decision_statement(statement)
        envelope = envelope_json(uris.IN_TOTO_PAYLOAD, payload, [("", await running.keys.decide_vault.sign(pae(uris.IN_TOTO_PAYLOAD, payload)))])
        entry = replace(frames._entry(statement, payload), origin=ORIGIN)
        where = await running.log.append(encode_entry(entry), entry_id=entry.entry_id, kind="decision")
        inclusion = await running.log.prove(where.index, old_size=old, with_keys=True)
        receipt = encode_receipt(statement=envelope, entry=encode_entry(entry), index=where.index, origin=ORIGIN, evidence=())
        shown = {} if inclusion.keys is None else {PartName.KEYS: inclusion.keys}
        return digest_of(receipt), shown | {
            PartName.RECEIPT: receipt, PartName.PROOF: inclusion.proof, PartName.CONSISTENCY: inclusion.growth,
            PartName.MANIFEST: artifact.manifest, PartName.CONFIG: artifact.config, PartName.CONFIGURATION: b"",
            PartName.LAYER: artifact.layer, PartName.SETTINGS: b"",
        }  # fmt: skip


def settings_of(vkey, pem, **changes):
    return replace(VaultSettings(url="", ca_file=None, log_vkey=vkey, receipt_key=pem.encode(), key_version=None), **changes)


def spki(pem):
    return receipt_spki(parse_receipt_key(pem))


def signers(log):
    return [line.key_id for line in parse_note(log.published().note).signatures]


async def send(door, deploy):
    return await trio.to_thread.run_sync(door.apply, *deploy)


def remembered(door):
    return load_memory(door.place).checkpoint.size


async def test_both_keys_are_rotated_and_a_doorkeeper_that_knows_the_old_ones_follows(vault, database_url, tmp_path):
    operator, replica = Operator(vault), Replica(vault, database_url)
    old_vkey, old_pem = operator.vkey(operator.public("deploylog")), operator.public("receipt")
    before = settings_of(old_vkey, old_pem, key_version=1)
    installation = SimpleNamespace(target="host-1", log_policy=f"log {old_vkey}\nquorum none\n".encode(), receipt_keys=old_pem.encode())
    with installed(tmp_path, installation) as door:
        async with replica.serving(before) as running:
            receipt, items = await replica.deploy(running, frames.make_artifact("1"), 0)
            assert PartName.KEYS not in items
            assert (await send(door, (receipt, items)))[0] == 0

        new_vkey, new_pem = operator.vkey(operator.rotate("deploylog")), operator.rotate("receipt")
        until = later(frames.now(), seconds=OVERLAP_S)
        during = replace(
            before,
            log_key_order=replica.order(OrderAction.ROTATE_LOG_KEY, "alice", "bob", new=new_vkey, until=render_moment(until)),
            receipt_key_order=replica.order(OrderAction.ROTATE_RECEIPT_KEY, "bob", "carol", new=spki(new_pem), until=render_moment(until)),
        )
        async with replica.serving(during) as running:
            # The new receipt key signs when a published checkpoint covers its entry, and not before.
            await running.log.prove(3)
            receipt, items = await replica.deploy(running, frames.make_artifact("2"), remembered(door))
            assert signers(running.log) == [parse_vkey(old_vkey).key_id, parse_vkey(new_vkey).key_id]
            assert spki(await running.keys.decide_vault.public_key_pem()) == spki(new_pem)
            # Without the entry of its key the new receipt is nobody's.
            code, said = await send(door, (receipt, {name: data for name, data in items.items() if name is not PartName.KEYS}))
            assert (code, said["refused"]) == (3, "bad-signature"), said
            assert (await send(door, (receipt, items)))[0] == 0
            assert load_memory(door.place).keys == (items[PartName.KEYS],)
            entries = [parse_entry(entry) for entry in await running.store.read_entries(0, 9)]
            changes = [entry for entry in entries if isinstance(entry, KeyEntry)]
            assert [(change.old, change.new, len(set(change.who))) for change in changes] == [(old_vkey, new_vkey, 2), (spki(old_pem), spki(new_pem), 2)]

        # A second start with the same orders, long past their own time or not, logs nothing again.
        async with replica.serving(during) as running:
            assert len([1 for entry in await running.store.read_entries(0, 99) if isinstance(parse_entry(entry), KeyEntry)]) == 2
            with trio.fail_after(OVERLAP_S + 60):
                while datetime.now(UTC) < until:  # noqa: ASYNC110 -- the overlap ends by the clock of every host
                    await trio.sleep(0.2)
            receipt, items = await replica.deploy(running, frames.make_artifact("3"), remembered(door))
            assert signers(running.log) == [parse_vkey(new_vkey).key_id]
            assert (await send(door, (receipt, items)))[0] == 0
            note, history = running.log.published().note, parse_history(await running.log.key_history())

        # An auditor with the old verifier key and what is served, and nothing else.
        policy = LogPolicy(log=parse_vkey(old_vkey))
        with pytest.raises(UnknownLog):
            open_followed(note, installed_keys(policy), policy, None, at=frames.now())
        assert open_followed(note, installed_keys(policy), policy, history, at=frames.now())[0].size == 6

        # The configuration of afterwards: the new keys, the old ones as past; the version of each is found by its public half.
        after = settings_of(new_vkey, new_pem, past_log_vkeys=(old_vkey,), past_receipt_keys=(old_pem.encode(),))
        async with replica.serving(after) as running:
            assert (await send(door, await replica.deploy(running, frames.make_artifact("4"), remembered(door))))[0] == 0
        key, *also = log_keys(SimpleNamespace(vault=after))
        report = await trio.to_thread.run_sync(lambda: trio.run(lambda: check_rows(database_url, key, also=tuple(also))))
        assert report.report.sound, report.report.fault

        # A thief who kept the old keys: the log's vault session and the old versions still sign, and the target no longer believes them.
        async with replica.serving(replace(after, past_log_vkeys=(old_vkey,))) as running:
            running.keys = replace(running.keys, decide_vault=await old_receipts(vault, old_pem))
            code, said = await send(door, await replica.deploy(running, frames.make_artifact("5"), remembered(door)))
            assert (code, said["refused"]) == (3, "bad-signature"), said


async def old_receipts(vault, pem):
    from gatekeeper.adapters.vault_decide import VaultDecide

    session = await login(vault.address, vault.secret("test-decide"))
    return VaultDecide(session, "test", public_key_pem=pem.encode())


async def test_neither_login_rotates_configures_or_exports_a_key(vault):
    for role, name in (("log", "deploylog"), ("decide", "receipt")):
        secret = vault.secret(f"test-{role}")
        secret_id = Connection(vault.address, secret.wrapping_token).write("sys/wrapping/unwrap")["data"]["secret_id"]
        token = Connection(vault.address).write("auth/approle/login", {"role_id": secret.role_id, "secret_id": secret_id})["auth"]["client_token"]
        own = Connection(vault.address, token)
        for path in (f"transit/keys/test-{name}/rotate", f"transit/keys/test-{name}/config"):
            with pytest.raises(Denied):
                own.write(path, {})
        with pytest.raises(Denied):
            own.read(f"transit/export/signing-key/test-{name}")


def test_an_order_for_another_use_or_for_the_pinned_key_is_refused_when_it_is_read(vault):
    operator, replica = Operator(vault), Replica(vault, "")
    vkey, pem = operator.vkey(operator.public("deploylog")), operator.public("receipt")
    until = render_moment(later(frames.now(), seconds=600))
    wrong = [
        (replica.order(OrderAction.REOPEN, "alice", "bob", next="x/log/2027"), "the order is to reopen, not to rotate-log-key"),
        (replica.order(OrderAction.ROTATE_LOG_KEY, "alice", "bob", new=vkey, until=until), "names the key that is pinned already"),
        (replica.order(OrderAction.ROTATE_LOG_KEY, "alice", "bob", new=vkey.replace("test.demo", "x.demo"), until=until), "key id is not that"),
        (replica.order(OrderAction.ROTATE_LOG_KEY, "alice", "bob", new="none", until=until), "a verifier key is"),
        (replica.order(OrderAction.ROTATE_LOG_KEY, "alice", "bob", new="none", until="tomorrow"), "/parameters/until"),
    ]
    for order, why in wrong:
        with pytest.raises(BadSettings, match=why):
            pinned_keys(SimpleNamespace(instance="test", vault=settings_of(vkey, pem, log_key_order=order)), None, None)
