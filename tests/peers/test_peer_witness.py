"""Witnesses across implementations: the public one (omniwitness) cosigns our log, and ours cosigns a log of tessera's.

Either side is driven by the client of the other's people: our publisher asks omniwitness, tessera's log asks `pingee-witness`.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from clients.demo.certificate import make_certificate
from gatekeeper.adapters.witness import HttpsWitnesses, open_witnesses
from gatekeeper.ports.errors import Rejected, Unavailable
from gatekeeper.ports.witness import Cosignatures, OtherRoot, OtherSize
from gatekeeper.sequencer import WitnessPlan
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.consistency import Growth, encode_growth, parse_growth
from gatekeeper.tlog.cosignature import verify_cosignature
from gatekeeper.tlog.errors import QuorumNotMet
from gatekeeper.tlog.fsck import fsck
from gatekeeper.tlog.logpolicy import Group, LogPolicy, Witness, encode_log_policy, open_cosigned
from gatekeeper.tlog.note import parse_note
from gatekeeper.tlog.proof import parse_proof
from gatekeeper.tlog.signature import VerifierKey, ed25519_vkey, encode_vkey, parse_vkey
from tests.fakes.api import until
from tests.fakes.frames import MemoryLog
from tests.fakes.log_peers import append_to_foreign_log, ask_notes, running_omniwitness, tls_before
from tests.fakes.running_log import ORIGIN, log_key, running_log
from tests.fakes.stores import FakeDatabase
from tests.fakes.vault import FakeLogVault
from tests.fakes.witnesses import running_witness

pytestmark = [pytest.mark.peer, pytest.mark.anyio]


class PublicWitness:
    """omniwitness with a key that x/mod made. `start` and `stop` keep what it remembers."""

    def __init__(self, directory: Path, certificates: Path, *logs: VerifierKey) -> None:
        key = ask_notes("key", Name="public.witness.example")
        self.vkey, self._private = parse_vkey(key["cosigner"]), key["private"]
        self._directory, self._certificates, self._logs, self._stack = directory, certificates, logs, ExitStack()

    def start(self) -> None:
        plain = self._stack.enter_context(running_omniwitness(self._directory, self._logs, self._private))
        self.url = self._stack.enter_context(tls_before(plain, self._certificates))

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture
def public(tmp_path, certificates):
    """Makes a running public witness of some logs."""
    with ExitStack() as stack:

        def make(*logs: VerifierKey) -> PublicWitness:
            witness = PublicWitness(tmp_path / "public", certificates, *logs)
            stack.callback(witness.stop)
            witness.start()
            return witness

        yield make


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    make_certificate(directory, "peer tests")
    return directory


@dataclass
class Offered:
    """The public witness, a log in memory, and the way between them."""

    link: HttpsWitnesses
    witness: PublicWitness
    log: MemoryLog

    async def offer(self, old, size, *, log=None, path=None):
        log = log or self.log
        body = encode_growth(Growth(old, parse_growth(log.growth(old, size)).path if path is None else path, log.note(size)))
        return await self.link.add_checkpoint(self.witness.url, body)


@pytest.fixture
async def offered(public, certificates):
    log = MemoryLog()
    log.entries = [b"%d" % number for number in range(9)]
    async with open_witnesses(certificates / "ca.pem") as link:
        yield Offered(link, public(log.vkey), log)


async def test_the_public_witness_cosigns_each_checkpoint_that_extends_the_last_and_remembers_when_it_is_restarted(offered):
    for old, size in ((0, 3), (3, 4), (4, 9), (9, 9)):
        answer = await offered.offer(old, size)
        assert isinstance(answer, Cosignatures), answer
        (line,) = answer.lines
        note = parse_note(offered.log.note(size))
        assert verify_cosignature(offered.witness.vkey, note.text, line) > 1_700_000_000
    offered.witness.stop()
    with pytest.raises(Unavailable):
        await offered.offer(9, 9)
    offered.witness.start()
    assert await offered.offer(0, 9) == OtherSize(9)


async def test_the_public_witness_answers_what_we_take_it_to_answer(offered):
    assert isinstance(await offered.offer(0, 4), Cosignatures)
    for old in (0, 3, 5):
        assert await offered.offer(old, 9) == OtherSize(4)
    assert await offered.offer(4, 9, path=(b"\x01" * 32,) * 3) == OtherRoot()
    fork = offered.log.fork()
    fork.entries = [b"other", *offered.log.entries[1:]]
    assert await offered.offer(4, 4, log=fork) == OtherRoot()
    assert await offered.offer(4, 9, log=fork) == OtherRoot()
    with pytest.raises(Rejected, match="witness-rejected"):
        await offered.offer(5, 4, path=())
    for body in (b"", b"old", b"old 0\nAAA\n\n"):
        with pytest.raises(Rejected, match="witness-rejected"):
            await offered.link.add_checkpoint(offered.witness.url, body)
    # Here it breaks down where the specification says 404, 403 and 400, so we take it for a witness that is away. It cosigns none of them.
    for origin in ("another.example/log", offered.log.vkey.name):
        with pytest.raises(Unavailable, match="HTTP 500"):
            await offered.offer(4, 9, log=_other(offered.log, origin))
    with pytest.raises(Unavailable, match="HTTP 500"):
        await offered.link.add_checkpoint(offered.witness.url, b"old 4\n\n")
    assert isinstance(await offered.offer(4, 9), Cosignatures)


def _other(log, origin):
    """The same entries under another key."""
    other = MemoryLog()
    other.entries, other.vkey = log.entries, ed25519_vkey(origin, other.vkey.public)
    return other


async def test_our_log_is_published_with_the_cosignatures_of_the_public_witness_and_ours(public, certificates, tmp_path):
    vault, store = FakeLogVault(), FakeDatabase().log(ORIGIN)
    key = await log_key(vault)
    theirs = public(key)
    with running_witness(tmp_path / "ours", certificates, key) as ours:
        witnesses = (Witness("public", theirs.vkey, theirs.url), Witness("ours", parse_vkey(ours.vkey), ours.url))
        policy = LogPolicy(key, witnesses=witnesses, groups=(Group("both", 2, ("public", "ours")),), quorum="both")
        async with open_witnesses(certificates / "ca.pem") as link:
            plan = WitnessPlan(policy, link)
            for _ in range(2):  # the second run knows nothing of the witnesses' sizes, and is told
                async with running_log(store, vault, witnesses=plan) as log:
                    for _ in range(3):
                        entry = secrets.token_bytes(99)
                        where = await log.append(entry, entry_id=secrets.token_hex(16), kind="intake")
                        proof = (await log.prove(where.index)).proof
                        size = open_cosigned(parse_proof(proof).checkpoint, policy).size
                        cosigners = [encode_vkey(witness.key) for witness in witnesses]
                        found = ask_notes("proof", Keys=[encode_vkey(key)], Cosigners=cosigners, Proof=proof, Entry=entry)
                        assert (found["index"], found["size"]) == (where.index, size)
                        note = parse_proof(proof).checkpoint
                        seen = ask_notes("checkpoint", Keys=[encode_vkey(key)], Cosigners=cosigners, Note=note)
                        assert {line["name"] for line in seen["signed"]} == {ORIGIN, *(witness.key.name for witness in witnesses)}
                        assert ask_notes("policy", Policy=encode_log_policy(policy), Note=note)["satisfied"] is True
                    assert log.alarm() is None


async def test_a_log_that_forgot_what_the_public_witness_saw_signs_no_more(public, certificates):
    """The database and the vault rewound together: nothing of ours can tell, the witness can."""
    vault = FakeLogVault()
    key = await log_key(vault)
    theirs = public(key)
    policy = LogPolicy(key, witnesses=(Witness("public", theirs.vkey, theirs.url),), quorum="public")
    async with open_witnesses(certificates / "ca.pem") as link:
        plan = WitnessPlan(policy, link)
        async with running_log(FakeDatabase().log(ORIGIN), vault, witnesses=plan) as log:
            for _ in range(5):
                where = await log.append(secrets.token_bytes(9), entry_id=secrets.token_hex(16), kind="intake")
            await log.prove(where.index)
        async with running_log(FakeDatabase().log(ORIGIN), FakeLogVault(vault.key), witnesses=plan) as log:
            await until(log.alarm)
            assert "the witness public knows this log at size 6: it was rewound or forked" in log.alarm()
            assert log.published() is None


class ForeignLog:
    """A log of tessera's in a directory of its own, which asks our witness."""

    def __init__(self, directory: Path, certificates: Path) -> None:
        directory.mkdir()
        key = ask_notes("key", Name="foreign.example/log")
        self.key = parse_vkey(key["public"])
        self.storage, self._private, self._ca = directory / "storage", directory / "key", certificates / "ca.pem"
        self._private.write_text(key["private"])
        self._arguments: tuple[str, ...] = ()

    def ask(self, name: str, vkey: str, url: str, *more: str) -> LogPolicy:
        """From now on it publishes with this witness's cosignature; gives the policy file that says so."""
        policy = LogPolicy(self.key, witnesses=(Witness(name, parse_vkey(vkey), url),), quorum=name)
        file = self._private.with_name("witness-policy")
        file.write_bytes(encode_log_policy(policy))
        self._arguments = (f"--witness_policy_file={file}", *more)
        return policy

    def append(self, *entries: bytes, storage: Path | None = None) -> str:
        return append_to_foreign_log(storage or self.storage, self._private, entries, *self._arguments, ca=self._ca)

    def note(self, storage: Path | None = None) -> bytes:
        return ((storage or self.storage) / "checkpoint").read_bytes()


@pytest.fixture
def foreign(certificates, tmp_path):
    return ForeignLog(tmp_path / "foreign", certificates)


async def test_ours_cosigns_a_log_of_tessera_as_its_own_client_asks(foreign, certificates, tmp_path):
    foreign.append(b"before it had a witness")
    with running_witness(tmp_path / "ours", certificates, foreign.key) as ours:
        policy = foreign.ask("pingee", ours.vkey, ours.url)
        with pytest.raises(QuorumNotMet):
            open_cosigned(foreign.note(), policy)
        # Each run is a new process that begins with `old 0`, is told our size by 409, and comes back with a proof.
        for count in (1, 2, 300, 255):
            foreign.append(*(secrets.token_bytes(20) for _ in range(count)))
            note = foreign.note()
            checkpoint = open_cosigned(note, policy)
            assert f"size {checkpoint.size} root {checkpoint.root.hex()}" in ours.command("status")
            seen = ask_notes("checkpoint", Keys=[encode_vkey(foreign.key)], Cosigners=[ours.vkey], Note=note)
            assert [line["name"] for line in seen["signed"]] == [foreign.key.name, parse_vkey(ours.vkey).name]
        assert checkpoint.size == 1 + 1 + 2 + 300 + 255

    def fetch(address):
        file = foreign.storage / address.path
        return file.read_bytes() if file.exists() else None

    report = fsck(open_checkpoint(note, foreign.key), fetch, schema=False)
    assert report.sound, report.fault


async def test_ours_refuses_a_log_of_tessera_that_shows_two_histories(foreign, certificates, tmp_path):
    foreign.append(b"one", b"two")
    fork = tmp_path / "fork"
    await trio.run_process(["/bin/cp", "-a", str(foreign.storage), str(fork)])
    with running_witness(tmp_path / "ours", certificates, foreign.key) as ours:
        policy = foreign.ask("pingee", ours.vkey, ours.url, "--witness_fail_open")
        foreign.append(b"three", b"four")
        assert open_cosigned(foreign.note(), policy).size == 4
        said = foreign.append(b"drei", b"vier", b"funf", storage=fork)
        assert "422" in said
        with pytest.raises(QuorumNotMet):
            open_cosigned(foreign.note(fork), policy)
        # A fork that only never grew from what we know is not cosigned; the history that we know goes on.
        foreign.append(b"five")
        assert open_cosigned(foreign.note(), policy).size == 5


async def test_ours_stops_for_good_at_two_notes_of_one_size_and_keeps_both(foreign, certificates, tmp_path):
    foreign.append(b"one", b"two")
    fork = tmp_path / "fork"
    await trio.run_process(["/bin/cp", "-a", str(foreign.storage), str(fork)])
    with running_witness(tmp_path / "ours", certificates, foreign.key) as ours:
        foreign.ask("pingee", ours.vkey, ours.url, "--witness_fail_open")
        foreign.append(b"three")
        assert "422" in foreign.append(b"drei", storage=fork)
        found = ours.command("status", code=3)
        assert "two notes of one size, both signed by the log's key, have two roots" in found
        assert all(parse_note(note).text.decode() in found for note in (foreign.note(), foreign.note(fork)))
        assert "422" in foreign.append(b"four")


async def test_ours_does_not_cosign_a_log_that_it_was_not_told_of(foreign, certificates, tmp_path):
    with running_witness(tmp_path / "ours", certificates, MemoryLog().vkey) as ours:
        foreign.ask("pingee", ours.vkey, ours.url, "--witness_fail_open")
        assert "404" in foreign.append(b"one")
        assert len(parse_note(foreign.note()).signatures) == 1
        assert "foreign.example" not in ours.command("status")
