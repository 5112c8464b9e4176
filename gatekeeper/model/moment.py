"""Points in time as our documents write them: RFC 3339, UTC, whole seconds, ``Z``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NewType

Moment = NewType("Moment", datetime)
"""An aware UTC datetime with whole seconds."""

_FORM = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)


class MalformedMoment(ValueError):
    """Not RFC 3339 UTC with whole seconds and ``Z``."""


def moment(value: datetime) -> Moment:
    """Cut an aware datetime to whole seconds of UTC."""
    if value.tzinfo is None:
        raise MalformedMoment("a time without a zone")
    return Moment(value.astimezone(UTC).replace(microsecond=0))


def parse_moment(text: object) -> Moment:
    """Read `2026-11-21T10:04:05Z`; any other spelling raises `MalformedMoment`."""
    if not isinstance(text, str) or _FORM.fullmatch(text) is None:
        raise MalformedMoment("must be a time such as 2026-11-21T10:04:05Z")
    try:
        # Not strptime, which takes ten times as long: a log holds a million of them.
        day = int(text[:4]), int(text[5:7]), int(text[8:10])
        return Moment(datetime(*day, int(text[11:13]), int(text[14:16]), int(text[17:19]), tzinfo=UTC))
    except ValueError as error:
        raise MalformedMoment("is not a date and time of the calendar") from error


def render_moment(value: Moment) -> str:
    """Write it the one way `parse_moment` reads."""
    # not strftime: its %Y writes the year 999 with three digits
    return value.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def later(value: Moment, *, seconds: int) -> Moment:
    """The moment so many seconds later."""
    return Moment(value + timedelta(seconds=seconds))
