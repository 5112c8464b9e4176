"""The way every builder statement goes, from bundle bytes to a `Verified` fact, and what a statement must share with its signer.

The kind of statement (`manifest`, `provenance`, `testresult`) adds its predicate type and its reader. A reader raises `FieldError` for what is
malformed, `UnfitSubject` for another subject, and `Unbelievable` for a well-formed claim that is not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gatekeeper.model.digest import Digest
from gatekeeper.model.facts import RunIdentity
from gatekeeper.model.fields import FieldError
from gatekeeper.model.moment import Moment
from gatekeeper.model.seal import seal
from gatekeeper.model.verified import Checked, Refusal

from .builder import BuilderRoot, verify_builder_statement
from .bundle import parse_bundle
from .errors import MalformedStatement
from .statement import UnfitSubject, UntrustedStatement, only_artifact, parse_statement

T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """A statement whose signature holds, about one artifact. The predicate is still to be read."""

    statement: UntrustedStatement
    artifact: Digest
    signer: RunIdentity


class Unbelievable(Exception):
    """A claim that is refused with a reason code; becomes a `Refusal`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(reason, detail)


def verify_claim(
    data: bytes,
    roots: Sequence[BuilderRoot],
    *,
    received_at: Moment,
    artifact: Digest | None,
    readers: dict[str, Callable[[Claim], T]],
) -> Checked[T]:
    """Verify bundle bytes and read the predicate with the reader of exactly its type.

    Raises `MalformedBundle` or `MalformedStatement`. `artifact` None: whichever single artifact the statement names.
    """
    bundle = parse_bundle(data)
    signed = verify_builder_statement(bundle, roots, received_at=received_at)
    if isinstance(signed, Refusal):
        return signed
    statement = parse_statement(signed.value.payload)
    reader = readers.get(statement.predicate_type)
    if reader is None:
        return Refusal("provenance-predicate", "the predicate type must be " + " or ".join(readers))
    try:
        subject = only_artifact(statement)
        if artifact is not None and subject != artifact:
            return Refusal("digest-mismatch", "the statement is about another artifact")
        return seal(reader(Claim(statement, subject, signed.value.signer)), bundle.digest)
    except UnfitSubject as error:
        return Refusal("digest-mismatch", error.detail)
    except Unbelievable as error:
        return error.refusal
    except FieldError as error:
        raise MalformedStatement(f"predicate {error}") from error


def demand_signer(signer: RunIdentity, *, builder_id: str, run: str) -> None:
    """The builder and run that the predicate names are those that signed; raises `Unbelievable`."""
    if builder_id != signer.builder_id:
        raise Unbelievable("unknown-builder", "the statement names another builder than its certificate")
    if run != signer.run:
        raise Unbelievable("provenance-commit", "the statement names another run than its certificate")


def demand_commit(signer: RunIdentity, commit: str) -> None:
    """The commit that the predicate names is the one the run was for; raises `Unbelievable`."""
    if commit != signer.commit:
        raise Unbelievable("provenance-commit", "the statement names another commit than its certificate")
