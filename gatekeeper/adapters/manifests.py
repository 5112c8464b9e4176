"""The few fields of a foreign OCI manifest that a store needs to know in order to list it.

Makers of manifests write floats and fields of their own at will, so this is lenient; what is deployed is read strictly, elsewhere.
"""

from __future__ import annotations

import json
from typing import Any, Final

from gatekeeper.model.digest import Digest, MalformedDigest, parse_digest
from gatekeeper.ports.artifacts import BlobDiffers

MAX_MANIFEST: Final = 4 * 1024 * 1024
"""Bytes; the limit that the OCI distribution specification 1.1 asks registries to allow."""


def subject_of(manifest: bytes) -> object:
    """The digest that the manifest's `subject` names, or None."""
    subject = _object(manifest).get("subject")
    return subject.get("digest") if isinstance(subject, dict) else None


def demand_as_listed(manifest: bytes, *, media_type: str, subject: Digest | None) -> None:
    """Raises `BlobDiffers` where the manifest calls itself something else than `media_type`, or names another subject (where one is given)."""
    named = _object(manifest).get("mediaType")
    if named is not None and named != media_type:
        raise BlobDiffers("digest-mismatch", "the manifest names another media type than the one it is listed with")
    if subject is not None and subject_of(manifest) != subject:
        raise BlobDiffers("digest-mismatch", "the manifest does not name that subject")


def descriptors_of(index: bytes) -> list[dict[str, Any]]:
    """The descriptors of an index, with whatever else their makers put into them; what has no SHA-256 digest cannot be named here and is left out."""
    manifests = _object(index).get("manifests")
    return [item for item in manifests if isinstance(item, dict) and _named(item)] if isinstance(manifests, list) else []


def _named(descriptor: dict[str, Any]) -> bool:
    try:
        parse_digest(descriptor.get("digest"))
    except MalformedDigest:
        return False
    return True


def _object(data: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
