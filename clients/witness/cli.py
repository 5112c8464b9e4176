"""`pingee-witness`: make a witness, tell it which logs it watches over, run it, look at it.

Exit codes: 0 ok; 1 usage, or a file that cannot be used; 3 `status` where a log was stopped; 20 a bug.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import signal
import sqlite3
import ssl
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import trio

from gatekeeper.hidden import hide_memory
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.note import ED25519, VerifierKey, encode_vkey, parse_vkey

from .keys import Home, Unusable, load_key, make_home
from .protocol import Witness
from .serving import WitnessServer, tls_context
from .store import Cosigned, Store

OK, USAGE, STOPPED, BUG = 0, 1, 3, 20
LOOPBACK: Final = ("127.0.0.1", "::1")
MAX_ARGUMENT: Final = 4096

_EPILOG: Final = """\
  pingee-witness init DIR --name witness.example/team-b      makes the key, prints what others pin
  pingee-witness add-log DIR VKEY                            a log's verifier key, or a file that holds it; may be run while it serves
  pingee-witness serve DIR --listen HOST:PORT --certificate CHAIN.pem --key KEY.pem
  pingee-witness status DIR                                  what it saw of each log; ends with 3 where one was stopped

A line `witness NAME VKEY https://HOST:PORT` of a log policy file names it. exit codes: 0 ok · 1 usage or local · 3 a log was stopped · 20 a bug"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    asked = _parser().parse_args(arguments)
    try:
        hide_memory()
        code: int = asked.run(asked)
    except Unusable as error:
        return _failed(str(error), USAGE)
    except (OSError, sqlite3.Error) as error:
        return _failed(f"{getattr(error, 'filename', None) or asked.directory}: {getattr(error, 'strerror', None) or error}", USAGE)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001 -- every end of the command is one sentence and a code
        traceback.print_exc()
        return _failed(f"internal error {secrets.token_hex(4)}", BUG)
    return code


def _init(asked: argparse.Namespace) -> int:
    home, keys = Home(asked.directory), [_log_key(text) for text in asked.log]
    print(make_home(home, asked.name))
    store = Store(home.store)
    try:
        for key in keys:
            store.trust(key)
    finally:
        store.close()
    return OK


def _add_log(asked: argparse.Namespace) -> int:
    key = _log_key(asked.vkey)
    store = _store(asked.directory)
    try:
        print(f"{'added' if store.trust(key) else 'known already'}: {encode_vkey(key)}")
    finally:
        store.close()
    return OK


def _status(asked: argparse.Namespace) -> int:
    store, code = _store(asked.directory), OK
    try:
        for origin in store.origins():
            known = store.known(origin)
            newest, stop = known.newest, known.stop
            print(f"{origin}: {'nothing cosigned yet' if newest is None else _seen(newest)}")
            if stop is not None:
                code = STOPPED
                print(f"STOPPED at {_utc(stop.at)}: {stop.why}\n{_shown('remembered', stop.remembered)}{_shown('shown', stop.shown)}", end="")
    finally:
        store.close()
    return code


def _serve(asked: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    host, _, port = asked.listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise Unusable(f"--listen {asked.listen!r} is not HOST:PORT")
    if asked.plain:
        if host not in LOOPBACK:
            raise Unusable("--plain is for a TLS proxy on this machine: it listens on a loopback address only")
        tls = None
    elif asked.certificate is None or asked.key is None:
        raise Unusable("--certificate and --key are needed, or --plain behind a TLS proxy on this machine")
    else:
        tls = tls_context(asked.certificate, asked.key)
    key, store = load_key(Home(asked.directory)), _store(asked.directory)
    try:
        trio.run(_served, WitnessServer(Witness(store, key, lambda: int(time.time()))), host, int(port), tls)
    finally:
        store.close()
    return OK


async def _served(server: WitnessServer, host: str, port: int, tls: ssl.SSLContext | None) -> None:
    listeners = await trio.open_tcp_listeners(port, host=host)
    bound = listeners[0].socket.getsockname()[1]
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listeners, tls)
            print(f"serving {'http' if tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{bound}", flush=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()


def _store(directory: Path) -> Store:
    home = Home(directory)
    if not home.key.is_file():
        raise Unusable(f"{directory} holds no witness; make one with: pingee-witness init {directory} --name NAME")
    return Store(home.store)


def _log_key(argument: str) -> VerifierKey:
    try:
        file = Path(argument)
        text = argument if "+" in argument else file.read_text("utf-8")[:MAX_ARGUMENT].strip()
        key = parse_vkey(text)
    except TlogError as error:
        raise Unusable(f"{argument}: {error}") from None
    except UnicodeDecodeError:
        raise Unusable(f"{argument}: not UTF-8") from None
    if key.type != ED25519:
        raise Unusable(f"{argument}: the key of a witness, not of a log")
    return key


def _seen(newest: Cosigned) -> str:
    return f"size {newest.checkpoint.size} root {newest.checkpoint.root.hex()} at {_utc(newest.at)}"


def _shown(name: str, note: bytes | None) -> str:
    text = "(not there)\n" if note is None else note.decode("utf-8", "replace")
    return f"--- {name}\n{text}"


def _utc(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _failed(sentence: str, code: int) -> int:
    print(f"pingee-witness: {sentence}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise SystemExit(_failed(message, USAGE))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pingee-witness",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    init = commands.add_parser("init", help="make a witness: a directory with a key of its own")
    init.add_argument("--name", required=True, help="its name in notes, such as witness.example/team-b: no space, no '+'")
    init.add_argument("--log", metavar="VKEY", action="append", default=[], help="as add-log does; may be given again")
    init.set_defaults(run=_init)
    add = commands.add_parser("add-log", help="witness a log, or believe a further key of it")
    add.set_defaults(run=_add_log)
    serve = commands.add_parser("serve", help="answer until SIGTERM")
    serve.add_argument("--listen", required=True, metavar="HOST:PORT", help="port 0: any, and the first line on standard output says which")
    serve.add_argument("--certificate", type=Path, metavar="FILE", help="PEM chain")
    serve.add_argument("--key", type=Path, metavar="FILE", help="its PEM key")
    serve.add_argument("--plain", action="store_true", help="no TLS: for a proxy on this machine")
    serve.set_defaults(run=_serve)
    status = commands.add_parser("status", help="what it saw of each log")
    status.set_defaults(run=_status)
    for command in (init, add, serve, status):
        command.add_argument("directory", type=Path, metavar="DIR")
    add.add_argument("vkey", metavar="VKEY", help="the log's verifier key, or a file that holds it")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
