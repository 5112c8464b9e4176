"""The trusted root of a sigstore instance, pinned as a file, and which of its authorities hold at given times.

``application/vnd.dev.sigstore.trustedroot+json;version=0.1`` (`sigstore_trustroot.proto` of protobuf-specs). The root itself is never fetched
and never refreshed here: whoever pins the file answers for it.

The library looks at no ``validFor`` of a log, of a CT log or of a certificate authority, and takes the end of a timestamp authority's as
exclusive, where `TimeRange` is closed. So authorities are chosen here, both ends included, before the library sees any.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .errors import MalformedKey
from .window import Window, read_window

MAX_ROOT: Final = 1024 * 1024
MEDIA_TYPE: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
_MAX_AUTHORITIES: Final = 64


@dataclass(frozen=True, eq=False)
class Authority:
    """One log, CT log, certificate or timestamp authority: when it is trusted, and its members as the file has them."""

    members: object
    """a JSON object"""
    window: Window


@dataclass(frozen=True, eq=False)
class SigstoreRoot:
    """A pinned trusted root; `digest` is the sha256 of the file's bytes."""

    logs: tuple[Authority, ...]
    ct_logs: tuple[Authority, ...]
    certificate_authorities: tuple[Authority, ...]
    timestamp_authorities: tuple[Authority, ...]
    digest: Digest


def parse_sigstore_root(data: bytes) -> SigstoreRoot:
    """Parse strictly; raises `MalformedKey`. An authority without a start of its validity is an error and never "since always"."""
    try:
        fields = Fields(parse_object(data, max_bytes=MAX_ROOT))
        fields.choice("mediaType", (MEDIA_TYPE,))
        root = SigstoreRoot(
            logs=_read_all(fields, "tlogs", key="publicKey"),
            ct_logs=_read_all(fields, "ctlogs", key="publicKey"),
            certificate_authorities=_read_all(fields, "certificateAuthorities"),
            timestamp_authorities=_read_all(fields, "timestampAuthorities"),
            digest=digest_of(data),
        )
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedKey(f"trusted root: {error}") from error
    return root


def holding(authorities: tuple[Authority, ...], times: Iterable[datetime]) -> tuple[int, ...]:
    """The places of those whose validity holds every one of the times. No times: none, since nothing was shown."""
    moments = tuple(times)
    return tuple(place for place, authority in enumerate(authorities) if moments and all(authority.window.holds(moment) for moment in moments))


def _read_all(fields: Fields, name: str, *, key: str | None = None) -> tuple[Authority, ...]:
    authorities: list[Authority] = []
    for place, members in enumerate(fields.optional(name, lambda key: fields.array(key, max_items=_MAX_AUTHORITIES)) or ()):
        item = Fields(members, f"{fields.at(name)}/{place}")
        within = item if key is None else item.nested(key)
        authorities.append(Authority(members, read_window(within.nested("validFor"))))
    return tuple(authorities)
