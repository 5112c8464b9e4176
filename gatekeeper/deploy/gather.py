"""Gathers all evidence for one decision at once, in one nursery with one deadline.

Every item ends as Present, Absent or Unreadable; nothing raises, and what did not arrive in time is Unreadable. Statements are read from their
exact stored bytes on every gather: what a database administrator changed is refused, whatever it said before. What was verified already, of the
same bytes and under the same trust, is taken from `facts`; what is revoked is refused by today's policy, kept or not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Final, TypeVar

import trio

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.decision import Candidate, Purpose
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.evidence import Absent, Evidence, Present, Unreadable
from gatekeeper.model.facts import ArtifactManifest, Provenance, Received, Revision, Running, StoredArtifact, TestResult, Vote
from gatekeeper.model.label import Label, Viewer, join
from gatekeeper.model.moment import moment
from gatekeeper.model.reason import REASONS
from gatekeeper.model.verified import Checked, Refusal, Verified
from gatekeeper.policy.case import Gathered
from gatekeeper.policy.document import Configuration, Policy
from gatekeeper.policy.meaning import meaning_of
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.records import ArtifactRecord, StatementRecord, VoteRecord
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.manifest import verify_manifest
from gatekeeper.verify.provenance import verify_provenance
from gatekeeper.verify.signers import SignerRule
from gatekeeper.verify.testresult import verify_test_result
from gatekeeper.verify.vote import verify_vote

from .adopted import adopted_there
from .facts import Question, Trust
from .parts import Parts
from .running import what_runs
from .signers import signer_of
from .stored import read_stored
from .vouched import is_vouched

_log = logging.getLogger(__name__)

DEADLINE_S: Final = 10.0

_LATE: Final = Unreadable("decision-timeout", f"not gathered within {DEADLINE_S:.0f} s")

T = TypeVar("T")
F = TypeVar("F", ArtifactManifest, Provenance, TestResult)


async def gather(parts: Parts, candidate: Candidate, policy: Policy, viewer: Viewer) -> Gathered:
    """All evidence about a candidate, as far as `viewer` (who has the ping's own label) may see it."""
    work = _Gathering(parts, candidate, policy, viewer)
    with trio.move_on_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for job in (work.read_origin, work.read_statements, work.read_stored, work.read_configuration, work.read_history):
                nursery.start_soon(job)
    return work.assemble()


def nothing_gathered() -> Gathered:
    """The evidence about a candidate of which nothing was asked."""
    absent = Absent()
    return Gathered(absent, absent, absent, {}, absent, absent, absent, absent, absent, absent, absent, absent, absent, absent)


class _Gathering:
    """One gather under way. Every item is `_LATE` until its job has set it; each job sets its own items and no other."""

    def __init__(self, parts: Parts, candidate: Candidate, policy: Policy, viewer: Viewer) -> None:
        self._parts = parts
        self._candidate = candidate
        self._policy = policy
        self._viewer = viewer
        self._repository = policy.projects[candidate.project].repository
        self._stages = policy.environments[candidate.environment].stages
        self._record: Evidence[ArtifactRecord] = _LATE
        self._revision: Evidence[Revision] = _LATE
        self._votes: Evidence[tuple[Checked[Vote], ...]] = _LATE
        self._running: Evidence[Running] = _LATE
        self._older: Evidence[bool] = _LATE
        self._stored: Evidence[StoredArtifact | Refusal] = _LATE
        self._configuration: Evidence[Configuration | Refusal] = _LATE
        self._deployed_before: Evidence[bool] = _LATE
        self._adopted: Evidence[bool] = _LATE
        self._manifest: Evidence[Checked[ArtifactManifest]] = _LATE
        self._received: Evidence[Received] = _LATE
        self._provenance: Evidence[tuple[Checked[Provenance], ...]] = _LATE
        self._results: dict[str, Evidence[tuple[Checked[TestResult], ...]]] = dict.fromkeys(self._stages, _LATE)

    async def read_origin(self) -> None:
        """The artifact's record and what runs now, then what depends on the commit: revision, votes, age."""
        self._record = await _guarded("evidence-unreadable", self._artifact())
        self._running = await _guarded("target-unavailable", self._runs())
        if not isinstance(self._record, Present):
            self._revision = self._votes = self._older = self._record
            return
        commit = self._record.value.commit
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_review, commit)
            nursery.start_soon(self._read_age, commit)

    async def _artifact(self) -> Evidence[ArtifactRecord]:
        record = await self._parts.statements.artifact(self._candidate.artifact, self._viewer)
        return Absent() if record is None else Present(record)

    async def _runs(self) -> Evidence[Running]:
        row = await what_runs(self._parts, self._viewer, self._candidate.environment, self._candidate.component)
        if row is None:
            return Absent()
        if self._candidate.purpose is Purpose.CONFIGURATION and row.receipt is None:
            return Absent()  # adopted: nothing that was decided on runs there, so there is nothing whose votes could be relied on
        if self._candidate.purpose is Purpose.CONFIGURATION and not await is_vouched(self._parts, row, self._viewer):
            _log.error("ALARM: no receipt of ours vouches for the row that says what runs (ping %s)", row.ping_id)
            return Unreadable("target-unavailable", "no receipt of this gatekeeper vouches for the row that says what runs")
        return Present(Running(row.artifact, row.config, row.commit, row.ping_id, row.receipt, moment(row.at)), _of(row.receipt))

    async def _read_review(self, commit: str) -> None:
        revision = await _guarded("vcs-unavailable", self._parts.review.revision(self._candidate.project, self._repository, commit))
        if isinstance(revision, Present):
            revision = Present(revision.value, (_revision_digest(revision.value),))
        self._revision = revision
        self._votes = await _guarded("review-unavailable", self._cast(revision.value)) if isinstance(revision, Present) else revision

    async def _cast(self, revision: Revision) -> Evidence[tuple[Checked[Vote], ...]]:
        rows = await self._parts.statements.votes(self._candidate.project, revision.change, self._viewer)
        votes = await self._parts.facts.in_thread(lambda: tuple(map(self._vote, rows)), deciding=True)
        return Present(votes, tuple(row.digest for row in rows))

    def _vote(self, row: VoteRecord) -> Checked[Vote]:
        received_at = moment(row.received_at)
        person = self._policy.people.get(row.voter)
        keys = () if person is None else self._policy.revocations.standing_keys(person.keys, received_at)
        question = Question(
            bundle=digest_of(row.bundle),
            kind="vote",
            about=(row.voter,),
            received_at=received_at,
            trust=replace(self._trust, signers=meaning_of(keys)),
        )
        return self._believed(row, question, lambda: _answer(lambda: verify_vote(row.bundle, {row.voter: keys}, person=row.voter)))

    async def _read_age(self, commit: str) -> None:
        running = self._running
        if not isinstance(running, Present):
            self._older = running
        elif running.value.commit in (None, commit):
            # What was adopted has no commit that anything could be older than.
            self._older = Present(value=False)
        else:
            asked = self._parts.review.is_older(self._candidate.project, self._repository, commit, running.value.commit)
            older = await _guarded("vcs-unavailable", asked)
            # A commit that the repository lost cannot be placed: no reason to call it new.
            self._older = Unreadable("vcs-unavailable", "the repository does not know both commits") if isinstance(older, Absent) else older

    async def read_stored(self) -> None:
        """The artifact's bytes, hashed again."""
        self._stored = await _guarded("registry-unavailable", read_stored(self._parts.artifacts, self._candidate.artifact))

    async def read_configuration(self) -> None:
        """What will be installed beside the artifact."""
        place = (self._candidate.environment, self._candidate.component)
        self._configuration = await _guarded("config-unavailable", self._parts.policy.configuration(self._candidate.config, *place))

    async def read_history(self) -> None:
        """Rollback only: whether exactly this artifact was deployed there, or adopted there, with exactly this configuration."""
        if self._candidate.purpose is Purpose.ROLLBACK:
            self._deployed_before = await _guarded("evidence-unreadable", self._was_deployed())
            self._adopted = await _guarded("evidence-unreadable", adopted_there(self._parts, self._candidate, self._viewer))
        else:
            self._deployed_before = self._adopted = Absent()

    async def _was_deployed(self) -> Evidence[bool]:
        rows = await self._parts.deployments.history(self._candidate.environment, self._candidate.component, self._viewer, limit=200)
        for row in rows:
            pair = (row.artifact, row.config, row.state) == (self._candidate.artifact, self._candidate.config, "deployed")
            if pair and row.receipt is not None:
                return Present(value=True, digests=(row.receipt,))
        return Present(value=False)

    async def read_statements(self) -> None:
        """Verify every accepted statement again, off the event loop: public-key operations would block it."""
        rows = await _guarded("evidence-unreadable", self._rows())
        unread = rows if isinstance(rows, Unreadable) else await _guarded("evidence-unreadable", self._verified(rows))
        if isinstance(unread, Unreadable):
            self._manifest = self._received = self._provenance = unread
            self._results = dict.fromkeys(self._stages, unread)

    async def _verified(self, rows: Evidence[tuple[StatementRecord, ...]]) -> Evidence[None]:
        if isinstance(rows, Present):
            await self._parts.facts.in_thread(lambda: self._verify(rows.value), deciding=True)
        return Absent()

    async def _rows(self) -> Evidence[tuple[StatementRecord, ...]]:
        return Present(tuple(await self._parts.statements.statements(self._candidate.artifact, self._viewer)))

    def _verify(self, rows: tuple[StatementRecord, ...]) -> None:
        manifest: Evidence[Checked[ArtifactManifest]] = Absent()
        received: Evidence[Received] = Absent()
        provenance: list[tuple[Digest, Checked[Provenance]]] = []
        results: dict[str, list[tuple[Digest, Checked[TestResult]]]] = {stage: [] for stage in self._stages}
        for row in rows:
            match row.kind:
                case "manifest":
                    manifest = Present(self._statement(row, _manifest_of), (row.digest,))
                    received = Present(Received(at=moment(row.received_at), index=row.log_index, label=row.label), (row.digest,))
                case "provenance":
                    provenance.append((row.digest, self._statement(row, _provenance_of)))
                case "test-result" if row.stage in results:
                    results[row.stage].append((row.digest, self._statement(row, _result_of)))
        self._manifest, self._received, self._provenance = manifest, received, _several(provenance)
        self._results = {stage: _several(found) for stage, found in results.items()}

    @cached_property
    def _trust(self) -> Trust:
        policy, candidate = self._policy, self._candidate
        signers = meaning_of(policy.builders, policy.components[candidate.component], policy.projects[candidate.project])
        return Trust(policy.trusted_root, signers, policy.revocations.epoch)

    @cached_property
    def _rule(self) -> SignerRule:
        return signer_of(self._policy, self._policy.components[self._candidate.component].builder)

    def _statement(self, row: StatementRecord, verify: Callable[[StatementRecord, SignerRule, Digest], Checked[F]]) -> Checked[F]:
        """One statement of a builder: verified, or refused for what it is, or for its signer's revocation today."""
        question = Question(
            bundle=digest_of(row.bundle),
            kind=row.kind,
            about=(self._candidate.artifact, row.stage or ""),
            received_at=moment(row.received_at),
            trust=self._trust,
        )
        # The rule is parsed outside `_answer`: one that is broken is the policy's fault, not the statement's.
        checked = self._believed(row, question, lambda: _answer(partial(verify, row, self._rule, self._candidate.artifact)))
        if isinstance(checked, Refusal):
            return checked
        return self._policy.revocations.doubt(checked.value.signer, question.received_at, project=self._candidate.project) or checked

    def _believed(self, row: StatementRecord | VoteRecord, question: Question, answer: Callable[[], Checked[T]]) -> Checked[T]:
        if question.bundle != row.digest:
            return Refusal("bad-signature", "the stored bytes are not the ones that were received")
        return self._parts.facts.ask(question, answer, size=len(row.bundle))

    def assemble(self) -> Gathered:
        """The evidence as it stands when the nursery is done or the deadline has passed."""
        uploader: Evidence[str]
        label: Evidence[Label]
        match self._record:
            case Present(value=record):
                uploader, label = Present(record.uploader), Present(join((record.label, self._viewer.clearances)))
            case Unreadable() as unread:
                uploader, label = unread, Unreadable("embargo-unavailable", unread.detail)
            case Absent():
                uploader, label = Absent(), Present(self._viewer.clearances)
        return Gathered(
            manifest=self._manifest,
            received=self._received,
            provenance=self._provenance,
            results=self._results,
            stored=self._stored,
            revision=self._revision,
            votes=self._votes,
            uploader=uploader,
            label=label,
            running=self._running,
            older=self._older,
            configuration=self._configuration,
            deployed_before=self._deployed_before,
            adopted=self._adopted,
        )


def _of(digest: Digest | None) -> tuple[Digest, ...]:
    return () if digest is None else (digest,)


def _revision_digest(revision: Revision) -> Digest:
    # Without the addresses: the digest is published, and an address can be guessed.
    return digest_of(encode_canonical({"project": revision.project, "change": revision.change, "commit": revision.commit, "tree": revision.tree}))


async def _guarded(cause: str, item: Awaitable[Evidence[T]]) -> Evidence[T]:
    try:
        return await item
    except PortError as error:
        return Unreadable(error.cause_code if error.cause_code in REASONS else cause, error.detail)
    except Exception as error:  # noqa: BLE001
        # A bug, or a policy whose keys do not parse: an item that cannot be read, never one that is not there.
        _log.exception("gathering evidence failed")
        return Unreadable(cause, f"gathering it raised {type(error).__name__}")


def _answer(verify: Callable[[], Checked[T]]) -> Checked[T]:
    try:
        return verify()
    except Malformed as error:
        return Refusal("bad-signature", f"the stored statement does not parse: {error}")


def _manifest_of(row: StatementRecord, rule: SignerRule, artifact: Digest) -> Checked[ArtifactManifest]:
    checked = verify_manifest(row.bundle, rule, received_at=moment(row.received_at))
    if isinstance(checked, Verified) and checked.value.artifact != artifact:
        return Refusal("digest-mismatch", "the artifact manifest is about another artifact")
    return checked


def _provenance_of(row: StatementRecord, rule: SignerRule, artifact: Digest) -> Checked[Provenance]:
    return verify_provenance(row.bundle, rule, received_at=moment(row.received_at), artifact=artifact)


def _result_of(row: StatementRecord, rule: SignerRule, artifact: Digest) -> Checked[TestResult]:
    checked = verify_test_result(row.bundle, rule, received_at=moment(row.received_at), artifact=artifact)
    if isinstance(checked, Verified) and checked.value.stage != row.stage:
        return Refusal("bad-signature", "the stored stage is not the one that was signed")
    return checked


def _several(found: list[tuple[Digest, Checked[T]]]) -> Evidence[tuple[Checked[T], ...]]:
    if not found:
        return Absent()
    return Present(tuple(checked for _, checked in found), tuple(digest for digest, _ in found))
