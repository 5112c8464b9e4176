"""`pingee log proof verify checkpoint`: check the deploy log with nothing but its policy file."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from clients.offline.checks import Refused, Unreadable, prove_entry, read_file
from gatekeeper.model.moment import Moment
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.logpolicy import LogPolicy, open_cosigned
from gatekeeper.tlog.proof import parse_proof, verify_proof
from gatekeeper.tlog.tile import MAX_ENTRY, TileAddress, parse_bundle

from .exits import Exit, Failure
from .logkeys import LogKeys, follow_file, follow_keys, keys
from .logsource import read_policy, served_log
from .output import print_json, say
from .server import Server


def proof(server: Server, arguments: Namespace) -> Exit:
    """Fetch the proof and the entry of one index, check both, and write them beside each other."""
    policy = _served_keys(server, arguments).now
    entry = _entry(server, policy, arguments.index)
    data = server.get_bytes(f"/log/proof/{arguments.index}")
    out = Path(arguments.out or f"{arguments.index}.tlog-proof")
    _verified(data, entry, policy)
    out.write_bytes(data)
    out.with_suffix(".entry.json").write_bytes(entry)
    say(f"wrote {out} and {out.with_suffix('.entry.json')}; check them anywhere: pingee log verify {out}")
    return Exit.OK


def verify(arguments: Namespace) -> Exit:
    """Check a proof with no network: signature, quorum, inclusion of exactly the entry's bytes."""
    policy, path = read_policy(arguments), Path(arguments.file)
    try:
        entry = Path(arguments.entry) if arguments.entry else path.with_suffix(".entry.json")
        if arguments.keys is not None:
            policy = follow_file(policy, arguments.keys).dated(_date(read_file(entry, MAX_ENTRY)))
        proven = prove_entry(path, entry, policy)
    except Unreadable as unreadable:
        raise Failure(Exit.USAGE, str(unreadable)) from None
    except Refused as refused:
        raise Failure(Exit.DENIED, str(refused)) from None
    if arguments.output == "json":
        print_json({"verified": True, **asdict(proven)})
    else:
        said = f"entry {proven.index} ({proven.kind}) is in the tree of {proven.size} entries signed by {proven.origin}"
        print(f"verified: {said}; no server was asked")
    return Exit.OK


def checkpoint(server: Server, arguments: Namespace) -> Exit:
    """Fetch and verify the newest checkpoint; keep it: only an older checkpoint shows a cut tail."""
    policy = _served_keys(server, arguments).now
    note, opened = _newest(server, policy)
    if arguments.out:
        Path(arguments.out).write_bytes(note)
        say(f"wrote {arguments.out}: {opened.size} entries")
    else:
        sys.stdout.write(note.decode())
    return Exit.OK


def show_keys(server: Server, arguments: Namespace) -> Exit:
    """See `logkeys.keys`."""
    return keys(server, arguments, read_policy(arguments))


def _served_keys(server: Server, arguments: Namespace) -> LogKeys:
    return follow_keys(read_policy(arguments), served_log(server).keys())


def _date(entry: bytes) -> Moment:
    """The date that an entry bears; whether it stands in the log is not known yet."""
    try:
        return parse_entry(entry).at
    except TlogError as error:
        raise Failure(Exit.DENIED, f"NOT verified: the file is no entry of this format: {error}") from None


def _verified(data: bytes, entry: bytes, policy: LogPolicy) -> tuple[int, int]:
    try:
        verified = verify_proof(parse_proof(data), entry, policy)
    except TlogError as error:
        raise Failure(Exit.DENIED, f"NOT verified: {error}") from None
    return verified.index, verified.checkpoint.size


def _entry(server: Server, policy: LogPolicy, index: int) -> bytes:
    size = _newest(server, policy)[1].size
    if not 0 <= index < size:
        raise Failure(Exit.REMOTE, f"the published log has {size} entries; {index} is none of them yet")
    n = index // 256
    width = min(256, size - n * 256)
    try:
        entries = parse_bundle(server.get_bytes("/log/" + TileAddress(None, n, width).path))
    except TlogError as error:
        raise Failure(Exit.DENIED, f"the server's entries are no bundle: {error}") from None
    if index % 256 >= len(entries):
        raise Failure(Exit.DENIED, f"the server keeps back entry {index}, which its own checkpoint covers")
    return entries[index % 256]


def _newest(server: Server, policy: LogPolicy) -> tuple[bytes, VerifiedCheckpoint]:
    note = server.get_bytes("/log/checkpoint")
    try:
        return note, open_cosigned(note, policy)
    except TlogError as error:
        raise Failure(Exit.DENIED, f"the checkpoint does not verify: {error}") from None
