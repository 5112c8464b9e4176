"""A real PostgreSQL for tests: one server for the session, one fresh migrated database for each test, copied from a template.

tests/conftest.py has its fixtures, and nobody else imports them: a session's fixture is one for each module that imports it, and so would the server be.
"""

import os
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest
import trio

from clients.demo.postgres import EmbeddedPostgres
from gatekeeper.postgres import migrate

MEMORY = Path("/dev/shm")
ROOM = 2 << 30
"""bytes that two workers' servers need at most: their write-ahead logs, and one small database at a time"""
BOUNDED = ("max_wal_size=256MB",)


def room_for_a_server():
    """Where a server's files lie: in memory where there is room for them, for a database is 300 files, and each test makes and drops one.

    `fsync` is on as ever, and what it promises is kept against all that a test does: processes are killed here, no machine loses its power.
    """
    try:
        return MEMORY if shutil.disk_usage(MEMORY).free > ROOM and os.access(MEMORY, os.W_OK) else None
    except OSError:
        return None


class Server:
    """The session's server; `fresh()` makes a migrated database that `drop` removes."""

    def __init__(self, postgres):
        self.postgres = postgres
        self._template = f"template_{secrets.token_hex(4)}"
        trio.run(migrate, postgres.create_database(self._template))

    def fresh(self):
        name = f"t_{secrets.token_hex(6)}"
        return name, self.postgres.create_database(name, template=self._template)

    def drop(self, name):
        self.postgres.drop_database(name)


@pytest.fixture(scope="session")
def postgres_server():
    """PostgreSQL of the wheel, or the binaries in POSTGRES_BINARIES (a directory)."""
    directory = Path(tempfile.mkdtemp(prefix="pingee-pg-test-", dir=room_for_a_server()))
    binaries = os.environ.get("POSTGRES_BINARIES")
    try:
        with EmbeddedPostgres(directory / "server", Path(binaries) if binaries else None, settings=BOUNDED) as postgres:
            yield Server(postgres)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def database_url(postgres_server):
    """The URL of a fresh, migrated database."""
    name, url = postgres_server.fresh()
    yield url
    postgres_server.drop(name)
