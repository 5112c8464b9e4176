"""Starting, finding, asking and ending a workload, with pretended processes and a clock of the test's own; tests/integration has the real ones."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from clients.doorkeeper import workload
from clients.doorkeeper.files import Place, Unreadable
from clients.doorkeeper.state import Release
from clients.doorkeeper.target import Caps, ComponentSlot
from clients.doorkeeper.workload import (
    NotStarted,
    adopt_process,
    find_process,
    is_alive,
    linked_artifact,
    stop,
    switch_off,
    switch_on,
    wait_healthy,
)
from gatekeeper.model.digest import digest_hex, digest_of

D, OTHER = digest_of(b"artifact"), digest_of(b"other")
RECEIPT = digest_of(b"receipt")
SLOT = ComponentSlot("hello", 8080, (), None)
UNIT = ComponentSlot("hello", 8080, ("/bin/restart", "hello"), None)
RELEASE = Release(D, RECEIPT, None, ("./run", "{port}"), "/healthz", 3)


class Machine:
    """Processes by number: (state, group, started). `signals` that were sent; a signal in `ends` ends the group."""

    def __init__(self):
        self.now, self.processes, self.signals, self.ends, self.boot = 100.0, {}, [], {signal.SIGTERM}, "boot-1"
        self.reaped, self.foreign = [], set()

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert self.now < 10_000, "it waits for ever"
        self.now += seconds

    def stat(self, pid):
        if pid not in self.processes:
            return None
        state, group, started = self.processes[pid]
        return workload._Stat(pid, state, group, started)

    def killpg(self, group, number):
        if group in self.foreign:
            raise PermissionError
        if not any(one[1] == group for one in self.processes.values()):
            raise ProcessLookupError
        self.signals.append((group, number))
        if number in self.ends:
            self.processes = {pid: ("Z", *one[1:]) if one[1] == group else one for pid, one in self.processes.items()}


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(workload, "time", SimpleNamespace(monotonic=machine.monotonic, sleep=machine.sleep))
    monkeypatch.setattr(workload, "_stat", machine.stat)
    monkeypatch.setattr(workload, "_boot", lambda: machine.boot)
    monkeypatch.setattr(workload, "_reap", machine.reaped.append)
    monkeypatch.setattr(workload.os, "killpg", machine.killpg)

    class Scan:
        def __enter__(self):
            return iter([SimpleNamespace(name=name) for name in ("self", *map(str, machine.processes), "999999")])

        def __exit__(self, *_):
            return None

    scandir = os.scandir
    monkeypatch.setattr(workload.os, "scandir", lambda where: Scan() if where == "/proc" else scandir(where))
    return machine


@pytest.fixture
def place(tmp_path):
    place = Place.below(tmp_path)
    place.var.mkdir()
    return place


def on_record(place, **changes):
    path = place.process("hello")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"pid": 50, "started": 7, "boot": "boot-1", "receipt": RECEIPT} | changes))


# --- which process it is


@pytest.mark.parametrize(
    ("processes", "found"),
    [
        ({50: ("S", 50, 7)}, True),
        ({50: ("S", 50, 8)}, False),
        ({50: ("Z", 50, 7)}, False),
        ({50: ("Z", 50, 7), 51: ("S", 50, 9)}, True),
        ({51: ("S", 50, 7)}, True),
        ({51: ("S", 50, 6)}, False),
        ({51: ("X", 50, 9)}, False),
        ({51: ("S", 51, 9)}, False),
        ({}, False),
    ],
)
def test_the_process_on_record_is_that_very_one_or_what_is_left_of_its_group(place, machine, processes, found):
    on_record(place)
    machine.processes = processes
    assert (find_process(place, "hello") is not None) == found
    assert is_alive(place, SLOT, RECEIPT) == found
    assert not is_alive(place, SLOT, OTHER)


def test_after_a_boot_nothing_on_record_runs(place, machine):
    machine.processes = {50: ("S", 50, 7)}
    on_record(place)
    assert find_process(place, "hello").foreign is False
    on_record(place, foreign=True)
    assert find_process(place, "hello").foreign is True
    machine.boot = "boot-2"
    assert find_process(place, "hello") is None


def test_without_a_record_nothing_runs(place, machine):
    assert find_process(place, "hello") is None
    assert not is_alive(place, SLOT, RECEIPT)


@pytest.mark.parametrize("changes", [{"x": 1}, {"pid": 1}, {"receipt": "x"}])
def test_a_record_of_another_form_is_damage(place, machine, changes):
    on_record(place, **changes)
    with pytest.raises(Unreadable, match=rf"^hello\.json: /{next(iter(changes))}"):
        find_process(place, "hello")


def test_of_a_unit_its_link_alone_is_seen(place, machine):
    assert linked_artifact(place, "hello") is None
    assert not is_alive(place, UNIT, RECEIPT)
    place.current("hello").parent.mkdir()
    place.current("hello").symlink_to(f"../releases/hello/{digest_hex(D)}")
    assert linked_artifact(place, "hello") == D
    assert is_alive(place, UNIT, OTHER)


# --- what is adopted


@pytest.mark.parametrize(
    ("processes", "foreign", "why"),
    [
        ({}, set(), "no process 50 runs"),
        ({50: ("Z", 50, 7)}, set(), "no process 50 runs"),
        ({50: ("X", 50, 7)}, set(), "no process 50 runs"),
        ({50: ("S", 49, 7)}, set(), "process 50 does not lead its process group: start it with setsid, or as a unit with a restart command"),
        ({50: ("S", 50, 7)}, {50}, "process 50 runs as another user: it could not be ended at the first switch"),
    ],
)
def test_a_process_that_could_not_be_ended_is_not_adopted(place, machine, processes, foreign, why):
    machine.processes, machine.foreign = processes, foreign
    assert adopt_process(place, "hello", 50, D) == why
    assert not place.process("hello").exists()


def test_a_process_that_ends_just_then_is_not_adopted(place, machine, monkeypatch):
    machine.processes = {50: ("S", 50, 7)}

    def gone(*_):
        raise ProcessLookupError

    monkeypatch.setattr(workload.os, "killpg", gone)
    assert adopt_process(place, "hello", 50, D) == "no process 50 runs"
    assert not place.process("hello").exists()


def test_what_is_adopted_is_put_on_record_and_not_touched(place, machine):
    machine.processes = {50: ("S", 50, 7)}
    assert adopt_process(place, "hello", 50, D) is None
    found = find_process(place, "hello")
    assert (found.pid, found.started, found.receipt, found.foreign) == (50, 7, D, True)
    assert machine.signals == [(50, 0)]
    assert place.process("hello").parent.stat().st_mode & 0o777 == 0o700


# --- how it ends


@pytest.mark.parametrize(
    ("ends", "signals", "seconds"),
    [({signal.SIGTERM}, [signal.SIGTERM], 0), ({signal.SIGKILL}, [signal.SIGTERM, signal.SIGKILL], 5), (set(), [signal.SIGTERM, signal.SIGKILL], 10)],
)
def test_a_group_is_asked_to_end_and_then_made_to(place, machine, ends, signals, seconds):
    on_record(place)
    machine.processes, machine.ends = {50: ("S", 50, 7), 51: ("S", 50, 9)}, ends
    stop(place, SLOT)
    assert machine.signals == [(50, number) for number in signals]
    assert seconds <= machine.now - 100 < seconds + 0.1
    assert set(machine.reaped) == {50}, "a zombie of ours is waited for"
    assert not place.process("hello").exists()


def test_a_group_that_is_gone_meanwhile_is_not_waited_for(place, machine, monkeypatch):
    on_record(place)
    machine.processes = {50: ("S", 50, 7)}

    def gone(*_):
        raise ProcessLookupError

    monkeypatch.setattr(workload.os, "killpg", gone)
    stop(place, SLOT)
    assert (machine.now, place.process("hello").exists()) == (100.0, False)


def test_a_unit_and_what_does_not_run_are_not_signalled(place, machine):
    on_record(place)
    machine.processes = {50: ("S", 50, 7)}
    stop(place, UNIT)
    assert (machine.signals, place.process("hello").exists()) == ([], False)
    stop(place, SLOT)
    assert machine.signals == []


# --- whether it is healthy


@pytest.fixture
def asked(monkeypatch, machine, place):
    """Answers, one after another; the last for ever. Each question takes a quarter of a second."""
    on_record(place)
    machine.processes = {50: ("S", 50, 7)}
    world = SimpleNamespace(answers=["200"], paths=[])

    def ask(port, path):
        world.paths.append((port, path))
        machine.now += 0.25
        return world.answers.pop(0) if len(world.answers) > 1 else world.answers[0]

    monkeypatch.setattr(workload, "_ask", ask)
    return world


def test_three_answers_in_a_row_are_healthy(place, machine, asked):
    beats = []
    asked.answers = ["200", "200", "none", "200"]
    assert wait_healthy(place, SLOT, RELEASE, beat=beats.append) is None
    assert beats == [f"answer {one}" for one in ("200", "200", "none", "200", "200", "200")]
    assert asked.paths == [(8080, "/healthz")] * 6
    assert machine.now == pytest.approx(100 + 6 * 0.25 + 5 * 0.2), "and none is waited for after the last"


def test_the_slots_own_path_takes_the_place_of_the_artifacts(place, asked):
    assert wait_healthy(place, ComponentSlot("hello", 8080, (), "/own"), RELEASE, beat=lambda _: None) is None
    assert asked.paths == [(8080, "/own")] * 3


def test_grace_is_as_long_as_was_said(place, machine, asked):
    asked.answers = ["500"]
    assert wait_healthy(place, SLOT, RELEASE, beat=lambda _: None) == "not healthy within 3 s: last answer 500"
    assert 103 <= machine.now < 103.5


def test_the_third_good_answer_counts_though_the_grace_is_over(place, machine, asked, monkeypatch):
    monkeypatch.setattr(workload, "HEALTH_PAUSE_S", 1.25)  # a question, a pause: 0.25, 1.75, 3.25 seconds
    assert wait_healthy(place, SLOT, RELEASE, beat=lambda _: None) is None
    monkeypatch.setattr(workload, "HEALTH_PAUSE_S", 2.5)  # the second is answered at the very end: 0.25, 3.0
    assert wait_healthy(place, SLOT, RELEASE, beat=lambda _: None) == "not healthy within 3 s: last answer 200"


def test_a_stranger_on_the_port_does_not_make_a_dead_workload_healthy(place, machine, asked):
    machine.processes = {}
    assert wait_healthy(place, SLOT, RELEASE, beat=lambda _: None) == "the workload ended by itself"
    assert len(asked.paths) == 1


# --- how it is switched


@pytest.fixture
def started(monkeypatch, machine):
    """What would be started, and with what."""
    calls = []

    class Popen:
        pid = 60

        def __init__(self, argv, **options):
            machine.processes[60] = ("S", 60, 70)
            calls.append((argv, options))

    monkeypatch.setattr(workload.subprocess, "Popen", Popen)
    return calls


def released(place, release=RELEASE, settings=b"A=1\n"):
    place.release("hello", digest_hex(release.artifact)).mkdir(parents=True)
    path = place.settings("hello", digest_hex(release.receipt))
    path.parent.mkdir(parents=True)
    path.write_bytes(settings)
    return place.release("hello", digest_hex(release.artifact))


def test_what_runs_is_ended_and_the_release_linked_and_started(place, machine, started):
    on_record(place)
    machine.processes = {50: ("S", 50, 7)}
    directory = released(place)
    switch_on(place, SLOT, RELEASE, Caps(log_bytes=99))
    assert machine.signals == [(50, signal.SIGTERM)]
    assert place.current("hello").resolve() == directory.resolve()
    assert place.current("hello").with_name("hello.env").read_bytes() == b"A=1\n"
    (argv, options), = started
    assert argv[:3] == [sys.executable, "-I", "-S"]
    assert argv[4:] == [str(place.log("hello")), "99", str(directory / "run"), "8080"]
    assert (options["cwd"], options["env"]) == (directory, {"A": "1", "PATH": "/usr/bin:/bin", "PORT": "8080"})
    assert options["start_new_session"] is True
    found = find_process(place, "hello")
    assert (found.pid, found.started, found.receipt, found.foreign) == (60, 70, RECEIPT, False)
    for folder in (place.current("hello"), place.log("hello"), place.process("hello")):
        assert folder.parent.is_dir()
    switch_off(place, SLOT)
    assert machine.signals == [(50, signal.SIGTERM), (60, signal.SIGTERM)]
    assert list(place.current("hello").parent.iterdir()) == []


@pytest.mark.parametrize(("program", "below"), [("./run", True), ("bin/run", True), ("/bin/run", False), ("run", False)])
def test_a_bare_name_is_never_looked_for_in_the_release(place, machine, started, program, below):
    directory = released(place)
    switch_on(place, SLOT, Release(D, RECEIPT, None, (program,), "/", 1), Caps())
    assert started[0][0][6] == (str(directory / program) if below else program)


def test_directories_of_its_own_are_nobody_elses(place, machine, started):
    released(place)
    switch_on(place, SLOT, RELEASE, Caps())
    assert {path.parent.stat().st_mode & 0o777 for path in (place.current("hello"), place.log("hello"), place.process("hello"))} == {0o700}


def test_what_ended_before_it_was_written_down_is_on_record_all_the_same(place, machine, started, monkeypatch):
    released(place)
    monkeypatch.setattr(workload, "_stat", lambda _: None)
    switch_on(place, SLOT, RELEASE, Caps())
    assert json.loads(place.process("hello").read_bytes())["started"] == 0


def test_what_cannot_be_started_is_told_with_the_systems_word(place, machine, monkeypatch):
    def fail(*_, **__):
        raise OSError(2, "No such file or directory")

    released(place)
    monkeypatch.setattr(workload.subprocess, "Popen", fail)
    with pytest.raises(NotStarted, match=r"^cannot be started: No such file or directory$"):
        switch_on(place, SLOT, RELEASE, Caps())


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (SimpleNamespace(returncode=0), None),
        (SimpleNamespace(returncode=3), "the restart command ended with 3"),
        (OSError(2, "x"), "the restart command failed: FileNotFoundError"),
        (subprocess.TimeoutExpired("x", 1), "the restart command failed: TimeoutExpired"),
    ],
)
def test_a_unit_is_linked_and_restarted_by_its_own_command(place, machine, started, monkeypatch, outcome, why):
    ran = []

    def run(argv, **options):
        ran.append((argv, options["env"]))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    directory = released(place)
    monkeypatch.setattr(workload.subprocess, "run", run)
    if why is None:
        switch_on(place, UNIT, RELEASE, Caps())
    else:
        with pytest.raises(NotStarted, match=f"^{why}$"):
            switch_on(place, UNIT, RELEASE, Caps())
    assert ran == [(("/bin/restart", "hello"), {"PATH": "/usr/bin:/bin"})]
    assert started == []
    assert place.current("hello").resolve() == directory.resolve()


def test_what_the_kernel_tells_of_a_process_is_read():
    found = workload._stat(os.getpid())
    assert (found.pid, found.group, found.state in "RSD", found.started > 0) == (os.getpid(), os.getpgrp(), True, True)
    assert workload._stat(2**30) is None
