"""`pingee log fsck`: rehash every entry and tile of a log, with how far it is, and name the first that is not as signed."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gatekeeper.logcheck import report as words
from gatekeeper.logcheck.ids import SpillingIds
from gatekeeper.logcheck.progress import open_progress
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.fsck import Fetch, FsckReport, fsck
from gatekeeper.tlog.logpolicy import LogPolicy, open_cosigned
from gatekeeper.tlog.tile import TILE_WIDTH, TileAddress

from .exits import Exit, Failure
from .logsource import ahead, newest, open_source, trusted
from .output import print_json, safe
from .server import Access

STREAM: Final = {"kind": "Stream", "apiVersion": "pingee/v1"}
Tell = Callable[[int], None]


def check(arguments: Namespace, access: Access) -> Exit:
    """Check the log that the command line names; exit 3 where something is not as signed."""
    with open_source(arguments.source, access) as source:
        keys = trusted(arguments, source)
        checkpoint, older = newest(source, keys.now), _older(arguments, keys.ever)
        if arguments.output == "jsonl":
            print_line(STREAM)
        with ahead(source, checkpoint.size) as fetch:
            report = _checked(arguments, checkpoint, fetch, older)
    return print_report(report, arguments.output)


def print_report(report: FsckReport, output: str) -> Exit:
    """The result of a check; exit 3 where a fault was found."""
    if output == "jsonl":
        print_line({"kind": "Report", **words.document(report)})
    elif output == "json":
        print_json(words.document(report))
    else:
        for line in words.lines(report):
            print(safe(line))
    return Exit.OK if report.sound else Exit.DENIED


def print_line(document: object) -> None:
    """One JSON object on a line of its own, at once."""
    sys.stdout.write(json.dumps(document, sort_keys=True) + "\n")
    sys.stdout.flush()


def _checked(arguments: Namespace, checkpoint: VerifiedCheckpoint, fetch: Fetch, older: VerifiedCheckpoint | None) -> FsckReport:
    progress = open_progress(checkpoint.size, sys.stderr, asked=arguments.progress)
    tells: list[Tell] = [] if progress is None else [progress.at]
    if arguments.output == "jsonl":
        tells.append(_jsonl(checkpoint.size))
    with SpillingIds() as ids:
        report = fsck(checkpoint, _telling(fetch, tells), older=older, ids=ids)
    if progress is not None:
        progress.done()
    return report


def _telling(fetch: Fetch, tells: list[Tell]) -> Fetch:
    def fetch_and_tell(address: TileAddress) -> bytes | None:
        if address.level is None:
            for tell in tells:
                tell(address.n * TILE_WIDTH)
        return fetch(address)

    return fetch_and_tell if tells else fetch


def _jsonl(total: int) -> Tell:
    said = time.monotonic()

    def tell(done: int) -> None:
        nonlocal said
        if (now := time.monotonic()) - said >= 1.0:
            said = now
            print_line({"kind": "Progress", "entries": done, "of": total})

    return tell


def _older(arguments: Namespace, policy: LogPolicy) -> VerifiedCheckpoint | None:
    if arguments.since is None:
        return None
    try:
        return open_cosigned(Path(arguments.since).read_bytes(), policy)
    except OSError as error:
        raise Failure(Exit.USAGE, f"{arguments.since} cannot be read: {error.strerror}") from None
    except TlogError as error:
        raise Failure(Exit.DENIED, f"the checkpoint does not verify: {arguments.since}: {error}") from None
