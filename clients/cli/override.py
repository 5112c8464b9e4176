"""`pingee override new` and `sign`: an order by which two people bring back a release at its target. No server, no vault, no log is asked."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from gatekeeper.model.digest import MalformedDigest, digest_of, parse_digest
from gatekeeper.model.moment import later, moment, render_moment
from gatekeeper.model.uris import OVERRIDE
from gatekeeper.verify.dsse import UntrustedEnvelope
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.override import OverrideOrder, encode_override_order, parse_override_order
from gatekeeper.verify.twopeople import MAX_LIFE_S, SIGNERS

from .exits import Exit, Failure
from .orders import add_signature, encode_order, read_order, write_order
from .output import print_json, print_pairs, say


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
        data = encode_order(UntrustedEnvelope(OVERRIDE, encode_override_order(order), ()))
    except (MalformedDigest, Malformed) as error:
        raise Failure(Exit.USAGE, str(error)) from None
    if arguments.out is None:
        print(data.decode(), end="")
    else:
        write_order(Path(arguments.out), data, fresh=True)
    say(f"two different people sign it before {render_moment(order.not_after)}: pingee override sign {arguments.out or 'ORDER'} --key FILE")
    return Exit.OK


def sign(arguments: Namespace) -> Exit:
    """Add one person's signature to an order, and show what is being signed."""
    path = Path(arguments.order)
    envelope, order = read_order(path, parse_override_order, "override order", "pingee override new")
    signed = add_signature(path, envelope, Path(arguments.key))
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
