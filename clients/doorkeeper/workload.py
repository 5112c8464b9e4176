"""Starting, stopping and looking at the workload of one component.

A workload that we run is a session of its own, led by `supervise.py`; its process id and start time are on disk before it begins, so that any
later doorkeeper, or the host that ends, finds it again and never signals a stranger who was given the same number.
A process that leaves its group on purpose escapes `stop`: a host that must contain such a workload runs it as a systemd unit (`restart`).
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatekeeper.model.canonical import Json, encode_canonical
from gatekeeper.model.digest import Digest, digest_hex
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .files import Place, Unreadable, make_private, read_bounded, switch_link, write_durably
from .settings import parse_settings
from .state import Release
from .target import Caps, ComponentSlot

PATH: Final = "/usr/bin:/bin"
STOP_S: Final = 5.0
"""between SIGTERM and SIGKILL"""
RESTART_S: Final = 60.0
HEALTHY_IN_A_ROW: Final = 3
HEALTH_PAUSE_S: Final = 0.2
HEALTH_TIMEOUT_S: Final = 2.0
MAX_SETTINGS: Final = 256 * 1024

_SUPERVISE: Final = Path(__file__).with_name("supervise.py")


class NotStarted(Exception):
    """The workload could not be started or restarted at all."""


@dataclass(frozen=True)
class RunningProcess:
    """A process we started: `started` in clock ticks since boot `boot`, as the kernel tells it."""

    pid: int
    started: int
    boot: str
    receipt: Digest
    foreign: bool = False
    """it ran before we came: adopted, and not ours to end before a switch"""


def switch_on(place: Place, slot: ComponentSlot, release: Release, caps: Caps) -> None:
    """Stop what runs, point the link at `release`, start it. Raises `NotStarted`; the old one is stopped then all the same."""
    stop(place, slot)
    make_private(place.current(slot.name).parent)
    settings = place.settings(slot.name, digest_hex(release.receipt))
    switch_link(place.current(slot.name), place.release(slot.name, digest_hex(release.artifact)))
    switch_link(place.current(slot.name).with_name(f"{slot.name}.env"), settings)
    if slot.restart:
        _restart(slot)
    else:
        _start(place, slot, release, caps, parse_settings(read_bounded(settings, MAX_SETTINGS)))


def switch_off(place: Place, slot: ComponentSlot) -> None:
    """Stop what runs and take the link away: nothing of this component is to run."""
    stop(place, slot)
    for link in (place.current(slot.name), place.current(slot.name).with_name(f"{slot.name}.env")):
        link.unlink(missing_ok=True)


def stop(place: Place, slot: ComponentSlot) -> None:
    """End the process group we started, if it still runs: SIGTERM, then SIGKILL. A unit is left to its own restart command."""
    running = find_process(place, slot.name)
    if running is not None and not slot.restart:
        _end_group(running)
    place.process(slot.name).unlink(missing_ok=True)


def linked_artifact(place: Place, component: str) -> Digest | None:
    """The artifact that the link names, or None."""
    try:
        name = place.current(component).readlink().name
    except OSError:
        return None
    return Digest(f"sha256:{name}")


def is_alive(place: Place, slot: ComponentSlot, receipt: Digest) -> bool:
    """Whether the workload of exactly this deployment runs, as far as we can see; of a unit we see only that its link is in place."""
    if slot.restart:
        return linked_artifact(place, slot.name) is not None
    running = find_process(place, slot.name)
    return running is not None and running.receipt == receipt


def find_process(place: Place, component: str) -> RunningProcess | None:
    """The process on record, if that very process, or its group, still lives."""
    path = place.process(component)
    if not path.exists():
        return None
    try:
        fields = Fields(parse_object(read_bounded(path, 4096)))
        running = RunningProcess(
            pid=fields.integer("pid", minimum=2),
            started=fields.integer("started"),
            boot=fields.text("boot"),
            receipt=fields.digest("receipt"),
            foreign=fields.optional("foreign", fields.boolean) or False,
        )
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise Unreadable(f"{path.name}: {error}") from error
    if running.boot != _boot():
        return None
    leader = _stat(running.pid)
    if leader is not None and leader.started != running.started:
        return None
    return running if _members(running) else None


def adopt_process(place: Place, component: str, pid: int, artifact: Digest) -> str | None:
    """Put a process that we did not start on record as what runs `artifact`; it is not touched. None: done; else why not, in words.

    It has to be the leader of its process group, for the group is what a switch ends, and ours to signal.
    """
    stat = _stat(pid)
    if stat is None or stat.state in "ZX":
        return f"no process {pid} runs"
    if stat.group != pid:
        return f"process {pid} does not lead its process group: start it with setsid, or as a unit with a restart command"
    try:
        os.killpg(pid, 0)
    except PermissionError:
        return f"process {pid} runs as another user: it could not be ended at the first switch"
    except ProcessLookupError:
        return f"no process {pid} runs"
    make_private(place.process(component).parent)
    found: dict[str, Json] = {"pid": pid, "started": stat.started, "boot": _boot(), "receipt": artifact, "foreign": True}
    write_durably(place.process(component), encode_canonical(found))
    return None


def wait_healthy(place: Place, slot: ComponentSlot, release: Release, *, beat: Callable[[str], None]) -> str | None:
    """Ask the health path until it answers 200 three times in a row. None: healthy; else why not, in words, when the grace is over."""
    deadline = time.monotonic() + release.grace_s
    row, last = 0, "no answer"
    while row < HEALTHY_IN_A_ROW:
        # Alive is asked after the answer: a stranger on our port must not make a dead workload look healthy.
        last = _ask(slot.port, slot.health or release.health)
        row = row + 1 if last == "200" else 0
        if not is_alive(place, slot, release.receipt):
            return "the workload ended by itself"
        if row < HEALTHY_IN_A_ROW and time.monotonic() >= deadline:
            return f"not healthy within {release.grace_s} s: last answer {last}"
        beat(f"answer {last}")
        if row < HEALTHY_IN_A_ROW:
            time.sleep(HEALTH_PAUSE_S)
    return None


def _ask(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return str(connection.getresponse().status)
    except TimeoutError:
        return "none in time"
    except (OSError, http.client.HTTPException):
        return "none"
    finally:
        connection.close()


def _start(place: Place, slot: ComponentSlot, release: Release, caps: Caps, settings: dict[str, str]) -> None:
    directory = place.release(slot.name, digest_hex(release.artifact))
    for needed in (place.log(slot.name).parent, place.process(slot.name).parent):
        make_private(needed)
    argv = [argument.replace("{port}", str(slot.port)) for argument in release.argv]
    # A name with a slash is a file of the release; a bare one is looked for on PATH by the supervisor's execvp, never in the directory.
    program = str(directory / argv[0]) if "/" in argv[0] and not argv[0].startswith("/") else argv[0]
    reading, writing = os.pipe()
    try:
        supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SUPERVISE), str(place.log(slot.name)), str(caps.log_bytes), program, *argv[1:]],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            env={**settings, "PATH": PATH, "PORT": str(slot.port)},
            start_new_session=True,
        )
        _write_process(place, slot.name, supervisor.pid, release.receipt)
        os.write(writing, b"1")
    except OSError as error:
        raise NotStarted(f"cannot be started: {error.strerror}") from None
    finally:
        os.close(reading)
        os.close(writing)


def _write_process(place: Place, component: str, pid: int, receipt: Digest) -> None:
    stat = _stat(pid)
    started = 0 if stat is None else stat.started
    write_durably(place.process(component), encode_canonical({"pid": pid, "started": started, "boot": _boot(), "receipt": receipt}))


def _restart(slot: ComponentSlot) -> None:
    try:
        done = subprocess.run(slot.restart, env={"PATH": PATH}, stdin=subprocess.DEVNULL, capture_output=True, timeout=RESTART_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotStarted(f"the restart command failed: {type(error).__name__}") from None
    if done.returncode != 0:
        raise NotStarted(f"the restart command ended with {done.returncode}")


def _end_group(running: RunningProcess) -> None:
    for number, patience in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        try:
            os.killpg(running.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            _reap(running.pid)
            if not _members(running):
                return
            time.sleep(0.02)


def _reap(pid: int) -> None:
    # Only the doorkeeper that started it is its parent; everywhere else init reaps.
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


@dataclass(frozen=True)
class _Stat:
    pid: int
    state: str
    group: int
    started: int


def _members(running: RunningProcess) -> list[_Stat]:
    # Zombies hold no port and no file; who waits for them is not our affair.
    with os.scandir("/proc") as entries:
        found = [_stat(int(entry.name)) for entry in entries if entry.name.isdecimal()]
    return [s for s in found if s is not None and s.group == running.pid and s.state not in "ZX" and s.started >= running.started]


def _stat(pid: int) -> _Stat | None:
    # proc_pid_stat(5): the command stands in parentheses and may hold anything; fields are counted after the last one.
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    rest = text.rpartition(")")[2].split()
    return _Stat(pid=pid, state=rest[0], group=int(rest[2]), started=int(rest[19]))


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
