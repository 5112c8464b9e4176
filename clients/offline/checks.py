"""The checks that need files alone, no server and no clock: a proof with its entry, a receipt with its proof, a log's directory.

Each returns what it verified, or raises: `Refused` where it was looked at and the answer is no, `Unreadable` where a file is not there or is
not of its form.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gatekeeper.logcheck.directory import BadDirectory, LogDirectory
from gatekeeper.logcheck.ids import SpillingIds
from gatekeeper.model.fields import FieldError
from gatekeeper.model.receipt import MAX_RECEIPT, parse_receipt, receipt_id
from gatekeeper.model.statement import DecisionStatement
from gatekeeper.model.strictjson import MalformedJson
from gatekeeper.model.verified import Refusal
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.fsck import FsckReport, fsck
from gatekeeper.tlog.logpolicy import MAX_POLICY, LogPolicy, open_cosigned, parse_log_policy
from gatekeeper.tlog.note import MAX_NOTE
from gatekeeper.tlog.proof import MAX_PROOF, parse_proof, verify_proof
from gatekeeper.tlog.tile import MAX_ENTRY
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.inclusion import check_inclusion
from gatekeeper.verify.receipt import ReceiptKey, parse_receipt_keys, verify_decision_statement


class Refused(Exception):
    """Looked at, and the answer is no: one sentence."""


class Unreadable(Exception):
    """A file that is not there, or not of its form: one sentence."""


@dataclass(frozen=True)
class ProvenEntry:
    """An entry that is in the log. `kind` is the name of what was read."""

    index: int
    size: int
    origin: str
    kind: str


@dataclass(frozen=True)
class ProvenReceipt:
    """A decision that was signed, and is in the log."""

    receipt: str
    statement: DecisionStatement
    index: int
    size: int
    origin: str


def read_file(path: Path, most: int) -> bytes:
    """A whole file of at most so many bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise Unreadable(f"{path} has more than {most} bytes")
    return data


def read_policy(path: Path) -> LogPolicy:
    """A log policy file."""
    try:
        return parse_log_policy(read_file(path, MAX_POLICY))
    except TlogError as error:
        raise Unreadable(f"{path}: {error}") from None


def prove_entry(proof: Path, entry: Path, policy: LogPolicy) -> ProvenEntry:
    """Check that these bytes are in the policy's log: signature, quorum, inclusion; then that they are an entry."""
    data, body = read_file(proof, MAX_PROOF), read_file(entry, MAX_ENTRY)
    try:
        verified = verify_proof(parse_proof(data), body, policy)
    except TlogError as error:
        raise Refused(f"NOT verified: {error}") from None
    try:
        kind = type(parse_entry(body)).__name__
    except TlogError as error:
        raise Refused(f"entry {verified.index} is in the log and is no entry of this format: {error}") from None
    return ProvenEntry(verified.index, verified.checkpoint.size, policy.log.name, kind)


def prove_receipt(receipt: Path, proof: Path, policy: LogPolicy, receipt_keys: Path) -> ProvenReceipt:
    """Check that a pinned key signed the decision, that the entry is that decision's, and that it is in the policy's log."""
    keys = _receipt_keys(receipt_keys)
    data, proof_data = read_file(receipt, MAX_RECEIPT), read_file(proof, MAX_PROOF)
    try:
        parsed = parse_receipt(data)
        statement = verify_decision_statement(parsed.statement, keys)
    except (MalformedJson, FieldError, Malformed) as error:
        raise Unreadable(f"{receipt} is no receipt: {error}") from None
    if isinstance(statement, Refusal):
        raise Refused(f"NOT verified ({statement.reason}): {statement.detail}")
    inclusion = check_inclusion(parsed, proof_data, statement, policy)
    if isinstance(inclusion, Refusal):
        raise Refused(f"NOT verified ({inclusion.reason}): {inclusion.detail}")
    return ProvenReceipt(receipt_id(data), statement.value, inclusion.index, inclusion.checkpoint.size, inclusion.checkpoint.origin)


def check_directory(directory: Path, policy: LogPolicy, since: Path | None) -> FsckReport:
    """Rehash every entry and tile of a log in a directory."""
    try:
        with LogDirectory(directory) as log:
            note = log.checkpoint()
            if note is None:
                raise Unreadable(f"{directory} has no checkpoint")
            older = None if since is None else _opened(read_file(since, MAX_NOTE), policy)
            with SpillingIds() as ids:
                return fsck(_opened(note, policy), log.fetch, older=older, ids=ids)
    except OSError as error:
        raise Unreadable(f"{error.filename or directory}: {error.strerror}") from None
    except BadDirectory as error:
        raise Unreadable(str(error)) from None


def _opened(note: bytes, policy: LogPolicy) -> VerifiedCheckpoint:
    try:
        return open_cosigned(note, policy)
    except TlogError as error:
        raise Refused(f"the checkpoint does not verify: {error}") from None


def _receipt_keys(path: Path) -> tuple[ReceiptKey, ...]:
    try:
        return parse_receipt_keys(read_file(path, MAX_POLICY))
    except ValueError as error:
        raise Unreadable(f"{path}: {error}") from None
