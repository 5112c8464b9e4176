"""What a log monitor remembers, in a directory of its own: the last note that it verified, and the two notes of every contradiction.

    state.json                 0600  the last verified note and the times of the first and the last look
    contradiction-TIME/        0755  held.note and shown.note, both signed by the log, and why.txt

One file holds the state, so that it is replaced whole or not at all. A state that is not there, or not as we wrote it, is an error: a fresh
start forgets what the log once showed, and only a person may decide that.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.moment import Moment, render_moment
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.tlog.checkpoint import VerifiedCheckpoint, open_checkpoint
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.note import MAX_NOTE
from gatekeeper.tlog.signature import VerifierKey

from .exits import Exit, Failure

MAX_STATE: Final = 2 * MAX_NOTE


@dataclass(frozen=True)
class Seen:
    """The state. Times are of the monitor's own clock, RFC 3339."""

    note: str
    first_look: str
    last_look: str


class MonitorState:
    """One monitor's directory. Made by `open_state`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "state.json"

    def read(self) -> Seen | None:
        """What is remembered, or None where nothing was written yet."""
        try:
            with self._file.open("rb") as file:
                data = file.read(MAX_STATE + 1)
        except FileNotFoundError:
            return None
        try:
            fields = Fields(parse_object(data, max_bytes=MAX_STATE))
            fields.integer("v", minimum=1, maximum=1)
            seen = Seen(_note(fields), render_moment(fields.moment("first_look")), render_moment(fields.moment("last_look")))
            fields.done()
        except (MalformedJson, FieldError) as error:
            raise self.spoilt(str(error)) from None
        return seen

    def opened(self, seen: Seen, *keys: VerifierKey) -> VerifiedCheckpoint:
        """The remembered note, verified again: the file might be another's."""
        try:
            return open_checkpoint(seen.note.encode("utf-8"), *keys)
        except TlogError as error:
            raise self.spoilt(f"its note does not verify: {error}") from None

    def spoilt(self, why: str) -> Failure:
        """Why the state cannot be used, and what to do."""
        return Failure(
            Exit.USAGE,
            f"{self._file} cannot be used: {why}. Restore a copy; or, to forget what the log showed before, move it away and give --first-look",
        )

    def write(self, seen: Seen) -> None:
        """Replace the state; durable on return."""
        beside = self._file.with_name(".state.new")
        data = json.dumps({"v": 1, **asdict(seen)}, indent=1, sort_keys=True).encode("utf-8") + b"\n"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        beside.rename(self._file)
        self._sync(self._directory)

    def contradictions(self) -> list[Path]:
        """Those that were kept and that nobody has moved away."""
        return sorted(self._directory.glob("contradiction-*"))

    def keep(self, held: bytes, shown: bytes, why: str, now: Moment) -> Path:
        """Keep both notes; durable on return."""
        name = "contradiction-" + render_moment(now).replace(":", "")
        place = self._directory / name
        place.mkdir(exist_ok=True)
        place.chmod(0o755)
        for file_name, data in (("held.note", held), ("shown.note", shown), ("why.txt", why.encode("utf-8") + b"\n")):
            with (place / file_name).open("wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        self._sync(place)
        self._sync(self._directory)
        return place

    def _sync(self, directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def open_state(directory: Path) -> Iterator[MonitorState]:
    """The directory, made 0700 where it is not there; one monitor at a time."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(Exit.USAGE, f"another monitor is at work in {directory}") from None
        yield MonitorState(directory)
    finally:
        os.close(descriptor)


def _note(fields: Fields) -> str:
    value = fields.raw("note")
    if not isinstance(value, str):
        raise fields.error("note", "must be a string")
    return value
