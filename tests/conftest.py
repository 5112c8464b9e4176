"""What holds for every test: trio, no PINGEE_* environment, no sockets where tests are pure, and an honest closing report."""

from __future__ import annotations

import inspect
import os
import socket
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, settings

from tests.fakes.database import database_url, postgres_server  # noqa: F401
from tests.requirement_ids import ATTACKS, REQUIREMENTS, read_attacks, read_table

_TESTS = Path(__file__).parent
_PURE = (_TESTS / "unit", _TESTS / "property")
_FOREIGN_DATA = "PINGEE_CORPORA"

_peers_left_out: list[str] = []

# No test judges by the clock, and a busy machine is slow at drawing examples too.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def pytest_configure() -> None:
    # Whoever runs the tests may have a demo's env.sh loaded; no test may reach that server. Where the public test data lies is no such thing.
    for name in [name for name in os.environ if name.startswith("PINGEE_") and name != _FOREIGN_DATA]:
        del os.environ[name]


def pytest_deselected(items: list[pytest.Item]) -> None:
    peers = [item.nodeid for item in items if item.get_closest_marker("peer") is not None]
    _peers_left_out.extend(peers)
    if peers and hasattr(items[0].config, "workeroutput"):
        items[0].config.workeroutput["peers"] = peers


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """With several workers each leaves out the same tests; the closing line is written by whoever started them."""
    _peers_left_out[:] = getattr(node, "workeroutput", {}).get("peers", []) or _peers_left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write = terminalreporter.write_line
    table = read_table(REQUIREMENTS)
    write(table.summary())
    write(read_attacks(ATTACKS, table.resolved).summary("attack matrix", "rows"))
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    for line in sorted({line for report in reports for name, line in report.user_properties if name == "conformance"}):
        write(line)
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
    monkeypatch.delenv(_FOREIGN_DATA, raising=False)  # a command would warn of a variable that is none of ours

    def refuse(*_args: object, **_kwargs: object) -> None:
        pytest.fail("a unit or property test opened a connection; use a fake, or move the test to tests/integration")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def _is_async(function):
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run an async test under `trio.run`, as the product runs; anyio's runner, a guest of the main thread, is left for async fixtures."""
    test = pyfuncitem.obj
    definitions = [found[-1].func for found in pyfuncitem._fixtureinfo.name2fixturedefs.values()]
    if not inspect.iscoroutinefunction(test) or hasattr(test, "hypothesis") or any(_is_async(function) for function in definitions):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    backend = pyfuncitem.funcargs.get("anyio_backend", "trio")
    trio.run(partial(test, **arguments), **(backend[1] if isinstance(backend, tuple) else {}))  # such as a clock that jumps
    return True
