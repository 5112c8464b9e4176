"""sigstore's keyless bundles and log entries against a pinned trusted root: the one home of the vendor package ``sigstore``.

Offline always: nothing here opens a connection, and the library's own trusted root is never asked for. The library makes the signatures, paths,
SCT, timestamps, checkpoints and inclusion proofs; what it leaves out is done around it:

- each authority's ``validFor``, both ends included (`sigstoreroot`): the library is given a root that holds what was valid and nothing else;
- every timestamp of a bundle must hold: the library passes over those that do not, as long as another time is left;
- entries of type ``intoto`` 0.0.2, and entries of managed keys (`logentry`);
- its reading of the bundle is the one that we checked: same certificate, same payload.

`Verifier` and `TransparencyLogEntry` are entered by names that the library calls internal where it has no public door; the conformance suite
goes red when they change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NoReturn, TypeAlias

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate
from rfc3161_client import TimeStampResponse, decode_timestamp_response
from sigstore._internal.timestamp import TimestampVerificationResult
from sigstore._internal.trust import CertificateAuthority, CTKeyring, KeyringPurpose, RekorKeyring
from sigstore.dsse import InvalidEnvelope
from sigstore.errors import CertValidationError, VerificationError
from sigstore.hashes import Hashed
from sigstore.models import Bundle, TransparencyLogEntry, TrustedRoot
from sigstore.verify import Verifier
from sigstore_models.bundle.v1 import Bundle as BundleModel
from sigstore_models.common.v1 import HashAlgorithm
from sigstore_models.trustroot.v1 import TrustedRoot as RootModel

from .checks import Checks, Name
from .dsse import UntrustedEnvelope
from .fulciocertificate import KeylessCertificate
from .logentry import is_about
from .signature import signed_by
from .sigstorebundle import LogEntry, UntrustedSigstoreBundle
from .sigstoreroot import MEDIA_TYPE, Authority, SigstoreRoot, holding

UNTRUSTED: Final = "unknown-builder"
FORGED: Final = "bad-signature"
_KEPT_ROOTS: Final = 16
_INTOTO: Final = ("intoto", "0.0.2")

_Places: TypeAlias = tuple[int, ...]
_Chosen: TypeAlias = tuple[_Places, _Places, _Places, _Places]
"""places in the root of logs, CT logs, certificate and timestamp authorities"""

_ONE_SIGNATURE: Final = "the envelope needs exactly one signature, by the certificate's key, over these bytes"
_SAID: Final = (
    ("timestamp: ", Name.TIMESTAMPS, UNTRUSTED, "none of the trusted root's authorities made a timestamp over this signature"),
    ("failed to verify SCT", Name.TRANSPARENCY, UNTRUSTED, "no certificate transparency log of the trusted root signed for the certificate"),
    ("invalid log entry: SET", Name.PROMISE, FORGED, "the log's key did not sign the time of the entry"),
    (
        "invalid log entry",
        Name.INCLUSION,
        FORGED,
        "the entry is not shown to be in a log of the trusted root: proof, checkpoint or its signature is wrong",
    ),
    ("Signature is invalid", Name.SIGNATURE, FORGED, "the signature is not by the certificate's key over this artifact"),
    ("DSSE: ", Name.SIGNATURE, FORGED, _ONE_SIGNATURE),
)
"""How the library's words begin, and which check they are about. It only names the check: every error is a refusal."""

_THIS_ENTRY: Final = "the log entry is about this content, signature and signer"
_OTHER_ENTRY: Final = "the log entry is about another content, signature or signer, or of a kind that is not compared"


class _EveryTimeHolds(Verifier):
    """The library's verifier, for which a timestamp that does not hold is not as good as none."""

    def _verify_signed_timestamp(self, timestamp_response: TimeStampResponse, message: bytes) -> TimestampVerificationResult:
        result = super()._verify_signed_timestamp(timestamp_response, message)
        if result is None:
            raise VerificationError("timestamp: none of the trusted root's authorities made it over this signature")
        return result

    def verify_certificate_and_entry(self, bundle: Bundle, policy: _SameCertificate) -> None:
        """All that is verified of a bundle but its own signature and the entry's body."""
        self._verify_common_signing_cert(bundle, policy)


class _SameCertificate:
    """The library's policy: the certificate whose identity was compared here is the one that it verifies."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate

    def verify(self, cert: Certificate) -> None:
        """Raise where it is another."""
        if cert != self._certificate:
            raise VerificationError("two readers found two certificates in the bundle")


class _KeptKeys(TrustedRoot):
    """The library's root, whose keys are parsed once: the library would parse them anew for every bundle."""

    def __init__(self, inner: RootModel) -> None:
        super().__init__(inner)
        self._rekor: dict[KeyringPurpose, RekorKeyring] = {}
        self._ct: dict[KeyringPurpose, CTKeyring] = {}
        self._stamping: list[CertificateAuthority] | None = None

    def rekor_keyring(self, purpose: KeyringPurpose) -> RekorKeyring:
        """The logs' keys."""
        if purpose not in self._rekor:
            self._rekor[purpose] = super().rekor_keyring(purpose)
        return self._rekor[purpose]

    def ct_keyring(self, purpose: KeyringPurpose) -> CTKeyring:
        """The CT logs' keys."""
        if purpose not in self._ct:
            self._ct[purpose] = super().ct_keyring(purpose)
        return self._ct[purpose]

    def get_timestamp_authorities(self) -> list[CertificateAuthority]:
        """The timestamp authorities."""
        if self._stamping is None:
            self._stamping = super().get_timestamp_authorities()
        return list(self._stamping)


def claimed_times(bundle: UntrustedSigstoreBundle) -> tuple[datetime, ...]:
    """The times that the bundle claims: the log's, where it promised it, and each timestamp's. Raises ValueError for an unreadable timestamp."""
    times = [decode_timestamp_response(timestamp).tst_info.gen_time for timestamp in bundle.timestamps]
    entry = bundle.entry
    if entry is not None and entry.promised and entry.integrated_at is not None:
        times.append(entry.integrated_at)
    return tuple(times)


def verify_keyless(
    bundle: UntrustedSigstoreBundle, signer: KeylessCertificate, root: SigstoreRoot, times: Sequence[datetime], artifact: bytes, checks: Checks
) -> None:
    """Verify everything that the trusted root answers for; raises `Refused`. `artifact` is its sha256; `times` are `claimed_times`."""
    entry = bundle.entry
    if entry is None or not entry.proven:
        checks.refuse(Name.INCLUSION, "a keyless signature needs an entry in a log with a proof and a signed checkpoint", reason=FORGED)
    verifier = _verifier(root, _choose(root, times, signer.logged_at, checks, timestamped=bool(bundle.timestamps)))
    try:
        _by_library(bundle, entry, verifier, signer.certificate, artifact)
    except VerificationError as error:
        _refuse(error, checks)
    except InvalidEnvelope:
        checks.refuse(Name.SIGNATURE, _ONE_SIGNATURE, reason=FORGED)
    except Exception as error:  # noqa: BLE001  # whatever a library stumbles over, the bundle is not believed
        checks.refuse(Name.ENTRY, f"the bundle's material cannot be read ({type(error).__name__})", reason=FORGED)
    _tell_passed(bundle, entry, checks)


def verify_entry_of_key(
    bundle: UntrustedSigstoreBundle, entry: LogEntry, root: SigstoreRoot, key: bytes, artifact: bytes, checks: Checks, *, at: datetime
) -> None:
    """Verify the log entry of a bundle that a managed key signed; raises `Refused`. `key` is DER (SubjectPublicKeyInfo).

    The log must have been valid at the time that it promised, or at `at` where it promised none.
    """
    logged = entry.integrated_at if entry.promised and entry.integrated_at is not None else at
    logs = holding(root.logs, (logged,))
    checks.demand(bool(logs), Name.AUTHORITIES, "the log was valid then", "no log of the trusted root was valid then", reason=UNTRUSTED)
    try:
        keyring = _library_root(root, (logs, (), (), ())).rekor_keyring(KeyringPurpose.VERIFY)
        TransparencyLogEntry(BundleModel.from_json(bundle.raw).verification_material.tlog_entries[0])._verify(keyring)  # noqa: SLF001
    except VerificationError as error:
        _refuse(VerificationError(f"invalid log entry: {error}"), checks)
    except Exception as error:  # noqa: BLE001  # whatever a library stumbles over, the entry is not believed
        checks.refuse(Name.INCLUSION, f"the log entry cannot be read ({type(error).__name__})", reason=FORGED)
    _tell_logged(entry, checks)
    checks.demand(is_about(entry, bundle.content, key, artifact=artifact), Name.ENTRY, _THIS_ENTRY, _OTHER_ENTRY, reason=FORGED)


def _choose(root: SigstoreRoot, times: Sequence[datetime], logged_at: Sequence[datetime], checks: Checks, *, timestamped: bool) -> _Chosen:
    if not logged_at:
        checks.refuse(Name.TRANSPARENCY, "the certificate has no SCT: no certificate transparency log signed for it", reason=UNTRUSTED)
    chosen = holding(root.logs, times), holding(root.ct_logs, logged_at), holding(root.certificate_authorities, times)
    for found, kind in zip(chosen, ("transparency log", "certificate transparency log", "certificate authority"), strict=True):
        if not found:
            checks.refuse(Name.AUTHORITIES, f"no {kind} of the trusted root was valid at the time of signing", reason=UNTRUSTED)
    stamping = holding(root.timestamp_authorities, times) if timestamped else ()
    if timestamped and not stamping:
        checks.refuse(Name.AUTHORITIES, "no timestamp authority of the trusted root was valid at the time of signing", reason=UNTRUSTED)
    checks.passed(Name.AUTHORITIES, "each authority of the trusted root that is used was valid at the time of signing")
    return *chosen, stamping


@lru_cache(maxsize=_KEPT_ROOTS)
def _verifier(root: SigstoreRoot, chosen: _Chosen) -> _EveryTimeHolds:
    return _EveryTimeHolds(trusted_root=_library_root(root, chosen))


def _library_root(root: SigstoreRoot, chosen: _Chosen) -> TrustedRoot:
    logs, ct_logs, authorities, stamping = chosen
    document = {
        "mediaType": MEDIA_TYPE,
        "tlogs": _members(root.logs, logs),
        "ctlogs": _members(root.ct_logs, ct_logs),
        "certificateAuthorities": _members(root.certificate_authorities, authorities),
        "timestampAuthorities": [_endless(members) for members in _members(root.timestamp_authorities, stamping)],
    }
    return _KeptKeys(RootModel.from_json(json.dumps(document)))


def _members(authorities: Sequence[Authority], places: Sequence[int]) -> list[Any]:
    return [authorities[place].members for place in places]


def _endless(members: Any) -> Any:
    # Its end was looked at, as inclusive; the library would look again, as exclusive.
    return {**members, "validFor": {"start": members["validFor"]["start"]}}


def _by_library(bundle: UntrustedSigstoreBundle, entry: LogEntry, verifier: _EveryTimeHolds, certificate: Certificate, artifact: bytes) -> None:
    content, policy = bundle.content, _SameCertificate(certificate)
    if not isinstance(content, UntrustedEnvelope):
        verifier.verify_artifact(Hashed(algorithm=HashAlgorithm.SHA2_256, digest=artifact), Bundle.from_json(bundle.raw), policy)
    elif entry.kind == _INTOTO:
        # The hint, which nobody signed, says which body is compared, and stops the library; signature and body are compared by us.
        model = BundleModel.from_json(bundle.raw)
        model.verification_material.tlog_entries[0].kind_version.kind = "dsse"
        model.verification_material.tlog_entries[0].kind_version.version = "0.0.1"
        verifier.verify_certificate_and_entry(Bundle(model), policy)
        if not signed_by(content, certificate.public_key()):
            raise VerificationError("DSSE: not one signature by the certificate's key")
        if not is_about(entry, content, certificate.public_bytes(Encoding.DER), artifact=artifact):
            raise VerificationError(_OTHER_ENTRY)
    else:
        read = verifier.verify_dsse(Bundle.from_json(bundle.raw), policy)
        if read != (content.payload_type, content.payload):
            raise VerificationError("two readers found two payloads in the bundle")


def _tell_passed(bundle: UntrustedSigstoreBundle, entry: LogEntry, checks: Checks) -> None:
    checks.passed(Name.PATH, "the certificate leads to an authority of the trusted root")
    checks.passed(Name.TRANSPARENCY, "a certificate transparency log of the trusted root signed for the certificate")
    checks.passed(Name.SIGNATURE, "by the certificate's key")
    if bundle.timestamps:
        checks.passed(Name.TIMESTAMPS, f"each of {len(bundle.timestamps)} is by an authority of the trusted root, over this signature")
    else:
        checks.skipped(Name.TIMESTAMPS, "the bundle has none")
    _tell_logged(entry, checks)
    checks.passed(Name.ENTRY, _THIS_ENTRY)


def _tell_logged(entry: LogEntry, checks: Checks) -> None:
    checks.passed(Name.INCLUSION, "the entry is in the log whose checkpoint the trusted root's key signed")
    if entry.promised and entry.integrated_at is not None:
        checks.passed(Name.PROMISE, "the log's key signed the time of the entry")
    else:
        checks.skipped(Name.PROMISE, "the entry has none")


def _refuse(error: VerificationError, checks: Checks) -> NoReturn:
    said = str(error)
    if isinstance(error, CertValidationError):
        checks.refuse(Name.PATH, "the certificate leads to no authority of the trusted root", reason=UNTRUSTED)
    for words, name, reason, sentence in _SAID:
        if said.startswith(words):
            checks.refuse(name, sentence, reason=reason)
    checks.refuse(Name.ENTRY, _OTHER_ENTRY, reason=FORGED)
