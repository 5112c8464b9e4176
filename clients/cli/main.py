"""The `pingee` command: parse, call one function, end with the exit code that scripts can rely on."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from gatekeeper.verify.order import OrderAction

from . import audit, doctor, follow, fsck, logkeys, logorder, logs, monitor, override, pings, reads, review, verify
from .exits import Exit, Failure
from .output import say
from .server import Access, Server

VERSION: Final = "0.1.0"
API: Final = "pingee/v1"

_KNOWN: Final = frozenset(
    "PINGEE_" + name
    for name in (
        *("SERVER", "TOKEN", "TOKEN_FILE", "OUTPUT", "CA_FILE", "LOG_POLICY", "TRUSTED_ROOT", "TIMEOUT", "REQUEST_TIMEOUT"),
        *("OPERATOR", "VAULT", "VAULT_CA_FILE"),  # of the doctor
        *("DATABASE_URL", "PEOPLE"),  # of the demo's env.sh
    )
)

_OUTPUTS: Final = ("table", "json")
_STREAMS: Final = (*_OUTPUTS, "jsonl")
"""of commands that print a list as it comes"""

_EPILOG: Final = """\
begin here:
  pingee demo                                            the whole way once on this machine, nothing to set up
  pingee doctor                                          what is wrong between you and your gatekeeper, and what to do
  pingee ping production hello --commit SHA --wait       ask to deploy; pingee explain PING says what is missing

exit codes: 0 ok · 1 usage · 2 server · 3 denied · 4 login · 5 pending · 6 unhealthy or rolled back · 7 cannot tell · 20 a bug"""

WithServer = Callable[[Server, argparse.Namespace], Exit]


class _Parser(argparse.ArgumentParser):
    """argparse ends with 2, which means "remote" here; a usage error is 1. Options are spelt out: `--token` must not pass for `--token-file`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        say(f"{self.prog}: {message}; see {self.prog} --help")
        raise SystemExit(int(Exit.USAGE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code of interfaces, section 1.4."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["demo"]:
        from clients.demo.main import main as demo

        return demo(given[1:])
    parsed = build_parser().parse_args(given)
    _warn_unknown_variables()
    try:
        if parsed.output not in parsed.outputs:
            raise Failure(Exit.USAGE, f"PINGEE_OUTPUT must be one of {', '.join(parsed.outputs)}")
        code = int(parsed.run(parsed))
        sys.stdout.flush()
        return code
    except Failure as failure:
        return int(_fail(failure, parsed.output))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Quietly, but never 0: what was cut off may have been a denial. The interpreter flushes stdout once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return int(_fail(Failure(Exit.USAGE, f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}"), parsed.output))
    except Exception as error:
        if parsed.verbose:
            raise
        say(f"pingee: internal error {secrets.token_hex(4)}: {type(error).__name__}; run again with -v and report what it prints")
        return int(Exit.INTERNAL)


def _fail(failure: Failure, output: str) -> Exit:
    if output in ("json", "jsonl"):
        problem = failure.problem or {"code": None, "detail": str(failure)}
        say(json.dumps(problem, sort_keys=True))
    else:
        say(f"pingee: {failure}")
    return failure.exit_code


def _warn_unknown_variables() -> None:
    for name in sorted(os.environ):
        if name.startswith("PINGEE_") and name not in _KNOWN:
            say(f"pingee: warning: unknown variable {name}")


def _with_server(command: WithServer) -> Callable[[argparse.Namespace], Exit]:
    def run(arguments: argparse.Namespace) -> Exit:
        with Server(_access(arguments)) as server:
            return command(server, arguments)

    return run


def _access(arguments: argparse.Namespace) -> Access:
    return Access(
        url=arguments.server,
        ca_file=None if arguments.ca_file is None else Path(arguments.ca_file),
        token_file=None if arguments.token_file is None else Path(arguments.token_file),
        token=None if arguments.token_file is not None else os.environ.get("PINGEE_TOKEN"),
        timeout_s=arguments.request_timeout,
    )


def _fsck(arguments: argparse.Namespace) -> Exit:
    return fsck.check(arguments, _access(arguments))


def _monitor(arguments: argparse.Namespace) -> Exit:
    return monitor.monitor(arguments, _access(arguments))


def _leases(arguments: argparse.Namespace) -> Exit:
    return audit.leases(arguments, _access(arguments))


def _doctor(arguments: argparse.Namespace) -> Exit:
    asked = doctor.Asked(
        access=_access(arguments),
        log_policy=_path(arguments.log_policy),
        trusted_root=_path(os.environ.get("PINGEE_TRUSTED_ROOT")),
        operator=arguments.operator,
        vault=arguments.vault,
        vault_ca_file=_path(arguments.vault_ca_file),
    )
    return doctor.doctor(asked, arguments)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _init(arguments: argparse.Namespace) -> Exit:
    from .init import init  # brings a YAML parser, which no other command needs

    return init(arguments)


def _submit(arguments: argparse.Namespace) -> Exit:
    from .submit import submit  # brings the builder's modules, which no other command needs

    return submit(arguments)


def build_parser() -> _Parser:
    """The whole command line."""
    parser = _Parser(
        prog="pingee",
        description="Ask a Pingee gatekeeper to deploy, see why it waits or refuses, and check its log.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pingee {VERSION} ({API})")
    shared = _shared_flags()
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, run: Callable[[argparse.Namespace], Exit], text: str) -> _Parser:
        command = commands.add_parser(name, help=text, description=text, parents=[shared])
        command.set_defaults(run=run)
        return command

    _add_pings(add)
    _add_reads(add)
    _add_review(commands, shared, add)
    _add_override(commands, shared)
    _add_log(commands, shared)
    _add_audit(commands)
    verify.add_verify(commands, _shared_flags(verify.OUTPUTS))
    _add_doctor(add)
    _add_init(add)
    _add_submit(add)
    commands.add_parser("demo", help="the whole house on this machine: see `pingee demo --help`", add_help=False)
    return parser


def _shared_flags(outputs: tuple[str, ...] = _OUTPUTS) -> _Parser:
    shared = _Parser(add_help=False)
    shared.set_defaults(outputs=outputs)
    group = shared.add_argument_group("server and output")
    environ = os.environ
    group.add_argument("--server", metavar="URL", default=environ.get("PINGEE_SERVER"), help="the gatekeeper (PINGEE_SERVER)")
    group.add_argument("--ca-file", metavar="PATH", default=environ.get("PINGEE_CA_FILE"), help="CA of its certificate (PINGEE_CA_FILE)")
    group.add_argument(
        "--token-file", metavar="PATH", default=environ.get("PINGEE_TOKEN_FILE"), help="file with your token (PINGEE_TOKEN_FILE); there is no --token"
    )
    group.add_argument("--log-policy", metavar="FILE", default=environ.get("PINGEE_LOG_POLICY"), help="the log's policy file (PINGEE_LOG_POLICY)")
    group.add_argument("-o", "--output", choices=outputs, default=environ.get("PINGEE_OUTPUT", "table"), help="default: table")
    group.add_argument("-v", "--verbose", action="store_true", help="say more")
    group.add_argument("--request-timeout", type=_seconds, default=environ.get("PINGEE_REQUEST_TIMEOUT", "30s"), help="one HTTP request")
    return shared


Add = Callable[[str, Callable[[argparse.Namespace], Exit], str], _Parser]


def _add_pings(add: Add) -> None:
    ping = add("ping", _with_server(pings.ping), "Ask to deploy an artifact, a configuration, or both; what is not named stays as it runs.")
    ping.add_argument("environment")
    ping.add_argument("component")
    what = ping.add_mutually_exclusive_group()
    what.add_argument("--artifact", metavar="DIGEST")
    what.add_argument("--commit", metavar="SHA", help="the newest artifact of this commit")
    ping.add_argument("--config", metavar="COMMIT", help="commit of the environment's configuration")
    ping.add_argument("--deadline", metavar="TIME", help="RFC 3339; waiting ends then (default: in 24 hours)")
    ping.add_argument("--reason", metavar="TEXT")
    _add_waiting(ping)
    back = add("rollback", _with_server(pings.rollback), "Return running bytes to a member of the rollback set (for git: revert); needs no vote.")
    back.add_argument("environment")
    back.add_argument("component")
    back.add_argument("--to", metavar="DIGEST", help="default: the newest member that does not run")
    back.add_argument("--list", action="store_true", help="print the rollback set")
    back.add_argument("--reason", metavar="TEXT")
    _add_waiting(back)
    adopt = add("adopt", _with_server(pings.adopt), "Record what runs there as the first member of the rollback set; deploys nothing.")
    adopt.add_argument("environment")
    adopt.add_argument("component")
    adopt.add_argument("--reason", metavar="TEXT", required=True)
    adopt.add_argument("--idempotency-key", metavar="KEY", help="repeat a call safely: the same key and body make one adoption")
    status = add("status", _with_server(pings.status), "One ping as it stands, or the newest ones. Never waits.")
    status.add_argument("ping", nargs="?", metavar="PING")
    watch = add("watch", _with_server(pings.watch), "Follow a ping until it ends. Ctrl-C stops watching only; the ping goes on.")
    watch.add_argument("ping", metavar="PING")
    watch.add_argument("--timeout", type=_seconds, default=os.environ.get("PINGEE_TIMEOUT", "10m"))
    explain = add("explain", _with_server(pings.explain), "Every rule of a ping's last decision, what is missing, and who can give it.")
    explain.add_argument("ping", metavar="PING")
    explain.add_argument("--missing", action="store_true", help="only what is needed")
    cancel = add("cancel", _with_server(pings.cancel), "Withdraw a ping that waits.")
    cancel.add_argument("ping", metavar="PING")
    cancel.add_argument("--reason", metavar="TEXT", required=True)


def _add_waiting(command: argparse.ArgumentParser) -> None:
    command.add_argument("--wait", action="store_true", help="until it ends; the exit code says how")
    command.add_argument("--timeout", type=_seconds, default=os.environ.get("PINGEE_TIMEOUT", "10m"), help="with --wait (default 10m)")
    command.add_argument("--idempotency-key", metavar="KEY", help="repeat a call safely: the same key and body make one ping")


def _add_reads(add: Add) -> None:
    running = add("running", _with_server(reads.running), "What runs where.")
    running.add_argument("environment", nargs="?")
    running.add_argument("--drift", action="store_true", help="only where something else runs than was deployed last")
    provenance = add("provenance", _with_server(reads.provenance), "Commit, review, build, tests and decision behind what runs.")
    provenance.add_argument("what", metavar="DIGEST|ENV/COMPONENT|COMMIT")
    artifacts = add("artifacts", _with_server(reads.artifact_list), "Artifacts of a commit or project.")
    artifacts.add_argument("--commit", metavar="SHA")
    artifacts.add_argument("--project", metavar="NAME")
    log = add("build-log", _with_server(reads.artifact_log), "The build log of an artifact.")
    log.add_argument("digest", metavar="DIGEST")
    receipt = add("receipt", _with_server(reads.receipt), "Write the receipt of an Allow to a file, rehashed.")
    receipt.add_argument("digest", metavar="RECEIPT")
    receipt.add_argument("file", metavar="FILE")
    add("whoami", _with_server(reads.whoami), "Who your token says you are, and your name in the policy.")


def _add_review(commands: argparse._SubParsersAction[_Parser], shared: _Parser, add: Add) -> None:
    vote = add("vote", _with_server(review.vote), "Sign a vote for one exact revision with your own key, and store it.")
    vote.add_argument("change", metavar="CHANGE", help="the Change-Id, or the commit where there is none")
    vote.add_argument("value", type=int, metavar="VALUE", help="-2 to +2")
    vote.add_argument("--project", required=True)
    vote.add_argument("--revision", required=True, metavar="SHA", help="the commit you looked at; there is no 'current'")
    vote.add_argument("--tree", required=True, metavar="SHA", help="its tree: git rev-parse SHA^{tree}")
    vote.add_argument("--key", required=True, metavar="FILE", help="made with: pingee key new FILE")
    vote.add_argument("--label", default="Code-Review")
    key = commands.add_parser("key", help="keys of people", description="Keys of people: votes are signed with them.")
    key_commands = key.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    new = key_commands.add_parser("new", help="make an Ed25519 key and print its public half", parents=[shared])
    new.add_argument("file", metavar="FILE")
    new.set_defaults(run=review.key_new)


def _add_init(add: Add) -> None:
    command = add("init", _init, "Write .pipeline/config.yaml for the type of repository found; or check one. Offline.")
    command.add_argument("directory", nargs="?", default=".", metavar="DIR", help="default: here")
    command.add_argument("--check", action="store_true", help="read the document that is there and say what a builder would do, or what is wrong")
    command.add_argument("--type", metavar="TYPE", help="where the files do not say it: python, or a version such as python-3.12")
    command.add_argument("--component", metavar="NAME", help="what runs (default: the directory's name)")


def _add_submit(add: Add) -> None:
    command = add("submit", _submit, "Sign what another CI built and tested with this run's certificate, and give it to the gatekeeper.")
    command.add_argument("artifact", metavar="LAYOUT", help="directory: an OCI image layout with one artifact")
    command.add_argument("--results", metavar="DIR", help="JUnit result files (*.xml) of the commit stage")
    command.add_argument("--definition", metavar="FILE", help="what the CI followed: the job's own file")
    command.add_argument("--certificate-token-file", metavar="PATH", help="the run's token for audience pingee:certificates:INSTANCE; used once")
    command.add_argument("--ref", metavar="REF", default="refs/heads/main", help="the git ref that was built (default: refs/heads/main)")
    command.add_argument("--started", metavar="TIME", help="when the build began, RFC 3339 UTC (default: now)")
    command.add_argument("--log", metavar="FILE", help="the build log")
    text = "submit a statement that another signer signed, as it is; may be repeated"
    command.add_argument("--bundle", metavar="FILE", action="append", default=[], help=text)


def _add_override(commands: argparse._SubParsersAction[_Parser], shared: _Parser) -> None:
    text = "An order to bring back a release at its target while gatekeeper, vault or log is away. Works with everything else down."
    overriding = commands.add_parser("override", help="two people's order for a target", description=text)
    words = overriding.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    new = words.add_parser("new", help="write an order", description="Write an order; two people then sign it.", parents=[shared])
    new.add_argument("--target", required=True, metavar="NAME", help="one target, as its target.toml names it")
    new.add_argument("--digest", required=True, metavar="DIGEST", help="what to bring back; the target's rollback set: pingee-doorkeeper status")
    new.add_argument("--reason", required=True, metavar="TEXT")
    new.add_argument("--incident", required=True, metavar="REF")
    new.add_argument("--for", required=True, dest="life", type=_seconds, metavar="DURATION", help="how long it may be used; at most 4h")
    new.add_argument("--out", metavar="FILE", help="default: standard output")
    new.set_defaults(run=override.new)
    sign = words.add_parser("sign", help="sign an order", description="Show an order and sign it with your own key.", parents=[shared])
    sign.add_argument("order", metavar="ORDER", help="the file; the signature is added to it")
    sign.add_argument("--key", required=True, metavar="FILE", help="made with: pingee key new FILE; its public half is pinned at the target")
    sign.set_defaults(run=override.sign)


def _add_log_order(within: argparse._SubParsersAction[_Parser], shared: _Parser) -> None:
    text = "What two people order about a log: to open its next origin after a loss, to change a key or the witnesses."
    ordering = within.add_parser("order", help="two people's order about a log", description=text)
    words = ordering.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    new = words.add_parser("new", help="write an order", description="Write an order; two people then sign it.", parents=[shared])
    new.add_argument("action", choices=[action.value for action in OrderAction])
    new.add_argument("--instance", required=True, metavar="NAME")
    new.add_argument("--origin", required=True, metavar="ORIGIN", help="the log's name as it is now")
    new.add_argument(
        "--set", dest="parameter", metavar="NAME=VALUE", action="append", default=[], help="what the action needs; for reopen: next=ORIGIN"
    )
    new.add_argument("--reason", required=True, metavar="TEXT")
    new.add_argument("--for", required=True, dest="life", type=_seconds, metavar="DURATION", help="how long it may be used; at most 4h")
    new.add_argument("--out", metavar="FILE", help="default: standard output")
    new.set_defaults(run=logorder.new)
    sign = words.add_parser("sign", help="sign an order", description="Show an order and sign it with your own key.", parents=[shared])
    sign.add_argument("order", metavar="ORDER", help="the file; the signature is added to it")
    sign.add_argument("--key", required=True, metavar="FILE", help="made with: pingee key new FILE; its public half is pinned at the gatekeeper")
    sign.set_defaults(run=logorder.sign)


def _add_log(commands: argparse._SubParsersAction[_Parser], shared: _Parser) -> None:
    log = commands.add_parser("log", help="check the deploy log", description="Check the deploy log without trusting who runs it.")
    log_commands = log.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    streaming = _shared_flags(_STREAMS)

    def add(name: str, run: Callable[[argparse.Namespace], Exit], text: str, flags: _Parser = shared) -> _Parser:
        command = log_commands.add_parser(name, help=text, description=text, parents=[flags])
        command.set_defaults(run=run)
        return command

    checkpoint = add("checkpoint", _with_server(logs.checkpoint), "Fetch and verify the newest checkpoint; an older one, kept, shows a cut tail.")
    checkpoint.add_argument("--out", metavar="FILE")
    proof = add("proof", _with_server(logs.proof), "Fetch one entry with its proof, check both, write both.")
    proof.add_argument("index", type=int, metavar="INDEX")
    proof.add_argument("--out", metavar="FILE")
    verify = add("verify", logs.verify, "Check a proof and its entry: no network, only the log's policy file.")
    verify.add_argument("file", metavar="FILE.tlog-proof")
    verify.add_argument("--entry", metavar="FILE", help="default: FILE.entry.json beside it")
    verify.add_argument("--keys", metavar="FILE", help="where the log's key was replaced: the file of pingee log keys --out")
    keys = add("keys", _with_server(logs.show_keys), "The log keys that are trusted from the policy file on, each named by the log itself.")
    keys.add_argument("--out", metavar="FILE", help="keep the document that proves it")
    vkey = add("vkey", logkeys.vkey, "The verifier key of a log's public key: what an order to rotate the log key names as new.")
    vkey.add_argument("--origin", required=True, metavar="ORIGIN")
    vkey.add_argument("--public", required=True, metavar="BASE64", help="as the vault shows it at transit/keys/INSTANCE-deploylog")
    check = add("fsck", _fsck, "Rehash every entry and tile of a served log or a directory; names the first bad entry.", streaming)
    check.add_argument("source", nargs="?", metavar="URL|DIR", help="default: the server")
    check.add_argument("--progress", action="store_true", help="say on stderr how far it is; on a terminal it always does")
    check.add_argument("--since", metavar="CHECKPOINT", help="an older checkpoint; without one a cut tail cannot be told")
    watching = add("monitor", _monitor, _MONITOR, streaming)
    watching.add_argument("source", nargs="?", metavar="URL|DIR", help="default: the server")
    watching.add_argument("--state", required=True, metavar="DIR", help="of this monitor alone: what the log showed, contradictions with both notes")
    watching.add_argument("--first-look", action="store_true", help="begin: nothing is remembered yet, and all entries are rehashed")
    how_often = watching.add_mutually_exclusive_group()
    how_often.add_argument("--once", action="store_const", const=None, dest="every", help="one look (the default): for cron")
    how_often.add_argument("--every", type=_seconds, metavar="DURATION", help="look again and again, until the log contradicts itself")
    watching.add_argument("--max-age", type=_seconds, default="30m", metavar="DURATION", help="of the newest cosignature (default 30m)")
    watching.add_argument("--no-rehash", action="store_true", help="only prove that the log grew: new entries are not read")
    _add_looking(log_commands)
    _add_log_order(log_commands, shared)


_MONITOR: Final = (
    "Look at a log, and say whether it only grew since the last look: consistency, quorum, age, and every new entry rehashed. "
    "Ends with 3 and keeps both signed notes where it contradicts what it showed before."
)


def _add_looking(commands: argparse._SubParsersAction[_Parser]) -> None:
    streamed = _shared_flags(_STREAMS)
    text = "The newest entries, oldest of them first; each is shown only when all hash to the root of the signed checkpoint."
    tail = commands.add_parser("tail", help="follow entries", description=text, parents=[streamed])
    tail.add_argument("-n", type=int, default=10, metavar="COUNT", help="how many of the newest to look at (default 10)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on with what comes; a log that does not continue the one shown ends it with 3")
    tail.add_argument("--kind", metavar="KIND", help="show those of one kind, such as decision; all are checked")
    tail.set_defaults(run=_with_server(follow.tail))
    text = f"Search the server's index over entries, newest first; each hit is checked by its own proof. But {follow.OMITS}: both counts are printed."
    query = commands.add_parser("query", help="search the index over entries", description=text, parents=[streamed])
    query.add_argument("--kind", metavar="KIND")
    query.add_argument("--env", dest="environment", metavar="ENV")
    query.add_argument("--component", metavar="COMPONENT")
    query.add_argument("--person", metavar="NAME", help="entries in which this person stands, in any role; needs role A or S for the place")
    query.add_argument("--since", metavar="TIME", help="RFC 3339, UTC, whole seconds: 2026-11-21T10:04:05Z")
    query.add_argument("-n", type=int, default=100, metavar="COUNT", help="how many at most (default 100)")
    query.set_defaults(run=_with_server(follow.query))


def _add_audit(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "Hold what others wrote down against the deploy log."
    auditing = commands.add_parser("audit", help="hold the vault's audit file against the log", description=text)
    words = auditing.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    leasing = words.add_parser(
        "leases",
        help="find credentials that the vault gave without a logged Allow",
        description=_LEASES,
        epilog=f"exit codes: 0 each was decided on · 3 an alarm · 7 of some it cannot be told\n{audit.FALSIFIABLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_shared_flags(_STREAMS)],
    )
    files = "the vault's audit file, JSON lines; again for each rotated part, oldest first"
    leasing.add_argument("--vault-audit", action="append", required=True, metavar="FILE", help=files)
    leasing.add_argument("--instance", required=True, metavar="NAME", help="whose credentials: the instance's name in the vault's paths")
    leasing.add_argument("--log", metavar="DIR", help="an exported log in the place of the server's")
    leasing.set_defaults(run=_leases)


_LEASES: Final = """\
Every SSH certificate and one-deploy token of the vault's own audit file must have an Allow in the log before it, and one outcome that names it.
An alarm is a certificate without an Allow, before it, after its end or for another target; one that was used twice, or hidden in a wrapping
token; one of a status role that does more than read; and settings read without a certificate. Allows without an outcome are listed."""


def _add_doctor(add: Add) -> None:
    text = "Say in one sentence each what is wrong, and what to do. Ends with 0: all well, 3: something is wrong, 7: something cannot be told."
    found = add("doctor", _doctor, text)
    environ = os.environ
    listener = "the operator's listener (PINGEE_OPERATOR), http://HOST:PORT, where you may reach it: what a replica says of its own parts"
    found.add_argument("--operator", metavar="URL", default=environ.get("PINGEE_OPERATOR"), help=listener)
    found.add_argument("--vault", metavar="URL", default=environ.get("PINGEE_VAULT"), help="the vault, asked whether it is sealed (PINGEE_VAULT)")
    found.add_argument("--vault-ca-file", metavar="PATH", default=environ.get("PINGEE_VAULT_CA_FILE"), help="CA of its certificate")


def _seconds(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    if not (number.isascii() and number.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 30s, 10m or 1h")
    return float(number) * units[unit]


if __name__ == "__main__":
    raise SystemExit(main())
