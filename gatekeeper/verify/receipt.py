"""The signed decision statement: believed when one of the given receipt keys signed exactly these bytes.

The receipt key (ECDSA P-256) lives in the vault; its public half is pinned wherever decisions are believed: the doorkeeper, replay, auditors.
That the decision is in the log, and for whom and until when it holds, is checked by whoever acts on it (`log-format.md` 3).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from gatekeeper.model.digest import digest_of
from gatekeeper.model.fields import FieldError
from gatekeeper.model.seal import seal
from gatekeeper.model.statement import DecisionStatement, parse_decision_statement
from gatekeeper.model.strictjson import MalformedJson
from gatekeeper.model.uris import IN_TOTO_PAYLOAD
from gatekeeper.model.verified import Checked, Refusal

from .dsse import parse_envelope
from .errors import MalformedKey, MalformedStatement
from .signature import signed_by

_PEM_END: Final = b"-----END PUBLIC KEY-----"


@dataclass(frozen=True)
class ReceiptKey:
    """A pinned public key of a gatekeeper instance's receipts."""

    public: ec.EllipticCurvePublicKey


def parse_receipt_key(pem: bytes | str) -> ReceiptKey:
    """Read a PEM public key; raises `MalformedKey` unless it is ECDSA on P-256."""
    try:
        key = load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedKey("a receipt key must be a PEM public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedKey("a receipt key must be ECDSA on P-256")
    return ReceiptKey(key)


def parse_receipt_keys(data: bytes) -> tuple[ReceiptKey, ...]:
    """One or more PEM public keys on P-256. Raises `ValueError`; an empty file is one, for without keys nothing can be believed."""
    blocks = data.split(_PEM_END)
    if len(blocks) < 2 or blocks[-1].strip():
        raise ValueError("receipt-keys: no PEM public key, or text after the last one")
    return tuple(parse_receipt_key(block.lstrip() + _PEM_END + b"\n") for block in blocks[:-1])


def parse_receipt_spki(text: str) -> ReceiptKey:
    """Read a key as it stands in a `key` entry: base64 of its SubjectPublicKeyInfo. Raises `MalformedKey`."""
    return parse_receipt_key(receipt_pem(text))


def receipt_spki(key: ReceiptKey) -> str:
    """A key as it stands in a `key` entry; one key has one such text."""
    return base64.b64encode(key.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode("ascii")


def receipt_pem(text: str) -> bytes:
    """The PEM of base64 SubjectPublicKeyInfo; whether it is a key is for `parse_receipt_key` to say."""
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n".encode()


def verify_decision_statement(envelope: bytes | Mapping[str, object], keys: Sequence[ReceiptKey]) -> Checked[DecisionStatement]:
    """Believe a decision statement, or say why not. No keys: nothing is believed.

    `Verified.digest` is the sha256 of the payload, which is what the log entry's ``statement`` names. Raises `MalformedEnvelope`, and
    `MalformedStatement` for signed bytes that are no decision statement of ours.
    """
    parsed = parse_envelope(envelope)
    if not any(signed_by(parsed, key.public) for key in keys):
        return Refusal("bad-signature", "the decision needs exactly one signature, by a pinned receipt key, over these bytes")
    if parsed.payload_type != IN_TOTO_PAYLOAD:
        return Refusal("provenance-predicate", f"the payload type must be {IN_TOTO_PAYLOAD}")
    try:
        statement = parse_decision_statement(parsed.payload)
    except (MalformedJson, FieldError, ValueError) as error:
        raise MalformedStatement(str(error)) from error
    return seal(statement, digest_of(parsed.payload))
