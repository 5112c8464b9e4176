"""The intake: signed statements and blobs of builders. What is refused here is not logged: callers must not write for ever into a public log.

An accepted statement gets one `intake` entry. The `at` of that entry is the trusted time by which its ten-minute certificate is judged, now and
in a year; so nothing is stored before the entry is durable.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from gatekeeper.model import uris
from gatekeeper.model.caller import Caller, RunCaller
from gatekeeper.model.digest import Digest
from gatekeeper.model.facts import ArtifactManifest, Provenance, SignerIdentity, TestResult
from gatekeeper.model.issuer import WITHOUT_COMMIT
from gatekeeper.model.label import Viewer
from gatekeeper.model.moment import Moment
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.policy.revocations import run_name
from gatekeeper.ports.artifacts import BlobMissing
from gatekeeper.ports.records import ArtifactRecord, StatementRecord
from gatekeeper.tlog.entry import Intake, encode_entry
from gatekeeper.verify.builder import UnfitCertificate, encode_run_urn
from gatekeeper.verify.submission import BuilderFact, verify_submission
from gatekeeper.verify.token import LEEWAY

from .bound_repository import demand_repository
from .calls import CallRefused, viewer_of
from .parts import Parts
from .signers import believe, signer_of
from .stored import MAX_MANIFEST, MalformedArtifact, parse_oci_manifest

MAX_STATEMENTS: Final = 200
"""about one artifact"""
_ACTOR: Final = re.compile(r"[^|\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True)
class Missing:
    """A blob that the intake still wants. Media type and size are known once the OCI manifest is here."""

    digest: Digest
    media_type: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Accepted:
    """An accepted statement: about which artifact, where it stands in the log, and which blobs are still missing."""

    artifact: Digest
    kind: str
    stage: str | None
    log_index: int
    missing: tuple[Missing, ...]


async def accept_statement(parts: Parts, caller: Caller, bundle: bytes, *, kinds: frozenset[str]) -> Accepted:
    """Verify a statement now, log its receipt, store it. Raises `CallRefused` with the reason code, `Malformed`, `PortError`.

    The token names the builder, and the policy the builder's signer: no other is tried. Token, certificate and statement must speak for the same
    project, commit and run, as far as each names them: a stolen token brings in nothing of another's, and a statement nothing to another's.
    """
    if not isinstance(caller, RunCaller):
        raise CallRefused("not-authorised", "statements of builders come with the token of their run")
    policy = parts.policy.current()
    now = parts.now()
    rule = signer_of(policy, caller.builder_id)
    checked = await parts.facts.in_thread(lambda: verify_submission(bundle, rule, received_at=now))
    if isinstance(checked, Refusal):
        raise CallRefused(checked.reason, checked.detail)
    fact = checked.value
    kind, stage = _kind(fact)
    if kind not in kinds:
        raise CallRefused("provenance-predicate", f"a {kind} statement goes to another door")
    _demand_bound(caller, fact.signer)
    builder = policy.builders.get(fact.signer.builder_id)
    if builder is None or builder.issuer != caller.issuer or caller.project not in builder.projects:
        raise CallRefused("unknown-builder", "the policy does not trust this builder for this project")
    named = run_name(caller.project, caller.commit, caller.run)
    if revoked := policy.revocations.doubt(fact.signer, now, project=caller.project) or policy.revocations.doubt_run(caller.builder_id, named, now):
        raise CallRefused(revoked.reason, revoked.detail)
    known = await parts.statements.artifact(fact.artifact, viewer_of(caller))
    if known is None and not isinstance(fact, ArtifactManifest):
        raise CallRefused("unknown-manifest", "no such artifact manifest")
    if known is not None:
        _demand_same_source(caller, known)
    component = fact.component if isinstance(fact, ArtifactManifest) else "" if known is None else known.component
    demand_repository(policy, component, caller, fact.signer)
    index = await _store(parts, caller, checked, bundle, config=policy.commit, at=now)
    return Accepted(fact.artifact, kind, stage, index, await missing_blobs(parts, fact))


async def _store(parts: Parts, caller: RunCaller, checked: Verified[BuilderFact], bundle: bytes, *, config: str, at: Moment) -> int:
    """Log and store under the moment and the policy that it was verified under: a later moment may lie beyond its certificate's end."""
    fact, digest = checked.value, checked.digest
    rows = await parts.statements.statements(fact.artifact, viewer_of(caller))
    for row in rows:
        if row.digest == digest:
            return row.log_index
    if len(rows) >= MAX_STATEMENTS:
        # All of them stand in the evidence of each decision, and those are bounded in bytes.
        raise CallRefused("quota-exceeded", f"there are {MAX_STATEMENTS} statements about this artifact")
    kind, stage = _kind(fact)
    entry = Intake(
        entry_id=parts.new_id(),
        origin=parts.origin,
        at=at,
        config=config,
        artifact=fact.artifact,
        manifest=digest,
        builder=fact.signer.builder_id,
        certificate=fact.signer.certificate,
        subjects=(fact.artifact,),
    )
    appended = await parts.log.append(encode_entry(entry), entry_id=entry.entry_id, kind="intake")
    if isinstance(fact, ArtifactManifest):
        await parts.statements.add_artifact(
            ArtifactRecord(
                artifact=fact.artifact,
                project=caller.project,
                component=fact.component,
                repository=fact.source.repository,
                commit=fact.source.commit,
                tree=fact.source.tree,
                builder=fact.builder_id,
                run=fact.run,
                uploader=f"{caller.issuer}|{caller.actor}",
                manifest=digest,
                received_at=at,
                complete=False,
            )
        )
    await parts.statements.add_statement(
        StatementRecord(digest=digest, artifact=fact.artifact, kind=kind, stage=stage, bundle=bundle, received_at=at, log_index=appended.index)
    )
    return appended.index


async def missing_blobs(parts: Parts, fact: BuilderFact) -> tuple[Missing, ...]:
    """Blobs that the statement speaks of and the store lacks: the OCI manifest first, then what it names; the build log of a provenance."""
    if isinstance(fact, Provenance):
        return () if fact.log is None or await parts.artifacts.size(fact.log) is not None else (Missing(fact.log),)
    if isinstance(fact, TestResult):
        return ()
    try:
        manifest = parse_oci_manifest(await parts.artifacts.read(fact.artifact, max_bytes=MAX_MANIFEST))
    except BlobMissing:
        return (Missing(fact.artifact, uris.OCI_MANIFEST),)
    except MalformedArtifact as error:
        raise CallRefused("image-not-declarative", str(error)) from error
    wanted = (manifest.config, manifest.layer)
    missing = tuple([Missing(d.digest, d.media_type, d.size) for d in wanted if await parts.artifacts.size(d.digest) is None])
    if not missing:
        await parts.artifacts.list_manifest(fact.artifact, media_type=uris.OCI_MANIFEST, artifact_type=uris.ARTIFACT_TYPE)
    return missing


async def accept_blob(parts: Parts, caller: Caller, artifact: Digest, digest: Digest, chunks: AsyncIterable[bytes], *, max_bytes: int) -> int:
    """Store one blob that an accepted statement about the artifact names, for a run of the same project and commit.

    Raises `CallRefused`, `BlobDiffers`, `BlobTooLarge`.
    """
    await demand_wanted(parts, caller, artifact, digest)
    return await parts.artifacts.put(digest, chunks, max_bytes=max_bytes)


async def demand_wanted(parts: Parts, caller: Caller, artifact: Digest, digest: Digest) -> str:
    """The artifact's project. Raises `CallRefused` unless the caller is a run of it and of the artifact's commit, and a statement names the blob."""
    if not isinstance(caller, RunCaller):
        raise CallRefused("not-authorised", "blobs come with the token of their run")
    record = await parts.statements.artifact(artifact, viewer_of(caller))
    if record is None or record.project != caller.project or record.commit != caller.commit:
        raise CallRefused("unknown-manifest", "no such artifact manifest")
    if digest not in await _named_blobs(parts, record, viewer_of(caller)):
        raise CallRefused("not-found", "no accepted statement about this artifact names that blob")
    return record.project


async def _named_blobs(parts: Parts, record: ArtifactRecord, viewer: Viewer) -> frozenset[Digest]:
    """What may be stored for an artifact: its OCI manifest, what that names, and the build logs that its provenances name."""
    named = {record.artifact}
    try:
        manifest = parse_oci_manifest(await parts.artifacts.read(record.artifact, max_bytes=MAX_MANIFEST))
        named |= {manifest.config.digest, manifest.layer.digest}
    except (BlobMissing, MalformedArtifact):
        pass
    rows = [row for row in await parts.statements.statements(record.artifact, viewer) if row.kind == "provenance"]
    for checked in await parts.facts.in_thread(partial(believe, parts.facts, parts.policy.current(), record, rows)):
        if isinstance(checked, Verified) and isinstance(checked.value, Provenance) and checked.value.log is not None:
            named.add(checked.value.log)
    return frozenset(named)


async def issue_certificate(parts: Parts, caller: Caller, token: str, csr: bytes) -> tuple[bytes, ...]:
    """Relay a run's own token and CSR to the vault, which names the certificate by the token's claims. One certificate per token.

    Raises `CallRefused` `unauthenticated` for a token used before, `PortError` of the relay.
    """
    if not isinstance(caller, RunCaller):
        raise CallRefused("not-authorised", "certificates are for runs")
    if _ACTOR.fullmatch(caller.actor) is None:
        raise CallRefused("unauthenticated", "the token names no usable actor")
    policy = parts.policy.current()
    issuer = policy.issuers.get(caller.issuer)
    # A commit that was looked up is ours to know and not the vault's, which writes the certificate from the token alone.
    if not caller.commit or (issuer is not None and issuer.kind in WITHOUT_COMMIT):
        raise CallRefused("not-authorised", "the token names no commit, and the vault certifies nothing that the token does not say")
    if issuer is None:
        raise CallRefused("unauthenticated", "the policy no longer trusts the token's issuer")
    try:
        urn = encode_run_urn(caller.project, caller.commit, caller.run)
    except UnfitCertificate as error:
        raise CallRefused("unauthenticated", f"the token's names make no certificate: {error}") from None
    builder = policy.builders.get(caller.builder_id)
    if builder is None or builder.issuer != caller.issuer or caller.project not in builder.projects:
        raise CallRefused("unknown-builder", "the policy does not trust this builder for this project")
    if revoked := policy.revocations.doubt_run(caller.builder_id, urn, parts.now()):
        raise CallRefused(revoked.reason, revoked.detail)
    # Before the relay: a token whose relay failed is spent all the same, because its outcome at the vault may be unknown.
    # In lower case, as the vault keeps it: to it two spellings are one run, and the second would be offered the first one's names.
    # As long as the token is taken at all, which is a little longer than it says.
    until = caller.expires + timedelta(seconds=LEEWAY)
    if not await parts.people.use_once(caller.issuer, caller.jti.lower(), "certificate", until):
        raise CallRefused("unauthenticated", "the token was used for a certificate before")
    login = "" if issuer.platform is None else issuer.name
    return await parts.relay.issue(token=token, csr_pem=csr, builder_id=caller.builder_id, run_urn=urn, platform=login)


def _kind(fact: BuilderFact) -> tuple[str, str | None]:
    match fact:
        case ArtifactManifest():
            return "manifest", None
        case Provenance():
            return "provenance", None
        case TestResult():
            return "test-result", fact.stage


def _demand_bound(caller: RunCaller, signer: SignerIdentity) -> None:
    if not caller.commit:
        raise CallRefused("not-authorised", "the token names no commit: nothing that it brings could be bound to one")
    if signer.project not in (None, caller.project):
        raise CallRefused("provenance-project", "certificate and token name different projects")
    if signer.builder_id != caller.builder_id or signer.commit not in (None, caller.commit) or signer.run not in (None, caller.run):
        raise CallRefused("provenance-commit", "certificate and token name different commits, runs or builders")


def _demand_same_source(caller: RunCaller, known: ArtifactRecord) -> None:
    """What is said later about an artifact comes from a run of the project and commit that the artifact came from.

    Everything said of it stands in each decision about it, and none of it may be refused: another's run could else have it denied for ever.
    """
    if known.project != caller.project:
        raise CallRefused("provenance-project", "the artifact is another project's than the token's")
    if known.commit != caller.commit:
        raise CallRefused("provenance-commit", "the artifact was built from another commit than the token's")
