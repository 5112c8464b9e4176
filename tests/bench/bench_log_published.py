"""From an entry to its signed checkpoint, and to a proof that three real witnesses cosigned; and what it costs to verify such a proof.

The vault is in memory (its own time is the vault's, some milliseconds a signature); PostgreSQL and the three `pingee-witness` processes are real,
with TLS and an fsync before each answer, all on this machine.
"""

from __future__ import annotations

import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from clients.demo.certificate import make_certificate
from gatekeeper.adapters.witness import open_witnesses
from gatekeeper.postgres import open_database
from gatekeeper.sequencer import WitnessPlan
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint
from gatekeeper.tlog.cosignature import cosigned_message
from gatekeeper.tlog.logpolicy import Group, LogPolicy, Witness
from gatekeeper.tlog.merkle import leaf_hash, node_hash
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note, parse_vkey
from gatekeeper.tlog.proof import TlogProof, encode_proof, parse_proof, verify_proof
from tests.bench.bench_log import a_server, p99
from tests.bench.registry import Bar, Figure, Measured, bench
from tests.fakes.running_log import ORIGIN, log_key, running_log
from tests.fakes.vault import FakeLogVault
from tests.fakes.witnesses import FakeWitness, policy_of, running_witness

SIGNED, WITNESSED, VERIFY = "log.checkpoint.p99_s", "log.witnessed.p99_s", "log.proof.verify_ms"
RUN_S = 6.0
PER_SECOND = 50
CALLERS = 8
VERIFIED = 2000


@bench(SIGNED, WITNESSED)
def published() -> list[Figure]:
    """The first waits for the clock, as nobody asks for a proof; the second as a deploy does. Each counts from before the append."""
    directory = Path(tempfile.mkdtemp(prefix="pingee-bench-witness-"))
    vault = FakeLogVault()
    try:
        make_certificate(directory, "a CA of the benchmark")
        with a_server() as postgres, ExitStack() as stack:
            signed = trio.run(_signed, postgres.create_database("signed"), vault)
            key = trio.run(log_key, vault)
            running = [stack.enter_context(running_witness(directory / name, directory, key)) for name in ("w1", "w2", "w3")]
            witnesses = tuple(Witness(one.name, parse_vkey(one.vkey), one.url) for one in running)
            policy = LogPolicy(key, witnesses=witnesses, groups=(Group("all", 3, ("w1", "w2", "w3")),), quorum="all")
            witnessed = trio.run(_witnessed, postgres.create_database("witnessed"), FakeLogVault(vault.key), policy, directory / "ca.pem")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return [
        Figure(SIGNED, p99(signed), "s", None, Bar(Measured.VALUE, at_most=1.2)),
        Figure(WITNESSED, p99(witnessed), "s", None, Bar(Measured.VALUE, at_most=2.0)),
    ]


async def _signed(url: str, vault: FakeLogVault) -> list[float]:
    times: list[float] = []
    async with open_database(url) as database, running_log(database.log(ORIGIN), vault) as log:
        began = trio.current_time()
        waiting: list[tuple[int, float]] = []

        async def one(due: float) -> None:
            where = await log.append(secrets.token_bytes(600), entry_id=secrets.token_hex(16), kind="intake")
            waiting.append((where.index, due))

        async def watch() -> None:
            while True:
                view = log.published()
                covered = [item for item in waiting if view is not None and item[0] < view.size]
                times.extend(trio.current_time() - due for _, due in covered)
                waiting[:] = [item for item in waiting if item not in covered]
                await trio.sleep(0.003)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for number in range(int(RUN_S * PER_SECOND)):
                due = began + number / PER_SECOND
                await trio.sleep_until(due)
                nursery.start_soon(one, due)
            await trio.sleep(2)
            nursery.cancel_scope.cancel()
    return times


async def _witnessed(url: str, vault: FakeLogVault, policy: LogPolicy, ca_file: Path) -> list[float]:
    times: list[float] = []
    async with (
        open_database(url) as database,
        open_witnesses(ca_file) as link,
        running_log(database.log(ORIGIN), vault, witnesses=WitnessPlan(policy, link)) as log,
    ):
        await log.prove(0)

        async def caller() -> None:
            while trio.current_time() < until:
                began = trio.current_time()
                body = secrets.token_bytes(600)
                where = await log.append(body, entry_id=secrets.token_hex(16), kind="intake")
                proof = await log.prove(where.index)
                times.append(trio.current_time() - began)
                verify_proof(parse_proof(proof.proof), body, policy)

        until = trio.current_time() + RUN_S
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(caller)
    return times


@bench(VERIFY)
def verified() -> list[Figure]:
    """A `.tlog-proof` from a log of a million entries with three cosignatures: read and verified. The bare cost is its four signatures."""
    proof, entry, policy, checks = _a_proof()
    ours = _median_ms(lambda: verify_proof(parse_proof(proof), entry, policy))
    bare = _median_ms(lambda: [check() for check in checks])
    return [Figure(VERIFY, ours, "ms", bare, Bar(Measured.VALUE, at_most=1.0))]


def _median_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(VERIFIED):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def _a_proof() -> tuple[bytes, bytes, LogPolicy, list[Callable[[], object]]]:
    """The tree is as high as one of a million entries; of its other leaves only the hashes on the path are made up."""
    vault, cosigners = FakeLogVault(), [FakeWitness(f"w{number}") for number in range(3)]
    entry, index, path = secrets.token_bytes(600), 123_456, tuple(secrets.token_bytes(32) for _ in range(20))
    root = leaf_hash(entry)
    for level, sibling in enumerate(path):
        root = node_hash(sibling, root) if index >> level & 1 else node_hash(root, sibling)
    text = encode_checkpoint(Checkpoint(ORIGIN, 1 << len(path), root))
    key = ed25519_vkey(ORIGIN, vault.key.public_key().public_bytes_raw())
    lines = (NoteSignature(key.name, key.key_id, vault.key.sign(text)), *(witness.sign(text) for witness in cosigners))
    policy = policy_of(key, *cosigners)
    proof = encode_proof(TlogProof(index, path, encode_note(Note(text, lines))))
    checks: list[Callable[[], object]] = [partial(vault.key.public_key().verify, lines[0].blob, text)]
    for witness, line in zip(cosigners, lines[1:], strict=True):
        message = cosigned_message(text, int.from_bytes(line.blob[:8], "big"))
        checks.append(partial(witness.key.public_key().verify, line.blob[8:], message))
    return proof, entry, policy, checks
