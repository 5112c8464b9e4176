"""One run from a commit to signed, submitted statements. Called in the run's own mount namespace (`workspace.enter_namespace`)."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.moment import Moment, moment

from . import forward, live, namespaces, outputs, pipeline, runner, signing, statement, submit, toolchain, vcs, workspace
from .fault import BuildFault
from .identity import ClaimedRun
from .languages import parse_type
from .log import BuildLog
from .plan import Plan, make_plan
from .sandbox import Limits, Sandbox
from .statement import Deployment, Run, Source, StageName, StageResult, Subject, Verdict

MANIFEST: Final = "manifest"
PROVENANCE: Final = "provenance"
RESULT: Final = "test-result"

T = TypeVar("T")


@dataclass(frozen=True)
class Acceptance:
    """What an acceptance stage needs beside the commit: the artifact deployed, where it answers, its page and its receipt."""

    artifact: Digest
    target: forward.Target
    deployment: Deployment


@dataclass(frozen=True)
class Order:
    """One run, asked for. `repository` is where the bytes are, `public` the name that statements give it."""

    repository: str
    public: str
    ref: str
    identity: ClaimedRun
    builder: str
    acceptance: Acceptance | None
    enforced: tuple[str, ...]
    most_s: int
    bounds: workspace.Bounds
    out: Path | None


@dataclass(frozen=True)
class Delivery:
    """Where statements go: the instances, and the one that relays the certificate with the token meant for that alone."""

    instances: tuple[submit.Instance, ...]
    certificate_from: submit.Instance
    certificate_token: str = field(repr=False)


@dataclass(frozen=True)
class Report:
    """What a run came to. `reason` says why a stage failed; `statements` are the signed bundles' names and digests."""

    stage: StageName
    verdict: Verdict
    reason: str | None
    component: str
    builder: str
    plan: Digest
    tree: str
    artifact: Digest
    log: Digest
    log_url: str
    milliseconds: dict[str, int]
    statements: dict[str, Digest]
    submitted: tuple[str, ...]


def execute(order: Order, delivery: Delivery | None, *, announce: Callable[[str], None]) -> Report:
    """Do the run; raises `BuildFault` (no verdict) or `BuildFailed` (no artifact). `announce` gets the live log's URL before anything runs."""
    with workspace.mounted(order.bounds) as space:
        log = BuildLog(space.keep / "log")
        try:
            with live.served(log) as url:
                announce(url)
                return _Run(order, delivery, space, log, url).execute()
        finally:
            log.close()
            if order.out is not None:
                order.out.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log.path, order.out / "log")


class _Run:
    """The steps of one run, in their order."""

    def __init__(self, order: Order, delivery: Delivery | None, space: workspace.Workspace, log: BuildLog, url: str) -> None:
        self._order = order
        self._delivery = delivery
        self._space = space
        self._log = log
        self._url = url
        self._milliseconds: dict[str, int] = {}
        self._started = _now()

    def execute(self) -> Report:
        order = self._order
        sandbox = self._timed("sandbox", self._sandbox)
        checkout = self._timed("checkout", self._check_out)
        source = Source(order.public, order.ref, checkout.commit, checkout.tree)
        document = pipeline.parse_document(checkout.document)
        plan = make_plan(document, repository=order.public, enforced=order.enforced, most_s=order.most_s)
        surroundings = self._surroundings(plan)
        runner.prepare_tree(sandbox, workspace.give)
        outcome = self._timed("stage", lambda: self._stage(sandbox, plan, surroundings))
        artifact = self._timed("extract", lambda: self._artifact(plan, source)) if order.acceptance is None else None
        self._log.close()
        subject = Subject(plan.component, artifact.manifest.digest if artifact else _deployed(order))
        signer = self._timed("certificate", self._signer) if self._delivery else None
        builder = signer.identity.builder_id if signer else order.builder
        statements = self._statements(subject, source, plan, outcome.result, artifact, builder)
        signed = {name: signer.bundle(data) for name, data in statements.items()} if signer else statements
        if order.out is not None:
            _keep(order.out, statements, signed if signer else {}, artifact)
        if self._delivery is not None:
            delivery, submission = self._delivery, self._submission(signed, artifact)
            self._timed("submit", lambda: submit.submit(delivery.instances, submission))
        return Report(
            stage=outcome.result.stage,
            verdict=outcome.result.verdict,
            reason=outcome.reason,
            component=plan.component,
            builder=builder,
            plan=plan.digest,
            tree=source.tree,
            artifact=subject.artifact,
            log=self._log.digest,
            log_url=self._url,
            milliseconds=self._milliseconds,
            statements={name: digest_of(data) for name, data in signed.items()},
            submitted=tuple(instance.name for instance in self._delivery.instances) if self._delivery else (),
        )

    def _sandbox(self) -> Sandbox:
        uid = namespaces.sandbox_uid(os.geteuid(), Path("/proc/self/uid_map").read_text("ascii"))
        if uid is not None and not workspace.reachable(self._space.cell, uid):
            raise BuildFault("sandbox-unavailable", "the temporary directory lies below one that others may not enter; set TMPDIR=/tmp")
        sandbox = Sandbox(workspace.copy_bwrap(self._space.keep), self._space, uid, Limits())
        # The probe itself starts in /src, so the directories must be the sandbox user's already.
        runner.prepare_tree(sandbox, workspace.give)
        sandbox.check()
        return sandbox

    def _check_out(self) -> vcs.Checkout:
        remote = vcs.check_repository(self._order.repository)
        found = vcs.check_out(
            remote,
            self._order.identity.commit,
            keep=self._space.keep,
            into=self._space.src,
            document=pipeline.FILE,
            max_document=pipeline.MAX_BYTES,
            max_files=self._order.bounds.files,
        )
        shutil.rmtree(self._space.keep / "git")
        return found

    def _surroundings(self, plan: Plan) -> runner.Surroundings:
        if plan.type is None:
            return runner.Surroundings()
        wanted = parse_type(plan.type)
        return toolchain.shown(wanted, toolchain.find_programs(wanted, _is_program), self._space.keep)

    def _stage(self, sandbox: Sandbox, plan: Plan, surroundings: runner.Surroundings) -> runner.Outcome:
        acceptance = self._order.acceptance
        if acceptance is None:
            return runner.run_stage(sandbox, plan.stage(StageName.COMMIT), self._log, surroundings)
        stage = plan.stage(StageName.ACCEPTANCE)
        with forward.forwarded(acceptance.target, self._space.keep, sandbox.uid) as forwarded:
            return runner.run_stage(sandbox, stage, self._log, forwarded.with_these(surroundings))

    def _artifact(self, plan: Plan, source: Source) -> outputs.Artifact:
        layer, files = outputs.extract(self._space.src, plan.paths, self._space.keep / "layer.tar", outputs.Bounds())
        return outputs.assemble(component=plan.component, run=plan.run, source=source, layer=layer, outputs=files)

    def _signer(self) -> signing.Signer:
        delivery, identity = self._delivery, self._order.identity
        if delivery is None:
            raise AssertionError("a run that submits nothing signs nothing")
        key = signing.ephemeral_key()
        pem = submit.request_certificate(delivery.certificate_from, delivery.certificate_token, signing.encode_request(key))
        return signing.make_signer(key, pem, project=identity.project, commit=identity.commit, run=identity.run)

    def _statements(
        self, subject: Subject, source: Source, plan: Plan, result: StageResult, artifact: outputs.Artifact | None, builder: str
    ) -> dict[str, bytes]:
        acceptance = self._order.acceptance
        deployment = acceptance.deployment if acceptance else None
        made = {RESULT: statement.test_result_statement(subject, plan.digest, result, deployment)}
        if artifact is not None:
            run = Run(self._order.identity.project, builder, self._order.identity.run, plan.digest)
            made[MANIFEST] = statement.manifest_statement(subject, source, run, artifact.outputs)
            made[PROVENANCE] = statement.provenance_statement(
                subject, source, run, started=self._started, finished=_now(), log=self._log.digest
            )
        return made

    def _submission(self, bundles: dict[str, bytes], artifact: outputs.Artifact | None) -> submit.Submission:
        log = outputs.Blob(self._log.digest, self._log.size, self._log.path)
        blobs = [artifact.manifest, artifact.config, artifact.layer, log] if artifact else []
        return submit.Submission(
            manifest=bundles.get(MANIFEST),
            provenance=bundles.get(PROVENANCE),
            results=(bundles[RESULT],),
            blobs={blob.digest: blob for blob in blobs},
        )

    def _timed(self, name: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        try:
            return work()
        finally:
            self._milliseconds[name] = round(1000 * (time.monotonic() - started))


def _keep(out: Path, statements: dict[str, bytes], bundles: dict[str, bytes], artifact: outputs.Artifact | None) -> None:
    """Leave what was made in a directory: `NAME.json` (statement), `NAME.bundle.json` (signed), and the artifact's three blobs."""
    out.mkdir(parents=True, exist_ok=True)
    for name, data in statements.items():
        (out / f"{name}.json").write_bytes(data)
    for name, data in bundles.items():
        (out / f"{name}.bundle.json").write_bytes(data)
    if artifact is not None:
        for name, blob in (("artifact.json", artifact.manifest), ("config.json", artifact.config), ("layer.tar", artifact.layer)):
            if isinstance(blob.source, bytes):
                (out / name).write_bytes(blob.source)
            else:
                shutil.copyfile(blob.source, out / name)


def _deployed(order: Order) -> Digest:
    if order.acceptance is None:
        raise AssertionError("a commit stage makes its own artifact")
    return order.acceptance.artifact


def _is_program(place: str) -> bool:
    return os.access(place, os.X_OK)


def _now() -> Moment:
    return moment(datetime.now(UTC))
