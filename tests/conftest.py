"""What holds for every test: trio, no PINGEE_* environment, no sockets where tests are pure, and an honest closing report."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.requirement_ids import REQUIREMENTS, read_table

_TESTS = Path(__file__).parent
_PURE = (_TESTS / "unit", _TESTS / "property")
_FOREIGN_DATA = "PINGEE_CORPORA"

_peers_left_out: list[str] = []


def pytest_configure() -> None:
    # Whoever runs the tests may have a demo's env.sh loaded; no test may reach that server. Where the public test data lies is no such thing.
    for name in [name for name in os.environ if name.startswith("PINGEE_") and name != _FOREIGN_DATA]:
        del os.environ[name]


def pytest_deselected(items: list[pytest.Item]) -> None:
    _peers_left_out.extend(item.nodeid for item in items if item.get_closest_marker("peer") is not None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write = terminalreporter.write_line
    table = read_table(REQUIREMENTS)
    write(table.summary())
    if table.later():
        write("later: " + " ".join(table.later()))
    if _peers_left_out:
        write(f"{len(_peers_left_out)} peer tests not run: make test-peers")


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


@pytest.fixture(autouse=True)
def _sockets_off(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit and property tests reach nobody. pytest.fail is no Exception, so that no `except Exception` on the way swallows it."""
    if not any(request.node.path.is_relative_to(room) for room in _PURE):
        return

    def refuse(*_args: object, **_kwargs: object) -> None:
        pytest.fail("a unit or property test opened a connection; use a fake, or move the test to tests/integration")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
