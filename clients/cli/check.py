"""What the doctor found, one thing each; and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from .exits import Exit
from .output import safe


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `ok` None: it cannot be told; `code` then says why, and `sentence` what would have to be there."""

    name: str
    ok: bool | None
    code: str
    sentence: str
    remedy: str | None = None


def well(name: str, code: str, sentence: str) -> Check:
    """It is as it should be."""
    return Check(name, True, code, sentence)


def wrong(name: str, code: str, sentence: str, remedy: str) -> Check:
    """It is not, and this is what to do."""
    return Check(name, False, code, sentence, remedy)


def untold(name: str, sentence: str, remedy: str | None = None) -> Check:
    """It could be known only through something that is away."""
    return Check(name, None, "cannot-tell", sentence, remedy or None)


def verdict(checks: tuple[Check, ...]) -> Exit:
    """The exit code of what was found."""
    if any(check.ok is False for check in checks):
        return Exit.DENIED
    return Exit.INDETERMINATE if any(check.ok is None for check in checks) else Exit.OK


def document(checks: tuple[Check, ...]) -> dict[str, object]:
    """What `-o json` prints."""
    items = [{"name": c.name, "ok": c.ok, "code": c.code, "sentence": c.sentence, "remedy": c.remedy} for c in checks]
    return {"apiVersion": "pingee/v1", "kind": "Doctor", "ok": verdict(checks) is Exit.OK, "checks": items}


def render(checks: tuple[Check, ...], *, verbose: bool = False) -> str:
    """For a person: what is wrong first, each with its remedy; what is well in one line, or line by line."""
    wrong, untold = [c for c in checks if c.ok is False], [c for c in checks if c.ok is None]
    well = [c for c in checks if c.ok]
    lines = [f"WRONG        {safe(c.name)}: {safe(c.sentence)}\n             do: {safe(c.remedy)}" for c in wrong]
    lines += [f"cannot tell  {safe(c.name)}: {safe(c.sentence)}" + (f"\n             do: {safe(c.remedy)}" if c.remedy else "") for c in untold]
    if verbose:
        lines += [f"ok           {safe(c.name)}: {safe(c.sentence)}" for c in well]
    lines.append(f"{len(wrong)} wrong, {len(untold)} cannot be told, {len(well)} well" + (": " + ", ".join(c.name for c in well) if well else ""))
    return "\n".join(lines)


def utc(moment: datetime) -> str:
    """A time for people."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
