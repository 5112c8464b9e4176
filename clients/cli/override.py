"""`pingee override new` and `sign`: an order by which two people bring back a release at its target. No server, no vault, no log is asked."""

from __future__ import annotations

import json
import os
import secrets
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from gatekeeper.model.digest import MalformedDigest, digest_of, parse_digest
from gatekeeper.model.moment import later, moment, render_moment
from gatekeeper.model.uris import OVERRIDE
from gatekeeper.verify.dsse import UntrustedEnvelope, envelope_json, pae, parse_envelope
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.override import MAX_LIFE_S, MAX_ORDER, SIGNERS, OverrideOrder, encode_override_order, parse_override_order
from gatekeeper.verify.signature import signature_by

from .exits import Exit, Failure
from .output import print_json, print_pairs, say
from .review import load_key, raw_public


def new(arguments: Namespace) -> Exit:
    """Write an order that nobody has signed yet."""
    life = int(arguments.life)
    if not 1 <= life <= MAX_LIFE_S:
        raise Failure(Exit.USAGE, f"--for must lie between 1s and {MAX_LIFE_S // 3600}h")
    try:
        order = OverrideOrder(
            target=arguments.target,
            digest=parse_digest(arguments.digest),
            reason=arguments.reason,
            incident=arguments.incident,
            not_after=later(moment(datetime.now(UTC)), seconds=life),
        )
        data = _encoded(UntrustedEnvelope(OVERRIDE, encode_override_order(order), ()))
    except (MalformedDigest, Malformed) as error:
        raise Failure(Exit.USAGE, str(error)) from None
    if arguments.out is None:
        print(data.decode(), end="")
    else:
        _write(Path(arguments.out), data, fresh=True)
    say(f"two different people sign it before {render_moment(order.not_after)}: pingee override sign {arguments.out or 'ORDER'} --key FILE")
    return Exit.OK


def sign(arguments: Namespace) -> Exit:
    """Add one person's signature to an order, and show what is being signed."""
    path = Path(arguments.order)
    envelope, order = _read(path)
    key = load_key(Path(arguments.key))
    message = pae(envelope.payload_type, envelope.payload)
    if len(envelope.signatures) >= SIGNERS:
        raise Failure(Exit.USAGE, f"{path} has {SIGNERS} signatures already; more are refused at the target")
    if any(signature_by(signature, message, key.public_key()) for _, signature in envelope.signatures):
        raise Failure(Exit.USAGE, f"{path} is signed with this key already; a second person is needed")
    signed = UntrustedEnvelope(
        envelope.payload_type, envelope.payload, (*envelope.signatures, (digest_of(raw_public(key)), key.sign(message)))
    )
    _write(path, _encoded(signed), fresh=False)
    told: dict[str, object] = {
        "order": digest_of(envelope.payload),
        "target": order.target,
        "digest": order.digest,
        "reason": order.reason,
        "incident": order.incident,
        "not_after": render_moment(order.not_after),
        "signatures": len(signed.signatures),
    }
    if arguments.output == "json":
        print_json(told)
    else:
        print_pairs(told)
    missing = SIGNERS - len(signed.signatures)
    say("one more person signs it" if missing else f"at the target: pingee-doorkeeper override {path.name}")
    if order.not_after <= datetime.now(UTC):
        say(f"warning: the order held until {render_moment(order.not_after)} and will be refused; make a new one with: pingee override new")
    return Exit.OK


def _read(path: Path) -> tuple[UntrustedEnvelope, OverrideOrder]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ORDER + 1)
    except OSError as error:
        raise Failure(Exit.USAGE, f"the order {path} cannot be read: {error.strerror}") from None
    try:
        if len(data) > MAX_ORDER:
            raise Failure(Exit.USAGE, f"{path} has more than {MAX_ORDER} bytes; an order has fewer")
        envelope = parse_envelope(data)
        order = parse_override_order(envelope)
    except Malformed as error:
        raise Failure(Exit.USAGE, f"{path} is no override order: {error}; make one with: pingee override new") from None
    return envelope, order


def _encoded(envelope: UntrustedEnvelope) -> bytes:
    document = envelope_json(envelope.payload_type, envelope.payload, envelope.signatures)
    data = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    if len(data) > MAX_ORDER:
        raise Failure(Exit.USAGE, f"the order would have more than {MAX_ORDER} bytes; say it in fewer words")
    return data


def _write(path: Path, data: bytes, *, fresh: bool) -> None:
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
