"""Forms that signatures had before the bundle, for people who verify what others made: a bare envelope, and cosign's simple signing.

A bare DSSE envelope is also what cosign stores as the layer of an ``.att`` image (``application/vnd.dsse.envelope.v1+json``). Simple signing is
the layer of a ``.sig`` image: a JSON document that names a manifest's digest, signed as bytes, with the signature in the layer's annotation
``dev.cosignproject.cosign/signature`` (`https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md`). Neither carries a certificate
that is read here, so both are verified with a key. Neither counts for a decision: the gatekeeper reads bundles (`gatekeeper.verify.signers`).
"""

from __future__ import annotations

from typing import Final

from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .bundle import MAX_BUNDLE
from .dsse import parse_envelope
from .errors import MalformedBundle, MalformedEnvelope
from .sigstorebundle import UntrustedSigstoreBundle, parse_sigstore_bundle

_SIMPLE_SIGNING: Final = ("cosign container image signature", "atomic container signature")


def parse_any_form(data: bytes) -> UntrustedSigstoreBundle:
    """A sigstore bundle, or a bare envelope as a bundle without any key material. Raises `MalformedBundle`, for what is neither."""
    try:
        return parse_sigstore_bundle(data)
    except MalformedBundle as error:
        try:
            members = parse_object(data, max_bytes=MAX_BUNDLE)
            envelope = parse_envelope(members)
        except (MalformedJson, MalformedEnvelope):
            raise error from None
        return UntrustedSigstoreBundle((), None, envelope, None, (), data, members, digest_of(data))


def read_simple_signing(payload: bytes) -> Digest:
    """The digest that a simple signing document names; raises `MalformedBundle`. Its reference and optional part are signed and not compared."""
    try:
        fields = Fields(parse_object(payload, max_bytes=MAX_BUNDLE))
        critical = fields.nested("critical")
        critical.choice("type", _SIMPLE_SIGNING)
        image, identity = critical.nested("image"), critical.nested("identity")
        critical.done()
        digest = image.digest("docker-manifest-digest")
        image.done()
        identity.text("docker-reference", max_length=1024, min_length=0)
        identity.done()
        fields.optional("optional", fields.nested)
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedBundle(f"simple signing: {error}") from error
    return digest
