"""A whole gatekeeper in memory: `deploy.parts.Parts` filled with fakes, and a tap on every call that leaves the use cases.

Time goes with trio's mock clock; `house.clock.ahead(s)` lets it jump. Everything is made at `signing.RECEIVED` or shortly after.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import itertools
import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_identity
from trio.testing import MockClock

from gatekeeper.deploy.keysets import KeySets
from gatekeeper.deploy.liveruns import LiveRuns
from gatekeeper.deploy.parts import Parts
from gatekeeper.deploy.reconcile import step
from gatekeeper.model.caller import PersonCaller, RunCaller
from gatekeeper.model.decision import Purpose, Verdict
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Absent, Present, Unreadable
from gatekeeper.model.facts import Revision
from gatekeeper.model.label import Viewer
from gatekeeper.model.lease import lease_digest
from gatekeeper.model.moment import later, moment
from gatekeeper.model.ping import State
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.load import PolicyError, parse_configuration, parse_policy
from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.log import AheadOfLog, Appended, EntryConflict, Inclusion
from gatekeeper.ports.pings import NewPing
from gatekeeper.ports.records import ArtifactRecord, StatementRecord, VoteRecord
from gatekeeper.ports.target import Applied, ApplyFailed, RolledBack, TargetAddress, TargetUnavailable, TargetUnknown
from gatekeeper.tlog.entry import DecisionEntry, OutcomeEntry, parse_entry
from gatekeeper.tlog.merkle import leaf_hash
from gatekeeper.tlog.note import encode_vkey
from tests.fakes import frames, signing
from tests.fakes.artifacts import MemoryArtifacts
from tests.fakes.clusters import FakeTokenReview
from tests.fakes.issuers import FakeKeyFetch
from tests.fakes.stores import FakeDatabase
from tests.fakes.target import FakeTarget
from tests.fakes.vault import FakeActVault, FakeDecideVault, FakeRelay

START = later(signing.RECEIVED, seconds=60)
INSTANCE, ENVIRONMENT, COMPONENT, TARGET = "production", "production", "hello", "host-1"
POLICY_COMMIT = "9" * 40
OLD_COMMIT, NEW_COMMIT = "1" * 40, "3" * 40
PEOPLE = "https://vault.demo/v1/identity/oidc"
DEPLOYER_GROUP, OPERATOR_GROUP, REVIEWER_GROUP = "developers", "operators", "reviewers"


@pytest.fixture
def anyio_backend():
    """Trio with a clock that jumps while everybody waits."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture(autouse=True)
def _verify_inline(monkeypatch):
    """A mock clock would jump past a deadline while a thread computes."""

    async def run_sync(function, *args, **_options):
        await trio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


class HouseClock:
    """Goes with trio's clock; `ahead` makes it jump."""

    def __init__(self):
        self._began = None
        self._ahead = timedelta()

    def __call__(self):
        now = trio.current_time()
        if self._began is None:
            self._began = now
        return START + timedelta(seconds=now - self._began) + self._ahead

    def ahead(self, seconds):
        self._ahead += timedelta(seconds=seconds)


class HouseLog:
    """`ports.log.Log` over a log in memory whose checkpoints are published at once."""

    def __init__(self):
        self.tree = frames.MemoryLog()
        self.by_id = {}
        self.keys = None

    async def append(self, body, *, entry_id, kind):
        await trio.lowlevel.checkpoint()
        assert parse_entry(body).entry_id == entry_id
        assert parse_entry(body).KIND.value == kind
        if entry_id not in self.by_id:
            self.by_id[entry_id] = (self.tree.append(body), body)
        index, stored = self.by_id[entry_id]
        if stored != body:
            raise EntryConflict("entry-conflict", "other bytes under this id")
        return Appended(index, leaf_hash(body))

    async def prove(self, index, *, old_size=0, also=(), with_keys=False):
        await trio.lowlevel.checkpoint()
        if old_size > len(self.tree.entries):
            raise AheadOfLog("ahead-of-log", "never published")
        if index >= len(self.tree.entries):
            raise Unavailable("log-unavailable", "no such entry")
        others = tuple(self.tree.proof(other) for other in also)
        return Inclusion(self.tree.proof(index), self.tree.growth(old_size), len(self.tree.entries), others, self.keys if with_keys else None)

    def entries(self, kind):
        return [(index, entry) for index, entry in enumerate(map(parse_entry, self.tree.entries)) if isinstance(entry, kind)]


class HouseReview:
    """Commits in a line, oldest first; `away` makes every answer unreadable."""

    def __init__(self):
        self.line = []
        self.away = False

    def add(self, commit, tree, *, change=None, author="alice@demo.example"):
        self.line.append(Revision(signing.PROJECT, change or "I" + commit, commit, tree, author, author, signing.ISSUED))

    async def revision(self, project, repository, commit):
        await trio.lowlevel.checkpoint()
        if self.away:
            return Unreadable("vcs-unavailable", "away")
        return next((Present(r) for r in self.line if r.commit == commit), Absent())

    async def is_older(self, project, repository, commit, than):
        await trio.lowlevel.checkpoint()
        if self.away:
            return Unreadable("vcs-unavailable", "away")
        commits = [r.commit for r in self.line]
        if commit not in commits or than not in commits:
            return Absent()
        return Present(commits.index(commit) < commits.index(than))


class HousePolicy:
    """`files` may be changed; `load` puts them in force. `secrets` and `values` make up the configuration; `others` has that of further commits."""

    def __init__(self, files):
        self.files = files
        self.commit = POLICY_COMMIT
        self.values, self.secrets = {"GREETING": "hello"}, frozenset()
        self.others = {}
        self.away = False
        self.load()

    def load(self):
        self._policy = parse_policy(self.files, commit=self.commit)

    def current(self):
        return self._policy

    async def configuration(self, commit, environment, component):
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("config-unavailable", "away")
        if commit not in (POLICY_COMMIT, *self.others):
            return Absent()
        data = self.others.get(commit) or configuration_text(self.values, self.secrets)
        try:
            return Present(parse_configuration(data, commit=commit, file="config"), (digest_of(data),))
        except PolicyError as error:
            return Present(Refusal(error.code, str(error)))


class HouseTarget(FakeTarget):
    """Counts the receipts it accepted. `answers` are given, once each, instead of looking at a frame; `statuses` likewise for `status`."""

    def __init__(self, **names):
        super().__init__(**names)
        self.accepted, self.answers, self.statuses, self.questions = [], [], [], []

    @property
    def asked(self):
        return len(self.questions)

    def _take(self, named, parts, data):
        if self.answers:
            return self.answers.pop(0)
        answer = super()._take(named, parts, data)
        if isinstance(answer, Applied | RolledBack) or (isinstance(answer, ApplyFailed) and answer.spent):
            self.accepted.append(named)
        return answer

    async def status(self, address, credential, receipt):
        self.questions.append((credential, receipt))
        found = await super().status(address, credential, receipt)
        if self.statuses:
            said = self.statuses.pop(0)
            if isinstance(said, Exception):
                raise said
            return replace(found, components=tuple(replace(c, **said) for c in found.components))
        return found


class HouseVault(FakeActVault):
    """Notes every lease for which no Allow was durable in the log."""

    def __init__(self, house, **options):
        super().__init__({TARGET: (ENVIRONMENT, "pingee-" + TARGET, "127.0.0.1/32")}, **options)
        self._house = house
        self.refused = None
        self.children = 0

    async def child(self, *, receipt, target):
        await trio.lowlevel.checkpoint()
        self.children += 1
        if self.refused is not None:
            raise self.refused
        record = self._house.database.state.receipts.get(receipt)
        entries = dict(self._house.log.entries(DecisionEntry))
        entry = None if record is None else entries.get(record.index)
        # After its end only what may have been sent may still be asked about.
        asks = any(row.ping.receipt == receipt and row.ping.state is State.APPLYING for row in self._house.database.state.rows.values())
        if entry is None or entry.verdict is not Verdict.ALLOW or (self._house.clock() >= entry.not_after and not asks):
            self._house.violations.append(f"a lease for {receipt} without a durable Allow in force")
        return await super().child(receipt=receipt, target=target)


class Killed(BaseException):
    """The process is gone: no call leaves it any more, not even from a `finally`."""


class Tap:
    """Counts the calls through it by name. `strike` makes one of them fail, before or after it took effect.

    kill: nothing leaves the process afterwards. away: only this call fails, as its authority would. cancel: as at a shutdown.
    """

    def __init__(self, *, at=None, when="before", kind="kill"):
        self.at, self.when, self.kind = at, when, kind
        self.seen = Counter()
        self.order = []
        self.dead = self.struck = False
        self.scope = None

    def around(self, name, port):
        return _Tapped(self, name, port)

    async def call(self, port_name, name, method, args, options):
        if self.dead:
            raise Killed
        key = (f"{port_name}.{name}", self.seen[f"{port_name}.{name}"])
        self.seen[key[0]] += 1
        self.order.append(key)
        if key == self.at and self.when == "before":
            await self._strike(port_name, name)
        result = await method(*args, **options)
        if key == self.at and self.when == "after":
            await self._strike(port_name, name)
        if self.dead:
            raise Killed
        return result

    async def _strike(self, port, name):
        self.struck = True
        if self.kind == "kill":
            self.dead = True
            raise Killed
        if self.kind == "cancel":
            self.scope.cancel()
            await trio.lowlevel.checkpoint()
            return
        if port == "target":
            raise TargetUnknown("cut") if (name, self.when) == ("apply", "after") else TargetUnavailable("cut")
        raise Unavailable("timeout", "cut")


class _Tapped:
    def __init__(self, tap, name, port):
        self._tap, self._name, self._port = tap, name, port

    def __getattr__(self, attribute):
        found = getattr(self._port, attribute)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args, **options):
            return await self._tap.call(self._name, attribute, found, args, options)

        return call


PORTS = ("pings", "locks", "statements", "deployments", "adoptions", "people", "log", "decide_vault", "act_vault", "artifacts", "review", "policy", "target")


class House:
    """One gatekeeper with one environment, one component and one target; alice pushes, bob and carol review, olga operates."""

    def __init__(self):
        self.clock = HouseClock()
        self.database = FakeDatabase(self.clock)
        self.log = HouseLog()
        self.ca = signing.FakeCa()
        self.reviewers = {name: signing.FakeReviewer() for name in ("alice", "bob", "carol")}
        self.review = HouseReview()
        self.policy = HousePolicy(self._files())
        self.artifacts = MemoryArtifacts()
        self.decide_vault = FakeDecideVault()
        self.violations = []
        self.secrets = {}
        self.act_vault = HouseVault(self, settings={(ENVIRONMENT, COMPONENT): self.secrets}, clock=self.clock)
        self.relay = FakeRelay({})
        self.target = HouseTarget(
            name=TARGET,
            instance=INSTANCE,
            environment=ENVIRONMENT,
            component=COMPONENT,
            log_policy=f"log {encode_vkey(self.log.tree.vkey)}\nquorum none\n".encode(),
            receipt_keys=self._receipt_pem(),
            now=lambda: moment(self.clock()),
        )
        self._numbers = itertools.count()
        self.key_fetch, self.clusters = FakeKeyFetch(), FakeTokenReview()
        self.parts = Parts(
            instance=INSTANCE,
            origin=frames.ORIGIN,
            public_url="https://pingee.demo",
            keys=KeySets(self.key_fetch, clock=lambda: self.clock().timestamp()),
            runs=LiveRuns(self.key_fetch, self.clusters, clock=lambda: self.clock().timestamp()),
            allow_s=600,
            receipt_keys=(self._receipt_pem(),),
            policy=self.policy,
            pings=self.database.pings,
            locks=self.database.locks,
            statements=self.database.statements,
            deployments=self.database.deployments,
            adoptions=self.database.adoptions,
            observations=self.database.observations,
            people=self.database.people,
            log=self.log,
            entries=self.database.entries(frames.ORIGIN),
            decide_vault=self.decide_vault,
            act_vault=self.act_vault,
            relay=self.relay,
            artifacts=self.artifacts,
            review=self.review,
            target=self.target,
            addresses={TARGET: TargetAddress(TARGET, "host", 22, "pingee")},
            clock=self.clock,
            random=self.random,
        )

    def random(self, count):
        return hashlib.shake_256(str(next(self._numbers)).encode()).digest(count)

    def tapped(self, tap):
        """The same house seen by a process whose every call goes through the tap."""
        return replace(self.parts, **{name: tap.around(name, getattr(self.parts, name)) for name in PORTS})

    # what builders and people bring

    async def bring(self, version="1", *, commit=OLD_COMMIT, stages=("commit",), vote=True):
        """An artifact with statements and blobs as the intake would have stored them, and bob's vote."""
        made = frames.make_artifact(version)
        for blob in (made.manifest, made.config, made.layer):
            self.artifacts.blobs[digest_of(blob)] = blob
        tree = digest_of(commit.encode())[7:47]
        self.review.add(commit, tree)
        run = self.ca.run(commit=commit)
        source = {"repository": signing.REPOSITORY, "commit": commit, "tree": tree}
        statements = [("manifest", None, run.sign(signing.manifest_statement(artifact=made.digest, source=source)))]
        statements.append(("provenance", None, run.sign(signing.provenance_statement(artifact=made.digest, commit=commit, tree=tree))))
        statements += [("test-result", stage, run.sign(signing.result_statement(stage, artifact=made.digest))) for stage in stages]
        for number, (kind, stage, bundle) in enumerate(statements):
            record = StatementRecord(digest_of(bundle), made.digest, kind, stage, bundle, signing.RECEIVED, number)
            await self.database.statements.add_statement(record)
        await self.database.statements.add_artifact(
            ArtifactRecord(
                artifact=made.digest,
                project=signing.PROJECT,
                component=COMPONENT,
                repository=signing.REPOSITORY,
                commit=commit,
                tree=tree,
                builder=signing.BUILDER_ID,
                run=signing.RUN,
                uploader="ci|alice",
                manifest=digest_of(statements[0][2]),
                received_at=signing.RECEIVED,
                complete=True,
            )
        )
        if vote:
            await self.vote(commit)
        return made.digest

    def vote_bundle(self, commit=OLD_COMMIT, *, voter="bob", **changes):
        tree = digest_of(commit.encode())[7:47]
        return self.reviewers[voter].vote(**{"change": "I" + commit, "revision": commit, "tree": tree} | changes)

    async def vote(self, commit=OLD_COMMIT, *, voter="bob", value=2):
        bundle = self.vote_bundle(commit, voter=voter, value=value)
        record = VoteRecord(digest_of(bundle), signing.PROJECT, "I" + commit, commit, voter, value, "Code-Review", bundle, moment(self.clock()))
        await self.database.statements.add_vote(record)

    # pings

    async def ping(self, artifact, *, purpose=Purpose.DEPLOY, commit=OLD_COMMIT, seconds=3600, **changes):
        """A stored ping of alice."""
        now = self.clock()
        values = {
            "id": self.random(16).hex(),
            "caller": "people|s-alice",
            "idempotency_key": self.random(8).hex(),
            "body": digest_of(b"body"),
            "purpose": purpose,
            "project": signing.PROJECT,
            "environment": ENVIRONMENT,
            "component": COMPONENT,
            "artifact": artifact,
            "config": POLICY_COMMIT,
            "commit": commit,
            "bound_commit": None,
            "reason": "",
            "deadline": now + timedelta(seconds=seconds),
            "created_at": now,
        }
        ping, _ = await self.database.pings.create(NewPing(**values | changes))
        return ping

    async def read(self, ping):
        return self.database.state.rows[ping.id].ping

    async def step(self, ping, parts=None):
        """One step with the row as it is now."""
        return await step(parts or self.parts, await self.read(ping))

    async def to_the_end(self, ping, *, tries=30):
        """As a fresh process would: steps until the ping ended, five seconds between failures."""
        for _ in range(tries):
            found = await self.read(ping)
            if found.state.ended:
                return found
            try:
                await step(self.parts, found)
            except PortError:
                await trio.sleep(5)
        raise AssertionError(f"the ping stands at {(await self.read(ping)).state}")

    async def deployed(self, version="1", *, commit=OLD_COMMIT):
        """Deploy a version; its ping."""
        ping = await self.ping(await self.bring(version, commit=commit), commit=commit)
        ended = await self.to_the_end(ping)
        assert ended.state is State.DEPLOYED, (ended.state, ended.reasons, ended.rules)
        return ended

    # what must hold

    def holder(self):
        lock = self.database.state.locks.get((ENVIRONMENT, COMPONENT))
        return None if lock is None else lock.ping_id

    def unclosed(self):
        """Allows without exactly one outcome."""
        outcomes = Counter(entry.of.index for _, entry in self.log.entries(OutcomeEntry))
        return [index for index in self.allows() if outcomes[index] != 1]

    def allows(self):
        return [index for index, entry in self.log.entries(DecisionEntry) if entry.verdict is Verdict.ALLOW]

    def outcomes(self):
        return [entry.state for _, entry in self.log.entries(OutcomeEntry)]

    def used_credentials(self):
        """Accessors of tokens that were used and not ended."""
        return [accessor for accessor, left in self.act_vault.live.items() if left < 6]

    def unnamed(self):
        """Certificates under a receipt that a target was shown and no outcome names."""
        shown = [*self.target.credentials, *(credential for credential, receipt in self.target.questions if receipt is not None)]
        serials = {load_ssh_public_identity(credential.certificate.encode()).serial for credential in shown}
        named = {lease for _, entry in self.log.entries(OutcomeEntry) for lease in entry.lease}
        return sorted(serial for serial in serials if lease_digest(serial) not in named)

    # callers

    def person(self, name="alice", *, groups=(DEPLOYER_GROUP,), subject=None):
        return PersonCaller("people", subject or f"s-{name}", name, frozenset(groups), later(START, seconds=3600), f"jti-{name}")

    def operator(self):
        return self.person("olga", groups=(OPERATOR_GROUP,))

    def run_caller(self, *, commit=OLD_COMMIT, run=signing.RUN, project=signing.PROJECT, builder=signing.BUILDER_ID, jti="jti-run", actor="alice"):
        subject = f"project:{project}:run:{run}"
        return RunCaller("ci", subject, project, commit, run, actor, "refs/heads/main", builder, jti, later(START, seconds=600))

    def _receipt_pem(self):
        return self.decide_vault.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def _files(self):
        people = "".join(
            f'[people.{name}]\nissuer = "people"\nsubject = "s-{name}"\nemails = ["{name}@demo.example"]\nkeys = ["ed25519 {_key(key)}"]\n'
            f'groups = ["{DEPLOYER_GROUP if name == "alice" else REVIEWER_GROUP}"]\naccounts = {{ ci = "{name}" }}\n'
            for name, key in self.reviewers.items()
        )
        roles = [("D", DEPLOYER_GROUP), ("O", OPERATOR_GROUP), ("R", REVIEWER_GROUP)]
        issuer = 'jwks = "{0}.json"\nkind = "{1}"\nalgorithms = ["ES256"]\nurl = "{2}"\n'
        return {
            "policy.toml": f'instance = "{INSTANCE}"\nanonymous = "public"\n'.encode(),
            "people.toml": people.encode(),
            "roles.toml": "".join(f'[[role]]\nrole = "{r}"\ngroup = "{g}"\nscope = "*/*"\n' for r, g in roles).encode(),
            "issuers.toml": (
                "[issuers.ci]\n" + issuer.format("ci", "run", "https://ci.demo") + "[issuers.people]\n" + issuer.format("people", "person", PEOPLE)
            ).encode(),
            "ci.json": b"{}",
            "people.json": b"{}",
            "builders.toml": f'[builders."{signing.BUILDER_ID}"]\nissuer = "ci"\nsigner = "x509:builder-ca"\nprojects = ["hello"]\n'.encode(),
            "builder-ca.pem": self.ca.pem(),
            "projects/hello.toml": (
                f'repository = "{signing.REPOSITORY}"\ndefault_branch = "main"\napproved = ["{ENVIRONMENT}"]\nreview = "attestations"\n'
            ).encode(),
            "components/hello.toml": (
                f'project = "hello"\nmode = "enforce"\n[targets]\n{ENVIRONMENT} = ["{TARGET}"]\n'
                f'[expectations]\nbuilder = "{signing.BUILDER_ID}"\nbuild_type = "{signing.PIPELINE}"\n'
            ).encode(),
            f"environments/{ENVIRONMENT}.toml": (
                b'class = "production"\nstages = ["commit"]\nmerge = "none"\nstage_wait_s = 3600\n'
                b'[votes]\nlabel = "Code-Review"\nvalue = 2\ncount = 1\ngroups = ["reviewers"]\nveto = -2\n'
            ),
            "environments/lab.toml": b'class = "test"\nstages = []\nmerge = "none"\n',
        }


def configuration_text(values, secrets):
    """The file of a configuration."""
    plain = "".join(f"{name} = {json.dumps(value)}\n" for name, value in sorted(values.items()))
    return f"secrets = {json.dumps(sorted(secrets))}\n[values]\n{plain}".encode()


def _key(reviewer):
    return base64.b64encode(reviewer.public).decode()


def anyone():
    """A Viewer without clearances."""
    return Viewer(who="test")


__all__ = ["House", "HouseTarget", "Killed", "Tap", "anyio_backend", "anyone"]
