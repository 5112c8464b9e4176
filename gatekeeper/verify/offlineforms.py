"""What `pingee verify` reads beside sigstore's bundles: our own builders' statements by their CA, and cosign's simple signing by a key.

The same checks by the same names as `gatekeeper.verify.attestation`. What only a running gatekeeper knows is named as skipped: that the time
given is really the intake entry's, and that the certificate was not revoked.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from gatekeeper.model.digest import digest_of
from gatekeeper.model.facts import RunIdentity
from gatekeeper.model.moment import Moment, render_moment
from gatekeeper.model.seal import seal
from gatekeeper.model.verified import Refusal

from .attestation import Artifact, Attestation, Demand, Report, read_statement
from .builder import BuilderRoot, UnfitCertificate, encode_run_urn, read_run_certificate, verify_builder_statement
from .bundle import UntrustedBundle, parse_bundle
from .checks import PROVENANCE_CHECKS, Checks, Name, Refused
from .errors import MalformedBundle
from .legacyforms import read_simple_signing
from .managedkey import ManagedKey, signs_bytes
from .sigstorebundle import parse_sigstore_bundle
from .statement import AnyPredicate, Statement

_FAILED: Final = {
    "unknown-builder": Name.PATH,
    "certificate-expired": Name.VALIDITY,
    "bad-signature": Name.SIGNATURE,
    "provenance-predicate": Name.PAYLOAD_TYPE,
}
_NO_TRANSPARENCY: Final = (Name.AUTHORITIES, Name.TIMESTAMPS, Name.TRANSPARENCY, Name.INCLUSION, Name.PROMISE, Name.ENTRY)


@dataclass(frozen=True)
class OwnRun:
    """Expect a run of exactly this builder under this builder CA; `received_at` is the `at` of the statement's intake entry, None: not known."""

    builder_id: str
    root: BuilderRoot
    received_at: Moment | None

    def __post_init__(self) -> None:
        if not self.builder_id:
            raise ValueError("an empty builder id would expect nobody")


def verify_own_run(
    data: bytes,
    expected: OwnRun,
    artifact: Artifact,
    *,
    at: Moment,
    demand: Demand | None = None,
    demanded: tuple[Name, ...] = PROVENANCE_CHECKS,
    predicates: Collection[str] | AnyPredicate = AnyPredicate.ANY,
) -> Report:
    """Verify bundle bytes as a run's of ours; raises `MalformedBundle`, or `MalformedStatement` for signed bytes that are no statement.

    Without `received_at` the certificate is judged at `at`, and so ten minutes after it was made nothing holds.
    """
    named = () if isinstance(predicates, AnyPredicate) else (Name.PREDICATE,)
    checks = Checks(beyond=demanded if demand is not None else named)
    try:
        bundle, certificate = _run_bundle(data, checks)
        signer = _run_certificate(certificate, expected, checks)
        statement = _verify_run(bundle, expected, artifact, predicates, checks, at=at)
        if demand is not None:
            demand(statement, checks)
    except Refused as refused:
        return Report(checks.listed(), refused.refusal)
    return Report(checks.listed(), seal(Attestation(artifact, signer.builder_id, None, statement, ()), bundle.digest))


def verify_simple_signing(payload: bytes, signature: bytes, key: ManagedKey, artifact: Artifact) -> Report:
    """Verify a ``.sig`` layer's bytes; raises `MalformedBundle` for what is no simple signing document. Read before it is believed, by the key."""
    checks = Checks(beyond=())
    digest = read_simple_signing(payload)
    try:
        checks.passed(Name.SIGNER, f"the pinned key, {key.digest}")
        checks.passed(Name.CONTENT, "cosign's simple signing: it names a digest and says nothing else that is compared")
        for name in (Name.IDENTITY, Name.ISSUER, Name.USAGE, Name.TIME, Name.VALIDITY, Name.PATH, *_NO_TRANSPARENCY):
            checks.skipped(name, "a pinned key has no certificate, and this form no log entry that is read")
        for name in (Name.PAYLOAD_TYPE, Name.STATEMENT, Name.SUBJECT):
            checks.skipped(name, "not a statement: see artifact")
        same, other = "the document names this artifact's sha256", f"the document names {digest}"
        checks.demand(digest == f"sha256:{artifact.digests['sha256']}", Name.ARTIFACT, same, other, reason="digest-mismatch")
        signed, otherwise = "by the pinned key", "the signature is not by the pinned key over these bytes"
        checks.demand(signs_bytes(key, signature, payload), Name.SIGNATURE, signed, otherwise, reason="bad-signature")
    except Refused as refused:
        return Report(checks.listed(), refused.refusal)
    return Report(checks.listed(), seal(Attestation(artifact, None, None, None, ()), digest_of(payload)))


def _run_bundle(data: bytes, checks: Checks) -> tuple[UntrustedBundle, bytes]:
    try:
        bundle = parse_bundle(data)
    except MalformedBundle as error:
        try:
            parse_sigstore_bundle(data)
        except MalformedBundle:
            raise error from None
        checks.refuse(Name.SIGNER, f"a run's own certificate is expected; this is a bundle of another kind: {error}", reason="unknown-builder")
    if bundle.certificate is None:
        checks.refuse(Name.SIGNER, "a run's own certificate is expected; the bundle is signed by a bare key", reason="unknown-builder")
    return bundle, bundle.certificate


def _verify_run(
    bundle: UntrustedBundle,
    expected: OwnRun,
    artifact: Artifact,
    predicates: Collection[str] | AnyPredicate,
    checks: Checks,
    *,
    at: Moment,
) -> Statement:
    received_at = at if expected.received_at is None else expected.received_at
    signed = verify_builder_statement(bundle, [expected.root], received_at=received_at)
    if isinstance(signed, Refusal):
        unknown = expected.received_at is None and signed.reason == "certificate-expired"
        detail = "the certificate is not valid now; give the time of the statement's intake entry" if unknown else signed.detail
        checks.refuse(_FAILED[signed.reason], detail, reason=signed.reason)
    if expected.received_at is None:
        checks.skipped(Name.TIME, "no time of receipt was given: the certificate is judged now")
    else:
        checks.passed(Name.TIME, f"received at {render_moment(received_at)}, as given: not looked up in the log")
    checks.passed(Name.VALIDITY, "the certificate was valid at that time")
    checks.passed(Name.PATH, "issued by the given builder CA")
    checks.passed(Name.SIGNATURE, "by the certificate's key")
    return read_statement(bundle.envelope, artifact, predicates, checks)


def _run_certificate(certificate: bytes, expected: OwnRun, checks: Checks) -> RunIdentity:
    checks.passed(Name.SIGNER, "a run's own certificate, as expected")
    checks.passed(Name.CONTENT, "an envelope with a statement")
    checks.skipped(Name.ARTIFACT, "an envelope names the artifact in its statement: see subject")
    try:
        signer = read_run_certificate(certificate)
    except UnfitCertificate as error:
        checks.refuse(Name.USAGE, str(error), reason="unknown-builder")
    checks.passed(Name.USAGE, "for code signing by one run, no authority")
    said = f"{signer.builder_id}, {encode_run_urn(signer.project, signer.commit, signer.run)}"
    otherwise = f"signed by {signer.builder_id}, not by {expected.builder_id}"
    checks.demand(signer.builder_id == expected.builder_id, Name.IDENTITY, said, otherwise, reason="unknown-builder")
    checks.skipped(Name.ISSUER, "a run's certificate names no OIDC issuer: the vault checked the run's token before it signed")
    for name in _NO_TRANSPARENCY:
        checks.skipped(name, "our own log's intake entry stands for it, which is not read here (pingee log)")
    return signer
