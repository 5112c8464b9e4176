"""`pingee log order new` and `sign`: what two people order about a log. No server, no vault, no log is asked."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import later, moment, render_moment
from gatekeeper.model.uris import LOG_ORDER
from gatekeeper.tlog.origins import next_origin
from gatekeeper.verify.dsse import UntrustedEnvelope
from gatekeeper.verify.errors import Malformed
from gatekeeper.verify.order import LogOrder, OrderAction, encode_log_order, parse_log_order
from gatekeeper.verify.twopeople import MAX_LIFE_S, SIGNERS

from .exits import Exit, Failure
from .orders import add_signature, encode_order, read_order, write_order
from .output import print_json, print_pairs, say

_SIGN = "pingee log order sign"


def new(arguments: Namespace) -> Exit:
    """Write an order that nobody has signed yet."""
    life = int(arguments.life)
    if not 1 <= life <= MAX_LIFE_S:
        raise Failure(Exit.USAGE, f"--for must lie between 1s and {MAX_LIFE_S // 3600}h")
    try:
        order = LogOrder(
            action=OrderAction(arguments.action),
            instance=arguments.instance,
            origin=arguments.origin,
            parameters=_parameters(arguments),
            reason=arguments.reason,
            not_after=later(moment(datetime.now(UTC)), seconds=life),
        )
        data = encode_order(UntrustedEnvelope(LOG_ORDER, encode_log_order(order), ()))
    except Malformed as error:
        raise Failure(Exit.USAGE, str(error)) from None
    if arguments.out is None:
        print(data.decode(), end="")
    else:
        write_order(Path(arguments.out), data, fresh=True)
    say(f"two different people sign it before {render_moment(order.not_after)}: {_SIGN} {arguments.out or 'ORDER'} --key FILE")
    return Exit.OK


def sign(arguments: Namespace) -> Exit:
    """Add one person's signature to an order, and show what is being signed."""
    path = Path(arguments.order)
    envelope, order = read_order(path, parse_log_order, "order about a log", "pingee log order new")
    signed = add_signature(path, envelope, Path(arguments.key))
    told: dict[str, object] = {
        "order": digest_of(envelope.payload),
        "action": order.action.value,
        "instance": order.instance,
        "origin": order.origin,
        **order.parameters,
        "reason": order.reason,
        "not_after": render_moment(order.not_after),
        "signatures": len(signed.signatures),
    }
    if arguments.output == "json":
        print_json(told)
    else:
        print_pairs(told)
    missing = SIGNERS - len(signed.signatures)
    say("one more person signs it" if missing else f"to be given to pingee-gatekeeper, where it is to be done, as --order {path.name}")
    if order.not_after <= datetime.now(UTC):
        say(f"warning: the order held until {render_moment(order.not_after)} and will be refused; make a new one with: pingee log order new")
    return Exit.OK


def _parameters(arguments: Namespace) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in arguments.parameter:
        name, equals, value = text.partition("=")
        if not equals or not name or name in found:
            raise Failure(Exit.USAGE, f"{text!r} is not NAME=VALUE, or NAME is given twice")
        found[name] = value
    if arguments.action == OrderAction.REOPEN and "next" not in found and (following := next_origin(arguments.origin)):
        found["next"] = following
    return found
