"""A span of time in which an authority is trusted, as sigstore's trusted root writes it (`TimeRange` of protobuf-specs)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from gatekeeper.model.fields import Fields

_TIMESTAMP = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?Z", re.ASCII)


@dataclass(frozen=True)
class Window:
    """A closed interval: both ends are inside. Without `end` it is open to the future; without a start there is no window."""

    start: datetime
    end: datetime | None

    def holds(self, moment: datetime) -> bool:
        """Whether the moment lies inside, both ends included."""
        return self.start <= moment and (self.end is None or moment <= self.end)


def read_window(fields: Fields) -> Window:
    """Read a ``validFor``; a missing start is an error and never "since always". Raises `FieldError`."""
    window = Window(_read_time(fields, "start"), fields.optional("end", lambda key: _read_time(fields, key)))
    fields.done()
    if window.end is not None and window.end < window.start:
        raise fields.error("end", "lies before start")
    return window


def _read_time(fields: Fields, key: str) -> datetime:
    match = _TIMESTAMP.fullmatch(fields.text(key))
    if match is None:
        raise fields.error(key, "must be a UTC time such as 2026-11-21T10:04:05.000Z")
    try:
        whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        raise fields.error(key, "is not a date and time of the calendar") from None
    return whole.replace(microsecond=int((match[2] or "0").ljust(6, "0")[:6]))
