"""What a witness remembers, in SQLite: one row for each log, moved by compare-and-set and on the disk before anybody hears of it.

Several processes may share one file. WAL with `synchronous=FULL` syncs the log at every commit (sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatekeeper.tlog.checkpoint import Checkpoint
from gatekeeper.tlog.signature import VerifierKey, encode_vkey, parse_vkey

BUSY_S: Final = 2.0
"""How long a change waits for another process's."""
PAST: Final = 4096
"""Cosigned notes that are kept of each log: another root at one of their sizes is a split view, with both notes to show."""

_SCHEMA: Final = """
create table if not exists log_key (vkey text primary key, origin text not null);
create table if not exists cosigned (
    origin text not null, size integer not null, root blob not null, at integer not null, note blob not null, primary key (origin, size)
);
create table if not exists stopped (origin text primary key, why text not null, at integer not null, remembered blob, shown blob not null);
"""


@dataclass(frozen=True)
class Cosigned:
    """A checkpoint that was cosigned: when (POSIX seconds), and the note with our line."""

    checkpoint: Checkpoint
    at: int
    note: bytes


@dataclass(frozen=True)
class Stop:
    """Why a log is cosigned no more, since when, and the notes that contradict each other; `remembered` is None where ours is not there any more."""

    why: str
    at: int
    remembered: bytes | None
    shown: bytes


@dataclass(frozen=True)
class Known:
    """All about one log. `newest` is None before the first contact."""

    origin: str
    keys: tuple[VerifierKey, ...]
    newest: Cosigned | None
    stop: Stop | None


class Store:
    """One connection; used by one thread at a time. Every method raises `sqlite3.Error` where the file cannot be read or written."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction that no other process can come between; durable when the block has ended, undone where it raised."""
        self._db.execute("begin immediate")
        try:
            yield
            self._db.execute("commit")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise

    def trust(self, key: VerifierKey) -> bool:
        """Witness the log of that key; False where it was done already. Another key of one origin is a further one."""
        return self._db.execute("insert or ignore into log_key values (?, ?)", (encode_vkey(key), key.name)).rowcount == 1

    def origins(self) -> tuple[str, ...]:
        """Every log that is witnessed."""
        return tuple(row[0] for row in self._db.execute("select distinct origin from log_key order by origin"))

    def known(self, origin: str) -> Known:
        """Without keys where the log is none of ours."""
        keys = self._db.execute("select vkey from log_key where origin = ? order by vkey", (origin,)).fetchall()
        stop = self._db.execute("select why, at, remembered, shown from stopped where origin = ?", (origin,)).fetchone()
        newest = self._one("select size, root, at, note from cosigned where origin = ? order by size desc limit 1", origin)
        return Known(origin, tuple(parse_vkey(row[0]) for row in keys), newest, None if stop is None else Stop(*stop))

    def cosigned_at(self, origin: str, size: int) -> Cosigned | None:
        """What was cosigned at that size, as long as it is kept."""
        return self._one("select size, root, at, note from cosigned where origin = ? and size = ?", origin, size)

    def remember(self, new: Cosigned) -> None:
        """Move the log's row to a new checkpoint. Within `change` only, after the old one was compared."""
        cp = new.checkpoint
        self._db.execute("insert or replace into cosigned values (?, ?, ?, ?, ?)", (cp.origin, cp.size, cp.root, new.at, new.note))
        oldest = "select size from cosigned where origin = ? order by size desc limit 1 offset ?"
        self._db.execute(f"delete from cosigned where origin = ? and size <= ({oldest})", (cp.origin, cp.origin, PAST))  # noqa: S608 -- both are ours

    def stop(self, origin: str, stop: Stop) -> None:
        """Cosign this log no more. Nothing takes it back: a witness that was contradicted is replaced by people, under a new key."""
        self._db.execute("insert or ignore into stopped values (?, ?, ?, ?, ?)", (origin, stop.why, stop.at, stop.remembered, stop.shown))

    def _one(self, query: str, origin: str, *more: int) -> Cosigned | None:
        row = self._db.execute(query, (origin, *more)).fetchone()
        return None if row is None else Cosigned(Checkpoint(origin, row[0], row[1]), row[2], row[3])
