"""in-toto statement v1: the layer between an envelope and a predicate.

`https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md`. Parsed only after the signature over its bytes was checked, and still
with every strictness, because a good signer may be made to sign somebody else's text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.model.uris import STATEMENT_V1

from .errors import MalformedStatement

MAX_STATEMENT = 512 * 1024
MAX_SUBJECTS = 1000

_HEX_DIGITS: Final = MappingProxyType(
    {
        "md5": (32,),
        "sha1": (40,),
        "sha224": (56,),
        "sha256": (64,),
        "sha384": (96,),
        "sha512": (128,),
        "sha512_224": (56,),
        "sha512_256": (64,),
        "sha3_224": (56,),
        "sha3_256": (64,),
        "sha3_384": (96,),
        "sha3_512": (128,),
        "gitCommit": (40, 64),
        "gitTree": (40, 64),
        "gitBlob": (40, 64),
        "gitTag": (40, 64),
    }
)
"""Known algorithms (in-toto `digest_set.md`) and how many lowercase hexadecimal digits a value has."""

_IDENTIFYING: Final = frozenset({"sha256", "gitCommit"})
"""A subject must have one of these: the artifact's digest, or the revision of a vote. SHA-1 or MD5 alone identify nothing."""

_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Subject:
    """What a statement is about. The name is information; only `digests` (algorithm to lowercase hex) identify."""

    name: str
    digests: Mapping[str, str]


@dataclass(frozen=True)
class UntrustedStatement:
    """A parsed statement. `predicate` is still to be read by whoever knows its type; its reader raises `FieldError`."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Fields


@dataclass(frozen=True)
class UnfitSubject(Exception):
    """The statement is not about exactly the one thing that it must be about."""

    detail: str


def parse_statement(payload: bytes, *, types: tuple[str, ...] = (STATEMENT_V1,)) -> UntrustedStatement:
    """Parse; raises `MalformedStatement` for anything but a statement of one of the `types` with 1 to `MAX_SUBJECTS` subjects."""
    try:
        fields = Fields(parse_object(payload, max_bytes=MAX_STATEMENT))
        fields.choice("_type", types)
        subjects = tuple(_read_subject(item) for item in fields.objects("subject", max_items=MAX_SUBJECTS))
        if not subjects:
            raise fields.error("subject", "names nothing")
        statement = UntrustedStatement(subjects, fields.text("predicateType"), fields.nested("predicate"))
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedStatement(str(error)) from error
    return statement


def encode_statement(*, name: str, digest: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Json]) -> bytes:
    """The RFC 8785 bytes of a statement about one subject; `digest` is algorithm to lowercase hex."""
    return encode_canonical(
        {
            "_type": STATEMENT_V1,
            "subject": [{"name": name, "digest": dict(digest)}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )


def only_subject(statement: UntrustedStatement, algorithm: str) -> str:
    """The hex digest of the one subject, named by `algorithm` and nothing else; raises `UnfitSubject`.

    A second subject, or a second digest of the same one, would be a claim that nobody here compares with anything.
    """
    if len(statement.subjects) != 1:
        raise UnfitSubject(f"the statement names {len(statement.subjects)} subjects; it must name exactly one")
    digests = statement.subjects[0].digests
    if set(digests) != {algorithm}:
        raise UnfitSubject(f"the subject must be named by its {algorithm} digest and no other")
    return digests[algorithm]


def only_artifact(statement: UntrustedStatement) -> Digest:
    """The artifact that is the one subject; raises `UnfitSubject`."""
    return Digest("sha256:" + only_subject(statement, "sha256"))


def read_digest_set(fields: Fields) -> Mapping[str, str]:
    """A DigestSet: every algorithm known, every value lowercase hex of its length; raises `FieldError`."""
    digests: dict[str, str] = {}
    for algorithm in fields.names():
        lengths = _HEX_DIGITS.get(algorithm)
        if lengths is None:
            raise fields.error(algorithm[:64], "is no digest algorithm known here")
        value = fields.text(algorithm, max_length=128)
        if len(value) not in lengths or _HEX.fullmatch(value) is None:
            raise fields.error(algorithm, f"must be {' or '.join(map(str, lengths))} lowercase hexadecimal digits")
        digests[algorithm] = value
    return MappingProxyType(digests)


def read_sha256(fields: Fields) -> Digest:
    """A DigestSet that holds sha256 and nothing else; raises `FieldError`."""
    digests = read_digest_set(fields)
    if set(digests) != {"sha256"}:
        raise FieldError(fields.pointer, "must hold a sha256 digest and no other")
    return Digest("sha256:" + digests["sha256"])


def _read_subject(fields: Fields) -> Subject:
    name = fields.optional("name", fields.text) or ""
    digests = read_digest_set(fields.nested("digest"))
    fields.done()
    if not _IDENTIFYING & set(digests):
        raise fields.error("digest", "must hold sha256 (or gitCommit, for a revision)")
    return Subject(name, digests)
