"""`pingee audit leases`: hold the vault's own audit file against the deploy log."""

from __future__ import annotations

import json
import re
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from gatekeeper.model.moment import moment, render_moment
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.fsck import fsck
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.tlog.tile import TILE_WIDTH, TileAddress, parse_bundle

from .exits import Exit, Failure
from .leases import Allowed, Finding, Held, LogFacts, hold, in_order
from .logsource import LogSource, StoredLog, newest, open_source, trusted
from .output import print_json, safe
from .server import Access
from .vaultfile import MAX_LINE, AuditFile, TooMuch, read_audit

FALSIFIABLE: Final = (
    "whoever owns the vault can falsify its audit file: this tells what the gatekeeper's logins were given, not what the vault's owner did"
)
_INSTANCE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_MAX_SHOWN: Final = 1000


def leases(arguments: Namespace, access: Access) -> Exit:
    """Exit 3 where a credential was given without an Allow, 7 where it cannot be told of one, 0 where each was decided on."""
    if _INSTANCE.fullmatch(arguments.instance) is None:
        raise Failure(Exit.USAGE, f"{arguments.instance} is no instance's name: lowercase letters, digits and dashes, at most 32")
    if arguments.log is not None and not Path(arguments.log).is_dir():
        raise Failure(Exit.USAGE, f"{arguments.log} is not a directory")
    # The file first: what it shows was decided on before, so a log that is read after it has the Allow.
    file = _read_files([Path(name) for name in arguments.vault_audit], arguments.instance)
    with open_source(arguments.log, access) as source:
        log = _read_log(trusted(arguments, source).now, source)
        held = hold(file, log, log_ends=isinstance(source, StoredLog))
    if file.certificates and all(c.serial is None for c in file.certificates):
        why = "every certificate in the file is hashed: have the vault show them, as the bootstrap does (audit_non_hmac_response_keys)"
        raise Failure(Exit.USAGE, why)
    if arguments.output == "table":
        _print(file, log, held)
    elif arguments.output == "json":
        print_json(_document(file, log, held))
    else:
        _print_lines(file, log, held)
    return Exit.DENIED if held.alarms else Exit.INDETERMINATE if held.doubts else Exit.OK


def _read_files(paths: list[Path], instance: str) -> AuditFile:
    found = AuditFile()
    for path in paths:
        try:
            with path.open("rb") as file:
                read_audit(found, str(path), bounded_lines(file), instance)
        except OSError as error:
            raise Failure(Exit.USAGE, f"{path} cannot be read: {error.strerror}") from None
        except TooMuch as error:
            raise Failure(Exit.USAGE, f"{path}: {error}") from None
    if found.first is None:
        raise Failure(Exit.USAGE, f"no line of {', '.join(map(str, paths))} is one of a vault's audit file")
    return found


def bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than `MAX_LINE` only the beginning, one byte more than that."""
    while line := file.readline(MAX_LINE + 1):
        rest = line
        while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE + 1)
        yield line


def _read_log(policy: LogPolicy, source: LogSource) -> LogFacts:
    """Every entry of the log, rehashed against its cosigned checkpoint; nothing is believed before the last."""
    facts = LogFacts()
    checkpoint = newest(source, policy)

    def fetch(address: TileAddress) -> bytes | None:
        data = source.fetch(address)
        if address.level is None and data is not None:
            _keep(facts, address.n * TILE_WIDTH, data, checkpoint.size)
        return data

    report = fsck(checkpoint, fetch)
    if report.fault is not None:
        raise Failure(Exit.DENIED, f"the log is not as signed, so nothing can be held against it: entry {report.fault.first}: {report.fault.detail}")
    return facts


def _keep(facts: LogFacts, first: int, bundle: bytes, size: int) -> None:
    try:
        for at, entry in enumerate(parse_bundle(bundle)):
            if first + at < size:
                facts.add(first + at, parse_entry(entry))
    except TlogError:
        return  # the check that asked for the bundle says so in its own words


def _print(file: AuditFile, log: LogFacts, held: Held) -> None:
    for word, findings in (("ALARM", held.alarms), ("cannot tell", held.doubts), ("note", held.notes)):
        for finding in list(in_order(findings))[:_MAX_SHOWN]:
            print(f"{word}: {finding.what}: {_where(finding)}{safe(finding.sentence)}")
        if len(findings) > _MAX_SHOWN:
            print(f"{word}: {len(findings) - _MAX_SHOWN} more; -o json has them all")
    for allow in held.open:
        print(f"open: Allow {allow.index} for {safe(allow.environment)}/{safe(allow.component)} has no outcome; it {_ends(allow, log)}")
    for name, value in _counts(file, log, held).items():
        print(f"{name}: {value}")
    print(FALSIFIABLE)
    if not held.alarms:
        told = "every certificate and deploy token in the file was decided on in the log before it was given"
        print(f"no alarm: {'of those that can be told ' if held.doubts else ''}{told}")


def _print_lines(file: AuditFile, log: LogFacts, held: Held) -> None:
    def line(document: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(document, sort_keys=True) + "\n")

    line({"kind": "Stream", "apiVersion": "pingee/v1"})
    for word, findings in (("alarm", held.alarms), ("cannot-tell", held.doubts), ("note", held.notes)):
        for finding in in_order(findings):
            line({"kind": word, **_finding(finding)})
    for allow in held.open:
        line({"kind": "open-allow", **_allow(allow)})
    line({"kind": "summary", **_counts(file, log, held), "falsifiable": FALSIFIABLE})


def _document(file: AuditFile, log: LogFacts, held: Held) -> dict[str, object]:
    return {
        "apiVersion": "pingee/v1",
        "kind": "LeaseAudit",
        "origin": log.origin,
        "alarms": [_finding(f) for f in in_order(held.alarms)],
        "cannot_tell": [_finding(f) for f in in_order(held.doubts)],
        "notes": [_finding(f) for f in in_order(held.notes)],
        "open_allows": [_allow(allow) for allow in held.open],
        "counts": _counts(file, log, held),
        "falsifiable": FALSIFIABLE,
    }


def _counts(file: AuditFile, log: LogFacts, held: Held) -> dict[str, object]:
    assert file.first is not None  # noqa: S101 -- a file without a readable line was refused
    assert file.last is not None  # noqa: S101 -- as above
    return {
        "log_entries": log.size,
        "file_lines": file.lines,
        "file_begins": _text(file.first.at.isoformat()),
        "file_ends": _text(file.last.at.isoformat()),
        "lines_cut": len(file.cut),
        "lines_unreadable": len(file.unreadable),
        "certificates": len(file.certificates),
        "certificates_decided_on": held.matched,
        "status_certificates": dict(sorted(held.status.items())),
        "deploy_tokens": len(file.tokens),
        "deploy_tokens_unused": held.unused_tokens,
        "settings_read_by_deploys": sum(read.deploys for read in file.reads),
        "settings_read_by_others": dict(sorted(held.reads.items())),
        "alarms": len(held.alarms),
        "cannot_tell": len(held.doubts),
    }


def _finding(finding: Finding) -> dict[str, object]:
    place = finding.place
    return {
        "what": finding.what.value,
        "sentence": finding.sentence,
        "file": None if place is None else place.file,
        "line": None if place is None else place.line,
        "time": None if place is None else _text(place.at.isoformat()),
        "serial": None if finding.serial is None else f"{finding.serial:x}",
        "allow": finding.allow,
    }


def _allow(allow: Allowed) -> dict[str, object]:
    return {
        "index": allow.index,
        "environment": allow.environment,
        "component": allow.component,
        "targets": list(allow.targets),
        "at": render_moment(moment(allow.at)),
        "not_after": render_moment(moment(allow.not_after)),
    }


def _where(finding: Finding) -> str:
    place = finding.place
    return "" if place is None else f"{safe(place.file)}:{place.line}: {_text(place.at.isoformat(timespec='seconds'))}: "


def _ends(allow: Allowed, log: LogFacts) -> str:
    ended = log.last is not None and log.last > allow.not_after
    return f"{'ended' if ended else 'ends'} at {render_moment(moment(allow.not_after))}"


def _text(stamp: str) -> str:
    return stamp.replace("+00:00", "Z")
