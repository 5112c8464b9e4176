"""`pingee-gatekeeper`: parse, call one function, end with an exit code that scripts can rely on and one sentence that a person can."""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import trio

from gatekeeper import config_report, layout_file, logins
from gatekeeper import settings as settings_file
from gatekeeper.adapters.git import open_git
from gatekeeper.adapters.git_policy import open_policy_source
from gatekeeper.adapters.vault import VaultAddress
from gatekeeper.api.listen import CannotListen
from gatekeeper.bootstrap import BootstrapRefused
from gatekeeper.config_report import Config
from gatekeeper.deploy.rotate import RotationRefused
from gatekeeper.exits import Exit, Failure
from gatekeeper.hidden import hide_memory
from gatekeeper.layout_file import BadLayout
from gatekeeper.log_export import Exported, export_log
from gatekeeper.logcheck import report as log_report
from gatekeeper.logcheck.progress import Progress, open_progress
from gatekeeper.new_instance import NewInstance, parse_target, write_instance
from gatekeeper.policy.document import Policy
from gatekeeper.policy.load import PolicyError
from gatekeeper.ports.errors import Denied, PortError
from gatekeeper.ports.log import LogRefused
from gatekeeper.postgres.log_check import check_rows
from gatekeeper.postgres.log_rows import open_log_rows
from gatekeeper.postgres.migrate import migrate
from gatekeeper.reopen import believed, run_reopen
from gatekeeper.rotation import log_keys
from gatekeeper.serve import VERSION, LoginLost, last_loaded, policy_origin, serve
from gatekeeper.settings import BadSettings, Settings, credential, parse_wrapped, read_private, read_settings
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint, open_checkpoint
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.note import encode_vkey, parse_vkey
from gatekeeper.tlog.signature import VerifierKey
from gatekeeper.vault_setup import Setup, set_up
from gatekeeper.verify.twopeople import MAX_ORDER

MAX_NOTE: Final = 64 * 1024
MAX_SECRETS: Final = 8192

_FIRST: Final = """\
begin here:
  pingee-gatekeeper init DIR                      write the files of a production instance, each setting explained
  pingee-gatekeeper check-config --config FILE    what is wrong, and who holds which role; starts nothing
  pingee-gatekeeper serve --config FILE           run one replica; its unit is among what init wrote

"""
_EPILOG: Final = (
    "exit codes: 0 ok · 1 usage or local · 2 database, vault, repository · 3 refused, or not as signed\n"
    "            4 a secret is missing or refused · 20 a bug"
)


class _Parser(argparse.ArgumentParser):
    """argparse ends with 2, which means "remote" here; a usage error is 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": _EPILOG, **options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        _say(f"{self.prog}: {message}; see {self.prog} --help")
        raise SystemExit(int(Exit.USAGE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    asked = _parser().parse_args(arguments)
    try:
        hide_memory()
        code: Exit = asked.run(asked)
        sys.stdout.flush()
        return int(code)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 -- every end of the command is one sentence and a code
        first = _first(error)
        code, sentence = _ending(first)
        if code is Exit.INTERNAL:
            sentence = f"internal error {secrets.token_hex(4)}: {type(first).__name__}; run again with -v and report what it prints"
            # A replica that fell is not run again by a person to see why.
            if asked.verbose or asked.run is _serve:
                traceback.print_exception(error)
        _say(f"pingee-gatekeeper: {sentence}")
        return int(code)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _ending(error: BaseException) -> tuple[Exit, str]:
    match error:
        case Failure():
            return error.exit_code, str(error)
        case BadSettings() | BadLayout() | CannotListen():
            return Exit.USAGE, str(error)
        case PolicyError():
            return Exit.DENIED, f"the policy is refused ({error.code}): {error}"
        case RotationRefused():
            return Exit.DENIED, str(error)
        case LogRefused():
            return Exit.DENIED, f"{error}; nothing was signed. After a restored backup: pingee-gatekeeper log reopen --help"
        case LoginLost() | BootstrapRefused():
            return Exit.REMOTE, str(error)
        case Denied():
            return Exit.LOGIN, str(error)
        case PortError():
            return Exit.REMOTE, str(error)
        case OSError():
            return Exit.USAGE, f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}"
        case _:
            return Exit.INTERNAL, ""


class _PlainLines(logging.Formatter):
    """Log lines that move no cursor: what is no letter, mark, number, sign or space is escaped, and a further line never looks like a first."""

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = super().format(record).split("\n")
        return "\n\t".join(_visible(line) for line in (first, *rest))


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode("ascii") for c in text)


def _serve(asked: argparse.Namespace) -> Exit:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainLines("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it tells every connection at INFO
    settings = read_settings(asked.config)
    _log_key(settings)
    line = _logins_line()
    if not line.strip():
        raise Failure(
            Exit.LOGIN,
            "no secrets on standard input, nor in a credential `logins`: the supervisor gives one JSON line with the logins log, decide and act",
        )
    trio.run(serve, settings, parse_wrapped(line))
    return Exit.OK


def _logins_line() -> bytes:
    """What the supervisor hands over: the credential, where there is one, else a line of standard input."""
    if (file := credential("logins")) is not None:
        return read_private(file).encode()
    return b"" if sys.stdin.isatty() else sys.stdin.buffer.readline(MAX_SECRETS)


def _mint(asked: argparse.Namespace) -> Exit:
    if asked.renew:
        logins.renew(asked.config, asked.token_file)
    elif sys.stdout.isatty():
        raise Failure(Exit.USAGE, "what it prints is secret, and standard output is a terminal: pipe it into serve")
    else:
        print(logins.mint_logins(asked.config, asked.token_file))
    return Exit.OK


def _init(asked: argparse.Namespace) -> Exit:
    targets = tuple(parse_target(text) for text in asked.target or ["web-1=CHANGE-ME:22"])
    instance = asked.instance or "production"
    origin = asked.origin or f"CHANGE-ME.example/log/{datetime.now(UTC).year}"
    new = NewInstance(instance, asked.environment or instance, origin, asked.public_url.rstrip("/"), targets, asked.command)
    for file in write_instance(asked.directory, new):
        print(file)
    _say(f"now read {asked.directory / 'README.md'}: who does what next, and what each hands over to whom")
    return Exit.OK


def _migrate(asked: argparse.Namespace) -> Exit:
    applied = trio.run(migrate, read_settings(asked.config).database_url)
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("nothing to change")
    return Exit.OK


def _bootstrap(asked: argparse.Namespace) -> Exit:
    parts = urlsplit(asked.vault)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise Failure(Exit.USAGE, "--vault must be an https:// URL without credentials or query")
    address = VaultAddress(asked.vault.rstrip("/"), asked.ca_file)
    set_up(Setup(address, asked.layout, asked.out, plan_only=asked.plan, initialise=asked.initialise), partial(print, flush=True))
    return Exit.OK


def _check_config(asked: argparse.Namespace) -> Exit:
    settings = read_settings(asked.config)
    config = Config(settings, trio.run(_tip_of_policy, settings), policy_origin(settings).signers, _log_key(settings))
    if asked.output == "json":
        print(json.dumps(config_report.document(config), indent=1, sort_keys=True))
    else:
        print(config_report.render(config))
    faults = config_report.faults(config)
    for fault in faults:
        _say(f"pingee-gatekeeper: {asked.config}: {fault}")
    return Exit.USAGE if faults else Exit.OK


async def _tip_of_policy(settings: Settings) -> Policy:
    """The policy that a start would put in force, checked as the start checks it, in a mirror of its own: a running replica is not disturbed."""
    with tempfile.TemporaryDirectory(prefix="pingee-check-") as directory:
        source = await open_policy_source(open_git(Path(directory)), policy_origin(settings), clock=time.monotonic, last_loaded=last_loaded(settings))
        # A start would go on with the commit before; here a refused tip is what is to be said.
        await source.refresh()
        return source.current()


def _fsck(asked: argparse.Namespace) -> Exit:
    settings = read_settings(asked.config)
    key, *also = log_keys(settings)
    older = _older(asked.since, (key, *also))
    progress: Progress | None = None

    def begin(size: int) -> Callable[[int], None] | None:
        nonlocal progress
        progress = open_progress(size, sys.stderr, asked=asked.progress)
        return None if progress is None else progress.at

    found = trio.run(partial(check_rows, older=older, also=tuple(also), progress=begin), settings.database_url, key)
    if progress is not None:
        progress.done()
    if asked.output == "json":
        print(json.dumps({**log_report.document(found.report), "beyond": found.beyond}, indent=1, sort_keys=True))
    else:
        beyond = f"beyond: {found.beyond} rows are durable and not signed yet; they were not checked"
        print("\n".join(_visible(line) for line in log_report.lines(found.report, also=(beyond,) if found.beyond else ())))
    return Exit.OK if found.report.sound else Exit.DENIED


def _reopen(asked: argparse.Namespace) -> Exit:
    settings = read_settings(asked.config)
    order, seen = _bounded(asked.order, MAX_ORDER), None if asked.seen is None else _bounded(asked.seen, MAX_NOTE)
    policy = trio.run(_tip_of_policy, settings)
    # Checked before the logins are read: who wrote it down wrong need not mint them again.
    believed(order, asked.reason, settings.instance, _log_key(settings), settings.operator_keys, policy, datetime.now(UTC))
    opened = trio.run(run_reopen, settings, parse_wrapped(_logins_line()), policy, order, asked.reason, seen)
    vkey, closed = encode_vkey(opened.key), opened.previous.checkpoint
    lost = "not known" if opened.lost is None else opened.lost
    print(f"closed    {closed.origin} at {closed.size} signed entries; the database lacks {lost} of them")
    print(f"opened    {opened.key.name}, ordered by {' and '.join(opened.signers)}")
    print(f"vkey      {vkey}")
    print("log-policy of verifiers (witness, group and quorum lines as before):")
    print(f"log {vkey}")
    _say(
        f"now write that vkey into the file that /vault/log_key names, set origin = {json.dumps(opened.key.name)} in {asked.config}, "
        "for every replica, and start them; send auditors and witnesses the new log line"
    )
    return Exit.OK


def _bounded(file: Path, most: int) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(most + 1)
    if len(data) > most:
        raise Failure(Exit.USAGE, f"{file} has more than {most} bytes")
    return data


def _older(file: Path | None, keys: tuple[VerifierKey, ...]) -> VerifiedCheckpoint | None:
    if file is None:
        return None
    with file.open("rb") as opened:
        note = opened.read(MAX_NOTE)
    try:
        return open_checkpoint(note, *keys)
    except TlogError as error:
        raise Failure(Exit.DENIED, f"{file} is no checkpoint signed by {keys[0].name}: {error}") from None


def _export_log(asked: argparse.Namespace) -> Exit:
    settings = read_settings(asked.config)
    done = trio.run(_export, settings, asked.directory)
    new = done.size - done.before
    print(f"{asked.directory}: {done.size} entries of {done.origin}, {new} of them new; {done.files} files written")
    return Exit.OK


async def _export(settings: Settings, directory: Path) -> Exported:
    key, *also = log_keys(settings)
    policy = LogPolicy(log=key) if settings.witnesses is None else settings.witnesses.policy
    async with open_log_rows(settings.database_url, key, *also) as rows:
        return await export_log(await rows.newest_cosigned(policy), rows.bodies, directory, key, *also)


def _log_key(settings: Settings) -> VerifierKey:
    try:
        return parse_vkey(settings.vault.log_vkey)
    except TlogError as error:
        raise BadSettings(f"/vault/log_key: {error}") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr)


_SERVE = """Run one replica until SIGTERM. It keeps no secret on disk: at every start the supervisor hands over
one JSON line,
  {"log": {"role_id": ..., "token": ...}, "decide": {...}, "act": {...}}
where each token is a wrapped single-use secret id of the vault: as the systemd credential `logins`
($CREDENTIALS_DIRECTORY/logins), else on standard input. When the vault no longer accepts
one of the three logins, the replica stops with exit code 2, to be started anew with fresh ones."""
_MIGRATE = """Bring the database's schema up to date. Replicas do it at their start too; run it before, to see
it fail where nobody waits. Running it again changes nothing."""
_CHECK = """Read the configuration file, load the policy repository that it names as a start would (every
signature from the pinned first commit), and say what is wrong. Changes nothing, needs no vault
and no database. Prints the instance, the policy's commit, targets and modes, who holds which role
where (ENVIRONMENT/COMPONENT), who may vote, and warns of what is lawful and seldom meant: a role
that nobody holds, a second person who is missing. People are those of people.toml; an issuer that
is named in issuers.toml may put others into a group.

The configuration file:
"""
_INIT = """Write the files of a production instance into DIR, which is empty or not there: the commented
configuration, systemd units that hand over credentials, the vault's layout, the doorkeeper's
installation for each target, a skeleton of the policy repository, and README.md: the next steps in
order, who does them, what each hands over to whom. Asks nothing. What only people can know says
CHANGE-ME, and the commands refuse it until it is filled in."""
_LOGINS = """Print the line that `serve` reads: three wrapped single-use logins, minted with the supervisor's
token, which can do nothing else and is prolonged by --renew. Run by the units that init writes,
as another user than the gatekeeper's. Of the configuration only instance, [vault] url and ca_file
are read."""
_FSCK = """Rehash every row of the deploy log in PostgreSQL itself, below the newest stored checkpoint:
bodies, leaf hashes, look-up columns, full tiles, every stored checkpoint. Reads only. Ends with 3
and names the first entry that is not as signed. Without --since a cut tail cannot be told from a
short log: keep a checkpoint on another machine (pingee log checkpoint --out FILE)."""
_EXPORT = """Write the deploy log from PostgreSQL into DIR, laid out as it is served: checkpoint, tile/<level>/...,
tile/entries/.... Any static file server then serves a complete log of its own (C2SP tlog-tiles), and
a copy of the directory is one too. Run again it writes only what is new; the checkpoint goes last,
so a reader sees a valid log at any moment, after a crash too. It refuses where the rows do not have
the signed root, and where DIR holds a newer checkpoint than the database."""
_REOPEN = """For a log that refuses to start because the database is behind what was signed (it was restored from
a backup), or of another tree. Stop every replica first. It closes the origin and opens the next one,
<host>/log/2026 -> <host>/log/2026b, whose entry 0 holds the last signed note known, what database and
vault knew, who ordered it and, hidden, why. Two people of operator-keys order it:

  pingee log order new reopen --instance NAME --origin ORIGIN --reason TEXT --for 1h --out order
  pingee log order sign order --key FILE        each of the two, with their own key
  pingee-gatekeeper logins --config FILE | pingee-gatekeeper log reopen --config FILE --reason TEXT --order order

Reads the logins as serve does. Refused where the log is as it was signed. Run it again with the same
order where it was cut short. What the lost entries decided is not in the new origin."""
_BOOTSTRAP = """Set up an OpenBao or Vault server from a layout: keys, CAs, logins, policies from vault-policies/.
It prints what it changes; running it again prints "nothing to change". The root token is read
from standard input, as one line or as {"root_token": ..., "recovery_key": ...}, and is revoked at
the end; what remains in DIR is the supervisor's token, which can only mint wrapped single-use
secrets of the gatekeeper's logins, and the public keys that gatekeepers and targets pin. The
server must have an audit device.

  pingee-gatekeeper bootstrap --vault https://vault.example:8200 --ca-file ca.pem --layout LAYOUT.toml --out DIR --plan < root.token
  pingee-gatekeeper bootstrap --vault https://vault.example:8200 --ca-file ca.pem --layout LAYOUT.toml --out DIR < root.token

LAYOUT.toml:
"""


def _example(text: str | None) -> str:
    """The indented part of a module's description."""
    return "\n".join(line for line in (text or "").splitlines() if line.startswith("    ") or not line).strip("\n")


def _parser() -> _Parser:
    parser = _Parser(prog="pingee-gatekeeper", description="The gatekeeper: decides, logs, and only then deploys.", epilog=_FIRST + _EPILOG)
    parser.add_argument("--version", action="version", version=f"pingee-gatekeeper {VERSION}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    def add(within: Any, name: str, run: Any, summary: str, text: str) -> _Parser:
        command: _Parser = within.add_parser(name, help=summary, description=text)
        command.add_argument("-v", "--verbose", action="store_true", help="a traceback where something went wrong in us")
        command.set_defaults(run=run)
        return command

    # The example of each file is the one at the top of its reader.
    check_text, bootstrap_text = _CHECK + _example(settings_file.__doc__), _BOOTSTRAP + _example(layout_file.__doc__)
    served = add(commands, "serve", _serve, "run one replica", _SERVE)
    minted = add(commands, "logins", _mint, "mint fresh logins for a start of serve, or prolong the supervisor's token", _LOGINS)
    minted.add_argument("--token-file", type=Path, metavar="FILE", help="default: the credential supervisor.token; mode 0600")
    minted.add_argument("--renew", action="store_true", help="only prolong the supervisor's token")
    migrated = add(commands, "migrate", _migrate, "bring the database's schema up to date", _MIGRATE)
    checked = add(commands, "check-config", _check_config, "read configuration and policy, and say what is wrong", check_text)
    log = commands.add_parser("log", help="check the deploy log in the database", description="The deploy log in the database.")
    within_log = log.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)
    fsck = add(within_log, "fsck", _fsck, "rehash every row of the log in PostgreSQL itself", _FSCK)
    exported = add(commands, "export-log", _export_log, "write the log as a directory for a static file server", _EXPORT)
    exported.add_argument("directory", type=Path, metavar="DIR")
    reopened = add(within_log, "reopen", _reopen, "close an origin that can sign no more, and open the next", _REOPEN)
    reopened.add_argument("--order", type=Path, required=True, metavar="FILE", help="signed by two people: pingee log order new reopen")
    reopened.add_argument("--reason", required=True, metavar="TEXT", help="the reason that was signed")
    reopened.add_argument("--seen", type=Path, metavar="CHECKPOINT", help="a newer note that somebody else kept: a witness, a doorkeeper, a monitor")
    for command in (served, minted, migrated, checked, fsck, exported, reopened):
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="the replica's configuration; see docs/operating.md")
    fsck.add_argument("--progress", action="store_true", help="say on stderr how far it is; on a terminal it always does")
    fsck.add_argument("--since", type=Path, metavar="CHECKPOINT", help="a checkpoint kept outside: it must be a prefix")
    for command in (checked, fsck):
        command.add_argument("-o", "--output", choices=("table", "json"), default="table")
    new = add(commands, "init", _init, "write the files of a production instance", _INIT)
    new.add_argument("directory", type=Path, metavar="DIR")
    new.add_argument("--instance", metavar="NAME", help="the security domain (default: production)")
    new.add_argument("--environment", metavar="ENV", help="what it deploys to (default: the instance's name)")
    new.add_argument("--origin", metavar="O", help="the log's name, HOST/PATH, for ever")
    new.add_argument("--public-url", metavar="URL", default="https://CHANGE-ME.example:8443", help="under which people and pipelines reach it")
    new.add_argument("--target", metavar="NAME=HOST:PORT", action="append", help="a host to deploy to, its SSH port; may be given again")
    new.add_argument("--command", metavar="PATH", default="/opt/pingee/bin/pingee-gatekeeper", help="of pingee-gatekeeper on the host that runs it")
    vault = add(commands, "bootstrap", _bootstrap, "set up a vault from a layout, and revoke its root token", bootstrap_text)
    vault.add_argument("--vault", required=True, metavar="URL", help="https:// address of the server")
    vault.add_argument("--ca-file", type=Path, required=True, metavar="FILE", help="PEM of the CA that its certificate comes from")
    vault.add_argument("--layout", type=Path, required=True, metavar="LAYOUT.toml", help="what the vault is to hold")
    vault.add_argument("--out", type=Path, required=True, metavar="DIR", help="made 0700: supervisor token, recovery key, public keys and ids")
    vault.add_argument("--plan", action="store_true", help="print what would change, and change nothing")
    vault.add_argument("--initialise", action="store_true", help="initialise an uninitialised server first; then no root token is read")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
