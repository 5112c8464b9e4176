"""`pingee-offline`: for an auditor with files alone. Needs Python and `cryptography`; touches no network, writes nothing.

Exit codes are those of `pingee`: 0 verified, 1 a file is missing or not of its form, 3 looked at and the answer is no.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from gatekeeper.logcheck import report as words
from gatekeeper.logcheck.text import visible
from gatekeeper.model.moment import render_moment

from .checks import Refused, Unreadable, check_directory, prove_entry, prove_receipt, read_policy

OK, USAGE, DENIED = 0, 1, 3
_EPILOG: Final = "exit codes: 0 verified · 1 usage, or a file that cannot be read · 3 looked at, and the answer is no"


class _Parser(argparse.ArgumentParser):
    """argparse ends with 2, which means "remote" elsewhere; a usage error is 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"epilog": _EPILOG, **options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except Refused as refused:
        _print(f"{refused}", sys.stderr)
        return DENIED
    except Unreadable as unreadable:
        _print(f"pingee-offline: {unreadable}", sys.stderr)
        return USAGE


def _verify(asked: argparse.Namespace) -> int:
    entry = asked.entry or asked.file.with_suffix(".entry.json")
    proven = prove_entry(asked.file, entry, read_policy(asked.log_policy))
    _print(f"verified: entry {proven.index} ({proven.kind}) is in the tree of {proven.size} entries signed by {proven.origin}")
    return OK


def _receipt(asked: argparse.Namespace) -> int:
    proof = asked.proof or asked.file.with_suffix(".tlog-proof")
    proven = prove_receipt(asked.file, proof, read_policy(asked.log_policy), asked.receipt_keys)
    said = proven.statement
    until = "" if said.not_after is None else f", until {render_moment(said.not_after)}"
    _print(f"verified: {said.verdict.value} ({said.mode.value}, {said.purpose.value}) of {said.subject}{until}")
    _print(f"  for {said.environment}/{said.component} of {said.instance}, targets {', '.join(said.targets)}, configuration {said.candidate_config}")
    _print(f"  receipt {proven.receipt}")
    _print(f"  signed by a given receipt key; entry {proven.index} in the tree of {proven.size} entries signed by {proven.origin}")
    return OK


def _fsck(asked: argparse.Namespace) -> int:
    report = check_directory(asked.directory, read_policy(asked.log_policy), asked.since)
    for line in words.lines(report):
        _print(line)
    return OK if report.sound else DENIED


def _print(text: str, out: Any = None) -> None:
    (out or sys.stdout).write(visible(text) + "\n")


def _parser() -> _Parser:
    parser = _Parser(prog="pingee-offline", description="Verify what a Pingee gatekeeper gave you, with files alone. No network.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, run: Any, text: str) -> _Parser:
        command: _Parser = commands.add_parser(name, help=text, description=text)
        command.add_argument("--log-policy", type=Path, required=True, metavar="FILE", help="the log's policy file, from somebody you trust")
        command.set_defaults(run=run)
        return command

    verify = add("verify", _verify, "One entry is in the log: signature, quorum, inclusion of exactly these bytes.")
    verify.add_argument("file", type=Path, metavar="FILE.tlog-proof")
    verify.add_argument("--entry", type=Path, metavar="FILE", help="default: FILE.entry.json beside it")
    receipt = add("receipt", _receipt, "One decision was signed, and is in the log.")
    receipt.add_argument("file", type=Path, metavar="RECEIPT")
    receipt.add_argument("--proof", type=Path, metavar="FILE", help="default: RECEIPT with the suffix .tlog-proof")
    receipt.add_argument("--receipt-keys", type=Path, required=True, metavar="FILE", help="PEM public keys, from somebody you trust")
    fsck = add("fsck", _fsck, "Rehash every entry and tile of an exported log; names the first that is not as signed.")
    fsck.add_argument("directory", type=Path, metavar="DIR")
    fsck.add_argument("--since", type=Path, metavar="CHECKPOINT", help="an older checkpoint; without one a cut tail cannot be told")
    return parser
