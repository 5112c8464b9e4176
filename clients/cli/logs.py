"""`pingee log proof verify fsck tail`: check the deploy log with nothing but its policy file."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from gatekeeper.tlog.checkpoint import VerifiedCheckpoint
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.fsck import FsckReport, fsck
from gatekeeper.tlog.logpolicy import LogPolicy, open_cosigned, parse_log_policy
from gatekeeper.tlog.proof import parse_proof, verify_proof
from gatekeeper.tlog.tile import TileAddress, parse_bundle

from .exits import Exit, Failure
from .output import print_json, print_pairs, safe, say
from .server import Server

ANSWER_LIMIT = 64 * 1024 * 1024


def proof(server: Server, arguments: Namespace) -> Exit:
    """Fetch the proof and the entry of one index, check both, and write them beside each other."""
    policy = _policy(arguments)
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
    policy = _policy(arguments)
    path = Path(arguments.file)
    entry_path = Path(arguments.entry) if arguments.entry else path.with_suffix(".entry.json")
    try:
        data, entry = path.read_bytes(), entry_path.read_bytes()
    except OSError as error:
        raise Failure(Exit.USAGE, f"{error.filename} cannot be read: {error.strerror}") from None
    index, size = _verified(data, entry, policy)
    try:
        kind = type(parse_entry(entry)).__name__
    except TlogError as error:
        raise Failure(Exit.DENIED, f"entry {index} is in the log and is no entry of this format: {error}") from None
    document = {"verified": True, "index": index, "size": size, "origin": policy.log.name, "kind": kind}
    if arguments.output == "json":
        print_json(document)
    else:
        print(f"verified: entry {index} ({kind}) is in the tree of {size} entries signed by {policy.log.name}; no server was asked")
    return Exit.OK


def check(arguments: Namespace, server: Server | None) -> Exit:
    """Rehash every entry and tile of a served log or of a directory with the same layout."""
    policy = _policy(arguments)
    source = Path(arguments.source) if arguments.source and not arguments.source.startswith("https://") else None
    if source is not None and not source.is_dir():
        raise Failure(Exit.USAGE, f"{source} is neither a directory nor an https:// URL")
    try:
        note = _read(source, "checkpoint", server)
        if note is None:
            raise Failure(Exit.REMOTE if source is None else Exit.USAGE, "the log has no checkpoint")
        report = fsck(open_cosigned(note, policy), lambda address: _read(source, _path(address), server), older=_older(arguments, policy))
    except TlogError as error:
        raise Failure(Exit.DENIED, f"the checkpoint does not verify: {error}") from None
    return print_report(report, arguments.output)


def print_report(report: FsckReport, output: str) -> Exit:
    """The result of a check; exit 3 where a fault was found."""
    fault = report.fault
    if output == "json":
        found = None if fault is None else {"fault": fault.fault.value, "first": fault.first, "end": fault.end, "detail": fault.detail}
        print_json({"origin": report.origin, "size": report.size, "sound": report.sound, "tail": report.tail.value, "fault": found})
    else:
        print_pairs({"origin": report.origin, "entries": report.size, **{f"  {kind}": n for kind, n in sorted(report.kinds.items())}})
        print(f"cut tail   {report.tail.value}")
        if fault is None:
            print("sound: every entry and tile below the signed checkpoint is as signed")
        else:
            place = f"entry {fault.first}" if fault.end == fault.first + 1 else f"entries {fault.first} to {fault.end - 1}"
            print(f"NOT SOUND: {place}: {fault.fault.value}: {safe(fault.detail)}")
    return Exit.OK if report.sound else Exit.DENIED


def checkpoint(server: Server, arguments: Namespace) -> Exit:
    """Fetch and verify the newest checkpoint; keep it: only an older checkpoint shows a cut tail."""
    policy = _policy(arguments)
    note, opened = _newest(server, policy)
    if arguments.out:
        Path(arguments.out).write_bytes(note)
        say(f"wrote {arguments.out}: {opened.size} entries")
    else:
        sys.stdout.write(note.decode())
    return Exit.OK


def tail(server: Server, arguments: Namespace) -> Exit:
    """The newest entries, each checked against the checkpoint by its own proof."""
    policy = _policy(arguments)
    _, opened = _newest(server, policy)
    for index in range(max(0, opened.size - max(0, arguments.n)), opened.size):
        entry = _entry(server, policy, index)
        _verified(server.get_bytes(f"/log/proof/{index}"), entry, policy)
        print(f"{index}\t{safe(entry.decode('utf-8', 'backslashreplace'))}")
    return Exit.OK


def _policy(arguments: Namespace) -> LogPolicy:
    if arguments.log_policy is None:
        raise Failure(Exit.USAGE, "no log policy: give --log-policy FILE or set PINGEE_LOG_POLICY; it must come from somebody you trust")
    try:
        return parse_log_policy(Path(arguments.log_policy).read_bytes())
    except OSError as error:
        raise Failure(Exit.USAGE, f"{arguments.log_policy} cannot be read: {error.strerror}") from None
    except TlogError as error:
        raise Failure(Exit.USAGE, f"{arguments.log_policy}: {error}") from None


def _older(arguments: Namespace, policy: LogPolicy) -> VerifiedCheckpoint | None:
    if arguments.since is None:
        return None
    try:
        return open_cosigned(Path(arguments.since).read_bytes(), policy)
    except OSError as error:
        raise Failure(Exit.USAGE, f"{arguments.since} cannot be read: {error.strerror}") from None


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
        entries = parse_bundle(server.get_bytes("/log/" + _path(TileAddress(None, n, width))))
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


def _path(address: TileAddress) -> str:
    return address.path


def _read(directory: Path | None, path: str, server: Server | None) -> bytes | None:
    if directory is not None:
        file = directory / path
        return file.read_bytes() if file.is_file() and file.stat().st_size <= ANSWER_LIMIT else None
    if server is None:
        raise Failure(Exit.USAGE, "no server named: give --server URL, set PINGEE_SERVER, or name a directory")
    try:
        return server.get_bytes(f"/log/{path}")
    except Failure as failure:
        if failure.problem is not None and failure.problem.get("status") == 404:
            return None
        raise
