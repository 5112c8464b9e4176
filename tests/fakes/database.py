"""A real PostgreSQL for tests: one server for the session, one fresh migrated database for each test, copied from a template.

Use it with `pytest_plugins`-free imports in a conftest: `from tests.fakes.database import database_url, postgres_server  # noqa: F401`.
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
    directory = Path(tempfile.mkdtemp(prefix="pingee-pg-test-"))
    binaries = os.environ.get("POSTGRES_BINARIES")
    try:
        with EmbeddedPostgres(directory / "server", Path(binaries) if binaries else None) as postgres:
            yield Server(postgres)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def database_url(postgres_server):
    """The URL of a fresh, migrated database."""
    name, url = postgres_server.fresh()
    yield url
    postgres_server.drop(name)
