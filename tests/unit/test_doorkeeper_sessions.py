"""The small SSH host without SSH: who is served which word, what is drained, what is started again and ended; tests/integration has the real one."""

import asyncio
import signal
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import asyncssh
import pytest

from clients.doorkeeper import host
from clients.doorkeeper.files import Busy, Place, Unreadable, exclusive
from clients.doorkeeper.host import Host, HostFiles, resume_workloads, run_host, stop_workloads
from clients.doorkeeper.install import Order, install
from clients.doorkeeper.state import ComponentMemory, Memory, Outcome, Release
from clients.doorkeeper.target import ComponentSlot, InstalledTarget
from clients.doorkeeper.workload import NotStarted, RunningProcess
from gatekeeper.model.digest import digest_of
from tests.fakes.frames import Gatekeeper

D = digest_of(b"d")
FORCED = f"pingee-doorkeeper serve {'0' * 64}"
READS = "pingee-doorkeeper status"


# --- who is served


class Connection:
    def __init__(self, username):
        self.username, self.extra = username, {}

    def get_extra_info(self, name):
        return self.username if name == "username" else None

    def set_extra_info(self, **extra):
        self.extra |= extra

    def get_certificate_option(self, name, default=None):
        return {"force-command": FORCED, "source-address": "10.0.0.1"}.get(name, default)


def test_the_forced_command_is_kept_apart_from_the_clients_own():
    login, connection = host._Login("deploy"), Connection("deploy")
    login.connection_made(connection)
    login.auth_completed()
    assert connection.extra == {"forced": FORCED}
    assert connection.get_certificate_option("force-command") is None
    assert connection.get_certificate_option("force-command", "x") == "x"
    assert connection.get_certificate_option("source-address") == "10.0.0.1"


def test_another_account_gets_no_forced_command_and_so_no_session():
    for login, connection in ((host._Login("deploy"), Connection("root")), (host._Login("deploy"), None)):
        if connection is not None:
            login.connection_made(connection)
        login.auth_completed()
        assert connection is None or (connection.extra, connection.get_certificate_option("force-command")) == ({}, FORCED)


class Process:
    """A channel: what it sends, and what it was told."""

    def __init__(self, forced=None, command=None, sends=()):
        self.forced, self.command, self.said, self.ended = forced, command, [], []
        self.sends, self.gone = list(sends), False
        self.stdin = SimpleNamespace(read=self._read)
        self.stdout = SimpleNamespace(write=self._write, drain=self._drain)

    def get_extra_info(self, name):
        return self.forced if name == "forced" else None

    async def _read(self, _most):
        return self.sends.pop(0) if self.sends else b""

    def _write(self, data):
        if self.gone:
            raise asyncssh.ConnectionLost("gone")
        self.said.append(data)

    async def _drain(self):
        return None

    def exit(self, status):
        self.ended.append(status)


@pytest.mark.parametrize(
    ("forced", "command", "served"),
    [
        (FORCED, "apply", ("0" * 64, "apply")),
        (FORCED, "status", ("0" * 64, "status")),
        (READS, "status", (None, "status")),
        (READS, "apply", None),
        (FORCED, "sh", None),
        (FORCED, "", None),
        (FORCED, None, None),
        (None, "status", None),
        ("", "status", None),
        ("sh", "status", None),
        (FORCED + "\n", "apply", None),
    ],
)
def test_a_certificate_is_served_the_words_that_it_is_for(tmp_path, monkeypatch, forced, command, served):
    calls = []

    async def serve(_self, process, receipt, word):
        calls.append((receipt, word))

    monkeypatch.setattr(Host, "_serve", serve)
    process = Process(forced, command)
    asyncio.run(Host(HostFiles(tmp_path, tmp_path, "deploy", None)).session(process))
    if served is None:
        assert (calls, process.ended) == ([], [1])
        assert process.said == [b'{"error":"only a doorkeeper\'s certificate, and the words apply and status, are served"}\n']
    else:
        assert (calls, process.ended, process.said) == ([served], [], [])


# --- what is served


class Child:
    """A doorkeeper: it says some lines and ends, or never does."""

    def __init__(self, says=(b"a", b"b"), *, ends=True):
        self.says, self.ends, self.got, self.closed, self.returncode, self.pid = list(says), ends, [], False, None, 77
        self.killed = asyncio.Event()
        self.refuses_after = None
        self.stdin = SimpleNamespace(write=self._write, drain=self._drain, close=self._close)
        self.stdout = SimpleNamespace(read=self._read)

    def _write(self, data):
        if self.refuses_after is not None and len(self.got) >= self.refuses_after:
            raise BrokenPipeError
        self.got.append(data)

    async def _drain(self):
        return None

    def _close(self):
        self.closed = True

    async def _read(self, _most):
        return self.says.pop(0) if self.says else b""

    async def wait(self):
        if not self.ends:
            await self.killed.wait()
        self.returncode = 3
        return self.returncode


def served(monkeypatch, tmp_path, process, *, receipt="0" * 64, word="apply", **options):
    """The child, and how it was started."""
    started = []

    async def start(*command, **how):
        child = Child(**options)
        monkeypatch.setattr(host.os, "killpg", lambda pid, number: (started.append((pid, number)), child.killed.set()))
        started.append((child, command, how))
        return child

    monkeypatch.setattr(host.asyncio, "create_subprocess_exec", start)
    asyncio.run(Host(HostFiles(tmp_path, tmp_path, "deploy", None))._serve(process, receipt, word))
    return started


@pytest.mark.parametrize(("receipt", "words"), [("0" * 64, ("serve", "0" * 64)), (None, ("status",))])
def test_a_doorkeeper_of_this_installation_is_started_and_its_answer_told(tmp_path, monkeypatch, receipt, words):
    process = Process(sends=(b"frame", b"more"))
    ((child, command, how),) = served(monkeypatch, tmp_path, process, receipt=receipt)
    assert command[1:] == ("-m", "clients.doorkeeper.cli", "--dir", str(tmp_path), *words)
    assert (how["env"]["SSH_ORIGINAL_COMMAND"], how["env"]["PATH"], how["start_new_session"]) == ("apply", "/usr/bin:/bin", True)
    assert set(how["env"]) == {"PATH", "SSH_ORIGINAL_COMMAND", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    assert (process.said, process.ended) == ([b"a", b"b"], [3])
    assert (child.got, child.closed) == ([b"frame", b"more"], True)


def test_one_that_never_ends_is_ended_with_its_group(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "SERVE_S", 0.0)
    process = Process()
    (_, ended) = served(monkeypatch, tmp_path, process, ends=False)
    assert ended == (77, signal.SIGKILL)
    assert process.ended == [20]


def test_the_rest_of_a_frame_is_drained_though_nobody_reads_it():
    async def feed():
        process, child = Process(sends=(b"1", b"2", b"3")), Child()
        child.refuses_after = 1
        await host._feed(process, child)
        return process, child

    process, child = asyncio.run(feed())
    assert (process.sends, child.got, child.closed) == ([], [b"1"], True)


def test_a_doorkeeper_is_heard_out_though_the_client_is_gone():
    async def answer():
        process, child = Process(), Child(says=(b"1", b"2", b"3"))
        process.gone = True
        await host._answer(child, process)
        return process, child

    process, child = asyncio.run(answer())
    assert (process.said, child.says) == ([], [])


# --- what runs while the host does


RELEASE = Release(D, D, None, ("x",), "/", 1)
COMPONENT = ComponentMemory(1, None, D, Outcome.HEALTHY, "", "c", 1, "2026-11-21T10:00:00Z", RELEASE)
UNIT = ComponentSlot("unit", 2, ("/bin/true",), None)


@pytest.fixture
def place(tmp_path):
    """An installation with the components hello and unit."""
    gatekeeper, given = Gatekeeper(), tmp_path / "given"
    given.mkdir()
    (given / "policy").write_bytes(gatekeeper.log_policy)
    (given / "keys").write_bytes(gatekeeper.receipt_keys)
    place = Place.below(tmp_path / "door")
    install(place, Order("host-1", "production", "production", (("hello", 1),), given / "policy", given / "keys", None))
    return place


@pytest.fixture
def machine(place, monkeypatch):
    """What would be switched and stopped."""
    pinned = host.load_pinned(place)
    slots = (*pinned.target.components, UNIT)
    target: InstalledTarget = replace(pinned.target, components=slots)
    world = SimpleNamespace(memory=Memory(None, (("hello", COMPONENT),)), on=[], stopped=[], alive=set(), processes={}, error=None)

    def switch_on(_place, slot, release, caps):
        world.on.append((slot.name, release, caps))
        if world.error is not None:
            raise world.error

    monkeypatch.setattr(host, "load_pinned", lambda _: replace(pinned, target=target))
    monkeypatch.setattr(host, "load_memory", lambda _: world.memory)
    monkeypatch.setattr(host, "is_alive", lambda _place, slot, receipt: (slot.name, receipt) in world.alive)
    monkeypatch.setattr(host, "switch_on", switch_on)
    monkeypatch.setattr(host, "find_process", lambda _place, name: world.processes.get(name))
    monkeypatch.setattr(host, "stop", lambda _place, slot: world.stopped.append(slot.name))
    return world


def test_what_was_healthy_and_does_not_run_is_started_again(place, machine):
    resume_workloads(place)
    assert [(name, release) for name, release, _ in machine.on] == [("hello", RELEASE)]
    machine.alive.add(("hello", D))
    resume_workloads(place)
    assert len(machine.on) == 1


@pytest.mark.parametrize(
    ("name", "changes"),
    [("gone", {}), ("unit", {}), ("hello", {"healthy": None}), ("hello", {"outcome": Outcome.IN_PROGRESS})],
)
def test_what_is_no_hosts_to_start_is_left_alone(place, machine, name, changes):
    machine.memory = Memory(None, ((name, replace(COMPONENT, **changes)),))
    resume_workloads(place)
    assert machine.on == []


@pytest.mark.parametrize("error", [NotStarted("x"), OSError(2, "x"), ValueError("x")])
def test_what_cannot_be_started_again_is_told_and_the_others_are(place, machine, capsys, error):
    machine.error, machine.memory = error, Memory(None, (("hello", COMPONENT), ("hello", COMPONENT)))
    resume_workloads(place)
    assert capsys.readouterr().out == f'{{"not_started": "hello", "detail": "{type(error).__name__}"}}\n' * 2
    assert len(machine.on) == 2


def test_nothing_is_started_while_somebody_is_at_work(place, machine, monkeypatch):
    taken = []
    monkeypatch.setattr(host, "exclusive", lambda place, *, wait_s: taken.append(wait_s) or exclusive(place, wait_s=0))
    with exclusive(place, wait_s=0), pytest.raises(Busy):
        resume_workloads(place)
    assert (taken, machine.on) == ([5], [])


@pytest.mark.parametrize(("foreign", "stopped"), [(None, ["hello"]), (False, ["hello"]), (True, [])])
def test_what_we_started_is_stopped_and_what_was_adopted_and_units_are_not(place, machine, foreign, stopped):
    for name in ("hello", "unit") if foreign is not None else ():
        machine.processes[name] = RunningProcess(50, 1, "boot", D, foreign)
    stop_workloads(place)
    assert machine.stopped == stopped


def test_at_the_end_everything_is_stopped_also_where_somebody_is_at_work(place, machine, monkeypatch):
    host._stop_all(place)
    assert machine.stopped == ["hello"]
    monkeypatch.setattr(host, "exclusive", lambda place, *, wait_s: exclusive(place, wait_s=0))
    with exclusive(place, wait_s=0), pytest.raises(Busy):
        host._stop_all(place)
    assert machine.stopped == ["hello", "hello"]


# --- the host itself


def test_its_key_is_made_once_and_is_nobody_elses(tmp_path):
    place = Place.below(tmp_path / "new")
    key = host._host_key(place)
    assert host._host_key(place) == key
    path = place.etc / "ssh_host_ed25519_key"
    assert [one.stat().st_mode & 0o777 for one in (path, path.parent)] == [0o600, 0o700]


class Listening(Exception):
    """As far as a test goes."""


@pytest.mark.parametrize("certified", [False, True])
def test_it_listens_with_its_key_and_its_certificate_and_stops_what_it_started(place, machine, monkeypatch, tmp_path, certified):
    ca, options = asyncssh.generate_private_key("ssh-ed25519"), []
    (tmp_path / "ca.pub").write_bytes(ca.export_public_key())
    certificate = ca.generate_host_certificate(host._host_key(place), "host")
    (tmp_path / "certificate").write_bytes(certificate.export_certificate())

    async def listen(*arguments, **given):
        options.append(given)
        raise Listening

    monkeypatch.setattr(host.asyncssh, "listen", listen)
    files = HostFiles(place.etc.parent, tmp_path / "ca.pub", "deploy", tmp_path / "certificate" if certified else None)
    with pytest.raises(Listening):
        asyncio.run(run_host(files, "127.0.0.1", 0))
    (given,) = options
    key = host._host_key(place)
    (shown,) = given["server_host_keys"]
    if certified:
        assert (shown[0], shown[1].export_certificate()) == (key, certificate.export_certificate())
    else:
        assert shown == key
    assert (given["password_auth"], given["sftp_factory"], given["agent_forwarding"]) == (False, None, False)
    assert [name for name, _, _ in machine.on] == ["hello"]
    assert machine.stopped == ["hello"]


@pytest.mark.parametrize("gone", ["target_file", "state"])
def test_without_an_installation_it_makes_no_key_and_does_not_listen(place, tmp_path, gone):
    getattr(place, gone).unlink()
    with pytest.raises(Unreadable, match="No such file or directory"):
        asyncio.run(run_host(HostFiles(place.etc.parent, tmp_path / "none", "deploy", None), "127.0.0.1", 0))
    with suppress(FileNotFoundError):
        assert "ssh_host_ed25519_key" not in [path.name for path in place.etc.iterdir()]


def test_its_memory_is_hidden_before_it_reads_anything(monkeypatch, tmp_path, capsys):
    done = []

    async def run(files, address, port):
        done.append((files, address, port))
        raise Unreadable("target.toml: x")

    monkeypatch.setattr(host, "hide_memory", lambda: done.append("hidden"))
    monkeypatch.setattr(host, "run_host", run)
    monkeypatch.setattr(host.os, "umask", lambda mask: done.append(mask))
    monkeypatch.setattr(host.sys, "argv", ["host", "--dir", str(tmp_path), "--user-ca", "ca", "--principal", "deploy", "--listen", "127.0.0.1:22"])
    assert host.main() == 7
    assert done[:2] == [0o077, "hidden"]
    assert (done[2][0].principal, done[2][1:]) == ("deploy", ("127.0.0.1", 22))
    assert capsys.readouterr().out == '{"error": "target.toml: x"}\n'
