"""Bring the schema up to date: numbered files, each in its own transaction, under one advisory lock; applying them again changes nothing.

`NNNN_pre_name.sql` runs before new code starts and must suit the code before it as well, so replicas can be replaced one by one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import trio

from gatekeeper.crossing import open_loop_thread
from gatekeeper.ports.errors import PortError

from .bridge import CLOSE_S, connect, translated
from .queries import load_queries

DIRECTORY: Final = Path(__file__).parent / "migrations"

_Q = load_queries("schema")


class SchemaMismatch(PortError):
    """A migration that was applied is not the one we ship: this database is not ours, or a file was edited after its release."""


async def migrate(url: str) -> tuple[str, ...]:
    """Apply what is missing; the names of what was applied.

    Raises `Unavailable` and `SchemaMismatch`; a failed migration leaves the schema as it was before it.

    A database that knows later migrations than ours is served: those were made to suit us.
    """
    async with open_loop_thread("pingee-migrate") as loop:
        with translated():
            connection = await loop.run(connect, url)
        try:
            with translated():
                return await loop.run(_migrate, connection)
        finally:
            with trio.CancelScope(shield=True):
                await loop.run(_close, connection)


def shipped_migrations() -> tuple[str, ...]:
    """The names of the migrations of this version, in order."""
    return tuple(path.stem for path in _files())


def _files() -> list[Path]:
    return sorted(DIRECTORY.glob("[0-9][0-9][0-9][0-9]_pre_*.sql"))


async def _migrate(connection: Any) -> tuple[str, ...]:
    # Two replicas start at once: the second waits here and then finds everything done. The lock ends with the connection.
    await connection.execute(_Q["lock"].sql, timeout=120.0)
    await connection.execute(_Q["create_history"].sql)
    applied = {row["name"]: row["sha256"] for row in await connection.fetch(_Q["history"].sql)}
    done = []
    for path in _files():
        text = path.read_text("utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        if path.stem not in applied:
            async with connection.transaction():
                await connection.execute(text)
                await connection.execute(_Q["record"].sql, *_Q["record"].bind({"name": path.stem, "sha256": digest}))
            done.append(path.stem)
        elif applied[path.stem] != digest:
            raise SchemaMismatch("schema-mismatch", f"migration {path.stem} was applied with other bytes")
    return tuple(done)


async def _close(connection: Any) -> None:
    try:
        await connection.close(timeout=CLOSE_S)
    except Exception:  # noqa: BLE001 -- closing a connection that is lost already; what mattered was committed or raised before
        connection.terminate()
