"""The way every builder statement goes, from bundle bytes to a `Verified` fact, and what a statement must share with its signer.

The kind of statement (`manifest`, `provenance`, `testresult`) adds its predicate type and its reader. A reader raises `FieldError` for what is
malformed, and `Unbelievable` for a well-formed claim that is not believed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from gatekeeper.model.digest import Digest, digest_hex
from gatekeeper.model.facts import RunIdentity, SignerIdentity
from gatekeeper.model.fields import FieldError
from gatekeeper.model.moment import Moment
from gatekeeper.model.seal import seal
from gatekeeper.model.uris import STATEMENT_V01, STATEMENT_V1
from gatekeeper.model.verified import Checked, Refusal

from .errors import MalformedStatement
from .signers import SignerRule, verify_signed
from .statement import Only, Part, Statement, UnfitStatement, open_statement

T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """A statement whose signature holds, about one artifact. The predicate is still to be read."""

    statement: Statement
    artifact: Digest
    signer: SignerIdentity


class Unbelievable(Exception):
    """A claim that is refused with a reason code; becomes a `Refusal`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(reason, detail)


def verify_claim(
    data: bytes,
    rule: SignerRule,
    *,
    received_at: Moment,
    artifact: Digest | None,
    readers: dict[str, Callable[[Claim], T]],
) -> Checked[T]:
    """Verify bundle bytes and read the predicate with the reader of exactly its type.

    Raises `MalformedBundle` or `MalformedStatement`. `artifact` None: whichever single artifact the statement names.
    """
    signed = verify_signed(data, rule, received_at=received_at)
    if isinstance(signed, Refusal):
        return signed
    about = Only("sha256", None if artifact is None else digest_hex(artifact))
    try:
        statement = open_statement(
            signed.value.payload_type, signed.value.payload, predicates=tuple(readers), about=about, types=(STATEMENT_V1, STATEMENT_V01)
        )
        claim = Claim(statement, Digest("sha256:" + statement.subject), signed.value.signer)
        return seal(readers[statement.predicate_type](claim), signed.digest)
    except UnfitStatement as error:
        return Refusal("digest-mismatch" if error.part is Part.SUBJECT else "provenance-predicate", error.detail)
    except Unbelievable as error:
        return error.refusal
    except FieldError as error:
        raise MalformedStatement(f"predicate {error}") from error


def demand_signer(signer: SignerIdentity, *, builder_id: str, run: str) -> None:
    """The builder and run that the predicate names are those that signed; raises `Unbelievable`."""
    if builder_id != signer.builder_id:
        raise Unbelievable("unknown-builder", "the statement names another builder than its certificate")
    if signer.run not in (None, run):
        raise Unbelievable("provenance-commit", "the statement names another run than its certificate")


def refuse_legacy(claim: Claim) -> None:
    """Our own statements were never written in an older form, and no policy can name one for them; raises `Unbelievable`."""
    if claim.statement.legacy:
        raise Unbelievable("provenance-predicate", "the statement is in an older form: " + ", ".join(sorted(claim.statement.legacy)))


def with_source(signer: SignerIdentity, *, repository: str, commit: str, run: str, project: str | None = None) -> SignerIdentity:
    """The signer, with what its statement says of its source where its certificate says nothing; raises `Unbelievable` where that differs.

    A run's certificate says it all (but the repository, which the policy compares), so its identity stays as it is. Every reader whose predicate
    names a commit ends here: what it leaves out, nothing would bind to the token of a standing signer's run.
    """
    if signer.commit not in (None, commit):
        raise Unbelievable("provenance-commit", "the statement names another commit than its certificate")
    if isinstance(signer, RunIdentity):
        return signer
    if signer.repository not in (None, repository):
        raise Unbelievable("provenance-project", "the statement names another source repository than its certificate")
    return replace(signer, project=project, repository=repository, commit=commit, run=run)
