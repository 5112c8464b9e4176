"""Orders that two people sign, as files: read, signed once more, written; never overwritten by another."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gatekeeper.model.digest import digest_of
from gatekeeper.verify.dsse import UntrustedEnvelope, envelope_json, pae, parse_envelope
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.signature import signature_by
from gatekeeper.verify.twopeople import MAX_ORDER, SIGNERS

from .exits import Exit, Failure
from .review import load_key, raw_public

T = TypeVar("T")


def read_order(path: Path, parse: Callable[[UntrustedEnvelope], T], what: str, make: str) -> tuple[UntrustedEnvelope, T]:
    """The envelope and what `parse` reads from it. `what` an order it is and which command makes one stand in the error."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ORDER + 1)
    except OSError as error:
        raise Failure(Exit.USAGE, f"the order {path} cannot be read: {error.strerror}") from None
    try:
        if len(data) > MAX_ORDER:
            raise Failure(Exit.USAGE, f"{path} has more than {MAX_ORDER} bytes; an order has fewer")
        envelope = parse_envelope(data)
        order = parse(envelope)
    except Malformed as error:
        raise Failure(Exit.USAGE, f"{path} is no {what}: {error}; make one with: {make}") from None
    return envelope, order


def add_signature(path: Path, envelope: UntrustedEnvelope, key_file: Path) -> UntrustedEnvelope:
    """Sign with one person's key and write the order back."""
    key = load_key(key_file)
    message = pae(envelope.payload_type, envelope.payload)
    if len(envelope.signatures) >= SIGNERS:
        raise Failure(Exit.USAGE, f"{path} has {SIGNERS} signatures already; more are refused where it is used")
    if any(signature_by(signature, message, key.public_key()) for _, signature in envelope.signatures):
        raise Failure(Exit.USAGE, f"{path} is signed with this key already; a second person is needed")
    signed = UntrustedEnvelope(
        envelope.payload_type, envelope.payload, (*envelope.signatures, (digest_of(raw_public(key)), key.sign(message)))
    )
    write_order(path, encode_order(signed), fresh=False)
    return signed


def encode_order(envelope: UntrustedEnvelope) -> bytes:
    """The file's bytes."""
    document = envelope_json(envelope.payload_type, envelope.payload, envelope.signatures)
    data = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    if len(data) > MAX_ORDER:
        raise Failure(Exit.USAGE, f"the order would have more than {MAX_ORDER} bytes; say it in fewer words")
    return data


def write_order(path: Path, data: bytes, *, fresh: bool) -> None:
    """Write the whole file or nothing; a `fresh` one must not be there yet."""
    if fresh and path.exists():
        raise Failure(Exit.USAGE, f"{path} exists; an order is never overwritten")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
            file.write(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise Failure(Exit.USAGE, f"{path} cannot be written: {error.strerror}") from None
