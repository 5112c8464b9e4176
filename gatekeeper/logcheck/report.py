"""The report of a check, for programs and for people. The same words in every program that checks a log."""

from __future__ import annotations

from gatekeeper.tlog.fsck import FsckReport, LogFault


def document(report: FsckReport) -> dict[str, object]:
    """As a JSON object."""
    fault = report.fault
    found = None if fault is None else {"fault": fault.fault.value, "first": fault.first, "end": fault.end, "detail": fault.detail}
    return {
        "origin": report.origin,
        "size": report.size,
        "sound": report.sound,
        "tail": report.tail.value,
        "fault": found,
        "kinds": dict(report.kinds),
    }


def lines(report: FsckReport, *, also: tuple[str, ...] = ()) -> list[str]:
    """As lines; `also` stand before the verdict. A detail may hold a server's words: whoever prints them escapes them."""
    width = max([len("cut tail"), *(2 + len(kind) for kind in report.kinds)]) + 2
    told = [f"{'origin'.ljust(width)}{report.origin}", f"{'entries'.ljust(width)}{report.size}"]
    told += [f"  {kind.ljust(width - 2)}{count}" for kind, count in sorted(report.kinds.items())]
    told += [f"{'cut tail'.ljust(width)}{report.tail.value}", *also]
    if report.fault is None:
        return [*told, "sound: every entry and tile below the signed checkpoint is as signed"]
    return [*told, f"NOT SOUND: {place(report.fault)}: {report.fault.fault.value}: {report.fault.detail}"]


def place(fault: LogFault) -> str:
    """Where a fault lies."""
    if fault.end <= fault.first:
        return "the checkpoint"
    return f"entry {fault.first}" if fault.end == fault.first + 1 else f"entries {fault.first} to {fault.end - 1}"
