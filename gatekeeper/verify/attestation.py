"""Whether a sigstore bundle is by the signer that somebody expects, about the artifact that somebody has.

Which kind of signer it must be is said by the expectation and never by the bundle: a bundle that names a key where a certificate is expected
is refused, and the other way round. Three kinds: `Keyless` (an identity and its OIDC issuer, under a pinned sigstore root), `ManagedKey` (a
pinned public key), and our own builders' X.509, which stands in `gatekeeper.verify.builder` because its time is our log's.

Pure: `at` is the moment of checking, and everything that is trusted is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn, TypeAlias

from gatekeeper.model.digest import Digest, digest_hex
from gatekeeper.model.moment import Moment
from gatekeeper.model.seal import seal
from gatekeeper.model.uris import IN_TOTO_PAYLOAD, STATEMENT_V01, STATEMENT_V1
from gatekeeper.model.verified import Checked

from .checks import PROVENANCE_CHECKS, Check, Checks, Name, Refused
from .dsse import UntrustedEnvelope, pae
from .errors import MalformedStatement
from .fulciocertificate import KeylessCertificate, UnreadableCertificate, is_self_issued, read_keyless_certificate
from .keyless import claimed_times, verify_entry_of_key, verify_keyless
from .legacyforms import parse_any_form
from .managedkey import ManagedKey, message_algorithm, signs_bytes, signs_message
from .sigstorebundle import UntrustedSigstoreBundle
from .sigstoreroot import SigstoreRoot
from .statement import Among, AnyPredicate, Part, Statement, UnfitStatement, open_statement

_FORGED: Final = "bad-signature"
_UNTRUSTED: Final = "unknown-builder"
_MISMATCH: Final = "digest-mismatch"
_EXPIRED: Final = "certificate-expired"


@dataclass(frozen=True)
class Keyless:
    """Expect a keyless signature by exactly this identity, vouched for by exactly this issuer, under this trusted root."""

    identity: str
    issuer: str
    root: SigstoreRoot

    def __post_init__(self) -> None:
        if not self.identity or not self.issuer:
            raise ValueError("an empty identity or issuer would expect nobody")


@dataclass(frozen=True)
class Pinned:
    """Expect a signature by exactly this key; a log entry that the bundle has is verified where a root is given."""

    key: ManagedKey
    root: SigstoreRoot | None


Signer: TypeAlias = Keyless | Pinned
Demand: TypeAlias = Callable[[Statement, Checks], None]
"""What else a statement must say, once its signature and subject hold."""


@dataclass(frozen=True)
class Artifact:
    """What the bundle must be about: hex digests by in-toto's names, sha256 always among them. More than one where the bytes are at hand."""

    digests: Mapping[str, str]

    def __post_init__(self) -> None:
        if "sha256" not in self.digests:
            raise ValueError("an artifact is named by its sha256")

    @property
    def sha256(self) -> bytes:
        """The 32 bytes."""
        return bytes.fromhex(self.digests["sha256"])


@dataclass(frozen=True)
class Attestation:
    """What was verified. `statement` is None for a signature over the artifact itself; `identity` and `issuer` are None under a pinned key."""

    artifact: Artifact
    identity: str | None
    issuer: str | None
    statement: Statement | None
    times: tuple[datetime, ...]


@dataclass(frozen=True)
class Report:
    """Every check with its outcome, and what came of them."""

    checks: tuple[Check, ...]
    result: Checked[Attestation]


def artifact_of_digest(digest: Digest) -> Artifact:
    """An artifact that is known by its sha256 alone."""
    return Artifact({"sha256": digest_hex(digest)})


def verify_attestation(
    data: bytes,
    signer: Signer,
    artifact: Artifact,
    *,
    at: Moment,
    demand: Demand | None = None,
    demanded: tuple[Name, ...] = PROVENANCE_CHECKS,
    predicates: Collection[str] | AnyPredicate = AnyPredicate.ANY,
) -> Report:
    """Verify bundle bytes, or a bare envelope by a key; raises `MalformedBundle`, or `MalformedStatement` for signed bytes that are no statement.

    With a `demand` or with `predicates` there must be a statement. It is of one of these types; `demand` goes on to check it, and may refuse it by
    `Checks.refuse`; the checks it makes are those `demanded`.
    """
    bundle = parse_any_form(data)
    needed = demand is not None or predicates is not AnyPredicate.ANY
    checks = Checks(beyond=demanded if demand is not None else (Name.PREDICATE,) if needed else ())
    try:
        attestation = _verify(bundle, signer, artifact, predicates, demand, checks, at=at, statement_needed=needed)
    except Refused as refused:
        return Report(checks.listed(), refused.refusal)
    return Report(checks.listed(), seal(attestation, bundle.digest))


def verify_keyless_envelope(bundle: UntrustedSigstoreBundle, signer: Keyless, *, at: Moment) -> Checked[KeylessCertificate]:
    """Verify who signed a bundle's envelope, and give the certificate. What the payload says, and about what, is for the caller to check."""
    checks = Checks(beyond=())
    try:
        _demand_content(bundle, None, checks)
        certificate = _verify_keyless(bundle, signer, None, _times(bundle, checks), checks, at=at)
    except Refused as refused:
        return refused.refusal
    return seal(certificate, bundle.digest)


def _verify(
    bundle: UntrustedSigstoreBundle,
    signer: Signer,
    artifact: Artifact,
    predicates: Collection[str] | AnyPredicate,
    demand: Demand | None,
    checks: Checks,
    *,
    at: Moment,
    statement_needed: bool,
) -> Attestation:
    times = _times(bundle, checks)
    _demand_content(bundle, None if statement_needed else artifact, checks)
    if isinstance(signer, Keyless):
        _verify_keyless(bundle, signer, artifact, times, checks, at=at)
    else:
        _verify_pinned(bundle, signer, artifact, times, checks, at=at)
    statement = _statement(bundle, artifact, predicates, demand, checks)
    identity, issuer = (signer.identity, signer.issuer) if isinstance(signer, Keyless) else (None, None)
    return Attestation(artifact, identity, issuer, statement, times)


def _times(bundle: UntrustedSigstoreBundle, checks: Checks) -> tuple[datetime, ...]:
    try:
        return claimed_times(bundle)
    except ValueError:
        checks.refuse(Name.TIMESTAMPS, "a timestamp cannot be read", reason=_FORGED)


def _demand_content(bundle: UntrustedSigstoreBundle, artifact: Artifact | None, checks: Checks) -> None:
    """An envelope, or a signature over this artifact itself; None where only a statement will do."""
    content = bundle.content
    if isinstance(content, UntrustedEnvelope):
        checks.passed(Name.CONTENT, "an envelope with a statement")
        checks.skipped(Name.ARTIFACT, "an envelope names the artifact in its statement: see subject")
        return
    if artifact is None:
        checks.refuse(
            Name.CONTENT, "a statement is needed; the bundle signs the artifact's bytes and says nothing about them", reason="provenance-predicate"
        )
    checks.passed(Name.CONTENT, "a signature over the artifact itself")
    if content.digest is None:
        checks.skipped(Name.ARTIFACT, "the bundle names no digest of its own: see signature")
        return
    checks.demand(
        content.digest == artifact.sha256,
        Name.ARTIFACT,
        "the bundle names this artifact's sha256",
        "the bundle names another artifact",
        reason=_MISMATCH,
    )


def _verify_keyless(
    bundle: UntrustedSigstoreBundle, expected: Keyless, artifact: Artifact | None, times: tuple[datetime, ...], checks: Checks, *, at: Moment
) -> KeylessCertificate:
    if not bundle.certificates:
        checks.refuse(Name.SIGNER, "a keyless signature is expected; the bundle is signed by a bare key", reason=_UNTRUSTED)
    checks.passed(Name.SIGNER, "keyless, as expected")
    signer = _certificate(bundle, checks)
    checks.demand(
        signer.identity == expected.identity,
        Name.IDENTITY,
        signer.identity,
        f"signed by {signer.identity}, not by {expected.identity}",
        reason=_UNTRUSTED,
    )
    checks.demand(
        signer.issuer == expected.issuer, Name.ISSUER, signer.issuer, f"vouched for by {signer.issuer}, not by {expected.issuer}", reason=_UNTRUSTED
    )
    checks.demand(signer.signs_code, Name.USAGE, "for code signing, no authority", "the certificate may not sign code", reason=_UNTRUSTED)
    _demand_times(signer, times, checks, at=at)
    # Only a signature over the artifact itself is compared with the artifact here; without one there is none that it could equal.
    verify_keyless(bundle, signer, expected.root, times, b"" if artifact is None else artifact.sha256, checks)
    return signer


def _certificate(bundle: UntrustedSigstoreBundle, checks: Checks) -> KeylessCertificate:
    try:
        if any(is_self_issued(der) for der in bundle.certificates):
            checks.refuse(Name.PATH, "the bundle brings a root certificate of its own", reason=_UNTRUSTED)
        return read_keyless_certificate(bundle.certificates[0])
    except UnreadableCertificate as error:
        checks.refuse(Name.IDENTITY, str(error), reason=_UNTRUSTED)


def _demand_times(signer: KeylessCertificate, times: tuple[datetime, ...], checks: Checks, *, at: Moment) -> None:
    if not times:
        checks.refuse(Name.TIME, "no trusted time: neither a timestamp nor a time that the log promised", reason=_EXPIRED)
    checks.demand(
        all(time <= at for time in times), Name.TIME, ", ".join(time.isoformat() for time in times), "signed in the future", reason=_EXPIRED
    )
    certificate = signer.certificate
    checks.demand(
        all(certificate.not_valid_before_utc <= time <= certificate.not_valid_after_utc for time in times),
        Name.VALIDITY,
        "the certificate was valid at the time of signing",
        "signed outside the certificate's validity",
        reason=_EXPIRED,
    )


def _verify_pinned(
    bundle: UntrustedSigstoreBundle, expected: Pinned, artifact: Artifact, times: tuple[datetime, ...], checks: Checks, *, at: Moment
) -> None:
    if bundle.certificates:
        checks.refuse(Name.SIGNER, "a pinned key is expected; the bundle is signed under a certificate", reason=_UNTRUSTED)
    checks.passed(Name.SIGNER, f"the pinned key, {expected.key.digest}")
    for name in (Name.IDENTITY, Name.ISSUER, Name.USAGE, Name.VALIDITY, Name.PATH, Name.TRANSPARENCY):
        checks.skipped(name, "a pinned key has no certificate")
    checks.demand(all(time <= at for time in times), Name.TIME, "none lies in the future", "signed in the future", reason=_EXPIRED)
    checks.skipped(Name.TIMESTAMPS, "a pinned key is trusted at any time")
    checks.demand(
        _signed_by_key(bundle, expected.key, artifact, checks),
        Name.SIGNATURE,
        "by the pinned key",
        "there must be exactly one signature, by the pinned key, over these bytes",
        reason=_FORGED,
    )
    if bundle.entry is not None and expected.root is not None:
        verify_entry_of_key(bundle, bundle.entry, expected.root, expected.key.der, artifact.sha256, checks, at=at)
        return
    why = "the bundle has no log entry" if bundle.entry is None else "no trusted root was given that would answer for the log"
    for name in (Name.AUTHORITIES, Name.INCLUSION, Name.PROMISE, Name.ENTRY):
        checks.skipped(name, why)


def _signed_by_key(bundle: UntrustedSigstoreBundle, key: ManagedKey, artifact: Artifact, checks: Checks) -> bool:
    content = bundle.content
    if isinstance(content, UntrustedEnvelope):
        return len(content.signatures) == 1 and signs_bytes(key, content.signatures[0][1], pae(content.payload_type, content.payload))
    algorithm = message_algorithm(key)
    digest = None if algorithm is None else artifact.digests.get(algorithm)
    if digest is None:
        checks.refuse(Name.SIGNATURE, "this kind of key signs more than the sha256; give the artifact's file", reason=_FORGED)
    return signs_message(key, content.signature, bytes.fromhex(digest))


def _statement(
    bundle: UntrustedSigstoreBundle, artifact: Artifact, predicates: Collection[str] | AnyPredicate, demand: Demand | None, checks: Checks
) -> Statement | None:
    content = bundle.content
    if not isinstance(content, UntrustedEnvelope):
        for name in (Name.PAYLOAD_TYPE, Name.STATEMENT, Name.SUBJECT):
            checks.skipped(name, "the artifact itself is signed, no statement about it")
        return None
    statement = read_statement(content, artifact, predicates, checks)
    if demand is not None:
        demand(statement, checks)
    return statement


def read_statement(
    content: UntrustedEnvelope, artifact: Artifact, predicates: Collection[str] | AnyPredicate, checks: Checks
) -> Statement:
    """The statement of an envelope whose signature holds, if it is about the artifact; raises `Refused`, or `MalformedStatement`."""
    about = Among(artifact.digests)
    try:
        statement = open_statement(
            content.payload_type, content.payload, predicates=predicates, about=about, types=(STATEMENT_V1, STATEMENT_V01)
        )
    except UnfitStatement as error:
        _refuse_part(error, checks)
    except MalformedStatement as error:
        raise MalformedStatement(f"the signature holds, but what is signed is no in-toto statement: {error}") from error
    checks.passed(Name.PAYLOAD_TYPE, IN_TOTO_PAYLOAD)
    checks.passed(Name.STATEMENT, f"in-toto, {statement.predicate_type}")
    checks.passed(Name.SUBJECT, statement.compared)
    if not isinstance(predicates, AnyPredicate):
        checks.passed(Name.PREDICATE, statement.predicate_type)
    return statement


def _refuse_part(error: UnfitStatement, checks: Checks) -> NoReturn:
    if error.part is not Part.PAYLOAD_TYPE:
        checks.passed(Name.PAYLOAD_TYPE, IN_TOTO_PAYLOAD)
    if error.part is Part.SUBJECT:
        checks.passed(Name.STATEMENT, "in-toto")
    name = {Part.PAYLOAD_TYPE: Name.PAYLOAD_TYPE, Part.PREDICATE: Name.PREDICATE, Part.SUBJECT: Name.SUBJECT}[error.part]
    checks.refuse(name, error.detail, reason=_MISMATCH if error.part is Part.SUBJECT else "provenance-predicate")
