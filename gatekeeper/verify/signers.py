"""A builder statement's envelope against the one signer that the policy names for its builder.

The caller says which builder it is about (at the intake: the one that the run's token names; at a decision: the one that the component's policy
names), the policy says of which kind that builder's signer is, and a bundle of any other kind is refused. Nothing in a bundle chooses.

What binds a signature to its builder, to its time, and to project, commit and run:

x509      the builder id in the run's certificate, under the builder's own CA; valid at the intake entry; the certificate names all three.
sigstore  the exact identity and issuer, under the pinned root; valid at the log's and the timestamp authorities' times, none of which lies
          after the intake entry; Fulcio's source repository, source digest and run invocation, where the certificate has them.
spiffe    the exact SPIFFE ID, under the trust domain's pinned CAs; valid at the intake entry; an SVID names none of the three.
key       exactly the pinned key; trusted until the policy drops it; it names none of the three.

What a certificate does not name is what the signed statement itself says (`StandingIdentity`): an artifact manifest names project, repository,
commit and run, a provenance all of these but the project, a test result its artifact alone. At the intake the token of the run that brings a
statement must agree with everything that is named, and the policy's ``projects`` must hold the token's project. Within those projects a
standing signer is believed at its word: two projects that must not trust each other do not share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from gatekeeper.model.digest import digest_of
from gatekeeper.model.facts import StandingIdentity
from gatekeeper.model.moment import Moment
from gatekeeper.model.seal import seal
from gatekeeper.model.signer import ExpectedSigner, SignerKind
from gatekeeper.model.uris import IN_TOTO_PAYLOAD
from gatekeeper.model.verified import Checked, Refusal, Verified

from .attestation import Keyless, verify_keyless_envelope
from .builder import BuilderRoot, SignedStatement, parse_builder_root, verify_builder_statement
from .bundle import parse_bundle
from .dsse import UntrustedEnvelope, pae
from .errors import MalformedBundle
from .fulciocertificate import UnreadableCertificate, read_source
from .managedkey import ManagedKey, parse_managed_key, signs_bytes
from .sigstorebundle import UntrustedSigstoreBundle, parse_sigstore_bundle
from .sigstoreroot import parse_sigstore_root
from .svid import SvidAuthority, parse_svid_authority, verify_svid

_KEPT: Final = 64
_UNTRUSTED: Final = "unknown-builder"


@dataclass(frozen=True)
class StandingSigner:
    """The signer of one builder, where it outlives the builder's runs."""

    builder_id: str
    expected: SvidAuthority | Keyless | ManagedKey


SignerRule: TypeAlias = Sequence[BuilderRoot] | StandingSigner
"""Builder CAs whose runs' certificates name the builder, or one standing signer. An empty sequence: nobody."""

NOBODY: Final[SignerRule] = ()


@lru_cache(maxsize=_KEPT)
def parse_signer(builder_id: str, signer: ExpectedSigner) -> SignerRule:
    """The rule for one builder; raises `MalformedKey` for a file that holds no such trust. Kept, since a trusted root is long to read."""
    match signer.kind:
        case SignerKind.X509:
            return (parse_builder_root(builder_id, signer.trust),)
        case SignerKind.SPIFFE:
            return StandingSigner(builder_id, parse_svid_authority(signer.identity, signer.trust))
        case SignerKind.SIGSTORE:
            return StandingSigner(builder_id, Keyless(signer.identity, signer.issuer_url, parse_sigstore_root(signer.trust)))
        case SignerKind.KEY:
            return StandingSigner(builder_id, parse_managed_key(signer.trust))


def authorities_of(rule: SignerRule) -> tuple[bytes, ...]:
    """The CA certificates (DER) that a rule ends at; none for a pinned key, and none for sigstore's root, whose authorities end by `validFor`."""
    if not isinstance(rule, StandingSigner):
        return tuple(der for root in rule for der in root.certificates)
    return rule.expected.authorities if isinstance(rule.expected, SvidAuthority) else ()


def verify_signed(data: bytes, rule: SignerRule, *, received_at: Moment) -> Checked[SignedStatement]:
    """Believe the payload's bytes as the builder's whose rule it is, or say why not. Raises `MalformedBundle` for bytes that are no bundle.

    `received_at` is the time of the intake's log entry, never "now".
    """
    if not isinstance(rule, StandingSigner):
        return _by_run(data, rule, received_at)
    bundle = parse_sigstore_bundle(data)
    if not isinstance(bundle.content, UntrustedEnvelope):
        return Refusal("provenance-predicate", "a statement is needed; the bundle signs bytes and says nothing about them")
    signed = _by_standing(bundle, bundle.content, rule, received_at)
    if isinstance(signed, Refusal):
        return signed
    if bundle.content.payload_type != IN_TOTO_PAYLOAD:
        return Refusal("provenance-predicate", f"the payload type must be {IN_TOTO_PAYLOAD}")
    return seal(SignedStatement(bundle.content.payload_type, bundle.content.payload, signed), bundle.digest)


def _by_run(data: bytes, roots: Sequence[BuilderRoot], received_at: Moment) -> Checked[SignedStatement]:
    try:
        bundle = parse_bundle(data)
    except MalformedBundle:
        if _is_of_another_kind(data):
            return Refusal(_UNTRUSTED, "a run's own certificate is expected; the bundle brings a foreign log entry, timestamps or a chain")
        raise
    return verify_builder_statement(bundle, roots, received_at=received_at)


def _is_of_another_kind(data: bytes) -> bool:
    try:
        bundle = parse_sigstore_bundle(data)
    except MalformedBundle:
        return False
    return bundle.entry is not None or bool(bundle.timestamps) or len(bundle.certificates) > 1


def _by_standing(
    bundle: UntrustedSigstoreBundle, envelope: UntrustedEnvelope, rule: StandingSigner, received_at: Moment
) -> StandingIdentity | Refusal:
    match rule.expected:
        case Keyless():
            return _by_keyless(bundle, rule.builder_id, rule.expected, received_at)
        case SvidAuthority():
            if not bundle.certificates:
                return Refusal(_UNTRUSTED, "an X.509-SVID is expected; the bundle is signed by a bare key")
            key = verify_svid(bundle.certificates, rule.expected, received_at=received_at)
            if isinstance(key, Refusal):
                return key
            said = StandingIdentity(rule.builder_id, digest_of(bundle.certificates[0]), rule.builder_id)
        case ManagedKey():
            if bundle.certificates:
                return Refusal(_UNTRUSTED, "a pinned key is expected; the bundle is signed under a certificate")
            key = rule.expected
            said = StandingIdentity(rule.builder_id, key.digest, rule.builder_id)
    if bundle.entry is not None or bundle.timestamps:
        return Refusal(_UNTRUSTED, "the bundle claims a foreign log entry or timestamp, which nobody answers for with a signer of this kind")
    if len(envelope.signatures) != 1 or not signs_bytes(key, envelope.signatures[0][1], pae(envelope.payload_type, envelope.payload)):
        return Refusal("bad-signature", "the envelope needs exactly one signature, by the expected key, over these bytes")
    return said


def _by_keyless(bundle: UntrustedSigstoreBundle, builder_id: str, expected: Keyless, received_at: Moment) -> StandingIdentity | Refusal:
    checked = verify_keyless_envelope(bundle, expected, at=received_at)
    if not isinstance(checked, Verified):
        return checked
    try:
        source = read_source(checked.value.certificate)
    except UnreadableCertificate as error:
        return Refusal(_UNTRUSTED, str(error))
    return StandingIdentity(
        builder_id,
        digest_of(bundle.certificates[0]),
        builder_id,
        repository=source.repository,
        commit=source.commit,
        run=source.run,
    )
