"""`pingee-doorkeeper`: the only program that an account guarded by it runs.

It is also that account's login shell: `pingee-doorkeeper -c "pingee-doorkeeper serve <64 hex>"` is what sshd makes of a certificate's forced
command, and every other command is exit 1. Exit codes: 0 applied and healthy, or status; 1 malformed request, unsafe or oversized archive,
unreadable file, or another apply under way; 3 refused; 5 stale `old`; 6 applied, unhealthy; 7 own state unreadable or not durable; 20 a bug.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn, assert_never

from gatekeeper.hidden import hide_memory
from gatekeeper.model.canonical import Json
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.moment import Moment, moment
from gatekeeper.model.receipt import receipt_id
from gatekeeper.model.verified import Refusal
from gatekeeper.verify.twopeople import MAX_ORDER

from .adopt import Adoption, NotAdopted, adopt
from .apply import Applied, Doorkeeper, Unsettled
from .checks import Behind
from .files import Busy, Place, Unreadable, exclusive, read_bounded
from .incoming import Incoming
from .install import NotInstalled, Order, check, install
from .override import Overridden, override
from .state import Outcome, load_memory
from .status import render_status
from .target import load_pinned

FORCED: Final = re.compile(r"pingee-doorkeeper (?:serve ([0-9a-f]{64})|status)")
"""the only commands that a certificate may carry; without a receipt it reads and no more"""
LOCK_S: Final = 5.0

OK, MALFORMED, REFUSED, STALE, STATE, BUG = 0, 1, 3, 5, 7, 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["-c"]:
        forced = FORCED.fullmatch(arguments[1]) if len(arguments) == 2 else None
        if forced is None:
            return _fail("only 'pingee-doorkeeper serve <64 hex>' and 'pingee-doorkeeper status' run here", MALFORMED)
        arguments = ["serve", forced[1]] if forced[1] else ["status"]
    try:
        hide_memory()
        return _run(_parser().parse_args(arguments))
    except Busy as error:
        return _fail(str(error), MALFORMED)
    except Unsettled as error:
        # Naming the receipt says that it may be spent: whoever sent it asks for the status.
        _say({"error": str(error)[:500], "receipt": error.receipt})
        return STATE
    except Unreadable as error:
        return _fail(str(error), STATE)
    except NotInstalled as error:
        return _fail(str(error), MALFORMED)
    except Exception:  # noqa: BLE001 -- the last line of defence: the caller learns a number, the host's own log the rest
        report = secrets.token_hex(4)
        traceback.print_exc(file=sys.stderr)
        return _fail(f"internal error, report {report}", BUG)


def _run(options: argparse.Namespace) -> int:
    place = Place.below(options.dir)
    match options.command:
        case "serve":
            word = os.environ.get("SSH_ORIGINAL_COMMAND", "")
            if word == "apply":
                return apply(place, sys.stdin.fileno(), Digest(f"sha256:{options.receipt}"))
            if word == "status":
                return status(place)
            return _fail("the request is one word: apply or status", MALFORMED)
        case "apply":
            return apply_file(place, options.file)
        case "status":
            return status(place)
        case "adopt":
            return _adopt(place, options)
        case "override":
            return override_file(place, options.order)
        case "install":
            return _install(place, options)
        case _:
            raise AssertionError(options.command)


def apply(place: Place, descriptor: int, named: Digest) -> int:
    """Take one frame from a descriptor; prints JSON lines, the last of which tells the outcome."""
    with exclusive(place, wait_s=LOCK_S):
        door = Doorkeeper.open(place, load_pinned(place), say=_say, now=_now)
        memory = door.recover(load_memory(place))
        try:
            answer = door.apply(Incoming(descriptor), named, memory)
        except ValueError as error:
            door.refuse(named, Refusal("malformed", str(error)))
            return _fail(str(error), MALFORMED)
        match answer:
            case Applied():
                _say(_outcome(answer))
                return answer.exit_code
            case Behind(size=size, origin=origin):
                _say({"stale": size} if origin is None else {"stale": size, "origin": origin})
                return STALE
            case Refusal():
                door.refuse(named, answer)
                _say({"refused": answer.reason, "detail": answer.detail})
                return REFUSED
            case _:
                assert_never(answer)


def apply_file(place: Place, file: Path) -> int:
    """The same frame from a file, for a host that nobody can reach. The receipt is named by the frame itself: whoever sits here may offer any."""
    try:
        with file.open("rb") as source:
            named = next((spec.sha256 for spec in Incoming(source.fileno()).header() if spec.name == "receipt"), receipt_id(b""))
        with file.open("rb") as source:
            return apply(place, source.fileno(), named)
    except OSError as error:
        return _fail(f"{file.name}: {error.strerror}", MALFORMED)
    except ValueError as error:
        return _fail(f"{file.name}: {error}", MALFORMED)


def override_file(place: Place, file: Path) -> int:
    """Carry out an override order; prints JSON lines, the last of which tells the outcome."""
    try:
        data = read_bounded(file, MAX_ORDER)
    except Unreadable as error:
        return _fail(str(error), MALFORMED)
    with exclusive(place, wait_s=LOCK_S):
        door = Doorkeeper.open(place, load_pinned(place), say=_say, now=_now)
        memory = door.recover(load_memory(place))
        try:
            answer = override(door, data, memory)
        except ValueError as error:
            return _fail(f"{file.name}: {error}", MALFORMED)
        match answer:
            case Overridden(spent=spent):
                healthy = spent.outcome is Outcome.HEALTHY
                told: dict[str, Json] = {"outcome": spent.outcome.value, "order": spent.order, "component": spent.component}
                told |= {"applied": spent.digest if healthy else None, "restored": answer.restored}
                _say({**told, "detail": spent.detail, "record": spent.record})
                return answer.exit_code
            case Refusal():
                said: dict[str, Json] = {"order_file": digest_of(data), "code": answer.reason, "detail": answer.detail}
                door.record.append(door.now(), "refused", said)
                _say({"refused": answer.reason, "detail": answer.detail})
                return REFUSED
            case _:
                assert_never(answer)


def status(place: Place) -> int:
    """Print what is remembered and what runs. An apply cut short is put right first, unless one is under way."""
    pinned = load_pinned(place)
    door = Doorkeeper.open(place, pinned, say=lambda _: None, now=_now)
    try:
        with exclusive(place, wait_s=0):
            _say(render_status(door, door.recover(load_memory(place))))
    except Busy:
        _say(render_status(door, load_memory(place)))
    return OK


def _outcome(answer: Applied) -> dict[str, Json]:
    memory = answer.memory
    restored = memory.healthy.artifact if memory.outcome is Outcome.ROLLED_BACK and memory.healthy is not None else None
    applied = memory.healthy.artifact if memory.outcome is Outcome.HEALTHY and memory.healthy is not None else None
    return {
        "outcome": memory.outcome.value,
        "receipt": memory.receipt,
        "applied": applied,
        "restored": restored,
        "detail": memory.detail,
        "cosignature": memory.cosignature,
        "size": memory.size,
    }


def _install(place: Place, options: argparse.Namespace) -> int:
    if options.check:
        print(check(place))
        return OK
    needed = ("target", "instance", "environment", "component", "log_policy", "receipt_keys")
    missing = [f"--{name.replace('_', '-')}" for name in needed if not getattr(options, name)]
    if missing:
        return _fail("install needs " + ", ".join(missing), MALFORMED)
    order = Order(
        target=options.target,
        instance=options.instance,
        environment=options.environment,
        components=tuple(options.component),
        log_policy=options.log_policy,
        receipt_keys=options.receipt_keys,
        checkpoint=options.checkpoint,
        override_keys=options.override_keys,
    )
    print(install(place, order))
    return OK


def _adopt(place: Place, options: argparse.Namespace) -> int:
    wanted = Adoption(
        component=options.component,
        directory=options.source,
        argv=tuple(options.argv),
        health=options.health,
        grace_s=options.grace,
        pid_file=options.pid_file,
        settings=options.settings,
    )
    with exclusive(place, wait_s=LOCK_S):
        door = Doorkeeper.open(place, load_pinned(place), say=_say, now=_now)
        try:
            release = adopt(door, wanted, door.recover(load_memory(place)))
        except NotAdopted as error:
            return _fail(str(error), MALFORMED)
    _say({"adopted": release.artifact, "component": options.component})
    return OK


def _say(members: dict[str, Json]) -> None:
    # A caller who has gone does not stop an apply: it learns the outcome by asking for the status.
    try:
        print(json.dumps(members, separators=(",", ":")), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(detail: str, code: int) -> int:
    _say({"error": detail[:500]})
    return code


def _now() -> Moment:
    return moment(datetime.now(UTC))


def _component(text: str) -> tuple[str, int]:
    name, _, port = text.partition("=")
    if not name or not port.isdecimal():
        raise argparse.ArgumentTypeError("must be NAME=PORT")
    return name, int(port)


def _grace(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 3600):
        raise argparse.ArgumentTypeError("must be 1 to 3600 seconds")
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(_fail(message, MALFORMED))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="pingee-doorkeeper", description="The check at the target: no proof, no deploy.", allow_abbrev=False)
    parser.add_argument("--dir", type=Path, help="keep all files below DIR instead of the system's directories")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    serve = commands.add_parser("serve", help="the forced command; SSH_ORIGINAL_COMMAND holds apply or status")
    serve.add_argument("receipt", type=_receipt)
    commands.add_parser("apply", help="a frame from a file").add_argument("file", type=Path)
    commands.add_parser("status", help="what is remembered and what runs")
    adopting = commands.add_parser("adopt", help="keep what runs here, put there by other means, as what can be brought back")
    adopting.add_argument("component")
    adopting.add_argument("--from", dest="source", type=Path, required=True, metavar="DIR", help="the directory that it runs from")
    adopting.add_argument("--health", required=True, metavar="PATH", help="answers 200 while it is well")
    adopting.add_argument("--grace", type=_grace, default=10, metavar="SECONDS")
    adopting.add_argument("--pid-file", type=Path, help="of the process that runs it; not for a component with a restart command")
    adopting.add_argument("--settings", type=Path, metavar="FILE", help="KEY=VALUE lines it is started with, where it is put back by itself")
    adopting.add_argument("argv", nargs="+", metavar="-- ARGV", help="how it is started from that directory; {port} is the component's port")
    overriding = commands.add_parser("override", help="gatekeeper, log or vault is away: bring back a release that two people ordered")
    overriding.add_argument("order", type=Path, help="made with: pingee override new, and signed by two with: pingee override sign")
    installing = commands.add_parser("install", help="write the files that nothing starts without")
    for name in ("target", "instance", "environment"):
        installing.add_argument(f"--{name}")
    installing.add_argument("--component", type=_component, action="append", metavar="NAME=PORT")
    for name in ("log-policy", "receipt-keys", "override-keys", "checkpoint"):
        installing.add_argument(f"--{name}", type=Path)
    installing.add_argument("--check", action="store_true", help="verify an installation instead")
    return parser


def _receipt(text: str) -> str:
    if re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise argparse.ArgumentTypeError("must be 64 hexadecimal digits")
    return text


if __name__ == "__main__":
    sys.exit(main())
