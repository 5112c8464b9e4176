"""One decision against what it cannot avoid: the same public-key checks and the same number of database round trips, in the same run.

A decision is `gatekeeper.deploy.decide.judge`: gather from a real PostgreSQL, a real image layout on disk and a real git mirror, verify every
statement anew, decide. Nothing is signed or logged: that is `log.append` and the vault. The bare cost does, one after the other and on the same
machine: each signature of the same bundles and certificates once (cryptography, keys already loaded), and as many `select ... where key = $1`
over one asyncpg connection as the gather makes queries. It parses nothing, hashes no blob and asks no git.

The bar is ten times that: room for parsing certificates and canonical JSON strictly, hashing the artifact, and the crossing between trio and
asyncio, but not for starting a process for each question to git, or for reading one item after the other.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.demo.postgres import EmbeddedPostgres
from gatekeeper.adapters.git import open_git
from gatekeeper.adapters.git_review import GitReview
from gatekeeper.adapters.layout import open_layout
from gatekeeper.deploy.decide import judge
from gatekeeper.deploy.facts import Facts
from gatekeeper.deploy.parts import Parts
from gatekeeper.model import uris
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.decision import Verdict
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.label import PUBLIC
from gatekeeper.model.strictjson import parse_object
from gatekeeper.ports.pings import Ping
from gatekeeper.ports.records import ArtifactRecord, DeploymentRecord, StatementRecord, VoteRecord
from gatekeeper.postgres import open_database
from gatekeeper.postgres.bridge import Unit
from gatekeeper.postgres.database import Database
from gatekeeper.verify.dsse import pae
from tests.bench.registry import Bar, Figure, Measured, bench
from tests.fakes import frames, signing
from tests.fakes.git_repositories import Repository
from tests.fakes.house import COMPONENT, ENVIRONMENT, START, House
from tests.fakes.records import new_ping

RATE, P50, P99 = "ping.decision.rate", "ping.decision.p50_ms", "ping.decision.p99_ms"
RUN_S = 5.0
AT_ONCE = 8
"""decisions under way for the rate; the percentiles are of one at a time"""
TIMES_BARE = 10.0

_BEGAN = time.monotonic()


@bench(RATE, P50, P99)
def decision() -> list[Figure]:
    """Alternating rounds of ours and of the bare cost, so that a noisy neighbour disturbs both."""
    directory = Path(tempfile.mkdtemp(prefix="pingee-bench-"))
    try:
        with EmbeddedPostgres(directory / "pg") as postgres:
            found: _Found = trio.run(_measure, postgres.create_database("decisions"), directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    slowest = [statistics.quantiles(times, n=100)[98] * 1000 for times in (found.ours, found.bare)]
    middle = [statistics.median(times) * 1000 for times in (found.ours, found.bare)]
    return [
        Figure(RATE, found.rate, "decisions/s", 1000 / middle[1], Bar(Measured.RATIO, at_least=1 / TIMES_BARE)),
        Figure(P50, middle[0], "ms", middle[1], Bar(Measured.RATIO, at_most=TIMES_BARE)),
        Figure(P99, slowest[0], "ms", slowest[1]),
    ]


@dataclass
class _Found:
    ours: list[float]
    bare: list[float]
    rate: float


async def _measure(url: str, directory: Path) -> _Found:
    async with AsyncExitStack() as stack:
        house = House()
        database = await stack.enter_async_context(open_database(url, clock=_clock))
        parts, ping, checks = await _prepare(house, database, directory)
        await judge(parts, ping)  # the first one clones the repository
        queries = await _count_queries(parts, ping)
        found = _Found([], [], 0.0)
        for _ in range(3):
            found.ours += await _one_at_a_time(parts, ping)
            found.bare += await trio.to_thread.run_sync(lambda: asyncio.run(_bare(url, ping.new.artifact, checks, queries)))
        found.rate = await _rate(parts, ping)
        return found


async def _one_at_a_time(parts: Parts, ping: Ping) -> list[float]:
    times = []
    until = time.perf_counter() + RUN_S / 3
    while time.perf_counter() < until:
        began = time.perf_counter()
        await _allowed(parts, ping)
        times.append(time.perf_counter() - began)
    return times


async def _rate(parts: Parts, ping: Ping) -> float:
    done = 0
    began = time.perf_counter()

    async def decide_on() -> None:
        nonlocal done
        while time.perf_counter() - began < RUN_S:
            await _allowed(parts, ping)
            done += 1

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(decide_on)
    return done / (time.perf_counter() - began)


async def _allowed(parts: Parts, ping: Ping) -> None:
    # Nothing is kept from one decision to the next: see verify.warm.pubkey_ops for those that are.
    decision = (await judge(replace(parts, facts=Facts()), ping)).decision
    if decision.verdict is not Verdict.ALLOW:
        raise RuntimeError(f"a decision that is not made whole is no decision to measure: {decision.reasons}")


async def _count_queries(parts: Parts, ping: Ping) -> int:
    asked = 0
    real = {name: getattr(Unit, name) for name in ("row", "rows")}

    def counted(name: str) -> Callable[..., object]:
        def ask(self: Unit, *args: object, **options: object) -> object:
            nonlocal asked
            asked += 1
            return real[name](self, *args, **options)

        return ask

    for name in real:
        setattr(Unit, name, counted(name))
    try:
        await _allowed(parts, ping)
    finally:
        for name, method in real.items():
            setattr(Unit, name, method)
    return asked


async def _bare(url: str, artifact: Digest, checks: list[Callable[[], None]], queries: int) -> list[float]:
    connection = await asyncpg.connect(url)
    times = []
    until = time.perf_counter() + RUN_S / 3
    while time.perf_counter() < until:
        began = time.perf_counter()
        for _ in range(queries):
            await connection.fetchrow("select * from artifact where artifact = $1", artifact)
        for check in checks:
            check()
        times.append(time.perf_counter() - began)
    await connection.close()
    return times


async def _prepare(house: House, database: Database, directory: Path) -> tuple[Parts, Ping, list[Callable[[], None]]]:
    """Everything a good decision needs, and the signature checks that it cannot avoid."""
    repository = Repository(_made(directory / "project"))
    before = repository.commit({"a": "1"}, "before")
    commit = repository.commit({"a": "2"}, "after")
    tree = repository.git("rev-parse", f"{commit}^{{tree}}")
    files = house.policy.files
    files["projects/hello.toml"] = files["projects/hello.toml"].replace(signing.REPOSITORY.encode(), str(repository.path).encode())
    house.policy.load()
    made = _artifact(str(repository.path), commit, tree)
    store = await open_layout(directory / "layout")
    for blob in (made.manifest, made.config, made.layer):
        await store.put(digest_of(blob), _whole(blob), max_bytes=len(blob))
    run = house.ca.run(commit=commit)
    source: dict[str, object] = {"repository": str(repository.path), "commit": commit, "tree": tree}
    payloads = [
        ("manifest", None, signing.manifest_statement(artifact=made.digest, source=source)),
        ("provenance", None, signing.provenance_statement(artifact=made.digest, repository=str(repository.path), commit=commit, tree=tree)),
        ("test-result", "commit", signing.result_statement(artifact=made.digest)),
    ]
    vote = house.reviewers["bob"].vote(change=commit, revision=commit, tree=tree)
    checks = []
    certificate = x509.load_der_x509_certificate(run.certificate)
    for kind, stage, payload in payloads:
        bundle = run.sign(payload)
        row = StatementRecord(digest_of(bundle), made.digest, kind, stage, bundle, signing.RECEIVED, 1)
        await database.statements.add_statement(row)
        checks += [_ecdsa(run.key, pae(uris.IN_TOTO_PAYLOAD, payload)), _ecdsa(house.ca.key, certificate.tbs_certificate_bytes)]
    checks.append(_ed25519(house.reviewers["bob"].key, vote))
    await _store_records(database, made.digest, commit, before, tree, str(repository.path), vote)
    parts = replace(
        house.parts, clock=_clock,
        pings=database.pings, locks=database.locks, statements=database.statements, deployments=database.deployments,
        adoptions=database.adoptions, observations=database.observations, people=database.people,
        artifacts=store, review=GitReview(open_git(directory / "git"), clock=time.monotonic),
    )  # fmt: skip
    now = _clock()
    asked = new_ping(
        project=signing.PROJECT, environment=ENVIRONMENT, component=COMPONENT, artifact=made.digest, config="9" * 40, commit=commit,
        bound_commit=commit, caller="ci|run", created_at=now, deadline=now + timedelta(hours=1),
    )  # fmt: skip
    ping, _ = await database.pings.create(asked)
    return parts, ping, checks


async def _store_records(database: Database, artifact: Digest, commit: str, before: str, tree: str, repository: str, vote: bytes) -> None:
    await database.statements.add_artifact(
        ArtifactRecord(
            artifact=artifact, project=signing.PROJECT, component=COMPONENT, repository=repository, commit=commit, tree=tree,
            builder=signing.BUILDER_ID, run=signing.RUN, uploader="ci|alice", manifest=digest_of(b"m"), received_at=signing.RECEIVED, complete=True,
        )
    )  # fmt: skip
    await database.statements.add_vote(
        VoteRecord(digest_of(vote), signing.PROJECT, commit, commit, "bob", 2, "Code-Review", vote, signing.RECEIVED)
    )
    older = new_ping(project=signing.PROJECT, environment=ENVIRONMENT, component=COMPONENT, created_at=signing.RECEIVED)
    older, _ = await database.pings.create(older)
    await database.deployments.add_deployment(
        DeploymentRecord(
            ping_id=older.id, environment=ENVIRONMENT, component=COMPONENT, project=signing.PROJECT, artifact=digest_of(b"before"), config="9" * 40,
            commit=before, purpose="deploy", state="deployed", receipt=digest_of(b"receipt"), decision_index=1, outcome_index=2,
            at=signing.RECEIVED, label=PUBLIC,
        )
    )  # fmt: skip


def _artifact(repository: str, commit: str, tree: str) -> frames.Artifact:
    """A tar of a megabyte, as a small service has it; the configuration names this source."""
    made = frames.make_artifact(layer=frames.make_layer({"service": os.urandom(1024 * 1024)}))
    source = {"repository": repository, "commit": commit, "tree": tree}
    config = encode_canonical({**parse_object(made.config), "source": source})
    manifest = parse_object(made.manifest)
    manifest["config"] = {"mediaType": uris.ARTIFACT_CONFIG, "digest": digest_of(config), "size": len(config)}
    return frames.Artifact(encode_canonical(manifest), config, made.layer)


def _ecdsa(key: ec.EllipticCurvePrivateKey, message: bytes) -> Callable[[], None]:
    signature, public = key.sign(message, ec.ECDSA(hashes.SHA256())), key.public_key()
    return lambda: public.verify(signature, message, ec.ECDSA(hashes.SHA256()))


def _ed25519(key: Ed25519PrivateKey, message: bytes) -> Callable[[], None]:
    signature, public = key.sign(message), key.public_key()
    return lambda: public.verify(signature, message)


def _clock() -> datetime:
    # the certificates of tests/fakes/signing.py live at a time of their own
    return START + timedelta(seconds=time.monotonic() - _BEGAN)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


async def _whole(data: bytes):
    yield data
