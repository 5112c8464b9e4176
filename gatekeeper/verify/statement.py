"""in-toto statement v1: the layer between an envelope and a predicate.

`https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md`. Parsed only after the signature over its bytes was checked, and still
with every strictness, because a good signer may be made to sign somebody else's text.

A `Statement` exists only because `open_statement` compared payload type, predicate type and subject with what its caller named: there is no
other way to make one, and no reader of predicates takes anything else. `parse_statement` is for looking at what nobody has verified.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from types import MappingProxyType
from typing import Final, NoReturn, TypeAlias, final

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.model.uris import IN_TOTO_PAYLOAD, PROVENANCE_V02, STATEMENT_V01, STATEMENT_V1

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

LEGACY: Final = frozenset({STATEMENT_V01, PROVENANCE_V02})
"""Forms that are read, and never count for a decision unless the policy names them."""

_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Subject:
    """What a statement is about. The name is information; only `digests` (algorithm to lowercase hex) identify."""

    name: str
    digests: Mapping[str, str]


@dataclass(frozen=True)
class UntrustedStatement:
    """A parsed statement of which nothing was compared with anything."""

    type: str
    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Fields


@final
class Statement:
    """A statement of a payload type, a predicate type and a subject that somebody asked for. Who signed it is for that somebody to know.

    `subject` is the hex digest that was asked for, or that the one subject turned out to have; `compared` says how, for a report. `predicate`
    is still to be read by whoever knows its type; its reader raises `FieldError`. `legacy` is those of its forms that are in `LEGACY`.
    """

    __slots__ = ("compared", "legacy", "predicate", "predicate_type", "subject")

    compared: str
    legacy: frozenset[str]
    predicate: Fields
    predicate_type: str
    subject: str

    def __init__(self) -> None:
        raise TypeError("only open_statement makes statements")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("statements do not change")


@unique
class Part(Enum):
    """What of a statement is not as it was asked for."""

    PAYLOAD_TYPE = "payload-type"
    PREDICATE = "predicate"
    SUBJECT = "subject"


@dataclass(frozen=True)
class UnfitStatement(Exception):
    """The statement is of another type, or about something else, than was asked for."""

    part: Part
    detail: str


@unique
class AnyPredicate(Enum):
    """Said instead of predicate types by a caller whose own caller asked for none; never by code of a decision."""

    ANY = "any"


@dataclass(frozen=True)
class Only:
    """The statement must be about one thing, named by this algorithm and no other; `value` None: whichever one thing it is.

    A second subject, or a second digest of the same one, would be a claim that nobody here compares with anything.
    """

    algorithm: str
    value: str | None

    def compare(self, subjects: tuple[Subject, ...]) -> tuple[str, str]:
        """The subject's hex digest, and how it was compared; raises `UnfitStatement`."""
        if len(subjects) != 1:
            raise UnfitStatement(Part.SUBJECT, f"the statement names {len(subjects)} subjects; it must name exactly one")
        digests = subjects[0].digests
        if set(digests) != {self.algorithm}:
            raise UnfitStatement(Part.SUBJECT, f"the subject must be named by its {self.algorithm} digest and no other")
        found = digests[self.algorithm]
        if self.value not in (found, None):
            raise UnfitStatement(Part.SUBJECT, "the statement is about another artifact")
        return found, f"by {self.algorithm}, the only one"


@dataclass(frozen=True)
class Among:
    """Some subject must have this sha256, and each of its other digests that is known here must be equal too (foreign builders name several)."""

    digests: Mapping[str, str]
    """hex digests by in-toto's names, sha256 among them"""

    def compare(self, subjects: tuple[Subject, ...]) -> tuple[str, str]:
        """The subject's sha256, and how it was compared; raises `UnfitStatement`."""
        known, sha256 = self.digests, self.digests["sha256"]
        named = [subject for subject in subjects if subject.digests.get("sha256") == sha256]
        if not named:
            raise UnfitStatement(Part.SUBJECT, "the statement is about other artifacts")
        if any(known[algorithm] != value for subject in named for algorithm, value in subject.digests.items() if algorithm in known):
            raise UnfitStatement(Part.SUBJECT, "the statement names the artifact by one digest and something else by another")
        unread = sorted({algorithm for subject in named for algorithm in subject.digests if algorithm not in known})
        compared = f"one of {len(subjects)}" if len(subjects) > 1 else "the only one"
        return sha256, f"by sha256, {compared}" + (f"; not compared: {', '.join(unread)}" if unread else "")


About: TypeAlias = Only | Among


def open_statement(
    payload_type: str, payload: bytes, *, predicates: Collection[str] | AnyPredicate, about: About, types: tuple[str, ...] = (STATEMENT_V1,)
) -> Statement:
    """Parse the bytes of an envelope whose signature holds; raises `UnfitStatement` or `MalformedStatement`."""
    if payload_type != IN_TOTO_PAYLOAD:
        raise UnfitStatement(Part.PAYLOAD_TYPE, f"the payload type must be {IN_TOTO_PAYLOAD}")
    parsed = parse_statement(payload, types=types)
    if not isinstance(predicates, AnyPredicate) and parsed.predicate_type not in predicates:
        raise UnfitStatement(Part.PREDICATE, "the predicate type must be " + " or ".join(predicates))
    subject, compared = about.compare(parsed.subjects)
    statement = Statement.__new__(Statement)
    members = {
        "compared": compared,
        "legacy": LEGACY & {parsed.type, parsed.predicate_type},
        "predicate": parsed.predicate,
        "predicate_type": parsed.predicate_type,
        "subject": subject,
    }
    for name, value in members.items():
        object.__setattr__(statement, name, value)
    return statement


def parse_statement(payload: bytes, *, types: tuple[str, ...] = (STATEMENT_V1,)) -> UntrustedStatement:
    """Parse; raises `MalformedStatement` for anything but a statement of one of the `types` with 1 to `MAX_SUBJECTS` subjects."""
    try:
        fields = Fields(parse_object(payload, max_bytes=MAX_STATEMENT))
        statement_type = fields.choice("_type", types)
        subjects = tuple(_read_subject(item) for item in fields.objects("subject", max_items=MAX_SUBJECTS))
        if not subjects:
            raise fields.error("subject", "names nothing")
        statement = UntrustedStatement(statement_type, subjects, fields.text("predicateType"), fields.nested("predicate"))
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
